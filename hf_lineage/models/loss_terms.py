"""Terms that the configuration adds to a loss, and a check that Trainer does not drop them."""

from torch import Tensor


def check_labels(model, num_items_in_batch: Tensor | int | None):
    """Refuses a training step whose labels Trainer withholds, of a head whose loss it cannot compute.

    Raises:
        ValueError: the number of items is given.
    """
    if num_items_in_batch is not None:
        raise ValueError(
            f"{type(model).__name__} has a loss of its own, but Trainer withholds the labels (label_smoothing_factor "
            "or compute_loss_func) to compute another one: use hf_lineage's LineageTrainer, or set "
            "label_smoothing_factor to 0"
        )


def check_terms(num_items_in_batch: Tensor | int | None, **terms: float):
    """Refuses a training step whose labels Trainer withholds, if the loss has terms that Trainer does not know.

    Raises:
        ValueError: the number of items is given, and one of `terms`, weights by name, is not 0.
    """
    if num_items_in_batch is not None:
        for name, weight in terms.items():
            if weight:
                raise ValueError(
                    f"{name} is {weight}, but Trainer computes the loss by itself (label_smoothing_factor or "
                    "compute_loss_func) and would leave that term out: use hf_lineage's LineageTrainer, set "
                    f"label_smoothing_factor to 0, or set {name} to 0"
                )
