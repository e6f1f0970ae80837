"""The Transformer's attention and post-norm block (Vaswani et al., 2017, section 3), which GPT and BERT took over.

The attention is scaled dot-product attention with several heads, on transformers' interface.
"""

from functools import partial

from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .fast_dropout import Dropout
from .packed_texts import attend_by_segment


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """softmax(QKᵀ · scaling + mask) V, written out.

    query [B, H, T, D/H], key and value [B, H, S, D/H], mask [B, 1, T, S] with −∞ at hidden positions.
    Returns the mixed values [B, T, H, D/H] and the weights [B, H, T, S].
    """
    scores = query @ key.transpose(2, 3) * scaling  # [B, H, T, S]
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1)
    weights = nn.functional.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class MultiHeadAttention(nn.Module):
    """Every token attends to the others through `num_attention_heads` independent heads."""

    def __init__(self, config, layer_idx: int, is_causal: bool):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.dropout = config.attention_dropout
        self.head_size = config.hidden_size // config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, H, T, D/H]"""
        return x.unflatten(2, (-1, self.head_size)).transpose(1, 2)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D] -> two tensors [B, H, S, D/H]"""
        return self.split_heads(self.k_proj(x)), self.split_heads(self.v_proj(x))

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, cache=None, **kwargs
    ) -> tuple[Tensor, Tensor | None]:
        """hidden_states [B, T, D] -> mixed vectors [B, T, D], and the weights [B, H, T, S] when attention is eager.

        `cu_seq_lens_q` in `kwargs` are the bounds of texts packed into one row (`packed_texts.py`).
        """
        if hidden_states.numel() == 0:
            # without rows or tokens transformers' sdpa fails
            return hidden_states, None
        # --8<-- [start:heads]
        query = self.split_heads(self.q_proj(hidden_states))
        key, value = self.keys_and_values(hidden_states)
        # --8<-- [end:heads]
        if cache is not None:
            # a paged cache rewrites the bounds in the options for this layer
            key, value = cache.update(key, value, self.layer_idx, kwargs=kwargs)
        return self.attend(query, key, value, attention_mask, **kwargs)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
    ) -> tuple[Tensor, Tensor | None]:
        """query [B, H, T, D/H], key and value [B, H, S, D/H] -> mixed vectors [B, T, D] and weights, as `forward`."""
        implementation = self.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        # with a paged cache, all attentions except flash get a mask of the requests
        packed = kwargs.get("cu_seq_lens_q") is not None and "read_index" not in kwargs
        if packed and "flash" not in implementation:
            attend = partial(attend_by_segment, attend)
        mixed, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.head_size**-0.5,
            dropout=self.dropout if self.training else 0.0,
            **kwargs,
        )
        return self.out_proj(mixed.flatten(2)), weights


class FeedForward(nn.Module):
    """The same two-layer network at every position: widen to `intermediate_size`, activate, narrow again."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str):
        super().__init__()
        self.up_proj = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACT2FN[hidden_act]
        self.down_proj = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        return self.down_proj(self.activation(self.up_proj(x)))


class SelfAttentionBlock(GradientCheckpointingLayer):
    """Attention, then feed-forward; each LayerNorm(x + Dropout(sub-layer(x)))."""

    def __init__(self, config, layer_idx: int, is_causal: bool):
        super().__init__()
        self.attention = MultiHeadAttention(config, layer_idx, is_causal)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None, cache=None, **kwargs) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        x = self.attention_norm(x + self.dropout(self.attention(x, attention_mask, cache, **kwargs)[0]))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
