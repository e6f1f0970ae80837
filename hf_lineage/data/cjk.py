"""Writing without blanks between words: Chinese characters and Japanese kana."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


# kana, ideographs with their extensions, and the compatible ones
CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# a word has about two characters, a sentence many more
MOST_CHARACTERS_OF_WORDS = 4


@dataclass(frozen=True)
class WordCount:
    """The words of a text, or of a corpus (`sum` them), counted for both ways of writing.

    between_blanks: words between white space; with_characters: words if each of these characters is one;
    characters: number of these characters; chunks: number of stretches between white space that hold one.
    """

    between_blanks: int = 0
    with_characters: int = 0
    characters: int = 0
    chunks: int = 0

    @classmethod
    def of(cls, text: str) -> "WordCount":
        chunks = text.split()
        if text.isascii():
            return cls(len(chunks), len(chunks))
        found = [number for number in map(len, map(CJK.findall, chunks)) if number]
        apart = len(CJK.sub(" x ", text).split()) if found else len(chunks)
        return cls(len(chunks), apart, sum(found), len(found))

    def __add__(self, other: "WordCount") -> "WordCount":
        return WordCount(
            self.between_blanks + other.between_blanks,
            self.with_characters + other.with_characters,
            self.characters + other.characters,
            self.chunks + other.chunks,
        )

    @property
    def without_blanks(self) -> bool:
        """Whether each such character counts as a word: if a stretch holds more than four on average."""
        return self.characters > MOST_CHARACTERS_OF_WORDS * self.chunks

    @property
    def words(self) -> int:
        return self.with_characters if self.without_blanks else self.between_blanks


def numbers_of_words(texts: Sequence[str]) -> list[int]:
    """The number of words per text; in a corpus written without blanks, each such character is a word.

    A corpus counts as written without blanks if a stretch between blanks holds more than four of them on average.
    """
    counts = [WordCount.of(text) for text in texts]
    if sum(counts, WordCount()).without_blanks:
        return [count.with_characters for count in counts]
    return [count.between_blanks for count in counts]
