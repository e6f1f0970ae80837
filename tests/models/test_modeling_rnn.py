"""RNN, LSTM and GRU: the common tests, in one direction and in both, and what only recurrent models have."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM, DynamicCache

from hf_lineage import GRUConfig, LSTMConfig, RNNConfig
from hf_lineage.models.cache_name import cache_of
from tests.models.common import ModelTests, main_output, uniform
from tests.models.common_generation import HEAD, CausalLMTests


SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_labels": 3,
    "initializer_range": 0.7,
}


class RecurrentTests(CausalLMTests):
    """What the three families share."""

    tiny = SIZES
    no_attention = "recurrent models have no attention"

    def initialization(self, name, config):
        return uniform(config.initializer_range)

    def test_outputs_over_padding_are_zero(self, side):
        inputs, _ = self.padded(self.inputs("AutoModel"), [7, 5, 2, 0], side)
        output = main_output(self.model("AutoModel")(**inputs))
        assert output[inputs["attention_mask"] == 0].abs().sum() == 0

    def test_dropout_acts_between_the_layers_and_not_on_the_state(self):
        model, inputs = self.model("AutoModel", dropout=0.5).train(), self.inputs("AutoModel", batch=50)
        read, given = [], []
        for layer in model.layers:
            layer.register_forward_pre_hook(lambda layer, args: read.append(args[0]))
            layer.register_forward_hook(lambda layer, args, output: given.append(output))
        last = model(**inputs).last_hidden_state
        sources = [model.embed_tokens(inputs["input_ids"]), *given]
        for source, dropped in zip(sources, [*read, last], strict=True):
            kept = (dropped != 0)[source != 0]
            assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)
            torch.testing.assert_close(dropped[dropped != 0], 2 * source[dropped != 0])
        # given its input, a layer is the same in training and without
        expected = list(given)
        for layer, layer_input, output in zip(model.eval().layers, list(read), expected, strict=True):
            torch.testing.assert_close(layer(layer_input), output)

    def test_embeddings_of_another_length(self):
        model = self.model(HEAD, embedding_size=12)
        assert model.get_input_embeddings().weight.shape == (60, 12)
        assert model(**self.inputs(HEAD)).logits.shape == (4, 7, 60)
        with pytest.raises(StrictDataclassError, match=r"tie_word_embeddings[\s\S]*12 and 16"):
            self.config(embedding_size=12, tie_word_embeddings=True)

    def test_cache_of_another_batch_is_named(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        cache = cache_of(model(**inputs, use_cache=True))
        with pytest.raises(ValueError, match=r"cache.*\b4\b.*\b2\b"):
            model(inputs["input_ids"][:2], cache=cache)

    def test_cache_of_another_kind_is_named(self):
        with pytest.raises(ValueError, match=r"DynamicCache\(config=model\.config\)"):
            self.model(HEAD)(**self.inputs(HEAD), cache=DynamicCache())

    @pytest.mark.parametrize("length", [1, 7])
    def test_mask_of_each_query_is_refused(self, length):
        mask = torch.ones(4, 1, length, 7, dtype=torch.bool).tril(7 - length)
        for head in self.heads:
            with pytest.raises(ValueError, match=rf"attention_mask must have shape \[4, 7\].*\[4, 1, {length}, 7\]"):
                self.model(head)(**self.inputs(head), attention_mask=mask)

    @pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"prefill_chunk_size": 3}], ids=str)
    def test_generation_with_a_static_cache(self, options):
        model, prompts = self.model(HEAD), self.prompts()
        for length in (8, 3, 12):
            options = {**options, "max_new_tokens": length}
            expected = self.generate(model, prompts, **options)
            assert torch.equal(self.generate(model, prompts, cache_implementation="static", **options), expected)

    def test_assistant_is_refused(self):
        # guesses that turn out wrong cannot be taken back from a state
        model = self.model(HEAD)
        with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
            self.generate(model, self.inputs(HEAD, batch=1), assistant_model=self.model(HEAD, seed=1))


class TestRNN(RecurrentTests):
    config_class = RNNConfig


class TestReLURNN(RecurrentTests):
    config_class = RNNConfig
    tiny = {**SIZES, "hidden_act": "relu", "initializer_range": 0.4}
    only_heads = [HEAD]


class TestSigmoidRNN(RecurrentTests):
    """Mikolov's activation, which has no fused kernel."""

    config_class = RNNConfig
    tiny = {**SIZES, "hidden_act": "sigmoid"}
    only_heads = [HEAD]


class TestLSTM(RecurrentTests):
    config_class = LSTMConfig


class TestGRU(RecurrentTests):
    config_class = GRUConfig


class BidirectionalTests(ModelTests):
    """Both directions: no causal head, and nothing to carry over."""

    tiny = {**SIZES, "bidirectional": True}
    only_heads = ["AutoModel"]
    no_attention = RecurrentTests.no_attention
    initialization = RecurrentTests.initialization

    def expected_shape(self, head, config, batch, length):
        return (batch, length, 32) if head == "AutoModel" else super().expected_shape(head, config, batch, length)

    def test_causal_head_is_refused(self):
        with pytest.raises(ValueError, match="bidirectional=False"):
            AutoModelForCausalLM.from_config(self.config())

    def test_cache_is_refused(self):
        model, inputs = self.model("AutoModel"), self.inputs("AutoModel")
        with pytest.raises(ValueError, match="cache.*bidirectional"):
            model(**inputs, cache=DynamicCache(config=model.config))
        assert cache_of(model(**inputs, use_cache=True)) is None


class TestBidirectionalRNN(BidirectionalTests):
    config_class = RNNConfig


class TestBidirectionalLSTM(BidirectionalTests):
    config_class = LSTMConfig
    only_heads = ["AutoModel", "AutoModelForSequenceClassification", "AutoModelForTokenClassification"]


class TestBidirectionalGRU(BidirectionalTests):
    config_class = GRUConfig


def test_forget_gate_bias():
    """Jozefowicz et al. (2015): the forget gate starts open, and no other."""
    model = AutoModelForCausalLM.from_config(LSTMConfig(**SIZES, forget_gate_bias=1.5))
    for layer in model.model.layers:
        gates = layer.cell.bias.view(4, 16)
        assert torch.equal(gates[1], torch.full((16,), 1.5))
        assert gates[[0, 2, 3]].abs().sum() == 0
