"""Word similarity: do cosines of word vectors rank pairs of words as people do? (Finkelstein et al., 2002: WS-353)"""

from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, Value

from hf_lineage.word_vectors.similarity import WordPair, pair_similarities
from hf_lineage.word_vectors.vectors import WordVectors


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
    """Rank correlation with people. predictions: cosines, None if a word is unknown; references: people's scores.

    `compute` also takes `dummy4unknown`: give pairs with unknown words the similarity 0 (default: leave them out). It
    returns spearman, pearson (nan for fewer than two pairs, or if all are equal), total (the pairs that count),
    out_of_vocabulary and oov_rate, the share of unknown pairs.
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
    """Ranks from 1; equal values get the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]


def _correlation(x, y):
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
