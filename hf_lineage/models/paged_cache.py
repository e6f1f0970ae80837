"""Continuous batching, transformers' generate_batch(), keeps the keys and values of attention in pages."""


class WithoutPagedCache:
    """Refuses continuous batching where more than keys and values is kept; inherit it before GenerationMixin."""

    def init_continuous_batching(self, *args, **kwargs):
        """All of transformers' ways into continuous batching go through here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot generate by continuous batching (generate_batch), which keeps only the "
            "keys and values of causal attention: give a padded batch to generate()"
        )
