"""Fused steps of recurrent cells against the equations written out in float64; Triton's interpreter needs no GPU.

`TRITON_INTERPRET=1 pytest tests/models/test_fast_steps.py` runs what is interpreted; without it
`test_all_of_this_in_the_interpreter` does so in a process of its own. Where Triton is missing, only the return to the
loop is tested. The kernels are also compiled for GPUs (`-m slow`). tests/gpu/test_fused_steps.py runs them on one.
"""

import copy
import importlib.util
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_lineage import LSTMConfig, LSTMForCausalLM, plain_equations
from hf_lineage.models import fast_recurrence, fast_steps
from hf_lineage.models.fast_recurrence import run_equations
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell, RNNCell
from tests.models.common import gradients


E, D, P = 4, 5, 3
CLIPS = {"cell_clip": 0.3, "projection_clip": 0.2, "projection_size": P}
VARIANTS = {
    "sigmoid": (RNNCell, {"hidden_act": "sigmoid"}),
    "plain": (LSTMCell, {}),
    "diagonal": (LSTMCell, {"peephole": "diagonal"}),
    "full": (LSTMCell, {"peephole": "full"}),
    "input": (LSTMCell, {"coupled_gates": "input"}),
    "forget diagonal": (LSTMCell, {"coupled_gates": "forget", "peephole": "diagonal"}),
    "input diagonal": (LSTMCell, {"coupled_gates": "input", "peephole": "diagonal"}),
    "forget full": (LSTMCell, {"coupled_gates": "forget", "peephole": "full"}),
    "clipped": (LSTMCell, CLIPS),
    "clipped diagonal": (LSTMCell, {"peephole": "diagonal", "cell_clip": 0.3}),
    "clipped full": (LSTMCell, {"peephole": "full", **CLIPS}),
    "clipped forget": (LSTMCell, {"coupled_gates": "forget", **CLIPS}),
    "projection": (LSTMCell, {"projection_size": P}),
    "before": (GRUCell, {"reset_mode": "before"}),
    "before replace": (GRUCell, {"reset_mode": "before", "update_convention": "replace"}),
}
# steps and lengths: few for each cell, since a launch takes the interpreter milliseconds
CASES = [(kind, *case) for kind in VARIANTS for case in ((2, None), (1, [0, 1, 1]), (5, [3, 5, 0]))]
CASES += [(kind, *case) for kind in ("full", "clipped", "before") for case in ((1, None), (7, None), (3, [0, 0, 0]))]
CASES += [(kind, length, [length, 1, 0]) for kind in ("diagonal", "sigmoid") for length in (2, 3, 4, 6, 7)]

has_triton = importlib.util.find_spec("triton") is not None
is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(not has_triton, reason="needs Triton")
interpreted = pytest.mark.skipif(
    not (has_triton and is_interpreted), reason="needs Triton and TRITON_INTERPRET=1 in the environment"
)


def new_cell(kind, hidden_size=D, **options):
    cell_class, fields = VARIANTS[kind]
    cell = cell_class(E, hidden_size, **{**fields, **options})
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.9, 0.9)
    return cell


def results_of(run, x, state, parameters):
    """Outputs, last states and all gradients of a sum in which each number has a weight of its own; in float64."""
    x, *state = (tensor.detach().requires_grad_() for tensor in (x, *state))
    outputs, last = run(x, tuple(state))
    found = (outputs, *last)
    torch.manual_seed(1)
    total = sum((tensor.double() * torch.randn(tensor.shape, dtype=torch.double)).sum() for tensor in found)
    found += torch.autograd.grad(total, (x, *state, *parameters))
    return [tensor.detach().double() for tensor in found]


def both_ways(cell, length, lengths, rows=3):
    """Results by the kernels, and by the written-out equations with autograd in float64."""
    lengths = None if lengths is None else torch.tensor(lengths)
    x, state = torch.randn(rows, length, E), [torch.randn(rows, size) for size in cell.state_sizes]
    found = results_of(partial(run_equations, cell, lengths=lengths, fused=True), x, state, [*cell.parameters()])
    exact = copy.deepcopy(cell).double()
    with plain_equations():
        run, inputs = partial(exact, lengths=lengths), [tensor.double() for tensor in (x, *state)]
        return found, results_of(run, inputs[0], inputs[1:], [*exact.parameters()])


def relative_error(found, expected):
    found, expected = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (found, expected))
    return ((found - expected).norm() / expected.norm()).item()


@interpreted
@pytest.mark.parametrize(("kind", "length", "lengths"), CASES, ids=str)
def test_fused_steps_are_the_equations(kind, length, lengths, monkeypatch):
    # each row takes two programs, and the second one computes a single unit
    monkeypatch.setattr(fast_steps, "BLOCK", 4)
    cell = new_cell(kind)
    found, expected = both_ways(cell, length, lengths)
    assert_close(found, expected, rtol=1e-5, atol=2e-6)
    if lengths is not None:
        for row, end in enumerate(lengths):
            assert not found[0][row, end:].any()


@interpreted
@pytest.mark.parametrize("kind", ["clipped full", "before"])
def test_more_units_than_a_program_computes(kind):
    cell = new_cell(kind, fast_steps.BLOCK + 3)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter /= 5
    assert_close(*both_ways(cell, 3, [3, 1], rows=2), rtol=1e-4, atol=1e-5)


@interpreted
@pytest.mark.parametrize(
    ("kind", "dtype", "lengths"),
    [(kind, torch.bfloat16, [3, 1, 2]) for kind in VARIANTS]
    + [(kind, torch.float16, None) for kind in ("sigmoid", "diagonal", "clipped full", "before")],
    ids=str,
)
def test_products_run_in_the_dtype_of_autocast(kind, dtype, lengths):
    """And states and outputs stay in float32."""
    cell = new_cell(kind, **({"cell_clip": 3.0, "projection_clip": 3.0} if "clip" in kind else {}))
    with torch.autocast("cpu", dtype):
        found, expected = both_ways(cell, 3, lengths)
        outputs, last = run_equations(cell, torch.randn(1, 1, E), cell.initial_state(torch.randn(1, E)), None, True)
    assert {tensor.dtype for tensor in (outputs, *last)} == {torch.float32}
    # the interpreter cuts numbers off at bfloat16; compiled code rounds them, with a third of the error
    limit = {torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    assert relative_error(found, expected) < limit
    assert relative_error(found, expected) > 1e-6, "the products ran in float32"


@interpreted
@pytest.mark.parametrize("kind", ["diagonal", "clipped", "before"])
def test_weights_in_bfloat16(kind):
    cell = new_cell(kind).bfloat16()
    found, expected = both_ways(cell, 4, [4, 1, 0])
    outputs, last = run_equations(cell, torch.randn(2, 2, E), cell.initial_state(torch.randn(2, E)), None, True)
    assert {tensor.dtype for tensor in (outputs, *last)} == {torch.bfloat16}
    assert relative_error(found, expected) < 2e-2


@interpreted
@pytest.mark.parametrize("projection_size", [None, P])
def test_plain_steps_equal_torch(projection_size):
    cell = new_cell("plain", projection_size=projection_size)
    reference = nn.LSTM(E, D, batch_first=True, proj_size=projection_size or 0)
    pairs = {"weight_ih_l0": cell.weight_ih, "weight_hh_l0": cell.weight_hh, "bias_ih_l0": cell.bias}
    pairs |= {"weight_hr_l0": cell.weight_hr} if projection_size else {}
    with torch.no_grad():
        reference.bias_hh_l0.zero_()
        for name, weight in pairs.items():
            getattr(reference, name).copy_(weight)

    def run_torch(x, state):
        outputs, last = reference(x, tuple(s[None] for s in state))
        return outputs, [s[0] for s in last]

    x, state = torch.randn(3, 6, E), [torch.randn(3, size) for size in cell.state_sizes]
    found = results_of(partial(run_equations, cell, lengths=None, fused=True), x, state, [*pairs.values()])
    expected = results_of(run_torch, x, state, [getattr(reference, name) for name in pairs])
    assert_close(found, expected, rtol=1e-5, atol=2e-6)


@interpreted
def test_tanh_is_exact_near_zero_and_far_from_it():
    """Through a cell without gates: forget and output gates are open, the input gate too."""
    cell = LSTMCell(1, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.bias.copy_(torch.tensor([60.0, 60.0, 0.0, 60.0]))
        cell.weight_ih[2] = 1.0
    sums = torch.cat([torch.logspace(-20, 1.5, 40), torch.tensor([0.2499, 0.25, 0.2501])])
    sums = torch.cat([sums, -sums, torch.zeros(1)])
    state = (torch.zeros(len(sums), 1),) * 2
    _, (_, cells) = run_equations(cell, sums[:, None, None], state, None, fused=True)
    assert_close(cells[:, 0], sums.double().tanh().float(), rtol=1e-6, atol=0)


@interpreted
@pytest.mark.parametrize("kind", ["clipped", "clipped diagonal"])
def test_a_clip_hides_no_nan(kind):
    cell = new_cell(kind)
    x = torch.full((1, 2, E), torch.nan)
    outputs, last = run_equations(cell, x, cell.initial_state(x), None, fused=True)
    assert all(tensor.isnan().all() for tensor in (outputs, *last))


@interpreted
def test_nan_in_padding_is_never_read():
    cell = new_cell("full")
    x = torch.randn(2, 3, E)
    x[1, 1:] = torch.nan
    x.requires_grad_()
    outputs, last = run_equations(cell, x, cell.initial_state(x), torch.tensor([3, 1]), fused=True)
    assert not outputs[1, 1:].any()
    sum(tensor.sum() for tensor in (outputs, *last)).backward()
    assert x.grad[0].isfinite().all()
    assert cell.weight_hh.grad.isfinite().all()


@interpreted
def test_second_derivative_is_refused():
    cell, x = new_cell("diagonal"), torch.randn(2, 3, E, requires_grad=True)
    outputs, _ = run_equations(cell, x, cell.initial_state(x), None, fused=True)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@interpreted
@pytest.mark.parametrize("kind", ["forget full", "clipped", "before"])
def test_backward_twice_and_with_frozen_weights(kind):
    cell, x = new_cell(kind), torch.randn(2, 3, E, requires_grad=True)
    outputs, _ = run_equations(cell, x, cell.initial_state(x), None, fused=True)
    first, second = (torch.autograd.grad(outputs.sum(), x, retain_graph=True)[0] for _ in "12")
    assert torch.equal(first, second)
    cell.requires_grad_(False)
    outputs, _ = run_equations(cell, x, cell.initial_state(x), None, fused=True)
    assert torch.equal(torch.autograd.grad(outputs.sum(), x)[0], first)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Lets the CPU choose fused steps as a GPU does; counts the layers that ran them."""
    runs = []

    def run_fused(*arguments, **options):
        found = fast_recurrence.__dict__["run_fused before"](*arguments, **options)
        runs.append(found is not None)
        return found

    monkeypatch.setitem(fast_recurrence.__dict__, "run_fused before", fast_recurrence.run_fused)
    monkeypatch.setattr(fast_recurrence, "run_fused", run_fused)
    monkeypatch.setattr(fast_recurrence, "may_fuse", lambda weight: os.environ.get(fast_steps.SWITCH) != "0")
    monkeypatch.setattr(fast_steps, "tried", {})
    return runs


def language_model():
    fields = {"vocab_size": 20, "hidden_size": 6, "peephole": "diagonal", "dropout": 0.0, "initializer_range": 0.5}
    return LSTMForCausalLM(LSTMConfig(num_hidden_layers=2, **fields)).train()


def loss_and_gradients(model):
    model.zero_grad()
    torch.manual_seed(0)
    ids = torch.randint(20, (2, 4))
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0]])
    loss = model(input_ids=ids, labels=ids.masked_fill(mask == 0, -100), attention_mask=mask, use_cache=False).loss
    loss.backward()
    return {"loss": loss.detach(), **gradients(model)}


@interpreted
def test_a_model_runs_them_with_checkpoints_and_without_them_on_request(on_a_gpu, monkeypatch):
    model = language_model()
    found = loss_and_gradients(model)
    assert on_a_gpu == [True] * 2
    model.activation_checkpointing_enable()
    checkpointed = loss_and_gradients(model)
    # the second run of a layer ends as soon as it has what the gradient needs
    assert on_a_gpu == [True] * 4
    model.activation_checkpointing_disable()
    monkeypatch.setenv(fast_steps.SWITCH, "0")
    by_loop = loss_and_gradients(model)
    monkeypatch.delenv(fast_steps.SWITCH)
    with plain_equations():
        plain = loss_and_gradients(model)
    assert len(on_a_gpu) == 4
    for other in (checkpointed, by_loop, plain):
        assert_close(found, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fault", ["no Triton", "no compiler"])
def test_without_triton_or_its_compiler_the_loop_runs_and_one_warning_says_so(on_a_gpu, monkeypatch, fault):
    if fault == "no Triton":
        # as Python marks what cannot be imported
        monkeypatch.setitem(sys.modules, "hf_lineage.models.fast_step_kernels", None)
    else:

        def forward(*_):
            raise OSError("no C compiler")

        monkeypatch.setattr(fast_steps.FusedLSTM, "forward", forward)
    warnings = []
    monkeypatch.setattr(fast_steps.logger, "warning", lambda message, *_: warnings.append(message))
    found = loss_and_gradients(language_model())
    assert not any(on_a_gpu)
    assert len(warnings) == 1
    assert ("compiler" if fault == "no compiler" else "fast_step_kernels") in warnings[0]
    assert all(tensor.isfinite().all() for tensor in found.values())


def test_a_cpu_never_chooses_them():
    assert not fast_steps.may_fuse(torch.zeros(1))


class Recorded:
    """In place of a kernel: keeps its calls."""

    def __init__(self, kernel, calls):
        self.kernel, self.calls = kernel, calls

    def __getitem__(self, grid):
        return lambda *numbers, **constants: self.calls.append((self.kernel, numbers, constants))


TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", int: "i32"}


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(is_interpreted, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(("dtype", "hidden_size"), [(torch.float32, D), (torch.bfloat16, 16)], ids=str)
@pytest.mark.parametrize("kind", VARIANTS)
def test_every_launch_compiles_for_gpus(kind, dtype, hidden_size, monkeypatch, tmp_path):
    """To machine code of an A100 (8.0) and an H100 (9.0); the compiler needs no GPU."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hf_lineage.models import fast_step_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    calls, launches = [], {}
    for name in ("lstm", "projection", "gru_gates", "gru_state", "rnn"):
        for way in ("forward", "backward"):
            kernel = getattr(fast_step_kernels, f"{name}_{way}")
            monkeypatch.setattr(fast_step_kernels, f"{name}_{way}", Recorded(kernel, calls))
    cell, x = new_cell(kind, hidden_size), torch.randn(2, 2, E, requires_grad=True)
    with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        outputs, _ = run_equations(cell, x, cell.initial_state(x), None, fused=True)
    outputs.sum().backward()
    for kernel, numbers, constants in calls:
        names = kernel.arg_names
        of_numbers = dict(zip(names, numbers, strict=False))
        constants = constants | {name: None for name, number in of_numbers.items() if number is None}
        signature = dict.fromkeys(constants, "constexpr") | {
            name: TYPES[getattr(number, "dtype", type(number))]
            for name, number in of_numbers.items()
            if number is not None
        }
        signature = {name: signature[name] for name in names}
        # what Triton asks of each launch, since such pointers and sizes have code of their own
        aligned = {
            (names.index(name),): [["tt.divisibility", 16]]
            for name, kind_of in signature.items()
            if hidden_size == 16 and (kind_of.startswith("*") or name == "size")
        }
        launches[kernel, str(signature), str(constants)] = (kernel, signature, constants, aligned)
    assert len(launches) >= 2
    for kernel, signature, constants, aligned in launches.values():
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
        for capability in (80, 90):
            code = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            assert code.asm["cubin"]


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(is_interpreted, reason="is itself that process")
def test_all_of_this_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
