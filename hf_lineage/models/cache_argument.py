"""The cache argument: transformers 5.24 renamed `past_key_values` to `cache`; the models say `cache` under both."""

from dataclasses import fields
from functools import partial, wraps

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast


# what this release calls the cache in the outputs of models and of generate()
CACHE_FIELD = ({field.name for field in fields(BaseModelOutputWithPast)} & {"cache", "past_key_values"}).pop()


def cache_of(outputs):
    """The cache in a model's outputs; None where it made none."""
    return outputs[CACHE_FIELD] if CACHE_FIELD in outputs else None


def takes_cache(forward=None, *, written_by_layers=True):
    """Lets a forward that declares `cache` be called with `past_key_values` too, as transformers 5.23 does.

    In a base model that recomputes (`gradient_checkpointing`) there is no cache: its layers run twice, and would write
    into it twice. Where it is written outside the layers (`written_by_layers=False`) it stays.

    Raises:
        ValueError: both names are given.
    """

    if forward is None:
        return partial(takes_cache, written_by_layers=written_by_layers)

    @wraps(forward)
    def wrapper(self, *args, **kwargs):
        if "past_key_values" in kwargs:
            if kwargs.get("cache") is not None:
                raise ValueError("cache and past_key_values are the same argument: give one of them")
            kwargs["cache"] = kwargs.pop("past_key_values")
        recomputes = getattr(self, "gradient_checkpointing", False) and self.training and torch.is_grad_enabled()
        if recomputes and written_by_layers:
            kwargs["cache"] = None
        return forward(self, *args, **kwargs)

    return wrapper
