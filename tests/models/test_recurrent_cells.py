"""Cells with derivatives written by hand against onnxruntime, torch.nn and finite differences."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_lineage.models.fast_recurrence import hidden_bias, kernel_of, run_equations, run_kernel
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell, RNNCell
from hf_lineage.models.recurrent_layers import RecurrentLayer, step_by_step, to_front, to_places


E, D = 5, 4
VARIANTS = {
    "sigmoid": (RNNCell, {"hidden_act": "sigmoid"}),
    "diagonal": (LSTMCell, {"peephole": "diagonal"}),
    "full": (LSTMCell, {"peephole": "full"}),
    "input": (LSTMCell, {"coupled_gates": "input"}),
    "forget": (LSTMCell, {"coupled_gates": "forget"}),
    "input diagonal": (LSTMCell, {"coupled_gates": "input", "peephole": "diagonal"}),
    "forget full": (LSTMCell, {"coupled_gates": "forget", "peephole": "full"}),
    "clipped": (LSTMCell, {"projection_size": 3, "cell_clip": 0.3, "projection_clip": 0.2}),
    "clipped diagonal": (LSTMCell, {"peephole": "diagonal", "cell_clip": 0.3}),
    "projection": (LSTMCell, {"projection_size": 3}),
    "square projection": (LSTMCell, {"projection_size": D}),
    "full projection": (LSTMCell, {"peephole": "full", "projection_size": 2}),
    "before": (GRUCell, {"reset_mode": "before"}),
    "before replace": (GRUCell, {"reset_mode": "before", "update_convention": "replace"}),
}
FUSED = {"replace": (GRUCell, {"update_convention": "replace"})}


def new_cell(kind, dtype=torch.double):
    cell_class, options = {**VARIANTS, **FUSED}[kind]
    cell = cell_class(E, D, **options).to(dtype)
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.9, 0.9)
    return cell


def random_inputs(cell, batch, length, dtype=torch.double):
    """x [B, T, E] and the states, all asking for gradients."""
    shapes = [(batch, length, E), *((batch, size) for size in cell.state_sizes)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("lengths", [None, [7, 3, 0, 5]])
@pytest.mark.parametrize("kind", [*VARIANTS, *FUSED])
def test_whole_sequences_equal_the_steps(kind, lengths):
    cell = new_cell(kind)
    assert (kernel_of(cell) is None) == (kind in VARIANTS)
    lengths = None if lengths is None else torch.tensor(lengths)
    x, *state = random_inputs(cell, 4, 7)
    results = []
    for run in (cell, partial(step_by_step, cell)):
        outputs, last = run(x, tuple(state), lengths)
        torch.manual_seed(0)
        total = sum((tensor * torch.randn(tensor.shape)).sum() for tensor in (outputs, *last))
        results.append((outputs, *last, *torch.autograd.grad(total, (x, *state, *cell.parameters()))))
    assert_close(*results)
    if lengths is not None:
        assert not results[0][0][2].any()
        assert torch.equal(results[0][1][2], state[0][2])


@pytest.mark.parametrize("lengths", [None, [7, 3, 0, 5]])
@pytest.mark.parametrize("kind", VARIANTS)
def test_single_precision_equals_double(kind, lengths):
    """oneDNN computes in single precision only."""
    cell, lengths = new_cell(kind), None if lengths is None else torch.tensor(lengths)
    x, *state = random_inputs(cell, 4, 7)
    results = []
    for dtype in (torch.float, torch.double):
        cell.to(dtype)
        inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (x, *state)]
        outputs, last = cell(inputs[0], tuple(inputs[1:]), lengths)
        gradients = torch.autograd.grad(sum(o.square().sum() for o in (outputs, *last)), [*inputs, *cell.parameters()])
        results.append([tensor.float() for tensor in (outputs, *last, *gradients)])
    assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", VARIANTS)
def test_gradcheck(kind):
    """Gradients of x, the carried state and the weights, through rows of different lengths."""
    cell = new_cell(kind)
    x, *state = random_inputs(cell, 3, 4)
    names, weights = zip(*cell.named_parameters(), strict=True)

    def outputs(x, *rest):
        state, weights = rest[: cell.num_states], rest[cell.num_states :]
        arguments = (x, state, torch.tensor([2, 4, 0]))
        found, last = torch.func.functional_call(cell, dict(zip(names, weights, strict=True)), arguments)
        return found, *last

    assert torch.autograd.gradcheck(outputs, (x, *state, *weights))


@pytest.mark.parametrize("projection_size", [None, 3])
def test_equations_equal_torch(projection_size):
    """What torch has a kernel for, through the derivatives by hand."""
    cell = LSTMCell(E, D, projection_size=projection_size).double()
    reference = nn.LSTM(E, D, batch_first=True, proj_size=projection_size or 0).double()
    with torch.no_grad():
        cell.weight_ih.copy_(reference.weight_ih_l0)
        cell.weight_hh.copy_(reference.weight_hh_l0)
        cell.bias.copy_(reference.bias_ih_l0 + reference.bias_hh_l0)
        if projection_size:
            cell.weight_hr.copy_(reference.weight_hr_l0)
    x, h, c = random_inputs(cell, 3, 6)
    outputs, last = run_equations(cell, x, (h, c), None)
    expected, expected_last = reference(x, (h[None], c[None]))
    assert_close(outputs, expected)
    assert_close(last, tuple(s[0] for s in expected_last))
    pairs = [(cell.weight_ih, reference.weight_ih_l0), (cell.weight_hh, reference.weight_hh_l0)]
    pairs += [(cell.bias, reference.bias_ih_l0)]
    if projection_size:
        pairs += [(cell.weight_hr, reference.weight_hr_l0)]
    probes = [torch.randn_like(tensor) for tensor in (outputs, *last)]
    ours, theirs = (
        torch.autograd.grad([o, *s], [x, h, c, *weights], probes)
        for o, s, weights in (
            (outputs, last, [pair[0] for pair in pairs]),
            (expected, [s[0] for s in expected_last], [pair[1] for pair in pairs]),
        )
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize("coupled_gates", ["input", "forget"])
def test_coupled_gates_are_an_lstm_with_opposite_gates(coupled_gates):
    cell = new_cell(coupled_gates)
    reference = nn.LSTM(E, D, batch_first=True).double()
    with torch.no_grad():
        for name, ours in (
            ("weight_ih_l0", cell.weight_ih),
            ("weight_hh_l0", cell.weight_hh),
            ("bias_ih_l0", cell.bias),
        ):
            gate, *rest = ours.chunk(3)
            i, f = (gate, -gate) if coupled_gates == "input" else (-gate, gate)
            getattr(reference, name).copy_(torch.cat([i, f, *rest]))
        reference.bias_hh_l0.zero_()
    x, h, c = random_inputs(cell, 3, 6)
    expected, expected_last = reference(x, (h[None], c[None]))
    outputs, last = cell(x, (h, c))
    assert_close(outputs, expected)
    assert_close(last, tuple(s[0] for s in expected_last))
    assert_close(torch.autograd.grad(outputs.sum(), (x, h, c)), torch.autograd.grad(expected.sum(), (x, h, c)))
    # what a GPU gets
    fused, _ = run_kernel(torch.lstm, cell, x, (h, c), None)
    assert_close(fused, expected)


ONNX = {
    "lstm": (LSTMCell, {}, {}),
    "diagonal": (LSTMCell, {"peephole": "diagonal"}, {}),
    "input": (LSTMCell, {"coupled_gates": "input"}, {"input_forget": 1}),
    "input diagonal": (LSTMCell, {"coupled_gates": "input", "peephole": "diagonal"}, {"input_forget": 1}),
    "after": (GRUCell, {"reset_mode": "after"}, {"linear_before_reset": 1}),
    "before": (GRUCell, {"reset_mode": "before"}, {"linear_before_reset": 0}),
    "after replace": (GRUCell, {"update_convention": "replace"}, {"linear_before_reset": 1}),
    "before replace": (GRUCell, {"reset_mode": "before", "update_convention": "replace"}, {"linear_before_reset": 0}),
}


@pytest.mark.parametrize("kind", ONNX)
def test_cells_equal_the_onnx_standard(kind):
    """ONNX defines LSTM and GRU by formulas of its own; onnxruntime computes them without torch."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    cell_class, options, attributes = ONNX[kind]
    operator = cell_class.__name__.removesuffix("Cell")
    cell, lengths = cell_class(E, D, **options), torch.tensor([5, 2, 4])
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.9, 0.9)
    # the gates in ONNX's order: input, output, forget, candidate, or update, reset, candidate
    if operator == "GRU":
        gates = [1, 0, 2]
    else:
        # it reads the input gate in the forget gate's place too, whose weights it ignores
        gates = [0, 2, 0, 1] if "input" in kind else [0, 3, 1, 2]

    def reordered(tensor):
        gate_by_gate = tensor.detach().unflatten(0, (-1, D))[gates].clone()
        if "replace" in kind:
            # its update gate keeps: 1 − σ(a) = σ(−a)
            gate_by_gate[0] *= -1
        return gate_by_gate.flatten(0, 1)

    x, state = torch.randn(3, 5, E), tuple(torch.randn(3, D) for _ in range(cell.num_states))
    inputs = {
        "X": x.transpose(0, 1),
        "W": reordered(cell.weight_ih)[None],
        "R": reordered(cell.weight_hh)[None],
        "B": torch.cat([reordered(cell.bias), reordered(hidden_bias(cell))])[None],
        "sequence_lens": lengths.int(),
        **{f"initial_{name}": tensor[None] for name, tensor in zip("hc", state, strict=False)},
    }
    if "diagonal" in kind:
        peepholes = [0, 1, 0] if "input" in kind else [0, 2, 1]  # input, output, forget
        inputs["P"] = cell.weight_ch.detach()[peepholes].reshape(1, -1)
    inputs = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
    outputs = ["Y", "Y_h", "Y_c"][: 1 + cell.num_states]
    types = {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, list(inputs), outputs, hidden_size=D, **attributes)],
        operator,
        [onnx.helper.make_tensor_value_info(name, types[name], array.shape) for name, array in inputs.items()],
        [onnx.helper.make_tensor_value_info(name, types["X"], None) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected, *expected_state = (torch.from_numpy(array).squeeze(-3) for array in session.run(outputs, inputs))

    for run in (cell, partial(step_by_step, cell)):
        found, found_state = run(x, state, lengths)
        assert_close(found, expected.transpose(0, 1), atol=2e-6, rtol=1e-6)
        assert_close(list(found_state), expected_state, atol=2e-6, rtol=1e-6)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_by_hand(cell, x, h, c):
    """Outputs [T, P] and last states of one sentence x [T, E], from the equations, with one matrix a gate.

    i = σ(W_i x + R_i h′ + p_i c′ + b_i), f likewise, g = tanh(W_g x + R_g h′ + b_g), c = f ⊙ c′ + i ⊙ g,
    o = σ(W_o x + R_o h′ + p_o c + b_o), h = P (o ⊙ tanh(c)); p_i, p_f, p_o are vectors (Gers & Schmidhuber, 2000;
    Graves, 2013, equations 7 to 11; Greff et al., 2017, section II) or, as the well-known figure draws them, matrices.
    Coupled: f = 1 − i, or i = 1 − f. As TensorFlow's LSTMCell does, c is clipped before the gate o and the output look
    at it, and carried so; h after its projection.
    """
    weights = {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}
    gates = {"input": "igo", "forget": "fgo"}.get(cell.coupled_gates, "ifgo")
    W, R, b = (
        dict(zip(gates, np.split(weights[name], len(gates)), strict=True))
        for name in ("weight_ih", "weight_hh", "bias")
    )
    peepholes = dict.fromkeys("ifo", np.zeros((D, D)))
    if cell.peephole == "diagonal":
        peepholes |= {gate: np.diag(p) for gate, p in zip(gates.replace("g", ""), weights["weight_ch"], strict=True)}
    if cell.peephole == "full":
        parts = np.split(weights["weight_ch"], len(gates) - 1)
        peepholes |= dict(zip(gates.replace("g", ""), parts, strict=True))

    outputs = []
    for word in x:
        a = {gate: W[gate] @ word + R[gate] @ h + b[gate] for gate in gates}
        g = np.tanh(a["g"])
        if cell.coupled_gates == "forget":
            f = sigmoid(a["f"] + peepholes["f"] @ c)
            i = 1 - f
        else:
            i = sigmoid(a["i"] + peepholes["i"] @ c)
            f = 1 - i if cell.coupled_gates else sigmoid(a["f"] + peepholes["f"] @ c)
        c = f * c + i * g
        if cell.cell_clip is not None:
            c = np.minimum(np.maximum(c, -cell.cell_clip), cell.cell_clip)
        o = sigmoid(a["o"] + peepholes["o"] @ c)
        h = o * np.tanh(c)
        if "weight_hr" in weights:
            h = weights["weight_hr"] @ h
            if cell.projection_clip is not None:
                h = np.minimum(np.maximum(h, -cell.projection_clip), cell.projection_clip)
        outputs.append(h)
    return np.array(outputs), h, c


BY_HAND = {
    **{kind: options for kind, (cell_class, options) in VARIANTS.items() if cell_class is LSTMCell},
    "clipped full": {"peephole": "full", "cell_clip": 0.3, "projection_size": 3, "projection_clip": 0.2},
    "clipped input full": {"peephole": "full", "coupled_gates": "input", "cell_clip": 0.3},
    "forget diagonal": {"peephole": "diagonal", "coupled_gates": "forget"},
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_lstm_variants_are_the_papers_equations(kind):
    cell = LSTMCell(E, D, **BY_HAND[kind]).double()
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.9, 0.9)
    x, h, c = (tensor.detach() for tensor in random_inputs(cell, 3, 7))
    lengths = [7, 2, 5]
    for run in (cell, partial(step_by_step, cell)):
        outputs, last = run(x, (h, c), torch.tensor(lengths))
        for row, length in enumerate(lengths):
            expected, *expected_last = lstm_by_hand(cell, x[row, :length].numpy(), h[row].numpy(), c[row].numpy())
            assert_close(outputs[row, :length].detach().numpy(), expected, rtol=1e-12, atol=1e-12)
            for found, state in zip(last, expected_last, strict=True):
                assert_close(found[row].detach().numpy(), state, rtol=1e-12, atol=1e-12)
    if cell.cell_clip is not None:
        assert (last[1].abs() == cell.cell_clip).any(), "the bound was never reached"
    if cell.projection_clip is not None:
        assert (outputs.abs() == cell.projection_clip).any(), "the bound was never reached"


def test_second_derivative_is_refused():
    cell = new_cell("diagonal")
    x, *state = random_inputs(cell, 2, 3)
    (gradient,) = torch.autograd.grad(cell(x, tuple(state))[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("kind", ["input diagonal", "full projection", "before"])
def test_right_to_left_is_left_to_right_of_the_reversed_text(kind):
    layer = RecurrentLayer(new_cell(kind), new_cell(kind))
    x = torch.randn(2, 6, E, dtype=torch.double)
    mask = torch.tensor([[0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]])
    tokens_first, padding = to_front(x, mask)
    outputs = to_places(layer(tokens_first, None, padding)[0], padding)
    for row in range(2):
        tokens = x[row : row + 1, mask[row].bool()]
        forward, _ = step_by_step(layer.cell, tokens, layer.cell.initial_state(tokens), None)
        backward, _ = step_by_step(layer.backward_cell, tokens.flip(1), layer.cell.initial_state(tokens), None)
        assert_close(outputs[row, mask[row].bool()], torch.cat([forward, backward.flip(1)], dim=2)[0])
        assert not outputs[row, ~mask[row].bool()].any()


@pytest.mark.parametrize("kind", ["diagonal", "clipped", "before"])
def test_backward_twice_and_with_frozen_weights(kind):
    cell = new_cell(kind)
    x, *state = random_inputs(cell, 2, 5)
    outputs, _ = cell(x, tuple(state))
    first = torch.autograd.grad(outputs.sum(), (x, *state, *cell.parameters()), retain_graph=True)
    second = torch.autograd.grad(outputs.sum(), (x, *state, *cell.parameters()))
    assert_close(first, second, rtol=0, atol=0)
    cell.requires_grad_(False)
    assert_close(torch.autograd.grad(cell(x, tuple(state))[0].sum(), x)[0], first[0])


def test_outputs_need_no_gradient_of_the_last_state_nor_the_other_way_round():
    cell = new_cell("diagonal")
    x, *state = random_inputs(cell, 2, 5)
    for take in (lambda outputs, last: outputs[:, 1], lambda outputs, last: last[1]):
        found, expected = (
            torch.autograd.grad(take(*run(x, tuple(state), None)).sum(), x)[0]
            for run in (cell, partial(step_by_step, cell))
        )
        assert_close(found, expected)


@pytest.mark.parametrize("kind", ["diagonal", "before", "sigmoid", "replace"])
@pytest.mark.parametrize("length", [1, 6])
def test_weight_dropout_is_the_cell_with_fewer_recurrent_weights(kind, length):
    cell = new_cell(kind)
    x, *state = random_inputs(cell, 2, length)
    whole = cell.weight_hh.detach().clone()
    cell.weight_dropout = 0.5
    torch.manual_seed(3)
    outputs, _ = cell(x, tuple(state))
    outputs.sum().backward()
    gradient = cell.weight_hh.grad
    torch.manual_seed(3)
    mask = nn.functional.dropout(torch.ones_like(whole), 0.5)

    cell.eval()
    with torch.no_grad():
        cell.weight_hh.copy_(whole * mask)
    cell.weight_hh.grad = None
    expected, _ = step_by_step(cell, x, tuple(state), None)
    assert_close(outputs, expected)
    expected.sum().backward()
    assert_close(gradient, cell.weight_hh.grad * mask)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("kind", ["diagonal", "before", "sigmoid", "replace"])
def test_weight_dropout_of_parametrized_weights(kind):
    """As adapters of the cell's weights are (PEFT's target_parameters)."""
    cell = new_cell(kind)
    x, *state = random_inputs(cell, 2, 6)
    doubled = copy.deepcopy(cell)
    with torch.no_grad():
        doubled.weight_hh.mul_(2)
        doubled.weight_ih.mul_(2)
    for name in ("weight_hh", "weight_ih"):
        nn.utils.parametrize.register_parametrization(cell, name, Doubled())
    outputs = []
    for each in (cell, doubled):
        each.weight_dropout = 0.5
        torch.manual_seed(3)
        outputs.append(each(x, tuple(state))[0])
    assert_close(*outputs)
