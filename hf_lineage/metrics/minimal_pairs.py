"""Minimal pairs: two sentences differ in one point; is the grammatical one more likely under the model?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from statistics import fmean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.metrics.likelihood import (
    continuation_log_probabilities,
    directional_log_probabilities,
    pseudo_log_probabilities,
)


def measure_minimal_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, str]],
    *,
    group_by: str = "UID",
    word_l2r: bool = False,
    batch_size: int = 64,
    show_progress: bool = True,
) -> dict:
    """Judges rows of {"sentence_good", "sentence_bad", `group_by`}, as in BLiMP (Warstadt et al., 2020).

    A causal language model judges by the sum of its log-probabilities, a masked one by the pseudo-log-likelihood of
    Salazar et al. (2020), with `word_l2r` by that of Kauf and Ivanova (2023), and a bidirectional one (ELMo) by the
    sum of both directions. Equal scores count as wrong.

    Returns accuracy and pairs (their number), both over all rows, and by_phenomenon, the accuracy per `group_by`; for
    ELMo forward_accuracy and backward_accuracy too.

    Raises:
        ValueError: there are no rows, one lacks a field, or a sentence is longer than the model can read.
    """
    rows = list(rows)
    # the same sentence often stands in several pairs
    sentences = sorted({text for pair in sentence_pairs(rows, group_by) for text in pair})
    settings = {"batch_size": batch_size, "show_progress": show_progress}
    if hasattr(model, "targets_in"):
        both = directional_log_probabilities(model, tokenizer, sentences, **settings)
        forward, backward = (_totals(sentences, scores) for scores in zip(*both, strict=True))
        result = judge_minimal_pairs({text: forward[text] + backward[text] for text in sentences}, rows, group_by)
        for name, totals in (("forward", forward), ("backward", backward)):
            result[f"{name}_accuracy"] = judge_minimal_pairs(totals, rows, group_by)["accuracy"]
        return result
    if model.can_generate():
        pairs = [("", sentence) for sentence in sentences]
        scores = continuation_log_probabilities(model, tokenizer, pairs, **settings)
    else:
        scores = pseudo_log_probabilities(model, tokenizer, sentences, word_l2r=word_l2r, **settings)
    return judge_minimal_pairs(_totals(sentences, scores), rows, group_by)


def _totals(sentences, scores) -> dict[str, float]:
    return dict(zip(sentences, (score.double().sum().item() for score in scores), strict=True))


def sentence_pairs(rows: Iterable[Mapping[str, str]], group_by: str = "UID") -> list[tuple[str, str]]:
    """The good and the bad sentence of each row.

    Raises:
        ValueError: there are no rows, or one lacks a field.
    """
    found = []
    for index, row in enumerate(rows):
        if missing := {"sentence_good", "sentence_bad", group_by}.difference(row):
            raise ValueError(f"row {index} has no {', '.join(sorted(missing))}; it has {', '.join(row)}")
        found.append((row["sentence_good"], row["sentence_bad"]))
    if not found:
        raise ValueError("there are no pairs to judge")
    return found


def judge_minimal_pairs(totals: Mapping[str, float], rows: Iterable[Mapping[str, str]], group_by: str = "UID") -> dict:
    """The result of `measure_minimal_pairs` for sentences with these log-probabilities, such as an n-gram model's."""
    rows = list(rows)
    sentence_pairs(rows, group_by)
    judgements = defaultdict(list)
    for row in rows:
        judgements[row[group_by]].append(totals[row["sentence_good"]] > totals[row["sentence_bad"]])
    return {
        "accuracy": fmean(chain(*judgements.values())),
        "pairs": len(rows),
        "by_phenomenon": {phenomenon: fmean(judged) for phenomenon, judged in sorted(judgements.items())},
    }
