"""Weights that lie elsewhere between the calls of their modules: on a disk (accelerate), as under FSDP."""

import pytest
import torch
import transformers
from accelerate import cpu_offload

from tests.models.common import main_output
from tests.models.stations import STATIONS, TABLES


HEADS = [(station, head) for station in STATIONS for head in TABLES[station].heads]


@pytest.mark.parametrize(("station", "head"), HEADS)
@torch.no_grad()
def test_model_on_a_disk_answers_alike(station, head, tmp_path):
    table = TABLES[station]
    model, inputs = table.changed_model(head), table.inputs(head)
    expected = main_output(model(**inputs))
    model.save_pretrained(tmp_path / "model")
    loaded = getattr(transformers, head).from_pretrained(
        tmp_path / "model", device_map={"": "disk"}, offload_folder=tmp_path / "offloaded"
    )
    assert {parameter.device.type for parameter in loaded.parameters()} == {"meta"}
    assert torch.equal(main_output(loaded(**inputs)), expected)


@pytest.mark.parametrize(("station", "head"), HEADS)
def test_loss_of_an_offloaded_model_is_the_same(station, head):
    """With weights in the CPU's memory, brought to each module for its call."""
    table = TABLES[station]
    model, inputs = table.changed_model(head), table.inputs(head)
    expected = table.objective(model, head, inputs)
    cpu_offload(model, execution_device="cpu", offload_buffers=True)
    with torch.no_grad():
        torch.testing.assert_close(table.objective(model, head, inputs), expected.detach())


@torch.no_grad()
def test_offloaded_chain_decodes_alike():
    table = TABLES["ELMoCRF"]
    model, inputs = (
        table.changed_model("AutoModelForTokenClassification"),
        table.inputs("AutoModelForTokenClassification"),
    )
    logits = model(**inputs).logits
    expected = model.decode(logits, torch.ones_like(logits[..., 0]))
    cpu_offload(model, execution_device="cpu", offload_buffers=True)
    assert torch.equal(model.decode(logits, torch.ones_like(logits[..., 0])), expected)


@pytest.mark.parametrize("station", [name for name in STATIONS if "AutoModelForCausalLM" in TABLES[name].heads])
def test_offloaded_model_generates_alike(station, tmp_path):
    table = TABLES[station]
    model, inputs = table.changed_model("AutoModelForCausalLM"), table.inputs("AutoModelForCausalLM")
    options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(**inputs, **options)
    cpu_offload(model, execution_device="cpu", offload_buffers=True)
    assert torch.equal(model.generate(**inputs, **options), expected)
