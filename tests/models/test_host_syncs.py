"""A training step lets Python run ahead of the GPU: nothing in it waits for the GPU, but for named exceptions.

They are found on a pretended GPU, in a process of its own (`host_syncs.py`). At logging steps transformers' Trainer
waits too: it reads the loss and the gradient's norm.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest


pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
# where a step waits, and why it must; each begins what `steps_on_gpu` says
EXCEPTIONS = {
    "recurrent_layers of: cpu": "cuDNN's packed sequences and the loops over time need the lengths of padded rows on "
    "the CPU: once per mask, before the first layer. Rows of one length without a mask need none",
    "elmo_layers forward: aten.unique_dim": "the letters of each distinct word are read once, which is less work; "
    "only the data tell how many words are distinct",
    "modeling_gpt language_model_losses: aten.nonzero": "the auxiliary loss of GPT's fine-tuning scores no padding; "
    "only the mask tells how many tokens remain",
    "modeling_nnlm loss_without_logits: an index": "the adaptive softmax scores a cluster of rare words only for the "
    "targets in it; only the data tell how many",
}
# scheduled sampling is not among these steps: its coins decide which steps run at once, so that Python must see them
RECIPES = {
    *("BERT packed", "BERT padded", "BERT masked words", "BERT texts", "GPT blocks", "GPT documents", "GPT packed"),
    *("LSTM streams", "Transformer packed", "Transformer padded", "Transformer packed, summed over time"),
}


@pytest.fixture(scope="module")
def steps() -> dict[str, str | None]:
    pytest.importorskip("torch.utils.backend_registration")
    command = [sys.executable, "-m", "tests.models.steps_on_gpu", "--heads"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "_setup_privateuseone_for_python_backend" in done.stderr:
        pytest.skip("this torch cannot pretend a device")
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def test_the_recipes_of_attention_and_streams_never_wait(steps):
    assert {name: steps[name] for name in RECIPES} == dict.fromkeys(RECIPES)


def test_every_head_waits_at_the_exceptions_only(steps):
    assert len(steps) > 100
    waiting = {name: found for name, found in steps.items() if found and not found.startswith(tuple(EXCEPTIONS))}
    assert waiting == {}


def test_no_exception_is_out_of_date(steps):
    for exception in EXCEPTIONS:
        assert any(found and found.startswith(exception) for found in steps.values()), exception


def test_padded_rows_wait_for_their_lengths_only(steps):
    known = {name: found for name, found in steps.items() if name.endswith("lengths known")}
    assert len(known) > 20
    assert set(known.values()) == {None}


def test_the_pretended_gpu_finds_syncs():
    """What a real GPU would wait for is found, and what it would not is not."""
    code = """
import torch
from tests.models.host_syncs import GPU, HostSync, pretended_gpu
waits = {
    "item": lambda x: x.sum().item(),
    "if": lambda x: 1 if (x > 0).any() else 0,
    "list": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "mask": lambda x: x[x > 0],
    "assignment": lambda x: x.__setitem__(x > 0, 1.0),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "select": lambda x: x.masked_select(x > 0),
    "repeats": lambda x: x.repeat_interleave(torch.ones(3, device=GPU).long(), dim=0),
    "copy": lambda x: torch.tensor([1, 2]).to(GPU),
    "index of the CPU": lambda x: x[torch.arange(2)],
}
runs = {
    "index": lambda x: x[torch.arange(2, device=GPU), 0],
    "slice": lambda x: x[:, 1:, None],
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "full": lambda x: torch.full((), 3, device=x.device),
    "known size": lambda x: x.repeat_interleave(torch.ones(3, device=GPU).long(), dim=0, output_size=3),
    "late copy": lambda x: torch.arange(3).to(GPU, non_blocking=True),
}
with pretended_gpu():
    x = torch.ones(3, 4, device=GPU)
    assert x.is_cuda
    for name, call in waits.items():
        try:
            call(x)
        except HostSync:
            continue
        raise SystemExit(f"{name} was not found")
    for call in runs.values():
        call(x)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if "_setup_privateuseone_for_python_backend" in done.stderr:
        pytest.skip("this torch cannot pretend a device")
    assert done.returncode == 0, done.stderr[-2_000:]
