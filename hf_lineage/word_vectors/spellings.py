"""Looks up words in any case, without confusing different words."""

from collections.abc import Callable, Sequence

import numpy as np


def turkish_lower(word: str) -> str:
    """Lower case in Turkish and Azerbaijani: I is the capital of ı, İ that of i."""
    return word.replace("İ", "i").replace("I", "ı").lower()


class Spellings:
    """The numbers of words, most frequent first.

    With `case_insensitive`, a word is looked up as it is, then in lower case, then by Unicode's case folding (STRASSE
    finds Straße), then in Turkish lower case (ISI finds ısı). The first of several spellings is found. Two words form
    a group only if their lower case is equal: Maße and Masse, ılık and ilik stay apart.

    gensim compares upper case (`str.upper`). It treats Maße and Masse, and ılık and ilik, as one word, and gives the
    first spelling even if the exact word exists.
    """

    def __init__(self, words: Sequence[str], case_insensitive: bool):
        self.words, self.case_insensitive = words, case_insensitive
        self._exact = {word: i for i, word in enumerate(words)}
        self._tables = {}

    def find(self, word: str) -> int | None:
        """The number of the word, or None."""
        found = self._exact.get(word)
        if not self.case_insensitive:
            return found
        for fold in (str.lower, str.casefold, turkish_lower):
            if found is None:
                found = self._first(fold).get(fold(word))
        return found

    def groups(self) -> np.ndarray:
        """For each word the number of the first word with the same letters [V]."""
        if not self.case_insensitive:
            return np.arange(len(self.words))
        first = self._first(str.lower)
        return np.array([first[word.lower()] for word in self.words])

    def _first(self, fold: Callable[[str], str]) -> dict[str, int]:
        # each table is built only when the one before finds nothing
        if fold not in self._tables:
            # the last entry wins
            numbered = reversed(list(enumerate(self.words)))
            self._tables[fold] = {fold(word): i for i, word in numbered}
        return self._tables[fold]


def is_same_word(a: str, b: str, case_insensitive: bool) -> bool:
    """Whether two words are equal, or equal in lower case."""
    return a == b or (case_insensitive and a.lower() == b.lower())
