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
from .fast_scored import number_on
from .inputs import IGNORED, check_classes, check_ids


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
