"""Packing without padding: several texts in one row, each read by itself (block-diagonal attention).

`cu_seq_lens_q`, int [texts + 1], holds the start of each text in the row, and the row's length. transformers' flash
attention has this name and form, and reads it directly; the other attentions run once per text, or on a GPU at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fast_segments import (
    SegmentAttention,
    attend_at_once,
    attend_by_mask,
    has_fast_form,
    in_one_row,
    reads_in_one_call,
    segments_beat_mask,
)
from .inputs import can_look, is_recorded


def segment_options(
    cu_seq_lens: Tensor,
    batch: int,
    length: int,
    attention_mask: Tensor | None,
    limit: int | None = None,
    longest: int | None = None,
) -> dict:
    """What attention needs to know about the texts of a row of `length` tokens: transformers' FlashAttentionKwargs.

    `longest`, the tokens of the longest text, spares a GPU from counting them.

    Raises:
        ValueError: there is more than one row, or a mask, or the bounds do not rise from 0 to `length`.
    """
    if batch != 1 or attention_mask is not None:
        raise ValueError(
            f"packed texts (cu_seq_lens_q) must be in one row without attention_mask, not in {batch} rows"
            + (" with one" if attention_mask is not None else "")
        )
    if can_look(cu_seq_lens):
        bounds = cu_seq_lens.tolist()
        if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != length or cu_seq_lens.diff().min() < 1:
            raise ValueError(f"cu_seq_lens_q is {bounds}; it must rise from 0 to the row's length {length}")
    return bounds_options(cu_seq_lens, length, limit, longest)


def document_options(
    position_ids: Tensor, vectors: Tensor, config, known: Tensor | None = None, longest: int | None = None
) -> dict:
    """`bounds_options` of the documents that restarting positions mark; none for a single document, or if a mask is
    faster. `known` are their bounds, and `longest` the tokens of the longest, for a GPU."""
    if not segments_beat_mask(config, vectors):
        return {}
    bounds = bounds_of_documents(position_ids) if known is None or can_look(known) else known
    limit = config.max_position_embeddings
    return {} if bounds is None else bounds_options(bounds, position_ids.numel(), limit, longest)


def bounds_options(bounds: Tensor, length: int, limit: int | None = None, longest: int | None = None) -> dict:
    """`bounds` [texts + 1] of texts in `length` tokens that attend to themselves, as FlashAttentionKwargs.

    Raises:
        ValueError: a text has more tokens than `longest` (if `can_look` allows looking).
    """
    # a record may not look, and a GPU would stall; any upper bound will do, and no text has more tokens than `limit`
    if can_look(bounds):
        found = int(bounds.diff().max())
        if longest is not None and longest < found:
            raise ValueError(f"max_length_q or max_length_k is {longest}, but the longest text has {found} tokens")
        longest = found
    elif longest is None:
        longest = limit or (length if is_recorded(bounds) else int(bounds.diff().max()))
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def check_pairs(targets: Tensor | None, sources: Tensor | None):
    """Packed targets and sources, with the bounds `targets` and `sources` [pairs + 1], must be pairs.

    Raises:
        ValueError: only one side is packed, or the sides differ in number.
    """
    if (targets is None) != (sources is None):
        raise ValueError("give both cu_seq_lens_q, the targets' bounds, and cu_seq_lens_k, the sources', or neither")
    if targets is not None and len(targets) != len(sources):
        raise ValueError(
            f"cu_seq_lens_q bounds {len(targets) - 1} targets, cu_seq_lens_k {len(sources) - 1} sources; the numbers "
            "must be equal"
        )


def cross_options(
    own: dict, sources: Tensor, batch: int, length: int, attention_mask: Tensor | None, longest: int | None = None
) -> dict:
    """`segment_options` for attention from packed targets, with options `own`, to sources in a row of `length`."""
    of_sources = segment_options(sources, batch, length, attention_mask, longest=longest)
    return {**own, "cu_seq_lens_k": sources, "max_length_k": of_sources["max_length_k"]}


def segment_positions(cu_seq_lens: Tensor, length: int) -> Tensor:
    """Position of each token in its own text [1, T]."""
    starts = torch.repeat_interleave(cu_seq_lens[:-1].long(), cu_seq_lens.diff().long(), output_size=length)
    return (torch.arange(length, device=cu_seq_lens.device) - starts)[None]


def bounds_of_documents(position_ids: Tensor) -> Tensor | None:
    """The bounds of documents in rows read end to end, int32 [documents + 1], or None if no row has more than one.

    A document begins where `position_ids` [B, T] do not rise by one.
    """
    begins = torch.ones_like(position_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids.diff() != 1
    begins = begins.flatten().nonzero()[:, 0]
    if len(begins) == len(position_ids):
        return None
    return torch.cat([begins, begins.new_full((1,), position_ids.numel())]).int()


def attend_by_segment(
    attend: Callable,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **options,
) -> tuple[Tensor, None]:
    """Runs `attend`, one of transformers' attention functions, once per text; mixed values [B, T, H, D/H].

    Rows are read end to end: the bounds run from 0 to B · T, and a mask needs a single row. The time grows with the
    sum of the squared lengths, not with the square of their sum. No weights are returned. `cu_seq_lens_k` are the
    bounds of the key texts, one per query text, if they differ from `cu_seq_lens_q`.
    """
    if attention_mask is None and module.config._attn_implementation in ("eager", "sdpa"):
        given = (attend, module, query, key, value, cu_seq_lens_q)
        given += (cu_seq_lens_q if cu_seq_lens_k is None else cu_seq_lens_k,)
        if reads_in_one_call(query):
            return attend_at_once(*given, max_length_q, max_length_k, **options), None
        if is_recorded(query):
            return attend_by_mask(*given, **options)
    lengths = cu_seq_lens_q.diff().tolist()
    sources = lengths if cu_seq_lens_k is None else cu_seq_lens_k.diff().tolist()
    if attention_mask is None and has_fast_form(query, options.get("dropout")):
        arguments = (lengths, sources, options["scaling"], options["dropout"], module.is_causal)
        return SegmentAttention.apply(query, key, value, *arguments), None
    rows = len(query)
    if rows > 1:
        query, key, value = in_one_row(query, key, value)
    if attention_mask is None and module.is_causal and module.config._attn_implementation != "sdpa":
        # eager and flex attention are causal only by their mask
        future = query.new_full((1, 1, *(max(lengths),) * 2), -torch.inf).triu_(1)
        masks = [future[..., :length, :length] for length in lengths]
    elif attention_mask is None:
        masks = [None] * len(lengths)
    else:
        ends = cu_seq_lens_q.tolist()
        masks = [attention_mask[..., a:b, a:b] for a, b in zip(ends, ends[1:], strict=False)]
    # split, not slices: its gradient is one concatenation, not a row of zeros per text
    texts = zip(
        query.split(lengths, dim=2), key.split(sources, dim=2), value.split(sources, dim=2), masks, strict=True
    )
    mixed = [attend(module, *text, **options)[0] for text in texts]
    return torch.cat(mixed, dim=1).unflatten(1, (rows, -1))[0], None
