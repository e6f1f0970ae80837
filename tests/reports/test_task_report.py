"""The page of a fine-tuning run: what it says about scores, confusions and mistakes, offline."""

import re

import pytest

from hf_lineage.reports.task_report import (
    answers_in,
    confusion_section,
    plot_curves,
    write_grid_report,
    write_task_report,
)


RESULTS = {"model_type": "lineage_gru", "main_score": "accuracy", "transfer": "full", "seed": 1}


def cells_of(html: str) -> list[list[str]]:
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]


def line(text, gold, answer, probability, split="test"):
    return {"split": split, "texts": [text], "gold": gold, "answer": answer, "probability": probability}


def test_the_page_marks_floors_and_shows_the_surest_mistakes_first(tmp_path):
    lines = [line("<b>one</b>", "a", "b", 0.6), line("two", "a", "b", 0.9), line("three", "b", "b", 0.99)]
    floors = {"majority": {"accuracy": 0.6667, "f1": 0.1}, "random weights": {"loss": 0.7}}
    scores = {"loss": 0.5, "accuracy": 0.3333, "f1": 0.5}
    results = RESULTS | {"test": scores | {"questions": 3, "floors": floors}}
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "eval_loss": 1.5}, {"step": 2, "train_runtime": 1.0}]
    write_task_report(tmp_path / "report.html", results, lines, history)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = cells_of(page)
    assert ["model", "0.5000", "0.3333", "0.5000"] in rows
    assert ["majority", "–", "0.6667", "0.1000"] in rows
    assert re.findall(r'class="below">([^<]*)<', page) == ["0.3333"]
    assert "accuracy is below its floor: majority." in page
    assert "2 of 3 answers are wrong" in page
    mistakes = [row for row in rows if row[0] in ("0.900", "0.600")]
    assert mistakes == [["0.900", "a", "b", "two"], ["0.600", "a", "b", "&lt;b&gt;one&lt;/b&gt;"]]
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"https?://|<script", page)


def test_confusions_count_and_join_rare_classes(monkeypatch):
    answers = answers_in([line("x", *pair, 0.5) for pair in ("aa", "aa", "ab", "ba", "bb", "ca")])
    assert cells_of(confusion_section(answers))[1:] == [
        ["a", "2", "1", "0"],
        ["b", "1", "1", "0"],
        ["c", "1", "0", "0"],
    ]
    monkeypatch.setattr("hf_lineage.reports.task_report.MOST_CLASSES", 2)
    assert cells_of(confusion_section(answers))[1:] == [
        ["a", "2", "1", "0"],
        ["b", "1", "1", "0"],
        ["other", "1", "0", "0"],
    ]


def test_answers_of_every_task():
    tags = {"tokens": ["a", "b"], "gold": ["X", "Y"], "answer": ["X", "X"], "probabilities": [0.9, 0.8]}
    choice = {"text": "t", "choices": ["c", "d"], "gold": 1, "answer": 0, "probability": 0.7}
    question = {"question": "q", "context": "c", "gold": [], "answer": "", "exact_match": 100.0, "probability": 0.4}
    several = {"texts": ["s"], "gold": ["x", "y"], "answer": ["x"], "probability": 0.3}
    first, second, *others = answers_in([tags, choice, question, several])
    assert (first.is_right, second.is_right) == (True, False)
    assert (second.text, second.gold, second.answer, second.probability) == ("a [b]", "Y", "X", 0.8)
    found = [(one.text, one.gold, one.answer, one.is_right, one.probability) for one in others]
    assert found == [
        ("t", "d", "c", False, 0.7),
        ("q", "(no answer)", "(no answer)", True, 0.4),
        ("s", "x, y", "x", False, 0.3),
    ]


def test_numbers_have_their_largest_errors(tmp_path):
    lines = [{"split": "test", "texts": [name], "gold": 1.0, "answer": n} for name, n in (("near", 1.5), ("far", 4.0))]
    results = RESULTS | {"main_score": "spearman", "problem_type": "regression"}
    results |= {"test": {"spearman": 0.5, "floors": {}}}
    write_task_report(tmp_path / "report.html", results, lines, [])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("<td>far</td>") < page.index("<td>near</td>")
    assert "<td>3.000</td>" in page


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curves_are_drawn(tmp_path, suffix):
    points = [
        {"train_rows": n, "test": {"f1": {"mean": n / 100, "std": 0.1}, "floors": {"m": {"f1": {"mean": 0.2}}}}}
        for n in (10, 50)
    ]
    plot_curves(tmp_path / f"curve.{suffix}", {"one": {"main_score": "f1", "points": points}})
    assert [path.name for path in tmp_path.iterdir()] == [f"curve.{suffix}"]


def test_the_page_of_several_runs_has_means_floors_and_the_choice_of_a_rate(tmp_path):
    def spread(mean, std=0.0):
        return {"mean": mean, "std": std, "values": [mean - std, mean + std]}

    floors = {"majority": {"f1": spread(0.5)}, "TF-IDF": {"f1": spread(0.61), "accuracy": spread(0.4)}}
    scores = {"f1": spread(0.6, 0.02), "accuracy": spread(0.7, 0.01), "floors": floors}
    point = {"train_rows": 1000, "learning_rate": 0.001, "validation": scores, "test": scores}
    point["validation_by_learning_rate"] = {"0.001": spread(0.6, 0.02), "0.01": spread(0.5)}
    curve = {"main_score": "f1", "points": [point]}
    write_grid_report(tmp_path / "report.html", {"runs": curve})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = cells_of(page)
    assert rows.count(["", "model", "majority", "TF-IDF"]) == 2
    assert rows.count(["f1", "0.6000 ± 0.0200", "0.5000", "0.6100"]) == 2
    assert ["accuracy", "0.7000 ± 0.0100", "–", "0.4000"] in rows
    assert re.findall(r'class="below" title="([^"]*)">([^<]*)<', page) == [("below TF-IDF", "0.6000 ± 0.0200")] * 2
    assert ["0.01", "0.5000 ± 0.0000"] in rows
    assert "The rate 0.001 has the best mean score" in page
    assert "<img" not in page
    write_grid_report(tmp_path / "two.html", {"runs": curve, "others": curve})
    assert (tmp_path / "two.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 2
