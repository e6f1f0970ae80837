"""What the configuration adds to a loss, which must not get lost."""

from torch import Tensor


def check_terms(labels: Tensor | None, num_items_in_batch: Tensor | int | None, **terms: float):
    """Refuses a training step whose labels Trainer has kept to itself, though the loss has terms that it cannot know.

    Raises:
        ValueError: there is a number of items but no labels, and one of `terms`, weights by name, is not 0.
    """
    if labels is None and num_items_in_batch is not None:
        for name, weight in terms.items():
            if weight:
                raise ValueError(
                    f"{name} is {weight}, but Trainer computes the loss by itself (label_smoothing_factor or "
                    "compute_loss_func) and would leave that term out: use hf_lineage's LineageTrainer, set "
                    f"label_smoothing_factor to 0, or set {name} to 0"
                )
