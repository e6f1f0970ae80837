"""Corpora without held-out parts: they are cut by document, the same documents every time."""

import json

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from hf_lineage.data import CorpusError, load_corpus, load_parallel_splits, load_splits
from hf_lineage.data.held_out import number_of


TEXTS = [f"this is document {number} of many" for number in range(200)]


def write(path, texts=TEXTS):
    """A file of any kind, by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".txt":
            path.write_text("\n".join(texts), encoding="utf-8")
        case ".jsonl":
            path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
        case ".csv":
            path.write_text("id,text\n" + "\n".join(f'7,"{text}, quoted"' for text in texts), encoding="utf-8")
        case ".parquet":
            parquet.write_table(pa.table({"text": texts}), path)
    return path


def as_texts(corpora):
    return {part: [row["text"] for row in corpus] for part, corpus in corpora.items()}


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet"])
def test_a_file_of_any_kind_is_cut(tmp_path, kind, capsys):
    path = write(tmp_path / f"my.{kind}")
    parts = as_texts(load_splits(path))
    assert {part: len(texts) for part, texts in parts.items()} == {"train": 180, "validation": 10, "test": 10}
    whole = as_texts({"train": load_corpus(path)})["train"]
    assert sorted(text for texts in parts.values() for text in texts) == sorted(whole)
    # the rest keeps its order
    assert parts["train"] == [text for text in whole if text in set(parts["train"])]
    [line] = capsys.readouterr().out.splitlines()
    assert str(path) in line
    assert "10 (validation)" in line
    assert "validation_share 0.05" in line


def test_the_documents_are_those_with_the_lowest_numbers_whatever_their_order(tmp_path):
    parts = as_texts(load_splits(write(tmp_path / "a.txt"), validation_share=0.1))
    ordered = sorted(TEXTS, key=number_of)
    assert set(parts["validation"]) == set(ordered[:20])
    assert set(parts["test"]) == set(ordered[20:40])
    backwards = as_texts(load_splits(write(tmp_path / "b.txt", TEXTS[::-1]), validation_share=0.1))
    assert {part: sorted(texts) for part, texts in backwards.items()} == {
        part: sorted(texts) for part, texts in parts.items()
    }


def test_equal_documents_stay_together(tmp_path):
    parts = as_texts(load_splits(write(tmp_path / "a.txt", ["one", "two", "three", "four"] * 25)))
    assert sum(len(set(texts)) for texts in parts.values()) == 4
    assert {len(texts) % 25 for texts in parts.values()} == {0}


def test_long_documents_stay_whole(tmp_path):
    texts = [f"document {number} " + "has many words " * 20 for number in range(30)]
    parts = load_splits(write(tmp_path / "a.txt", texts), longest=64)
    for part in parts.values():
        joined = "".join(row["text"] if row["continues"] else row["text"] + "\n" for row in part)
        assert {*joined.splitlines()} <= {*texts}
    assert sum(not row["continues"] for part in parts.values() for row in part) == 30


def test_a_folder_of_any_files(tmp_path):
    write(tmp_path / "one.txt", TEXTS[:100])
    write(tmp_path / "deeper" / "two.jsonl", TEXTS[100:])
    (tmp_path / "notes.pdf").write_text("no text")
    assert sorted(text for texts in as_texts(load_splits(tmp_path)).values() for text in texts) == sorted(TEXTS)


def test_parts_that_are_there_are_read(tmp_path):
    write(tmp_path / "train.txt", TEXTS[:100])
    write(tmp_path / "dev.txt", TEXTS[100:])
    parts = as_texts(load_splits(tmp_path))
    assert parts["validation"] == TEXTS[100:]
    assert len(parts["test"]) == 5
    assert sorted(parts["train"] + parts["test"]) == sorted(TEXTS[:100])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_by_another_name_must_be_there(tmp_path, streaming):
    write(tmp_path / "train.txt")
    for source in (tmp_path, tmp_path / "train.txt", None):
        with pytest.raises(CorpusError, match="'held'|held.txt"):
            load_splits(source, validation_split="held", streaming=streaming)


def test_too_few_documents(tmp_path):
    with pytest.raises(CorpusError, match="2 different documents.* validation and test.*sample_by"):
        load_splits(write(tmp_path / "a.txt", ["one", "two"]))
    parts = load_splits(write(tmp_path / "b.txt", ["one", "two", "three"]))
    assert [len(part) for part in parts.values()] == [1, 1, 1]


@pytest.mark.parametrize(("number", "lines"), [(200, 10), (5_000, 10), (50, 3), (8, 1)])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_text_without_blank_lines_has_documents_of_lines(tmp_path, number, lines, streaming, capsys):
    texts = [f"this is line {i} of many" for i in range(number)]
    path = write(tmp_path / "a.txt", texts)
    corpora = load_splits(path, sample_by="paragraph", streaming=streaming, validation_share=0.2)
    found = {part: [row["text"] for row in corpus] for part, corpus in corpora.items()}
    expected = ["\n".join(texts[start : start + lines]) for start in range(0, number, lines)]
    assert sorted(document for of_part in found.values() for document in of_part) == sorted(expected)
    assert all(found.values())
    said = [line for line in capsys.readouterr().out.splitlines() if "no blank line" in line]
    assert len(said) == 1
    assert f"every {lines} lines are a document" in said[0]


def test_each_split_without_blank_lines_has_documents_of_lines(tmp_path):
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.txt", [f"this is {split} line {i}" for i in range(40)])
    assert [len(corpus) for corpus in load_splits(tmp_path, sample_by="paragraph").values()] == [20, 20, 20]


def test_a_folder_of_texts_keeps_its_documents(tmp_path):
    for name in "abcd":
        write(tmp_path / f"{name}.txt", [f"this is line {i} of {name}" for i in range(30)])
    parts = as_texts(load_splits(tmp_path, sample_by="paragraph"))
    assert sum(map(len, parts.values())) == 4


@pytest.mark.parametrize("share", [0.0, 0.5, -1])
def test_shares_out_of_range(tmp_path, share):
    with pytest.raises(ValueError, match=f"validation_share is {share}"):
        load_splits(write(tmp_path / "a.txt"), validation_share=share)


@pytest.mark.parametrize("longest", [None, 24])
def test_a_stream_is_cut_by_the_same_numbers(tmp_path, longest):
    parts = load_splits(write(tmp_path / "a.txt"), streaming=True, longest=longest)
    assert isinstance(parts["train"], datasets.IterableDataset)
    found = {}
    for part, corpus in parts.items():
        joined = "".join(row["text"] + ("" if row.get("continues") else "\n") for row in corpus)
        found[part] = joined.splitlines()
    assert sorted(text for texts in found.values() for text in texts) == sorted(TEXTS)
    if longest is None:
        assert found["validation"] == [text for text in TEXTS if number_of(text) < 0.05 * 2**64]
    assert 0 < len(found["test"]) < 25


def test_a_stream_without_a_held_out_document(tmp_path):
    with pytest.raises(CorpusError, match="raise validation_share"):
        load_splits(write(tmp_path / "a.txt", ["same"] * 9), streaming=True)


def test_a_stream_names_a_wrong_field_at_once(tmp_path):
    with pytest.raises(CorpusError, match="set text_field to one of text"):
        load_splits(write(tmp_path / "a.jsonl"), text_field="body", streaming=True)


def test_the_hub_without_held_out_splits(monkeypatch):
    def load_dataset(name, configuration, split, streaming):
        if split != "train":
            raise ValueError(f"Unknown split \"{split}\". Should be one of ['train'].")
        dataset = datasets.Dataset.from_dict({"text": TEXTS})
        return dataset.to_iterable_dataset() if streaming else dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    parts = as_texts(load_splits("owner/name"))
    assert {part: len(texts) for part, texts in parts.items()} == {"train": 180, "validation": 10, "test": 10}
    with pytest.raises(CorpusError, match="no split 'dev'"):
        load_splits("owner/name", validation_split="dev")
    with pytest.raises(CorpusError, match="validation or test.*stream"):
        load_splits("owner/name", streaming=True)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "texts"])
def test_sentence_pairs_are_cut(tmp_path, kind):
    pairs = [{"de": f"das ist {number}", "en": f"this is {number}"} for number in range(60)]
    if kind == "texts":
        source = tmp_path
        for language in ("de", "en"):
            (tmp_path / f"train.{language}").write_text("\n".join(pair[language] for pair in pairs))
    else:
        source = tmp_path / f"pairs.{kind}"
        rows = [json.dumps(pair) for pair in pairs]
        rows = rows if kind == "jsonl" else ["de\ten", *(f"{pair['de']}\t{pair['en']}" for pair in pairs)]
        source.write_text("\n".join(rows))
    parts = load_parallel_splits(source, source_language="de", target_language="en", validation_share=0.1)
    assert [len(part) for part in parts.values()] == [48, 6, 6]
    found = [(row["source"], row["target"]) for part in parts.values() for row in part]
    assert sorted(found) == sorted((pair["de"], pair["en"]) for pair in pairs)


def test_the_grammar_has_all_its_splits(capsys):
    parts = load_parallel_splits()
    assert all("alignment" in part.column_names for part in parts.values())
    assert capsys.readouterr().out == ""
