"""What all encoder-decoders do alike: shift the target to the right, and score the next target token."""

from torch import Tensor
from torch.nn.functional import cross_entropy


IGNORED = -100


def shift_right(labels: Tensor, config) -> Tensor:
    """Decoder inputs [B, T] for `labels` [B, T]: the start token first, each label one place later, −100 as padding.

    Raises:
        ValueError: the configuration has no decoder_start_token_id or no pad_token_id.
    """
    for name in ("decoder_start_token_id", "pad_token_id"):
        if getattr(config, name) is None:
            raise ValueError(f"the configuration has no {name}, which decoder inputs made of labels need: set it")
    shifted = labels.roll(1, dims=1)
    shifted[:, :1] = config.decoder_start_token_id
    return shifted.masked_fill(shifted == IGNORED, config.pad_token_id)


def target_loss(logits: Tensor, labels: Tensor, num_items_in_batch=None, **kwargs) -> Tensor:
    """Mean cross entropy of logits [B, T, V] with labels [B, T], without a shift: decoder inputs are shifted already.

    transformers' own loss for `...ForConditionalGeneration` would shift once more. The mean is over the labels that
    are not −100, or over `num_items_in_batch` of them, where batches are accumulated.
    """
    total = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
