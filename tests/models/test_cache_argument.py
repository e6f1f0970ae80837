"""Both names of the cache argument reach a model, under every supported release of transformers."""

import pytest
import torch
from transformers import DynamicCache

from hf_lineage import LSTMConfig, LSTMForCausalLM
from hf_lineage.models.cache_argument import cache_of


@pytest.fixture
def model():
    return LSTMForCausalLM(LSTMConfig(vocab_size=20, hidden_size=8)).eval()


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_both_names_continue_a_text(model, name):
    ids = torch.arange(12).view(2, 6)
    cache = DynamicCache(config=model.config)
    model(ids[:, :4], **{name: cache})
    assert cache.get_seq_length() == 4
    outputs = model(ids[:, 4:], **{name: cache})
    assert cache_of(outputs) is cache
    torch.testing.assert_close(outputs.logits, model(ids).logits[:, 4:])


def test_two_caches_are_refused(model):
    cache = DynamicCache(config=model.config)
    with pytest.raises(ValueError, match="cache and past_key_values are the same argument"):
        model(torch.arange(4)[None], cache=cache, past_key_values=cache)


def test_no_cache_was_made(model):
    assert cache_of(model(torch.arange(4)[None], use_cache=False)) is None


def test_a_recomputing_model_takes_no_cache(model):
    model.train().activation_checkpointing_enable()
    cache = DynamicCache(config=model.config)
    outputs = model(torch.arange(4)[None], cache=cache)
    outputs.logits.sum().backward()
    assert cache.get_seq_length() == 0
    assert cache_of(outputs) is None
