"""Word similarity: pairs judged by people, read from files, and the cosines of their vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_lineage.files import read_lines
from hf_lineage.word_vectors.vectors import WordVectors


class WordPair(NamedTuple):
    """Two words, and how similar people find them, on any scale."""

    a: str
    b: str
    score: float


def load_similarities(path: str | Path, *, delimiter: str = "\t", score_column: int = 2) -> list[WordPair]:
    """Reads pairs, one per line: two words and a score. Lines that begin with # and a header are left out.

    WS-353's original file needs delimiter="," (combined.csv), SimLex-999's score_column=3.

    Raises:
        ValueError: a line lacks a column, its score is not a finite number, or the file has no pair or is not UTF-8.
        OSError: the file cannot be read.
    """
    pairs = []
    for line_number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(delimiter)]
        try:
            pair = WordPair(fields[0], fields[1], float(fields[score_column]))
        except (IndexError, ValueError):
            pair = None
        if pair is not None and np.isfinite(pair.score):
            pairs.append(pair)
        elif line_number > 1 or len(fields) <= score_column:
            raise ValueError(
                f"{path}, line {line_number}: {line!r} is not two words and a number in column {score_column} "
                f"(counted from 0), separated by {delimiter!r}"
            )
    if not pairs:
        raise ValueError(f"{path}: no pair of words with a score")
    return pairs


def pair_similarities(
    vectors: WordVectors,
    pairs: Sequence[WordPair],
    *,
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
) -> list[float | None]:
    """The cosine of each pair; None if a word is not among the first `restrict_vocab` words.

    With `case_insensitive`, `Spellings` finds words in another case; this differs from gensim.

    Raises:
        ValueError: restrict_vocab is below 1.
    """
    spellings = vectors.spellings(restrict_vocab, case_insensitive)
    ids = [[spellings.find(word) for word in pair[:2]] for pair in pairs]
    known = np.array([row for row in ids if None not in row], np.int64).reshape(-1, 2)
    cosines = iter(np.einsum("pd,pd->p", vectors.unit(known[:, 0]), vectors.unit(known[:, 1])).tolist())
    return [None if None in row else next(cosines) for row in ids]
