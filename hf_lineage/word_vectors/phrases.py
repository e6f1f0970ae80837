"""Phrases (Mikolov et al., 2013b, §4): neighbouring words that occur together more often than chance become one word.

text -> counts of words and of pairs -> pairs of high score, joined by "_"; then the same on the joined text, so that
phrases grow: "new york" in the first pass, "new_york times" in the second.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path

from tqdm.auto import tqdm

from hf_lineage.files import read_text, write_text
from hf_lineage.text_parts import Part, in_parts, parts_by_text


# words of a long text in memory at a time
_STRETCH = 10_000
# pairs that are counted together
_COUNTS = 1_000_000


@dataclass(frozen=True)
class MappedTexts:
    """Texts that are changed while they are read: nothing is stored, and they can be read as often as `texts`.

    Each `Part` of a long text is changed by itself.
    """

    texts: Iterable[str]
    change: Callable[[str], str]

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            yield Part(self.change(text)) if isinstance(text, Part) else self.change(text)


@dataclass
class Phrases:
    """Pairs of words to join, with their scores: one dictionary per pass."""

    passes: list[dict[tuple[str, str], float]] = field(default_factory=list)
    delimiter: str = "_"

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        thresholds: Sequence[float] = (200.0, 100.0),
        *,
        min_count: int = 5,
        delimiter: str = "_",
        max_counts: int = 20_000_000,
        show_progress: bool = True,
    ) -> "Phrases":
        """Finds phrases in `texts`, one sentence each, words between blanks, in one pass per threshold (paper: 2–4).

        The score of a pair is (count(a b) − min_count) / (count(a) · count(b)) · words: eq. 6 times the number of
        words, as in the authors' word2phrase, so that a threshold suits texts of any length. A pair that scores above
        the threshold is joined if both words occur at least `min_count` times. Beyond `max_counts` counts the rarest
        are dropped, as in word2phrase.

        Raises:
            ValueError: there is no threshold or one is not positive, min_count or max_counts is below 1, the delimiter
                has white space, or the texts can be read only once.
        """
        if not thresholds or min(thresholds) <= 0:
            raise ValueError(f"thresholds is {list(thresholds)}; it must hold one number above 0 per pass")
        for name, value in {"min_count": min_count, "max_counts": max_counts}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if delimiter.split() != [delimiter]:
            raise ValueError(f"delimiter is {delimiter!r}; it must be characters without white space, such as '_'")
        if isinstance(texts, Iterator):
            raise ValueError("texts can be read only once, but each pass reads them: give a list or a column")
        phrases = cls([], delimiter)
        for threshold in thresholds:
            bar = tqdm(texts, f"Phrases, pass {len(phrases.passes) + 1}", unit=" texts", disable=not show_progress)
            counts, pairs, num_words = _count(phrases._sentences(bar), max_counts)
            phrases.add_pass(threshold, counts, pairs.items(), num_words, min_count)
        return phrases

    def add_pass(
        self,
        threshold: float,
        counts: Mapping[str, int],
        pairs: Iterable[tuple[tuple[str, str], int]],
        num_words: int,
        min_count: int = 5,
    ):
        """Adds a pass of the pairs that score above `threshold`, from counts of text that the earlier passes joined.

        `counts` has the words that occur at least `min_count` times, `pairs` pairs of neighbours and their counts;
        `num_words` is the number of words of the text. For the score see `learn`.
        """
        scores = _scores(counts, pairs, num_words, min_count)
        self.passes.append({pair: score for pair, score in scores if score > threshold})

    def count_in_stretches(self, texts: Iterable[str]) -> Iterator[tuple[Counter[str], Counter[tuple[str, str]]]]:
        """Counts of words and of pairs of neighbours, after the passes so far, of successive stretches of the texts.

        For texts with too many different words for memory; `learn` counts the others itself.
        """
        words, pairs = Counter(), Counter()
        for stretch, run in _runs(self._sentences(texts)):
            words.update(stretch)
            pairs.update(pairwise(run))
            if len(pairs) > _COUNTS:
                yield words, pairs
                words, pairs = Counter(), Counter()
        yield words, pairs

    def _sentences(self, texts) -> Iterator[Iterator[str]]:
        return map(self._words, parts_by_text(in_parts(texts)))

    def split(self, text: str) -> list[str]:
        """The words and phrases of a text. In each pass the first of two overlapping pairs is joined."""
        return list(self._words([text]))

    def join(self, text: str) -> str:
        """The text with its phrases joined: "in new york" -> "in new_york"."""
        return " ".join(self.split(text))

    def joined(self, texts: Iterable[str]) -> "JoinedTexts":
        """The texts with their phrases joined while they are read, also across the parts of a long text."""
        return JoinedTexts(texts, self)

    def _words(self, parts) -> Iterator[str]:
        words = chain.from_iterable(map(str.split, parts))
        for pairs in self.passes:
            words = self._joined(words, pairs)
        return words

    def _joined(self, words, pairs):
        word = next(words, None)
        while word is not None:
            following = next(words, None)
            if (word, following) in pairs:
                yield self.delimiter.join((word, following))
                following = next(words, None)
            else:
                yield word
            word = following

    def save(self, path: str | Path):
        """Writes a JSON file."""
        passes = [[[*pair, score] for pair, score in pairs.items()] for pairs in self.passes]
        write_text(path, json.dumps({"delimiter": self.delimiter, "passes": passes}, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | Path) -> "Phrases":
        """Reads what `save` wrote.

        Raises:
            ValueError: the file holds no phrases.
            OSError: the file cannot be read.
        """
        try:
            content = json.loads(read_text(path))
            passes = [{(str(a), str(b)): float(score) for a, b, score in pairs} for pairs in content["passes"]]
            return cls(passes, str(content["delimiter"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a file of phrases, as Phrases.save writes it ({error!r})") from error


@dataclass(frozen=True)
class JoinedTexts:
    """Texts with their phrases joined while they are read; long texts come in `Part`s."""

    texts: Iterable[str]
    phrases: Phrases

    def __iter__(self) -> Iterator[str]:
        for parts in parts_by_text(in_parts(self.texts)):
            words, joined = self.phrases._words(parts), ""
            for stretch in _stretches(words):
                if joined:
                    yield Part(joined + " ")
                joined = " ".join(stretch)
            yield joined


def _stretches(words) -> Iterator[list[str]]:
    while stretch := list(islice(words, _STRETCH)):
        yield stretch


def _count(sentences, max_counts):
    """The counts of words and of pairs of neighbours, and the number of words."""
    words, pairs, num_words, least = Counter(), Counter(), 0, 1
    for stretch, run in _runs(sentences):
        num_words += len(stretch)
        words.update(stretch)
        pairs.update(pairwise(run))
        while len(words) + len(pairs) > max_counts:
            words, pairs = (Counter({k: n for k, n in c.items() if n > least}) for c in (words, pairs))
            least += 1
    return words, pairs, num_words


def _runs(sentences) -> Iterator[tuple[list[str], list[str]]]:
    """Stretches of each sentence, each alone and with the word before it."""
    for sentence in sentences:
        last = []
        for stretch in _stretches(sentence):
            yield stretch, last + stretch
            last = stretch[-1:]


def _scores(counts, pairs, num_words, min_count):
    for (a, b), count in pairs:
        count_a, count_b = counts.get(a, 0), counts.get(b, 0)
        if count_a >= min_count and count_b >= min_count:
            yield (a, b), (count - min_count) / count_a / count_b * num_words
