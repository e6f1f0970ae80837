"""The lineage run as one HTML file: the stations in historical order, and a section per kind of model."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from hf_lineage.files import write_text
from hf_lineage.reports.alignment_report import STYLE as ALIGNMENT_STYLE
from hf_lineage.reports.attention_report import STYLE as ATTENTION_STYLE
from hf_lineage.reports.learning_curves import learning_curves
from hf_lineage.reports.pages import html_figure, html_table, png


COLUMNS = {
    "model": "model",
    "parameters": "parameters",
    "perplexity_per_token": "perplexity per token",
    "perplexity_per_word": "perplexity per word",
    "bits_per_character": "bits per character",
    "train_seconds": "training, seconds",
    "tokens_per_second": "tokens per second",
}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { margin-top: 2.5em; border-bottom: 2px solid #ddd; }
nav a { margin-right: 1.2em; white-space: nowrap; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .3em .9em; border-bottom: 1px solid #ccc; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
.lineage td, .lineage th { text-align: left; }
.wide { overflow-x: auto; }
figure { margin: 1.5em 0; } img { max-width: 100%; }
blockquote { margin: .3em 0 1.2em; padding: .2em 1em; border-left: 3px solid #ccc; white-space: pre-wrap; }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>{style}</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<nav>{links}</nav>
<h2 id="lineage">The lineage</h2>
<div class="lineage">{stations}</div>
{sections}
</body></html>
"""


def language_models_section(results: Sequence[dict]) -> str:
    """HTML: a table, learning curves and samples of models that generate text.

    Each result has the keys of `COLUMNS`, `train_curve` and `validation_curve` (lists of (tokens, loss)) and `samples`
    (a list of (prompt, continuation)).
    """
    samples = [
        f"<h3>{escape(result['model'])}</h3>"
        + "".join(
            f"<blockquote><b>{escape(prompt)}</b>{escape(continuation)}</blockquote>"
            for prompt, continuation in result["samples"]
        )
        for result in results
    ]
    table = html_table(list(COLUMNS.values()), [[result[key] for key in COLUMNS] for result in results])
    curves = learning_curves({result["model"]: result for result in results}, "tokens")
    caption = "Loss per token on the training text (lines) and on the validation text (dots)."
    return (
        f'<div class="wide">{table}</div>'
        + html_figure(png(curves), "learning curves", caption)
        + ("\n".join(samples))
    )


def context_plot(similarities: dict[str, dict[str, list[float] | None]]) -> bytes:
    """PNG of cosines over the layers, one panel per word, one line per model; see `words_in_context_section`."""
    figure = Figure(figsize=(4.5 * len(similarities), 3.4), dpi=110, layout="constrained")
    for axes, (word, models) in zip(
        figure.subplots(1, len(similarities), squeeze=False)[0], similarities.items(), strict=True
    ):
        for model, values in models.items():
            if values is not None:
                axes.plot(range(len(values)), values, "o-", label=model)
        axes.set(title=word, xlabel="layer (0: token vector)", ylabel="cosine", ylim=(None, 1.03))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return png(figure)


def words_in_context_section(
    sentences: dict[str, tuple[str, str]], similarities: dict[str, dict[str, list[float] | None]]
) -> str:
    """HTML: how similar a word's vectors are in two sentences, at each layer of each model.

    `sentences` maps a word to its two sentences, `similarities` a word to model -> cosines (`context_similarities`),
    None if the model does not know the word.
    """
    depth = max((len(values) for models in similarities.values() for values in models.values() if values), default=1)
    rows = [
        [word, model, *(f"{value:.3f}" for value in values), *[None] * (depth - len(values))]
        for word, models in similarities.items()
        for model, values in ((model, values or []) for model, values in models.items())
    ]
    items = "".join(
        f"<li><b>{escape(word)}</b>: “{escape(first)}” and “{escape(second)}”</li>"
        for word, (first, second) in sentences.items()
    )
    caption = "Cosine of a word's vectors in its two sentences. BERT's layer 0 also holds the word's position."
    return (
        f"<ul>{items}</ul>\n"
        + html_table(["word", "model", *(f"layer {layer}" for layer in range(depth))], rows)
        + html_figure(context_plot(similarities), "cosines by layer", caption)
    )


def write_lineage_report(
    path: Path,
    title: str,
    summary: str,
    stations: Sequence[Sequence],
    sections: Sequence[tuple[str, str]] = (),
):
    """Writes the report to `path` in one piece; it needs no network.

    `stations` has a row per station: name, new idea, training seconds, result. `sections` follow as (title, HTML), for
    example from `language_models_section` and `word_vectors_section`.
    """
    numbered = list(enumerate(sections, 1))
    links = ['<a href="#lineage">The lineage</a>']
    links += [f'<a href="#section{number}">{escape(name)}</a>' for number, (name, _) in numbered]
    page = PAGE.format(
        title=escape(title),
        summary=escape(summary),
        style=STYLE + ALIGNMENT_STYLE + ATTENTION_STYLE,
        links=" ".join(links),
        stations=html_table(["station", "its new idea", "seconds", "result here"], stations),
        sections="\n".join(f'<h2 id="section{n}">{escape(name)}</h2>\n{body}' for n, (name, body) in numbered),
    )
    write_text(path, page)
