"""Multiple choice: each choice of a question is read as a row of its own, and a softmax over their scores decides."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .losses import mean_cross_entropy


if TYPE_CHECKING:
    # as in encoder_decoder.py: a repository brings the pipelines of its heads
    from .pipeline_multiple_choice import MultipleChoicePipeline  # noqa: F401


SHAPES = {
    "input_ids": "[batch, choices, time]",
    "char_ids": "[batch, choices, time, characters]",
    "inputs_embeds": "[batch, choices, time, hidden]",
    "elmo_layers": "[batch, choices, time, layers, hidden]",
}


def in_rows(x: Tensor | None, dimensions: int) -> Tensor | None:
    """Flattens a tensor with one extra dimension, the texts of an example, so that each text is a row."""
    return x.flatten(0, 1) if isinstance(x, Tensor) and x.dim() == dimensions + 1 else x


def choices_in(**inputs: Tensor | None) -> torch.Size:
    """(batch, choices) of the first input that is given, named as in `SHAPES`.

    Raises:
        ValueError: it has no dimension for the choices.
    """
    name, given = next((name, x) for name, x in inputs.items() if x is not None)
    if given.dim() != SHAPES[name].count(",") + 1:
        raise ValueError(f"{name} must have shape {SHAPES[name]}, not {list(given.shape)}")
    return given.shape[:2]


def choice_loss(
    logits: Tensor,
    labels: Tensor | None,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    **unused,
) -> Tensor | None:
    """The mean of −log p of the right choices; logits [B, C], `labels` [B] (−100 = not scored).

    Raises:
        ValueError: a label is not a choice.
    """
    if labels is None:
        return None
    return mean_cross_entropy(logits, labels, num_items_in_batch, smoothing)
