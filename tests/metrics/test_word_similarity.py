"""Word similarity against gensim's evaluation and scipy's correlations."""

import math

import numpy as np
import pytest

from hf_lineage.metrics import WordSimilarity, load_similarities, measure_word_similarity, pair_similarities
from hf_lineage.metrics.word_similarity import WordPair
from hf_lineage.word_vectors import WordVectors


LISTS = ["WS-353-ALL", "WS-353-SIM", "WS-353-REL", "SIMLEX-999", "MEN-TR-3k", "RW-STANFORD", "RG-65", "MC-30"]


@pytest.mark.parametrize("name", [*LISTS, "MTurk-771"])
@pytest.mark.parametrize("options", [{}, {"case_insensitive": False, "dummy4unknown": True}])
def test_published_lists_as_gensim_counts_them(shared_data, name, options):
    models = pytest.importorskip("gensim.models")
    path = shared_data / "words_similarity_en" / f"EN-{name}.tsv"
    pairs = load_similarities(path)
    # a sixth of the words is unknown, half of the others is spelled otherwise
    words = [word for i, word in enumerate(sorted({w for pair in pairs for w in pair[:2]})) if i % 6]
    words = [word.capitalize() if i % 2 else word for i, word in enumerate(words)]
    words = list(dict.fromkeys(words))
    vectors = WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 20)))
    keyed = models.KeyedVectors(20)
    keyed.add_vectors(words, vectors.vectors)
    pearson, spearman, oov_percent = keyed.evaluate_word_pairs(str(path), **options)
    result = measure_word_similarity(vectors, pairs, **options)
    # cosines of float32 that differ in the last digit may swap two ranks
    assert result["spearman"] == pytest.approx(spearman[0], abs=1e-5)
    assert result["pearson"] == pytest.approx(pearson[0], abs=1e-5)
    assert result["oov_rate"] == pytest.approx(oov_percent / 100)
    assert result["out_of_vocabulary"] > 0


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_correlations_with_ties_as_scipy_computes_them(levels):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(levels)
    cosines = rng.integers(0, levels, 50) / levels
    scores = cosines + rng.integers(0, levels, 50) / levels
    result = WordSimilarity().compute(predictions=cosines.tolist(), references=scores.tolist())
    assert result["spearman"] == pytest.approx(stats.spearmanr(cosines, scores).statistic)
    assert result["pearson"] == pytest.approx(stats.pearsonr(cosines, scores).statistic)


@pytest.fixture
def vectors():
    return WordVectors(["cat", "Dog", "DOG", "car"], [[1, 0], [1, 1], [0, 1], [-1, 1]])


def test_pairs_by_hand(vectors):
    pairs = [
        WordPair("cat", "dog", 9),
        WordPair("cat", "car", 1),
        WordPair("cat", "bus", 5),
        WordPair("DOG", "car", 2),
    ]
    root = 0.5**0.5
    # dog is found in its first spelling, Dog, and DOG as it stands
    assert pair_similarities(vectors, pairs) == [pytest.approx(root), pytest.approx(-root), None, pytest.approx(root)]
    exact = pair_similarities(vectors, pairs, case_insensitive=False)
    assert exact == [None, pytest.approx(-root), None, pytest.approx(root)]
    assert pair_similarities(vectors, pairs, restrict_vocab=2) == [pytest.approx(root), None, None, None]
    result = measure_word_similarity(vectors, pairs)
    # ranks of cosines 2.5 1 2.5 against 3 1 2
    assert result["spearman"] == pytest.approx(0.75**0.5)
    assert (result["total"], result["out_of_vocabulary"], result["oov_rate"]) == (3, 1, 0.25)
    # with the unknown pair at 0, ranks of cosines 3.5 1 2 3.5 against 4 1 3 2
    result = measure_word_similarity(vectors, pairs, dummy4unknown=True)
    assert result["spearman"] == pytest.approx(3 / (5 * 4.5) ** 0.5)
    assert result["total"] == 4


def test_metric_of_evaluate_gives_the_same(vectors):
    pairs = [WordPair("cat", "dog", 9), WordPair("cat", "car", 1), WordPair("cat", "bus", 5)]
    cosines, scores = pair_similarities(vectors, pairs), [pair.score for pair in pairs]
    expected = measure_word_similarity(vectors, pairs)
    metric = WordSimilarity()
    for cosine, score in zip(cosines, scores, strict=True):
        metric.add(prediction=cosine, reference=score)
    assert metric.compute() == expected
    for part in (slice(2, 3), slice(0, 2)):
        metric.add_batch(predictions=cosines[part], references=scores[part])
    assert metric.compute() == expected


def test_too_few_or_equal_pairs_have_no_correlation(vectors):
    for pairs in ([WordPair("cat", "bus", 1)], [WordPair("cat", "dog", 5), WordPair("cat", "car", 5)]):
        assert math.isnan(measure_word_similarity(vectors, pairs)["spearman"])


def test_other_layouts_of_lists(tmp_path):
    path = tmp_path / "combined.csv"
    path.write_text("Word 1,Word 2,Human (mean)\n# note\nlove,sex,6.77\n\ntiger,cat,7.35\n", encoding="utf-8")
    assert load_similarities(path, delimiter=",") == [("love", "sex", 6.77), ("tiger", "cat", 7.35)]
    path.write_text("word1\tword2\tPOS\tSimLex999\nold\tnew\tA\t1.58\n", encoding="utf-8")
    assert load_similarities(path, score_column=3) == [("old", "new", 1.58)]


def test_a_mark_before_the_first_word_is_dropped(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("\ufefflove\tsex\t6.77\n", encoding="utf-8")
    assert load_similarities(path) == [("love", "sex", 6.77)]
    path.write_text("\ufeff# a note\nlove\tsex\t6.77\n", encoding="utf-8")
    assert load_similarities(path) == [("love", "sex", 6.77)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\t1\na\tb\n", "line 2"),
        ("a\tb\t1\na\tb\tx\n", "line 2"),
        ("a\tb\t1\na\tb\tnan\n", "line 2"),
        ("a b 1\na c 2\n", r"line 1: .*separated by '\\t'"),
        ("word1\tword2\tscore\n", "no pair"),
    ],
)
def test_broken_lists_are_named(tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"pairs.tsv.*{message}"):
        load_similarities(path)
