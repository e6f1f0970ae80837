"""GPT: the common tests, the paper's size, and packing."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close

from hf_lineage import GPTConfig, GPTForCausalLM, GPTModel
from tests.models.common import CausalLMTests, ModelTests, normal_with, random_ids


class TestGPT(CausalLMTests, ModelTests):
    config_class = GPTConfig
    has_attention = True
    tiny = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
    }

    def check_initial(self, name, parameter, config):
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter))
        else:
            normal_with(parameter, config.initializer_range)

    def test_every_parameter_gets_a_gradient(self, head):
        # softmax does not move when all scores of a query rise alike, so no loss depends on the key bias
        model, ids = self.model(head), random_ids()
        (self.output(model, ids) ** 3).sum().backward()
        without = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
        assert all(name.endswith("k_proj.bias") for name in without)

    def test_attention_is_causal(self):
        model = self.model("AutoModel", attn_implementation="eager")
        for weights in model(random_ids(), output_attentions=True).attentions:
            assert not weights.triu(1).any()

    @pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
    def test_packed_documents_do_not_see_each_other(self, attn_implementation):
        model = self.model("AutoModel", attn_implementation=attn_implementation)
        first, second = random_ids(1, 5), random_ids(1, 4, seed=1)
        positions = torch.cat([torch.arange(5), torch.arange(4)])[None]
        packed = model(torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).last_hidden_state
        assert_close(packed[:, :5], model(first).last_hidden_state)
        assert_close(packed[:, 5:], model(second).last_hidden_state)

    def test_too_many_tokens_are_named(self):
        model = self.model("AutoModelForCausalLM")
        with pytest.raises(ValueError, match="33 tokens are more than the 32 positions"):
            model(random_ids(1, 33))
        with pytest.raises(ValueError, match="more than the 32 positions"):
            model.generate(random_ids(1, 30), max_new_tokens=5, pad_token_id=0)

    def test_heads_must_share_the_units_equally(self):
        with pytest.raises(StrictDataclassError, match="hidden_size 65 must be a multiple of num_attention_heads 2"):
            self.config(hidden_size=65)


def test_the_papers_size():
    with torch.device("meta"):
        model = GPTModel(GPTConfig())
        assert model.num_parameters() == GPTForCausalLM(GPTConfig()).num_parameters() == 116_534_784
