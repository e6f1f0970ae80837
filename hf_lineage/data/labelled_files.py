"""Labelled data from files and from the Hub: every cell as it is written, and the place of every row.

Texts stay texts: no reader here takes "007" for a number or "None" for nothing. `labels.py` decides from a whole
column which cells are numbers.
"""

import gzip
import io
import json
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from pyarrow import parquet

from hf_lineage.data.corpus_files import OTHER_NAMES
from hf_lineage.data.tables import SEPARATORS, read_table
from hf_lineage.data.text_files import check_text_value
from hf_lineage.files import CorpusError, read_lines


_KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".conllu", ".conll")
# the columns of Universal Dependencies after the number of the word
_CONLLU = ("tokens", "lemmas", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
_REMEDY = "convert the file to UTF-8 text, or name its encoding, such as encoding='latin-1'"


class LabelledRows:
    """The columns of one split, as lists of cells, and the place of each row: its file and line, or its number.

    `are_texts` says that all cells are texts, even numbers (CSV). `features` are the data set's own descriptions of
    its columns, such as class names (Parquet, Hub).
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence] | datasets.Dataset,
        place: Callable[[int], str],
        *,
        are_texts: bool = False,
    ):
        self.dataset = columns if isinstance(columns, datasets.Dataset) else None
        self.features = {} if self.dataset is None else self.dataset.features
        self.place = place
        self.are_texts = are_texts
        self._cells = {} if self.dataset is not None else dict(columns)
        self.column_names = list(self._cells) if self.dataset is None else self.dataset.column_names

    def __len__(self) -> int:
        return len(self.dataset) if self.dataset is not None else len(next(iter(self._cells.values()), ()))

    def column(self, name: str, argument: str | None = None) -> list:
        """The cells of a column; `argument` is what named it, for the error.

        Raises:
            CorpusError: there is no such column.
        """
        if name not in self.column_names:
            named = f" ({argument})" if argument else ""
            remedy = f": set {argument} to one of them" if argument else ""
            raise CorpusError(
                f"{self.place(0)}: there is no column {name!r}{named}; it has {', '.join(self.column_names)}{remedy}"
            )
        if self.dataset is not None and name not in self._cells:
            self._cells[name] = self.dataset[name][:]
        return self._cells[name]

    def texts(self, name: str, argument: str | None = None) -> list[str] | list[list[str]]:
        """The texts of a column, or its lists of words; a JSON number becomes its digits as written.

        `argument` is what named the column, for the error.

        Raises:
            CorpusError: there is no such column, or a cell is missing or not a text; the error names place and column.
        """
        return [self._text(row, name, cell) for row, cell in enumerate(self.column(name, argument))]

    def json_cell(self, row: int, name: str) -> Any:
        """A cell; where all are texts (CSV), a JSON list or object is read as what it means.

        Raises:
            CorpusError: a cell begins as JSON does, but is none; the error names place and column.
        """
        cell = self.column(name)[row]
        if not self.are_texts or not cell.lstrip().startswith(("[", "{")):
            return cell
        try:
            return json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise CorpusError(
                f"{self.place(row)}, column {name!r}: {cell!r:.60} is not JSON ({error}): write lists and objects "
                'with double quotes, such as ["a", "b"]'
            ) from None

    def _text(self, row, name, cell):
        if isinstance(cell, list):
            return [self._one_text(row, name, word, number) for number, word in enumerate(cell, start=1)]
        return self._one_text(row, name, cell)

    def _one_text(self, row, name, cell, word=None):
        if isinstance(cell, str) and _is_sound(cell):
            return cell
        if isinstance(cell, _WrittenNumber):
            return cell.text
        if self.dataset is None and type(cell) is int:
            return str(cell)
        place = self.place(row) + (f", word {word}" if word else "")
        if cell is None:
            raise CorpusError(f"{place}: the text in the column {name!r} is missing; write it, or leave the row out")
        return check_text_value(place, name, cell, "error")

    def whole_numbers(self, name: str) -> list[int]:
        """The whole numbers of a column, written as numbers or as texts.

        Raises:
            CorpusError: there is no such column, or a cell is no whole number; the error names place and column.
        """
        numbers = []
        for row, cell in enumerate(self.column(name)):
            text = cell.strip() if isinstance(cell, str) else cell
            try:
                number = int(text)
            except (TypeError, ValueError, OverflowError):
                number = None
            if number is None or (not isinstance(text, str) and number != text):
                raise CorpusError(f"{self.place(row)}: the column {name!r} holds {cell!r}, not a whole number")
            numbers.append(number)
        return numbers

    def to_dataset(self, **columns: list) -> datasets.Dataset:
        """A data set of these columns; a column of the data set that does not change keeps its features."""
        if self.dataset is None:
            return datasets.Dataset(pa.table(columns))
        rows = self.dataset
        for name, cells in columns.items():
            if cells != self.column(name):
                rows = rows.remove_columns(name).add_column(name, cells)
        return rows.select_columns(list(columns))


def _is_sound(text: str) -> bool:
    """Whether a text has neither NULs nor halves of surrogate pairs, which UTF-8 cannot write."""
    try:
        return "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        return False


def read_labelled(
    source: str | os.PathLike | Mapping[str, str | os.PathLike], *, encoding: str = "utf-8"
) -> dict[str, LabelledRows]:
    """The splits of a labelled data set.

    `source` is one of:
    - a folder with one file per split, in itself or its sub-folder data: train.jsonl, .json, .csv, .tsv, .conllu,
      .conll (all also as .gz) or .parquet, or shards such as train-00000-of-00002.parquet; dev and val mean
      validation;
    - a mapping {"train": file, "validation": file, …};
    - a data set on the Hub, "owner/name" or "owner/name:configuration".

    The first line of .csv and .tsv names the columns. The separator is comma, semicolon, tab or bar, whichever cuts
    the first line into most columns. .conllu and .conll have a word per line and a blank line after each sentence,
    which becomes a row of lists: tokens, lemmas, upos, … of .conllu; of .conll the first column tokens, the last tags,
    and column 2, … between. `encoding` is the encoding of the text files.

    Raises:
        CorpusError: a file is missing, of no known kind or damaged, or there is no such folder or data set; the error
            names file, line and remedy.
    """
    if not isinstance(source, (str, os.PathLike)):
        return {split: read_labelled_file(path, encoding=encoding) for split, path in source.items()}
    folder = Path(source).expanduser()
    if folder.is_file():
        raise CorpusError(f"dataset is {source}, a file: name its folder, or give the file as train_file")
    if folder.is_dir() and (files := files_of_splits(folder)):
        return {
            split: _join([read_labelled_file(path, encoding=encoding) for path in paths])
            for split, paths in files.items()
        }
    name, _, configuration = str(source).partition(":")
    try:
        found = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError) as error:
        kind = "a folder without files train, validation, …" if folder.is_dir() else "no folder"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(
            f"dataset is {source}: {kind}, and the Hub gives no data set of that name ({first:.200}); give a folder "
            "with files such as train.jsonl and validation.jsonl, or owner/name[:configuration]"
        ) from error

    def places_of(split: str):
        return lambda row: f"the data set {source}, split {split}, row {row + 1}"

    return {split: LabelledRows(rows, places_of(split)) for split, rows in found.items()}


def splits_for_training(source, found: Mapping, validation_split: str = "validation") -> dict:
    """The splits train, validation (as `validation_split` names it) and, if there is one, test, of those `found`.

    Raises:
        ValueError: one of the first two is missing.
    """
    if missing := {"train", validation_split} - set(found):
        raise ValueError(
            f"dataset is {source}, which has no split {' and no '.join(sorted(missing))}; it has {', '.join(found)}: "
            "set validation_split to the split that measures training"
        )
    kept = {"train": found["train"], "validation": found[validation_split]}
    return kept | ({"test": found["test"]} if "test" in found and validation_split != "test" else {})


def why_secret(test: LabelledRows, column: str) -> str:
    """Why the split test is not scored: it has no such column, or no label there."""
    if column not in test.column_names:
        return f"{test.place(0)}: there is no column {column!r}; it has {', '.join(test.column_names)}"
    return f"its column {column!r} has no label in any row"


def without_secret_test(splits: Mapping[str, list], label_of: Callable) -> dict[str, list]:
    """`splits` without the split test if `label_of` gives None for its rows.

    Raises:
        ValueError: it gives None for rows of another split.
    """
    secret = [split for split, rows in splits.items() if any(label_of(row) is None for row in rows)]
    if others := [split for split in secret if split != "test"]:
        raise ValueError(
            f"the labels of the {others[0]} split are secret: set validation_split to a split whose labels are known"
        )
    return {split: rows for split, rows in splits.items() if split not in secret}


def files_of_splits(folder: Path) -> dict[str, list[Path]]:
    """Split -> its file or its shards, in order.

    Raises:
        CorpusError: a split has files of several kinds.
    """
    found = {}
    for path in sorted(path for place in (folder, folder / "data") if place.is_dir() for path in place.iterdir()):
        kind = _kind(path)
        if kind and path.is_file():
            stem = path.name[: path.name.lower().rindex(kind)]
            shard = _SHARD.fullmatch(stem)
            found.setdefault(shard[1] if shard else stem, []).append(path)
    for split, paths in found.items():
        if len(paths) > 1 and not all(_SHARD.fullmatch(path.name.split(".")[0]) for path in paths):
            names = " and ".join(str(path.relative_to(folder)) for path in paths)
            raise CorpusError(f"the folder {folder} has {names} for the split {split!r}: keep one of them")
    for split, names in OTHER_NAMES.items():
        other = next((name for name in names if name in found), None)
        if other and split not in found:
            found[split] = found.pop(other)
    order = ("train", "validation", "test")
    return {split: found[split] for split in sorted(found, key=lambda s: (s not in order, s != "train", s == "test"))}


def _kind(path: str | os.PathLike) -> str | None:
    name = Path(path).name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    is_known = kind in _KINDS and not (kind == ".parquet" and name.endswith(".gz"))
    return kind if is_known else None


def pair_files(path: str | os.PathLike) -> list[str]:
    """The file of minimal pairs, or those of a folder (.jsonl, .jsonl.gz) in the order of their names.

    Raises:
        FileNotFoundError: there is none.
    """
    place = Path(path)
    found = [*place.glob("*.jsonl"), *place.glob("*.jsonl.gz")] if place.is_dir() else [place]
    if not found or not all(file.is_file() for file in found):
        raise FileNotFoundError(f"pairs is {path}: there is no .jsonl or .jsonl.gz file")
    return sorted(map(str, found))


def read_minimal_pairs(path: str | os.PathLike, *, group_by: str = "UID", limit: int | None = None) -> list[dict]:
    """Rows of {"sentence_good", "sentence_bad", `group_by`} of `pair_files`, phenomenon by phenomenon.

    `limit` keeps the first pairs of each phenomenon. A file without the column `group_by` gives rows without it.

    Raises:
        CorpusError: a file is damaged, or a sentence is missing.
        OSError: there is no such file, or it cannot be read.
    """
    by_phenomenon: dict[Any, list[dict]] = {}
    for file in pair_files(path):
        found = read_labelled_file(file)
        groups = found.column(group_by) if group_by in found.column_names else [None] * len(found)
        for group, good, bad in zip(groups, found.texts("sentence_good"), found.texts("sentence_bad"), strict=True):
            named = {} if group is None else {group_by: group}
            by_phenomenon.setdefault(group, []).append({"sentence_good": good, "sentence_bad": bad, **named})
    return [row for rows in by_phenomenon.values() for row in rows[:limit]]


def read_labelled_file(path: str | os.PathLike, *, encoding: str = "utf-8") -> LabelledRows:
    """The rows of one file (`read_labelled`).

    Raises:
        CorpusError: the file is missing, of no known kind, damaged, or has no rows; the error names file, line and
            remedy.
        OSError: it cannot be read.
    """
    if not Path(path).exists():
        raise CorpusError(f"{path}: there is no such file: give the path of one")
    kind = _kind(path)
    if kind is None:
        raise CorpusError(f"{path} is of no known kind: its name must end in one of {', '.join(_KINDS)}, also .gz")
    if kind == ".parquet":
        rows = _read_parquet(path)
    elif kind in (".conllu", ".conll"):
        rows = _read_columns(path, encoding, kind == ".conllu")
    elif kind in SEPARATORS:
        rows = _read_table(path, encoding, SEPARATORS[kind])
    else:
        rows = _read_json(path, encoding)
    if not len(rows):
        raise CorpusError(f"{path} has no rows: write some, or leave the file out")
    return rows


def _join(parts: list[LabelledRows]) -> LabelledRows:
    """The shards of a split, end to end."""
    if len(parts) == 1:
        return parts[0]
    starts, total = [], 0
    for part in parts:
        if part.column_names != parts[0].column_names:
            raise CorpusError(
                f"{part.place(0)}: the columns are {', '.join(part.column_names)}, but the first shard has "
                f"{', '.join(parts[0].column_names)}"
            )
        starts.append(total)
        total += len(part)

    def place(row):
        part = bisect_right(starts, row) - 1
        return parts[part].place(row - starts[part])

    if all(part.dataset is not None for part in parts):
        return LabelledRows(datasets.concatenate_datasets([part.dataset for part in parts]), place)
    columns = {name: [cell for part in parts for cell in part.column(name)] for name in parts[0].column_names}
    return LabelledRows(columns, place, are_texts=parts[0].are_texts)


def lines_of(path: str | os.PathLike, encoding: str = "utf-8") -> Iterator[str]:
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        yield from read_lines(path, remedy=_REMEDY)
        return
    unpack = gzip.open if str(path).lower().endswith(".gz") else open
    try:
        with unpack(path, "rb") as file, io.TextIOWrapper(file, encoding=encoding, newline="\n") as text:
            for line in text:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not {encoding} ({error}); give another encoding") from None
    except LookupError:
        raise CorpusError(
            f"encoding is {encoding!r}, which Python does not know: try utf-8, latin-1 or cp1252"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path} is not a whole gzip file ({error}); fetch or pack it again") from error


# tables of text


def _read_table(path, encoding, separators):
    names, rows = read_table(path, list(lines_of(path, encoding)), separators)
    columns = {name: [cells[column] for _, cells in rows] for column, name in enumerate(names)}
    numbers = [line for line, _ in rows]
    return LabelledRows(columns, lambda row: f"{path}, line {numbers[row] if numbers else 1}", are_texts=True)


# a word per line


def _read_columns(path, encoding, is_conllu):
    """Sentences of lines with columns; comments, starts of documents and what is not a word of a tree are left out."""
    names, sentences, begins, words = _CONLLU if is_conllu else None, [], [], []
    for number, line in enumerate([*lines_of(path, encoding), ""], start=1):
        cells = line.split("\t") if is_conllu else line.split()
        if not line.strip():
            if words:
                sentences.append(words)
            words = []
        elif line.startswith("#" if is_conllu else "-DOCSTART-"):
            continue
        elif is_conllu and len(cells) == len(_CONLLU) + 1 and not cells[0].isdecimal():
            # 1-2: two words that are written as one; 1.1: a word that is not written
            continue
        else:
            cells = cells[1:] if is_conllu else cells
            if names is None:
                between = [f"column {place}" for place in range(2, len(cells))]
                names = ("tokens", *between, "tags") if len(cells) > 1 else ("tokens",)
            if len(cells) != len(names):
                wanted = "10 separated by tabs" if is_conllu else f"{len(names)}, as in the lines before"
                raise CorpusError(
                    f"{path}, line {number}: {len(cells) + is_conllu} columns; there must be {wanted}, a blank line "
                    "between sentences"
                )
            if not words:
                begins.append(number)
            words.append(cells)
    columns = {name: [[word[n] for word in words] for words in sentences] for n, name in enumerate(names or ())}
    return LabelledRows(columns, lambda row: f"{path}, line {begins[row] if begins else 1}")


# rows of JSON


class _WrittenNumber(float):
    """A JSON number that is not whole, with its digits as written."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        number.text = text
        return number


def _read_json(path, encoding):
    lines = lines_of(path, encoding)
    numbers, rows, unit = [], [], "line"
    first = next(((number, line) for number, line in enumerate(lines, start=1) if line.strip()), None)
    if first and first[1].lstrip().startswith("["):
        unit, found = "row", parse_json(f"{path}", "\n".join([first[1], *lines]))
        placed = enumerate(found, start=1)
    else:
        following = enumerate(lines, start=first[0] + 1) if first else ()
        placed = (
            (number, parse_json(f"{path}, line {number}", line, "each line must be one JSON object"))
            for number, line in (*([first] if first else []), *following)
            if line.strip()
        )
    for number, row in placed:
        if not isinstance(row, dict):
            raise CorpusError(f"{path}, {unit} {number}: a JSON {type(row).__name__}; each row must be a JSON object")
        numbers.append(number)
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return LabelledRows(columns, lambda row: f"{path}, {unit} {numbers[row]}")


def parse_json(place: str, text: str, rule: str = "the file must be one JSON value") -> Any:
    """JSON, whose numbers that are not whole keep their digits.

    Raises:
        CorpusError: it is none; the error names `place` and, if its text ends too early, says so.
    """
    try:
        return json.loads(text, parse_float=_WrittenNumber)
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", None)
        # an error at the end, or in a text that has no end
        is_cut = position is not None and (position >= len(text.rstrip()) or "Unterminated" in str(error))
        remedy = "; the file seems cut off: fetch or write it again" if is_cut else ""
        raise CorpusError(f"{place}: not JSON ({error}); {rule}{remedy}") from None


# Parquet


def _read_parquet(path):
    try:
        table = parquet.read_table(path)
        # bytes that are not UTF-8, too
        table.validate(full=True)
        for index, field in enumerate(table.schema):
            # pandas writes its categories as dictionaries
            if pa.types.is_dictionary(field.type):
                table = table.set_column(index, field.name, table.column(index).cast(field.type.value_type))
        rows = datasets.Dataset(table)
    except (pa.ArrowException, OSError, ValueError) as error:
        # a ValueError: names of columns that are not UTF-8, or not those of the file's metadata
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch or write it again") from error
    return LabelledRows(rows, lambda row: f"{path}, row {row + 1}")
