"""Every head of every station on a GPU: the numbers of the CPU in float32, and gradients near them in bfloat16."""

import copy

import pytest
import torch

from hf_lineage.inference.fast_decoding import fast_decoding
from tests.gpu.comparing import DEVICE, gradient_of, on_device, relative_error
from tests.models.stations import HEADS, STATIONS, TABLES


pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

GENERATORS = [(name, head) for name, head in HEADS if head in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")]
WAYS = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "fast": {"custom_generate": fast_decoding},
    "static": {"cache_implementation": "static", "disable_compile": True},
}
CASES = ["full", "left", "right"]


def batch_for(table, head: str, case: str) -> dict:
    """The table's inputs and labels, without padding, or with it on one side."""
    inputs = table.inputs(head)
    labels = table.labels(head, inputs)
    if case != "full":
        if table.no_attention_mask:
            pytest.skip(table.no_attention_mask)
        inputs, _ = table.padded(inputs, [7, 5, 2, 1], case)
    return {**inputs, **labels}


def step(model, batch: dict, autocast: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a batch, or for a base model a sum of its outputs over tokens, and the gradient of all weights."""
    model.zero_grad()
    with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
        outputs = model(**batch)
    loss = outputs.loss if outputs.get("loss") is not None else weighted(outputs[0], batch.get("attention_mask"))
    if not loss.requires_grad:
        pytest.skip("nothing of it learns")
    loss.backward()
    return loss.detach(), gradient_of(model)


def weighted(vectors: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """A sum in which every output over a token has a weight of its own."""
    vectors = vectors.float()
    weights = torch.linspace(-1, 1, vectors.numel(), device=vectors.device).view_as(vectors)
    if attention_mask is not None and attention_mask.shape == vectors.shape[:2]:
        weights = weights * attention_mask[..., None]
    return (vectors * weights).sum()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "head"), HEADS)
def test_float32_is_that_of_the_cpu(name, head, case, training):
    table = TABLES[name]
    model = table.model(head).train(training)
    batch = batch_for(table, head, case)
    loss, gradient = step(model, batch)
    loss_of_gpu, gradient_of_gpu = step(copy.deepcopy(model).to(DEVICE), on_device(batch))
    assert loss_of_gpu.item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-5)
    assert relative_error(gradient_of_gpu, gradient) < 1e-4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "head"), HEADS)
def test_gradients_in_bfloat16_are_no_worse_than_on_a_cpu(name, head, case):
    """Rounding alone moves models this small by more than 0.01; tests/models/test_bfloat16.py has larger ones."""
    table = TABLES[name]
    model = table.model(head).train()
    batch = batch_for(table, head, case)
    _, expected = step(model, batch)
    _, of_cpu = step(model, batch, autocast=True)
    _, found = step(copy.deepcopy(model).to(DEVICE), on_device(batch), autocast=True)
    assert relative_error(found, expected) < max(1e-2, 2 * relative_error(of_cpu, expected))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "head"), GENERATORS)
def test_generation_gives_the_tokens_of_the_cpu(name, head, way):
    table = TABLES[name]
    model = table.model(head)
    inputs = batch_for(table, head, "full" if table.no_attention_mask else "left")
    prompts = {key: inputs[key] for key in ("input_ids", "attention_mask") if key in inputs}
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1, "eos_token_id": [50, 51, 52]}
    # other ways than beams search greedily, so one answer serves all
    expected = model.generate(**prompts, **options, **(WAYS["beams"] if way == "beams" else {}))
    found = copy.deepcopy(model).to(DEVICE).generate(**on_device(prompts), **options, **WAYS[way])
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("name", STATIONS)
def test_weights_in_bfloat16_learn(name):
    table = TABLES[name]
    for head in table.heads:
        model = table.model(head).train().to(DEVICE, torch.bfloat16)
        outputs = model(**on_device(batch_for(table, head, "full")))
        if outputs.get("loss") is None:
            continue
        outputs.loss.backward()
        assert gradient_of(model).isfinite().all(), head


def test_no_cudnn_call_warns_of_scattered_weights(recwarn):
    for name in ("LSTM", "GRU", "RNN"):
        table = TABLES[name]
        step(
            table.model("AutoModelForCausalLM").train().to(DEVICE),
            on_device(batch_for(table, "AutoModelForCausalLM", "full")),
        )
    assert not [each for each in recwarn if "contiguous chunk of memory" in str(each.message)]
