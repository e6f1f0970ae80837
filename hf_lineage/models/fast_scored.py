"""Scored positions without asking a GPU for them, which would stall every training step.

Only the data tell which labels are scored, and how many. On a CPU the others are left out; on a GPU the collator says
where they are, or all positions are computed and the others count nothing.
"""

import torch
from torch import Tensor

from .inputs import IGNORED, can_look, kind_of


def number_on(number: Tensor | int, device: torch.device) -> Tensor:
    """A number as a tensor on a device; a GPU fills it in by itself, while a copy would stall it."""
    return number.to(device) if isinstance(number, Tensor) else torch.full((), number, device=device)


def without_unscored(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors [B, T, D], labels [B, T] -> those that are scored, [N, D] and [N], and which of them are [N].

    Where Python may not look, all B · T stay, with label 0 where nothing is scored.
    """
    scored = labels != IGNORED
    if can_look(labels):
        return vectors[scored], labels[scored], scored[scored]
    return vectors.flatten(0, 1), labels.clamp(min=0).flatten(), scored.flatten()


def at_scored(vectors: Tensor, labels: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Vectors [B, T, D] and labels [B, T] -> those of the scored positions, in order: [N, D] and [N].

    Only the data tell how many labels are not −100, and a GPU would stall to tell Python. `positions` [B, P] say it
    without: the columns of each row's scored labels in order, −1 after the last. N is then B · P on a GPU, and the
    label at each −1 is −100.

    Raises:
        ValueError: `positions` are not those of the labels (on a CPU), or have another form.
    """
    if positions is not None and (positions.dim() != 2 or len(positions) != len(labels)):
        raise ValueError(
            f"scored_positions must have a row for each of the {len(labels)} rows of labels, not {kind_of(positions)}"
        )
    if positions is None or can_look(positions):
        scored = labels != IGNORED
        if positions is not None:
            given = positions >= 0
            are_same = torch.equal(given.sum(1), scored.sum(1))
            if not are_same or not torch.equal(positions[given], scored.nonzero()[:, 1].to(positions.dtype)):
                raise ValueError(
                    f"scored_positions must be the columns of the labels that are not {IGNORED}, in order, and -1 "
                    "after the last: make them with WithScoredPositions, or leave them out"
                )
        return vectors[scored], labels[scored].long()
    columns = positions.long().clamp(min=0)
    labels = labels.long().gather(1, columns).masked_fill(positions < 0, IGNORED)
    return vectors.take_along_dim(columns[..., None], 1).flatten(0, 1), labels.flatten()
