"""Labelled data sets: their texts, what kind their labels are and why, and which splits have labels."""

import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import datasets
import numpy as np
import torch
from accelerate import PartialState

from hf_lineage.data.labelled_files import LabelledRows, read_labelled, splits_for_training, why_secret
from hf_lineage.files import CorpusError


PROBLEM_TYPES = ("single_label_classification", "regression", "multi_label_classification")
# up to this many different whole numbers written as floats are classes, such as stars
_MOST_CLASSES_OF_FLOATS = 20
_FOR_REGRESSION = "; for regression give --problem_type regression"
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
# 007 is a name, not a number
_NUMBER = re.compile(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# blanks and joiners without width, the byte order mark, the soft hyphen; U+200C and U+200D belong to spellings
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
# what programs write for a missing value; a class may have such a name all the same
_NOTHING = {"na", "n/a", "<na>", "nan", "null", "none", "nil", "-", "?"}


@dataclass(frozen=True)
class Labels:
    """What the labels of a data set are.

    `problem_type` is transformers' name, or "tagging" for a class per word. `classes` are the labels in the order of
    the head's outputs, `names` their names; both are empty for regression. `reason` is a line for people: what was
    decided, and from what. `notes` are lines on possible mistakes.
    """

    problem_type: str
    classes: tuple
    names: tuple[str, ...]
    reason: str
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> dict:
        """The fields of a model's configuration that the labels decide."""
        if self.problem_type == "regression":
            return {"problem_type": "regression", "id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        names = dict(enumerate(self.names))
        fields = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
        return fields if self.problem_type == "tagging" else {"problem_type": self.problem_type, **fields}

    def encode(self, label) -> int | float | list[int] | list[float]:
        """A row's label as the heads read it: a class number, a number, a 1.0 or 0.0 per class, or a list of tags."""
        if self.problem_type == "regression":
            return float(label)
        if self.problem_type == "tagging":
            return [self._number_of[tag] for tag in label]
        if self.problem_type == "multi_label_classification":
            return [float(name in label) for name in self.classes]
        return self._number_of[label]

    def answers(self, scores: np.ndarray, encoded: Sequence) -> list[dict]:
        """A head's scores [N, classes or 1] and the labels as `encode` gives them -> a dictionary per row.

        It has "gold" and "answer": names of classes, lists of names, or numbers; of classes also "probabilities", by
        name, and "probability", that of the answer as a whole.
        """
        if self.problem_type == "regression":
            numbers = zip(encoded, scores[:, 0].tolist(), strict=True)
            return [{"gold": gold, "answer": round(answer, 4)} for gold, answer in numbers]
        logits = torch.as_tensor(scores).double()
        are_lists = self.problem_type == "multi_label_classification"
        shares = logits.sigmoid() if are_lists else logits.softmax(1)
        rows = []
        for gold, of_row in zip(encoded, shares, strict=True):
            if are_lists:
                chosen = of_row > 0.5
                probability = torch.where(chosen, of_row, 1 - of_row).prod()
                answers = [
                    [name for name, is_in in zip(self.names, bits, strict=True) if is_in] for bits in (gold, chosen)
                ]
            else:
                probability = of_row.max()
                answers = [self.names[gold], self.names[int(of_row.argmax())]]
            row = dict(zip(("gold", "answer"), answers, strict=True)) | {"probability": round(float(probability), 4)}
            by_name = {name: round(share, 4) for name, share in zip(self.names, of_row.tolist(), strict=True)}
            rows.append(row | {"probabilities": by_name})
        return rows

    @cached_property
    def _number_of(self) -> dict:
        return {label: number for number, label in enumerate(self.classes)}


@dataclass(frozen=True)
class LabelledData:
    """The splits train, validation and, if it has labels, test; the columns with texts and labels; what these are."""

    splits: datasets.DatasetDict
    text_fields: list[str]
    label_field: str
    labels: Labels
    are_words: bool


def load_labelled(
    dataset: str | os.PathLike | Mapping[str, str | os.PathLike],
    label_field: str | Sequence[str],
    text_fields: Sequence[str] | None,
    usual_fields: Sequence[Sequence[str]],
    validation_split: str = "validation",
    *,
    problem_type: Literal["single_label_classification", "regression", "multi_label_classification"] | None = None,
    encoding: str = "utf-8",
    folds: bool = False,
) -> LabelledData:
    """A labelled data set, ready for training: every text is checked, and every label is known.

    The whole column decides what the labels are. Whole numbers and texts (without the white space around them) are
    classes. Lists are several classes per row, or one class per word if the texts are lists of words. Numbers with
    fractions, or more than 20 different numbers written with a point, mean regression. `problem_type` overrules this.
    One printed line says what was decided, and from what.

    Args:
        dataset: a folder with <split> files, owner/name[:configuration] on the Hub, or split -> file
            (`labelled_files.read_labelled`).
        label_field: the column with the labels, or several usual names: the first that the data set has.
        text_fields: the columns with texts; by default the first of `usual_fields` that the data set has.
        validation_split: the data set's name of the split that becomes "validation".
        problem_type: what the labels are, in transformers' words.
        encoding: encoding of the text files.
        folds: the validation rows are training rows too, in other folds.

    Raises:
        ValueError: a column or a split is missing, a text or a label is missing or of another kind than the others,
            the numbers of words and tags differ, or `labelled_splits` refuses the labels; the error names file, line
            and column.
    """
    if problem_type not in (None, *PROBLEM_TYPES):
        raise ValueError(f"problem_type is {problem_type!r}; it must be one of {', '.join(PROBLEM_TYPES)}")
    rows = splits_for_training(dataset, read_labelled(dataset, encoding=encoding), validation_split)
    label_field = _label_field(dataset, rows["train"].column_names, label_field)
    fields = _text_fields(dataset, rows["train"].column_names, label_field, text_fields, usual_fields)
    argument = _text_argument(usual_fields)
    texts = {split: {field: part.texts(field, argument) for field in fields} for split, part in rows.items()}
    columns = _labels_by_split(rows, label_field, problem_type)
    learned = ("train", "validation") if folds else ("train",)
    if any(isinstance(cell, list) for cell in columns["train"]):
        texts = _words_in_json(rows, texts)
    are_words = _are_words(rows, texts)
    if are_words and any(isinstance(cell, list) for cell in columns["train"]):
        labels = _tags(rows, columns, label_field, learned)
        _check_tags(rows, texts, columns, fields[0], label_field)
    else:
        columns, labels = _decide(rows, columns, label_field, problem_type, learned)
    places = {split: rows[split].place for split in columns}
    words = {split: of_split[fields[0]] for split, of_split in texts.items()}
    kept = _splits_with_labels(
        columns,
        label_field,
        places,
        words if labels.problem_type == "tagging" else None,
        are_numbers=labels.problem_type == "regression",
        learned=learned,
    )
    notes = [*labels.notes, *_empty_texts(rows, texts)]
    if "test" in rows and "test" not in kept:
        notes.append(f"The split test is left out: {_why_secret(rows['test'], columns, label_field)}")
    if labels.problem_type == "regression":
        notes += _doubtful_numbers(rows, columns, label_field)
    PartialState().print("\n".join([labels.reason, *notes]))
    splits = {split: rows[split].to_dataset(**texts[split], **{label_field: columns[split]}) for split in kept}
    return LabelledData(datasets.DatasetDict(splits), fields, label_field, labels, are_words)


def _label_field(dataset, columns, label_field) -> str:
    if isinstance(label_field, str):
        return label_field
    found = next((field for field in label_field if field in columns), None)
    if found is None:
        raise ValueError(
            f"dataset is {dataset}: it has no usual label column ({', '.join(label_field)}); set label_field to one "
            f"of {', '.join(columns)}"
        )
    return found


def _text_fields(dataset, columns, label_field, text_fields, usual_fields) -> list[str]:
    argument = _text_argument(usual_fields)
    fields = text_fields or next((fields for fields in usual_fields if set(fields) <= set(columns)), None)
    if fields is None:
        usual = ", ".join(" and ".join(fields) for fields in usual_fields)
        raise ValueError(
            f"dataset is {dataset}: it has no usual text column ({usual}); set {argument} to one of {columns}"
        )
    for name, of_name in ((argument, fields), ("label_field", [label_field])):
        if missing := [field for field in of_name if field not in columns]:
            raise ValueError(
                f"{name} is {' '.join(of_name)}, but {dataset} has no column {', '.join(missing)}; it has "
                f"{', '.join(columns)}: set {name} to what it has"
            )
    if label_field in fields or len(set(fields)) < len(fields):
        raise ValueError(
            f"{argument} is {' '.join(fields)}, and label_field is {label_field}: give different columns, and the "
            "labels in none of the texts"
        )
    return list(fields)


def _text_argument(usual_fields) -> str:
    """What the recipes call the columns with texts: those that read several have another word for it."""
    return "text_fields" if any(len(fields) > 1 for fields in usual_fields) else "text_field"


def _words_in_json(rows: dict[str, LabelledRows], texts: dict[str, dict]) -> dict[str, dict]:
    """`texts`, where a column of CSV whose first cell is a JSON list of texts becomes lists of words.

    Raises:
        CorpusError: another cell of such a column is none; the error names the place.
    """
    found = {split: dict(columns) for split, columns in texts.items()}
    for split, columns in found.items():
        for field, cells in columns.items():
            if not rows[split].are_texts or _words(cells[0]) is None:
                continue
            columns[field] = [_words(cell) for cell in cells]
            if None in columns[field]:
                row = columns[field].index(None)
                raise CorpusError(
                    f"{rows[split].place(row)}, column {field!r}: {cells[row]!r:.60} is not a JSON list of words, as "
                    'in the first row: write ["a", "b"]'
                )
    return found


def _words(cell: str) -> list[str] | None:
    if not cell.lstrip().startswith("[") or not _is_json(cell):
        return None
    found = json.loads(cell)
    return found if all(isinstance(word, str) for word in found) else None


def _are_words(rows, texts) -> bool:
    kinds = {}
    for split, columns in texts.items():
        for field, cells in columns.items():
            for row, cell in enumerate(cells):
                if type(cell) not in kinds:
                    kinds[type(cell)] = f"{rows[split].place(row)}, column {field!r}"
    if len(kinds) > 1:
        raise CorpusError(f"{kinds[list]} holds a list of words, but {kinds[str]} a text: write all the same way")
    return list in kinds


def _empty_texts(rows, texts):
    """Gives a note per column that has empty texts."""
    for field in texts["train"]:
        places = [
            rows[split].place(row)
            for split, columns in texts.items()
            for row, text in enumerate(columns[field])
            if isinstance(text, str) and not text.strip()
        ]
        if places:
            yield f"{field}: {len(places)} texts are empty, the first in {places[0]}"


# the cells of the label column


def _labels_by_split(rows: dict[str, LabelledRows], column: str, problem_type: str | None) -> dict[str, list]:
    """The labels of each split that has any; the whole column decides their type, and no label is missing."""
    found = {
        split: part.column(column, "label_field")
        for split, part in rows.items()
        if split != "test" or column in part.column_names
    }
    if "test" in found and all(map(_is_missing, found["test"])):
        del found["test"]
    cells = [
        (rows[split].place(row), label)
        for split, cells in found.items()
        for row, cell in enumerate(cells)
        for label in (cell if isinstance(cell, list) else [cell])
        if isinstance(label, str)
    ]
    stripped = [(place, label) for place, label in cells if label != label.strip()]
    respelled = [(place, label) for place, label in cells if label.strip() != _stripped(label)]
    are_texts = any(rows[split].are_texts for split in found)
    # blanks around numbers are harmless, so they get no note
    if stripped and not all(_NUMBER.fullmatch(cell.strip()) for _, cell in stripped):
        place, cell = stripped[0]
        PartialState().print(
            f"{column}: the white space around {len(stripped)} labels is left out, such as around {cell!r} in {place}"
        )
    if respelled:
        place, cell = respelled[0]
        PartialState().print(
            f"{column}: {len(respelled)} labels are read without invisible characters and with composed letters "
            f"(NFC), such as {ascii(cell)} in {place}"
        )
    found = {split: [_stripped(cell) for cell in cells] for split, cells in found.items()}
    read = _reader(found, problem_type) if are_texts else None
    for split, cells in found.items():
        for row, cell in enumerate(cells):
            place = f"{rows[split].place(row)}, column {column!r}"
            if read and isinstance(cell, str) and cell:
                try:
                    cells[row] = cell = read(cell)
                except ValueError:
                    raise CorpusError(
                        f"{place}: the label is {cell!r}, but others are numbers; write a number, or leave the row out"
                    ) from None
            if _is_missing(cell) or (isinstance(cell, list) and any(map(_is_missing, cell))):
                raise CorpusError(f"{place}: the label is missing ({cell!r:.80}); write it, or leave the row out")
    return found


def _why_secret(test: LabelledRows, columns: dict[str, list], column: str) -> str:
    """Why the split test is not scored."""
    if "test" not in columns:
        return why_secret(test, column)
    return f"training has none of its labels ({_shown(_members(columns['test']))})"


def _doubtful_numbers(rows: dict[str, LabelledRows], columns: dict[str, list], column: str):
    """Gives a note on −1 in some rows of the split test, below all numbers of training: it may mean a secret label."""
    secret = [row for row, label in enumerate(columns.get("test", ())) if label == -1.0]
    if secret and len(secret) < len(columns["test"]) and min(columns["train"]) > -1.0:
        yield (
            f"{column}: {len(secret)} rows of the split test have -1, which is below all of training, the first in "
            f"{rows['test'].place(secret[0])}; leave them out if it means a secret label"
        )


def _stripped(cell):
    """A cell without white space and invisible characters around its text, which is composed (NFC)."""
    if isinstance(cell, str):
        return unicodedata.normalize("NFC", _INVISIBLE.sub("", cell)).strip()
    return [_stripped(member) for member in cell] if isinstance(cell, list) else cell


def _is_missing(cell) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and not math.isfinite(cell))


def _reader(found: dict[str, list], problem_type: str | None) -> Callable | None:
    """How to read the cells of a CSV file: as whole numbers, numbers or JSON lists if all cells are; else as texts."""
    texts = {cell for cells in found.values() for cell in cells if isinstance(cell, str) and cell}
    cells = {text for text in texts if text.casefold() not in _NOTHING}
    if cells and all(map(_WHOLE.fullmatch, cells)) and problem_type != "regression":
        return int
    if problem_type == "regression" or (cells and all(map(_NUMBER.fullmatch, cells))):
        return _number
    lists = {cell for cell in cells if cell.startswith("[") and cell.endswith("]")}
    return _list if cells and cells == lists and all(map(_is_json, cells)) else None


def _list(text: str) -> list:
    return _stripped(json.loads(text))


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# what the labels are


def _decide(rows, columns, column, problem_type, learned) -> tuple[dict[str, list], Labels]:
    """The labels of each split as they stand in the data set, and what kind they are."""
    given = "" if problem_type is None else ", as problem_type says"
    are_lists = any(isinstance(cell, list) for cells in columns.values() for cell in cells)
    if are_lists and problem_type in ("single_label_classification", "regression"):
        raise CorpusError(
            f"{rows['train'].place(0)}: problem_type is {problem_type}, but {column} holds a list: give "
            "multi_label_classification"
        )
    kind = _kind(rows, columns, column)
    if problem_type == "regression" and kind is str:
        raise CorpusError(
            f"{rows['train'].place(0)}, column {column!r}: the label is {columns['train'][0]!r}, which is not a "
            "number, but problem_type is regression"
        )
    if are_lists or problem_type == "multi_label_classification":
        return _decide_lists(rows, columns, column, kind, given, learned)
    distinct = _members_of(columns, learned)
    are_whole = kind is not str and all(float(label).is_integer() for cells in columns.values() for label in cells)
    are_many = kind is float and not (are_whole and len(distinct) <= _MOST_CLASSES_OF_FLOATS)
    if problem_type == "regression" or (problem_type is None and are_many):
        columns = {split: list(map(float, cells)) for split, cells in columns.items()}
        return columns, _numbers(distinct, column, are_whole, given)
    source = _source(kind)
    if kind is float and are_whole:
        columns = {split: list(map(int, cells)) for split, cells in columns.items()}
        source += f", which are all whole, such as {min(distinct):.1f}"
        given = given or _FOR_REGRESSION
    return columns, _named("single_label_classification", rows, columns, column, source + given, learned)


def _decide_lists(rows, columns, column, kind, given, learned) -> tuple[dict[str, list], Labels]:
    """Several classes per row: lists of classes, or lists with a 1 or 0 per class."""
    problem_type = "multi_label_classification"
    columns = {s: [cell if isinstance(cell, list) else [cell] for cell in cells] for s, cells in columns.items()}
    length = _length_of_vectors(columns) if _class_label(rows["train"], column) is None else None
    if length is None:
        return columns, _named(problem_type, rows, columns, column, f"lists of {_source(kind)}{given}", learned)
    columns = {split: [[n for n, bit in enumerate(row) if bit] for row in cells] for split, cells in columns.items()}
    names = tuple(map(str, range(length)))
    return columns, _classes(problem_type, range(length), names, column, f"lists of {length} zeros and ones{given}")


def _source(kind) -> str:
    return {str: "text", bool: "truth values", float: "numbers"}.get(kind, "whole numbers")


def _named(problem_type, rows, columns, column, source, learned) -> Labels:
    """The classes of training, named by the data set or by themselves."""
    feature = _class_label(rows["train"], column)
    classes = sorted(_members_of(columns, learned))
    return _classes(problem_type, classes, tuple(_name(label, feature) for label in classes), column, source)


def _kind(rows, columns, column) -> type:
    """The type that all labels share; float for floats mixed with whole numbers.

    Raises:
        CorpusError: there are several types; the error names a place of each.
    """
    kinds = {}
    for split, cells in columns.items():
        for row, cell in enumerate(cells):
            for label in cell if isinstance(cell, list) else [cell]:
                kind = float if isinstance(label, float) else type(label)
                if kind not in kinds:
                    kinds[kind] = label, f"{rows[split].place(row)}, column {column!r}"
    if set(kinds) == {int, float}:
        for cells in columns.values():
            cells[:] = [[float(n) for n in cell] if isinstance(cell, list) else float(cell) for cell in cells]
        return float
    if len(kinds) > 1 or not set(kinds) <= {int, float, str, bool}:
        (label, place), *others = kinds.values()
        other = "".join(f", {label!r} in {place}" for label, place in others)
        raise CorpusError(f"{place}: the label is {label!r}{other}: write all labels as texts, or all as numbers")
    return next(iter(kinds), str)


def _length_of_vectors(columns) -> int | None:
    """The length of labels that are lists of zeros and ones; None for lists of classes, which repeat no class.

    Lists of two, such as [0, 1], are vectors if each has one 1: as lists of classes, all would hold both.
    """
    lists = [row for cells in columns.values() for row in cells]
    are_bits = all(label in (0, 1) and not isinstance(label, str) for row in lists for label in row)
    if not are_bits or len({len(row) for row in lists}) > 1:
        return None
    length = len(lists[0])
    repeat = any(len(set(row)) < length for row in lists)
    return length if repeat or (length == 2 and all(sum(row) == 1 for row in lists)) else None


def _numbers(distinct, column, are_whole, given) -> Labels:
    fractions = "" if are_whole else ", some with fractions"
    numbers = (
        f"the column holds {len(distinct)} different numbers from {min(distinct):g} to {max(distinct):g}{fractions}"
    )
    if given:
        return Labels("regression", (), (), f"{column}: regression{given}; {numbers}")
    remedy = "for classes give --problem_type single_label_classification"
    return Labels("regression", (), (), f"{column}: regression, since {numbers}; {remedy}")


def _classes(problem_type, classes, names, column, source) -> Labels:
    classes = tuple(classes)
    if not classes:
        raise ValueError(
            f"no {column} of training has a class, so that there is nothing to learn: add rows that have one"
        )
    if len(classes) < 2 and problem_type == "single_label_classification":
        raise ValueError(
            f"every {column} of training is {names[0]!r}, and with one class there is nothing to learn: add rows of "
            "another class, or set label_field to another column"
        )
    shown = ", ".join(names if len(names) <= 10 else (*names[:5], "…", *names[-2:]))
    several = "several of " if problem_type == "multi_label_classification" else ""
    reason = f"{column}: {several}{len(classes)} classes ({shown}) from the column's {source}"
    if len(classes) > _MOST_CLASSES_OF_FLOATS and not isinstance(classes[0], str):
        reason += _FOR_REGRESSION
    return Labels(problem_type, classes, names, reason, tuple(f"{column}: {doubt}" for doubt in _doubts(names)))


def _doubts(names):
    """Notes on names that may not be classes, and on names that may be the same class."""
    alike = {}
    for name in names:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    for group in alike.values():
        if len(group) > 1:
            yield f"the classes {' and '.join(map(repr, group))} differ by case or blanks only; are they one?"
    for name in names:
        if name.casefold() in _NOTHING:
            yield f"{name!r} is read as the name of a class; leave such rows out if it means a missing label"


def _name(label, feature):
    return feature.names[label] if feature is not None and label >= 0 else str(label)


def _class_label(part: LabelledRows, column) -> datasets.ClassLabel | None:
    feature = part.features.get(column)
    feature = getattr(feature, "feature", feature)  # of a list's members
    return feature if isinstance(feature, datasets.ClassLabel) else None


# tags


def _tags(rows, columns, column, learned) -> Labels:
    """Tags of words."""
    for split, cells in columns.items():
        for row, cell in enumerate(cells):
            if not isinstance(cell, list):
                raise CorpusError(f"{rows[split].place(row)}, column {column!r}: {cell!r:.80} is not a list of tags")
    _kind(rows, columns, column)
    return _named("tagging", rows, columns, column, "tags of words", learned)


def _check_tags(rows, texts, columns, field, column):
    for split, cells in columns.items():
        for row, (words, tags) in enumerate(zip(texts[split][field], cells, strict=True)):
            if len(words) != len(tags):
                raise CorpusError(
                    f"{rows[split].place(row)}: {field} has {len(words)} words, but {column} {len(tags)} tags: there "
                    "must be one per word"
                )


# splits


def _of_unknown(split, cells, unknown, trained, column, places, words) -> str:
    """Names the first label of a split that training lacks."""
    row = next(row for row, cell in enumerate(cells) if _members([cell]) & unknown)
    if words is None:
        label = min(_members([cells[row]]) & unknown, key=repr)
        remedy = "leave those rows out, or add such rows to training"
        if label == -1:
            remedy = "leave those rows out, or, if it means a secret label, make it -1 in the whole split"
        elif isinstance(label, int | float):
            remedy += ", or, if the labels are numbers, give --problem_type regression"
        return (
            f"{places[split](row)}: {column} is {label!r} in some rows of the split {split!r}, but in none of "
            f"training, which has {_shown(trained)}: {remedy}"
        )
    place = next(place for place, tag in enumerate(cells[row]) if tag in unknown)
    return (
        f"{places[split](row)}: the word {words[split][row][place]!r} (number {place + 1}) of the split {split!r} has "
        f"the tag {cells[row][place]!r} ({column}), which no word of training has ({_shown(trained)}): correct it, "
        "leave such texts out, or add some to training"
    )


def class_names(rows: datasets.Dataset, column: str) -> dict[int | str, str]:
    """The classes that occur in `rows`, sorted, and their names, from the data set or from themselves."""
    feature = _class_label(LabelledRows(rows, str), column)
    labels = sorted(_members(rows[column][:]))
    return {label: _name(label, feature) for label in labels}


def labelled_splits(dataset: datasets.DatasetDict, column: str) -> datasets.DatasetDict:
    """`dataset` without the splits whose labels are secret, such as GLUE's public test sets with −1 in every row.

    A label is a class, a list of classes, or a floating-point number. A split has no labels if training has none of
    its classes, or if all its numbers are −1.

    Raises:
        ValueError: training has some but not all classes of a split, or the validation split has no labels.
    """
    columns = {split: rows[column][:] for split, rows in dataset.items()}
    places = {split: f"split {split!r}, row {{}}".format for split in columns}
    return datasets.DatasetDict({s: dataset[s] for s in _splits_with_labels(columns, column, places)})


def _splits_with_labels(columns, column, places, words=None, are_numbers=None, learned=("train",)) -> list[str]:
    """The splits that are kept.

    `words`, of each split, are those that have tags. `are_numbers` says that the labels are no classes; None: if some
    are floats. Training reads the splits in `learned`.
    """
    trained, kept = _members_of(columns, learned), []
    if are_numbers is None:
        are_numbers = any(isinstance(label, float) for label in trained)
    for split, cells in columns.items():
        found = _members(cells)
        unknown = found - trained
        if are_numbers:
            is_secret = found == unknown == {-1.0}
        else:
            is_secret = bool(unknown) and unknown == found
            if unknown and not is_secret:
                raise CorpusError(_of_unknown(split, cells, unknown, trained, column, places, words))
        if is_secret and split == "validation":
            raise ValueError(
                f"no {column} of the validation split ({_shown(found)}) occurs in training ({_shown(trained)}), so "
                "that it cannot be scored: set validation_split to a split with labels"
            )
        if not is_secret:
            kept.append(split)
    return kept


def _shown(labels) -> str:
    counted = sorted(map(repr, labels))
    return ", ".join(counted if len(counted) <= 20 else [*counted[:20], "…"])


def _members_of(columns, splits) -> set:
    return set().union(*(_members(columns[split]) for split in splits))


def _members(cells) -> set:
    return {label for cell in cells for label in (cell if isinstance(cell, list) else [cell])}
