"""The best spans of a text by the scores of their first and last tokens; pipelines carry this file to the Hub."""

import torch
from torch import Tensor


def best_spans(start: Tensor, end: Tensor, allowed: Tensor, longest: int, number: int) -> list[tuple[float, int, int]]:
    """The `number` best (score, first token, last token), best first; the score is start[first] + end[last].

    start, end, allowed [T]: a span begins and ends at allowed tokens, and has at most `longest` tokens.
    """
    scores = start[:, None] + end[None, :]  # [T, T]
    possible = (allowed[:, None] & allowed[None, :]).triu().tril(longest - 1)
    scores = scores.masked_fill(~possible, -torch.inf).flatten()
    best = scores.topk(min(number, int(possible.sum())))
    return [
        (score, *divmod(place, len(start)))
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
