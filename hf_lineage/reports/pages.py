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


def html_figure(picture: bytes, name: str, caption: str) -> str:
    """A PNG inside the page, with its caption."""
    data = base64.b64encode(picture).decode("ascii")
    return (
        f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
