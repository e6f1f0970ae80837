"""Gradient checkpointing runs layers twice, so that they would also write a cache twice."""

from functools import wraps

import torch


def drops_cache_to_recompute(forward):
    """Drops the cache in a base model whose layers write it and run twice (gradient checkpointing)."""

    @wraps(forward)
    def wrapper(self, *args, **kwargs):
        recomputes = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        if recomputes and "cache" in kwargs:
            kwargs["cache"] = None
        return forward(self, *args, **kwargs)

    return wrapper
