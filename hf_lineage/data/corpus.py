"""Corpora: documents from text, JSON Lines and Parquet files, from the Hub, or the text that comes along."""

import bz2
import codecs
import glob
import gzip
import importlib.util
import itertools
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError
from pyarrow import parquet


SAMPLE_BY = ("line", "paragraph", "document")
ON_INVALID = ("error", "replace")
SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")

# raise it when the same file is read differently, so that no stale cache is served
_READER_VERSION = 3
_FEATURES = datasets.Features(text=datasets.Value("string"))
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
# what JSON can write and a text must not hold: NUL and the halves of surrogate pairs
_INVALID_CHARACTER = re.compile("[\0\ud800-\udfff]")

_WIKIPEDIA = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_MIN_WORDS = 8


class CorpusError(ValueError):
    """A corpus that cannot be used; the message names the file, the place and the remedy."""


def load_corpus(
    source: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    split: str = "train",
    *,
    text_field: str = "text",
    sample_by: str = "line",
    streaming: bool = False,
    on_invalid: str = "error",
) -> datasets.Dataset | datasets.IterableDataset:
    """A corpus with one column "text", one row a document; documents without text are left out.

    `source` is one of:
    - None: English Wikipedia articles that the gensim wheel carries (extra `demo`), 90 % of them for "train", 5 % each
      for "validation" and "test"; a document is a paragraph if `sample_by` is "line", else an article with a paragraph
      a line; without gensim, Python's language reference;
    - a file, a list of files or a glob pattern, which are all of the split "train";
    - a folder that holds one file for each split (train.txt, validation.jsonl, ...);
    - a data set on the Hub, "owner/name" or "owner/name:configuration".

    Files end in .txt, .jsonl, .json (JSON Lines) or .parquet; .txt and JSON also in .gz. See `read_documents` for
    `text_field`, `sample_by` and `on_invalid`. With `streaming` nothing is read before it is asked for; otherwise the
    documents are cached by datasets, and read again when a file has changed.

    Raises ValueError for a bad setting and CorpusError for everything else.
    """
    _check_choices(sample_by, on_invalid)
    if source is None:
        corpus = _load_embedded(split, whole=sample_by != "line")
        return corpus.to_iterable_dataset() if streaming else corpus
    if _is_hub_name(source):
        return _load_from_hub(source, split, text_field, streaming)
    settings = {
        "files": [_with_stamp(path) for path in _find_files(source, split)],
        "text_field": text_field,
        "sample_by": sample_by,
        "on_invalid": on_invalid,
        "version": _READER_VERSION,
    }
    if streaming:
        return datasets.IterableDataset.from_generator(_read_files, features=_FEATURES, gen_kwargs=settings)
    return _cached(_read_files, _FEATURES, settings)


def read_documents(
    path: str | os.PathLike, *, text_field: str = "text", sample_by: str = "line", on_invalid: str = "error"
) -> Iterator[str]:
    """The documents of one local file, in order, those without text left out.

    A text file gives each line, each paragraph (blank lines between) or the whole file as one document, as
    `sample_by` says; JSON Lines and Parquet give `text_field` of each row. A byte order mark is dropped. Bytes that
    are not UTF-8, and NULs, are an error, or with `on_invalid="replace"` the character U+FFFD.

    Raises CorpusError that names file, line (from 1) and byte offset in the unpacked file (from 0).
    """
    _check_choices(sample_by, on_invalid)
    suffix = _suffix(path)
    if suffix == ".parquet":
        documents = _read_parquet(path, text_field, on_invalid)
    elif suffix.startswith(".txt"):
        documents = _group_lines(_read_lines(path, on_invalid), sample_by)
    else:
        documents = _read_json_lines(path, text_field, on_invalid)
    empty = True
    for document in documents:
        if _has_text(document):
            empty = False
            yield document
    if empty:
        raise CorpusError(f"the corpus {path} has no text")


def _check_choices(sample_by, on_invalid):
    for name, value, choices in (("sample_by", sample_by, SAMPLE_BY), ("on_invalid", on_invalid, ON_INVALID)):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _has_text(text):
    return not text.isspace() and text != ""


def _suffix(path):
    name = Path(path).name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise CorpusError(f"{path} is of no known kind; the name must end in one of {', '.join(SUFFIXES)}")


# finding the files


def _is_hub_name(source):
    if not isinstance(source, str) or not _HUB_NAME.fullmatch(source):
        return False
    return not Path(source).exists() and not source.lower().endswith(SUFFIXES)


def _find_files(source, split):
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if path.is_dir():
            return [_file_of_split(path, split)]
        files = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not files:
            raise CorpusError(
                f"the corpus {source} is no file or folder, no file matches it as a pattern, and it is not of the "
                "form owner/name or owner/name:configuration of a data set on the Hub"
            )
    else:
        files = [Path(path).expanduser() for path in source]
        if not files:
            raise CorpusError("the corpus is an empty list of files")
    if split != "train":
        raise CorpusError(
            f"the corpus {source} has no split {split!r}, since files are all of the split 'train': name a folder "
            f"that holds a file for each split (train.txt, {split}.txt), or load the file of that split by itself."
        )
    for path in files:
        if not path.is_file():
            raise CorpusError(f"the corpus {path} is no file")
        _suffix(path)
    return files


def _file_of_split(folder, split):
    found = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").is_file()]
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise CorpusError(f"the folder {folder} has no {split}.txt, {split}.jsonl or {split}.parquet; it has {there}")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise CorpusError(f"the folder {folder} has {names}: keep one of them, or name the files that you want")
    return found[0]


def _with_stamp(path):
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


# reading them


def _read_files(files, text_field, sample_by, on_invalid, version):
    """Rows of all the files; their sizes and times, and the version, only tell the cache's entries apart."""
    for path, _, _ in files:
        for text in read_documents(path, text_field=text_field, sample_by=sample_by, on_invalid=on_invalid):
            yield {"text": text}


def _read_lines(path, on_invalid):
    unpack = gzip.open if _suffix(path).endswith(".gz") else open
    offset = 0
    try:
        with unpack(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                start = offset + len(raw) - len(line)
                yield _decode(line, f"{path}, line {number}", start, on_invalid).rstrip("\r\n")
                offset += len(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path} is not a whole gzip file ({error}); fetch or pack it again") from error


def _decode(line, place, start, on_invalid):
    if on_invalid == "replace":
        return line.decode("utf-8", errors="replace").replace("\0", "\ufffd")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid_byte(place, start + error.start, f"0x{line[error.start]:02x} is not UTF-8") from None
    if "\0" in text:
        raise _invalid_byte(place, start + line.index(b"\0"), "0x00 is a NUL")
    return text


def _invalid_byte(place, offset, problem):
    return CorpusError(
        f"{place}, byte {offset} of the file: {problem}. Convert the file to UTF-8 text, or read it with "
        'on_invalid="replace", which puts U+FFFD there.'
    )


def _group_lines(lines, sample_by):
    if sample_by == "line":
        yield from lines
    elif sample_by == "document":
        yield "\n".join(lines)
    else:
        for _, paragraph in itertools.groupby(lines, _has_text):
            yield "\n".join(paragraph)


def _read_json_lines(path, text_field, on_invalid):
    for place, row in _json_rows(path, on_invalid):
        _check_field(place, text_field, row)
        yield _check_text(place, text_field, row[text_field], on_invalid)


def _json_rows(path, on_invalid="error"):
    """The objects of JSON Lines, each after the place where it stands."""
    for number, line in enumerate(_read_lines(path, on_invalid), start=1):
        if not _has_text(line):
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
        _check_field(path, text_field, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(columns=[text_field]):
            for text in batch.column(0).to_pylist():
                number += 1
                yield _check_text(f"{path}, row {number}", text_field, text, on_invalid)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch or write it again") from error


def _check_field(place, text_field, fields):
    if text_field not in fields:
        raise CorpusError(f"{place}: there is no field {text_field!r}; set text_field to one of {', '.join(fields)}")


def _check_text(place, text_field, text, on_invalid):
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


def _cached(generate, features, settings):
    try:
        return datasets.Dataset.from_generator(generate, features=features, gen_kwargs=settings)
    except DatasetGenerationError as error:
        # datasets hides what the reader said one level down
        if isinstance(error.__cause__, CorpusError):
            raise error.__cause__ from None
        raise
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"the cached copy of the corpus cannot be read ({error}): delete the folder "
            f"{Path(datasets.config.HF_DATASETS_CACHE, 'generator')}, and it will be made again."
        ) from error


# the Hub


def _load_hub_split(source, split, streaming=False):
    name, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None, split=split, streaming=streaming)
    # many kinds: no network, no such data set, configuration or split
    except Exception as error:
        raise CorpusError(
            f"the corpus {source} is no file or folder, and the split {split!r} of a data set of that name could not "
            f"be loaded from the Hub: {error}"
        ) from error


def _load_from_hub(source, split, text_field, streaming):
    corpus = _load_hub_split(source, split, streaming)
    # a streamed data set may know its columns only from its first row
    _check_field(f"the data set {source}", text_field, corpus.column_names or list(next(iter(corpus))))
    corpus = corpus.select_columns([text_field])
    if text_field != "text":
        corpus = corpus.rename_column(text_field, "text")
    return corpus.filter(_row_has_text, input_columns="text")


def _row_has_text(text):
    # what is not text is kept, and refused with its row number when it is encoded
    return not isinstance(text, str) or _has_text(text)


# the text that comes along


def _load_embedded(split, whole):
    if split not in ("train", "validation", "test"):
        raise CorpusError(f"the default corpus has no split {split!r}; it has train, validation and test")
    features = datasets.Features(split=datasets.Value("string"), **_FEATURES)
    dump = _find_wikipedia()
    if dump:
        settings = {"dump": _with_stamp(dump), "whole": whole, "version": _READER_VERSION}
        corpus = _cached(_read_wikipedia, features, settings)
    else:
        warnings.warn(
            "the default corpus, English Wikipedia text from the package gensim, is not installed: using Python's "
            "language reference instead. For the Wikipedia text: pip install 'hf_lineage[demo]'.",
            stacklevel=3,
        )
        settings = {"python": sys.version, "whole": whole, "version": _READER_VERSION}
        corpus = _cached(_read_language_reference, features, settings)
    return corpus.filter(lambda of_row: of_row == split, input_columns="split").remove_columns("split")


def _find_wikipedia():
    package = importlib.util.find_spec("gensim")
    if package is None:
        return None
    dump = Path(package.submodule_search_locations[0], _WIKIPEDIA)
    return dump if dump.is_file() else None


def _read_wikipedia(dump, whole, version):
    from gensim.corpora.wikicorpus import filter_wiki

    articles = (filter_wiki(markup).split("\n") for markup in _wikipedia_articles(dump[0]))
    return _split_by_article(([_clean_line(line) for line in lines] for lines in articles), whole)


def _wikipedia_articles(path):
    with bz2.open(path) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.endswith("}page"):
                if element.find("{*}redirect") is None:
                    yield element.findtext("{*}revision/{*}text")
                element.clear()


def _clean_line(line):
    """A paragraph of an article without what `filter_wiki` leaves; nothing for lists, tables, headings and images."""
    line = line.strip()
    if line.startswith(tuple("*#:;!{}=<")) or "|" in line:
        return ""
    line = re.sub("'{2,}", "", line)
    # pronunciations and foreign words leave holes: "Albedo (; or ) is"
    line = re.sub(r"\(\s*(?:(?:or|and|from|cf\.)?\s*[,;:]\s*)+", "(", line)
    line = re.sub(r"\(\W*(?:or|and|from)?\W*\)", "", line)
    line = re.sub(r"\(\s+", "(", line)
    line = re.sub(r"\s+([,.;:)])", r"\1", line)
    return " ".join(line.lstrip(" ,.;:)").split())


def _read_language_reference(python, whole, version):
    from pydoc_data.topics import topics

    return _split_by_article((re.split(r"\n\s*\n", topics[name]) for name in sorted(topics)), whole)


def _split_by_article(articles, whole):
    """Paragraphs of at least 8 words, each once, or the `whole` articles that they make, a paragraph a line.

    Of 20 articles 18 train, one validates and one tests.
    """
    seen = set()
    for number, paragraphs in enumerate(articles):
        split = {18: "validation", 19: "test"}.get(number % 20, "train")
        kept = []
        for paragraph in paragraphs:
            words = paragraph.split()
            text = " ".join(words)
            # articles share paragraphs, which must not be in two splits
            if len(words) >= _MIN_WORDS and text not in seen:
                seen.add(text)
                kept.append(text)
        if whole and kept:
            kept = ["\n".join(kept)]
        yield from ({"split": split, "text": text} for text in kept)
