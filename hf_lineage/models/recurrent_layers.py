"""Runs recurrent cells over time: what cells share, the loop that applies `step`, layers, and where padding lies.

A cell runs `step_by_step`, or a fast path of `fast_recurrence.py` with the same result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.parametrize import type_before_parametrizations
from transformers.modeling_layers import GradientCheckpointingLayer

from .fast_recurrence import for_one_row, run_fast
from .inputs import is_recorded


class RecurrentCell(nn.Module):
    """One direction of one recurrent layer: weight_ih [G·D, E], weight_hh [G·D, P], bias [G·D] for G gates.

    P is the length of h: D, unless the cell projects it. `weight_dropout` is the probability with which, in training,
    an entry of weight_hh is dropped for a whole call (DropConnect, as in Merity et al., 2017).
    """

    num_states = 1
    # x weight.T + bias; `for_one_row` has a faster one
    linear = staticmethod(linear)

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

        Row b holds `lengths[b]` tokens (None = T everywhere) followed by padding, over which h is zero. With `run` it
        returns run(self, x, state), because offloaded and sharded weights are loaded only during this call.
        """
        if run is None and state is None:
            state = self.initial_state(x)
        cell = for_one_row(self, state[0]) if state and state[0].shape[0] == 1 else self
        if run is not None:
            return run(cell, x, state)
        if x.numel() == 0:
            return x.new_zeros(*x.shape[:2], self.output_size), state
        if self.training and self.weight_dropout > 0:
            cell = with_fewer_weights(cell)
        return run_fast(cell, x, state, lengths) or step_by_step(cell, x, state, lengths)


def step_by_step(
    cell: RecurrentCell, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The recurrence written out: W x + b for all time steps at once, then step by step."""
    projected = cell.linear(x.flatten(0, 1), cell.weight_ih, cell.bias).unflatten(0, x.shape[:2])  # [B, T, G·D]
    inputs = (projected,)
    if lengths is not None:
        time = torch.arange(x.shape[1], device=lengths.device)
        inputs += ((time < lengths[:, None]).to(x.device)[..., None],)  # [B, T, 1]

    def step(state, now):
        word, *is_token = now
        new_state = cell.step(word, state)
        if not is_token:
            return new_state, new_state[:1]
        state = tuple(torch.where(is_token[0], new, old) for new, old in zip(new_state, state, strict=True))
        return state, (state[0] * is_token[0],)

    state, (outputs,) = loop(step, state, inputs)
    return outputs, state


def one_step(cell: RecurrentCell, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`cell(x, state, run=one_step)`: x [B, E] and the state before it -> the state after it."""
    return cell.step(cell.linear(x, cell.weight_ih, cell.bias), state)


def step_on(cell: RecurrentCell, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`cell(projected, state, run=step_on)` is cell.step(projected, state)."""
    return cell.step(projected, state)


def loop(step: Callable, state: tuple, inputs: tuple[Tensor, ...]) -> tuple[tuple, tuple[Tensor, ...]]:
    """Inputs [B, T, …] -> the last state and outputs [B, T, …], by step(state, inputs at t) -> (state, outputs at t).

    The state is a tuple of tensors, or of such tuples, and keeps its form. An export records the step once, for any T;
    a trace (torch.jit) holds for its own T only.
    """
    if torch.compiler.is_exporting():
        # experimental in torch: imported where it is needed only
        from torch._higher_order_ops.scan import scan

        def step_apart(state, now):
            state, outputs = step(state, now)
            # scan refuses an output that is a state
            return in_one_piece(state), tuple(output.clone() for output in outputs)

        return scan(step_apart, in_one_piece(state), inputs, dim=1)
    if inputs[0].shape[1] == 0:
        # one step over nothing says what the outputs look like
        _, outputs = step(state, tuple(x.new_zeros(x.shape[0], *x.shape[2:]) for x in inputs))
        return state, tuple(output[:, None][:, :0] for output in outputs)
    # unbound at once: each index by itself would have a gradient of the whole length
    steps = []
    for now in zip(*(x.unbind(1) for x in inputs), strict=True):
        state, outputs = step(state, now)
        steps.append(outputs)
    return state, tuple(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))


def in_one_piece(state: tuple) -> tuple:
    """The same, each in memory of its own, as scan wants every state: they may be parts of one tensor."""
    copy = partial(torch.clone, memory_format=torch.contiguous_format)
    return tuple(in_one_piece(s) if isinstance(s, tuple) else copy(s) for s in state)


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


@dataclass
class Padding:
    """Where a batch's tokens are: `order` [B, T] moves each row's tokens to its front, `inverse` moves them back."""

    order: Tensor
    inverse: Tensor
    lengths: Tensor  # [B], on the CPU unless recorded

    @classmethod
    def of(cls, attention_mask: Tensor | None, length: int) -> "Padding | None":
        """Reads the last `length` columns of the mask [B, S] (0 = padding); None if it sees that nothing is padded."""
        if attention_mask is None:
            return None
        mask = attention_mask[:, attention_mask.shape[1] - length :].bool()
        is_blind, lengths = is_recorded(mask), mask.sum(1)
        if not is_blind:
            # kernels need them on the CPU: the only place where padding stalls a GPU
            lengths = lengths.cpu()
            if lengths.eq(length).all():
                return None
        # counted, since ONNX has no stable sort
        count, padding = mask.long().cumsum(1), (~mask).long().cumsum(1)
        inverse = torch.where(mask, count, count[:, -1:] + padding) - 1
        order = torch.empty_like(inverse).scatter_(1, inverse, torch.ones_like(inverse).cumsum(1) - 1)
        return cls(order, inverse, lengths)

    @cached_property
    def backwards(self) -> Tensor:
        """Index [B, T] that reverses the tokens at each row's front and leaves the padding behind them."""
        time = torch.arange(self.order.shape[1], device=self.order.device)
        lengths = self.lengths.to(time.device, non_blocking=True)[:, None]
        return torch.where(time < lengths, lengths - 1 - time, time)


def reorder_time(x: Tensor, index: Tensor) -> Tensor:
    """x [B, T, D] with its time steps in the order of `index` [B, T]."""
    return x.gather(1, index[..., None].expand_as(x))


def to_front(x: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Padding | None]:
    """x [B, T, D] with each row's tokens at its front, and `Padding.of` the mask."""
    padding = Padding.of(attention_mask, x.shape[1])
    return x if padding is None else reorder_time(x, padding.order), padding


def to_places(x: Tensor, padding: Padding | None) -> Tensor:
    """Undoes `to_front`."""
    return x if padding is None else reorder_time(x, padding.inverse)


def reversed_time(x: Tensor, padding: Padding | None) -> Tensor:
    """x [B, T, D], tokens at the front, with each row's tokens in reverse order; padding stays behind them."""
    return x.flip(1) if padding is None else reorder_time(x, padding.backwards)


class RecurrentLayer(GradientCheckpointingLayer):
    """A cell run over rows from state to state; with `backward_cell`, a second one from each row's end to its front.

    Rows have their tokens at the front. Padding behind them does not change the state; the outputs over it are zero.
    """

    def __init__(self, cell: RecurrentCell, backward_cell: RecurrentCell | None = None):
        super().__init__()
        self.cell = cell
        self.backward_cell = backward_cell

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, padding: Padding | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x [B, T, E] and the state before it, by default zeros -> outputs [B, T, P] and the state after it.

        With both directions P doubles in the outputs and in the state; the second starts from zeros.
        """
        lengths = None if padding is None else padding.lengths
        outputs, last = self.cell(x, state, lengths)
        if self.backward_cell is None:
            return outputs, last
        backward, first = self.backward_cell(reversed_time(x, padding), None, lengths)
        outputs = torch.cat([outputs, reversed_time(backward, padding)], dim=2)
        return outputs, tuple(torch.cat(both, dim=1) for both in zip(last, first, strict=True))
