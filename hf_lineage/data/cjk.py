"""Writing without blanks between words: Chinese characters and kana, Thai, Lao, Khmer, Burmese, Tibetan and others."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


# with their extensions, the compatible ones, and Yi; then kana, its
# half-width and historical forms, and bopomofo
IDEOGRAPHS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U00020000-\U0003ffff"
CJK = f"[{IDEOGRAPHS}\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9f\U0001b000-\U0001b16f]"
# a syllable and the dot behind it
TIBETAN = "[\u0f40-\u0fbc]+[\u0f0b\u0f0c]?"
# Thai and Lao; Myanmar with its extensions; Khmer; the Tai scripts; Balinese and Javanese
SPANS = [
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F),
    (0xA980, 0xA9FF),
    (0xAA60, 0xAADF),
]
# Unicode counts the vowel AM of Thai and Lao among the letters, but no boundary is before it
AM = "\u0e33\u0eb3"
# the letter after these is written below
STACKERS = "\u1039\u17d2\u1a60\u1b44\ua9c0"


def _of_category(first: str) -> str:
    """The characters of `SPANS` whose category begins with a letter."""
    characters = (chr(code) for start, end in SPANS for code in range(start, end + 1))
    return "".join(c for c in characters if unicodedata.category(c).startswith(first) and c not in AM)


_LETTER, _MARKS = f"[{_of_category('L')}]", f"[{_of_category('M')}{AM}\u200c\u200d]*"
CLUSTER = f"{_LETTER}(?:{_MARKS}[{STACKERS}]{_LETTER})*{_MARKS}"
WITHOUT_BLANKS = re.compile(f"{CJK}|{TIBETAN}|{CLUSTER}")
_BLOCKS = f"[{CJK[1:-1]}\u0f00-\u0fff{''.join(f'{chr(start)}-{chr(end)}' for start, end in SPANS)}]"
# between a character of this writing and a letter of another one, or a digit
OTHER_WRITING = re.compile(rf"(?<={_BLOCKS})(?<!\d)(?=[^\W_])(?:(?=\d)|(?!{_BLOCKS}))")
# a word has about two characters or syllables, or three clusters; a sentence has many more
MOST_OF_WORDS = [(re.compile(f"{CJK}|{TIBETAN}"), 4), (re.compile(CLUSTER), 6)]


@dataclass(frozen=True)
class WordCount:
    """The words of a text, or of a corpus (`sum` them), counted for both ways of writing.

    between_blanks: words between white space or U+200B; with_characters: words if each character of writing without
    blanks is one; surplus: by how much the stretches between blanks hold more such characters than words do.

    A character is a Chinese or Japanese one, a Tibetan syllable, or in Thai, Lao, Khmer, Burmese and their relatives
    a letter with its marks and the letters below it. Word boundaries of Unicode (UAX 29) without a dictionary are the
    same, but for the letters below.
    """

    between_blanks: int = 0
    with_characters: int = 0
    surplus: int = 0

    @classmethod
    def of(cls, text: str) -> "WordCount":
        if text.isascii() or not WITHOUT_BLANKS.search(text):
            words = len(_chunks(text))
            return cls(words, words)
        chunks, surplus = _chunks(text), 0
        for pattern, most in MOST_OF_WORDS:
            found = [len(pattern.findall(chunk)) for chunk in chunks]
            surplus += sum(number - most for number in found if number)
        return cls(len(chunks), len(_chunks(WITHOUT_BLANKS.sub(" x ", text))), surplus)

    def __add__(self, other: "WordCount") -> "WordCount":
        return WordCount(
            self.between_blanks + other.between_blanks,
            self.with_characters + other.with_characters,
            self.surplus + other.surplus,
        )

    @property
    def without_blanks(self) -> bool:
        """Whether each such character counts as a word: if stretches hold more than words do on average."""
        return self.surplus > 0

    @property
    def words(self) -> int:
        return self.with_characters if self.without_blanks else self.between_blanks


def _chunks(text: str) -> list[str]:
    # Khmer, Burmese and Thai are also written with this blank of no width
    return text.replace("\u200b", " ").split()


def lacks_blanks(text: str) -> bool:
    """Whether words of writing without blanks stand together: the text is one stretch, or its stretches are long."""
    return bool(WITHOUT_BLANKS.search(text)) and (len(_chunks(text)) == 1 or WordCount.of(text).without_blanks)


def are_without_blanks(texts: Iterable[str]) -> bool:
    """Whether the texts together are written without blanks: stretches hold more of it than words do on average."""
    return sum(map(WordCount.of, texts), WordCount()).without_blanks


def numbers_of_words(texts: Sequence[str]) -> list[int]:
    """The number of words per text; in a corpus written without blanks, each such character is a word (`WordCount`).

    A corpus counts as written without blanks if a stretch between blanks holds more of them than words do on average.
    """
    counts = [WordCount.of(text) for text in texts]
    if sum(counts, WordCount()).without_blanks:
        return [count.with_characters for count in counts]
    return [count.between_blanks for count in counts]


def written_language(texts: Iterable[str]) -> str | None:
    """`zh` if Chinese characters are most of the letters, and next to none are kana or hangul; else None.

    Other writing is that of many languages.
    """
    letters = "".join(filter(str.isalpha, "".join(texts)))
    others = len(re.findall("[\u1100-\u11ff\u3040-\u312f\uac00-\ud7af]", letters))
    han = len(re.findall(f"[{IDEOGRAPHS}]", letters))
    return "zh" if 2 * han > len(letters) and others < han / 20 else None
