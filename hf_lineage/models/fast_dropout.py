"""Dropout from a quarter of the random numbers: on a CPU, drawing them is most of the cost.

Sixteen bits decide about an entry, so the rate is a multiple of 2⁻¹⁶; kept entries are scaled by their true share.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from .inputs import SWITCH


STEPS = 2**16


def fast_on_cpu(x: Tensor) -> bool:
    """Whether a fast path for the CPU may run on `x`: `can_look` and `fast_paths_allowed`, asked in every layer."""
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(x, FakeTensor)
    return x.device.type == "cpu" and not is_recorded and os.environ.get(SWITCH, "") in ("", "0")


def dropout_mask(like: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """Independent entries of `shape`: 0 with probability `rate`, else 1 / (1 − rate); dtype and device of `like`."""
    if fast_on_cpu(like):
        return mask_of_bits(like, shape, rate)
    return like.new_empty(shape).bernoulli_(1 - rate).div_(1 - rate)


def mask_of_bits(like: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """`dropout_mask` on a CPU."""
    size, dropped = torch.Size(shape), round(rate * STEPS)
    if not 0 < dropped < STEPS:
        return like.new_empty(size).bernoulli_(1 - rate).div_(1 - rate)
    bits = torch.empty(-(-size.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = bits[: size.numel()] >= dropped - STEPS // 2
    return kept.to(like.dtype).mul_(STEPS / (STEPS - dropped)).view(size)


class Dropout(nn.Dropout):
    """Behaves as nn.Dropout; on an uncompiled CPU it uses a faster generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape"""
        if not self.training or not 0 < self.p < 1 or not fast_on_cpu(x):
            return super().forward(x)
        return x * mask_of_bits(x, x.shape, self.p)
