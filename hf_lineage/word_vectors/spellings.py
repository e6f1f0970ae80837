"""Words looked up whatever their case, without taking different words for one."""

from collections.abc import Callable, Sequence

import numpy as np


def turkish_lower(word: str) -> str:
    """Lower case in Turkish and Azerbaijani: I is the capital of ı, İ that of i."""
    return word.replace("İ", "i").replace("I", "ı").lower()


class Spellings:
    """The numbers of words, most frequent first.

    If `case_insensitive`, a word is first looked for as it is, then in lower case, then by Unicode's case folding
    (STRASSE finds Straße), then in Turkish lower case (ISI finds ısı). Of several spellings the first one is found.
    Two words are one group only where their lower case is equal: Maße and Masse, ılık and ilik stay apart.

    gensim compares upper case (`str.upper`), which takes each of these pairs for one word, and gives the first
    spelling even where the very word is there.
    """

    def __init__(self, words: Sequence[str], case_insensitive: bool):
        self.words, self.case_insensitive = words, case_insensitive
        self._exact = {word: i for i, word in enumerate(words)}
        self._tables = {}

    def find(self, word: str) -> int | None:
        """The number of the word, None if it is not there."""
        found = self._exact.get(word)
        if not self.case_insensitive:
            return found
        for fold in (str.lower, str.casefold, turkish_lower):
            if found is None:
                found = self._first(fold).get(fold(word))
        return found

    def groups(self) -> np.ndarray:
        """For each word the number of the first one with the same letters [V]."""
        if not self.case_insensitive:
            return np.arange(len(self.words))
        first = self._first(str.lower)
        return np.array([first[word.lower()] for word in self.words])

    def _first(self, fold: Callable[[str], str]) -> dict[str, int]:
        # each is made where the one before it finds nothing
        if fold not in self._tables:
            # the last one that is put in stays
            numbered = reversed(list(enumerate(self.words)))
            self._tables[fold] = {fold(word): i for i, word in numbered}
        return self._tables[fold]


def is_same_word(a: str, b: str, case_insensitive: bool) -> bool:
    """Whether two words are equal, or equal in lower case."""
    return a == b or (case_insensitive and a.lower() == b.lower())
