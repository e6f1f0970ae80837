"""Dropout from a quarter of the random numbers: on a CPU, drawing them is most of the cost.

Sixteen bits decide about an entry, so the rate is a multiple of 2⁻¹⁶; kept entries are scaled by their true share.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .fast_paths import fast_paths_allowed
from .inputs import can_look


STEPS = 2**16


def bits_are_faster(x: Tensor) -> bool:
    return can_look(x) and fast_paths_allowed()


def dropout_mask(like: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """Independent entries of `shape`: 0 with probability `rate`, else 1 / (1 − rate); dtype and device of `like`."""
    size, dropped = torch.Size(shape), round(rate * STEPS)
    if not bits_are_faster(like) or not 0 < dropped < STEPS:
        return like.new_empty(size).bernoulli_(1 - rate).div_(1 - rate)
    bits = torch.empty(-(-size.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = bits[: size.numel()] >= dropped - STEPS // 2
    return kept.to(like.dtype).mul_(STEPS / (STEPS - dropped)).view(size)


class Dropout(nn.Dropout):
    """Behaves as nn.Dropout; on an uncompiled CPU it uses a faster generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape"""
        if not self.training or not 0 < self.p < 1 or not bits_are_faster(x):
            return super().forward(x)
        return x * dropout_mask(x, x.shape, self.p)
