"""Scores for the sampled softmax if all rows share their negatives: each distinct word is read and scored once."""

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear


def shared_scores(x, targets, weight, bias, negatives, log_q) -> tuple[Tensor, Tensor]:
    """Scores minus log q of the targets [..., T], and the log Σ exp of those of the negatives [K] -> [..., T]."""
    drawn, counts = negatives.unique(return_counts=True)
    words, places = torch.cat([targets.flatten(), drawn]).unique(return_inverse=True)
    rows, offsets = DifferentRows.apply(weight, words), DifferentRows.apply(bias, words) - log_q(words, len(weight))
    of_targets, of_drawn = places.split([targets.numel(), drawn.numel()])
    of_targets = of_targets.view(targets.shape)
    target = (x * embedding(of_targets, rows)).sum(-1) + offsets[of_targets]
    return target, linear(x, rows[of_drawn], offsets[of_drawn] + counts.log()).logsumexp(-1)


class DifferentRows(torch.autograd.Function):
    """weight[ids] for distinct ids: the gradient is one copy, without sorting or adding."""

    @staticmethod
    def forward(ctx, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = weight.shape
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, ids, gradient), None
