"""Answers as spans: the search against all pairs of tokens, the scores against numbers worked out by hand."""

import numpy as np
import pytest

from hf_lineage.data import Question, Window
from hf_lineage.metrics import best_null_threshold, find_answers, score_answers


@pytest.mark.parametrize(
    ("references", "answer", "exact", "f1"),
    [
        # case, marks and articles do not count
        (["The U.S. river"], "us River.", 100, 100),
        # 2 of 3 found words are among 4 expected ones: 2 · 2 / (3 + 4)
        (["one two three four"], "two four six", 0, 400 / 7),
        # a word counts as often as it stands in both
        (["dog dog cat"], "dog", 0, 50),
        # the best reference
        (["cat", "dog"], "dog", 100, 100),
        # v1.1: the normalised words are empty; they match exactly, and their F1 is 0
        (["the"], "a", 100, 0),
        (["cat"], "", 0, 0),
    ],
)
def test_scores_of_one_question(references, answer, exact, f1):
    assert score_answers([references], [answer]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_questions_without_an_answer():
    # the third has references that v2.0 drops
    references, answers = [["cat"], [], ["the", "dog"], []], ["cat", "", "a", "dog"]
    scores = score_answers(references, answers)
    assert scores == {
        "exact_match": 50.0,
        "f1": 50.0,
        "HasAns_exact_match": 50.0,
        "HasAns_f1": 50.0,
        "NoAns_exact_match": 50.0,
        "NoAns_f1": 50.0,
    }


def test_chinese_is_scored_by_characters():
    # the longest common run of 北京大学 and 在北京的大学 has 2 of 4 and of 6 characters: 2 · 2 / 10
    assert score_answers([["《北京大学》"]], ["在北京的大学"], chinese=True) == {"exact_match": 0.0, "f1": 40.0}
    assert score_answers([["《北京大学》"]], ["北京大学。"], chinese=True) == {"exact_match": 100.0, "f1": 100.0}
    assert score_answers([["1998年"]], ["1998 年"], chinese=True)["f1"] == 100.0


def test_threshold_of_no_answer_is_the_best():
    draw = np.random.default_rng(0)
    for _ in range(20):
        references = [["cat"] if draw.random() < 0.6 else [] for _ in range(12)]
        references[0] = []
        answers = [draw.choice(["cat", "dog"]) for _ in references]
        odds = draw.integers(-5, 5, 12).astype(float)

        def f1(threshold, references=references, answers=answers, odds=odds):
            kept = ["" if odd > threshold else text for text, odd in zip(answers, odds, strict=True)]
            return score_answers(references, kept)["f1"]

        found = best_null_threshold(references, answers, odds)
        assert f1(found) == max(f1(threshold) for threshold in np.arange(-6.5, 6, 0.5))


CONTEXT = "Ada paints. 狗在河边。"
OFFSETS = [None, None, None, (0, 3), (4, 10), (10, 11), (12, 13), (13, 14), (14, 15), (15, 16), (16, 17), None]


def test_spans_are_the_best_of_all_pairs():
    question = Question("q", "Who?", CONTEXT, ())
    # two windows that overlap, each with its own question
    windows = [Window(0, OFFSETS[:9], 0), Window(0, [*OFFSETS[:3], *OFFSETS[7:]], 0)]
    draw = np.random.default_rng(0)
    start, end = draw.normal(size=(2, 12)), draw.normal(size=(2, 12))
    expected = {}
    for window, s, e in zip(windows, start, end, strict=True):
        for i, first in enumerate(window.offsets):
            for j, last in enumerate(window.offsets):
                if first and last and 0 <= j - i < 3:
                    place = first[0], last[1]
                    expected[place] = max(expected.get(place, -np.inf), s[i] + e[j])
    ranked = sorted(expected, key=expected.get, reverse=True)
    [found] = find_answers([question], windows, start, end, n_best=4, max_answer_length=3)
    assert [(entry["start"], entry["text"]) for entry in found["n_best"]] == [
        (first, CONTEXT[first:behind]) for first, behind in ranked[:4]
    ]
    assert [entry["score"] for entry in found["n_best"]] == pytest.approx([expected[p] for p in ranked[:4]])
    assert sum(entry["probability"] for entry in found["n_best"]) == pytest.approx(1)
    assert found["answer"] == found["n_best"][0]["text"]
    null = min(s[0] + e[0] for s, e in zip(start, end, strict=True))
    assert found["null_odds"] == pytest.approx(null - expected[ranked[0]])
    for threshold, is_empty in ((found["null_odds"] - 0.1, True), (found["null_odds"], False)):
        options = {"max_answer_length": 3, "null_threshold": threshold}
        [again] = find_answers([question], windows, start, end, **options)
        assert (again["answer"] == "") is is_empty
        assert "" in [entry["text"] for entry in again["n_best"]]
