"""Fast paths of recurrent cells: torch's fused kernels, and recurrences with handwritten derivatives.

`run_fast` alone decides. A cell runs in torch's kernel if there is one, otherwise in one `Recurrence`. A plain loop
would record every operation of every step in autograd, and sum many small products for the gradient of the recurrent
weights. `Recurrence` computes W x + b for all time steps at once. Its forward loop keeps the gates, its backward loop
turns them into their gradients while it carries the state's gradient from step to step, and every weight's gradient is
a single product over all steps. Time comes first. States and outputs after a row's end are zero.

On a GPU, where Python takes longer to launch a step's fifteen operations than the GPU to run them, Triton's kernels
compute each step in one or two launches besides its products (`fast_steps.py`); lengths stay on the GPU. Where Triton
is missing or fails, a warning says so and the loops below run. They need the lengths on the CPU: rows are sorted by
length, longest first, so that step t runs only the first `batch_sizes[t]` rows; None means all rows at every step.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .fast_steps import FusedGRU, FusedLSTM, FusedSigmoid, may_fuse, on_device_of, product_dtype, works
from .inputs import SWITCH, fast_paths_allowed, is_recorded


# the gradient at the input of a sigmoid or tanh from that at its output, (gradient, output) -> gradient, in one pass
sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
# (gradient, clipped, low, high) -> gradient, zero at clipped values
clip_backward = torch.ops.aten.hardtanh_backward


def run_fast(
    cell: nn.Module, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """The result of `step_by_step` over x [B, T, E] on a faster path, or None if there is none.

    A single time step is always one call of `step`. An export records the steps, since kernels need the lengths in
    Python. A user's own cell may have another equation, so cells are known by the names of their classes.
    """
    if x.shape[1] == 1 or type(cell).__name__ not in EQUATIONS or not may_run(x):
        return None
    kernel = kernel_of(cell)
    return run_equations(cell, x, state, lengths) if kernel is None else run_kernel(kernel, cell, x, state, lengths)


def may_run(x: Tensor) -> bool:
    """Whether fast paths are allowed, and no export or trace records what is done with `x`: it cannot leave its graph.

    Asked for every cell, so it asks nobody else.
    """
    is_traced = torch.jit.is_tracing() or isinstance(x, FakeTensor)
    is_exported = torch.compiler.is_exporting() if torch.compiler.is_compiling() else is_traced
    return os.environ.get(SWITCH, "") in ("", "0") and not is_exported


def for_one_row(cell: nn.Module, state: Tensor) -> nn.Module:
    """The cell for a call on one row, as in generation; `state` is the row's [1, D]."""
    if not fast_paths_allowed() or is_recorded(state):
        return cell
    faster = type(cell).__new__(type(cell))
    faster.__dict__.update(cell.__dict__, linear=linear_of_row)
    return faster


def linear_of_row(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's linear of x [1, K]: matrix times vector takes half the time of the general product."""
    if x.shape[0] > 1 or x.dtype is not weight.dtype:
        return linear(x, weight, bias)
    return (torch.mv(weight, x[0]) if bias is None else torch.addmv(bias, weight, x[0]))[None]


def why_no_kernel(cell: nn.Module) -> str | None:
    """Why torch's kernels cannot compute this cell, or None if they can."""
    kind = type(cell).__name__
    if kind == "RNNCell":
        return None if cell.hidden_act in ("tanh", "relu") else f"hidden_act {cell.hidden_act}"
    if kind == "GRUCell":
        return None if cell.reset_mode == "after" else f"reset_mode {cell.reset_mode}"
    if kind != "LSTMCell":
        return kind
    if cell.peephole:
        return f"peephole {cell.peephole}"
    if cell.cell_clip is not None or cell.projection_clip is not None:
        return f"cell_clip {cell.cell_clip}, projection_clip {cell.projection_clip}"
    if cell.weight_hr is not None and cell.output_size == cell.hidden_size:
        # torch recognises a projection by the lengths of the states
        return f"projection_size {cell.output_size}, the same as hidden_size"
    return None


def kernel_of(cell: nn.Module) -> Callable | None:
    """torch's kernel for a whole sequence, or None if there is none or it is slower."""
    if why_no_kernel(cell):
        return None
    if type(cell).__name__ == "RNNCell":
        return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}[cell.hidden_act]
    if type(cell).__name__ == "GRUCell":
        return torch.gru
    # on the CPU torch has no fast projection, and would compute a coupled gate twice
    plain = cell.weight_hr is None and cell.coupled_gates is None
    return torch.lstm if plain or cell.weight_hh.is_cuda else None


def hidden_bias(cell: nn.Module) -> Tensor:
    """torch's second bias [G·D], added to the recurrent product."""
    if type(cell).__name__ == "GRUCell" and cell.bias_hn is not None:
        return torch.cat([cell.bias.new_zeros(2 * cell.hidden_size), cell.bias_hn])
    return torch.zeros_like(cell.bias)


def kernel_weights(cell: nn.Module) -> list[Tensor]:
    """The cell's weights in the form of torch's kernels and modules: W, U, two biases and, if any, R."""
    weights = [cell.weight_ih, cell.weight_hh, cell.bias, hidden_bias(cell)]
    if type(cell).__name__ == "GRUCell" and cell.update_convention == "replace":
        # 1 − σ(a) = σ(−a): the other convention negates the update gate's input
        reset, update, candidate = zip(*(w.chunk(3) for w in weights), strict=True)
        return [torch.cat([r, -z, n]) for r, z, n in zip(reset, update, candidate, strict=True)]
    if type(cell).__name__ == "LSTMCell" and cell.coupled_gates is not None:
        weights = [uncoupled(cell, w) for w in weights]
    if type(cell).__name__ == "LSTMCell" and cell.weight_hr is not None:
        weights.append(cell.weight_hr)
    return weights


def uncoupled(cell: nn.Module, stacked: Tensor) -> Tensor:
    """The four gates i, f, g, o of an LSTM with coupled gates, since 1 − σ(a) = σ(−a)."""
    gate, rest = stacked[: cell.hidden_size], stacked[cell.hidden_size :]
    both = (gate, -gate) if cell.coupled_gates == "input" else (-gate, gate)
    return torch.cat([*both, rest])


def flat_weights(weights: list[Tensor]) -> list[Tensor]:
    """The same weights in one piece of memory and in cuDNN's order: matrices, then biases.

    Otherwise cuDNN copies them so in every call, and warns.
    """
    order = sorted(range(len(weights)), key=lambda i: -weights[i].dim())
    flat = torch.cat([weights[i].flatten() for i in order])
    parts = dict(zip(order, flat.split([weights[i].numel() for i in order]), strict=True))
    return [parts[i].view_as(weight) for i, weight in enumerate(weights)]


# torch.compile cannot trace packed sequences, and has nothing to add to one call of a kernel
@torch.compiler.disable
def run_kernel(
    kernel: Callable, cell: nn.Module, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cell's forward through one call of `kernel`, on a packed sequence if rows differ in length.

    Under autocast the kernel runs in the autocast's dtype, as its outputs and states are.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        # autocast itself would run cuDNN in float16, where the small gradients of bfloat16's unscaled loss vanish
        x, kernel = x.to(torch.get_autocast_dtype(device)), torch.autocast(device, enabled=False)(kernel)
    weights = [w.to(x.dtype) for w in kernel_weights(cell)]
    weights = flat_weights(weights) if x.is_cuda else weights
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)  # biases, layers, dropout, train, bidirectional
    state = [s.to(x.dtype) for s in state]
    if lengths is None:
        # cuDNN reads contiguous states only
        states = [s[None].contiguous() for s in state]
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


# oneDNN's product, private to torch: where it is missing, the usual one serves
has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_serves(weight: Tensor) -> bool:
    return has_onednn and weight.dtype is torch.float32 and weight.device.type == "cpu"


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [N, K] and weight [M, K] -> x weight.T + bias [N, M]."""
    if onednn_serves(weight):
        # up to a third faster than the usual product, depending on the shape
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return linear(x, weight, bias)


def product_with(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """x [rows, K] -> x weight.T [rows, M], for one weight [M, K] and many x."""
    if onednn_serves(weight):
        # packed once for all steps, where the usual product packs it in each: a quarter less time for 20 rows
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return lambda x: linear(x, weight)


def product_over_time(gradient: Tensor, read: Tensor) -> Tensor:
    """Gradient [M, K] of a weight whose product with `read` [T, B, K] has the gradient `gradient` [T, B, M]."""
    gradient, read = gradient.flatten(0, 1), read.flatten(0, 1)
    if read.shape[1] <= 400:
        # oneDNN's product is faster, but copies what is transposed, which for so few columns costs as much or more
        return gradient.T @ read
    return product(gradient.T, read.T)


class Recurrence(torch.autograd.Function):
    """x [T, B, E] -> outputs [T, B, P] and the last states of `equations` (below), from the first ones.

    weight_ih is W [G·D, E], bias b [G·D]; `states_and_weights` are the first states and what the equations read.
    `rows` are batch sizes or None, for fused steps the lengths [B] on the device.

    Raises:
        RuntimeError: a second derivative is asked for.
    """

    @staticmethod
    def forward(ctx, equations, rows, num_states, x, weight_ih, bias, *states_and_weights):
        state, weights = states_and_weights[:num_states], states_and_weights[num_states:]
        projected = product(x.flatten(0, 1), weight_ih, bias).unflatten(0, x.shape[:2])  # [T, B, G·D]
        states, kept = equations.forward(projected, rows, state, weights)
        ctx.equations, ctx.rows, ctx.num_weights = equations, rows, len(weights)
        ctx.save_for_backward(x, weight_ih, *weights, *states, *kept)
        # the state after row b's last token is at index lengths[b]
        lengths, numbers = rows, torch.arange(x.shape[1], device=x.device)
        if isinstance(rows, list):
            lengths = (torch.tensor(rows, device=x.device)[:, None] > numbers).sum(0)
        # copies: a caller who keeps the last state would otherwise keep all states
        last = (states_of[-1 if rows is None else (lengths, numbers)].clone() for states_of in states)
        return states[0][1:], *last

    @staticmethod
    @once_differentiable
    def backward(ctx, d_outputs, *d_state):
        # read once, since gradient checkpointing recomputes them on access
        x, weight_ih, *saved = ctx.saved_tensors
        weights, kept = saved[: ctx.num_weights], saved[ctx.num_weights :]
        # the equations turn them into those at the first state
        d_state = tuple(d.clone(memory_format=torch.contiguous_format) for d in d_state)
        d_projected, d_weights = ctx.equations.backward(d_outputs, d_state, ctx.rows, weights, kept)
        d_x = None
        if ctx.needs_input_grad[3]:
            d_x = product(d_projected.flatten(0, 1), weight_ih.T).view(x.shape)
        d_weight_ih = product_over_time(d_projected, x)
        return None, None, None, d_x, d_weight_ih, d_projected.sum((0, 1)), *d_state, *d_weights


def rows_over_time(tensor: Tensor, batch_sizes: list[int] | None) -> list[int]:
    """The number of rows of `tensor` [T, B, …] that each step runs."""
    return [tensor.shape[1]] * tensor.shape[0] if batch_sizes is None else batch_sizes


def new_like(tensor: Tensor, batch_sizes: list[int] | None, *sizes: int) -> Tensor:
    """Memory for the loops to fill; steps after a row's end stay zero."""
    return tensor.new_empty(sizes) if batch_sizes is None else tensor.new_zeros(sizes)


def beginning_with(state: Tensor, projected: Tensor, batch_sizes: list[int] | None) -> Tensor:
    """Memory [T + 1, B, D] whose first entry is `state` [B, D]."""
    states = new_like(projected, batch_sizes, projected.shape[0] + 1, *state.shape)
    states[0] = state
    return states


@dataclass(frozen=True)
class SigmoidEquations:
    """h_t = σ(W x_t + b + U h_{t−1}); weights: (U,)."""

    def forward(self, projected, batch_sizes, state, weights):
        hidden = beginning_with(state[0], projected, batch_sizes)
        recurrent = product_with(weights[0], projected.shape[1])
        for t, n in enumerate(rows_over_time(projected, batch_sizes)):
            torch.add(projected[t, :n], recurrent(hidden[t, :n]), out=hidden[t + 1, :n]).sigmoid_()
        return (hidden,), ()

    def backward(self, d_outputs, d_state, batch_sizes, weights, kept):
        (hidden,) = kept
        recurrent = product_with(weights[0].T, d_outputs.shape[1])
        d_sums = new_like(d_outputs, batch_sizes, *d_outputs.shape)
        for t, n in reversed(list(enumerate(rows_over_time(d_outputs, batch_sizes)))):
            d_h = d_state[0][:n].add_(d_outputs[t, :n])
            sigmoid_backward(d_h, hidden[t + 1, :n], grad_input=d_sums[t, :n])
            d_h.copy_(recurrent(d_sums[t, :n]))
        return d_sums, (product_over_time(d_sums, hidden[:-1]),)


@dataclass(frozen=True)
class LSTMEquations:
    """The LSTM with peepholes, coupled gates, clips and a projection, as explained in `LSTMCell`.

    weights: (U, V or None, R or None), where V are the peepholes and R the projection. The gates that update the cell
    (i and f, or one coupled gate) come before the candidate g and the output gate o.
    """

    peephole: str | None
    coupled_gates: str | None
    cell_clip: float | None
    projection_clip: float | None

    def forward(self, projected, batch_sizes, state, weights):
        (weight_hh, weight_ch, weight_hr), size = weights, state[1].shape[1]
        num_updates = weight_hh.shape[0] // size - 2
        hidden, cells = (beginning_with(s, projected, batch_sizes) for s in state)
        # in place, since touching new memory costs more than this arithmetic
        gates = projected
        tanh_cells = new_like(projected, batch_sizes, *cells[1:].shape)
        recurrent = product_with(weight_hh, projected.shape[1])
        project = product_with(weight_hr, projected.shape[1]) if weight_hr is not None else None
        for t, n in enumerate(rows_over_time(projected, batch_sizes)):
            c, new_c, new_h = cells[t, :n], cells[t + 1, :n], hidden[t + 1, :n]
            sums = gates[t, :n].add_(recurrent(hidden[t, :n]))
            update, g, o = sums.split([num_updates * size, size, size], dim=1)
            if self.peephole == "diagonal":
                update.unflatten(1, (num_updates, size)).addcmul_(c[:, None], weight_ch[:-1])
            elif self.peephole == "full":
                update.addmm_(c, weight_ch[:-size].T)
            update.sigmoid_()
            g.tanh_()
            if self.coupled_gates == "input":
                torch.lerp(c, g, update, out=new_c)
            elif self.coupled_gates == "forget":
                torch.lerp(g, c, update, out=new_c)
            else:
                i, f = update.split(size, dim=1)
                torch.mul(f, c, out=new_c).addcmul_(i, g)
            if self.cell_clip is not None:
                new_c.clamp_(-self.cell_clip, self.cell_clip)
            if self.peephole == "diagonal":
                o.addcmul_(new_c, weight_ch[-1])
            elif self.peephole == "full":
                o.addmm_(new_c, weight_ch[-size:].T)
            o.sigmoid_()
            tanh_c = torch.tanh(new_c, out=tanh_cells[t, :n])
            if project is None:
                torch.mul(o, tanh_c, out=new_h)
            else:
                new_h.copy_(project(o * tanh_c))
                if self.projection_clip is not None:
                    new_h.clamp_(-self.projection_clip, self.projection_clip)
        return (hidden, cells), (gates, tanh_cells)

    def backward(self, d_outputs, d_state, batch_sizes, weights, kept):
        (weight_hh, weight_ch, weight_hr), (hidden, cells, gates, tanh_cells) = weights, kept
        size = cells.shape[2]
        num_updates = weight_hh.shape[0] // size - 2
        d_gates = new_like(gates, batch_sizes, *gates.shape)
        d_projected_h = new_like(d_outputs, batch_sizes, *d_outputs.shape) if weight_hr is not None else None
        recurrent = product_with(weight_hh.T, gates.shape[1])
        unproject = product_with(weight_hr.T, gates.shape[1]) if weight_hr is not None else None
        for t, n in reversed(list(enumerate(rows_over_time(gates, batch_sizes)))):
            d_h, d_c, d_sums = d_state[0][:n], d_state[1][:n], d_gates[t, :n]
            c, new_c, tanh_c = cells[t, :n], cells[t + 1, :n], tanh_cells[t, :n]
            *update, g, o = gates[t, :n].split(size, dim=1)
            *d_update, d_g, d_o = d_sums.split(size, dim=1)

            d_h.add_(d_outputs[t, :n])
            d_exposed = d_h  # by o ⊙ tanh(c_t)
            if unproject is not None:
                if self.projection_clip is not None:
                    # a clipped value passes no gradient on
                    clip = self.projection_clip
                    clip_backward(d_h, hidden[t + 1, :n], -clip, clip, grad_input=d_h)
                d_projected_h[t, :n] = d_h
                d_exposed = unproject(d_projected_h[t, :n])
            sigmoid_backward(d_exposed * tanh_c, o, grad_input=d_o)
            d_c.add_(tanh_backward(d_exposed * o, tanh_c))
            if self.peephole == "diagonal":
                d_c.addcmul_(d_o, weight_ch[-1])
            elif self.peephole == "full":
                d_c.addmm_(d_o, weight_ch[-size:])
            if self.cell_clip is not None:
                clip_backward(d_c, new_c, -self.cell_clip, self.cell_clip, grad_input=d_c)

            if self.coupled_gates is None:
                i, f = update
                sigmoid_backward(d_c * g, i, grad_input=d_update[0])
                sigmoid_backward(d_c * c, f, grad_input=d_update[1])
                tanh_backward(d_c * i, g, grad_input=d_g)
                d_c.mul_(f)
            else:
                opened, other = (g, c) if self.coupled_gates == "input" else (c, g)
                sigmoid_backward((opened - other).mul_(d_c), update[0], grad_input=d_update[0])
                d_opened = d_c * update[0]
                d_other = d_c.sub_(d_opened)
                by_g, by_c = (d_opened, d_other) if self.coupled_gates == "input" else (d_other, d_opened)
                tanh_backward(by_g, g, grad_input=d_g)
                d_c.copy_(by_c)
            d_h.copy_(recurrent(d_sums))
            if self.peephole == "diagonal":
                for d_gate, weight in zip(d_update, weight_ch[:-1].unbind(0), strict=True):
                    d_c.addcmul_(d_gate, weight)
            elif self.peephole == "full":
                d_c.addmm_(d_sums[:, : num_updates * size], weight_ch[:-size])

        d_weight_ch = d_weight_hr = None
        *d_updates, _, d_reads = d_gates.split(size, dim=2)
        if self.peephole == "diagonal":
            read = [cells[:-1]] * num_updates + [cells[1:]]
            d_reading = [*d_updates, d_reads]
            d_weight_ch = torch.stack([(d * c).sum((0, 1)) for d, c in zip(d_reading, read, strict=True)])
        elif self.peephole == "full":
            by_old = product_over_time(d_gates[..., : num_updates * size], cells[:-1])
            d_weight_ch = torch.cat([by_old, product_over_time(d_reads, cells[1:])])
        if weight_hr is not None:
            d_weight_hr = product_over_time(d_projected_h, gates[..., -size:] * tanh_cells)
        return d_gates, (product_over_time(d_gates, hidden[:-1]), d_weight_ch, d_weight_hr)


@dataclass(frozen=True)
class GRUEquations:
    """The GRU whose reset gate acts before the recurrent product, as explained in `GRUCell`; weights: (U,)."""

    update_convention: str

    def forward(self, projected, batch_sizes, state, weights):
        hidden = beginning_with(state[0], projected, batch_sizes)
        size = hidden.shape[2]
        for_gates, for_candidate = (
            product_with(weight, projected.shape[1]) for weight in weights[0].split([2 * size, size])
        )
        gates = new_like(projected, batch_sizes, *projected.shape)
        resets = new_like(projected, batch_sizes, *hidden[1:].shape)  # r ⊙ h_{t−1}
        for t, n in enumerate(rows_over_time(projected, batch_sizes)):
            h, (x_gates, x_candidate) = hidden[t, :n], projected[t, :n].split([2 * size, size], dim=1)
            both, candidate = gates[t, :n].split([2 * size, size], dim=1)
            r, z = torch.add(x_gates, for_gates(h), out=both).sigmoid_().split(size, dim=1)
            reset = torch.mul(r, h, out=resets[t, :n])
            torch.add(x_candidate, for_candidate(reset), out=candidate).tanh_()
            old, new = (candidate, h) if self.update_convention == "keep" else (h, candidate)
            torch.lerp(old, new, z, out=hidden[t + 1, :n])
        return (hidden,), (gates, resets)

    def backward(self, d_outputs, d_state, batch_sizes, weights, kept):
        hidden, gates, resets = kept
        size = hidden.shape[2]
        by_gates, by_candidate = (
            product_with(weight.T, gates.shape[1]) for weight in weights[0].split([2 * size, size])
        )
        # each contiguous, so that oneDNN need not copy its rows
        d_candidates = new_like(gates, batch_sizes, *resets.shape)
        d_updates = new_like(gates, batch_sizes, *gates.shape[:2], 2 * size)
        for t, n in reversed(list(enumerate(rows_over_time(gates, batch_sizes)))):
            h, (r, z, candidate) = hidden[t, :n], gates[t, :n].split(size, dim=1)
            d_r, d_z = d_updates[t, :n].split(size, dim=1)
            d_h = d_state[0][:n].add_(d_outputs[t, :n])
            if self.update_convention == "keep":
                d_kept = d_h * z
                d_replaced = d_h - d_kept
                sigmoid_backward((h - candidate).mul_(d_h), z, grad_input=d_z)
            else:
                d_replaced = d_h * z
                d_kept = d_h - d_replaced
                sigmoid_backward((candidate - h).mul_(d_h), z, grad_input=d_z)
            tanh_backward(d_replaced, candidate, grad_input=d_candidates[t, :n])
            d_reset = by_candidate(d_candidates[t, :n])
            sigmoid_backward(d_reset * h, r, grad_input=d_r)
            d_h.copy_(d_kept.addcmul_(d_reset, r).add_(by_gates(d_updates[t, :n])))
        d_weight = [product_over_time(d_updates, hidden[:-1]), product_over_time(d_candidates, resets)]
        return torch.cat([d_updates, d_candidates], dim=2), (torch.cat(d_weight),)


# the equations of each cell, and the weights that they read
EQUATIONS = {
    "RNNCell": lambda cell: (SigmoidEquations(), cell.weight_hh),
    "LSTMCell": lambda cell: (
        LSTMEquations(cell.peephole, cell.coupled_gates, cell.cell_clip, cell.projection_clip),
        cell.weight_hh,
        cell.weight_ch,
        cell.weight_hr,
    ),
    "GRUCell": lambda cell: (GRUEquations(cell.update_convention), cell.weight_hh),
}


FUSED = {SigmoidEquations: FusedSigmoid, LSTMEquations: FusedLSTM, GRUEquations: FusedGRU}


# torch.compile has nothing to add
@torch.compiler.disable
def run_equations(
    cell: nn.Module, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, fused: bool | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cell's forward through one `Recurrence`, on rows sorted by length where they differ in it.

    `fused` says whether Triton's kernels compute the steps, by default where they can.
    """
    if may_fuse(cell.weight_ih) if fused is None else fused:
        found = run_fused(cell, x, state, lengths, tries=fused is None)
        if found is not None:
            return found
    batch_sizes = None
    if lengths is not None:
        lengths = lengths.cpu()
        by_length = lengths.argsort(descending=True)
        time = torch.arange(x.shape[1])
        batch_sizes = (lengths > time[:, None]).sum(1).tolist()
        order, inverse = by_length.to(x.device), by_length.argsort().to(x.device)
        x, state = x[order], tuple(s[order] for s in state)
    # the steps add to one state, in which rounding errors of a lower precision would accumulate
    with torch.autocast(x.device.type, enabled=False):
        dtype = cell.weight_ih.dtype
        equations, *weights = EQUATIONS[type(cell).__name__](cell)
        outputs, *state = Recurrence.apply(
            equations,
            batch_sizes,
            cell.num_states,
            x.transpose(0, 1).to(dtype),
            cell.weight_ih,
            cell.bias,
            *(s.to(dtype) for s in state),
            *weights,
        )
    outputs = outputs.transpose(0, 1)  # [B, T, P]
    if lengths is not None:
        outputs, state = outputs[inverse], [s[inverse] for s in state]
    return outputs, tuple(state)


def run_fused(
    cell: nn.Module, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, *, tries: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """The cell's forward through one `Recurrence` with fused steps; with `tries` None if Triton cannot run them."""
    dtype = product_dtype(cell.weight_ih)
    equations, *weights = EQUATIONS[type(cell).__name__](cell)
    fused = FUSED[type(equations)](**vars(equations))
    # the kernels read diagonal peepholes, in full precision
    is_read = getattr(cell, "peephole", None) == "diagonal"
    weights = [w if w is None or (is_read and w is cell.weight_ch) else w.to(dtype) for w in weights]
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
    else:
        # such a copy to a GPU is the only one that Python does not wait for
        lengths = lengths.to(x.device, torch.int64, non_blocking=True).clamp(0, x.shape[1])
    with torch.autocast(x.device.type, enabled=False), on_device_of(x):
        if tries and not works(fused, state, weights, cell.bias.detach().to(dtype).view(1, 1, -1)):
            return None
        outputs, *state = Recurrence.apply(
            fused,
            lengths,
            cell.num_states,
            x.transpose(0, 1).to(dtype),
            cell.weight_ih.to(dtype),
            cell.bias.to(dtype),
            *(s.float() for s in state),
            *weights,
        )
    dtype = cell.weight_ih.dtype
    return outputs.transpose(0, 1).to(dtype), tuple(s.to(dtype) for s in state)
