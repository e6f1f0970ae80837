"""The characters that a vocabulary of pieces starts from: the most frequent ones, as many as the text needs."""

from collections import Counter
from collections.abc import Mapping

import numpy as np


# shares of the training text's words that the alphabet spells
WANTED_SHARE = 0.9999
LEAST_SHARE = 0.95


class Alphabet:
    """The characters of counted words, most frequent first, equally frequent ones by code point.

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
        """How many characters to keep if character i takes takes[i] entries and the vocabulary has `room` entries.

        Keeps `at_least` characters (if there are that many and they fit), or more until they spell 99.99 % of the
        words. If those do not fit, keeps as many as fit, provided that these spell 95 %. If not, the returned number
        does not fit, and the caller reports that the vocabulary is too small.
        """
        taken = np.concatenate([[0], np.cumsum(takes)])
        wanted = int(np.searchsorted(self.shares, WANTED_SHARE))
        at_least = min(at_least, len(self.characters))
        if taken[at_least] <= room:
            wanted = max(wanted, at_least)
        fitting = max(int(np.searchsorted(taken, room, side="right")) - 1, 0)
        return fitting if fitting < wanted and self.shares[fitting] >= LEAST_SHARE else wanted
