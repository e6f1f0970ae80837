"""What heads share that label whole texts (classes, several labels at once, numbers) or mark an answer in them."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, nll_loss

from .inputs import IGNORED, check_classes, kind_of
from .losses import mean_cross_entropy, mean_of


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    config,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    **unused,
) -> Tensor:
    """Loss of logits [B, C] for `config.problem_type`; if that is None, the labels decide.

    - "regression": squared error of numbers, [B] for one label or [B, C];
    - "single_label_classification": cross entropy of classes [B];
    - "multi_label_classification": binary cross entropy of 0 and 1 [B, C].

    Raises:
        ValueError: a class is out of its range, the labels have another shape than the logits, or label smoothing is
            set for labels that are not classes.
    """
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor, not {kind_of(labels)}")
    labels = labels.to(logits.device)
    if config.problem_type is None:
        is_integer = not labels.is_floating_point() and labels.dtype is not torch.bool
        kind = "single_label_classification" if is_integer else "multi_label_classification"
        config.problem_type = "regression" if config.num_labels == 1 else kind
    if config.problem_type == "single_label_classification":
        return mean_cross_entropy(logits, labels.flatten(), num_items_in_batch, smoothing)
    if smoothing:
        raise ValueError(
            f"label_smoothing_factor is {smoothing}, but problem_type is {config.problem_type!r}: only labels "
            "that are classes can be smoothed; set it to 0"
        )
    if labels.numel() != logits.numel():
        raise ValueError(
            f"labels have shape {list(labels.shape)}; {config.problem_type} needs {list(logits.shape)}, a number for "
            "each label"
        )
    loss = mse_loss if config.problem_type == "regression" else binary_cross_entropy_with_logits
    total = loss(logits.float(), labels.view_as(logits).float(), reduction="sum")
    # a regression label may be −100, and Trainer would not count it
    return mean_of(total, labels.numel(), num_items_in_batch, labels.ne(IGNORED).sum())


def span_loss(
    start_logits: Tensor,
    end_logits: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    attention_mask: Tensor | None,
    smoothing: float = 0.0,
    num_items_in_batch: Tensor | int | None = None,
    num_ends_in_batch: Tensor | int | None = None,
) -> Tensor:
    """Mean of the cross entropies of an answer's first and last token; logits [B, T], positions [B] or [B, 1].

    Padding, where `attention_mask` [B, T] is 0, is not an answer: transformers' heads count it among the classes, so
    their losses grow with the padding. `num_items_in_batch` counts the scored first tokens of all accumulated batches,
    `num_ends_in_batch` the last ones.
    """
    sides = (start_logits, start_positions, num_items_in_batch), (end_logits, end_positions, num_ends_in_batch)
    losses = []
    for logits, positions, number in sides:
        log_p, labels = answers_in(logits, positions, attention_mask)
        total = answer_nll(log_p, labels)
        if smoothing:
            is_token = log_p > torch.finfo(log_p.dtype).min
            of_all = -(log_p * is_token).sum(1) / is_token.sum(1).clamp(min=1)
            total = (1 - smoothing) * total + smoothing * of_all.masked_fill(labels == IGNORED, 0).sum()
        losses.append(mean_of(total, labels.ne(IGNORED).sum(), number))
    return sum(losses) / 2


def answers_in(logits: Tensor, positions: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits [B, T] of one side of an answer -> log-probabilities [B, T] of a text's own tokens, and labels [B].

    Padding has the lowest number of float32.

    Raises:
        ValueError: the positions are not whole numbers, or not one for each text.
    """
    check_classes("start_positions and end_positions", positions, len(logits))
    logits = logits.float()
    if attention_mask is not None and attention_mask.dim() == 2:
        lowest, is_padding = torch.finfo(logits.dtype).min, attention_mask == 0
        log_p = logits.masked_fill(is_padding, lowest).log_softmax(1).masked_fill(is_padding, lowest)
    else:
        log_p = logits.log_softmax(1)
    return log_p, answer_labels(positions, logits.shape[1], attention_mask)


def answer_nll(log_p: Tensor, labels: Tensor) -> Tensor:
    """Sum of −log p of the labels [B]."""
    return nll_loss(log_p, labels, ignore_index=IGNORED, reduction="sum")


def answer_labels(positions: Tensor, length: int, attention_mask: Tensor | None) -> Tensor:
    """Positions [B] or [B, 1] in texts of `length` tokens -> labels [B].

    A position outside the text, such as −1, one in the padding, or the position of an answer cut off by truncation, is
    not scored.
    """
    positions = positions.flatten().long()
    outside = (positions < 0) | (positions >= length)
    if attention_mask is not None and attention_mask.dim() == 2 and length:
        at = attention_mask.gather(1, positions.clamp(0, length - 1)[:, None])[:, 0]
        outside = outside | (at == 0)
    return positions.masked_fill(outside, IGNORED)


def why_not_smoothed(model) -> str | None:
    """Why transformers' Trainer cannot smooth the labels of this head; None if it can."""
    name, config = type(model).__name__, model.config
    if name.endswith(("ForQuestionAnswering", "ForPreTraining")):
        return f"Trainer cannot smooth the loss of {name}: use hf_lineage's LineageTrainer, or set it to 0"
    if name.endswith("ForSequenceClassification") and (config.num_labels == 1 or config.problem_type == "regression"):
        return f"the labels of {name} are numbers (num_labels is {config.num_labels}), not classes: set it to 0"
    return None


def refuse_smoothing(model):
    """Lets each new Trainer refuse `label_smoothing_factor` where it would ignore it or fail (`why_not_smoothed`)."""
    if why_not_smoothed(model) is not None:
        watch_trainers()


@cache
def watch_trainers():
    """Gives transformers' Trainer one more default callback: it tells its settings to no model, but to callbacks."""
    # the import takes a second, which few heads need
    from transformers.trainer import DEFAULT_CALLBACKS, TrainerCallback

    class RefuseSmoothing(TrainerCallback):
        def on_init_end(self, args, state, control, model=None, **kwargs):
            head = model.get_base_model() if hasattr(model, "get_base_model") else model
            is_ours = getattr(getattr(head, "config", None), "model_type", "").startswith("lineage_")
            reason = why_not_smoothed(head) if is_ours and args.label_smoothing_factor else None
            if reason is not None:
                raise ValueError(f"label_smoothing_factor is {args.label_smoothing_factor}, but {reason}")

    DEFAULT_CALLBACKS.append(RefuseSmoothing)
