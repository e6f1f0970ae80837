"""Cross entropy for large vocabularies: half of torch's memory traffic on a CPU, less memory in bfloat16."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from .fast_dropout import fast_on_cpu
from .inputs import IGNORED, fast_paths_allowed, is_recorded


# entries of the float32 matrix that a part of the rows makes: 64 MB
PART = 2**24


def summed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum of −log p(label) in float32; logits [N, V], labels [N] (for `smoothing` see losses).

    All labels are scored; off the CPU some may be −100.
    """
    if logits.dtype is torch.bfloat16 and in_parts(logits):
        return CrossEntropyInParts.apply(logits, labels, smoothing)
    logits = logits.float()
    if fast_on_cpu(logits) and logits.requires_grad and len(logits) and not smoothing:
        return SummedCrossEntropy.apply(logits, labels)
    return cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)


class SummedCrossEntropy(torch.autograd.Function):
    """torch's cross entropy with one [N, V] matrix instead of three: the probabilities become the gradient.

    The system zeroes a large matrix on each allocation, which takes longer than the arithmetic.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:
        labels = labels[:, None]
        highest, likeliest = logits.max(1, keepdim=True)
        ctx.probabilities = logits.softmax(1)
        ctx.save_for_backward(logits, labels)
        # log Z from the most likely class, whose probability is at least 1 / V
        log_z = highest - ctx.probabilities.gather(1, likeliest).log()
        return (log_z - logits.gather(1, labels)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        logits, labels = ctx.saved_tensors
        # a second backward pass through a kept graph computes them again
        of_logits = logits.softmax(1) if ctx.probabilities is None else ctx.probabilities
        ctx.probabilities = None
        of_logits *= gradient
        return of_logits.scatter_add_(1, labels, -gradient.expand(labels.shape)), None


def in_parts(logits: Tensor) -> bool:
    """Whether `CrossEntropyInParts` saves memory: for a gradient in bfloat16 (a compiler fuses torch's by itself)."""
    learns = logits.dtype is torch.bfloat16 and logits.requires_grad
    return learns and fast_paths_allowed() and not is_recorded(logits)


class CrossEntropyInParts(torch.autograd.Function):
    """Sum of −log p(label) over labels [N] that are not −100, from logits [N, V] in bfloat16.

    Some rows at a time are computed in float32. What is kept for the gradient has the dtype of the logits, as their
    gradient has; torch's cross entropy holds two matrices [N, V] in float32.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        size = logits.shape[1]
        kept = torch.empty_like(logits)
        total = logits.new_zeros((), dtype=torch.float32)
        rows = max(1, PART // size)
        for x, y, part in zip(logits.split(rows), labels.split(rows), kept.split(rows), strict=True):
            scored, x = y.ne(IGNORED), x.float()
            y = y.masked_fill(~scored, 0)[:, None]
            log_z = x.logsumexp(1, keepdim=True)
            losses = log_z - (1 - smoothing) * x.gather(1, y)
            of_logits = (x - log_z).exp_()
            if smoothing:
                losses = losses - smoothing * x.mean(1, keepdim=True)
                of_logits -= smoothing / size
            of_logits.scatter_add_(1, y, of_logits.new_full(y.shape, smoothing - 1))
            total += losses[:, 0].masked_fill(~scored, 0).sum()
            part.copy_(of_logits.masked_fill_(~scored[:, None], 0))
        ctx.save_for_backward(kept)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return kept * gradient, None, None
