"""Learning-rate schedules that transformers lacks, each a factor on the base rate as a function of the update."""

from collections.abc import Callable


def flat_then_decay(updates_per_epoch: int, flat_epochs: float, epoch_decay: float) -> Callable[[int], float]:
    """1 during the first `flat_epochs` epochs, then times `epoch_decay` at the start of each epoch.

    Zaremba et al. (2014), section 4.1: the small model's rate is halved each epoch after 4 flat ones (0.5).
    """

    def factor(update: int) -> float:
        epoch = update // updates_per_epoch
        return epoch_decay ** max(epoch + 1 - flat_epochs, 0)

    return factor


def inverse_time(decay: float) -> Callable[[int], float]:
    """1 / (1 + r t) after t updates, with r = `decay`.

    Bengio et al. (2003), section 4: a rate of 1e-3 and r = 1e-8, where each word of the text is an update.
    """

    def factor(update: int) -> float:
        return 1 / (1 + decay * update)

    return factor
