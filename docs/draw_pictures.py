"""Draws docs/lineage.svg, the stations in time and what each adds, and docs/stations/X.svg, the data flow of each.

    python docs/draw_pictures.py

The flow of a station is the line with arrows in the docstring of its `modeling_x.py`.
Boxes have their own colours and lines are mid-grey, so that the picture reads on a light and on a dark page.
"""

import ast
import re
import sys
import textwrap
from html import escape
from pathlib import Path
from typing import NamedTuple


HERE = Path(__file__).parent
MODELS = HERE.parent / "hf_lineage" / "models"


class Station(NamedTuple):
    """`column` is a time, `row` a place in it; `idea` has two short lines."""

    name: str
    paper: str
    idea: tuple[str, str]
    column: int
    row: int
    kind: str


STATIONS = {
    "nnlm": Station("NNLM", "Bengio et al., 2003", ("words have vectors,", "learned by predicting"), 0, 0, "vectors"),
    "rnn": Station(
        "RNN", "Elman, 1990; Mikolov, 2010", ("a state is carried", "from word to word"), 0, 1, "recurrence"
    ),
    "lstm": Station("LSTM", "Hochreiter et al., 1997", ("gates keep a memory", "over many steps"), 0, 2, "recurrence"),
    "word2vec": Station(
        "word2vec", "Mikolov et al., 2013", ("vectors alone, from", "billions of words"), 1, 0, "vectors"
    ),
    "seq2seq": Station(
        "Seq2Seq", "Sutskever et al., 2014", ("one network reads,", "another writes"), 1, 1, "recurrence"
    ),
    "gru": Station("GRU", "Cho et al., 2014", ("two gates, one state", "in place of a cell"), 1, 2, "recurrence"),
    "rnnsearch": Station(
        "RNNsearch", "Bahdanau et al., 2015", ("attention: look back", "at every source word"), 2, 1, "attention"
    ),
    "luong": Station("Luong", "Luong et al., 2015", ("a dot product scores,", "windows of words"), 2, 2, "attention"),
    "transformer": Station(
        "Transformer", "Vaswani et al., 2017", ("attention alone,", "all words at once"), 3, 1, "attention"
    ),
    "elmo": Station("ELMo", "Peters et al., 2018", ("vectors that depend", "on the sentence"), 4, 0, "vectors"),
    "gpt": Station(
        "GPT", "Radford et al., 2018", ("pretrain on text, then", "fine-tune to any task"), 4, 1, "attention"
    ),
    "bert": Station("BERT", "Devlin et al., 2019", ("guess masked words", "from both sides"), 4, 2, "attention"),
}
# from, to: what the later paper starts from
STEPS = [
    ("nnlm", "word2vec"),
    ("nnlm", "rnn"),
    ("rnn", "lstm"),
    ("lstm", "gru"),
    ("lstm", "seq2seq"),
    ("word2vec", "elmo"),
    ("seq2seq", "rnnsearch"),
    ("rnnsearch", "luong"),
    ("rnnsearch", "transformer"),
    ("transformer", "gpt"),
    ("transformer", "bert"),
]
TIMES = ("1990 to 2003", "2013, 2014", "2015", "2017", "2018, 2019")
KINDS = {
    "vectors": ("#1d5fa3", "vectors"),
    "recurrence": ("#2a7348", "recurrence"),
    "attention": ("#7a4a9c", "attention"),
}
WIDTH, HEIGHT = 186, 94
LEFT, TOP, ACROSS, DOWN = 4, 30, 219, 122
SIZE = (LEFT * 2 + 4 * ACROSS + WIDTH, TOP + 2 * DOWN + HEIGHT + 36)
GREY = "#7d8590"


def corner(station: Station) -> tuple[int, int]:
    """Left and top of its box."""
    return LEFT + station.column * ACROSS, TOP + station.row * DOWN


def box(station: Station) -> str:
    x, y = corner(station)
    lines = [(22, 17, 700, station.name), (41, 12.3, 400, station.paper)]
    lines += [(62 + 17 * i, 14, 400, line) for i, line in enumerate(station.idea)]
    texts = "".join(
        f'<text x="{x + 11}" y="{y + down}" font-size="{size}" font-weight="{weight}" fill="white">'
        f"{escape(text)}</text>"
        for down, size, weight, text in lines
    )
    return f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{KINDS[station.kind][0]}"/>{texts}'


def arrow(earlier: Station, later: Station) -> str:
    (x, y), (to_x, to_y) = corner(earlier), corner(later)
    if earlier.column == later.column:
        path = f"M{x + 30} {y + HEIGHT}V{to_y - 6}"
    elif earlier.row == later.row:
        path = f"M{x + WIDTH} {y + HEIGHT // 2}H{to_x - 6}"
    else:
        start, end, middle = y + HEIGHT // 2, to_y + HEIGHT // 2, (x + WIDTH + to_x - 6) // 2
        # beside the straight arrow between the same columns
        end += 22 if start > end else -22
        path = f"M{x + WIDTH} {start}C{middle + 8} {start} {middle - 8} {end} {to_x - 6} {end}"
    return f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#head)"/>'


def head(width: int, height: int, title: str) -> list[str]:
    """The first lines of a picture: its size, its title and the head of its arrows."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">',
        f'<title id="title">{escape(title)}</title>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="4.5" markerHeight="4.5" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>',
    ]


def picture() -> str:
    """docs/lineage.svg."""
    width, height = SIZE
    parts = head(
        width, height, "The lineage from NNLM and RNN to GPT and BERT: what each model adds to those before it"
    )
    for column, time in enumerate(TIMES):
        parts.append(f'<text x="{LEFT + column * ACROSS + 2}" y="18" font-size="14" fill="{GREY}">{time}</text>')
    parts += [arrow(STATIONS[earlier], STATIONS[later]) for earlier, later in STEPS]
    parts += [box(station) for station in STATIONS.values()]
    for place, (colour, label) in enumerate(KINDS.values()):
        x, y = LEFT + 2 + 120 * place, height - 12
        parts.append(f'<rect x="{x}" y="{y - 12}" width="14" height="14" rx="3" fill="{colour}"/>')
        parts.append(f'<text x="{x + 21}" y="{y}" font-size="14" fill="{GREY}">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def flow_line(name: str) -> str:
    """`a [B, T] -> b [B, T, D] -> …` of a station's module; encoder-decoders have two, with "; " between them."""
    module = {"lstm": "rnn", "gru": "rnn"}.get(name, name)
    code = (MODELS / f"modeling_{module}.py").read_text(encoding="utf-8")
    [line] = [line for line in (ast.get_docstring(ast.parse(code)) or "").splitlines() if " -> " in line]
    return line


def flow(name: str) -> str:
    """docs/stations/NAME.svg: a row of boxes per part of the flow."""
    station, line = STATIONS[name], flow_line(name)
    rows = [part.split(" -> ") for part in line.split("; ")]
    wide, high, across, down = 176, 66, 214, 88
    # as wide as four boxes, so that all pictures have letters of one size
    width, height = 3 * across + wide + 8, down * len(rows)
    parts = head(width, height, f"Data flow of {station.name}: {line.replace('->', '→')}")
    for row, steps in enumerate(rows):
        for column, step in enumerate(steps):
            x, y = 4 + across * column, 4 + down * row
            if column:
                path = f"M{x - across + wide} {y + high // 2}H{x - 6}"
                parts.append(
                    f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#head)"/>'
                )
            parts.append(
                f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="7" fill="{KINDS[station.kind][0]}"/>'
            )
            # a shape stays on one line
            lines = textwrap.wrap(re.sub(r"\[.*?\]|n − 1", lambda shape: shape[0].replace(" ", "\u00a0"), step), 23)
            top = y + high / 2 + 5 - 9 * (len(lines) - 1)
            parts += [
                f'<text x="{x + wide / 2:g}" y="{top + 18 * i:g}" font-size="13.5" fill="white" '
                f'text-anchor="middle">{escape(text)}</text>'
                for i, text in enumerate(lines)
            ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def pictures() -> dict[Path, str]:
    """Every picture by its path."""
    return {HERE / "lineage.svg": picture()} | {HERE / "stations" / f"{name}.svg": flow(name) for name in STATIONS}


if __name__ == "__main__":
    for path, svg in pictures().items():
        path.write_text(svg, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
