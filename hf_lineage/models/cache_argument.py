"""The cache argument: transformers 5.24 renamed `past_key_values` to `cache`; our models always use `cache`."""

from dataclasses import fields
from functools import wraps

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.deprecation import deprecate_kwarg


# this release's name of the cache in the outputs of models and of generate()
CACHE_FIELD = ({field.name for field in fields(BaseModelOutputWithPast)} & {"cache", "past_key_values"}).pop()


def cache_of(outputs):
    """The cache in a model's outputs, or None."""
    return outputs[CACHE_FIELD] if CACHE_FIELD in outputs else None


# the release that drops the old name; before 5.24 it is the only one, so there is no warning
OLD_NAME_UNTIL = "5.40.0" if CACHE_FIELD == "cache" else "0"


def takes_cache(forward):
    """Lets a forward with the argument `cache` also take `past_key_values`, with transformers' own warning.

    An export or a trace, whose outputs are tensors, makes no cache.

    Raises:
        ValueError: both names are given.
    """

    @wraps(forward)
    def without_new_cache(self, *args, **kwargs):
        if (torch.compiler.is_exporting() or torch.jit.is_tracing()) and kwargs.get("cache") is None:
            kwargs["use_cache"] = False
        return forward(self, *args, **kwargs)

    renames = deprecate_kwarg("past_key_values", OLD_NAME_UNTIL, new_name="cache", raise_if_both_names=True)
    return renames(without_new_cache)
