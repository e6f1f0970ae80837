"""Learning-rate schedules that transformers lacks: each gives a factor on the base rate for every update."""

import math
from collections.abc import Callable


def flat_then_decay(
    updates_per_epoch: int, flat_epochs: float, epoch_decay: float, decay_epochs: float = 1.0
) -> Callable[[int], float]:
    """1 during the first `flat_epochs` epochs, then multiplied by `epoch_decay` every `decay_epochs` epochs.

    Zaremba et al. (2014), section 4.1, halve the small model's rate every epoch after 4 flat epochs; Sutskever et al.
    (2014), section 3.4, every half epoch after 5.
    """

    def factor(update: int) -> float:
        times = (update - flat_epochs * updates_per_epoch) // (decay_epochs * updates_per_epoch) + 1
        return epoch_decay ** max(times, 0)

    return factor


def inverse_time(decay: float) -> Callable[[int], float]:
    """1 / (1 + r t) after t updates, with r = `decay`.

    Bengio et al. (2003), section 4, have a rate of 1e-3 and r = 1e-8, with one update per word.
    """

    def factor(update: int) -> float:
        return 1 / (1 + decay * update)

    return factor


def noam(warmup_updates: int) -> Callable[[int], float]:
    """Linear warm-up, then 1/√s; the first update is s = 1, and the peak is 1 at s = `warmup_updates`.

    Vaswani et al. (2017), equation 3: with a base rate of D^(−1/2) · warmup^(−1/2) this is
    D^(−1/2) · min(s^(−1/2), s · warmup^(−3/2)). transformers' `inverse_sqrt` is one update late: its first is 0.

    Raises:
        ValueError: warmup_updates is below 1.
    """
    if warmup_updates < 1:
        raise ValueError(f"warmup_updates is {warmup_updates}; it must be at least 1")

    def factor(update: int) -> float:
        return min((update + 1) / warmup_updates, (warmup_updates / (update + 1)) ** 0.5)

    return factor


def truth_share(schedule: str | None, step: int, k: float, c: float = 0.0, least: float = 0.0) -> float:
    """ε of scheduled sampling at `step`: the probability of reading the true word (Bengio et al., 2015, section 2.4).

    "linear" is k − c · step, "exponential" k^step with k < 1, "inverse_sigmoid" k / (k + exp(step / k)) with k ≥ 1;
    all are at least `least`.

    Raises:
        ValueError: the schedule is none of these, or a number is outside its range.
    """
    ranges = {"linear": (0, 1), "exponential": (0, 1), "inverse_sigmoid": (1, math.inf)}
    if schedule not in ranges:
        raise ValueError(f"scheduled_sampling is {schedule!r}; it must be one of {', '.join(ranges)}")
    low, high = ranges[schedule]
    if not low <= k <= high or (schedule == "exponential" and k == 1) or c < 0 or not 0 <= least <= 1:
        raise ValueError(
            f"k is {k}, c {c} and the least share {least}; k must lie in {(low, high)} for {schedule!r} (below 1 if "
            "exponential), c must be at least 0, and the least share must lie in [0, 1]"
        )
    if schedule == "linear":
        share = k - c * step
    elif schedule == "exponential":
        share = k**step
    else:
        # beyond 700 the exponential would overflow, and the share is 0
        share = k / (k + math.exp(min(step / k, 700)))
    return max(least, share)
