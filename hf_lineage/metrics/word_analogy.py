"""Word analogies (Mikolov et al., 2013a, §4.1): how often is the best answer to "a is to b as c is to what" right?"""

from collections.abc import Sequence

import evaluate
from datasets import Features, Value

from hf_lineage.word_vectors.analogy import Analogy, answer_analogies
from hf_lineage.word_vectors.spellings import is_same_word
from hf_lineage.word_vectors.vectors import WordVectors


def measure_word_analogy(
    vectors: WordVectors,
    analogies: Sequence[Analogy],
    *,
    method: str = "3CosAdd",
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
) -> dict:
    """Asks the questions of `load_analogies` and counts the right answers: `answer_analogies`, then `WordAnalogy`."""
    options = {"restrict_vocab": restrict_vocab, "case_insensitive": case_insensitive}
    answers = answer_analogies(vectors, analogies, method=method, **options)
    spellings = vectors.spellings(restrict_vocab, case_insensitive)
    # in the vocabulary's spelling, which may differ from the question's by more than case
    found = [spellings.find(analogy.answer) for analogy in analogies]
    gold = [q.answer if i is None else vectors.words[i] for q, i in zip(analogies, found, strict=True)]
    sections = [analogy.section for analogy in analogies]
    return _score(answers, gold, sections, case_insensitive, dummy4unknown)


class WordAnalogy(evaluate.Metric):
    """Share of right answers to analogies. predictions: answers, "" if a word is unknown; references: gold words.

    `compute` also takes `sections`, one name per question, `case_insensitive` (default True: compare words in lower
    case) and `dummy4unknown`: count questions with unknown words as wrong (default: leave them out). It returns
    accuracy, correct, total (the questions that count), out_of_vocabulary, and these four per section. If no question
    counts, the accuracy is nan.
    """

    def _info(self):
        features = Features({"predictions": Value("string"), "references": Value("string")})
        return evaluate.MetricInfo(
            description=type(self).__doc__, citation="Mikolov et al., 2013, arXiv:1301.3781", features=features
        )

    def _compute(self, predictions, references, sections=None, case_insensitive=True, dummy4unknown=False):
        return _score(predictions, references, sections, case_insensitive, dummy4unknown)


def _score(answers, gold, sections, case_insensitive, dummy4unknown):
    sections = [""] * len(gold) if sections is None else sections
    if len(sections) != len(gold):
        raise ValueError(f"sections has {len(sections)} names for {len(gold)} questions; it needs one per question")
    marks = {section: [] for section in sections}  # right, wrong, or None: not asked
    for answer, right, section in zip(answers, gold, sections, strict=True):
        is_right = None if answer == "" else is_same_word(answer, right, case_insensitive)
        marks[section].append(is_right)
    total = _count([mark for section in marks.values() for mark in section], dummy4unknown)
    return total | {"sections": {section: _count(of_section, dummy4unknown) for section, of_section in marks.items()}}


def _count(marks, dummy4unknown):
    correct, unknown = marks.count(True), marks.count(None)
    total = len(marks) if dummy4unknown else len(marks) - unknown
    accuracy = correct / total if total else float("nan")
    return {"accuracy": accuracy, "correct": correct, "total": total, "out_of_vocabulary": unknown}
