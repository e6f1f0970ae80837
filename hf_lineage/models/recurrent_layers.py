"""Recurrent cells (RNN, LSTM, GRU), a layer that runs them over padded sequences, and the cache of their states.

`step` of each cell is the paper's equation. Whole sequences go through torch's fused kernels, which compute the same.
Weights are stacked gate by gate in torch's order, with one bias where torch.nn keeps two redundant ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.cache_utils import STATIC_LAYER_TYPE_MAPPING, CacheLayerMixin
from transformers.modeling_layers import GradientCheckpointingLayer


class RecurrentStateLayer(CacheLayerMixin):
    """One layer's carried state inside a cache: h in `keys` [B, D], c in `values` ([B, 0] without a c)."""

    _layer_type = "lineage_recurrent"
    is_sliding = False
    is_croppable = False  # the state before the last token is gone

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.cumulative_length = 0  # tokens seen, padding included

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor):
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def state(self) -> tuple[Tensor, ...] | None:
        """(h,) or (h, c), each [B, D]; None before the first token."""
        if not self.is_initialized:
            return None
        return (self.keys, self.values) if self.values.shape[1] else (self.keys,)

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Replaces the state by (h [B, D], c [B, D or 0]); the number of new tokens is the third argument."""
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states, value_states
        self.cumulative_length += args[0]
        return self.keys, self.values

    def detach(self):
        """Cuts the gradient's path into the past (truncated backpropagation through time)."""
        self.keys, self.values = self.keys.detach(), self.values.detach()

    def reset(self):
        self.keys = self.values = None
        self.is_initialized = False
        self.cumulative_length = 0

    def get_seq_length(self) -> int:
        return self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cumulative_length + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def batch_repeat_interleave(self, repeats: int):
        if self.is_initialized:
            self.keys, self.values = (s.repeat_interleave(repeats, dim=0) for s in (self.keys, self.values))

    def batch_select_indices(self, indices: Tensor):
        if self.is_initialized:
            self.keys, self.values = self.keys[indices], self.values[indices]


# a state never grows: it serves `StaticCache` as it is (transformers itself adds it to `DynamicCache` only)
STATIC_LAYER_TYPE_MAPPING[RecurrentStateLayer._layer_type] = RecurrentStateLayer


def check_states(cache, batch: int):
    """A cache for recurrent models holds `RecurrentStateLayer`s, with a state for each row of the batch.

    Raises:
        ValueError: it was made for attention, or for another batch.
    """
    layers = cache.layers
    # by name: code loaded from the Hub has a class of its own
    if not layers or any(type(layer).__name__ != RecurrentStateLayer.__name__ for layer in layers):
        raise ValueError(
            "cache holds keys and values, not the states of a recurrent model: make it with "
            "DynamicCache(config=model.config)"
        )
    state = layers[0].state()
    if state is not None and state[0].shape[0] != batch:
        raise ValueError(f"cache holds the states of {state[0].shape[0]} rows, but the input has {batch}")


class RecurrentCell(nn.Module):
    """One direction of one recurrent layer: weight_ih [G·D, E], weight_hh [G·D, D], bias [G·D] for G gates."""

    num_gates = 1
    num_states = 1

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(self.num_gates * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(self.num_gates * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(self.num_gates * hidden_size))

    def initial_state(self, x: Tensor) -> tuple[Tensor, ...]:
        """Zeros: what the network remembers before the first token."""
        return tuple(x.new_zeros(x.shape[0], self.hidden_size) for _ in range(self.num_states))

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One time step: projected = W x_t + b [B, G·D] and the state before -> the state after, h first."""
        raise NotImplementedError

    def fused_kernel(self):
        """torch's kernel for a whole sequence, or None where there is none."""
        return None

    def hidden_bias(self) -> Tensor:
        """torch's second bias, added to the recurrent product."""
        return torch.zeros_like(self.bias)

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x [B, T, E] -> every h [B, T, D] and the state after each row's last token.

        Row b holds `lengths[b]` tokens (on the CPU; None = T everywhere) followed by padding, over which h is zero.
        """
        state = self.initial_state(x) if state is None else state
        if x.numel() == 0:
            return x.new_zeros(*x.shape[:2], self.hidden_size), state
        kernel = self.fused_kernel() if x.shape[1] > 1 else None
        return self.run_steps(x, state, lengths) if kernel is None else self.run_fused(kernel, x, state, lengths)

    def run_steps(self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None):
        """The recurrence written out: W x + b for all time steps at once, then one `step` after the other."""
        projected = linear(x, self.weight_ih, self.bias)  # [B, T, G·D]
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
    def run_fused(self, kernel, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None):
        """The same through one call of torch's kernel, on a packed sequence where rows differ in length."""
        weights = [self.weight_ih, self.weight_hh, self.bias, self.hidden_bias()]
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


class RNNCell(RecurrentCell):
    """h_t = φ(W x_t + U h_{t−1} + b)   (Elman, 1990)"""

    def __init__(self, input_size: int, hidden_size: int, hidden_act: str = "tanh"):
        super().__init__(input_size, hidden_size)
        self.hidden_act = hidden_act

    def step(self, projected, state):
        activation = getattr(torch, self.hidden_act)
        return (activation(projected + linear(state[0], self.weight_hh)),)

    def fused_kernel(self):
        return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}.get(self.hidden_act)


class LSTMCell(RecurrentCell):
    """c_t = f ⊙ c_{t−1} + i ⊙ g,  h_t = o ⊙ tanh(c_t)   (Hochreiter & Schmidhuber, 1997; Gers et al., 2000)

    The gates i, f, o = σ(…) and the candidate g = tanh(…) each read x_t and h_{t−1}.
    """

    num_gates = 4
    num_states = 2

    def step(self, projected, state):
        h, c = state
        i, f, g, o = (projected + linear(h, self.weight_hh)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def fused_kernel(self):
        return torch.lstm


class GRUCell(RecurrentCell):
    """h_t = z ⊙ h_{t−1} + (1 − z) ⊙ h̃,  h̃ = tanh(W x_t + b + r ⊙ (U h_{t−1} + b_h))   (Cho et al., 2014)

    The reset gate r acts after the recurrent product, as in the paper's first version, cuDNN and torch, so that the
    candidate has a second bias, `bias_hn` [D].
    """

    num_gates = 3

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.bias_hn = nn.Parameter(torch.empty(hidden_size))

    def hidden_bias(self):
        return torch.cat([self.bias.new_zeros(2 * self.hidden_size), self.bias_hn])

    def step(self, projected, state):
        h = state[0]
        x_r, x_z, x_n = projected.chunk(3, dim=1)
        h_r, h_z, h_n = linear(h, self.weight_hh, self.hidden_bias()).chunk(3, dim=1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        candidate = torch.tanh(x_n + r * h_n)
        return (z * h + (1 - z) * candidate,)

    def fused_kernel(self):
        return torch.gru


@dataclass
class Padding:
    """Where a batch's tokens are: `order` [B, T] moves each row's tokens to its front, `inverse` moves them back."""

    order: Tensor
    inverse: Tensor
    lengths: Tensor  # [B], on the CPU

    @classmethod
    def of(cls, attention_mask: Tensor | None, length: int) -> "Padding | None":
        """Reads the last `length` columns of the mask [B, S] (0 = padding); None when nothing is padded."""
        if attention_mask is None:
            return None
        mask = attention_mask[:, attention_mask.shape[1] - length :].bool()
        if mask.all():
            return None
        order = mask.int().argsort(dim=1, descending=True, stable=True)
        return cls(order, order.argsort(dim=1), mask.sum(1).cpu())

    def backwards(self) -> Tensor:
        """Index [B, T] that reverses the tokens at each row's front and leaves the padding behind them."""
        time, lengths = torch.arange(self.order.shape[1]), self.lengths[:, None]
        return torch.where(time < lengths, lengths - 1 - time, time).to(self.order.device)


def reorder_time(x: Tensor, index: Tensor) -> Tensor:
    """x [B, T, D] with its time steps in the order of `index` [B, T]."""
    return x.gather(1, index[..., None].expand_as(x))


class RecurrentLayer(GradientCheckpointingLayer):
    """One cell run over time from left to right; with a second one from right to left if `backward_cell` is given.

    Padding, wherever it stands, neither changes the state nor is read: the outputs over it are zero.
    """

    def __init__(self, cell: RecurrentCell, layer_idx: int, backward_cell: RecurrentCell | None = None):
        super().__init__()
        self.layer_idx = layer_idx
        self.cell = cell
        self.backward_cell = backward_cell

    def forward(self, x: Tensor, padding: Padding | None = None, cache=None) -> Tensor:
        """x [B, T, E] -> [B, T, D], or [B, T, 2·D] with both directions."""
        length = x.shape[1]
        if padding is not None:
            x = reorder_time(x, padding.order)
        lengths = padding.lengths if padding is not None else None

        state = cache.layers[self.layer_idx].state() if cache is not None else None
        outputs, state = self.cell(x, state, lengths)
        if cache is not None:
            h, c = state if len(state) == 2 else (*state, state[0].new_zeros(x.shape[0], 0))
            cache.layers[self.layer_idx].update(h, c, length)

        if self.backward_cell is not None:
            backwards = padding.backwards() if padding is not None else None
            reverse = (lambda s: s.flip(1)) if padding is None else (lambda s: reorder_time(s, backwards))
            reversed_outputs, _ = self.backward_cell(reverse(x), None, lengths)
            outputs = torch.cat([outputs, reverse(reversed_outputs)], dim=2)
        return outputs if padding is None else reorder_time(outputs, padding.inverse)
