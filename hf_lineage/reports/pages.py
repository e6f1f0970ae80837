"""Writes every report to disk, and makes the HTML that several reports share."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure


def format_cell(value) -> str:
    """Numbers as people read them: 4,651,600 and 114.50; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def html_table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table of `rows`, with numbers formatted by `format_cell`."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{escape(format_cell(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>\n"


def html_figure(picture: bytes, name: str, caption: str, dark: bytes | None = None) -> str:
    """A PNG inside the page, with its caption; `dark` is shown in its place where the reader prefers dark pages."""
    image = f'<img alt="{escape(name)}" src="{_data_url(picture)}">'
    if dark is not None:
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data_url(dark)}">'
        image = f"<picture>{source}{image}</picture>"
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
