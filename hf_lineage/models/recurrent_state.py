"""What recurrent models carry between calls: the cache of their states, and how they read it with their words."""

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import STATIC_LAYER_TYPE_MAPPING, CacheLayerMixin

from .inputs import embed_inputs, is_exported, recomputes


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
    """The given cache after `check_states`, or with `use_cache` a new one, or None, as in an export."""
    if cache is None:
        return DynamicCache(config=config) if use_cache and not is_exported() else None
    check_states(cache, batch)
    return cache


def states_of(cache, layers: int) -> list[tuple[Tensor, ...] | None]:
    """The state of each of a model's `layers`, (h,) or (h, c); None before the first token, or without a cache."""
    return [None] * layers if cache is None else [layer.state() for layer in cache.layers]


def keep_states(cache, states: list[tuple[Tensor, ...]], length: int):
    """Puts each layer's state after `length` more tokens into the cache, if there is one."""
    if cache is not None:
        for layer, (h, *c) in zip(cache.layers, states, strict=True):
            layer.update(h, c[0] if c else h.new_zeros(h.shape[0], 0), length)


def read_texts(model, input_ids, inputs_embeds, attention_mask, cache, use_cache) -> tuple:
    """What a recurrent model does before its paper's lines: word vectors [B, T, E], and its cache.

    Raises:
        ValueError: a malformed input, or a cache of another kind or batch.
    """
    if cache is not None and recomputes(model):
        cache = None
    seen = cache.get_seq_length() if cache is not None else 0
    vectors = embed_inputs(model.embed_tokens, input_ids, inputs_embeds, attention_mask, seen)
    return vectors, open_cache(model.config, cache, use_cache, vectors.shape[0])
