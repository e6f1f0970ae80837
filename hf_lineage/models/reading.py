"""How GPT, BERT and both halves of the Transformer read: token vectors, positions, masks, packed rows and caches."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.generation.continuous_batching import PagedAttentionCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from .inputs import ID_TYPES, can_look, check_mask, embed_inputs, is_exported, kind_of, recomputes
from .packed_texts import document_options, segment_options, segment_positions


@dataclass
class Texts:
    """The inputs of a station, as its embeddings and blocks need them."""

    # token vectors [B, T, D]
    vectors: Tensor
    # position of each token in its text [B or 1, T]
    position_ids: Tensor
    # which token sees which, in the form of the model's attention; None without a mask
    mask: Tensor | None
    # options of attention: the caller's, and the bounds of packed texts
    options: dict
    # the caller's cache, or a new one
    cache: DynamicCache | EncoderDecoderCache | None


def read_texts(model, input_ids: Tensor | None, inputs_embeds: Tensor | None, *arguments, **options) -> Texts:
    """`read_vectors` of the token vectors [B, T, D] of `input_ids` [B, T], or of `inputs_embeds` [B, T, D]."""
    return read_vectors(
        model, embed_inputs(model.get_input_embeddings(), input_ids, inputs_embeds), *arguments, **options
    )


def read_vectors(
    model,
    vectors: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cache: DynamicCache | EncoderDecoderCache | None = None,
    use_cache: bool | None = None,
    cu_seq_lens_q: Tensor | None = None,
    *,
    causal: bool = True,
    **options,
) -> Texts:
    """Token vectors [B, T, D], with everything that the blocks of `model` need to know about them.

    If `causal`, a token sees only those before it, else all. Packed texts have `cu_seq_lens_q` [texts + 1], and may
    have `max_length_q`, the tokens of the longest one. Causal ones may instead have `position_ids` [B, T] that
    restart, if there is no mask and no cache; `document_bounds` [documents + 1], which `bounds_of_documents` finds,
    spare a GPU from searching. Other `options` go to the attention.

    Raises:
        ValueError: a malformed input, or more tokens than the configuration's `max_position_embeddings`.
    """
    if cache is not None and recomputes(model):
        cache = None
    if isinstance(cache, PagedAttentionCache):
        # continuous batching gives the positions, the mask and the bounds of its requests
        check_positions(position_ids, model.config.max_position_embeddings)
        options = {**options, "cu_seq_lens_q": cu_seq_lens_q}
        return Texts(vectors, position_ids, attention_mask, options, cache)
    batch, length, _ = vectors.shape
    if causal and use_cache and cache is None and not is_exported():
        cache = new_cache(model.config)
    seen = 0 if cache is None else cache.get_seq_length()
    found = token_positions(attention_mask, batch, seen, length, vectors.device)
    packed, mask, limit = {}, None, getattr(model.config, "max_position_embeddings", None)
    longest, _, documents = (options.pop(name, None) for name in ("max_length_q", "max_length_k", "document_bounds"))
    if cu_seq_lens_q is not None:
        # positions that the caller gave limit no text
        of_text = limit if position_ids is None else None
        packed = segment_options(cu_seq_lens_q, batch, length, attention_mask, of_text, longest)
        position_ids = segment_positions(cu_seq_lens_q, length) if position_ids is None else position_ids
    elif causal and position_ids is not None and attention_mask is None and cache is None:
        # from positions that the caller gave, never from those computed here
        packed = document_options(position_ids, vectors, model.config, documents, longest)
    if not packed:
        mask = visible_tokens(model.config, vectors, attention_mask, position_ids, cache, causal)
    if position_ids is None:
        position_ids = found
    if limit is not None:
        check_positions(position_ids, limit)
    return Texts(vectors, position_ids, mask, options | packed, cache)


def token_positions(attention_mask: Tensor | None, batch: int, seen: int, length: int, device) -> Tensor:
    """Position of each new token in its row [B or 1, T]; padding in a mask [B, seen + T] does not count.

    Raises:
        ValueError: as `check_mask`.
    """
    check_mask(attention_mask, batch, seen, length)
    if attention_mask is not None and attention_mask.dim() == 2:
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
    # a static cache counts on the device, where a range from `seen` on would wait for it and break a compiled graph
    return (torch.arange(length, device=device) + seen)[None]


def new_cache(config) -> DynamicCache | EncoderDecoderCache:
    """An empty cache for keys and values of the tokens so far, and of the source in an encoder-decoder."""
    if config.is_encoder_decoder:
        return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
    return DynamicCache(config=config)


def visible_tokens(config, vectors, attention_mask, position_ids, cache, causal: bool) -> Tensor | None:
    """transformers' mask, in the form that the configured attention needs: it says for each token what it sees."""
    if causal:
        cache = getattr(cache, "self_attention_cache", cache)
        mask = create_causal_mask(config, vectors, attention_mask, cache, position_ids=position_ids)
        if isinstance(mask, Tensor) and mask.dtype is torch.bool:
            # padding before a text sees nothing, which kernels treat differently: let it see all
            mask = mask | ~mask.any(-1, keepdim=True)
        return mask
    return create_bidirectional_mask(config, vectors, attention_mask)


def check_positions(position_ids: Tensor, limit: int):
    """Refuses positions that have no vector (if `can_look` allows looking).

    Raises:
        ValueError: a position is below 0, or `limit` or more, or no whole number.
    """
    if position_ids.dtype not in ID_TYPES:
        raise ValueError(f"position_ids must be an integer tensor (int64 or int32), not {kind_of(position_ids)}")
    if can_look(position_ids) and position_ids.numel():
        smallest, largest = (each.item() for each in position_ids.aminmax())
        if smallest < 0:
            raise ValueError(
                f"position_ids has {smallest}; positions must lie between 0 and {limit - 1} (max_position_embeddings)"
            )
        if largest >= limit:
            raise ValueError(
                f"{largest + 1} tokens are more than the {limit} positions of this model (max_position_embeddings): "
                f"shorten the text, or tokenize with truncation=True, max_length={limit}"
            )
