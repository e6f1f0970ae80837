"""The cache argument: transformers 5.24 renamed `past_key_values` to `cache`; the models say `cache` under both."""

from dataclasses import fields

from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.deprecation import deprecate_kwarg


# what this release calls the cache in the outputs of models and of generate()
CACHE_FIELD = ({field.name for field in fields(BaseModelOutputWithPast)} & {"cache", "past_key_values"}).pop()


def cache_of(outputs):
    """The cache in a model's outputs; None where it made none."""
    return outputs[CACHE_FIELD] if CACHE_FIELD in outputs else None


# the release in which transformers' own models lose the old name; before 5.24 it is their only one: no warning
OLD_NAME_UNTIL = "5.40.0" if CACHE_FIELD == "cache" else "0"


def takes_cache(forward):
    """Lets a forward that declares `cache` be called with `past_key_values` too, with transformers' own warning.

    Raises:
        ValueError: both names are given.
    """
    renames = deprecate_kwarg("past_key_values", OLD_NAME_UNTIL, new_name="cache", raise_if_both_names=True)
    return renames(forward)
