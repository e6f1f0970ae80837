"""Continuous batching (transformers' generate_batch()) keeps the keys and values of attention in pages."""


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
