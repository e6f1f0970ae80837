"""Alignments as heat maps: a picture (PNG, SVG, PDF), or a page that opens offline and shows each weight."""

from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure

from hf_lineage.files import save_figure, write_text
from hf_lineage.inference.given_alignment import Alignment


# the first installed one draws the characters that matplotlib's own font lacks
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "SimHei",
    "PingFang SC",
    "Arial Unicode MS",
)

STYLE = """
.alignment { border-collapse: collapse; margin: 0 0 2.5em; }
.alignment th { font-weight: normal; padding: .1em .5em; white-space: nowrap; border: 0; }
.alignment thead th { writing-mode: vertical-rl; text-align: right; }
.alignment tbody th { text-align: right; }
.alignment td { width: 2.2em; height: 2.2em; border: 1px solid #eee; padding: 0; }
.alignment td.gold { outline: 2px solid #d60; outline-offset: -3px; }
.alignment td.maybe { outline: 2px dotted #d60; outline-offset: -3px; }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }}
{style}</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{tables}
</body></html>
"""


def plot_alignment(alignment: Alignment, path: str | Path):
    """Draws one alignment, source words across and target words down, dark where the weight is high.

    The ending of `path` decides the format. In SVG, words stay text, so that the viewer's fonts draw any language.
    """
    path = Path(path)
    height, width = alignment.weights.shape
    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["DejaVu Sans", *(font for font in CJK_FONTS if font in installed)]
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": fonts}):
        figure = Figure(figsize=(0.5 * width + 2, 0.4 * height + 1.5), dpi=110, layout="constrained")
        axes = figure.subplots()
        axes.imshow(alignment.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(width), alignment.source, rotation=60, ha="left")
        axes.set_yticks(range(height), alignment.target)
        axes.xaxis.tick_top()
        save_figure(figure, path)


def write_alignment_report(
    path: str | Path,
    title: str,
    alignments: Sequence[Alignment],
    *,
    summary: str = "",
    gold: Sequence[tuple[set, set]] | None = None,
):
    """Writes a page with a heat map of each alignment to `path`, in one piece; it needs no network.

    `gold` gives each pair's (sure, possible) links, which are outlined; links that are only possible are dotted.
    """
    gold = [(set(), set())] * len(alignments) if gold is None else gold
    tables = [alignment_table(alignment, *links) for alignment, links in zip(alignments, gold, strict=True)]
    page = PAGE.format(style=STYLE, title=escape(title), summary=escape(summary), tables="\n".join(tables))
    write_text(path, page)


def alignment_table(alignment: Alignment, sure: Collection = (), possible: Collection = ()) -> str:
    """A heat map as HTML, for a page with `STYLE`; known links (source, target) are outlined."""
    head = "".join(f"<th>{escape(word)}</th>" for word in alignment.source)
    rows = []
    for j, word in enumerate(alignment.target):
        cells = []
        for i, weight in enumerate(alignment.weights[j].tolist()):
            kind = "gold" if (i, j) in sure else "maybe" if (i, j) in possible else ""
            label = escape(f"{word} ← {alignment.source[i]}: {weight:.3f}", quote=True)
            cells.append(f'<td class="{kind}" title="{label}" style="background: rgb(8 81 156 / {weight:.3f})"></td>')
        rows.append(f"<tr><th>{escape(word)}</th>{''.join(cells)}</tr>")
    head = f"<thead><tr><th></th>{head}</tr></thead>"
    return f'<table class="alignment">{head}<tbody>{"".join(rows)}</tbody></table>'
