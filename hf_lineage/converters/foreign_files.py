"""What every reader of foreign files shares: one kind of error, with the file's name, whatever the file holds."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from torch import Tensor


@contextmanager
def reading(source: str | Path):
    """Within the block every error about the content of `source` is a ValueError or an OSError that names it.

    Raises:
        OSError: a file is missing, or cannot be opened or read.
        ValueError: anything else.
    """
    try:
        yield
    except Exception as error:
        # libraries raise anything where a file holds other types, shapes or sizes than its format says
        # errors of the operating system have the name of their file
        is_named = str(source) in str(error) or getattr(error, "filename", None) is not None
        if is_named and isinstance(error, ValueError | OSError):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        what = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        raise kind(f"{source} is damaged, of another kind, or does not fit the settings ({what})") from error


def naming(read: Callable) -> Callable:
    """Decorator of a reader: it runs in `reading` of its first argument, a file, a folder or a state dict."""
    signature = inspect.signature(read)

    @wraps(read)
    def read_named(*arguments, **options):
        source = next(iter(signature.bind(*arguments, **options).arguments.values()))
        with reading(source if isinstance(source, str | Path) else "the state dict"):
            return read(*arguments, **options)

    return read_named


def check_numbers(source: str | Path, weights: Mapping[str, Tensor]):
    """Refuses weights with which no model can answer.

    Raises:
        ValueError: one holds NaN or infinity, or a weight or bias is of whole numbers, as quantised ones are.
    """
    for name, tensor in weights.items():
        last = name.rpartition(".")[2]
        # a mask may be called bias
        is_weight = "weight" in last or ("bias" in last and tensor.dim() == 1)
        if is_weight and not (tensor.is_floating_point() and tensor.dtype.itemsize > 1):
            raise ValueError(f"{source}: {name} holds {tensor.dtype}; it must hold floating-point numbers")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{source}: the tensor {name} holds NaN or infinity")
