"""Questions with several choices; one of them is right."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accelerate import PartialState

from hf_lineage.data.labelled_files import LabelledRows, read_labelled, why_secret
from hf_lineage.files import CorpusError


# columns of the usual data sets, tried in this order: COPA, CODAH, SWAG, CommonsenseQA
TEXT_FIELDS = (["premise", "question"], ["context"], ["sent1", "sent2"], ["question"], ["text"])
CHOICE_FIELDS = (["choices"], ["endings"], ["ending0", "ending1", "ending2", "ending3"], ["choice1", "choice2"])
LABEL_FIELDS = ("label", "answerKey")


@dataclass(frozen=True)
class ChoiceQuestion:
    """A text, the choices that may go with it, and the number of the right one; None where it is secret."""

    text: str
    choices: tuple[str, ...]
    label: int | None


def read_choice_questions(
    source: str | os.PathLike | Mapping[str, str | os.PathLike],
    text_fields: Sequence[str] | None = None,
    choice_fields: Sequence[str] | None = None,
    label_field: str | None = None,
    *,
    encoding: str = "utf-8",
) -> dict[str, list[ChoiceQuestion]]:
    """The questions of each split; `source` is as for `read_labelled`.

    The text is what `text_fields` hold, joined by blanks. `choice_fields` is one column with a list of texts (or
    {"text": [texts], "label": [letters]}), or a column per choice; in CSV lists and objects are JSON. The label is the
    number of the right choice, from 0, or its letter. By default all are the first usual ones that the data set has.

    A test split may have no labels: no such column, or −1 or nothing in every row. Its questions then have the label
    None, and a printed line says so.

    Raises:
        CorpusError: a column is missing or is named twice, a text is empty, rows differ in their number of choices, a
            label is no choice, or only some labels of a split are secret; the error names the place.
    """
    splits = read_labelled(source, encoding=encoding)
    columns = next(iter(splits.values())).column_names
    texts = list(text_fields or _usual(source, columns, TEXT_FIELDS, "text_fields"))
    choices = list(choice_fields or _usual(source, columns, CHOICE_FIELDS, "choice_fields"))
    label_field = label_field or next((field for field in LABEL_FIELDS if field in columns), LABEL_FIELDS[0])
    named = [*texts, *choices, label_field]
    if len(set(named)) < len(named):
        raise CorpusError(
            f"text_fields is {' '.join(texts)}, choice_fields {' '.join(choices)}, and label_field {label_field}: "
            "give different columns"
        )
    number, found = None, {}
    for split, rows in splits.items():
        found[split] = []
        # the labels of public test sets may be secret
        is_missing = split == "test" and label_field not in rows.column_names
        cells = [None] * len(rows) if is_missing else rows.column(label_field, "label_field")
        for row, place in enumerate(map(rows.place, range(len(rows)))):
            parts = [_text(rows, row, field, "text_fields") for field in texts]
            of_row, letters = _choices(rows, row, choices)
            number = len(of_row) if number is None else number
            if len(of_row) != number:
                raise CorpusError(
                    f"{place}: there are {len(of_row)} choices, but {number} in the first row: give every row "
                    f"{number}, or leave the row out"
                )
            label = _label(cells[row], letters, number)
            if label is None and not (split == "test" and _is_secret(cells[row])):
                raise CorpusError(
                    f"{place}: {label_field} is {cells[row]!r}; it must lie between 0 and {number - 1}"
                    + (f" or be one of {', '.join(map(str, letters))}" if letters else "")
                )
            found[split].append(ChoiceQuestion(" ".join(parts), tuple(of_row), label))
        secret = [row for row, question in enumerate(found[split]) if question.label is None]
        if 0 < len(secret) < len(rows):
            raise CorpusError(
                f"{rows.place(secret[0])}: {label_field} is {cells[secret[0]]!r}, a secret label, but other rows of "
                "the split test have theirs: write the label, or leave the row out"
            )
        if secret:
            PartialState().print(f"The split test has no labels and is not scored: {why_secret(rows, label_field)}")
    return found


def _label(cell, letters: list | None, number: int) -> int | None:
    """The number of the right choice; None for what is none."""
    cell = cell.strip() if isinstance(cell, str) else cell
    # 1 may be a letter, too
    if letters and str(cell) in map(str, letters):
        return list(map(str, letters)).index(str(cell))
    try:
        label = int(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    is_whole = isinstance(cell, str) or label == cell
    return label if is_whole and 0 <= label < number else None


def _is_secret(cell) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip() in ("", "-1")) or cell == -1


def _usual(source, columns, usual, name) -> list[str]:
    fields = next((fields for fields in usual if set(fields) <= set(columns)), None)
    if fields is None:
        raise CorpusError(
            f"{source} has none of the usual columns ({'; '.join(map(' and '.join, usual))}), but "
            f"{', '.join(columns)}: set {name}"
        )
    return fields


def _text(rows: LabelledRows, row: int, field: str, argument: str) -> str:
    text = rows.column(field, argument)[row]
    return _checked(rows, row, field, text)


def _choices(rows: LabelledRows, row: int, fields) -> tuple[list[str], list | None]:
    """The choices of a row, and their letters if it has some."""
    if len(fields) > 1:
        return [_text(rows, row, field, "choice_fields") for field in fields], None
    rows.column(fields[0], "choice_fields")
    cell, letters = rows.json_cell(row, fields[0]), None
    if isinstance(cell, dict):
        letters = cell.get("label")
        cell = cell.get("text")
    if not isinstance(cell, list) or len(cell) < 2:
        raise CorpusError(f"{rows.place(row)}: {fields[0]} is {cell!r:.60}; it must be a list of at least 2 texts")
    if letters is not None and (not isinstance(letters, list) or len(set(map(str, letters))) != len(cell)):
        raise CorpusError(
            f"{rows.place(row)}: {fields[0]} has {len(cell)} texts, but the label {letters!r:.60}; it must be a list "
            "of as many different letters"
        )
    return [_checked(rows, row, fields[0], choice) for choice in cell], letters


def _checked(rows, row, field, text) -> str:
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{rows.place(row)}: {field} has {text!r:.60}; it must be a text that is not empty")
    return text
