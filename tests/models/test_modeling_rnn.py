"""RNN, LSTM and GRU: the common tests, both directions, and what only recurrent models do."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, DynamicCache

from hf_lineage import GRUConfig, LSTMConfig, LSTMForCausalLM, RNNConfig
from tests.models.common import CausalLMTests, ModelTests, random_ids, uniform_within


class RecurrentTests(CausalLMTests, ModelTests):
    tiny = {"hidden_size": 16, "num_hidden_layers": 2}

    def check_initial(self, name, parameter, config):
        uniform_within(parameter, config.initializer_range)

    def test_padding_in_the_middle_is_skipped(self, head):
        model, ids = self.model(head), random_ids()
        mask = torch.ones_like(ids)
        mask[:, 2:4] = 0
        with_gap = self.token_output(model, head, ids, attention_mask=mask)
        without = self.token_output(model, head, ids[:, [0, 1, 4, 5, 6]])
        assert_close(with_gap if with_gap.shape[1] == 1 else with_gap[:, [0, 1, 4, 5, 6]], without)

    def test_base_model_is_silent_over_padding(self):
        model, ids = self.model("AutoModel"), random_ids()
        mask = torch.ones_like(ids)
        mask[0, 4:] = 0
        assert not model(ids, attention_mask=mask).last_hidden_state[0, 4:].any()

    def test_tying_needs_equal_sizes(self):
        with pytest.raises(StrictDataclassError, match="embedding_size equal to the output size, not 8 and 16"):
            self.config(tie_word_embeddings=True, embedding_size=8)


class TestRNN(RecurrentTests):
    config_class = RNNConfig


class TestReLURNN(RecurrentTests):
    config_class = RNNConfig
    tiny = RecurrentTests.tiny | {"hidden_act": "relu"}


class TestSigmoidRNN(RecurrentTests):
    config_class = RNNConfig
    tiny = RecurrentTests.tiny | {"hidden_act": "sigmoid", "num_hidden_layers": 1}


class TestLSTM(RecurrentTests):
    config_class = LSTMConfig

    def test_forget_gate_bias(self):
        model = self.model("AutoModel", forget_gate_bias=1.0)
        for layer in model.layers:
            i, f, g, o = layer.cell.bias.detach().chunk(4)
            assert torch.equal(f, torch.ones(16))
            assert not torch.cat([i, g, o]).any()


class TestGRU(RecurrentTests):
    config_class = GRUConfig


class BidirectionalTests(ModelTests):
    tiny = {"hidden_size": 8, "num_hidden_layers": 2, "bidirectional": True}

    def pytest_generate_tests(self, metafunc):
        if "head" in metafunc.fixturenames:
            metafunc.parametrize("head", [head for head in self.config_class.auto_classes if "CausalLM" not in head])

    def hidden_size(self, config):
        return 2 * config.hidden_size

    def check_initial(self, name, parameter, config):
        uniform_within(parameter, config.initializer_range)

    def test_every_head_opens_every_checkpoint(self, head, tmp_path):
        model, ids = self.model(head), random_ids()
        model.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert torch.equal(loaded.base_model(ids).last_hidden_state, model.base_model(ids).last_hidden_state)

    def test_a_cache_is_refused(self):
        model = self.model("AutoModel")
        with pytest.raises(ValueError, match="bidirectional"):
            model(random_ids(), past_key_values=DynamicCache(config=model.config))

    def test_a_causal_model_is_refused(self):
        with pytest.raises(ValueError, match="bidirectional=False"):
            self.model("AutoModelForCausalLM")


class TestBidirectionalRNN(BidirectionalTests):
    config_class = RNNConfig


class TestBidirectionalLSTM(BidirectionalTests):
    config_class = LSTMConfig


class TestBidirectionalGRU(BidirectionalTests):
    config_class = GRUConfig


def test_zaremba_small_has_the_papers_parameters():
    model = LSTMForCausalLM(LSTMConfig())
    embedding, layer, softmax = 10_000 * 200, 4 * (200 * 200 + 200 * 200 + 200), 200 * 10_000 + 10_000
    assert model.num_parameters() == embedding + 2 * layer + softmax == 4_651_600
