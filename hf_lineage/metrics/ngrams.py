"""N-gram models, counted and smoothed exactly: baselines for neural language models, alone or mixed with them.

Each word of a stream has a probability given the words before it, as in `measure_perplexity`: the stream begins with
a token that is only read. Words are numbers below `vocab_size`; documents are not kept apart.

tokens [N] -> number of the k-gram that ends at each token, for k = 1 … n -> its counts -> log-probabilities [N − 1]
"""

import numpy as np


class NGramTable:
    """All k-grams of a text up to order n, numbered: k-gram i of order k is `keys[k - 1][i]`.

    A key is the number of the (k − 1)-gram of the first words, times `vocab_size`, plus the last word. `counts` holds
    how often each k-gram occurs, `suffixes` the number of the (k − 1)-gram of its last words.

    Raises:
        ValueError: order is below 1, or a token lies outside the vocabulary.
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, order: int):
        if order < 1:
            raise ValueError(f"order is {order}; it must be at least 1")
        words = _checked(tokens, vocab_size)
        self.vocab_size = vocab_size
        # a text has no k-grams longer than itself
        self.order = min(order, len(words))
        self.keys, self.counts, self.suffixes, self.first = [], [], [], []
        # number of the (k − 1)-gram that starts at each token; the empty one also starts after the last token
        shorter = np.zeros(len(words) + 1, dtype=np.int64)
        for k in range(1, self.order + 1):
            keys, places, numbers, counts = np.unique(
                shorter[:-1] * vocab_size + words[k - 1 :], return_index=True, return_inverse=True, return_counts=True
            )
            self.keys.append(keys)
            self.counts.append(counts)
            self.suffixes.append(shorter[1:][places])
            # the k-gram at the start of the text has no word before it
            self.first.append(numbers[0])
            shorter = numbers

    def numbers(self, tokens: np.ndarray) -> list[np.ndarray]:
        """For each k from 0 to n the number [N] of the k-gram that ends at each token: −1 = not in the text."""
        words = _checked(tokens, self.vocab_size)
        found = [np.zeros(len(words), dtype=np.int64)]
        for keys in self.keys:
            # the (k − 1)-gram that ends one token earlier; before the second token there is only the empty one
            context = np.concatenate([[0 if keys is self.keys[0] else -1], found[-1][:-1]])
            wanted = context * self.vocab_size + words
            places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            found.append(np.where((context >= 0) & (keys[places] == wanted), places, -1))
        return found


def _checked(tokens, vocab_size):
    tokens = np.asarray(tokens, dtype=np.int64)
    if tokens.ndim != 1 or len(tokens) == 0:
        raise ValueError(f"tokens must be a row of at least one number, not of shape {tokens.shape}")
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(
            f"tokens lie between {tokens.min()} and {tokens.max()}; vocab_size {vocab_size} allows 0 to "
            f"{vocab_size - 1}: were they made by this model's tokenizer?"
        )
    return tokens


class KneserNey:
    """Interpolated modified Kneser-Ney smoothing of order n (Chen and Goodman, 1999, sections 3 and 4.1.6).

    p(w | h) = max(c(h w) − D(c), 0) / c(h •) + γ(h) p(w | h without its first word). Below the highest order, c counts
    the distinct words before an n-gram. D has one value each for the counts 1, 2, and 3 or more. Words that are not in
    the text share the probability that the discount takes from the unigrams.
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, order: int = 5):
        self.table = NGramTable(tokens, vocab_size, order)
        self.discounted, self.totals, self.backoffs = [], [], []
        for k in range(self.table.order):
            counts = self._adjusted_counts(k)
            discounts = np.concatenate([[0.0], modified_discounts(counts)])[np.minimum(counts, 3)]
            contexts = self.table.keys[k] // vocab_size
            num_contexts = len(self.table.keys[k - 1]) if k else 1
            totals = np.bincount(contexts, counts, num_contexts)
            self.discounted.append(counts - discounts)
            self.totals.append(totals)
            given_up = np.bincount(contexts, discounts, num_contexts)
            self.backoffs.append(np.divide(given_up, totals, where=totals > 0, out=np.ones(num_contexts)))

    def _adjusted_counts(self, k):
        """How often each (k + 1)-gram occurs; below the highest order, after how many distinct words."""
        table = self.table
        if k == table.order - 1:
            return table.counts[k]
        counts = np.bincount(table.suffixes[k + 1], minlength=len(table.keys[k]))
        # the start of the text counts as one more word
        counts[table.first[k]] += 1
        return counts

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """log p of each token [N] but the first, given the tokens before it -> float64 [N − 1]."""
        numbers = self.table.numbers(tokens)
        p = np.full(len(tokens) - 1, 1 / self.table.vocab_size)
        for k, (discounted, totals, backoffs) in enumerate(
            zip(self.discounted, self.totals, self.backoffs, strict=True)
        ):
            context, gram = numbers[k][:-1], numbers[k + 1][1:]
            # a context without a following word does not count
            known = (context >= 0) & (totals[context] > 0)
            seen = np.where(gram >= 0, discounted[gram], 0.0)
            p = np.where(known, seen / np.where(known, totals[context], 1.0) + backoffs[context] * p, p)
        return np.log(p)


def modified_discounts(counts: np.ndarray) -> np.ndarray:
    """D for the counts 1, 2, and 3 or more, from how many n-grams occur 1 to 4 times (Chen and Goodman, eq. 26).

    A text that is too small (or does not follow Zipf's law) gets 1/2, 1 and 3/2.
    """
    n1, n2, n3, n4 = np.bincount(counts, minlength=5)[1:5].astype(float)
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if (discounts >= 0).all() and (discounts <= [1, 2, 3]).all():
            return discounts
    return np.array([0.5, 1.0, 1.5])


class InterpolatedTrigram:
    """Deleted interpolation of uniform, unigram, bigram and trigram frequencies (Jelinek and Mercer, 1980).

    As in Bengio et al. (2003), section 4.1, the four weights depend on the count of the two words before, in bins
    ⌈−log((1 + count) / N)⌉, and EM fits them to `held_out` tokens.
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, held_out: np.ndarray, iterations: int = 20):
        self.table = NGramTable(tokens, vocab_size, 3)
        self.followed = [
            np.bincount(keys // vocab_size, counts, len(self.table.keys[k - 1]) if k else 1)
            for k, (keys, counts) in enumerate(zip(self.table.keys, self.table.counts, strict=True))
        ]
        self.length = len(tokens)
        num_bins = int(np.ceil(np.log(self.length))) + 1
        self.weights = np.full((num_bins, self.table.order + 1), 1 / (self.table.order + 1))
        components, bins = self._components(held_out)
        for _ in range(iterations):
            shares = self.weights[bins] * components
            shares /= shares.sum(1, keepdims=True)
            sums = np.stack([np.bincount(bins, column, num_bins) for column in shares.T], axis=1)
            # a bin without held-out tokens keeps its weights
            fitted = sums.sum(1) > 0
            self.weights[fitted] = sums[fitted] / sums[fitted].sum(1, keepdims=True)

    def _components(self, tokens):
        """Frequencies [N − 1, 4] of each token but the first, from uniform to trigram, and its bin [N − 1]."""
        numbers = self.table.numbers(tokens)
        components = [np.full(len(tokens) - 1, 1 / self.table.vocab_size)]
        for k, (counts, followed) in enumerate(zip(self.table.counts, self.followed, strict=True)):
            context, gram = numbers[k][:-1], numbers[k + 1][1:]
            count, total = np.where(gram >= 0, counts[gram], 0), np.where(context >= 0, followed[context], 0)
            # if the words before were never seen, use the shorter context
            components.append(np.where(total > 0, count / np.maximum(total, 1), components[-1]))
        pair = numbers[min(2, self.table.order)][:-1]
        seen = np.where(pair >= 0, self.table.counts[min(2, self.table.order) - 1][pair], 0)
        bins = np.ceil(-np.log((1 + seen) / self.length)).astype(np.int64)
        return np.stack(components, axis=1), bins.clip(0, len(self.weights) - 1)

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """log p of each token [N] but the first, given the tokens before it -> float64 [N − 1]."""
        components, bins = self._components(tokens)
        return np.log((self.weights[bins] * components).sum(1))


def mixture_weight(log_p: np.ndarray, log_q: np.ndarray, iterations: int = 50) -> float:
    """The w that maximises the likelihood of w p + (1 − w) q, by EM on the same held-out text."""
    weight = 0.5
    for _ in range(iterations):
        weight = float(np.mean(np.exp(np.log(weight) + log_p - mixture(log_p, log_q, weight))))
    return weight


def mixture(log_p: np.ndarray, log_q: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """log(w p + (1 − w) q)."""
    return np.logaddexp(np.log(weight) + log_p, np.log1p(-weight) + log_q)
