"""A recurrent layer's input in two parts, [x_t; c_t], through products computed once; the result is the same.

W [x_t; c_t] + b = (W_x x_t + b) + W_c c_t: one product gives the first term for all target words. If c_t =
Σ_s α_t(s) h_s, then W_c c_t = Σ_s α_t(s) W_c h_s: one product per source word, not per step. A cell runs these
functions on its weights.
"""

from torch import Tensor, nn
from torch.nn.functional import linear


def words_product(cell: nn.Module, x: Tensor, state=None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """x [B, T, E] -> W_x x + b [B, T, G·D]; the weight, and W_c of it."""
    of_x, of_c = cell.weight_ih.split([x.shape[2], cell.weight_ih.shape[1] - x.shape[2]], dim=1)
    return linear(x, of_x, cell.bias), (cell.weight_ih, of_c)


def step_fed(cell: nn.Module, parts: tuple, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """W_x x_t + b [B, G·D], c_t [B, C], and the other results of `words_product` -> the state after the step."""
    projected, c, (weight, of_c) = parts
    # an offloaded or sharded weight is a new tensor in each call
    if weight is not cell.weight_ih:
        of_c = cell.weight_ih[:, -c.shape[1] :]
    return cell.step(projected + linear(c, of_c), state)
