"""A layer that runs recurrent cells over padded sequences, in one direction or both."""

from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from .recurrent_cells import RecurrentCell, run_both_ways
from .recurrent_state import Padding, reorder_time


class RecurrentLayer(GradientCheckpointingLayer):
    """One cell run over time from left to right; with `backward_cell`, a second one from right to left.

    Padding on any side is skipped: it does not change the state, and the outputs over it are zero.
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
