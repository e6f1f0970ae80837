"""Recurrent cells: RNN, LSTM and GRU, with the variants that later papers name.

`step` of each cell is the paper's equation. Whole sequences go through torch's fused kernels where these compute the
same, elsewhere through one `Recurrence` with derivatives by hand. Weights are stacked gate by gate in torch's order,
with one bias where torch.nn keeps two redundant ones.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .fast_recurrence import GRUEquations, LSTMEquations, Recurrence, SigmoidEquations


def linear_of_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [B, K] and weight [M, K] -> x weight.T + bias [B, M]."""
    if x.shape[0] == 1 and x.dtype is weight.dtype:
        # one row, as in generation: matrix times vector takes half the time of the general product
        row = torch.mv(weight, x[0]) if bias is None else torch.addmv(bias, weight, x[0])
        return row[None]
    return linear(x, weight, bias)


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
        """Length of each state: h [B, P], then the cell c [B, D] where there is one."""
        return (self.output_size, self.hidden_size)[: self.num_states]

    def initial_state(self, x: Tensor) -> tuple[Tensor, ...]:
        """Zeros: what the network remembers before the first token."""
        return tuple(x.new_zeros(x.shape[0], size) for size in self.state_sizes)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One time step: projected = W x_t + b [B, G·D] and the state before -> the state after, h first."""
        raise NotImplementedError

    def without_kernel(self) -> str | None:
        """What keeps torch's kernels from computing this cell; None if nothing does."""
        return None

    def fused_kernel(self):
        """torch's kernel for a whole sequence, or None where there is none, or a slower one."""
        return None

    def hidden_bias(self) -> Tensor:
        """torch's second bias [G·D], added to the recurrent product."""
        return torch.zeros_like(self.bias)

    def fused_weights(self, weight_hh: Tensor) -> list[Tensor]:
        """What the kernel takes."""
        return [self.weight_ih, weight_hh, self.bias, self.hidden_bias()]

    def equations(self):
        """The cell for `Recurrence`; only where there is no fused kernel."""
        raise NotImplementedError

    def equation_weights(self, weight_hh: Tensor) -> tuple[Tensor | None, ...]:
        """The weights that the equations read."""
        return (weight_hh,)

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None, run=None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x [B, T, E] -> every h [B, T, P] and the state after each row's last token.

        Row b holds `lengths[b]` tokens (on the CPU; None = T everywhere) followed by padding, over which h is zero.
        With `run`, it is run(self, x, state) instead: offloaded and sharded weights are here during this call only.
        """
        if run is not None:
            return run(self, x, state)
        state = self.initial_state(x) if state is None else state
        if x.numel() == 0:
            return x.new_zeros(*x.shape[:2], self.output_size), state
        drops = self.training and self.weight_dropout > 0
        if x.shape[1] == 1 and not drops:
            return self.run_steps(x, state, lengths)
        weight_hh = dropout(self.weight_hh, self.weight_dropout) if drops else self.weight_hh
        kernel = self.fused_kernel()
        if kernel is None:
            return self.run_equations(x, state, lengths, weight_hh)
        return self.run_fused(kernel, x, state, lengths, weight_hh)

    def run_steps(self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None):
        """The recurrence written out: W x + b for all time steps at once, then one `step` after the other."""
        projected = linear_of_rows(x.flatten(0, 1), self.weight_ih, self.bias).unflatten(0, x.shape[:2])  # [B, T, G·D]
        if lengths is not None:
            is_token = torch.arange(x.shape[1]) < lengths[:, None]
            is_token = is_token.to(x.device)[..., None]  # [B, T, 1]
        outputs = []
        for t in range(x.shape[1]):
            new_state = self.step(projected[:, t], state)
            if lengths is None:
                state = new_state
                outputs.append(state[0])
            else:
                state = tuple(torch.where(is_token[:, t], new, old) for new, old in zip(new_state, state, strict=True))
                outputs.append(state[0] * is_token[:, t])
        return torch.stack(outputs, dim=1), state

    # torch.compile cannot trace packed sequences, and has nothing to add to one call of a kernel
    @torch.compiler.disable
    def run_fused(self, kernel, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, weight_hh: Tensor):
        """The same through one call of torch's kernel, on a packed sequence where rows differ in length."""
        weights = self.fused_weights(weight_hh)
        options = (True, 1, 0.0, torch.is_grad_enabled(), False)  # biases, layers, dropout, train, bidirectional
        if lengths is None:
            states = [s[None] for s in state]
            outputs, *states = kernel(x, states if len(states) > 1 else states[0], weights, *options, True)
            return outputs, tuple(s[0] for s in states)

        packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        states = [s[packed.sorted_indices][None] for s in state]
        data, *states = kernel(
            packed.data, packed.batch_sizes, states if len(states) > 1 else states[0], weights, *options
        )
        outputs, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=x.shape[1])
        new_state = tuple(s[0][packed.unsorted_indices] for s in states)
        if lengths.min() == 0:
            # packing knows no empty rows: such a row was run over one padding token, which is undone here
            has_token = (lengths > 0).to(x.device)[:, None]
            outputs = outputs * has_token[..., None]
            new_state = tuple(torch.where(has_token, new, old) for new, old in zip(new_state, state, strict=True))
        return outputs, new_state

    # as with the kernels, there is nothing to add
    @torch.compiler.disable
    def run_equations(self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, weight_hh: Tensor):
        """The same through one `Recurrence`, on rows sorted by length where they differ in it."""
        batch_sizes = None
        if lengths is not None:
            by_length = lengths.argsort(descending=True)
            time = torch.arange(x.shape[1])
            batch_sizes = (lengths > time[:, None]).sum(1).tolist()
            order, inverse = by_length.to(x.device), by_length.argsort().to(x.device)
            x, state = x[order], tuple(s[order] for s in state)
        # the steps add into one state, where a lower precision's rounding would pile up
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.weight_ih.dtype
            outputs, *state = Recurrence.apply(
                self.equations(),
                batch_sizes,
                self.num_states,
                x.transpose(0, 1).to(dtype),
                self.weight_ih,
                self.bias,
                *(s.to(dtype) for s in state),
                *self.equation_weights(weight_hh),
            )
        outputs = outputs.transpose(0, 1)  # [B, T, P]
        if lengths is not None:
            outputs, state = outputs[inverse], [s[inverse] for s in state]
        return outputs, tuple(state)


def step_on(cell: RecurrentCell, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`cell(projected, state, run=step_on)` is cell.step(projected, state)."""
    return cell.step(projected, state)


def one_step(cell: RecurrentCell, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`cell(x, state, run=one_step)` reads x [B, E] in the state before it -> the state after it."""
    return cell.step(linear(x, cell.weight_ih, cell.bias), state)


class RNNCell(RecurrentCell):
    """h_t = φ(W x_t + U h_{t−1} + b)   (Elman, 1990)"""

    def __init__(self, input_size: int, hidden_size: int, hidden_act: str = "tanh", *, weight_dropout: float = 0.0):
        super().__init__(input_size, hidden_size, weight_dropout=weight_dropout)
        self.hidden_act = hidden_act

    def step(self, projected, state):
        activation = getattr(torch, self.hidden_act)
        return (activation(projected + linear_of_rows(state[0], self.weight_hh)),)

    def without_kernel(self):
        return None if self.hidden_act in ("tanh", "relu") else f"hidden_act {self.hidden_act}"

    def fused_kernel(self):
        return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}.get(self.hidden_act)

    def equations(self):
        return SigmoidEquations()


class LSTMCell(RecurrentCell):
    """c_t = f ⊙ c_{t−1} + i ⊙ g,  h_t = o ⊙ tanh(c_t)   (Hochreiter & Schmidhuber, 1997; Gers et al., 2000)

    The gates i, f, o = σ(…) and the candidate g = tanh(…) each read x_t and h_{t−1}.

    `peephole` lets the gates read the cell too, i and f the one before, o the new one: each unit its own
    ("diagonal": weight_ch [3, D]; Gers & Schmidhuber, 2000) or all of them ("full": weight_ch [3·D, D]).
    `coupled_gates` makes one gate of i and f: "input" keeps i, with f = 1 − i (CIFG; Greff et al., 2017), "forget"
    keeps f, with i = 1 − f. The stacked weights then have three gates, the peepholes two.
    `projection_size` P makes h_t = R (o ⊙ tanh(c_t)) [B, P] with weight_hr R [P, D] (LSTMP; Sak et al., 2014).
    `cell_clip` bounds c_t, before the output reads it, and `projection_clip` the projected h_t, to ± its value.
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
        # an input gate that stands for both starts closed by as much as the forget gate starts open
        gate, sign = {None: (1, 1), "input": (0, -1), "forget": (0, 1)}[self.coupled_gates]
        gates[gate] = sign * value
        return gates.flatten()

    def seen_through_peepholes(self, c: Tensor, first: int, last: int) -> Tensor:
        """What gates `first` to `last` (excluded) of [i, f, o], or of [the coupled one, o], read from c [B, D]."""
        if self.peephole == "diagonal":
            return (c[:, None] * self.weight_ch[first:last]).flatten(1)
        return linear_of_rows(c, self.weight_ch[first * self.hidden_size : last * self.hidden_size])

    def step(self, projected, state):
        h, c = state
        size, num_updates = self.hidden_size, self.num_gates - 2
        update, g, o = (projected + linear_of_rows(h, self.weight_hh)).split([num_updates * size, size, size], dim=1)
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
            h = linear_of_rows(h, self.weight_hr)
            if self.projection_clip is not None:
                h = h.clamp(-self.projection_clip, self.projection_clip)
        return h, c

    def without_kernel(self):
        if self.peephole:
            return f"peephole {self.peephole}"
        if self.cell_clip is not None or self.projection_clip is not None:
            return f"cell_clip {self.cell_clip}, projection_clip {self.projection_clip}"
        if self.weight_hr is not None and self.output_size == self.hidden_size:
            # torch tells a projection by the states' lengths
            return f"projection_size {self.output_size}, the same as hidden_size"
        return None

    def fused_kernel(self):
        if self.without_kernel():
            return None
        # on the CPU torch has no fast projection, and would compute a coupled gate twice
        plain = self.weight_hr is None and self.coupled_gates is None
        return torch.lstm if plain or self.weight_hh.is_cuda else None

    def fused_weights(self, weight_hh):
        weights = super().fused_weights(weight_hh)
        if self.coupled_gates is not None:
            weights = [self.uncoupled(w) for w in weights]
        return weights if self.weight_hr is None else [*weights, self.weight_hr]

    def uncoupled(self, stacked: Tensor) -> Tensor:
        """The four gates i, f, g, o that the three stand for, since 1 − σ(a) = σ(−a)."""
        gate, rest = stacked[: self.hidden_size], stacked[self.hidden_size :]
        both = (gate, -gate) if self.coupled_gates == "input" else (-gate, gate)
        return torch.cat([*both, rest])

    def equations(self):
        return LSTMEquations(self.peephole, self.coupled_gates, self.cell_clip, self.projection_clip)

    def equation_weights(self, weight_hh):
        return weight_hh, self.weight_ch, self.weight_hr


class GRUCell(RecurrentCell):
    """h_t = z ⊙ h_{t−1} + (1 − z) ⊙ h̃   (Cho et al., 2014)

    `reset_mode` says where the reset gate r acts on the candidate h̃: "after" the recurrent product, as in the paper's
    first version, cuDNN and torch: h̃ = tanh(W x_t + b + r ⊙ (U h_{t−1} + b_h)) with a second bias, `bias_hn` [D]; or
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

    def hidden_bias(self):
        if self.bias_hn is None:
            return super().hidden_bias()
        return torch.cat([self.bias.new_zeros(2 * self.hidden_size), self.bias_hn])

    def step(self, projected, state):
        h = state[0]
        x_gates, x_n = projected.split([2 * self.hidden_size, self.hidden_size], dim=1)
        if self.reset_mode == "after":
            h_gates, h_n = linear_of_rows(h, self.weight_hh, self.hidden_bias()).split(
                [2 * self.hidden_size, self.hidden_size], dim=1
            )
            r, z = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
            candidate = torch.tanh(x_n + r * h_n)
        else:
            weight_gates, weight_n = self.weight_hh.split([2 * self.hidden_size, self.hidden_size])
            r, z = torch.sigmoid(x_gates + linear_of_rows(h, weight_gates)).chunk(2, dim=1)
            candidate = torch.tanh(x_n + linear_of_rows(r * h, weight_n))
        if self.update_convention == "replace":
            return ((1 - z) * h + z * candidate,)
        return (z * h + (1 - z) * candidate,)

    def without_kernel(self):
        return None if self.reset_mode == "after" else f"reset_mode {self.reset_mode}"

    def fused_kernel(self):
        return None if self.without_kernel() else torch.gru

    def fused_weights(self, weight_hh):
        weights = super().fused_weights(weight_hh)
        if self.update_convention == "keep":
            return weights
        # 1 − σ(a) = σ(−a): the other convention is the update gate with its signs turned
        reset, update, candidate = zip(*(w.chunk(3) for w in weights), strict=True)
        return [torch.cat([r, -z, n]) for r, z, n in zip(reset, update, candidate, strict=True)]

    def equations(self):
        return GRUEquations(self.update_convention)
