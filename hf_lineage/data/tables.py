"""Tables of text (.csv, .tsv): every cell as it is written."""

import csv
import sys
from collections.abc import Sequence

from hf_lineage.files import CorpusError


# of several that cut into equally many columns, the first is taken
SEPARATORS = {".csv": ",;\t|", ".tsv": "\t,;|"}


def read_table(path, lines: Sequence[str], separators: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The lines of the file `path` -> the names of its columns, and each row's first line (from 1) with its cells.

    The first line names the columns; of `separators` the one that cuts it into most columns is taken.

    Raises:
        CorpusError: the file is empty, names a column twice, or a row has another number of cells.
    """
    if not lines:
        raise CorpusError(f"{path} is empty; its first line must name the columns")
    separator = max(separators, key=lambda one: len(next(csv.reader(lines[:1], delimiter=one), ())))
    rows = _unquoted(lines, separator) if separator == "\t" else None
    if rows is None:
        rows = _cut(path, lines, separator)
    (_, names), *rows = rows
    names = [name.strip() or f"column {number}" for number, name in enumerate(names, start=1)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise CorpusError(f"{path}, line 1: two columns are named {min(twice)!r}; give each column its own name")
    for line, cells in rows:
        if len(cells) != len(names):
            raise CorpusError(
                f"{path}, line {line}: there are {len(cells)} cells, but the first line names {len(names)} columns "
                f"({', '.join(names)}), separated by {separator!r}: put cells that hold {separator!r} in double quotes"
            )
    return names, rows


def _cut(path, lines, separator) -> list[tuple[int, list[str]]]:
    """(first line, cells) of each row; cells in double quotes may hold separators and line breaks."""
    # texts may be long; the limit is a global setting of the module csv
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator, strict=True)
    rows = []
    try:
        while True:
            begin = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return rows
            # a blank line is not a row
            if cells:
                rows.append((begin, cells))
    except csv.Error as error:
        raise CorpusError(
            f"{path}, line {begin}: {error}; close each cell in double quotes, and write quotes inside it twice"
        ) from None
    finally:
        csv.field_size_limit(limit)


def _unquoted(lines, separator):
    """Rows in which a quote is a plain character, as in most .tsv; None if rows differ in their number of cells.

    A cell that is quoted as a whole loses its quotes, since some programs write all tables so.
    """
    rows = [(number, line.split(separator)) for number, line in enumerate(lines, start=1) if line]
    if len({len(cells) for _, cells in rows}) > 1:
        return None
    return [(number, [_without_quotes(cell) for cell in cells]) for number, cells in rows]


def _without_quotes(cell):
    inside = cell[1:-1].replace('""', "")
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside
    return cell[1:-1].replace('""', '"') if is_quoted else cell
