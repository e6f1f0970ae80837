"""Faster matrix products: for one row, with oneDNN, for one weight and many inputs, over all time steps."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .fast_paths import fast_paths_allowed
from .inputs import can_look, is_recorded


# oneDNN's product, private to torch: where it is missing, the usual one serves
has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's linear: x [B, K] and weight [M, K] -> x weight.T + bias [B, M]."""
    if x.shape[0] == 1 and x.dtype is weight.dtype and fast_paths_allowed() and not is_recorded(x):
        # one row, as in generation: matrix times vector takes half the time of the general product
        row = torch.mv(weight, x[0]) if bias is None else torch.addmv(bias, weight, x[0])
        return row[None]
    return functional.linear(x, weight, bias)


def onednn_serves(weight: Tensor) -> bool:
    return has_onednn and weight.dtype is torch.float32 and can_look(weight)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [N, K] and weight [M, K] -> x weight.T + bias [N, M]."""
    if onednn_serves(weight):
        # up to a third faster than the usual product, depending on the shape
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


def product_with(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """x [rows, K] -> x weight.T [rows, M], for one weight [M, K] and many x."""
    if onednn_serves(weight):
        # packed once for all steps, where the usual product packs it in each: a quarter less time for 20 rows
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return lambda x: functional.linear(x, weight)


def product_over_time(gradient: Tensor, read: Tensor) -> Tensor:
    """Gradient [M, K] of a weight whose product with `read` [T, B, K] has the gradient `gradient` [T, B, M]."""
    gradient, read = gradient.flatten(0, 1), read.flatten(0, 1)
    if read.shape[1] <= 400:
        # oneDNN's product is faster, but copies what is transposed, which for so few columns costs as much or more
        return gradient.T @ read
    return product(gradient.T, read.T)
