"""GPT's gradient in bfloat16 does not depend on the side of the padding, and padding gives and gets none."""

import pytest
import torch

from hf_lineage import GPTConfig, GPTForCausalLM


LENGTHS = (7, 5, 2, 1)


def texts(side: str) -> dict[str, torch.Tensor]:
    ids, mask = torch.zeros(4, 7, dtype=torch.long), torch.zeros(4, 7, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, None) if side == "left" else slice(length)
        ids[row, place] = torch.randint(3, 40, (length,), generator=generator)
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def new_model(implementation: str) -> GPTForCausalLM:
    torch.manual_seed(1)
    shape = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"intermediate_size": 32, "dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0}
    model = GPTForCausalLM._from_config(GPTConfig(**shape), attn_implementation=implementation).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def gradient(model, inputs: list[dict], halved: bool) -> torch.Tensor:
    model.zero_grad()
    for each in inputs:
        with torch.autocast("cpu", torch.bfloat16, enabled=halved):
            loss = model(**each, use_cache=False).loss
        loss.backward()
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_side_of_the_padding_does_not_matter(implementation):
    model, right, left = new_model(implementation), texts("right"), texts("left")
    alone = [{"input_ids": right["input_ids"][i, None, :n]} for i, n in enumerate(LENGTHS) if n > 1]
    # each text's share of the mean; a count of Trainer's would also count the tokens after padding on the left
    alone = [
        {**each, "labels": each["input_ids"], "num_items_in_batch": sum(LENGTHS) - len(LENGTHS)} for each in alone
    ]
    batches = {"none": alone, "right": [right], "left": [left]}
    expected = gradient(model, alone, halved=False)
    for halved, limit in ((False, 1e-6), (True, 5e-3)):
        for side, inputs in batches.items():
            error = (gradient(model, inputs, halved) - expected).norm() / expected.norm()
            assert error < limit, (side, halved)


@pytest.mark.parametrize("halved", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_gets_no_gradient(side, implementation, halved):
    """Exactly 0: what a row that sees nothing gives reaches no token."""
    model, inputs = new_model(implementation), texts(side)
    vectors = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        loss = model(inputs_embeds=vectors, **inputs, use_cache=False).loss
    loss.backward()
    is_token = inputs["attention_mask"].bool()
    assert (vectors.grad[~is_token] == 0).all()
    assert (vectors.grad[is_token][:-1] != 0).any()
