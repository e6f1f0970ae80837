"""Answers to questions as spans of a text: found by scores of tokens, and measured as SQuAD and CMRC 2018 do."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import torch

from hf_lineage.data.questions import Question, Window
from hf_lineage.models.answer_spans import best_spans


_ARTICLES = re.compile(r"\b(a|an|the)\b")
# as the script of CMRC 2018 has them
_CHINESE = re.compile("[\u4e00-\u9fa5]")
_CHINESE_MARKS = set("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def find_answers(
    questions: Sequence[Question],
    windows: Sequence[Window],
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
    null_threshold: float | None = None,
) -> list[dict]:
    """For each question {"answer", "start", "score", "n_best", "null_odds"}, from the logits [rows, T] of its windows.

    An answer is a span of at most `max_answer_length` tokens, and a piece of the text by its characters. A window's
    score of no answer is that of its `null` token; a question's is the least of its windows. null_odds is that score
    less the best span's: where it is above `null_threshold`, the answer is empty. None: every question has an answer.
    """
    spans: list[dict[tuple[int, int], float]] = [{} for _ in questions]
    null_scores = [float("inf")] * len(questions)
    for window, start, end in zip(windows, start_logits, end_logits, strict=True):
        size = len(window.offsets)
        start, end = (torch.as_tensor(logits[:size]).double() for logits in (start, end))
        number, offsets = window.question, window.offsets
        null_scores[number] = min(null_scores[number], (start[window.null] + end[window.null]).item())
        allowed = torch.tensor([span is not None and span[0] < span[1] for span in offsets], dtype=torch.bool)
        for score, first, last in best_spans(start, end, allowed, max_answer_length, n_best):
            characters = offsets[first][0], offsets[last][1]
            # windows overlap
            spans[number][characters] = max(score, spans[number].get(characters, -np.inf))
    answers = []
    for question, found, null_score in zip(questions, spans, null_scores, strict=True):
        best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:n_best]
        # a text of blanks only has no span
        odds = null_score - best[0][1] if best else float("inf")
        entries = [
            {"text": question.context[first:behind], "start": first, "score": score} for (first, behind), score in best
        ]
        if null_threshold is not None or not best:
            entries.append({"text": "", "start": None, "score": null_score})
        scores = np.array([entry["score"] for entry in entries])
        shares = np.exp(scores - scores.max())
        for entry, share in zip(entries, shares / shares.sum(), strict=True):
            entry["probability"] = float(share)
        is_null = not best or (null_threshold is not None and odds > null_threshold)
        chosen = entries[-1] if is_null else entries[0]
        entries.sort(key=lambda entry: -entry["score"])
        answers.append(
            {
                "answer": chosen["text"],
                "start": chosen["start"],
                "probability": chosen["probability"],
                "null_odds": odds,
                "n_best": entries,
            }
        )
    return answers


def score_answers(
    references: Sequence[Sequence[str]], answers: Sequence[str], *, chinese: bool = False
) -> dict[str, float]:
    """Exact match and F1 in percent: the mean over the questions of the best score among each one's references.

    Without an empty list among the `references` these are SQuAD v1.1's scores, else v2.0's, with means over the
    questions that have answers (HasAns_…) and over those that have none (NoAns_…). Both ignore case, ASCII
    punctuation, the articles a, an and the, and white space. `chinese` gives CMRC 2018's: F1 over the longest common
    run of characters and words (here words of other scripts are cut at white space).
    """
    exact, f1 = (_scores(references, answers, number, chinese) for number in (0, 1))
    scores = {"exact_match": float(100 * exact.mean()), "f1": float(100 * f1.mean())}
    has_answer = np.array([bool(of_one) for of_one in references])
    if not has_answer.all():
        for title, chosen in (("HasAns", has_answer), ("NoAns", ~has_answer)):
            if chosen.any():
                scores |= {
                    f"{title}_exact_match": float(100 * exact[chosen].mean()),
                    f"{title}_f1": float(100 * f1[chosen].mean()),
                }
    return scores


def best_null_threshold(
    references: Sequence[Sequence[str]], answers: Sequence[str], null_odds: Sequence[float], *, chinese: bool = False
) -> float:
    """The threshold on `null_odds` with the best F1, if questions above it get an empty answer instead."""
    found, empty = (_scores(references, texts, 1, chinese) for texts in (answers, [""] * len(answers)))
    gains = found - empty
    odds = np.asarray(null_odds, dtype=float)
    order = odds.argsort(kind="stable")
    totals = np.concatenate([[0.0], gains[order].cumsum()])
    # only between different odds can there be a threshold
    steps = [0, *(n for n in range(1, len(odds) + 1) if n == len(odds) or odds[order[n]] > odds[order[n - 1]])]
    best = max(steps, key=lambda n: totals[n])
    return float(odds[order[best - 1]] if best else odds.min() - 1)


def _scores(references, answers, number: int, chinese: bool) -> np.ndarray:
    """Exact matches (`number` 0) or F1 (1) of all questions, in [0, 1]."""
    measures = (_exact, _f1)
    if chinese:
        measures = (_chinese_exact, _chinese_f1)
    elif not all(references):
        # SQuAD v2.0 drops references that are articles or marks only
        measures = (_exact, _f1_with_empty)
        references = [[text for text in of_one if _words(text)] for of_one in references]
    return np.array(
        [
            max(measures[number](reference, answer) for reference in of_one or [""])
            for of_one, answer in zip(references, answers, strict=True)
        ],
        dtype=float,
    )


def _words(text: str) -> list[str]:
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return _ARTICLES.sub(" ", text).split()


def _exact(reference: str, answer: str) -> float:
    return float(_words(reference) == _words(answer))


def _f1(reference: str, answer: str) -> float:
    expected, found = _words(reference), _words(answer)
    common = sum((Counter(expected) & Counter(found)).values())
    return 2 * common / (len(expected) + len(found)) if common else 0.0


def _f1_with_empty(reference: str, answer: str) -> float:
    expected, found = _words(reference), _words(answer)
    return float(expected == found) if not expected or not found else _f1(reference, answer)


def _pieces(text: str) -> list[str]:
    """Chinese characters one by one, other words as they are, without marks."""
    text = "".join(character for character in text.lower().strip() if character not in _CHINESE_MARKS)
    return _CHINESE.sub(r" \g<0> ", text).split()


def _chinese_exact(reference: str, answer: str) -> float:
    reference, answer = (
        "".join(character for character in text.lower().strip() if character not in _CHINESE_MARKS)
        for text in (reference, answer)
    )
    return float(reference == answer)


def _chinese_f1(reference: str, answer: str) -> float:
    expected, found = _pieces(reference), _pieces(answer)
    if not expected or not found:
        return float(reference == answer == "")
    common = SequenceMatcher(None, expected, found, autojunk=False).find_longest_match().size
    return 2 * common / (len(expected) + len(found))
