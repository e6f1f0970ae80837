"""Minimal pairs: two sentences differ in one point; is the grammatical one more likely under the model?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from statistics import fmean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.metrics.likelihood import continuation_log_probabilities, pseudo_log_probabilities


def measure_minimal_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, str]],
    *,
    group_by: str = "UID",
    batch_size: int = 64,
    show_progress: bool = True,
) -> dict:
    """Judges rows of {"sentence_good", "sentence_bad", `group_by`}, as in BLiMP (Warstadt et al., 2020).

    A causal language model judges by the sum of its log-probabilities, a masked one (which cannot generate) by the
    pseudo-log-likelihood of Salazar et al. (2020). Equal scores count as wrong.

    Returns accuracy and pairs (their number), both over all rows, and by_phenomenon, the accuracy per `group_by`.

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
    judgements = defaultdict(list)
    for row in rows:
        judgements[row[group_by]].append(totals[row["sentence_good"]] > totals[row["sentence_bad"]])
    return {
        "accuracy": fmean(chain(*judgements.values())),
        "pairs": len(rows),
        "by_phenomenon": {phenomenon: fmean(judged) for phenomenon, judged in sorted(judgements.items())},
    }
