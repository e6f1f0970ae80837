"""Documents of one file: text, JSON Lines or Parquet, with errors that name the place."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from hf_lineage.files import CorpusError, read_lines


SAMPLE_BY = ("line", "paragraph", "document")
ON_INVALID = ("error", "replace")
SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
# what JSON can write and a text must not hold: NUL and the halves of surrogate pairs
_INVALID_CHARACTER = re.compile("[\0\ud800-\udfff]")
_REMEDY = 'convert the file to UTF-8 text, or read it with on_invalid="replace", which puts U+FFFD there'


def read_documents(
    path: str | os.PathLike, *, text_field: str = "text", sample_by: str = "line", on_invalid: str = "error"
) -> Iterator[str]:
    """The documents of one local file, in order, those without text left out.

    A text file gives each line, each paragraph (blank lines between) or the whole file as one document, as
    `sample_by` says; JSON Lines and Parquet give `text_field` of each row. A byte order mark is dropped. Bytes that
    are not UTF-8, and NULs, are an error, or with `on_invalid="replace"` the character U+FFFD.

    Raises CorpusError that names file, line (from 1) and byte offset in the unpacked file (from 0).
    """
    check_choices(sample_by, on_invalid)
    suffix = suffix_of(path)
    if suffix == ".parquet":
        documents = _read_parquet(path, text_field, on_invalid)
    elif suffix.startswith(".txt"):
        documents = _group_lines(read_lines(path, on_invalid, remedy=_REMEDY), sample_by)
    else:
        documents = _read_json_lines(path, text_field, on_invalid)
    empty = True
    for document in documents:
        if has_text(document):
            empty = False
            yield document
    if empty:
        raise CorpusError(f"the corpus {path} has no text")


def check_choices(sample_by, on_invalid):
    for name, value, choices in (("sample_by", sample_by, SAMPLE_BY), ("on_invalid", on_invalid, ON_INVALID)):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def has_text(text):
    return not text.isspace() and text != ""


def suffix_of(path):
    name = Path(path).name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise CorpusError(f"{path} is of no known kind; the name must end in one of {', '.join(SUFFIXES)}")


def _group_lines(lines, sample_by):
    if sample_by == "line":
        yield from lines
    elif sample_by == "document":
        yield "\n".join(lines)
    else:
        for _, paragraph in itertools.groupby(lines, has_text):
            yield "\n".join(paragraph)


def _read_json_lines(path, text_field, on_invalid):
    for place, row in json_rows(path, on_invalid):
        check_field(place, text_field, row)
        yield check_text_value(place, text_field, row[text_field], on_invalid)


def json_rows(path, on_invalid="error"):
    """The objects of JSON Lines, each after the place where it stands."""
    for number, line in enumerate(read_lines(path, on_invalid, remedy=_REMEDY), start=1):
        if not has_text(line):
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{place}: not JSON ({error}); each line must be one JSON object") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{place}: a JSON {type(row).__name__}; each line must be one JSON object")
        yield place, row


def _read_parquet(path, text_field, on_invalid):
    try:
        file = parquet.ParquetFile(path)
        check_field(path, text_field, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(columns=[text_field]):
            for text in batch.column(0).to_pylist():
                number += 1
                yield check_text_value(f"{path}, row {number}", text_field, text, on_invalid)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch or write it again") from error


def check_field(place, text_field, fields):
    if text_field not in fields:
        raise CorpusError(f"{place}: there is no field {text_field!r}; set text_field to one of {', '.join(fields)}")


def check_text_value(place, text_field, text, on_invalid):
    if not isinstance(text, str):
        raise CorpusError(f"{place}: the field {text_field!r} is {text!r} ({type(text).__name__}), not text")
    if on_invalid == "replace":
        return _INVALID_CHARACTER.sub("\ufffd", text)
    invalid = _INVALID_CHARACTER.search(text)
    if invalid:
        raise CorpusError(
            f"{place}: the field {text_field!r} holds {invalid.group()!r} at character {invalid.start()}, which no "
            'text may; remove it, or read the file with on_invalid="replace", which puts U+FFFD there.'
        )
    return text
