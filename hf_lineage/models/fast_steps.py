"""Time steps of recurrent cells on a GPU: besides its matrix products, each is one or two launches of a kernel.

For the cells that cuDNN lacks. The equations stand in the kernels (`fast_step_kernels.py`); here are the loops over
time, which launch them between the products. A step of the paper's GRU or of an LSTM with a projection is two products
and two launches, with full peepholes three products and two launches, otherwise one of each. Lengths stay on the GPU,
and Python never waits for it. Time comes first; after a row's end the states are zero.

Under autocast the products run in its dtype. The states, which add up over the steps, and all other sums are in
float32. `HF_LINEAGE_FUSED=0` in the environment turns these steps off.
"""

import os
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import logging


logger = logging.get_logger(__name__)
SWITCH = "HF_LINEAGE_FUSED"
# units that one program of a kernel computes
BLOCK = 128
PRODUCTS = (torch.float32, torch.bfloat16, torch.float16)
# whether the kernels run for (equations, sizes, dtype of the products, device, gradients); each is tried once
tried: dict[tuple, bool] = {}


def product_dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which products with a weight run: autocast's, or its own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def may_fuse(weight: Tensor) -> bool:
    """Whether the steps of a cell with this weight may run here."""
    is_on = os.environ.get(SWITCH, "") != "0"
    return is_on and weight.is_cuda and weight.dtype in PRODUCTS and product_dtype(weight) in PRODUCTS


def on_device_of(x: Tensor):
    """Triton launches on the current GPU, which may be another one than that of `x`."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def works(equations, state: tuple[Tensor, ...], weights: tuple, projected: Tensor) -> bool:
    """Whether Triton is there and compiles the kernels: one row of two steps tells, before the first real one.

    `projected` [1, 1, G·D] and `state` are of any values. A failure is named in one warning.
    """
    sizes = tuple(s.shape[-1] for s in state)
    key = (equations, sizes, projected.dtype, projected.device, torch.is_grad_enabled())
    if key not in tried:
        try:
            with torch.no_grad(), on_device_of(projected):
                lengths = torch.full((1,), 2, device=projected.device)
                first = tuple(torch.zeros(1, size, device=projected.device) for size in sizes)
                words = projected[:1, :1].repeat(2, 1, 1)
                states, kept = equations.forward(words, lengths, first, weights)
                if key[-1]:
                    equations.backward(torch.zeros_like(states[0][1:]), first, lengths, weights, (*states, *kept))
            tried[key] = True
        except torch.OutOfMemoryError:
            raise
        # a compiler fails in many ways, and the loop of `fast_recurrence` needs none
        except Exception as error:
            tried[key] = False
            logger.warning_once(
                f"Triton cannot run the fused steps of recurrent cells; a loop runs, several times slower: "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            )
    return tried[key]


def beginning_with(state: Tensor, steps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Memory [T + 1, B, D] in float32, whose first entry is `state`, and in the products' dtype if that is another."""
    states = state.new_empty(steps + 1, *state.shape, dtype=torch.float32)
    states[0] = state
    if dtype is torch.float32:
        return states, None
    low = torch.empty_like(states, dtype=dtype)
    low[0] = state
    return states, low


def gates_of(projected: Tensor) -> Tensor:
    """Memory for gates in float32: in place if it can be."""
    return projected if projected.dtype is torch.float32 else torch.empty_like(projected, dtype=torch.float32)


def grid_of(state: Tensor) -> tuple[int, int]:
    """Programs of a kernel for `state` [B, D]: rows times blocks of units."""
    return state.shape[0], -(-state.shape[1] // BLOCK)


def over_time(gradient: Tensor, read: Tensor) -> Tensor:
    """Gradient [M, K] of a weight whose product with `read` [T, B, K] has the gradient `gradient` [T, B, M]."""
    return gradient.flatten(0, 1).T @ read.flatten(0, 1)


def at_first_state(d_last: Tensor, lengths: Tensor, gradient: Tensor):
    """Turns the gradient at the last state into that at the first, which is the same state in rows without tokens."""
    d_last.copy_(torch.where(lengths[:, None] > 0, gradient, d_last))


@dataclass(frozen=True)
class FusedSigmoid:
    """`SigmoidEquations`; weights: (U,)."""

    def forward(self, projected, lengths, state, weights):
        from .fast_step_kernels import rnn_forward

        hidden, low = beginning_with(state[0], len(projected), projected.dtype)
        read, recurrent, by_hidden = hidden if low is None else low, torch.empty_like(projected[0]), weights[0].T
        launch, size = rnn_forward[grid_of(state[0])], hidden.shape[2]
        for t, h in enumerate(read[:-1].unbind()):
            torch.mm(h, by_hidden, out=recurrent)
            launch(projected, recurrent, hidden, low, lengths, t, size, BLOCK=BLOCK)
        return (hidden,), (read,)

    def backward(self, d_outputs, d_state, lengths, weights, kept):
        from .fast_step_kernels import rnn_backward

        (hidden, read), (weight_hh,), (d_last,) = kept, weights, d_state
        d_outputs, d_sums = d_outputs.contiguous(), torch.empty_like(read[1:])
        by_next, launch, size = torch.empty_like(read[0]), rnn_backward[grid_of(d_last)], hidden.shape[2]
        for t, d_sum in reversed(list(enumerate(d_sums.unbind()))):
            launch(by_next, d_outputs, d_last, d_sums, hidden, lengths, t, size, BLOCK=BLOCK)
            torch.mm(d_sum, weight_hh, out=by_next)
        at_first_state(d_last, lengths, by_next)
        return d_sums, (over_time(d_sums, read[:-1]),)


@dataclass(frozen=True)
class FusedLSTM:
    """`LSTMEquations`; weights: (U, V or None, R or None)."""

    peephole: str | None
    coupled_gates: str | None
    cell_clip: float | None
    projection_clip: float | None

    def launches(self) -> list[dict]:
        """The constants of each launch of a step: full peepholes read the new cell by a product of its own."""
        parts = [(True, False), (False, True)] if self.peephole == "full" else [(True, True)]
        variant = {"PEEPHOLE": self.peephole or "", "COUPLED": self.coupled_gates or "", "CELL_CLIP": self.cell_clip}
        return [{"OF_CELL": cell, "OF_OUTPUT": output, "BLOCK": BLOCK, **variant} for cell, output in parts]

    def split_peepholes(self, weight_ch: Tensor | None, size: int) -> tuple[Tensor | None, Tensor | None]:
        """The matrices of full peepholes: those of the gates that update the cell, and the output gate's."""
        return (weight_ch[:-size], weight_ch[-size:]) if self.peephole == "full" else (None, None)

    def forward(self, projected, lengths, state, weights):
        from .fast_step_kernels import lstm_forward, projection_forward

        (weight_hh, weight_ch, weight_hr), dtype, steps = weights, projected.dtype, len(projected)
        (hidden, low), (cells, cells_low) = (beginning_with(s, steps, dtype) for s in state)
        read, read_cells = hidden if low is None else low, cells if cells_low is None else cells_low
        batch, size = state[1].shape
        gates, recurrent, by_hidden = gates_of(projected), torch.empty_like(projected[0]), weight_hh.T
        is_full, parts = self.peephole == "full", self.launches()
        for_updates, for_output = self.split_peepholes(weight_ch, size)
        seen_before = projected.new_empty(batch, len(for_updates)) if is_full else None
        seen_after = projected.new_empty(batch, size) if is_full else None
        diagonal = weight_ch if self.peephole == "diagonal" else None
        exposed = product = None
        if weight_hr is not None:
            exposed, product = projected.new_empty(steps, batch, size), projected.new_empty(state[0].shape)
            project = projection_forward[grid_of(state[0])]
        launch = lstm_forward[grid_of(state[1])]
        numbers = (projected, recurrent, seen_before, seen_after, diagonal, gates, cells, cells_low)
        numbers += (exposed, hidden, low, lengths)
        # views of each step at once, since Python's time counts here
        h, c, e = read.unbind(), read_cells.unbind(), () if exposed is None else exposed.unbind()
        for t in range(steps):
            torch.mm(h[t], by_hidden, out=recurrent)
            if is_full:
                torch.mm(c[t], for_updates.T, out=seen_before)
            for part in parts:
                if is_full and part["OF_OUTPUT"]:
                    torch.mm(c[t + 1], for_output.T, out=seen_after)
                launch(*numbers, t, size, **part)
            if weight_hr is not None:
                torch.mm(e[t], weight_hr.T, out=product)
                project(product, hidden, low, lengths, t, product.shape[1], CLIP=self.projection_clip, BLOCK=BLOCK)
        return (hidden, cells), (gates, read, read_cells, *([] if exposed is None else [exposed]))

    def backward(self, d_outputs, d_state, lengths, weights, kept):
        from .fast_step_kernels import lstm_backward, projection_backward

        (weight_hh, weight_ch, weight_hr), (d_last, d_last_cells) = weights, d_state
        hidden, cells, gates, read, read_cells, *exposed = kept
        d_outputs, size = d_outputs.contiguous(), cells.shape[2]
        d_gates = torch.empty_like(gates, dtype=read.dtype)
        d_cells, by_next, d_exposed = torch.empty_like(d_last_cells), torch.empty_like(read[0]), None
        is_full, parts = self.peephole == "full", self.launches()
        for_updates, for_output = self.split_peepholes(weight_ch, size)
        by_updates, by_output = (torch.empty_like(read_cells[0]) if is_full else None for _ in "12")
        diagonal = weight_ch if self.peephole == "diagonal" else None
        if weight_hr is not None:
            d_product, d_exposed = torch.empty_like(read[1:]), torch.empty_like(exposed[0][0])
            unproject = projection_backward[grid_of(d_last)]
        launch = lstm_backward[grid_of(d_last_cells)]
        numbers = (by_next if d_exposed is None else d_exposed, d_outputs, d_last, d_last_cells, by_updates, by_output)
        numbers += (d_cells, d_gates, diagonal, gates, cells, lengths)
        for t, d_gate in reversed(list(enumerate(d_gates.unbind()))):
            if weight_hr is not None:
                clip = {"CLIP": self.projection_clip, "BLOCK": BLOCK}
                unproject(by_next, d_outputs, d_last, d_product, hidden, lengths, t, d_last.shape[1], **clip)
                torch.mm(d_product[t], weight_hr, out=d_exposed)
            for part in reversed(parts):
                launch(*numbers, t, size, PROJECTS=d_exposed is not None, **part)
                if is_full and part["OF_OUTPUT"]:
                    torch.mm(d_gate[:, -size:], for_output, out=by_output)
            if is_full:
                torch.mm(d_gate[:, : len(for_updates)], for_updates, out=by_updates)
            torch.mm(d_gate, weight_hh, out=by_next)

        d_weight_ch = d_weight_hr = None
        if self.peephole == "diagonal":
            *d_updates, _, d_reads = d_gates.split(size, dim=2)
            seen = [*((d, cells[:-1]) for d in d_updates), (d_reads, cells[1:])]
            d_weight_ch = torch.stack([(d * c).sum((0, 1)) for d, c in seen])
        elif is_full:
            by_old = over_time(d_gates[..., : len(for_updates)], read_cells[:-1])
            d_weight_ch = torch.cat([by_old, over_time(d_gates[..., -size:], read_cells[1:])])
        if weight_hr is not None:
            d_weight_hr = over_time(d_product, exposed[0])
        at_first_state(d_last, lengths, by_next)
        at_first_state(d_last_cells, lengths, d_cells + by_updates if is_full else d_cells)
        return d_gates, (over_time(d_gates, read[:-1]), d_weight_ch, d_weight_hr)


@dataclass(frozen=True)
class FusedGRU:
    """`GRUEquations`; weights: (U,)."""

    update_convention: str

    def forward(self, projected, lengths, state, weights):
        from .fast_step_kernels import gru_gates_forward, gru_state_forward

        hidden, low = beginning_with(state[0], len(projected), projected.dtype)
        read, gates, size = hidden if low is None else low, gates_of(projected), hidden.shape[2]
        resets = torch.empty_like(read[1:])
        for_gates, for_candidate = (weight.T for weight in weights[0].split([2 * size, size]))
        by_h, by_reset = projected.new_empty(len(state[0]), 2 * size), torch.empty_like(read[0])
        grid, keeps = grid_of(state[0]), self.update_convention == "keep"
        launch_gates, launch_state = gru_gates_forward[grid], gru_state_forward[grid]
        for t, (h, reset) in enumerate(zip(read[:-1].unbind(), resets.unbind(), strict=True)):
            torch.mm(h, for_gates, out=by_h)
            launch_gates(projected, by_h, gates, resets, hidden, lengths, t, size, BLOCK=BLOCK)
            torch.mm(reset, for_candidate, out=by_reset)
            launch_state(projected, by_reset, gates, hidden, low, lengths, t, size, KEEPS=keeps, BLOCK=BLOCK)
        return (hidden,), (read, gates, resets)

    def backward(self, d_outputs, d_state, lengths, weights, kept):
        from .fast_step_kernels import gru_gates_backward, gru_state_backward

        (hidden, read, gates, resets), (d_last,), size = kept, d_state, kept[0].shape[2]
        by_gates, by_candidate = weights[0].split([2 * size, size])
        d_outputs, d_gates = d_outputs.contiguous(), torch.empty_like(gates, dtype=read.dtype)
        by_next, d_reset, d_kept = torch.empty_like(read[0]), torch.empty_like(read[0]), torch.empty_like(d_last)
        grid, keeps = grid_of(d_last), self.update_convention == "keep"
        launch_gates, launch_state = gru_gates_backward[grid], gru_state_backward[grid]
        for t, d_gate in reversed(list(enumerate(d_gates.unbind()))):
            numbers = (by_next, d_outputs, d_last, d_kept, d_gates, gates, hidden, lengths)
            launch_state(*numbers, t, size, KEEPS=keeps, BLOCK=BLOCK)
            torch.mm(d_gate[:, 2 * size :], by_candidate, out=d_reset)
            launch_gates(d_reset, d_kept, d_gates, gates, hidden, lengths, t, size, BLOCK=BLOCK)
            torch.mm(d_gate[:, : 2 * size], by_gates, out=by_next)
        of_gates, of_candidate = d_gates.split([2 * size, size], dim=2)
        d_weight = torch.cat([over_time(of_gates, read[:-1]), over_time(of_candidate, resets)])
        at_first_state(d_last, lengths, d_kept + by_next)
        return d_gates, (d_weight,)
