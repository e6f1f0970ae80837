"""The Transformer's post-norm block (Vaswani et al., 2017, section 3.1), unchanged in GPT and BERT."""

from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import MultiHeadAttention
from .fast_dropout import Dropout


class FeedForward(nn.Module):
    """The same two-layer network at every position: widen to `intermediate_size`, activate, narrow again."""

    def __init__(self, config):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        return self.down_proj(self.activation(self.up_proj(x)))


class SelfAttentionBlock(GradientCheckpointingLayer):
    """Attention, then feed-forward; each LayerNorm(x + Dropout(sub-layer(x)))."""

    def __init__(self, config, layer_idx: int, is_causal: bool):
        super().__init__()
        self.attention = MultiHeadAttention(config, layer_idx, is_causal)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None, cache=None, **kwargs) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        x = self.attention_norm(x + self.dropout(self.attention(x, attention_mask, cache, **kwargs)[0]))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
