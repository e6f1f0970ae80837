"""Recurrences whose derivatives are written by hand, for the cells that torch has no fused kernel for.

A loop of autograd's operations records each of them, step by step, and adds up one small product after the other for
the gradient of the recurrent weights. Here W x + b is made for all time steps at once, the forward loop keeps the
gates, the backward pass computes the local derivatives of all time steps at once, its loop only carries the gradient
from step to step, and every weight's gradient is a single product over all steps. Time comes first.

Rows may differ in length. They come sorted by it, longest first, so that step t runs the first `batch_sizes[t]` rows
alone; None stands for all rows at every step. States and outputs after a row's end are zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


# gradient by a sigmoid's or tanh's input from that by its output, (gradient, output) -> gradient, in one pass
sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


class Recurrence(torch.autograd.Function):
    """x [T, B, E] -> outputs [T, B, P] and the last states of `equations` (below), from the first ones.

    weight_ih is W [G·D, E], bias b [G·D]; `states_and_weights` are the first states and what the equations read.

    Raises:
        RuntimeError: a second derivative is asked for.
    """

    @staticmethod
    def forward(ctx, equations, batch_sizes, num_states, x, weight_ih, bias, *states_and_weights):
        state, weights = states_and_weights[:num_states], states_and_weights[num_states:]
        projected = torch.addmm(bias, x.flatten(0, 1), weight_ih.T).unflatten(0, x.shape[:2])  # [T, B, G·D]
        states, kept = equations.forward(projected, batch_sizes, state, weights)
        ctx.equations, ctx.batch_sizes, ctx.num_weights = equations, batch_sizes, len(weights)
        ctx.save_for_backward(x, weight_ih, *weights, *states, *kept)
        # the state after row b's last token stands at its length
        lengths, rows = -1, slice(None)
        if batch_sizes is not None:
            rows = torch.arange(x.shape[1], device=x.device)
            lengths = (torch.tensor(batch_sizes, device=x.device)[:, None] > rows).sum(0)
        # copies: a caller may keep the last state for long, and with it all the others
        return states[0][1:], *(s[lengths, rows].clone() for s in states)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_outputs, *d_state):
        # read once: under gradient checkpointing they are recomputed for it
        x, weight_ih, *saved = ctx.saved_tensors
        weights, kept = saved[: ctx.num_weights], saved[ctx.num_weights :]
        d_state = tuple(d.clone() for d in d_state)
        d_projected, d_weights = ctx.equations.backward(d_outputs, d_state, ctx.batch_sizes, weights, kept)
        d_x = d_projected @ weight_ih if ctx.needs_input_grad[3] else None
        d_weight_ih = product_over_time(d_projected, x)
        return None, None, None, d_x, d_weight_ih, d_projected.sum((0, 1)), *d_state, *d_weights


def steps(tensor: Tensor, batch_sizes: list[int] | None) -> list[Tensor]:
    """tensor [T, B, …] step by step, each with the rows that have a token there."""
    views = tensor.unbind(0)
    return views if batch_sizes is None else [view[:n] for view, n in zip(views, batch_sizes, strict=True)]


def new_like(projected: Tensor, batch_sizes: list[int] | None, *sizes: int) -> Tensor:
    """Room for the loops to fill, but for the steps after a row's end, which stay zero."""
    return projected.new_empty(sizes) if batch_sizes is None else projected.new_zeros(sizes)


def beginning_with(state: Tensor, projected: Tensor, batch_sizes: list[int] | None) -> Tensor:
    """[T + 1, B, D], of which the first is `state` [B, D]."""
    states = new_like(projected, batch_sizes, projected.shape[0] + 1, *state.shape)
    states[0] = state
    return states


def product_over_time(gradient: Tensor, read: Tensor) -> Tensor:
    """Gradient [M, N] of a weight whose product with `read` [T, B, N] has the gradient `gradient` [T, B, M]."""
    # the other order, gradient.T @ read, takes half as long again (MKL, 2600 gates of 650 units)
    return (read.flatten(0, 1).T @ gradient.flatten(0, 1)).T.contiguous()


@dataclass(frozen=True)
class SigmoidEquations:
    """h_t = σ(W x_t + b + U h_{t−1}); weights: (U,)."""

    def forward(self, projected, batch_sizes, state, weights):
        hidden = beginning_with(state[0], projected, batch_sizes)
        transposed = weights[0].T
        for x, h, new_h in zip(
            *(steps(tensor, batch_sizes) for tensor in (projected, hidden[:-1], hidden[1:])), strict=True
        ):
            torch.addmm(x, h, transposed, out=new_h).sigmoid_()
        return (hidden,), ()

    def backward(self, d_outputs, d_state, batch_sizes, weights, kept):
        (weight_hh,), (hidden,) = weights, kept
        d_projected = new_like(d_outputs, batch_sizes, *d_outputs.shape)
        over_time = (steps(tensor, batch_sizes) for tensor in (d_outputs, hidden[1:], d_projected))
        for d_output, h, d_sum in reversed(list(zip(*over_time, strict=True))):
            d_h = d_state[0][: len(h)].add_(d_output)
            sigmoid_backward(d_h, h, grad_input=d_sum)
            torch.mm(d_sum, weight_hh, out=d_h)
        return d_projected, (product_over_time(d_projected, hidden[:-1]),)


@dataclass(frozen=True)
class LSTMEquations:
    """The LSTM with peepholes, coupled gates, clips and a projection, as `LSTMCell` explains them.

    weights: (U, V or None, P or None), where V are the peepholes and P the projection.
    """

    peephole: str | None
    coupled_gates: str | None
    cell_clip: float | None
    projection_clip: float | None

    @property
    def num_update_gates(self) -> int:
        """Gates before the candidate: i and f, or the one that stands for both."""
        return 1 if self.coupled_gates else 2

    def forward(self, projected, batch_sizes, state, weights):
        (weight_hh, weight_ch, weight_hr), size, num_updates = weights, state[1].shape[1], self.num_update_gates
        hidden, cells = (beginning_with(s, projected, batch_sizes) for s in state)
        gates = new_like(projected, batch_sizes, *projected.shape)
        squashed = new_like(projected, batch_sizes, *cells[1:].shape)  # tanh(c_t)
        exposed = torch.empty_like(squashed) if weight_hr is not None else hidden[1:]  # o ⊙ tanh(c_t)
        transposed = weight_hh.T
        updates, candidates, reads = gates.split([num_updates * size, size, size], dim=2)
        over_time = (
            steps(tensor, batch_sizes)
            for tensor in (
                projected, gates, updates, candidates, reads, squashed, exposed,
                hidden[:-1], hidden[1:], cells[:-1], cells[1:],
            )
        )  # fmt: skip
        for x, all_gates, update, candidate, o, tanh_c, m, h, new_h, c, new_c in zip(*over_time, strict=True):
            torch.addmm(x, h, transposed, out=all_gates)
            if self.peephole == "diagonal":
                update.unflatten(1, (num_updates, size)).addcmul_(c[:, None], weight_ch[:-1])
            elif self.peephole == "full":
                update.addmm_(c, weight_ch[:-size].T)
            update.sigmoid_()
            candidate.tanh_()
            if self.coupled_gates == "input":
                torch.lerp(c, candidate, update, out=new_c)
            elif self.coupled_gates == "forget":
                torch.lerp(candidate, c, update, out=new_c)
            else:
                i, f = update.split(size, dim=1)
                torch.mul(f, c, out=new_c).addcmul_(i, candidate)
            if self.cell_clip is not None:
                new_c.clamp_(-self.cell_clip, self.cell_clip)
            if self.peephole == "diagonal":
                o.addcmul_(new_c, weight_ch[-1])
            elif self.peephole == "full":
                o.addmm_(new_c, weight_ch[-size:].T)
            o.sigmoid_()
            torch.tanh(new_c, out=tanh_c)
            torch.mul(o, tanh_c, out=m)
            if weight_hr is not None:
                torch.mm(m, weight_hr.T, out=new_h)
                if self.projection_clip is not None:
                    new_h.clamp_(-self.projection_clip, self.projection_clip)
        return (hidden, cells), (gates, squashed)

    def backward(self, d_outputs, d_state, batch_sizes, weights, kept):
        (weight_hh, weight_ch, weight_hr), (hidden, cells, gates, tanh_c) = weights, kept
        size, num_updates = cells.shape[2], self.num_update_gates
        before, after = cells[:-1], cells[1:]
        *updates, g, o = gates.split(size, dim=2)

        # local derivatives: of m by the cell and by o; of the cell by its gates, before their σ and tanh
        exposure, slope_o = tanh_backward(o, tanh_c), sigmoid_backward(tanh_c, o)
        if self.coupled_gates is None:
            (i, keep), write = updates, updates[0]
            by_updates = [(g, i), (before, keep)]
        else:
            (u,) = updates
            keep, write = (1 - u, u) if self.coupled_gates == "input" else (u, 1 - u)
            by_updates = [(g - before if self.coupled_gates == "input" else before - g, u)]
        slopes = torch.cat([*(sigmoid_backward(*pair) for pair in by_updates), tanh_backward(write, g)], dim=2)
        if self.cell_clip is not None:
            # a clipped cell no longer moves with its gates, nor with the cell before it
            inside_c = steps(after.abs() < self.cell_clip, batch_sizes)
        if self.projection_clip is not None:
            inside_h = steps(hidden[1:].abs() < self.projection_clip, batch_sizes)

        d_gates = new_like(gates, batch_sizes, *gates.shape)
        d_updates, d_reads = d_gates.split([(num_updates + 1) * size, size], dim=2)
        d_projections = new_like(d_outputs, batch_sizes, *d_outputs.shape) if weight_hr is not None else None
        over_time = [
            steps(tensor, batch_sizes)
            for tensor in (d_outputs, d_gates, d_updates, d_reads, slopes, slope_o, exposure, keep)
        ]
        for t in reversed(range(len(gates))):
            d_output, d_all, d_update, d_o, slope, slope_of_o, expose, kept_share = (part[t] for part in over_time)
            d_h, d_c = (d[: len(d_all)] for d in d_state)
            d_h.add_(d_output)
            d_m = d_h
            if weight_hr is not None:
                if self.projection_clip is not None:
                    d_h.mul_(inside_h[t])
                d_projections[t, : len(d_h)] = d_h
                d_m = d_h @ weight_hr
            torch.mul(d_m, slope_of_o, out=d_o)
            d_c.addcmul_(d_m, expose)
            if self.peephole == "diagonal":
                d_c.addcmul_(d_o, weight_ch[-1])
            elif self.peephole == "full":
                d_c.addmm_(d_o, weight_ch[-size:])
            if self.cell_clip is not None:
                d_c.mul_(inside_c[t])
            by_gate = (num_updates + 1, size)
            torch.mul(d_c[:, None], slope.unflatten(1, by_gate), out=d_update.unflatten(1, by_gate))
            torch.mm(d_all, weight_hh, out=d_h)
            d_c.mul_(kept_share)
            if self.peephole == "diagonal":
                for gate in range(num_updates):
                    d_c.addcmul_(d_update[:, gate * size : (gate + 1) * size], weight_ch[gate])
            elif self.peephole == "full":
                d_c.addmm_(d_update[:, :-size], weight_ch[:-size])

        d_weight_ch = d_weight_hr = None
        if self.peephole == "diagonal":
            read = [before] * num_updates + [after]
            d_reading = [*d_updates.split(size, dim=2)[:-1], d_reads]
            d_weight_ch = torch.stack([(d * c).sum((0, 1)) for d, c in zip(d_reading, read, strict=True)])
        elif self.peephole == "full":
            d_inwards = product_over_time(d_updates[..., :-size], before)
            d_weight_ch = torch.cat([d_inwards, product_over_time(d_reads, after)])
        if weight_hr is not None:
            d_weight_hr = product_over_time(d_projections, o * tanh_c)
        return d_gates, (product_over_time(d_gates, hidden[:-1]), d_weight_ch, d_weight_hr)


@dataclass(frozen=True)
class GRUEquations:
    """The GRU whose reset gate acts before the recurrent product, as `GRUCell` explains it; weights: (U,)."""

    update_convention: str

    def forward(self, projected, batch_sizes, state, weights):
        hidden = beginning_with(state[0], projected, batch_sizes)
        size = hidden.shape[2]
        weight_gates, weight_candidate = (weight.T for weight in weights[0].split([2 * size, size]))
        gates = new_like(projected, batch_sizes, *projected.shape)
        resets = new_like(projected, batch_sizes, *hidden[1:].shape)  # r ⊙ h_{t−1}
        over_time = (
            steps(tensor, batch_sizes)
            for tensor in (
                *projected.split([2 * size, size], dim=2),
                *gates.split([2 * size, size], dim=2),
                resets, hidden[:-1], hidden[1:],
            )
        )  # fmt: skip
        for x_gates, x_candidate, r_and_z, candidate, reset, h, new_h in zip(*over_time, strict=True):
            torch.addmm(x_gates, h, weight_gates, out=r_and_z).sigmoid_()
            r, z = r_and_z.split(size, dim=1)
            torch.mul(r, h, out=reset)
            torch.addmm(x_candidate, reset, weight_candidate, out=candidate).tanh_()
            old, new = (candidate, h) if self.update_convention == "keep" else (h, candidate)
            torch.lerp(old, new, z, out=new_h)
        return (hidden,), (gates, resets)

    def backward(self, d_outputs, d_state, batch_sizes, weights, kept):
        (hidden, gates, resets), before = kept, kept[0][:-1]
        size = hidden.shape[2]
        weight_gates, weight_candidate = weights[0].split([2 * size, size])
        r, z, candidate = gates.split(size, dim=2)
        keep, replace = (z, 1 - z) if self.update_convention == "keep" else (1 - z, z)
        difference = before - candidate if self.update_convention == "keep" else candidate - before
        slope_r, slope_z = sigmoid_backward(before, r), sigmoid_backward(difference, z)
        slope_candidate = tanh_backward(replace, candidate)

        d_gates = new_like(gates, batch_sizes, *gates.shape)
        d_both, d_candidates = d_gates.split([2 * size, size], dim=2)
        d_resets, d_updates = d_both.split(size, dim=2)
        over_time = (
            steps(tensor, batch_sizes)
            for tensor in (
                d_outputs, d_both, d_resets, d_updates, d_candidates, slope_r, slope_z, slope_candidate, keep, r,
            )
        )  # fmt: skip
        backwards = reversed(list(zip(*over_time, strict=True)))
        for d_output, d_r_and_z, d_r, d_z, d_n, slope_of_r, slope_of_z, slope_of_n, kept_share, reset in backwards:
            d_h = d_state[0][: len(d_r)].add_(d_output)
            torch.mul(d_h, slope_of_n, out=d_n)
            torch.mul(d_h, slope_of_z, out=d_z)
            d_reset = d_n @ weight_candidate
            torch.mul(d_reset, slope_of_r, out=d_r)
            d_h.mul_(kept_share).addcmul_(d_reset, reset).addmm_(d_r_and_z, weight_gates)
        d_weight = torch.cat([product_over_time(d_both, before), product_over_time(d_candidates, resets)])
        return d_gates, (d_weight,)
