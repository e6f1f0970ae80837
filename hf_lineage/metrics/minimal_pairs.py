"""Minimal pairs: two sentences differ in one point; is the grammatical one more likely under the model?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.metrics.likelihood import continuation_log_probabilities, pseudo_log_probabilities


@dataclass(frozen=True)
class MinimalPairs:
    """Right judgements and pairs per phenomenon."""

    right: dict[str, int]
    pairs: dict[str, int]

    @property
    def accuracy(self) -> float:
        return sum(self.right.values()) / sum(self.pairs.values())

    def as_dict(self) -> dict:
        """Accuracies, ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "pairs": sum(self.pairs.values()),
            "by_phenomenon": {name: self.right[name] / number for name, number in sorted(self.pairs.items())},
        }


def measure_minimal_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, str]],
    *,
    group_by: str = "UID",
    batch_size: int = 64,
    show_progress: bool = True,
) -> MinimalPairs:
    """Judges rows of {"sentence_good", "sentence_bad", `group_by`}, as in BLiMP (Warstadt et al., 2020).

    A causal language model judges by the sum of its log-probabilities, a masked one (which cannot generate) by the
    pseudo-log-likelihood of Salazar et al. (2020). Equal scores count as wrong.

    Raises:
        ValueError: there are no rows, one lacks a field, or a sentence is longer than the model can read.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("there are no pairs to judge")
    for index, row in enumerate(rows):
        if missing := {"sentence_good", "sentence_bad", group_by}.difference(row):
            raise ValueError(f"row {index} has no {', '.join(sorted(missing))}; it has {', '.join(row)}")
    # the same sentence often stands in several pairs
    sentences = sorted({row[name] for row in rows for name in ("sentence_good", "sentence_bad")})
    settings = {"batch_size": batch_size, "show_progress": show_progress}
    if model.can_generate():
        pairs = [("", sentence) for sentence in sentences]
        scores = continuation_log_probabilities(model, tokenizer, pairs, **settings)
    else:
        scores = pseudo_log_probabilities(model, tokenizer, sentences, **settings)
    totals = dict(zip(sentences, (score.double().sum().item() for score in scores), strict=True))
    right, pairs = {}, {}
    for row in rows:
        is_right = totals[row["sentence_good"]] > totals[row["sentence_bad"]]
        right[row[group_by]] = right.get(row[group_by], 0) + is_right
        pairs[row[group_by]] = pairs.get(row[group_by], 0) + 1
    return MinimalPairs(right, pairs)
