"""Which characters a vocabulary of pieces starts from: the most frequent ones, as many as the text needs."""

from collections import Counter
from collections.abc import Mapping

import numpy as np


# of the words of the training text, those spelled in the alphabet alone
WANTED_SHARE = 0.9999
LEAST_SHARE = 0.95


class Alphabet:
    """The characters of counted words, most frequent first; of equally frequent ones, the smaller code point first.

    shares[n] is the share of the words that the n most frequent characters spell.
    """

    def __init__(self, word_counts: Mapping[str, int]):
        counts = Counter()
        for word, count in word_counts.items():
            for character in word:
                counts[character] += count
        self.characters = sorted(counts, key=lambda character: (-counts[character], character))
        ranks = {character: rank for rank, character in enumerate(self.characters)}
        spelled = np.zeros(len(ranks) + 1)
        for word, count in word_counts.items():
            spelled[max(map(ranks.__getitem__, word)) + 1] += count
        self.shares = spelled.cumsum() / spelled.sum()

    def enough(self, at_least: int, takes: np.ndarray, room: int) -> int:
        """How many characters to keep where character i takes takes[i] entries of a vocabulary with so much `room`.

        `at_least`, if there are that many and they fit, or as many as spell 99.99 % of the words. Where those do not
        fit, as many as do, if these spell 95 %: with less, a vocabulary is too small, which is for the caller to say.
        """
        taken = np.concatenate([[0], np.cumsum(takes)])
        wanted = int(np.searchsorted(self.shares, WANTED_SHARE))
        at_least = min(at_least, len(self.characters))
        if taken[at_least] <= room:
            wanted = max(wanted, at_least)
        fitting = max(int(np.searchsorted(taken, room, side="right")) - 1, 0)
        return fitting if fitting < wanted and self.shares[fitting] >= LEAST_SHARE else wanted
