"""Recurrent cells: RNN, LSTM and GRU, with the variants that later papers name.

`step` of each cell is the paper's equation; a call applies it over time, `run_both_ways` two cells in both directions.
Weights are stacked gate by gate in torch's order, with one bias instead of torch.nn's two redundant ones.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.parametrize import type_before_parametrizations

from .fast_linear import linear
from .fast_loops import loop
from .fast_recurrence import path_for
from .recurrent_state import Padding, reorder_time


class RecurrentCell(nn.Module):
    """One direction of one recurrent layer: weight_ih [G·D, E], weight_hh [G·D, P], bias [G·D] for G gates.

    P is the length of h: D, unless the cell projects it. `weight_dropout` is the probability with which, in training,
    an entry of weight_hh is dropped for a whole call (DropConnect, as in Merity et al., 2017).
    """

    num_states = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_gates: int = 1,
        output_size: int | None = None,
        weight_dropout: float = 0.0,
    ):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_gates = num_gates
        self.output_size = hidden_size if output_size is None else output_size
        self.weight_dropout = weight_dropout
        self.weight_ih = nn.Parameter(torch.empty(num_gates * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(num_gates * hidden_size, self.output_size))
        self.bias = nn.Parameter(torch.empty(num_gates * hidden_size))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Length of each state: h [B, P], then the cell c [B, D] if there is one."""
        return (self.output_size, self.hidden_size)[: self.num_states]

    def initial_state(self, x: Tensor) -> tuple[Tensor, ...]:
        """The state before the first token: zeros."""
        return tuple(x.new_zeros(x.shape[0], size) for size in self.state_sizes)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One time step: projected = W x_t + b [B, G·D] and the state before -> the state after, h first."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None, run=None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Applies `step` over time: x [B, T, E] -> every h [B, T, P] and the state after each row's last token.

        Row b holds `lengths[b]` tokens (None = T everywhere) followed by padding, over which h is zero.
        A fast path gives the same result. With `run` it returns run(self, x, state), because offloaded and sharded
        weights are loaded only during this call.
        """
        if run is not None:
            return run(self, x, state)
        state = self.initial_state(x) if state is None else state
        if x.numel() == 0:
            return x.new_zeros(*x.shape[:2], self.output_size), state
        cell = with_fewer_weights(self) if self.training and self.weight_dropout > 0 else self
        return (path_for(cell, x) or step_by_step)(cell, x, state, lengths)


def step_by_step(
    cell: RecurrentCell, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The recurrence written out: W x + b for all time steps at once, then step by step."""
    projected = linear(x.flatten(0, 1), cell.weight_ih, cell.bias).unflatten(0, x.shape[:2])  # [B, T, G·D]
    inputs = (projected,)
    if lengths is not None:
        time = torch.arange(x.shape[1], device=lengths.device)
        inputs += ((time < lengths[:, None]).to(x.device)[..., None],)  # [B, T, 1]

    def step(state, now):
        new_state = cell.step(now[0], state)
        if lengths is None:
            return new_state, new_state[:1]
        is_token = now[1]
        state = tuple(torch.where(is_token, new, old) for new, old in zip(new_state, state, strict=True))
        return state, (state[0] * is_token,)

    state, (outputs,) = loop(step, state, inputs)
    return outputs, state


def run_both_ways(
    cell: RecurrentCell,
    backward_cell: RecurrentCell | None,
    x: Tensor,
    state: tuple[Tensor, ...] | None,
    padding: Padding | None,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """x [B, T, E], tokens at each row's front -> outputs [B, T, D], and the last states of the two cells.

    The second cell, if any, reads the row from its end, and its outputs are concatenated to those of the first.
    """
    lengths = padding.lengths if padding is not None else None
    outputs, last = cell(x, state, lengths)
    if backward_cell is None:
        return outputs, last, None
    backwards = padding.backwards() if padding is not None else None
    reverse = (lambda s: s.flip(1)) if padding is None else (lambda s: reorder_time(s, backwards))
    reversed_outputs, reversed_last = backward_cell(reverse(x), None, lengths)
    return torch.cat([outputs, reverse(reversed_outputs)], dim=2), last, reversed_last


def step_on(cell: RecurrentCell, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`cell(projected, state, run=step_on)` is cell.step(projected, state)."""
    return cell.step(projected, state)


def one_step(cell: RecurrentCell, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`cell(x, state, run=one_step)`: x [B, E] and the state before it -> the state after it."""
    return cell.step(linear(x, cell.weight_ih, cell.bias), state)


# a copy of a module cannot be traced
@torch.compiler.disable
def with_fewer_weights(cell: RecurrentCell) -> RecurrentCell:
    """The cell for one call, with entries of its recurrent weights dropped (DropConnect; Merity et al., 2017)."""
    # a parametrization (such as an adapter) forbids copy, and would compute the whole weight again
    cell_class = type_before_parametrizations(cell)
    fewer = cell_class.__new__(cell_class)
    fewer.__dict__.update(cell.__dict__)
    names = (*cell._parameters, *getattr(cell, "parametrizations", ()))
    # not a new parameter: the gradient flows through the dropout to the cell's
    fewer._parameters = {name: getattr(cell, name) for name in names}
    fewer._parameters["weight_hh"] = dropout(cell.weight_hh, cell.weight_dropout)
    return fewer


class RNNCell(RecurrentCell):
    """h_t = φ(W x_t + U h_{t−1} + b)   (Elman, 1990)"""

    def __init__(self, input_size: int, hidden_size: int, hidden_act: str = "tanh", *, weight_dropout: float = 0.0):
        super().__init__(input_size, hidden_size, weight_dropout=weight_dropout)
        self.hidden_act = hidden_act

    def step(self, projected, state):
        activation = getattr(torch, self.hidden_act)
        return (activation(projected + linear(state[0], self.weight_hh)),)


class LSTMCell(RecurrentCell):
    """c_t = f ⊙ c_{t−1} + i ⊙ g,  h_t = o ⊙ tanh(c_t)   (Hochreiter & Schmidhuber, 1997; Gers et al., 2000)

    The gates i, f, o = σ(…) and the candidate g = tanh(…) each read x_t and h_{t−1}.

    `peephole` lets the gates also read the cell (i and f the old one, o the new one): each unit its own ("diagonal":
    weight_ch [3, D]; Gers & Schmidhuber, 2000) or all units ("full": weight_ch [3·D, D]).
    `coupled_gates` merges i and f: "input" keeps i, with f = 1 − i (CIFG; Greff et al., 2017), "forget" keeps f, with
    i = 1 − f. The stacked weights then have three gates, the peepholes two.
    `projection_size` P makes h_t = R (o ⊙ tanh(c_t)) [B, P] with weight_hr R [P, D] (LSTMP; Sak et al., 2014).
    `cell_clip` limits c_t to ± its value before the output reads it, `projection_clip` the projected h_t.
    """

    num_states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        peephole: str | None = None,
        coupled_gates: str | None = None,
        projection_size: int | None = None,
        cell_clip: float | None = None,
        projection_clip: float | None = None,
        weight_dropout: float = 0.0,
    ):
        super().__init__(
            input_size,
            hidden_size,
            num_gates=3 if coupled_gates else 4,
            output_size=projection_size,
            weight_dropout=weight_dropout,
        )
        self.peephole = peephole
        self.coupled_gates = coupled_gates
        self.cell_clip = cell_clip
        self.projection_clip = projection_clip
        gates = self.num_gates - 1
        shape = {"diagonal": (gates, hidden_size), "full": (gates * hidden_size, hidden_size)}.get(peephole)
        self.weight_ch = nn.Parameter(torch.empty(shape)) if shape else None
        self.weight_hr = nn.Parameter(torch.empty(projection_size, hidden_size)) if projection_size else None

    def bias_of_forget_gate(self, value: float) -> Tensor:
        """A bias [G·D] of zeros with which the forget gate starts at `value`."""
        gates = torch.zeros(self.num_gates, self.hidden_size)
        # a learned input gate sets f = 1 − i, so it starts as closed as the forget gate starts open
        gate, sign = {None: (1, 1), "input": (0, -1), "forget": (0, 1)}[self.coupled_gates]
        gates[gate] = sign * value
        return gates.flatten()

    def seen_through_peepholes(self, c: Tensor, first: int, last: int) -> Tensor:
        """What gates `first` to `last` (excluded) of [i, f, o], or of [coupled gate, o], read from c [B, D]."""
        if self.peephole == "diagonal":
            return (c[:, None] * self.weight_ch[first:last]).flatten(1)
        return linear(c, self.weight_ch[first * self.hidden_size : last * self.hidden_size])

    def step(self, projected, state):
        h, c = state
        size, num_updates = self.hidden_size, self.num_gates - 2
        update, g, o = (projected + linear(h, self.weight_hh)).split([num_updates * size, size, size], dim=1)
        if self.peephole:
            update = update + self.seen_through_peepholes(c, 0, num_updates)
        update, g = torch.sigmoid(update), torch.tanh(g)
        if self.coupled_gates == "input":
            c = (1 - update) * c + update * g
        elif self.coupled_gates == "forget":
            c = update * c + (1 - update) * g
        else:
            i, f = update.chunk(2, dim=1)
            c = f * c + i * g
        if self.cell_clip is not None:
            c = c.clamp(-self.cell_clip, self.cell_clip)
        if self.peephole:
            o = o + self.seen_through_peepholes(c, num_updates, num_updates + 1)
        h = torch.sigmoid(o) * torch.tanh(c)
        if self.weight_hr is not None:
            h = linear(h, self.weight_hr)
            if self.projection_clip is not None:
                h = h.clamp(-self.projection_clip, self.projection_clip)
        return h, c


class GRUCell(RecurrentCell):
    """h_t = z ⊙ h_{t−1} + (1 − z) ⊙ h̃   (Cho et al., 2014)

    The reset gate r acts on the candidate h̃ as `reset_mode` says. "after" the recurrent product, as in the paper's
    first version, cuDNN and torch: h̃ = tanh(W x_t + b + r ⊙ (U h_{t−1} + b_h)) with a second bias, `bias_hn` [D].
    "before" it, as in the published version and its code: h̃ = tanh(W x_t + b + U (r ⊙ h_{t−1})).
    `update_convention` says what the update gate z does: "keep" the state, as above, or "replace" it:
    h_t = (1 − z) ⊙ h_{t−1} + z ⊙ h̃ (Bahdanau et al., 2015).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset_mode: str = "after",
        update_convention: str = "keep",
        weight_dropout: float = 0.0,
    ):
        super().__init__(input_size, hidden_size, num_gates=3, weight_dropout=weight_dropout)
        self.reset_mode = reset_mode
        self.update_convention = update_convention
        self.bias_hn = nn.Parameter(torch.empty(hidden_size)) if reset_mode == "after" else None

    def step(self, projected, state):
        h = state[0]
        x_gates, x_n = projected.split([2 * self.hidden_size, self.hidden_size], dim=1)
        if self.reset_mode == "after":
            h_gates, h_n = linear(h, self.weight_hh).split([2 * self.hidden_size, self.hidden_size], dim=1)
            r, z = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
            candidate = torch.tanh(x_n + r * (h_n + self.bias_hn))
        else:
            weight_gates, weight_n = self.weight_hh.split([2 * self.hidden_size, self.hidden_size])
            r, z = torch.sigmoid(x_gates + linear(h, weight_gates)).chunk(2, dim=1)
            candidate = torch.tanh(x_n + linear(r * h, weight_n))
        if self.update_convention == "replace":
            return ((1 - z) * h + z * candidate,)
        return (z * h + (1 - z) * candidate,)
