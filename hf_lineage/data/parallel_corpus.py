"""Parallel corpora: sentence pairs from JSON Lines, Parquet and text files, from the Hub, or from the grammar."""

import itertools
import os
from pathlib import Path

import datasets
import pyarrow as pa
from pyarrow import parquet

from hf_lineage.data.corpus_files import cached, find_files, has_split, is_hub_name, with_stamp
from hf_lineage.data.held_out import missing_splits, with_held_out
from hf_lineage.data.hub_corpus import load_hub_split
from hf_lineage.data.text_files import CorpusError, check_text_value, has_text, json_rows, suffix_of, table_rows
from hf_lineage.data.translation_grammar import grammar_corpus
from hf_lineage.files import read_lines


# raise it when reading changes, so that no stale cache is used
_READER_VERSION = 2
_FEATURES = datasets.Features(source=datasets.Value("string"), target=datasets.Value("string"))


def load_parallel_corpus(
    corpus: str | os.PathLike | None = None,
    split: str = "train",
    *,
    source_language: str = "zh",
    target_language: str = "en",
) -> datasets.Dataset:
    """Sentence pairs as rows {source, target}; pairs with an empty side are left out.

    `corpus` is one of:
    - None: the synthetic grammar (`translation_grammar.py`), whose rows also have the true `alignment`;
    - a folder with one file per split: train.jsonl (also .jsonl.gz, .parquet), or two texts train.zh and train.en
      (also .gz) whose lines correspond; or a single JSON Lines or Parquet file for the split "train";
    - a data set on the Hub, "owner/name" or "owner/name:configuration".
    A row has both languages as fields, or within a field `translation`, as data sets on the Hub have.

    Raises:
        CorpusError: the corpus, the split or a language is missing, or a file is damaged; the error names it.
    """
    if corpus is None:
        if (source_language, target_language) != ("zh", "en"):
            raise CorpusError(
                f"the default corpus translates zh into en, not {source_language} into {target_language}: "
                "give a corpus"
            )
        try:
            return grammar_corpus(split)
        except ValueError as error:
            raise CorpusError(str(error)) from None
    languages = (source_language, target_language)
    if is_hub_name(corpus):
        rows = _load_from_hub(corpus, split, languages)
        return rows.filter(lambda row: has_text(row["source"]) and has_text(row["target"]))
    texts = [_text_of(corpus, f"{split}.{language}") for language in languages]
    settings = {"languages": languages, "version": _READER_VERSION}
    if all(texts):
        # a tuple: datasets would take the entries of a list for shards and read them one by one
        return cached(_read_texts, _FEATURES, {"files": tuple(map(with_stamp, texts)), **settings})
    files = [with_stamp(path) for path in find_files(corpus, split)]
    return cached(_read_rows, _FEATURES, {"files": files, **settings})


def load_parallel_splits(
    corpus: str | os.PathLike | None = None,
    *,
    validation_split: str = "validation",
    test_split: str = "test",
    validation_share: float = 0.05,
    source_language: str = "zh",
    target_language: str = "en",
) -> dict[str, datasets.Dataset]:
    """`load_parallel_corpus` of train, validation and test; as in `load_splits`, those that it lacks are cut.

    `validation_share` of the pairs go to each; pairs with the same source stay together.

    Raises ValueError for a bad share and CorpusError as `load_parallel_corpus` does.
    """
    names = {"train": "train", "validation": validation_split, "test": test_split}
    languages = {"source_language": source_language, "target_language": target_language}

    def load(split: str) -> datasets.Dataset:
        return load_parallel_corpus(corpus, split, **languages)

    def has(folder, split: str) -> bool:
        return _text_of(folder, f"{split}.{source_language}") is not None or has_split(folder, split)

    missing = missing_splits(load, names, corpus, validation_share, has)
    return with_held_out(load, names, missing, validation_share, corpus, "source")


def _text_of(folder, name):
    found = [path for path in (Path(folder, name), Path(folder, f"{name}.gz")) if path.is_file()]
    if len(found) > 1:
        raise CorpusError(f"the folder {folder} has {name} and {name}.gz: keep one of them")
    return found[0] if found else None


def _read_texts(files, languages, version):
    """Pairs of lines of two files."""
    (source, _, _), (target, _, _) = files
    lines = itertools.zip_longest(read_lines(source), read_lines(target))
    number, empty = 0, True
    for number, (source_line, target_line) in enumerate(lines, start=1):
        if source_line is None or target_line is None:
            shorter = source if source_line is None else target
            raise CorpusError(
                f"{shorter} has {number - 1} lines, the other language more: each line must be the "
                "translation of the same line"
            )
        for pair in _pair(source_line, target_line):
            empty = False
            yield pair
    if empty:
        raise CorpusError(
            f"the corpus {source} and {target} has no sentence pair: each of its {number} lines is empty on a side; "
            "write one sentence per line, and its translation in the same line of the other file"
        )


def _read_rows(files, languages, version):
    """Pairs of JSON Lines and Parquet files."""
    for path, _, _ in files:
        suffix = suffix_of(path)
        if suffix.startswith(".txt"):
            raise CorpusError(
                f"{path} is a text in one language: name a folder with <split>.{languages[0]} and "
                f"<split>.{languages[1]}, or JSON Lines with both languages"
            )
        rows_of = {".parquet": _parquet_rows, ".csv": table_rows, ".tsv": table_rows}.get(
            suffix.removesuffix(".gz"), json_rows
        )
        empty = True
        for place, row in rows_of(path):
            for pair in _pair(*(_text(place, row, language) for language in languages)):
                empty = False
                yield pair
        if empty:
            raise CorpusError(f"the corpus {path} has no sentence pair")


def _parquet_rows(path):
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch or write it again") from error


def _text(place, row, language):
    if isinstance(row.get("translation"), dict):
        row = row["translation"]
    if language not in row:
        raise CorpusError(f"{place}: no text in the language {language!r}; there is {', '.join(row)}")
    return check_text_value(place, language, row[language], "error")


def _pair(source, target):
    if has_text(source) and has_text(target):
        yield {"source": source, "target": target}


def _load_from_hub(name, split, languages):
    rows = load_hub_split(name, split)

    def pair(row, index):
        source, target = (_text(f"the data set {name}, row {index}", row, language) for language in languages)
        return {"source": source, "target": target}

    return rows.map(pair, with_indices=True, remove_columns=rows.column_names)
