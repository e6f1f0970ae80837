"""Recurrent cells: RNN, LSTM and GRU, with the variants that later papers name.

`step` of each cell is the paper's equation; a call of the cell applies it over time (`recurrent_layers.py`). Weights
are stacked gate by gate in torch's order, with one bias instead of torch.nn's two redundant ones.
"""

import torch
from torch import Tensor, nn

from .recurrent_layers import RecurrentCell


class RNNCell(RecurrentCell):
    """h_t = φ(W x_t + U h_{t−1} + b)   (Elman, 1990)"""

    def __init__(self, input_size: int, hidden_size: int, hidden_act: str = "tanh", *, weight_dropout: float = 0.0):
        super().__init__(input_size, hidden_size, weight_dropout=weight_dropout)
        self.hidden_act = hidden_act

    # --8<-- [start:rnn]
    def step(self, projected, state):
        activation = getattr(torch, self.hidden_act)
        return (activation(projected + self.linear(state[0], self.weight_hh)),)

    # --8<-- [end:rnn]


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
        return self.linear(c, self.weight_ch[first * self.hidden_size : last * self.hidden_size])

    def step(self, projected, state):
        h, c = state
        size, num_updates = self.hidden_size, self.num_gates - 2
        # --8<-- [start:lstm]
        update, g, o = (projected + self.linear(h, self.weight_hh)).split([num_updates * size, size, size], dim=1)
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
        # --8<-- [end:lstm]
        if self.weight_hr is not None:
            h = self.linear(h, self.weight_hr)
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
        # --8<-- [start:gru]
        h = state[0]
        x_gates, x_n = projected.split([2 * self.hidden_size, self.hidden_size], dim=1)
        if self.reset_mode == "after":
            h_gates, h_n = self.linear(h, self.weight_hh).split([2 * self.hidden_size, self.hidden_size], dim=1)
            r, z = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
            candidate = torch.tanh(x_n + r * (h_n + self.bias_hn))
        else:
            weight_gates, weight_n = self.weight_hh.split([2 * self.hidden_size, self.hidden_size])
            r, z = torch.sigmoid(x_gates + self.linear(h, weight_gates)).chunk(2, dim=1)
            candidate = torch.tanh(x_n + self.linear(r * h, weight_n))
        if self.update_convention == "replace":
            return ((1 - z) * h + z * candidate,)
        return (z * h + (1 - z) * candidate,)
        # --8<-- [end:gru]
