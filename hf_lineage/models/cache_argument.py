"""The cache argument: transformers 5.24 renamed `past_key_values` to `cache`; our models always use `cache`.

Continuous batching (transformers' generate_batch()) keeps the keys and values of attention in pages of its own.
"""

from dataclasses import fields

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

    Raises:
        ValueError: both names are given.
    """
    renames = deprecate_kwarg("past_key_values", OLD_NAME_UNTIL, new_name="cache", raise_if_both_names=True)
    return renames(forward)


class WithoutPagedCache:
    """Refuses continuous batching for models that keep more than keys and values; inherit before GenerationMixin."""

    def init_continuous_batching(self, *args, **kwargs):
        """Every entry to transformers' continuous batching calls this.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot generate by continuous batching (generate_batch), which keeps only the "
            "keys and values of causal attention: give a padded batch to generate()"
        )
