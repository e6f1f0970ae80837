"""generate() with a static cache: each step is one graph, so that a GPU replays it without waiting for Python."""

import pytest
import torch
from transformers import CompileConfig, set_seed

import hf_lineage


COMPILED = CompileConfig(backend="aot_eager", fullgraph=True)
COMPILED._compile_all_devices = True


def model_of(station):
    set_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    if station == "GPT":
        config = hf_lineage.GPTConfig(**sizes, num_hidden_layers=2, max_position_embeddings=40)
        return hf_lineage.GPTForCausalLM(config).eval()
    config = hf_lineage.TransformerConfig(**sizes, num_encoder_layers=2, num_decoder_layers=2)
    return hf_lineage.TransformerForConditionalGeneration(config).eval()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("station", ["GPT", "Transformer"])
def test_a_step_is_one_graph(station, batch):
    model = model_of(station)
    ids = torch.randint(5, 50, (batch, 6), generator=torch.Generator().manual_seed(0))
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    expected = model.generate(ids, **settings)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = model.generate(ids, **settings, cache_implementation="static", compile_config=COMPILED)
    assert found.tolist() == expected.tolist()
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
