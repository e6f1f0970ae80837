"""torch's fused kernels for whole sequences: which cells they can run, and the weights in their format."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def name_of(cell: nn.Module) -> str:
    """ "RNNCell", "LSTMCell" or "GRUCell", or a user's own class, whose equation may differ."""
    # by name, since the module of the cells imports this one
    return type(cell).__name__


def why_no_kernel(cell: nn.Module) -> str | None:
    """Why torch's kernels cannot compute this cell, or None if they can."""
    return {"RNNCell": why_not_rnn, "LSTMCell": why_not_lstm, "GRUCell": why_not_gru}.get(name_of(cell), name_of)(cell)


def why_not_rnn(cell: nn.Module) -> str | None:
    return None if cell.hidden_act in ("tanh", "relu") else f"hidden_act {cell.hidden_act}"


def why_not_lstm(cell: nn.Module) -> str | None:
    if cell.peephole:
        return f"peephole {cell.peephole}"
    if cell.cell_clip is not None or cell.projection_clip is not None:
        return f"cell_clip {cell.cell_clip}, projection_clip {cell.projection_clip}"
    if cell.weight_hr is not None and cell.output_size == cell.hidden_size:
        # torch recognises a projection by the lengths of the states
        return f"projection_size {cell.output_size}, the same as hidden_size"
    return None


def why_not_gru(cell: nn.Module) -> str | None:
    return None if cell.reset_mode == "after" else f"reset_mode {cell.reset_mode}"


def kernel_of(cell: nn.Module) -> Callable | None:
    """torch's kernel for a whole sequence, or None if there is none or it is slower."""
    if why_no_kernel(cell):
        return None
    if name_of(cell) == "RNNCell":
        return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}[cell.hidden_act]
    if name_of(cell) == "GRUCell":
        return torch.gru
    # on the CPU torch has no fast projection, and would compute a coupled gate twice
    plain = cell.weight_hr is None and cell.coupled_gates is None
    return torch.lstm if plain or cell.weight_hh.is_cuda else None


def hidden_bias(cell: nn.Module) -> Tensor:
    """torch's second bias [G·D], added to the recurrent product."""
    if name_of(cell) == "GRUCell" and cell.bias_hn is not None:
        return torch.cat([cell.bias.new_zeros(2 * cell.hidden_size), cell.bias_hn])
    return torch.zeros_like(cell.bias)


def kernel_weights(cell: nn.Module) -> list[Tensor]:
    """The cell's weights in the form of torch's kernels and modules: W, U, two biases and, if any, R."""
    weights = [cell.weight_ih, cell.weight_hh, cell.bias, hidden_bias(cell)]
    if name_of(cell) == "GRUCell" and cell.update_convention == "replace":
        # 1 − σ(a) = σ(−a): the other convention negates the update gate's input
        reset, update, candidate = zip(*(w.chunk(3) for w in weights), strict=True)
        return [torch.cat([r, -z, n]) for r, z, n in zip(reset, update, candidate, strict=True)]
    if name_of(cell) == "LSTMCell" and cell.coupled_gates is not None:
        weights = [uncoupled(cell, w) for w in weights]
    if name_of(cell) == "LSTMCell" and cell.weight_hr is not None:
        weights.append(cell.weight_hr)
    return weights


def uncoupled(cell: nn.Module, stacked: Tensor) -> Tensor:
    """The four gates i, f, g, o of an LSTM with coupled gates, since 1 − σ(a) = σ(−a)."""
    gate, rest = stacked[: cell.hidden_size], stacked[cell.hidden_size :]
    both = (gate, -gate) if cell.coupled_gates == "input" else (-gate, gate)
    return torch.cat([*both, rest])


# torch.compile cannot trace packed sequences, and has nothing to add to one call of a kernel
@torch.compiler.disable
def run_kernel(
    kernel: Callable, cell: nn.Module, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cell's forward through one call of `kernel`, on a packed sequence if rows differ in length."""
    weights = kernel_weights(cell)
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)  # biases, layers, dropout, train, bidirectional
    if lengths is None:
        states = [s[None] for s in state]
        outputs, *states = kernel(x, states if len(states) > 1 else states[0], weights, *options, True)
        return outputs, tuple(s[0] for s in states)

    lengths = lengths.cpu()
    packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
    states = [s[packed.sorted_indices][None] for s in state]
    data, *states = kernel(
        packed.data, packed.batch_sizes, states if len(states) > 1 else states[0], weights, *options
    )
    outputs, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=x.shape[1])
    new_state = tuple(s[0][packed.unsorted_indices] for s in states)
    if lengths.min() == 0:
        # packing allows no empty rows: such a row ran over one padding token, which is undone here
        has_token = (lengths > 0).to(x.device)[:, None]
        outputs = outputs * has_token[..., None]
        new_state = tuple(torch.where(has_token, new, old) for new, old in zip(new_state, state, strict=True))
    return outputs, new_state
