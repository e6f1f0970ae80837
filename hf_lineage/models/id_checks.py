"""Checks that ids of labels, segments and classes lie in their range."""

from torch import Tensor

from .inputs import can_look


def check_ids(name: str, ids: Tensor, size: int, size_name: str, ignored: int | None = None):
    """Ids of `name` must lie in [0, size), or be `ignored` (if `can_look` allows looking).

    Raises:
        ValueError: an id lies outside.
    """
    if can_look(ids) and not ids.is_floating_point():
        outside = (ids < 0) | (ids >= size)
        if ignored is not None:
            outside &= ids != ignored
        if outside.any():
            raise ValueError(
                f"{name} has {ids[outside][0].item()}; it must lie between 0 and {size - 1} ({size_name} {size})"
                + (f", or be {ignored} where nothing is scored" if ignored is not None else "")
            )
