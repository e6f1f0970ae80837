"""Positions of tokens in their texts, and vectors at the last token."""

import torch
from torch import Tensor

from .inputs import can_look


def token_positions(attention_mask: Tensor | None, seen: int, length: int, device) -> Tensor:
    """Position of each new token in its row [B or 1, T]; padding in a mask [B, seen + T] does not count."""
    if attention_mask is not None and attention_mask.dim() == 2:
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
    return torch.arange(seen, seen + length, device=device)[None]


def check_positions(position_ids: Tensor, limit: int):
    """Refuses positions that have no vector (if `can_look` allows looking).

    Raises:
        ValueError: a position is `limit` or more.
    """
    if can_look(position_ids) and position_ids.numel():
        largest = position_ids.max().item()
        if largest >= limit:
            raise ValueError(
                f"{largest + 1} tokens are more than the {limit} positions of this model (max_position_embeddings): "
                "shorten the text, or tokenize with truncation=True"
            )


def vectors_at_last_token(vectors: Tensor, attention_mask: Tensor | None) -> Tensor:
    """[B, T, D] -> [B, D]: the vector at each row's last token that is no padding."""
    if vectors.shape[1] == 0:
        return vectors.new_zeros(vectors.shape[0], vectors.shape[2])
    if attention_mask is None:
        return vectors[:, -1]
    rows = torch.arange(vectors.shape[0], device=vectors.device)
    return vectors[rows, vectors.shape[1] - 1 - attention_mask.bool().int().flip(1).argmax(1)]
