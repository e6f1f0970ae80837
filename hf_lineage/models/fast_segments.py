"""Attention within each text of a packed row: when it is faster than one mask, and with dropout on a CPU."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .fast_dropout import dropout_mask, fast_on_cpu
from .inputs import can_look


def segments_beat_mask(config, vectors: Tensor) -> bool:
    """Whether attention text by text is faster than attention with one large mask over the row.

    True for flash attention, which takes no mask. False for sdpa on a GPU, where many small kernels are slower, and
    for eager, which must return weights.
    """
    return "flash" in config._attn_implementation or (config._attn_implementation == "sdpa" and can_look(vectors))


def has_fast_form(query: Tensor, dropout: float | None) -> bool:
    """Whether `SegmentAttention` is faster: with dropout on a CPU, torch has no fast kernel."""
    return bool(dropout) and len(query) == 1 and fast_on_cpu(query)


def split_texts(query, key, value, lengths, sources) -> tuple:
    """Splits tensors [1, H, T or S, D/H] into one [H, text, D/H] per text."""
    return query[0].split(lengths, dim=1), key[0].split(sources, dim=1), value[0].split(sources, dim=1)


class SegmentAttention(torch.autograd.Function):
    """Attention with dropout within each text of a row; gradients are written directly into their place.

    The arithmetic is that of eager attention, without a concatenation and an autograd node per text and step.
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
        # in the layout of the projections: [1, T or S, H, D/H]
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
