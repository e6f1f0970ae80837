"""One fine-tuning run as an offline page: scores beside floors, confusions, mistakes, learning curves."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from hf_lineage.files import save_figure, write_text
from hf_lineage.metrics.score_table import misses_floor, side_of_floor
from hf_lineage.reports.learning_curves import learning_curves
from hf_lineage.reports.pages import format_cell, html_figure, html_table, png


STYLE = """
:root { color-scheme: light dark; --line: #ccc; --faint: #666; --bad: #b00020; --heat: 20 80 160; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --faint: #aaa; --bad: #ff8a80; --heat: 110 170 255; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2em; border-bottom: 2px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .3em .8em; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
.texts td, .texts th { text-align: left; }
.texts td:nth-child(4) { min-width: 9em; overflow-wrap: anywhere; }
.texts td, .texts th { padding: .3em .5em; }
.below { color: var(--bad); }
.confusion th { font-weight: normal; white-space: nowrap; }
figure { margin: 1.5em 0; } img { max-width: 100%; }
figcaption, .note { color: var(--faint); }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{sections}
</body></html>
"""
# more classes than this are joined in "other"
MOST_CLASSES = 20
MOST_MISTAKES = 20
LONGEST_TEXT = 400


@dataclass(frozen=True)
class Answer:
    """What a model answered to `text`; `gold` is what is right, `probability` what the model gave its answer."""

    text: str
    gold: str
    answer: str
    is_right: bool
    probability: float | None


def answers_in(lines: Iterable[Mapping]) -> list[Answer]:
    """The answers of a split's lines of predictions.jsonl; of a tagger one for each word."""
    answers = []
    for line in lines:
        gold, answer, probability = line["gold"], line["answer"], line.get("probability")
        if "tokens" in line:
            for place, (right, found) in enumerate(zip(gold, answer, strict=True)):
                # shown for mistakes only: a text for each word would take much memory
                words = [] if right == found else line["tokens"]
                text = " ".join(f"[{word}]" if number == place else word for number, word in enumerate(words))
                answers.append(Answer(text, right, found, right == found, line["probabilities"][place]))
        elif "choices" in line:
            right, found = line["choices"][gold], line["choices"][answer]
            answers.append(Answer(line["text"], right, found, gold == answer, probability))
        elif "context" in line:
            right = " / ".join(dict.fromkeys(gold)) or "(no answer)"
            is_right = line["exact_match"] == 100
            answers.append(Answer(line["question"], right, answer or "(no answer)", is_right, probability))
        else:
            text = " | ".join(line["texts"])
            right, found = (", ".join(one) if isinstance(one, list) else str(one) for one in (gold, answer))
            answers.append(Answer(text, right, found, gold == answer, probability))
    return answers


def write_task_report(path: str | Path, results: Mapping, lines: Sequence[Mapping], history: Sequence[Mapping]):
    """Writes the page of a run to `path`, in one piece; it needs no network.

    `results` are those of results.json, `lines` those of predictions.jsonl, `history` the Trainer's log.
    """
    splits = [split for split in ("test", "validation") if split in results]
    sections = []
    for split in splits:
        of_split = [line for line in lines if line["split"] == split]
        sections.append(f"<h2>{split.capitalize()}</h2>\n{scores_section(results[split])}")
        answers = answers_in(of_split)
        is_of_classes = of_split and not {"choices", "context"} & set(of_split[0])
        if results.get("problem_type") == "regression":
            sections.append(errors_section(of_split))
        else:
            if is_of_classes and results.get("problem_type") != "multi_label_classification":
                sections.append(confusion_section(answers))
            sections.append(mistakes_section(answers))
    sections.append(curves_section(history))
    title = f"{results['model_type']}: {results['main_score']} {results[splits[0]][results['main_score']]:.4f}"
    facts = ("transfer", "seed", "learning_rate", "train_rows")
    summary = ", ".join(f"{name.replace('_', ' ')} {format_fact(results[name])}" for name in facts if name in results)
    counts = ", ".join(f"{format_cell(number)} {name}" for name, number in results.get("parameters", {}).items())
    page = PAGE.format(
        title=escape(title),
        style=STYLE,
        summary=escape(f"{summary}. Parameters: {counts}."),
        sections="\n".join(sections),
    )
    write_text(path, page)


def format_fact(value) -> str:
    return f"{value:g}" if isinstance(value, float) else format_cell(value)


def scores_section(scores: Mapping) -> str:
    """A table with a row for the model and one for each floor; a score that misses a floor is marked and said."""
    floors = scores["floors"]
    names = [name for name, value in scores.items() if isinstance(value, float)]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
    rows, notes = [], []
    for title, row in {"model": scores, **floors}.items():
        cells = []
        for name in names:
            value = row.get(name)
            missed = [
                floor
                for floor, of_floor in floors.items()
                if name in of_floor and misses_floor(name, scores[name], of_floor[name])
            ]
            kind = ' class="below"' if title == "model" and missed else ""
            cells.append(f"<td{kind}>{'–' if value is None else f'{value:.4f}'}</td>")
            if title == "model" and missed:
                notes.append(f"{name} is {side_of_floor(name)} its floor: {', '.join(missed)}.")
        rows.append(f"<tr><td>{escape(title)}</td>{''.join(cells)}</tr>")
    counts = [f"{format_cell(value)} {name.replace('_', ' ')}" for name, value in scores.items() if type(value) is int]
    notes += [f"{', '.join(counts)}."] if counts else []
    table = f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(rows) + "</table></div>"
    return table + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def confusion_section(answers: Sequence[Answer]) -> str:
    """How often each class (row) was answered by each class (column), dark where it is a large part of the row."""
    frequent = [name for name, _ in Counter(answer.gold for answer in answers).most_common(MOST_CLASSES)]
    kept = set(frequent)
    pairs = Counter(
        tuple(name if name in kept else "other" for name in (answer.gold, answer.answer)) for answer in answers
    )
    names = sorted(frequent) + (["other"] if any("other" in pair and "other" not in kept for pair in pairs) else [])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for gold in names:
        total = max(sum(pairs[gold, name] for name in names), 1)
        cells = "".join(
            f'<td style="background: rgb(var(--heat) / {0.6 * pairs[gold, name] / total:.3f})" '
            f'title="{escape(f"{gold} answered as {name}", quote=True)}">{pairs[gold, name]:,}</td>'
            for name in names
        )
        rows.append(f"<tr><th>{escape(gold)}</th>{cells}</tr>")
    return (
        "<h3>Confusions</h3><p>Rows are what is right, columns what was answered.</p>"
        f'<div class="wide"><table class="confusion"><tr><th></th>{head}</tr>\n' + "\n".join(rows) + "</table></div>"
    )


def mistakes_section(answers: Sequence[Answer]) -> str:
    """The wrong answers that the model was surest of."""
    wrong = [answer for answer in answers if not answer.is_right and answer.probability is not None]
    wrong.sort(key=lambda answer: -answer.probability)
    number = sum(not answer.is_right for answer in answers)
    said = f"<p>{number:,} of {len(answers):,} answers are wrong.</p>"
    if not wrong:
        return f"<h3>Mistakes</h3>{said}"
    rows = [[f"{one.probability:.3f}", one.gold, one.answer, shortened(one.text)] for one in wrong[:MOST_MISTAKES]]
    table = html_table(["sure", "right", "answered", "input"], rows)
    return f'<h3>The most confident mistakes</h3>{said}<div class="wide texts">{table}</div>'


def errors_section(lines: Sequence[Mapping]) -> str:
    """The numbers that lie farthest from what is right."""
    farthest = sorted(lines, key=lambda line: -abs(line["gold"] - line["answer"]))[:MOST_MISTAKES]
    rows = [
        [f"{abs(one['gold'] - one['answer']):.3f}", one["gold"], one["answer"], shortened(" | ".join(one["texts"]))]
        for one in farthest
    ]
    table = html_table(["error", "right", "answered", "input"], rows)
    return f'<h3>The largest errors</h3><div class="wide texts">{table}</div>'


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"


def curves_section(history: Sequence[Mapping]) -> str:
    """The losses of the training and validation text, for light and for dark pages."""
    result = {
        "train_curve": [(log["step"], log["loss"]) for log in history if "loss" in log],
        "validation_curve": [(log["step"], log["eval_loss"]) for log in history if "eval_loss" in log],
    }
    if not any(result.values()):
        return ""
    pictures = []
    for look in ("default", "dark_background"):
        with style.context(look):
            pictures.append(png(learning_curves({"loss": result}, "updates")))
    caption = "Loss on the training text (line) and on the validation text (dots)."
    return "<h2>Learning curves</h2>" + html_figure(pictures[0], "learning curves", caption, dark=pictures[1])


def write_grid_report(path: str | Path, curves: Mapping[str, Mapping]):
    """Writes the page of several runs: `curves` are their results.json by name, the first those of this command."""
    (name, curve), main = next(iter(curves.items())), next(iter(curves.values()))["main_score"]
    sections = []
    for point in curve["points"]:
        sections.append(f"<h2>{format_cell(point['train_rows'])} training rows</h2>")
        sections += [
            f"<h3>{split.capitalize()}</h3>\n{spreads_section(point[split])}"
            for split in ("test", "validation")
            if split in point
        ]
        by_rate = point["validation_by_learning_rate"]
        if len(by_rate) > 1:
            rows = [[f"{float(rate):g}", format_spread(spread)] for rate, spread in by_rate.items()]
            chosen = f"<p>The rate {point['learning_rate']:g} has the best mean score on the validation text.</p>"
            table = html_table(["learning rate", f"validation {main}"], rows)
            sections.append(f"<h3>Learning rates</h3>{chosen}{table}")
    if len(curves) > 1 or len(curve["points"]) > 1:
        pictures = []
        for look in ("default", "dark_background"):
            with style.context(look):
                pictures.append(png(curves_figure(curves)))
        caption = "Bars are standard deviations, dashed lines floors."
        sections.append("<h2>Labels</h2>" + html_figure(pictures[0], "score by rows", caption, dark=pictures[1]))
    page = PAGE.format(
        title=escape(f"{name}: {main}"),
        style=STYLE,
        summary="Mean ± standard deviation over seeds and folds. Each run has a page of its own in its folder.",
        sections="\n".join(sections),
    )
    write_text(path, page)


def format_spread(spread: Mapping) -> str:
    return f"{spread['mean']:.4f} ± {spread['std']:.4f}"


def spreads_section(scores: Mapping) -> str:
    """A row for each score: the runs' mean ± standard deviation and the floors' means.

    Marks each mean that is worse than a floor's.
    """
    floors, rows = scores["floors"], []
    for name, spread in scores.items():
        if name == "floors":
            continue
        of_floors = {floor: of_floor[name]["mean"] for floor, of_floor in floors.items() if name in of_floor}
        missed = [floor for floor, value in of_floors.items() if misses_floor(name, spread["mean"], value)]
        title = f"{side_of_floor(name)} {', '.join(missed)}"
        kind = f' class="below" title="{escape(title, quote=True)}"' if missed else ""
        cells = "".join(f"<td>{of_floors[floor]:.4f}</td>" if floor in of_floors else "<td>–</td>" for floor in floors)
        rows.append(f"<tr><td>{escape(name)}</td><td{kind}>{format_spread(spread)}</td>{cells}</tr>")
    head = "".join(f"<th>{escape(title)}</th>" for title in ("", "model", *floors))
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(rows) + "</table></div>"


def plot_curves(path: str | Path, curves: Mapping[str, Mapping]):
    """`curves_figure` as an image; the ending of `path` decides its format."""
    save_figure(curves_figure(curves), path)


def curves_figure(curves: Mapping[str, Mapping]) -> Figure:
    """A line for each of `curves` (results.json of several runs): score by the number of training rows.

    Bars are standard deviations; dashed lines are the floors of the first curve.
    """
    figure = Figure(figsize=(7, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        points, main = curve["points"], curve["main_score"]
        split = "test" if all("test" in one for one in points) else "validation"
        rows = [one["train_rows"] for one in points]
        spreads = [one[split][main] for one in points]
        # what is not defined stands as null in results.json
        axes.errorbar(
            rows,
            np.array([one["mean"] for one in spreads], dtype=float),
            np.array([one["std"] for one in spreads], dtype=float),
            marker="o",
            capsize=3,
            label=f"{name}, {split} {main}",
        )
        if number == 0:
            floors = dict.fromkeys(floor for one in points for floor, of in one[split]["floors"].items() if main in of)
            for floor in floors:
                # rows of one class have no TF-IDF
                means = [one[split]["floors"].get(floor, {}).get(main, {"mean": math.nan})["mean"] for one in points]
                axes.plot(rows, np.array(means, dtype=float), "--", label=floor)
    axes.set(xlabel="training rows", xscale="log", ylabel="score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
