"""Documents of one file: text, JSON Lines, CSV or Parquet; errors name the place."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from hf_lineage.data.tables import SEPARATORS, read_table
from hf_lineage.files import CorpusError, read_line_parts, read_lines
from hf_lineage.text_parts import LONGEST, Part, in_parts, whole_texts


SAMPLE_BY = ("line", "paragraph", "document")
ON_INVALID = ("error", "replace")
SUFFIXES = (
    *(".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet"),
    *(f"{suffix}{packed}" for suffix in SEPARATORS for packed in ("", ".gz")),
)
# JSON can write these, but a text must not hold them: NUL and the halves of surrogate pairs
_INVALID_CHARACTER = re.compile("[\0\ud800-\udfff]")
_REMEDY = 'convert the file to UTF-8 text, or read it with on_invalid="replace", which puts U+FFFD there'


def read_documents(
    path: str | os.PathLike, *, text_field: str = "text", sample_by: str | int = "line", on_invalid: str = "error"
) -> Iterator[str]:
    """The documents of one local file, in order; documents without text are left out.

    `sample_by` decides whether a document of a text file is a line, a paragraph (between blank lines), the whole file,
    or a number of lines that are not blank. JSON Lines, CSV, TSV and Parquet give `text_field` of each row. A byte
    order mark is dropped. Bytes that are not UTF-8, and NULs, are an error, or with `on_invalid="replace"` the
    character U+FFFD.

    Raises CorpusError, which names file, line (from 1) and byte offset in the unpacked file (from 0).
    """
    return whole_texts(_read(path, None, text_field, sample_by, on_invalid))


def read_parts(
    path: str | os.PathLike,
    *,
    text_field: str = "text",
    sample_by: str | int = "line",
    on_invalid: str = "error",
    longest: int = LONGEST,
) -> Iterator[str]:
    """As `read_documents`, but a long document comes as several `Part`s, each cut after a blank, and a last str.

    Joined, the parts are the document. Memory never holds a whole text file, however long its lines are.
    """
    return _read(path, longest, text_field, sample_by, on_invalid)


def _read(path, longest, text_field, sample_by, on_invalid):
    check_choices(sample_by, on_invalid)
    suffix = suffix_of(path)
    if suffix.startswith(".txt"):
        lines = read_line_parts(path, longest, on_invalid, remedy=_REMEDY)
        documents = _gathered(_group_lines(lines, sample_by), longest)
    else:
        kind = suffix.removesuffix(".gz")
        read_rows = {".parquet": _read_parquet, ".csv": _read_tables, ".tsv": _read_tables}.get(kind, _read_json_lines)
        documents = filter(has_text, read_rows(path, text_field, on_invalid))
        documents = documents if longest is None else in_parts(documents, longest)
    empty = True
    for text in documents:
        empty = False
        yield text
    if empty:
        raise CorpusError(f"the corpus {path} has no text")


def check_choices(sample_by, on_invalid):
    if isinstance(sample_by, int) and sample_by >= 1:
        sample_by = "line"
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


def _marked_blank(parts):
    """Parts of lines, joined so that the first part has text unless the whole line is blank."""
    lead, blank = [], True
    for part, ends in parts:
        lead.append(part)
        if ends or not blank or has_text(part):
            yield "".join(lead), ends
            lead.clear()
            blank = ends


def _group_lines(parts, sample_by):
    """Parts of lines -> parts of documents, each with whether it is the last one."""
    if sample_by == "line":
        yield from parts
        return
    inside, begins, lines = False, True, 0
    for part, ends in _marked_blank(parts):
        is_blank = begins and not has_text(part)
        if sample_by == "paragraph" and is_blank:
            if inside:
                yield "", True
            inside = False
        elif sample_by in ("paragraph", "document") or not is_blank:
            yield ("\n" + part if begins and inside else part), False
            inside, lines = True, lines + ends
            if lines == sample_by:
                yield "", True
                inside, lines = False, 0
        begins = ends
    if inside:
        yield "", True


def _gathered(parts, longest):
    """Documents with text; those of more than `longest` characters come in several parts."""
    held, size, found = [], 0, False
    for part, ends in parts:
        if found and size and longest is not None and size + len(part) > longest:
            yield Part("".join(held))
            held, size = [], 0
        held.append(part)
        size += len(part)
        found = found or has_text(part)
        if ends:
            if found:
                yield "".join(held)
            held, size, found = [], 0, False


def _read_json_lines(path, text_field, on_invalid):
    for place, row in json_rows(path, on_invalid):
        check_field(place, text_field, row)
        yield check_text_value(place, text_field, row[text_field], on_invalid)


def _read_tables(path, text_field, on_invalid):
    for place, row in table_rows(path, on_invalid):
        check_field(place, text_field, row)
        yield row[text_field]


def table_rows(path, on_invalid="error"):
    """The rows of .csv and .tsv, as (place, column -> cell)."""
    separators = SEPARATORS[suffix_of(path).removesuffix(".gz")]
    names, rows = read_table(path, list(read_lines(path, on_invalid, remedy=_REMEDY)), separators)
    for line, cells in rows:
        yield f"{path}, line {line}", dict(zip(names, cells, strict=True))


def json_rows(path, on_invalid="error"):
    """The objects of JSON Lines, as (place, object)."""
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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
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
