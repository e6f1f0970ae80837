"""Fused steps on a GPU: the numbers of the CPU, gradients in bfloat16, and no wait for the GPU."""

import copy
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from hf_lineage import GRUConfig, GRUForCausalLM, LSTMConfig, LSTMForCausalLM, plain_equations
from hf_lineage.models import fast_recurrence, fast_steps
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell, RNNCell
from tests.gpu.comparing import DEVICE, gradient_of, language_model_gradients, on_device, relative_error


pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
pytest.importorskip("triton")

E, D = 24, 150
CLIPS = {"cell_clip": 0.5, "projection_clip": 0.3}
CELLS = {
    "sigmoid": (RNNCell, {"hidden_act": "sigmoid"}),
    "diagonal": (LSTMCell, {"peephole": "diagonal"}),
    "full": (LSTMCell, {"peephole": "full"}),
    "input diagonal": (LSTMCell, {"coupled_gates": "input", "peephole": "diagonal"}),
    "forget full": (LSTMCell, {"coupled_gates": "forget", "peephole": "full"}),
    "clipped": (LSTMCell, {"projection_size": 40, **CLIPS}),
    "clipped full": (LSTMCell, {"projection_size": 40, "peephole": "full", **CLIPS}),
    "before": (GRUCell, {"reset_mode": "before"}),
    "before replace": (GRUCell, {"reset_mode": "before", "update_convention": "replace"}),
}


@pytest.fixture
def runs(monkeypatch):
    """One entry per layer that asked for fused steps: whether it got them."""
    found, run_fused = [], fast_recurrence.run_fused

    def counted(*arguments, **options):
        result = run_fused(*arguments, **options)
        found.append(result is not None)
        return result

    monkeypatch.setattr(fast_recurrence, "run_fused", counted)
    return found


def new_cell(kind):
    cell_class, options = CELLS[kind]
    cell = cell_class(E, D, **options)
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.2, 0.2)
    return cell


def results_of(cell, x, state, lengths):
    """Outputs, last states and all gradients, end to end, in float64 on the CPU."""
    x, *state = (tensor.detach().requires_grad_() for tensor in (x, *state))
    outputs, last = cell(x, tuple(state), lengths)
    found = [outputs, *last]
    weights = [torch.linspace(-1, 1, o.numel(), device=o.device, dtype=torch.double).view_as(o) for o in found]
    total = sum((o.double() * weight).sum() for o, weight in zip(found, weights, strict=True))
    found += torch.autograd.grad(total, (x, *state, *cell.parameters()))
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in found])


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
@pytest.mark.parametrize("lengths", [None, [9, 1, 0, 5, 9]], ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_fused_steps_are_the_equations_of_the_cpu(runs, kind, lengths, dtype, limit):
    cell, lengths = new_cell(kind), None if lengths is None else torch.tensor(lengths)
    x, state = torch.randn(5, 9, E), [torch.randn(5, size) for size in cell.state_sizes]
    with plain_equations():
        expected = results_of(copy.deepcopy(cell).double(), x.double(), [s.double() for s in state], lengths)
    lengths = None if lengths is None else lengths.to(DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype is torch.bfloat16):
        found = results_of(cell.to(DEVICE), x.to(DEVICE), [s.to(DEVICE) for s in state], lengths)
    assert runs == [True]
    assert relative_error(found, expected) < limit


@contextmanager
def never_waiting():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("place", ["cpu", DEVICE])
@pytest.mark.parametrize("kind", CELLS)
def test_python_never_waits_for_the_gpu(runs, kind, place):
    """Wherever the lengths are."""
    cell = new_cell(kind).to(DEVICE)
    x = torch.randn(4, 7, E, device=DEVICE, requires_grad=True)
    lengths = torch.tensor([7, 3, 0, 5], device=place)
    for step in range(2):
        # the first one compiles
        with torch.autocast(DEVICE, torch.bfloat16), never_waiting() if step else torch.enable_grad():
            outputs, _ = cell(x, None, lengths)
            outputs.sum().backward()
    assert runs == [True] * 2


LANGUAGE_MODELS = {
    "peephole": (LSTMForCausalLM, LSTMConfig, {"peephole": "diagonal"}),
    "peephole full": (LSTMForCausalLM, LSTMConfig, {"peephole": "full"}),
    "clipped projection": (
        LSTMForCausalLM,
        LSTMConfig,
        {"projection_size": 325, "cell_clip": 3.0, "projection_clip": 3.0},
    ),
    "GRU of the paper": (GRUForCausalLM, GRUConfig, {"reset_mode": "before"}),
}


@pytest.mark.parametrize("scale", [1.0, 1 / 16], ids=["one batch", "16 accumulated"])
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_gradients_in_bfloat16_are_within_a_hundredth(runs, name, scale):
    model_class, config_class, fields = LANGUAGE_MODELS[name]
    model = model_class(config_class(vocab_size=1_000, hidden_size=650, num_hidden_layers=2, dropout=0.0, **fields))
    model = model.train().to(DEVICE)
    ids = torch.randint(1_000, (20, 35), device=DEVICE)
    expected, found = language_model_gradients(model, ids, scale)
    assert runs == [True] * 4
    assert relative_error(found, expected) < 1e-2


def test_a_step_is_few_launches(runs):
    """One product and one kernel per step, forward and backward, and a number that does not grow with the steps."""
    cell = new_cell("diagonal").to(DEVICE)

    def launches(steps: int) -> int:
        x = torch.randn(4, steps, E, device=DEVICE)
        run = partial(cell, x, None, None)
        run()[0].sum().backward()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
            run()[0].sum().backward()
            torch.cuda.synchronize()
        return sum("Memcpy" not in e.name and "Memset" not in e.name for e in recorded.events() if e.device_time)

    # a product may add up its parts in a second kernel
    assert launches(20) - launches(10) <= 10 * 2 * 3


def test_the_switch_gives_the_loop_with_the_same_numbers(runs, monkeypatch):
    cell = new_cell("clipped").to(DEVICE)
    x, state = torch.randn(5, 9, E, device=DEVICE), [torch.randn(5, size, device=DEVICE) for size in cell.state_sizes]
    fused = results_of(cell, x, state, None)
    monkeypatch.setenv(fast_steps.SWITCH, "0")
    assert relative_error(results_of(cell, x, state, None), fused) < 1e-5
    assert runs == [True]


def test_a_padded_model_on_the_gpu_gives_the_loss_of_the_cpu(runs):
    fields = {"vocab_size": 50, "hidden_size": 33, "peephole": "full", "dropout": 0.0, "initializer_range": 0.3}
    model = LSTMForCausalLM(LSTMConfig(num_hidden_layers=2, **fields)).train()
    mask = (torch.arange(6) < torch.tensor([[6], [4], [1]])).long()
    ids = torch.randint(50, (3, 6))
    batch = {"input_ids": ids, "labels": ids.masked_fill(mask == 0, -100), "attention_mask": mask}
    found = []
    for device in ("cpu", DEVICE):
        model.to(device).zero_grad()
        loss = model(**(on_device(batch) if device == DEVICE else batch)).loss
        loss.backward()
        found.append((loss.item(), gradient_of(model)))
    assert runs == [True] * 2
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert relative_error(found[1][1], found[0][1]) < 1e-5
