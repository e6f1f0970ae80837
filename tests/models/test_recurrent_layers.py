"""The recurrent bricks against torch.nn, which knows nothing of them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close
from transformers import AutoModel, DynamicCache

from hf_lineage import GRUConfig, GRUModel, LSTMConfig, LSTMModel, RNNConfig, RNNModel
from hf_lineage.models.cache_argument import cache_of
from hf_lineage.models.fast_recurrence import run_kernel
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell, RNNCell
from hf_lineage.models.recurrent_layers import RecurrentLayer, step_by_step, to_front, to_places


E, D = 5, 4
CELLS = {
    "tanh": (lambda size=E: RNNCell(size, D), RNNConfig, RNNModel, {}, nn.RNN, {}),
    "relu": (
        lambda size=E: RNNCell(size, D, "relu"),
        RNNConfig,
        RNNModel,
        {"hidden_act": "relu"},
        nn.RNN,
        {"nonlinearity": "relu"},
    ),
    "lstm": (lambda size=E: LSTMCell(size, D), LSTMConfig, LSTMModel, {}, nn.LSTM, {}),
    "projected": (
        lambda size=E: LSTMCell(size, D, projection_size=3),
        LSTMConfig,
        LSTMModel,
        {"projection_size": 3},
        nn.LSTM,
        {"proj_size": 3},
    ),
    "gru": (lambda size=E: GRUCell(size, D), GRUConfig, GRUModel, {}, nn.GRU, {}),
}
# a projection goes through the kernel on a GPU only
KERNELS = {
    "tanh": torch.rnn_tanh,
    "relu": torch.rnn_relu,
    "lstm": torch.lstm,
    "projected": torch.lstm,
    "gru": torch.gru,
}


def new_cell(kind, dtype=torch.float32):
    cell = CELLS[kind][0]().to(dtype)
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.7, 0.7)
    return cell


def copy_into_cell(reference: nn.Module, suffix: str, cell):
    """torch keeps two biases; ours is their sum, but for the candidate of the GRU."""
    weight_ih, weight_hh, bias_ih, bias_hh = (
        getattr(reference, f"{name}_{suffix}").detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    with torch.no_grad():
        cell.weight_ih.copy_(weight_ih)
        cell.weight_hh.copy_(weight_hh)
        if isinstance(cell, GRUCell):
            cell.bias.copy_(torch.cat([(bias_ih + bias_hh)[: 2 * cell.hidden_size], bias_ih[2 * cell.hidden_size :]]))
            cell.bias_hn.copy_(bias_hh[2 * cell.hidden_size :])
        else:
            cell.bias.copy_(bias_ih + bias_hh)
        if hasattr(reference, f"weight_hr_{suffix}"):
            cell.weight_hr.copy_(getattr(reference, f"weight_hr_{suffix}"))


def assert_gradients_agree(reference: nn.Module, suffix: str, cell, **tolerance):
    assert_close(cell.weight_ih.grad, getattr(reference, f"weight_ih_{suffix}").grad, **tolerance)
    assert_close(cell.weight_hh.grad, getattr(reference, f"weight_hh_{suffix}").grad, **tolerance)
    assert_close(cell.bias.grad, getattr(reference, f"bias_ih_{suffix}").grad, **tolerance)
    if isinstance(cell, GRUCell):
        expected = getattr(reference, f"bias_hh_{suffix}").grad[2 * cell.hidden_size :]
        assert_close(cell.bias_hn.grad, expected, **tolerance)
    if hasattr(reference, f"weight_hr_{suffix}"):
        assert_close(cell.weight_hr.grad, getattr(reference, f"weight_hr_{suffix}").grad, **tolerance)


def random_state(cell, batch):
    return tuple(torch.randn(batch, size, dtype=torch.double) for size in cell.state_sizes)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("kind", CELLS)
def test_models_equal_torch(kind, num_layers, bidirectional, ragged):
    _, config_class, model_class, fields, torch_class, torch_fields = CELLS[kind]
    reference = torch_class(
        E, D, num_layers=num_layers, batch_first=True, bidirectional=bidirectional, **torch_fields
    ).double()
    config = config_class(
        vocab_size=3,
        embedding_size=E,
        hidden_size=D,
        num_hidden_layers=num_layers,
        bidirectional=bidirectional,
        **fields,
    )
    model = model_class(config).double()
    cells = {}
    for i, layer in enumerate(model.layers):
        cells[f"l{i}"] = layer.cell
        if bidirectional:
            cells[f"l{i}_reverse"] = layer.backward_cell
    for suffix, cell in cells.items():
        copy_into_cell(reference, suffix, cell)

    x = torch.randn(4, 6, E, dtype=torch.double, requires_grad=True)
    lengths = torch.tensor([6, 2, 5, 1]) if ragged else torch.tensor([6, 6, 6, 6])
    mask = (torch.arange(6) < lengths[:, None]).long()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(reference(packed)[0], batch_first=True, total_length=6)[0]
    output = model(inputs_embeds=x, attention_mask=mask).last_hidden_state
    assert_close(output, expected)

    probe = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad((expected * probe).sum(), x, retain_graph=True)
    (gradient,) = torch.autograd.grad((output * probe).sum(), x, retain_graph=True)
    assert_close(gradient, expected_gradient)
    (expected * probe).sum().backward()
    (output * probe).sum().backward()
    for suffix, cell in cells.items():
        assert_gradients_agree(reference, suffix, cell)


@pytest.mark.parametrize("kind", CELLS)
def test_float32_within_1e_6(kind):
    cell = new_cell(kind)
    reference = CELLS[kind][4](E, D, batch_first=True, **CELLS[kind][5])
    copy_into_cell(reference, "l0", cell)
    x = torch.randn(3, 9, E)
    expected, _ = reference(x)
    output, _ = cell(x)
    assert_close(output, expected, atol=1e-6, rtol=1e-6)
    expected.sum().backward()
    output.sum().backward()
    assert_gradients_agree(reference, "l0", cell, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("lengths", [None, [7, 3, 0, 5]])
@pytest.mark.parametrize("kind", CELLS)
def test_kernel_equals_the_equations(kind, lengths):
    cell, x = new_cell(kind, torch.double), torch.randn(4, 7, E, dtype=torch.double)
    state = random_state(cell, 4)
    lengths = None if lengths is None else torch.tensor(lengths)
    fused, fused_state = run_kernel(KERNELS[kind], cell, x, state, lengths)
    stepped, stepped_state = step_by_step(cell, x, state, lengths)
    assert_close(fused, stepped)
    assert_close(fused_state, stepped_state)
    if lengths is not None:
        assert all(torch.equal(new[2], old[2]) for new, old in zip(fused_state, state, strict=True))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_continue_from_a_state_like_torch(kind, ragged):
    cell = new_cell(kind, torch.double)
    reference = CELLS[kind][4](E, D, batch_first=True, **CELLS[kind][5]).double()
    copy_into_cell(reference, "l0", cell)
    x = torch.randn(4, 6, E, dtype=torch.double)
    state = random_state(cell, 4)
    lengths = torch.tensor([6, 2, 5, 1])

    ours, theirs = ([tensor.clone().requires_grad_() for tensor in (x, *state)] for _ in range(2))
    output, last = cell(ours[0], tuple(ours[1:]), lengths if ragged else None)
    stacked = tuple(tensor[None] for tensor in theirs[1:])
    their_input = pack_padded_sequence(theirs[0], lengths, batch_first=True, enforce_sorted=False)
    expected, expected_last = reference(
        their_input if ragged else theirs[0], stacked if len(stacked) == 2 else stacked[0]
    )
    if ragged:
        expected = pad_packed_sequence(expected, batch_first=True, total_length=6)[0]
    expected_last = [tensor[0] for tensor in (expected_last if len(stacked) == 2 else (expected_last,))]
    assert_close(output, expected)
    assert_close(list(last), expected_last)

    probes = [torch.randn_like(tensor) for tensor in (output, *last)]
    for found in ((output, *last), (expected, *expected_last)):
        sum((tensor * probe).sum() for tensor, probe in zip(found, probes, strict=True)).backward()
    assert_close([tensor.grad for tensor in ours], [tensor.grad for tensor in theirs])
    assert_gradients_agree(reference, "l0", cell)


@pytest.mark.parametrize("kind", CELLS)
def test_rows_without_tokens_hand_on_state_and_gradient(kind):
    cell, x = new_cell(kind, torch.double), torch.randn(3, 4, E, dtype=torch.double, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_state(cell, 3))
    lengths = torch.tensor([4, 0, 2])
    gradients = []
    for outputs, last in (
        run_kernel(KERNELS[kind], cell, x, state, lengths),
        step_by_step(cell, x, state, lengths),
    ):
        assert outputs[1].abs().sum() == 0
        assert all(torch.equal(new[1], old[1]) for new, old in zip(last, state, strict=True))
        total = outputs.square().sum() + sum(tensor.square().sum() for tensor in last)
        gradients.append(torch.autograd.grad(total, (x, *state, *cell.parameters())))
        assert gradients[-1][0][1].abs().sum() == 0
        assert_close(gradients[-1][1][1], 2 * state[0][1])
    assert_close(*gradients)


@pytest.mark.parametrize("kind", CELLS)
def test_state_carried_over_halves_equals_the_whole(kind):
    cell, x = new_cell(kind, torch.double), torch.randn(2, 8, E, dtype=torch.double)
    whole, whole_state = cell(x)
    first, state = cell(x[:, :3])
    second, state = cell(x[:, 3:], state)
    assert_close(torch.cat([first, second], dim=1), whole)
    assert_close(state, whole_state)


@pytest.mark.parametrize("kind", CELLS)
def test_gradcheck(kind):
    if kind == "relu":
        pytest.skip("not differentiable at 0, where gradcheck looks")
    cell = new_cell(kind, torch.double)
    x = torch.randn(2, 3, E, dtype=torch.double, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_state(cell, 2))
    lengths = torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda x, *state: cell(x, state, lengths)[0], (x, *state))
    assert torch.autograd.gradcheck(lambda x, *state: step_by_step(cell, x, state, lengths)[0], (x, *state))


@pytest.mark.parametrize("kind", ["tanh", "lstm", "projected", "gru"])
def test_gradcheck_of_weights(kind):
    cell, x = new_cell(kind, torch.double), torch.randn(2, 3, E, dtype=torch.double)
    names, weights = zip(*cell.named_parameters(), strict=True)

    def outputs(*weights):
        by_name = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(cell, by_name, (x, None, torch.tensor([3, 2])))[0]

    assert torch.autograd.gradcheck(outputs, weights)


def test_sigmoid_cell_is_elmans_equation():
    cell, x = RNNCell(E, D, "sigmoid"), torch.randn(2, 4, E)
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -0.7, 0.7)
    h = torch.zeros(2, D)
    for t in range(4):
        h = 1 / (1 + torch.exp(-(x[:, t] @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias)))
    assert_close(cell(x)[0][:, -1], h)


@pytest.mark.parametrize("side", ["left", "middle", "scattered"])
def test_padding_anywhere_is_skipped(side):
    layer = RecurrentLayer(new_cell("lstm"), new_cell("lstm"))
    x = torch.randn(2, 6, E)
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, {"left": [0, 1], "middle": [2, 3], "scattered": [1, 4]}[side]] = 0
    tokens_first, padding = to_front(x, mask)
    padded = to_places(layer(tokens_first, None, padding)[0], padding)
    assert not padded[0, ~mask[0].bool()].any()
    assert_close(padded[0, mask[0].bool()], layer(x[:1, mask[0].bool()])[0][0])
    assert_close(padded[1:], layer(x[1:])[0])


def filled_cache():
    model = LSTMModel(LSTMConfig(vocab_size=9, hidden_size=D))
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with torch.no_grad():
        cache = cache_of(model(ids, use_cache=True))
    return model, ids, cache


def test_cache_reorders_repeats_and_selects_rows():
    model, ids, cache = filled_cache()
    next_token = torch.tensor([[7], [8]])
    expected = model(next_token, cache=copy.deepcopy(cache), use_cache=True).last_hidden_state
    for change, rows in (
        (lambda c: c.reorder_cache(torch.tensor([1, 0])), [1, 0]),
        (lambda c: c.batch_repeat_interleave(2), [0, 0, 1, 1]),
        (lambda c: c.batch_select_indices(torch.tensor([1])), [1]),
    ):
        changed = copy.deepcopy(cache)
        change(changed)
        output = model(next_token[rows], cache=changed, use_cache=True).last_hidden_state
        assert_close(output, expected[rows])


def test_reset_cache_starts_anew():
    model, ids, cache = filled_cache()
    cache.reset()
    assert cache.get_seq_length() == 0
    assert_close(model(ids, cache=cache).last_hidden_state, model(ids).last_hidden_state)


def test_plain_dynamic_cache_serves_recurrent_models():
    cache = DynamicCache(config=LSTMConfig(num_hidden_layers=3))
    assert [type(layer).__name__ for layer in cache.layers] == ["RecurrentStateLayer"] * 3


def test_copied_cache_goes_its_own_way():
    model, _, cache = filled_cache()
    kept = [layer.keys.clone() for layer in cache.layers]
    model(torch.tensor([[7], [8]]), cache=copy.deepcopy(cache))
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, kept, strict=True))
    assert cache.get_seq_length() == 3


def test_detached_cache_stops_the_gradient_and_keeps_the_state():
    model, ids, _ = filled_cache()
    first = torch.randn(2, 3, D, requires_grad=True)
    cache = cache_of(model(inputs_embeds=first, use_cache=True))
    states = [layer.state() for layer in cache.layers]
    for layer in cache.layers:
        layer.detach()
    assert_close([layer.state() for layer in cache.layers], states, rtol=0, atol=0)
    model(ids, cache=cache).last_hidden_state.sum().backward()
    assert first.grad is None


@pytest.mark.skipif(
    torch.backends.cuda.is_built() and not torch.cuda.is_available(),
    reason="transformers' offloading opens a stream, which a CUDA build of torch cannot do without a GPU",
)
@pytest.mark.parametrize("config_class", [RNNConfig, LSTMConfig, GRUConfig])
def test_offloading_cache_gives_the_same(config_class):
    model = AutoModel.from_config(config_class(vocab_size=9, hidden_size=D)).eval()
    ids = torch.randint(9, (2, 5))
    expected = model(ids).last_hidden_state
    cache = DynamicCache(config=model.config, offloading=True)
    pieces = [model(piece, cache=cache).last_hidden_state for piece in ids.split(2, dim=1)]
    assert_close(torch.cat(pieces, dim=1), expected)
