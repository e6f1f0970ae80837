"""n-gram models, against the definitions written out with dictionaries, and by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from hf_lineage.metrics.ngrams import (
    InterpolatedTrigram,
    KneserNey,
    NGramTable,
    mixture,
    mixture_weight,
    modified_discounts,
)


VOCAB = 12


def text(length=2_000, seed=0):
    """Words of unequal frequency, each likelier after some than after others."""
    draw = np.random.default_rng(seed)
    zipf = 1 / np.arange(1, VOCAB)
    follow = draw.dirichlet(zipf, VOCAB)
    words = [0]
    while len(words) < length:
        # the last word of the vocabulary never occurs
        words.append(int(draw.choice(VOCAB - 1, p=follow[words[-1]])))
    return np.array(words)


class Definition:
    """Modified Kneser-Ney as Chen and Goodman define it, with sets and dictionaries."""

    def __init__(self, words, order):
        words = words.tolist()
        self.levels = []
        for k in range(1, order + 1):
            grams = [tuple(words[i : i + k]) for i in range(len(words) - k + 1)]
            if k == order:
                counts = Counter(grams)
            else:
                before = defaultdict(set)
                for i, gram in enumerate(grams):
                    before[gram].add(words[i - 1] if i else "start")
                counts = Counter({gram: len(words_before) for gram, words_before in before.items()})
            of_counts = Counter(counts.values())
            if all(of_counts[i] for i in (1, 2, 3, 4)):
                y = of_counts[1] / (of_counts[1] + 2 * of_counts[2])
                discounts = [0] + [i - (i + 1) * y * of_counts[i + 1] / of_counts[i] for i in (1, 2, 3)]
            else:
                # so few words never occur once to four times
                discounts = [0, 0.5, 1, 1.5]
            self.levels.append((counts, discounts))

    def p(self, word, history):
        """p(word | the last n − 1 words of history)."""
        k = min(len(history) + 1, len(self.levels))
        p = 1 / VOCAB
        for length in range(k):
            context = tuple(history[len(history) - length :])
            counts, discounts = self.levels[length]
            following = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
            if following:
                total = sum(following.values())
                given_up = sum(discounts[min(count, 3)] for count in following.values())
                count = following.get(word, 0)
                p = (count - discounts[min(count, 3)]) / total + given_up / total * p
        return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_is_its_definition(order):
    train, test = text(), text(60, seed=1)
    test[30] = VOCAB - 1
    definition = Definition(train, order)
    assert order < 3 or 0 < definition.levels[-1][1][1] != 0.5
    found = KneserNey(train, VOCAB, order).log_probabilities(test)
    expected = [math.log(definition.p(test[i], test[:i].tolist())) for i in range(1, len(test))]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_kneser_ney_by_hand():
    # a b a b a: bigrams ab 2, ba 2; after one word each, and a also at the start
    model = KneserNey(np.array([0, 1, 0, 1, 0]), 3, order=2)
    # too small a text to tell discounts: 1/2, 1, 3/2
    p_a = (2 - 1) / 3 + (1 + 0.5) / 3 * 1 / 3
    p_b = (1 - 0.5) / 3 + (1 + 0.5) / 3 * 1 / 3
    p_c = (1 + 0.5) / 3 * 1 / 3
    expected = [(2 - 1) / 2 + 1 / 2 * p_b, 1 / 2 * p_c, p_a]
    np.testing.assert_allclose(np.exp(model.log_probabilities(np.array([0, 1]))), expected[:1])
    np.testing.assert_allclose(np.exp(model.log_probabilities(np.array([0, 2, 0]))), expected[1:])


def models():
    train = text()
    yield from (KneserNey(train, VOCAB, order) for order in (1, 3, 5))
    yield InterpolatedTrigram(train, VOCAB, text(500, seed=2))


@pytest.mark.parametrize("model", list(models()), ids=lambda model: f"{type(model).__name__}-{model.table.order}")
def test_probabilities_of_all_words_sum_to_one(model):
    # histories that the text has, that it ends with, that it does not have, and one word alone
    for history in ([0], [3, 0, 1], text()[-4:].tolist(), [VOCAB - 1, VOCAB - 1, 2], [2, VOCAB - 1]):
        p = [np.exp(model.log_probabilities(np.array([*history, word]))[-1]) for word in range(VOCAB)]
        assert min(p) > 0
        assert sum(p) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("model", list(models()), ids=lambda model: f"{type(model).__name__}-{model.table.order}")
def test_only_the_last_words_count(model):
    order = model.table.order
    end = text(200, seed=3)[-order:]
    first, second = (model.log_probabilities(np.concatenate([[start], end]))[-1] for start in (1, 2))
    assert first == second


def test_discounts_of_a_text_too_small():
    assert modified_discounts(np.array([1, 1, 2])).tolist() == [0.5, 1.0, 1.5]
    counts = np.repeat([1, 2, 3, 4], [100, 40, 20, 12])
    y = 100 / 180
    expected = [1 - 2 * y * 40 / 100, 2 - 3 * y * 20 / 40, 3 - 4 * y * 12 / 20]
    np.testing.assert_allclose(modified_discounts(counts), expected)


def test_deleted_interpolation_is_a_mixture_of_frequencies():
    train, held_out = text(), text(800, seed=2)
    model = InterpolatedTrigram(train, VOCAB, held_out)
    np.testing.assert_allclose(model.weights.sum(1), 1)
    words, after_one = train.tolist(), Counter(train[:-1].tolist())
    pairs, triples, after_two = (Counter() for _ in range(3))
    for i in range(1, len(words)):
        pairs[tuple(words[i - 1 : i + 1])] += 1
    for i in range(2, len(words)):
        triples[tuple(words[i - 2 : i + 1])] += 1
        after_two[tuple(words[i - 2 : i])] += 1
    i = 100
    u, v, w = held_out[i - 2 : i + 1].tolist()
    frequencies = [1 / VOCAB, np.mean(train == w), pairs[v, w] / after_one[v], triples[u, v, w] / after_two[u, v]]
    weights = model.weights[math.ceil(-math.log((1 + pairs[u, v]) / 2_000))]
    assert after_two[u, v] > 0
    assert model.log_probabilities(held_out)[i - 1] == pytest.approx(math.log(weights @ frequencies))


def test_weights_are_fitted_to_the_held_out_text():
    train, held_out = text(), text(800, seed=2)
    means = [
        InterpolatedTrigram(train, VOCAB, held_out, iterations=n).log_probabilities(held_out).mean()
        for n in (0, 1, 5, 20)
    ]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.01


def test_mixture_weight_is_the_best():
    draw = np.random.default_rng(0)
    log_p, log_q = np.log(draw.random(5_000)), np.log(0.8 * draw.random(5_000))
    best = mixture_weight(log_p, log_q)
    assert 0.5 < best < 0.99
    likelihoods = [mixture(log_p, log_q, weight).mean() for weight in (best - 0.02, best, best + 0.02)]
    assert likelihoods[1] == max(likelihoods)
    np.testing.assert_allclose(np.exp(mixture(log_p, log_q)), (np.exp(log_p) + np.exp(log_q)) / 2)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "at least one number"), ([0, 12], "vocab_size 12 allows 0 to 11"), ([0, -1], "vocab_size 12 allows")],
)
def test_bad_tokens_are_named(tokens, message):
    with pytest.raises(ValueError, match=message):
        NGramTable(np.array(tokens), VOCAB, 2)
    with pytest.raises(ValueError, match="order is 0"):
        NGramTable(np.array([0, 1]), VOCAB, 0)


def test_a_text_shorter_than_the_order():
    model = KneserNey(np.array([0, 1]), VOCAB, order=5)
    assert model.table.order == 2
    assert np.isfinite(model.log_probabilities(np.array([0, 1, 2, 3, 4, 5]))).all()
