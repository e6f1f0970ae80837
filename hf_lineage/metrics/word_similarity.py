"""Word similarity: do cosines of word vectors rank pairs of words as people do (Finkelstein et al., 2002: WS-353)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import evaluate
import numpy as np
from datasets import Features, Value

from ..word_vectors import WordVectors


class WordPair(NamedTuple):
    """Two words, and how similar people find them, on any scale."""

    a: str
    b: str
    score: float


def load_similarities(path: str | Path, *, delimiter: str = "\t", score_column: int = 2) -> list[WordPair]:
    """Reads pairs, one a line: two words and a score. Lines that begin with # and a header are left out.

    WS-353's original file needs delimiter="," (combined.csv), SimLex-999's score_column=3.

    Raises:
        ValueError: a line lacks a column, its score is not a finite number, or the file has no pair.
        OSError: the file cannot be read.
    """
    pairs = []
    for line_number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(delimiter)]
        try:
            pair = WordPair(fields[0], fields[1], float(fields[score_column]))
        except (IndexError, ValueError):
            pair = None
        if pair is not None and np.isfinite(pair.score):
            pairs.append(pair)
        elif line_number > 1 or len(fields) <= score_column:
            raise ValueError(
                f"{path}, line {line_number}: {line!r} is not two words and a number in column {score_column} "
                f"(counted from 0), separated by {delimiter!r}"
            )
    if not pairs:
        raise ValueError(f"{path}: no pair of words with a score")
    return pairs


def pair_similarities(
    vectors: WordVectors,
    pairs: Sequence[WordPair],
    *,
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
) -> list[float | None]:
    """The cosine of each pair; None if one of the two is not among the first `restrict_vocab` words.

    If `case_insensitive`, a word is looked up in its first, most frequent, spelling, as in gensim.

    Raises:
        ValueError: restrict_vocab is below 1.
    """
    spelled = vectors.ids_by_spelling(restrict_vocab, case_insensitive)
    ids = [[spelled.get(word.upper() if case_insensitive else word) for word in pair[:2]] for pair in pairs]
    known = np.array([row for row in ids if None not in row], np.int64).reshape(-1, 2)
    cosines = iter(np.einsum("pd,pd->p", vectors.unit(known[:, 0]), vectors.unit(known[:, 1])).tolist())
    return [None if None in row else next(cosines) for row in ids]


def measure_word_similarity(
    vectors: WordVectors,
    pairs: Sequence[WordPair],
    *,
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
) -> dict[str, float]:
    """Compares cosines with the scores of `load_similarities`: `pair_similarities`, then `WordSimilarity`."""
    options = {"restrict_vocab": restrict_vocab, "case_insensitive": case_insensitive}
    return _score(pair_similarities(vectors, pairs, **options), [pair.score for pair in pairs], dummy4unknown)


class WordSimilarity(evaluate.Metric):
    """Rank correlation with people. predictions: cosines, None where a word is unknown; references: people's scores.

    `compute` also takes `dummy4unknown`: count pairs with unknown words as of similarity 0 (default: leave them out).
    It returns spearman, pearson (nan for fewer than two pairs, or where all are equal), total (the pairs that count),
    out_of_vocabulary and oov_rate, the share of unknown pairs among all.
    """

    def _info(self):
        features = Features({"predictions": Value("float64"), "references": Value("float64")})
        citation = "Finkelstein et al., 2002, Placing Search in Context: The Concept Revisited"
        return evaluate.MetricInfo(description=type(self).__doc__, citation=citation, features=features)

    def _compute(self, predictions, references, dummy4unknown=False):
        return _score(predictions, references, dummy4unknown)


def _score(cosines, scores, dummy4unknown):
    unknown = cosines.count(None)
    counted = [
        (cosine or 0.0, score)
        for cosine, score in zip(cosines, scores, strict=True)
        if dummy4unknown or cosine is not None
    ]
    model, people = np.array(counted, np.float64).reshape(-1, 2).T
    return {
        "spearman": _correlation(_ranks(model), _ranks(people)),
        "pearson": _correlation(model, people),
        "total": len(counted),
        "out_of_vocabulary": unknown,
        "oov_rate": unknown / len(scores),
    }


def _ranks(values):
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]


def _correlation(x, y):
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
