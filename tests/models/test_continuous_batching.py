"""Continuous batching (generate_batch): requests of any length share each step; GPT has it, the others refuse it."""

import pytest
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from hf_lineage import GPTConfig, GPTForCausalLM
from tests.models.stations import TABLES


GENERATORS = [
    (name, head)
    for name, table in TABLES.items()
    for head in table.heads
    if head in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM") and table.config_class is not GPTConfig
]
# small pages, so that texts have several, and steps smaller than the longest prompt
PAGES = {"page_size": 16, "num_blocks": 40, "max_batch_tokens": 24}


def new_model(implementation: str):
    """With large weights: answers depend on every token."""
    config = GPTConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        attn_implementation=implementation,
    )
    return GPTForCausalLM(config).eval()


def answers(model, prompts, max_new_tokens: int):
    options = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    found = model.generate_batch(prompts, options, continuous_batching_config=ContinuousBatchingConfig(**PAGES))
    return [found[name] for name in sorted(found, key=lambda name: int(name.rsplit("_")[-1]))]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_answers_are_those_of_generate(implementation):
    model = new_model(implementation)
    prompts = [torch.randint(60, (length,)).tolist() for length in (1, 40, 3, 17)]
    found = answers(model, prompts, 12)
    assert [answer.error for answer in found] == [None] * 4
    assert model.config._attn_implementation == implementation
    for prompt, answer in zip(prompts, found, strict=True):
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
        assert answer.generated_tokens == expected[0, len(prompt) :].tolist()
        assert len(set(answer.generated_tokens)) > 1


def test_text_longer_than_the_positions_is_refused():
    model = new_model("sdpa")
    assert len(answers(model, [[1, 2], [3] * 60], 5)[1].generated_tokens) == 5
    with pytest.raises(ValueError, match=r"60 tokens.*6 new.*64.*max_position_embeddings"):
        answers(model, [[1, 2], [3] * 60], 6)


@pytest.mark.parametrize(("station", "head"), GENERATORS)
def test_other_stations_refuse_by_name(station, head):
    model = TABLES[station].model(head)
    with pytest.raises(NotImplementedError, match=rf"{type(model).__name__}.*generate_batch.*generate\(\)"):
        model.generate_batch([[1, 2, 3]])
