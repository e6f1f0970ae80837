"""A layer that runs recurrent cells over padded sequences, in one direction or both."""

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from .recurrent_cells import RecurrentCell
from .recurrent_state import Padding, reorder_time


def run_both_ways(
    cell: RecurrentCell,
    backward_cell: RecurrentCell | None,
    x: Tensor,
    state: tuple[Tensor, ...] | None,
    padding: Padding | None,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """x [B, T, E], tokens at each row's front -> outputs [B, T, D], and the last states of the two cells.

    The second cell, if there is one, reads the whole row from its end, and its outputs stand beside the first one's.
    """
    lengths = padding.lengths if padding is not None else None
    outputs, last = cell(x, state, lengths)
    if backward_cell is None:
        return outputs, last, None
    backwards = padding.backwards() if padding is not None else None
    reverse = (lambda s: s.flip(1)) if padding is None else (lambda s: reorder_time(s, backwards))
    reversed_outputs, reversed_last = backward_cell(reverse(x), None, lengths)
    return torch.cat([outputs, reverse(reversed_outputs)], dim=2), last, reversed_last


class RecurrentLayer(GradientCheckpointingLayer):
    """One cell run over time from left to right; with a second one from right to left if `backward_cell` is given.

    Padding, wherever it stands, neither changes the state nor is read: the outputs over it are zero.
    """

    def __init__(self, cell: RecurrentCell, layer_idx: int, backward_cell: RecurrentCell | None = None):
        super().__init__()
        self.layer_idx = layer_idx
        self.cell = cell
        self.backward_cell = backward_cell

    def forward(self, x: Tensor, padding: Padding | None = None, cache=None) -> Tensor:
        """x [B, T, E] -> [B, T, P], or [B, T, 2·P] with both directions."""
        length = x.shape[1]
        if padding is not None:
            x = reorder_time(x, padding.order)
        state = cache.layers[self.layer_idx].state() if cache is not None else None
        outputs, state, _ = run_both_ways(self.cell, self.backward_cell, x, state, padding)
        if cache is not None:
            h, c = state if len(state) == 2 else (*state, state[0].new_zeros(x.shape[0], 0))
            cache.layers[self.layer_idx].update(h, c, length)
        return outputs if padding is None else reorder_time(outputs, padding.inverse)
