"""Transformer (Vaswani et al., 2017): an encoder and a decoder of attention alone, without recurrence.

What changes from RNNsearch: attention replaces the recurrence, within source and target and between them.
input_ids [B, S] -> N encoder blocks [B, S, D]; target ids [B, T] -> N decoder blocks [B, T, D] -> logits [B, T, V]
"""

import math

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache, GenerationMixin
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqModelOutput,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .cache_argument import CACHE_FIELD, takes_cache
from .configuration_transformer import TransformerConfig
from .encoder_decoder import ConditionalGeneration, EncoderDecoder
from .fast_dropout import Dropout
from .inputs import embed_inputs, widest_float
from .packed_texts import check_pairs, cross_options
from .reading import Texts, read_texts, read_vectors
from .saved_models import LineagePreTrainedModel
from .transformer_layers import FeedForward, MultiHeadAttention, SelfAttentionBlock


def sinusoidal_positions(position_ids: Tensor, hidden_size: int, layout: str = "interleaved") -> Tensor:
    """Position vectors [B, T, D] in float32 of `position_ids` [B, T] (section 3.5).

    PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos of the same; the other layouts: see `TransformerConfig`.
    """
    half = hidden_size // 2
    steps = max(half - 1, 1) if layout == "tensor2tensor" else half
    # float32 would be off by 1e-4 at position 1,000
    exponents = torch.arange(half, device=position_ids.device, dtype=widest_float(position_ids.device)) / steps
    angles = position_ids.unsqueeze(-1) * torch.exp(-math.log(10_000) * exponents)  # [B, T, D/2]
    sine, cosine = angles.sin().float(), angles.cos().float()
    if layout == "interleaved":
        return torch.stack([sine, cosine], dim=-1).flatten(-2)
    return torch.cat([sine, cosine], dim=-1)


class CrossAttention(MultiHeadAttention):
    """Every target token attends to the source: queries from the decoder, keys and values from the encoder."""

    def __init__(self, config, layer_idx: int):
        super().__init__(config, layer_idx, is_causal=False)

    def of_source(self, source: Tensor, cache) -> tuple[Tensor, Tensor]:
        """source [B, S, D] -> two tensors [B, H, S, D/H]; a cache projects each sentence only once."""
        if cache is not None and cache.is_updated.get(self.layer_idx):
            layer = cache.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        key, value = self.keys_and_values(source)
        if cache is not None:
            key, value = cache.cross_attention_cache.update(key, value, self.layer_idx)
            cache.is_updated[self.layer_idx] = True
        return key, value

    def forward(
        self, hidden_states: Tensor, source: Tensor, source_mask: Tensor | None = None, cache=None, **kwargs
    ) -> tuple[Tensor, Tensor | None]:
        """hidden_states [B, T, D], source [B, S, D] -> [B, T, D], and the weights [B, H, T, S] if eager."""
        query = self.split_heads(self.q_proj(hidden_states))
        key, value = self.of_source(source, cache)
        if query.numel() == 0 or key.shape[2] == 0:
            # without queries or without values: the mean over no value is 0
            return self.out_proj(torch.zeros_like(hidden_states)), None
        return self.attend(query, key, value, source_mask, **kwargs)


class DecoderBlock(GradientCheckpointingLayer):
    """Attention to the target so far, attention to the source, feed-forward; each LayerNorm(x + Dropout(f(x)))."""

    def __init__(self, config, layer_idx: int):
        super().__init__()
        self.attention = MultiHeadAttention(config, layer_idx, is_causal=True)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.cross_attention = CrossAttention(config, layer_idx)
        self.cross_attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        attention_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        source_options: dict | None = None,
        **options,
    ) -> Tensor:
        """x [B, T, D], source [B, S, D] -> [B, T, D]; each attention has its options."""
        own_cache = None if cache is None else cache.self_attention_cache
        # --8<-- [start:idea]
        x = self.attention_norm(x + self.dropout(self.attention(x, attention_mask, own_cache, **options)[0]))
        x = self.cross_attention_norm(
            x + self.dropout(self.cross_attention(x, source, source_mask, cache, **(source_options or {}))[0])
        )
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        # --8<-- [end:idea]


class TransformerPreTrainedModel(LineagePreTrainedModel):
    """What all parts share: the configuration and the initial weights (Glorot; embeddings with variance 1/D)."""

    config_class = TransformerConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SelfAttentionBlock", "DecoderBlock"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            # the model multiplies by √D, so that token vectors start as large as position vectors
            init.normal_(module.weight, std=self.config.hidden_size**-0.5)
        else:
            super()._init_weights(module)

    def add_positions(self, vectors: Tensor, position_ids: Tensor) -> Tensor:
        """Token vectors [B, T, D] times √D (section 3.4) plus position vectors, after dropout [B, T, D]."""
        positions = sinusoidal_positions(
            position_ids + self.config.position_offset, self.config.hidden_size, self.config.position_layout
        )
        return self.dropout(vectors * self.config.hidden_size**0.5 + positions.to(vectors.dtype))


class TransformerEncoder(TransformerPreTrainedModel):
    """Turns the source into vectors; each sees the whole source."""

    _can_record_outputs = {"hidden_states": SelfAttentionBlock, "attentions": MultiHeadAttention}

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config, i, is_causal=False) for i in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """input_ids [B, S], attention_mask [B, S] (0 = padding) -> last_hidden_state [B, S, D].

        `cu_seq_lens_q` [texts + 1] are the bounds of texts packed into one row [1, S]; no text sees another.
        """
        text = read_texts(
            self, input_ids, inputs_embeds, attention_mask, cu_seq_lens_q=cu_seq_lens_q, causal=False, **kwargs
        )
        x = self.add_positions(text.vectors, text.position_ids)  # [B, S, D]
        for block in self.blocks:
            x = block(x, text.mask, **text.options)
        return BaseModelOutput(x)


class TransformerDecoder(TransformerPreTrainedModel):
    """Turns the target's token vectors into vectors that see their left context and the whole source."""

    _can_record_outputs = {
        "hidden_states": DecoderBlock,
        "attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="attention"),
        "cross_attentions": OutputRecorder(CrossAttention, index=1, layer_name="cross_attention"),
    }

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(DecoderBlock(config, i) for i in range(config.decoder_layers))
        self.gradient_checkpointing = False
        self.post_init()

    @takes_cache
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        vectors: Tensor,
        source: Tensor,
        attention_mask: Tensor | None = None,
        source_attention_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        cu_seq_lens_q: Tensor | None = None,
        cu_seq_lens_k: Tensor | None = None,
        max_length_k: int | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Token vectors [B, T, D], source [B, S, D], masks [B, seen + T] and [B, S] -> last_hidden_state [B, T, D].

        In packed rows, `cu_seq_lens_q` are the bounds of the targets and `cu_seq_lens_k` those of their sources.
        """
        text = read_vectors(self, vectors, attention_mask, None, cache, use_cache, cu_seq_lens_q, **kwargs)
        of_source = (source, source_attention_mask, cu_seq_lens_k, max_length_k)
        source_mask, source_options = self.visible_source(text, *of_source)
        x = self.add_positions(vectors, text.position_ids)  # [B, T, D]
        for block in self.blocks:
            x = block(
                x, source, text.mask, source_mask, cache=text.cache, source_options=source_options, **text.options
            )
        return BaseModelOutputWithPastAndCrossAttentions(x, text.cache)

    def visible_source(
        self,
        text: Texts,
        source: Tensor,
        attention_mask: Tensor | None,
        cu_seq_lens_k: Tensor | None,
        longest: int | None,
    ) -> tuple[Tensor | None, dict]:
        """The mask over the source [B, S, D], and the options of the attention to it."""
        if cu_seq_lens_k is not None:
            return None, cross_options(text.options, cu_seq_lens_k, *source.shape[:2], attention_mask, longest)
        mask = create_bidirectional_mask(self.config, text.vectors, attention_mask, encoder_hidden_states=source)
        return mask, text.options


class TransformerModel(EncoderDecoder, TransformerPreTrainedModel):
    """Encoder and decoder with one matrix of token vectors for source and target (section 3.4).

    For training, sentence pairs can be packed without padding, all sources into one row [1, S] and all targets into
    one row [1, T]: `cu_seq_lens_k` and `cu_seq_lens_q` [pairs + 1] hold the start of each text, and the row's length.
    `max_length_k` and `max_length_q`, the tokens of the longest texts, spare a GPU from counting them.
    """

    source_output = BaseModelOutput

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.encoder = TransformerEncoder(config)
        self.decoder = TransformerDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, embeddings: nn.Embedding):
        self.encoder.embed_tokens = embeddings

    def encode(
        self,
        input_ids,
        attention_mask,
        inputs_embeds,
        cu_seq_lens_q=None,
        cu_seq_lens_k=None,
        max_length_q=None,
        max_length_k=None,
        **options,
    ):
        if cu_seq_lens_q is not None or cu_seq_lens_k is not None:
            check_pairs(cu_seq_lens_q, cu_seq_lens_k)
        # the sources attend to themselves
        packed = {"cu_seq_lens_q": cu_seq_lens_k, "max_length_q": max_length_k}
        return self.encoder(input_ids, attention_mask, inputs_embeds, **packed, **options)

    def decode(self, source, attention_mask, input_ids, inputs_embeds, target_mask, cache, use_cache, **options):
        targets, sources = options.get("cu_seq_lens_q"), options.get("cu_seq_lens_k")
        if targets is not None or sources is not None:
            check_pairs(targets, sources)
        decoded = self.decoder(
            embed_inputs(self.encoder.embed_tokens, input_ids, inputs_embeds),  # [B, T, D]
            source.last_hidden_state,
            target_mask,
            attention_mask,
            cache=cache,
            use_cache=use_cache,
            **options,
        )
        return Seq2SeqModelOutput(
            decoded.last_hidden_state,
            decoded.get(CACHE_FIELD),
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=source.last_hidden_state,
            encoder_hidden_states=source.hidden_states,
            encoder_attentions=source.attentions,
        )


class TransformerForConditionalGeneration(ConditionalGeneration, TransformerPreTrainedModel, GenerationMixin):
    """The Transformer with the tied output layer, which gives a distribution over the next target token."""

    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.model = TransformerModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.output_bias)
        self.post_init()
