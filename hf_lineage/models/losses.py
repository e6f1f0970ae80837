"""The losses of the heads: means over the scored items, whatever the batches, the processes and the padding.

`num_items_in_batch` is Trainer's count of all labels of an update that are not −100, over its batches and processes;
a batch's loss is then its share of the mean. `smoothing` is the probability ε that moves from the label to all
classes equally (Szegedy et al., 2016, section 7).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from .fast_cross_entropy import CrossEntropyInParts, in_parts
from .inputs import IGNORED, can_look, check_classes, check_ids, kind_of


def shifts_labels(model_class: type) -> type:
    """Class decorator: tells transformers' Trainer, by the class name, that the loss shifts the labels.

    Without it, `label_smoothing_factor` would teach the model to copy its input.
    """
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_class.config_class.model_type] = model_class.__name__
    return model_class


def mean_of(
    total: Tensor, scored: Tensor | int, num_items_in_batch: Tensor | int | None = None, counted: Tensor | None = None
) -> Tensor:
    """A sum over `scored` items divided by their number, or by `num_items_in_batch`; 0 where nothing is scored.

    If Trainer has `counted` another number of labels in this batch than the head scores, the batch's mean is weighted
    by the number counted.
    """
    if num_items_in_batch is None:
        divisor = number_on(scored, total.device)
    else:
        divisor = number_on(num_items_in_batch, total.device)
        if counted is not None:
            divisor = divisor * number_on(scored, total.device) / counted.clamp(min=1)
    return total / torch.where(divisor == 0, torch.ones_like(divisor), divisor)


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


def next_labels(
    labels: Tensor, attention_mask: Tensor | None = None, cu_seq_lens: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`labels` [B, T] -> the label of the token after each [B, T], and how many Trainer counts.

    The first token of a text (after padding, or of a packed text) is not scored. `attention_mask` [B, seen + T] is 0
    at padding.
    """
    check_classes("labels", labels)
    counted = labels[:, 1:].ne(IGNORED).sum()
    if cu_seq_lens is not None:
        labels = labels.index_fill(1, cu_seq_lens[:-1].long(), IGNORED)
    elif attention_mask is not None and attention_mask.dim() == 2:
        is_token = attention_mask[:, -labels.shape[1] :].bool()
        begins = is_token[:, 1:] & ~is_token[:, :-1]
        labels = torch.cat([labels[:, :1], labels[:, 1:].masked_fill(begins, IGNORED)], dim=1)
    nothing = labels.new_full((labels.shape[0], 1), IGNORED)
    return torch.cat([labels[:, 1:], nothing[:, : labels.shape[1]]], dim=1), counted


def next_token_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    attention_mask: Tensor | None = None,
    cu_seq_lens: Tensor | None = None,
    shift_labels: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    **unused,
) -> Tensor:
    """Mean of −log p of each next token; logits [B, T, V], labels [B, T], or `shift_labels` one token ahead."""
    counted = None
    if shift_labels is None:
        shift_labels, counted = next_labels(labels, attention_mask, cu_seq_lens)
    return mean_cross_entropy(logits, shift_labels, num_items_in_batch, smoothing, counted)


def mean_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    counted: Tensor | None = None,
    name: str = "labels",
) -> Tensor:
    """Mean of −log p of labels [...] (−100 = not scored) by logits [..., C]; see `mean_of`.

    Raises:
        ValueError: a label is not a class (on a CPU; a GPU reports it itself), or there are more or fewer than logits.
            The message calls the labels `name`.
    """
    check_classes(name, labels, logits.shape[:-1].numel())
    labels, logits = labels.to(logits.device, torch.long).flatten(), logits.flatten(0, -2)
    try:
        if logits.dtype is torch.bfloat16 and in_parts(logits):
            total = CrossEntropyInParts.apply(logits, labels, smoothing)
        else:
            total = cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
    except (IndexError, RuntimeError):
        check_ids(name, labels, logits.shape[-1], "number of classes", IGNORED)
        raise
    return mean_of(total, labels.ne(IGNORED).sum(), num_items_in_batch, counted)
