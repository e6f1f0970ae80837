"""GPT: the common tests, its limit of positions, and what generate() may do with a cache that can be rolled back."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_lineage import GPTConfig
from tests.models.common import constant, main_output, normal
from tests.models.common_generation import HEAD, CausalLMTests


class TestGPT(CausalLMTests):
    config_class = GPTConfig
    tiny = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": 0.0,
        "initializer_range": 0.3,
        "num_labels": 3,
    }

    without_effect = {"k_proj.bias": "softmax does not change when all scores of a query rise alike"}

    def initialization(self, name, config):
        if name.endswith("bias"):
            return constant(0.0)
        return constant(1.0) if "norm" in name else normal(config.initializer_range)

    @pytest.mark.parametrize("as_vectors", [False, True])
    def test_more_tokens_than_positions(self, head, as_vectors):
        model, inputs = self.model(head), self.inputs(head, length=33)
        if as_vectors:
            inputs = {"inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])}
        with pytest.raises(ValueError, match=r"33 tokens.*32 positions.*max_position_embeddings.*truncation=True"):
            model(**inputs)
        with pytest.raises(ValueError, match="33 tokens.*32 positions"):
            self.generate(self.model(HEAD), self.inputs(HEAD, length=30), max_new_tokens=5, eos_token_id=None)

    def test_padding_takes_no_position(self, head):
        model = self.model(head)
        inputs, _ = self.padded(self.inputs(head, length=33), [32, 5, 2, 1], "left")
        assert main_output(model(**inputs)).shape == self.expected_shape(head, model.config, 4, 33)

    def test_hidden_size_is_a_multiple_of_heads(self):
        with pytest.raises(StrictDataclassError, match="hidden_size 65.*num_attention_heads 2"):
            self.config(hidden_size=65)

    def test_guesses_of_an_assistant_change_nothing(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD, batch=1)
        expected = self.generate(model, inputs)
        assert torch.equal(self.generate(model, inputs, prompt_lookup_num_tokens=2), expected)
