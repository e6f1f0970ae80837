"""GPT (Radford et al., 2018): the Transformer's decoder alone, trained to predict the next token.

What changes from the Transformer: no encoder, hence no cross-attention; learned positions; GELU for ReLU.
input_ids [B, T] -> token + position vectors [B, T, D] -> N masked blocks [B, T, D] -> logits [B, T, V]
"""

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import MultiHeadAttention
from .cache_name import cache_of, takes_cache
from .configuration_gpt import GPTConfig
from .inputs import check_mask, check_positions, embed_inputs
from .transformer_layers import SelfAttentionBlock


class GPTPreTrainedModel(PreTrainedModel):
    """What every GPT head shares: its configuration, its prefix and what it can record."""

    config_class = GPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SelfAttentionBlock"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SelfAttentionBlock, "attentions": MultiHeadAttention}


class GPTModel(GPTPreTrainedModel):
    """Turns a token sequence into vectors that each see only their left context."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config, i, is_causal=True) for i in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False
        self.post_init()

    def positions(self, attention_mask: Tensor | None, seen: int, length: int, device) -> Tensor:
        """Position of each new token in its row [B or 1, T]: padding is not counted."""
        if attention_mask is not None and attention_mask.dim() == 2:
            return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
        return torch.arange(seen, seen + length, device=device)[None]

    @takes_cache
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], attention_mask [B, seen + T] (0 = padding) -> last_hidden_state [B, T, D].

        `position_ids` [B, T] that restart at 0 pack several documents into a row: without an `attention_mask` none of
        them sees another.

        Raises:
            ValueError: a malformed input, or more tokens than `max_position_embeddings`.
        """
        vectors = embed_inputs(self.embed_tokens, input_ids, inputs_embeds)  # [B, T, D]
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        seen, length = cache.get_seq_length() if cache is not None else 0, vectors.shape[1]
        check_mask(attention_mask, vectors.shape[0], seen, length)
        # packing is read off restarting positions that the caller gave, never off those computed here
        mask = create_causal_mask(self.config, vectors, attention_mask, cache, position_ids=position_ids)
        if position_ids is None:
            position_ids = self.positions(attention_mask, seen, length, vectors.device)
        check_positions(position_ids, self.config.max_position_embeddings)

        hidden_states = self.dropout(vectors + self.embed_positions(position_ids))  # [B, T, D]
        for block in self.blocks:
            hidden_states = block(hidden_states, mask, cache=cache, **kwargs)
        return BaseModelOutputWithPast(hidden_states, cache)


class GPTForCausalLM(GPTPreTrainedModel, GenerationMixin):
    """GPT with the tied output layer that turns each vector into a distribution over the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.model = GPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of the next token; with `labels` [B, T] (input_ids, −100 = not scored) the mean loss.

        The labels are shifted here; `shift_labels` [B, T], already one token ahead, is taken as it is.
        """
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])  # [B, T, V]
        loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs) if labels is not None else None
        return CausalLMOutputWithPast(loss, logits, cache_of(outputs), outputs.hidden_states, outputs.attentions)
