"""Packing without padding: several texts in one row, none of which sees another (block-diagonal attention).

`cu_seq_lens_q`, int [texts + 1], holds where each text begins in the row, and the row's length: the name and the form
that transformers gives its flash attention, which reads it as it is. The other attentions go from text to text.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .fast_dropout import dropout_mask


def segment_options(cu_seq_lens: Tensor, batch: int, length: int, attention_mask: Tensor | None) -> dict:
    """What attention needs to know of the texts of a row of `length` tokens: transformers' FlashAttentionKwargs.

    Raises:
        ValueError: there is more than one row, or a mask, or the bounds do not rise from 0 to `length`.
    """
    if batch != 1 or attention_mask is not None:
        raise ValueError(
            f"packed texts (cu_seq_lens_q) lie in one row without attention_mask, not in {batch} rows"
            + (" with one" if attention_mask is not None else "")
        )
    if cu_seq_lens.device.type == "cpu" and not torch.compiler.is_compiling():
        bounds = cu_seq_lens.tolist()
        if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != length or cu_seq_lens.diff().min() < 1:
            raise ValueError(f"cu_seq_lens_q is {bounds}; it must rise from 0 to the row's length {length}")
    return bounds_options(cu_seq_lens)


def bounds_options(bounds: Tensor) -> dict:
    """`bounds` [texts + 1] of texts that look at themselves, as transformers' FlashAttentionKwargs."""
    longest = int(bounds.diff().max())
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def segment_positions(cu_seq_lens: Tensor, length: int) -> Tensor:
    """Position of each token in its own text [1, T]."""
    starts = torch.repeat_interleave(cu_seq_lens[:-1].long(), cu_seq_lens.diff().long(), output_size=length)
    return (torch.arange(length, device=cu_seq_lens.device) - starts)[None]


def bounds_of_documents(position_ids: Tensor) -> Tensor | None:
    """Where documents begin in rows read end to end, int32 [documents + 1], or None if no row has more than one.

    A document begins where `position_ids` [B, T] do not go on by one.
    """
    begins = torch.ones_like(position_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids.diff() != 1
    begins = begins.flatten().nonzero()[:, 0]
    if len(begins) == len(position_ids):
        return None
    return torch.cat([begins, begins.new_tensor([position_ids.numel()])]).int()


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
    """`attend`, one of transformers' attention functions, from text to text; mixed values [B, T, H, D/H].

    Rows are read end to end: the bounds go from 0 to B · T, and a mask is for one row only. The time grows with the
    sum of the squared lengths, not with the square of their sum. No weights are returned. `cu_seq_lens_k`, where it
    differs, bounds the texts that are looked at, one for each text that looks.
    """
    lengths = cu_seq_lens_q.diff().tolist()
    sources = lengths if cu_seq_lens_k is None else cu_seq_lens_k.diff().tolist()
    if (
        options.get("dropout")
        and attention_mask is None
        and len(query) == 1
        and query.device.type == "cpu"
        and not torch.compiler.is_compiling()
    ):
        # torch's own has no fast form with dropout on a CPU
        arguments = (lengths, sources, options["scaling"], options["dropout"], module.is_causal)
        return SegmentAttention.apply(query, key, value, *arguments), None
    rows = len(query)
    if rows > 1:
        query, key, value = (x.transpose(0, 1).flatten(1, 2)[None] for x in (query, key, value))  # [1, H, B · T, D/H]
    if attention_mask is None and module.is_causal and module.config._attn_implementation != "sdpa":
        # written out or flex, attention is causal by its mask only
        future = query.new_full((1, 1, *(max(lengths),) * 2), -torch.inf).triu_(1)
        masks = [future[..., :length, :length] for length in lengths]
    elif attention_mask is None:
        masks = [None] * len(lengths)
    else:
        ends = cu_seq_lens_q.tolist()
        masks = [attention_mask[..., a:b, a:b] for a, b in zip(ends, ends[1:], strict=False)]
    # split, not slices: its gradient is one concatenation, not a row of zeros for each text
    texts = zip(
        query.split(lengths, dim=2), key.split(sources, dim=2), value.split(sources, dim=2), masks, strict=True
    )
    mixed = [attend(module, *text, **options)[0] for text in texts]
    return torch.cat(mixed, dim=1).unflatten(1, (rows, -1))[0], None


def split_texts(query, key, value, lengths, sources) -> tuple:
    """[1, H, T or S, D/H] each -> for each a text's [H, text, D/H], one after another."""
    return query[0].split(lengths, dim=1), key[0].split(sources, dim=1), value[0].split(sources, dim=1)


class SegmentAttention(torch.autograd.Function):
    """Attention with dropout within each text of a row, whose gradients are written where they belong.

    Same arithmetic as the written-out attention, without a concatenation and an autograd node for each text and step.
    """

    @staticmethod
    def forward(
        ctx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: list[int],
        sources: list[int],
        scaling: float,
        dropout: float,
        causal: bool,
    ) -> Tensor:
        """query [1, H, T, D/H], key and value [1, H, S, D/H] -> mixed values [1, T, H, D/H]."""
        _, heads, total, size = query.shape
        # [H, text, D/H] each
        texts = zip(*split_texts(query * scaling, key, value, lengths, sources), strict=True)
        squares = [heads * length * source for length, source in zip(lengths, sources, strict=True)]
        kept = dropout_mask(query, [sum(squares)], dropout).split(squares)
        future = None
        if causal:
            future = query.new_full((max(lengths),) * 2, -torch.inf).triu_(1)
        mixed, weights, dropped = query.new_empty(1, total, heads, size), [], []
        for (q, k, v), mask, target in zip(texts, kept, mixed[0].transpose(0, 1).split(lengths, dim=1), strict=True):
            length = q.shape[1]
            scores = torch.bmm(q, k.transpose(1, 2))  # [H, text, source]
            if causal:
                scores += future[:length, :length]
            weights.append(torch.softmax(scores, dim=-1))
            dropped.append(torch.mul(weights[-1], mask.view_as(scores), out=scores))
            target.copy_(torch.bmm(dropped[-1], v))
        ctx.scaling, ctx.lengths, ctx.sources = scaling, lengths, sources
        ctx.save_for_backward(query, key, value, *weights, *dropped, *kept)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        query, key, value, *saved = ctx.saved_tensors
        number = len(ctx.lengths)
        texts = zip(*split_texts(query, key, value, ctx.lengths, ctx.sources), strict=True)
        # laid out as the projections gave them: [1, T or S, H, D/H]
        gradients = [torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (query, key, value)]
        targets = zip(*split_texts(*gradients, ctx.lengths, ctx.sources), strict=True)
        of_mixed = gradient[0].transpose(0, 1).split(ctx.lengths, dim=1)
        for text, of_text, target, weights, dropped, mask in zip(
            texts, of_mixed, targets, saved[:number], saved[number : 2 * number], saved[2 * number :], strict=True
        ):
            q, k, v = text
            target[2].copy_(torch.bmm(dropped.transpose(1, 2), of_text))
            of_weights = torch.bmm(of_text, v.transpose(1, 2)).mul_(mask.view_as(weights))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            target[0].copy_(torch.bmm(of_scores, k))
            target[1].copy_(torch.bmm(of_scores.transpose(1, 2), q))
        gradients[0] *= ctx.scaling
        gradients[1] *= ctx.scaling
        return *gradients, None, None, None, None, None
