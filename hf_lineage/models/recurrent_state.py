"""What recurrent models read and carry between calls: the places of a batch's tokens, and the cache of states."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import STATIC_LAYER_TYPE_MAPPING, CacheLayerMixin

from .inputs import check_mask, embed_inputs, is_recorded


class RecurrentStateLayer(CacheLayerMixin):
    """One layer's carried state inside a cache: h in `keys` [B, P], c in `values` [B, D] ([B, 0] without a c)."""

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
        """(h [B, P],) or (h [B, P], c [B, D]); None before the first token."""
        if not self.is_initialized:
            return None
        return (self.keys, self.values) if self.values.shape[1] else (self.keys,)

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Replaces the state by (h [B, P], c [B, D or 0]); the number of new tokens is the third argument."""
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


# a state never grows, so it also serves `StaticCache` (transformers adds it only to `DynamicCache`)
STATIC_LAYER_TYPE_MAPPING[RecurrentStateLayer._layer_type] = RecurrentStateLayer


def check_states(cache, batch: int):
    """A cache for recurrent models holds `RecurrentStateLayer`s, with a state for each row of the batch.

    Raises:
        ValueError: it was made for attention, or for another batch.
    """
    layers = cache.layers
    # by name, since code loaded from the Hub has its own class
    if not layers or any(type(layer).__name__ != RecurrentStateLayer.__name__ for layer in layers):
        raise ValueError(
            "cache holds keys and values, not the states of a recurrent model: make it with "
            "DynamicCache(config=model.config)"
        )
    state = layers[0].state()
    if state is not None and state[0].shape[0] != batch:
        raise ValueError(f"cache holds the states of {state[0].shape[0]} rows, but the input has {batch}")


def open_cache(config, cache, use_cache: bool | None, batch: int):
    """The given cache after `check_states`, or with `use_cache` a new one, or None."""
    if cache is None:
        return DynamicCache(config=config) if use_cache else None
    check_states(cache, batch)
    return cache


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
        is_blind = is_recorded(mask)
        if not is_blind and mask.all():
            return None
        # counted, since ONNX has no stable sort
        count, padding = mask.long().cumsum(1), (~mask).long().cumsum(1)
        inverse = torch.where(mask, count, count[:, -1:] + padding) - 1
        order = torch.empty_like(inverse).scatter_(1, inverse, torch.ones_like(inverse).cumsum(1) - 1)
        return cls(order, inverse, count[:, -1] if is_blind else count[:, -1].cpu())

    def backwards(self) -> Tensor:
        """Index [B, T] that reverses the tokens at each row's front and leaves the padding behind them."""
        time, lengths = torch.arange(self.order.shape[1], device=self.lengths.device), self.lengths[:, None]
        return torch.where(time < lengths, lengths - 1 - time, time).to(self.order.device)


def reorder_time(x: Tensor, index: Tensor) -> Tensor:
    """x [B, T, D] with its time steps in the order of `index` [B, T]."""
    return x.gather(1, index[..., None].expand_as(x))


def read_texts(model, input_ids, inputs_embeds, attention_mask, cache, use_cache) -> tuple:
    """What a recurrent model does before its paper's lines: word vectors [B, T, E], and its cache.

    Raises:
        ValueError: a malformed input, or a cache of another kind or batch.
    """
    vectors = embed_inputs(model.embed_tokens, input_ids, inputs_embeds)
    batch, length, _ = vectors.shape
    cache = open_cache(model.config, cache, use_cache, batch)
    seen = cache.get_seq_length() if cache is not None else 0
    check_mask(attention_mask, batch, seen, length, padding_only=True)
    return vectors, cache
