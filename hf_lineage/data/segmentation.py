"""Words of texts that are written without blanks between them: Chinese, Japanese, Thai, Khmer and others."""

import importlib.util
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Literal

import datasets
from accelerate import PartialState

from hf_lineage.data.cjk import CJK, WITHOUT_BLANKS, are_without_blanks


WordSegmentation = Literal["auto", "none", "characters", "rjieba"]
# rows that show how a corpus is written
_SHOWN = 1_000
_STRETCH = {"characters": re.compile(f"(?:{WITHOUT_BLANKS.pattern})+"), "rjieba": re.compile(f"{CJK}+")}
# the dictionary is Chinese: the largest share of kana and other scripts among the characters without blanks
_MOST_OTHERS = 0.05
_HAN = re.compile(CJK)
_KANA = re.compile("[\u3040-\u30ff]")
_INSTALL = "pip install 'hf_lineage[zh]'"


def segmented(text: str, way: Literal["characters", "rjieba"]) -> str:
    """The text with blanks between the words of its stretches without blanks; the rest stays.

    `rjieba` cuts Chinese words by its dictionary (extra `zh`); with `characters` each character is a word: a Chinese
    or Japanese one, a Tibetan syllable, or a cluster of letters of Thai, Khmer and their relatives (`WordCount`). A
    model that was trained on segmented text reads segmented text.

    Raises:
        ImportError: rjieba is not installed.
    """
    cut: Callable[[str], list[str]] = WITHOUT_BLANKS.findall
    if way == "rjieba":
        from rjieba import cut as cut_words

        cut = cut_words

    def with_blanks(stretch):
        before, after = text[max(stretch.start() - 1, 0) : stretch.start()], text[stretch.end() : stretch.end() + 1]
        return f"{_blank_beside(before)}{' '.join(cut(stretch[0]))}{_blank_beside(after)}"

    return _STRETCH[way].sub(with_blanks, text)


def segmented_by(text: str, words: Collection[str]) -> str:
    """The text with blanks within its stretches of writing without blanks, so that they become these words.

    A stretch that is one of the words stays. Of all ways to cut another one, this is the one with the fewest
    characters outside of words, and then with the fewest words.
    """
    longest = max(map(len, words), default=0)
    return " ".join(
        _cut(stretch, words, longest) if WITHOUT_BLANKS.search(stretch) and stretch not in words else stretch
        for stretch in text.split()
    )


def _cut(stretch: str, words: Collection[str], longest: int) -> str:
    # per place: characters outside of words, words, and the parts before it
    best: list[tuple[int, int, list[str]]] = [(0, 0, [])]
    for end in range(1, len(stretch) + 1):
        outside, number, parts = best[end - 1]
        # unknown characters stay together
        apart = not parts or parts[-1] in words
        ways = [
            (outside + 1, number, [*parts, stretch[end - 1]] if apart else [*parts[:-1], parts[-1] + stretch[end - 1]])
        ]
        for start in range(max(0, end - longest), end):
            if stretch[start:end] in words:
                outside, number, parts = best[start]
                ways.append((outside, number + 1, [*parts, stretch[start:end]]))
        best.append(min(ways, key=lambda way: way[:2]))
    return " ".join(best[-1][2])


def _blank_beside(neighbour):
    return " " if neighbour and not neighbour.isspace() else ""


def segmentation_of(
    corpora: dict[str, datasets.Dataset | datasets.IterableDataset],
    way: WordSegmentation = "auto",
    *,
    column: str = "text",
) -> Literal["none", "characters", "rjieba"]:
    """How a model of words reads the corpora of `load_splits`: `way`, or what the training text decides.

    `auto` leaves text with blanks as it is, else takes rjieba if it is installed and the text is Chinese, else
    characters; a printed line says which, and how to choose another way.

    Raises:
        ValueError: `way` is rjieba, which is not installed.
    """
    has_rjieba = importlib.util.find_spec("rjieba") is not None
    if way == "rjieba" and not has_rjieba:
        raise ValueError(f"word_segmentation is rjieba, which is not installed: {_INSTALL}")
    if way != "auto":
        return way
    texts = [row[column] for row in corpora["train"].take(_SHOWN)]
    if not are_without_blanks(texts):
        return "none"
    text = "".join(texts)
    number, han, kana = (len(pattern.findall(text)) for pattern in (WITHOUT_BLANKS, _HAN, _KANA))
    is_chinese = number - han + kana < _MOST_OTHERS * number
    way = "rjieba" if has_rjieba and is_chinese else "characters"
    other = "characters" if way == "rjieba" else f"rjieba ({_INSTALL})" if is_chinese else "none"
    words = "rjieba cuts its words" if way == "rjieba" else "each character is a word"
    PartialState().print(
        f"The {column} is written without blanks: {words} (word_segmentation {way}; another way: {other})"
    )
    return way


def segment_words(
    corpora: dict[str, datasets.Dataset | datasets.IterableDataset],
    way: WordSegmentation = "auto",
    *,
    column: str = "text",
) -> dict[str, datasets.Dataset | datasets.IterableDataset]:
    """The corpora of `load_splits`, with blanks between words (`segmentation_of`) for models that read such words.

    Raises:
        ValueError: `way` is rjieba, which is not installed.
    """
    way = segmentation_of(corpora, way, column=column)
    if way == "none":
        return corpora
    return {part: corpus.map(partial(_segment_row, way=way, column=column)) for part, corpus in corpora.items()}


def _segment_row(row, way, column):
    return {column: segmented(row[column], way)}
