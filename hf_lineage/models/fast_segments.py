"""Attention within each text of a packed row: when it is faster than one mask, with dropout on a CPU, on a GPU.

A GPU reads all texts of a row in one call: in half precision by torch's copy of flash attention (Dao, 2023), in
float32 by its memory-efficient attention (Rabe and Staats, 2021), otherwise in padded rows, one for each text.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .fast_dropout import dropout_mask, fast_on_cpu
from .inputs import can_look, fast_paths_allowed, is_exported, is_recorded


def segments_beat_mask(config, vectors: Tensor) -> bool:
    """Whether attention text by text is faster than attention with one large mask over the row.

    True for flash attention, which takes no mask. False for eager, which must return weights, and where the number of
    texts may not be read.
    """
    implementation = config._attn_implementation
    looks = can_look(vectors) or (reads_in_one_call(vectors) and not is_recorded(vectors))
    return "flash" in implementation or (implementation == "sdpa" and looks)


def reads_in_one_call(x: Tensor) -> bool:
    """Whether `attend_at_once` reads the texts of packed rows: on a GPU, unless an export records it."""
    return x.is_cuda and fast_paths_allowed() and not is_exported()


def attend_at_once(
    attend: Callable,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    targets: Tensor,
    sources: Tensor,
    longest_target: int,
    longest_source: int,
    scaling: float,
    dropout: float = 0.0,
    **options,
) -> Tensor:
    """Mixed values [B, T, H, D/H] of all texts; query [B, H, T, D/H], key and value [B, H, S, D/H].

    `targets` and `sources` [texts + 1] are the bounds of the texts of queries and of keys, in all rows end to end;
    `longest_target` and `longest_source` are no smaller than the longest text. `attend`, one of transformers'
    attention functions, runs where no kernel serves.
    """
    tokens = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]  # [B · T or B · S, H, D/H]
    bounds = targets.int(), sources.int()
    kernel = kernel_for_texts(query) if module.config._attn_implementation == "sdpa" else None
    if kernel is not None:
        mixed = kernel(*tokens, *bounds, longest_target, longest_source, scaling, dropout, module.is_causal)
        return mixed.unflatten(0, (len(query), -1))

    read, seen = (text_and_place(each, len(x)) for each, x in zip(bounds, tokens, strict=False))
    texts = len(targets) - 1
    shapes = [
        (texts, longest, *x.shape[1:]) for longest, x in zip((longest_target, longest_source), tokens, strict=False)
    ]
    of_query = query.new_zeros(shapes[0]).index_put(read, tokens[0])
    of_key, of_value = (query.new_zeros(shapes[1]).index_put(seen, x) for x in tokens[1:])
    visible = torch.arange(longest_source, device=query.device) < bounds[1].diff()[:, None]  # [texts, S]
    visible = visible[:, None, None].expand(-1, 1, longest_target, -1)
    if module.is_causal:
        visible = visible.tril()
    hidden = torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, torch.finfo(query.dtype).min)
    padded = (x.transpose(1, 2) for x in (of_query, of_key, of_value))
    mixed, _ = attend(module, *padded, hidden, scaling=scaling, dropout=dropout, **options)
    return mixed[read].unflatten(0, (len(query), -1))


def text_and_place(bounds: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The text of each of `length` tokens, and its place in the text, both [length]."""
    index = torch.arange(length, device=bounds.device)
    text = torch.bucketize(index, bounds[1:], right=True)
    return text, index - bounds[text]


def kernel_for_texts(query: Tensor) -> Callable | None:
    """torch's kernel that attends within texts, for the device, dtype and head size of `query` [B, H, T, D/H]."""
    size, is_half = query.shape[3], query.dtype in (torch.float16, torch.bfloat16)
    if not query.is_cuda or torch.version.hip is not None:
        return None
    if is_half and size % 8 == 0 and size <= 256 and torch.cuda.get_device_capability(query.device) >= (8, 0):
        return flash_attention
    if query.dtype is torch.float32 and size % 4 == 0:
        return memory_efficient_attention
    return None


def flash_attention(query, key, value, targets, sources, longest_target, longest_source, scaling, dropout, causal):
    """query [T, H, D/H], key and value [S, H, D/H] -> mixed values [T, H, D/H]; torch's public form has no dropout."""
    bounds = (targets, sources, longest_target, longest_source)
    return torch.ops.aten._flash_attention_forward(query, key, value, *bounds, dropout, causal, False, scale=scaling)[
        0
    ]


def memory_efficient_attention(
    query, key, value, targets, sources, longest_target, longest_source, scaling, dropout, causal
):
    """As `flash_attention`, in float32."""
    rows = (query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0))
    bounds = (targets, sources, longest_target, longest_source)
    # torch's description of the gradient, by which torch.compile records it, fails on a scale of one's own
    scale = None if scaling == query.shape[2] ** -0.5 else scaling
    # 1: a causal mask that begins with the first query and the first key; True: keep what the gradient needs
    mixed, *_ = torch.ops.aten._efficient_attention_forward(
        *rows, None, *bounds, dropout, int(causal), True, scale=scale
    )
    return mixed.squeeze(0)


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


def attend_by_mask(
    attend: Callable,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    targets: Tensor,
    sources: Tensor,
    **options,
) -> tuple[Tensor, Tensor | None]:
    """Runs `attend` once, with a mask of the texts whose bounds are `targets` and `sources`, so that a graph is whole.

    The bounds count the tokens of all rows end to end. A causal module must have as many keys as queries.
    """
    rows = len(query)
    if rows > 1:
        query, key, value = in_one_row(query, key, value)
    of_query, of_key = (
        torch.bucketize(torch.arange(x.shape[2], device=x.device), bounds[1:], right=True)
        for x, bounds in ((query, targets), (key, sources))
    )
    visible = of_query[:, None] == of_key
    if module.is_causal:
        visible = visible.tril()
    hidden = torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, torch.finfo(query.dtype).min)
    mixed, weights = attend(module, query, key, value, hidden[None, None], **options)
    return (mixed, weights) if rows == 1 else (mixed.unflatten(1, (rows, -1))[0], None)


def in_one_row(*tensors: Tensor) -> list[Tensor]:
    """Tensors [B, H, T, D/H] of rows that are read end to end, [1, H, B · T, D/H]."""
    return [x.transpose(0, 1).flatten(1, 2)[None] for x in tensors]
