"""Parallel corpora from every kind of file, and clear errors for those that are damaged."""

import gzip
import json

import pytest
from datasets import Dataset

from hf_lineage.data import CorpusError, load_parallel_corpus


PAIRS = [("ein Hund", "a dog"), ("zwei Katzen", "two cats"), ("", "nothing"), ("niemand", " "), ("drei", "three")]
KEPT = [{"source": de, "target": en} for de, en in PAIRS if de.strip() and en.strip()]
GERMAN = {"source_language": "de", "target_language": "en"}


def write(folder, kind):
    """A folder with a split "train" of that kind."""
    rows = [{"translation": {"de": de, "en": en, "fr": "x"}} for de, en in PAIRS]
    if kind == "flat jsonl":
        rows = [row["translation"] for row in rows]
    if kind == "texts":
        for language, side in zip(("de", "en"), zip(*PAIRS, strict=True), strict=True):
            (folder / f"train.{language}").write_text("\n".join(side) + "\n", encoding="utf-8")
    elif kind == "parquet":
        Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    else:
        text = "\n".join(map(json.dumps, rows))
        opener, suffix = (gzip.open, "jsonl.gz") if kind == "gzip" else (open, "jsonl")
        with opener(folder / f"train.{suffix}", "wt", encoding="utf-8") as file:
            file.write(text)
    return folder


@pytest.mark.parametrize("kind", ["jsonl", "flat jsonl", "gzip", "parquet", "texts"])
def test_every_kind_gives_the_same_pairs(tmp_path, kind):
    assert load_parallel_corpus(write(tmp_path, kind), **GERMAN).to_list() == KEPT


def test_texts_may_begin_with_a_mark_and_be_packed(tmp_path):
    sides = [("\ufeff" + "\n".join(side) + "\n").encode() for side in zip(*PAIRS, strict=True)]
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(sides[0]))
    (tmp_path / "train.en").write_bytes(sides[1])
    assert load_parallel_corpus(tmp_path, **GERMAN).to_list() == KEPT
    (tmp_path / "train.en").write_bytes(b"a dog\ntwo \xff cats\n")
    with pytest.raises(CorpusError, match="train.en, line 2, byte 10"):
        load_parallel_corpus(tmp_path, **GERMAN)
    (tmp_path / "train.en").write_bytes(b"a\0\n")
    with pytest.raises(CorpusError, match="train.en, line 1, byte 1.*NUL"):
        load_parallel_corpus(tmp_path, **GERMAN)
    (tmp_path / "train.en.gz").write_bytes(gzip.compress(sides[1]))
    with pytest.raises(CorpusError, match=r"train\.en .*train\.en\.gz"):
        load_parallel_corpus(tmp_path, **GERMAN)


def test_directions_are_opposite(tmp_path):
    rows = load_parallel_corpus(write(tmp_path, "jsonl"), source_language="en", target_language="de")
    assert rows.to_list() == [{"source": row["target"], "target": row["source"]} for row in KEPT]


def test_the_default_is_the_grammar():
    rows = load_parallel_corpus(split="validation")
    assert len(rows) == 500
    assert rows.column_names == ["source", "target", "alignment"]
    with pytest.raises(CorpusError, match="zh into en.*de into en"):
        load_parallel_corpus(**GERMAN)
    with pytest.raises(CorpusError, match="no split 'dev'"):
        load_parallel_corpus(split="dev")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.jsonl": '{"translation": {"en": "a"}}'}, r"train\.jsonl, line 1: .*'de'.* en"),
        ({"train.jsonl": '{"de": 3, "en": "a"}'}, r"line 1: .*'de' is 3 \(int\)"),
        ({"train.jsonl": '{"de": "", "en": "a"}'}, "train.jsonl has no sentence pair"),
        (
            {"train.de": "\n\n", "train.en": "\n \n"},
            r"train.de and .*train.en has no sentence pair",
        ),
        ({"train.de": "ein\n\n", "train.en": "\na\n"}, "pair.* 2 lines.*side"),
        ({"train.de": "", "train.en": ""}, "pair.* 0 lines"),
        ({"train.jsonl": "{"}, "line 1: not JSON"),
        ({"train.de": "a\nb\n", "train.en": "a\n"}, "train.en has 1 lines, the other language more"),
        ({"train.txt": "a"}, "train.txt is a text in one language"),
        ({"dev.jsonl": "{}"}, "has no train.txt"),
    ],
)
def test_bad_files_are_named(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        load_parallel_corpus(tmp_path, **GERMAN)


def test_multi30k(shared_data):
    rows = load_parallel_corpus(shared_data / "mt_multi30k", "validation", **GERMAN)
    assert len(rows) == 1_014
    assert rows[0]["source"].startswith("Eine Gruppe von Männern")
