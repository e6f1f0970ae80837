"""Word analogies: questions read from files, and answered by cosine similarity (Mikolov et al., 2013a, §4.1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_lineage.files import read_lines
from hf_lineage.models.analogy_scores import analogy_scores
from hf_lineage.word_vectors.vectors import WordVectors


# float32 numbers of cosines and scores held at a time; the scores fit in a processor's cache
COSINES_PER_BLOCK, SCORES_PER_BLOCK = 2**22, 2**18


class Analogy(NamedTuple):
    """A question "a is to b as c is to what", its answer, and the section of its file ("" before the first)."""

    section: str
    a: str
    b: str
    c: str
    answer: str


def load_analogies(path: str | Path) -> list[Analogy]:
    """Reads questions in the format of word2vec's questions-words.txt: ": section" lines, and lines of four words.

    Raises:
        ValueError: a line does not have four words, the file has no question, or is not UTF-8.
        OSError: the file cannot be read.
    """
    section, analogies = "", []
    for line_number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if line.startswith(":"):
            section = line[1:].strip()
        elif len(words) == 4:
            analogies.append(Analogy(section, *words))
        elif words:
            raise ValueError(f"{path}, line {line_number}: {line!r} has {len(words)} words; a question has 4")
    if not analogies:
        raise ValueError(f"{path}: no question, a line of 4 words")
    return analogies


def answer_analogies(
    vectors: WordVectors,
    analogies: Sequence[Analogy],
    *,
    method: str = "3CosAdd",
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
) -> list[str]:
    """The best answer to each question among the first `restrict_vocab` words; "" if one of its four words is missing.

    The three words of the question are not answers. With `case_insensitive`, their other spellings are not answers
    either, and `Spellings` finds words in another case; this differs from gensim.

    Raises:
        ValueError: the method is unknown, or restrict_vocab is below 1.
    """
    spellings = vectors.spellings(restrict_vocab, case_insensitive)
    ids = [[spellings.find(word) for word in analogy[1:]] for analogy in analogies]
    asked = [i for i, row in enumerate(ids) if None not in row]
    answers = [""] * len(ids)
    if asked:
        best = _best_answers(vectors, np.array([ids[i][:3] for i in asked]), spellings.groups(), method)
        for i, answer in zip(asked, best, strict=True):
            answers[i] = vectors.words[answer]
    return answers


def _best_answers(vectors, questions, groups, method):
    """questions [Q, 3] -> [Q], the best of R candidates; `groups` [R] excludes candidates in the group of an input.

    The questions share words, so cosines are computed once for each of U distinct words, block by block.
    """
    words, rows = np.unique(questions, return_inverse=True)
    units = vectors.unit(words)  # [U, D]
    rows, best = rows.reshape(questions.shape), np.zeros(len(questions), np.int64)
    best_scores = np.full(len(questions), -np.inf, np.float32)
    width = max(1, COSINES_PER_BLOCK // len(words))
    height = max(1, SCORES_PER_BLOCK // min(width, len(groups)))
    for start in range(0, len(groups), width):
        block = slice(start, min(start + width, len(groups)))
        cosines = units @ vectors.vectors[block].T / vectors.norms[block]  # [U, width]
        inputs = np.flatnonzero(np.isin(groups[block], groups[words]))
        for first in range(0, len(questions), height):
            part = slice(first, first + height)
            scores = analogy_scores(*(cosines[rows[part, i]] for i in range(3)), method)  # [height, width]
            is_input = (groups[questions[part]][..., None] == groups[block][inputs]).any(1)
            scores[:, inputs] = np.where(is_input, -np.inf, scores[:, inputs])
            top = scores.argmax(1)
            top_scores = scores[np.arange(len(top)), top]
            better = top_scores > best_scores[part]
            best[part] = np.where(better, start + top, best[part])
            best_scores[part] = np.where(better, top_scores, best_scores[part])
    return best
