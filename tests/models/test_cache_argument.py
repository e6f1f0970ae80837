"""Both names of the cache argument reach a model, under every supported release of transformers."""

import warnings

import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from hf_lineage import GPTConfig, GPTForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.models.cache_argument import CACHE_FIELD, cache_of


@pytest.fixture
def model():
    return LSTMForCausalLM(LSTMConfig(vocab_size=20, hidden_size=8)).eval()


def cache_warnings(model, name: str) -> list[tuple[type, str]]:
    """What a call warns of that gives its cache by `name`: category and text, without the model's name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(torch.arange(4)[None], **{name: DynamicCache(config=model.config)})
    return [(warning.category, str(warning.message).replace(type(model).__name__, "Model")) for warning in caught]


def test_old_name_is_deprecated_as_in_transformers(model):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    attention = GPTForCausalLM(GPTConfig(**sizes, intermediate_size=8)).eval()
    native = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)).eval()
    expected = cache_warnings(native, "past_key_values")
    assert bool(expected) == (CACHE_FIELD == "cache")
    for ours in (model, attention):
        # once: the base model gets the new name
        assert cache_warnings(ours, "past_key_values") == expected
        assert cache_warnings(ours, CACHE_FIELD) == []


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
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
    with pytest.raises(ValueError, match="Both `past_key_values` and `cache`"):
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
