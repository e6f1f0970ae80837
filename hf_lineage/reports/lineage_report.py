"""The lineage run as one HTML file: a table, learning curves and samples of every model."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from .pages import write_page


COLUMNS = {
    "model": "model",
    "parameters": "parameters",
    "perplexity_per_token": "perplexity per token",
    "perplexity_per_word": "perplexity per word",
    "bits_per_character": "bits per character",
    "train_seconds": "training, seconds",
    "tokens_per_second": "tokens per second",
}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3em .9em; border-bottom: 1px solid #ccc; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
figure {{ margin: 1.5em 0; }} img {{ max-width: 100%; }}
blockquote {{ margin: .3em 0 1.2em; padding: .2em 1em; border-left: 3px solid #ccc; white-space: pre-wrap; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{table}
<figure>{curves}<figcaption>{caption}</figcaption></figure>
<h2>What they say</h2>
{samples}
{sections}
</body></html>
"""


def format_cell(value) -> str:
    """Numbers as people read them: 4,651,600 and 114.5."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def table_rows(results: Sequence[dict]) -> list[list[str]]:
    """Header and one row a model, as text."""
    return [list(COLUMNS.values()), *([format_cell(result[key]) for key in COLUMNS] for result in results)]


def columns(curve: Sequence[tuple[int, float]]) -> tuple[list, list]:
    """(tokens, loss) pairs, possibly none, as two lists."""
    return [tokens for tokens, _ in curve], [loss for _, loss in curve]


def learning_curves(results: Sequence[dict]) -> bytes:
    """PNG of training loss (line) and validation loss (dots), in nats a token, over the training tokens."""
    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for result in results:
        (line,) = axes.plot(*columns(result["train_curve"]), alpha=0.8, label=result["model"])
        axes.plot(*columns(result["validation_curve"]), "o", color=line.get_color())
    axes.set(xlabel="training tokens", ylabel="loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_lineage_report(path: Path, title: str, summary: str, results: Sequence[dict], sections: Sequence[str] = ()):
    """Writes the report to `path` in one piece.

    Each result holds the keys of `COLUMNS` and `train_curve` and `validation_curve`, lists of (tokens, loss), and
    `samples`, a list of (prompt, continuation). `sections` are HTML that follows, such as `word_vectors_section`.
    """
    header, *rows = table_rows(results)
    cells = [f"<th>{escape(cell)}</th>" for cell in header]
    lines = ["<tr>" + "".join(cells) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    samples = [
        f"<h3>{escape(result['model'])}</h3>"
        + "".join(
            f"<blockquote><b>{escape(prompt)}</b>{escape(continuation)}</blockquote>"
            for prompt, continuation in result["samples"]
        )
        for result in results
    ]
    picture = base64.b64encode(learning_curves(results)).decode("ascii")
    page = PAGE.format(
        title=escape(title),
        summary=escape(summary),
        table="<table>" + "\n".join(lines) + "</table>",
        curves=f'<img alt="learning curves" src="data:image/png;base64,{picture}">',
        caption="Loss on the training text (lines) and on the validation text (dots).",
        samples="\n".join(samples),
        sections="\n".join(sections),
    )
    write_page(path, page)
