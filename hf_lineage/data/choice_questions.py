"""Questions with several choices; one of them is right."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_lineage.data.labelled_files import LabelledRows, read_labelled
from hf_lineage.files import CorpusError


# columns of the usual data sets, tried in this order: COPA, CODAH, SWAG, CommonsenseQA
TEXT_FIELDS = (["premise", "question"], ["context"], ["sent1", "sent2"], ["question"], ["text"])
CHOICE_FIELDS = (["choices"], ["endings"], ["ending0", "ending1", "ending2", "ending3"], ["choice1", "choice2"])


@dataclass(frozen=True)
class ChoiceQuestion:
    """A text, the choices that may go with it, and the number of the right one; None where it is secret (−1)."""

    text: str
    choices: tuple[str, ...]
    label: int | None


def read_choice_questions(
    source: str | os.PathLike | Mapping[str, str | os.PathLike],
    text_fields: Sequence[str] | None = None,
    choice_fields: Sequence[str] | None = None,
    label_field: str = "label",
    *,
    encoding: str = "utf-8",
) -> dict[str, list[ChoiceQuestion]]:
    """The questions of each split; `source` is as for `read_labelled`.

    The text is what `text_fields` hold, joined by blanks. `choice_fields` is one column with a list of texts (or
    {"text": [texts]}), or a column per choice. By default both are the first usual ones that the data set has. The
    label is the number of the right choice, from 0.

    Raises:
        CorpusError: a column is missing, a text is empty, rows differ in their number of choices, or a label is no
            choice; the error names the place.
    """
    splits = read_labelled(source, encoding=encoding)
    columns = next(iter(splits.values())).column_names
    texts = text_fields or _usual(source, columns, TEXT_FIELDS, "text_fields")
    choices = choice_fields or _usual(source, columns, CHOICE_FIELDS, "choice_fields")
    number, found = None, {}
    for split, rows in splits.items():
        found[split] = []
        has_labels = label_field in rows.column_names or split != "test"
        labels = rows.whole_numbers(label_field) if has_labels else [-1] * len(rows)
        for row, place in enumerate(map(rows.place, range(len(rows)))):
            parts = [_text(rows, row, field) for field in texts]
            of_row = _choices(rows, row, choices)
            number = len(of_row) if number is None else number
            if len(of_row) != number:
                raise CorpusError(f"{place}: there are {len(of_row)} choices, but {number} in the first row")
            label = labels[row]
            if not -1 <= label < number or (label < 0 and split != "test"):
                raise CorpusError(f"{place}: {label_field} is {label}; it must lie between 0 and {number - 1}")
            found[split].append(ChoiceQuestion(" ".join(parts), tuple(of_row), None if label < 0 else label))
    return found


def _usual(source, columns, usual, name) -> list[str]:
    fields = next((fields for fields in usual if set(fields) <= set(columns)), None)
    if fields is None:
        raise CorpusError(
            f"{source} has none of the usual columns ({'; '.join(map(' and '.join, usual))}), but "
            f"{', '.join(columns)}: set {name}"
        )
    return fields


def _text(rows: LabelledRows, row: int, field: str) -> str:
    text = rows.column(field)[row]
    return _checked(rows, row, field, text)


def _choices(rows: LabelledRows, row: int, fields) -> list[str]:
    if len(fields) > 1:
        return [_text(rows, row, field) for field in fields]
    cell = rows.column(fields[0])[row]
    cell = cell.get("text") if isinstance(cell, dict) else cell
    if not isinstance(cell, list) or len(cell) < 2:
        raise CorpusError(f"{rows.place(row)}: {fields[0]} is {cell!r:.60}; it must be a list of at least 2 texts")
    return [_checked(rows, row, fields[0], choice) for choice in cell]


def _checked(rows, row, field, text) -> str:
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{rows.place(row)}: {field} has {text!r:.60}; it must be a text that is not empty")
    return text
