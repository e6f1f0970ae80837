"""Errors of the Hub's client with the name of the model, which stations raise where the package is installed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError


# the first base is of the library that carries the requests, whose name changes with the client's version
OF_NETWORK = (HfHubHTTPError.__bases__[0], LocalEntryNotFoundError)


@contextmanager
def naming_the_model(place: str | os.PathLike | None) -> Iterator[None]:
    """Gives errors of the network the name of the model that is fetched.

    Raises:
        OSError: instead of errors of the Hub's client that do not name `place`, with the remedy.
    """
    try:
        yield
    except Exception as error:
        # transformers raises an error of its own from the client's
        of_network = [each for each in (error, error.__cause__) if isinstance(each, OF_NETWORK)]
        if not of_network or place is None or str(place) in str(error):
            raise
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise OSError(
            f"{place} cannot be fetched from the Hub ({type(error).__name__}: {reason}): try again where the Hub can "
            "be reached. A model that is in the cache opens with local_files_only=True, a folder without a network"
        ) from error
