"""Corpora from files, folders, the Hub (replaced here) and the embedded text; each error names its place."""

import bz2
import gzip
import importlib.util
import json
import os
import re

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from hf_lineage.data import corpus as corpus_module
from hf_lineage.data import embedded_corpus, text_files
from hf_lineage.data.corpus import load_corpus, load_splits
from hf_lineage.data.text_files import CorpusError, read_documents


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_gzip(path, content):
    return write(path, gzip.compress(content.encode()))


def texts(corpus):
    return [row["text"] for row in corpus]


# --- read_documents ---


TEXT = "\ufeffone two \r\n\n  \nthree\nfour é\n\n"


@pytest.mark.parametrize(
    ("sample_by", "expected"),
    [
        ("line", ["one two ", "three", "four é"]),
        ("paragraph", ["one two ", "three\nfour é"]),
        ("document", ["one two \n\n  \nthree\nfour é\n"]),
        (2, ["one two \nthree", "four é"]),
    ],
)
@pytest.mark.parametrize(("name", "write_it"), [("a.txt", write), ("a.TXT.gz", write_gzip)])
def test_text_files(tmp_path, name, write_it, sample_by, expected):
    assert list(read_documents(write_it(tmp_path / name, TEXT), sample_by=sample_by)) == expected


@pytest.mark.parametrize(
    ("name", "write_it"),
    [("a.jsonl", write), ("a.json", write), ("a.jsonl.gz", write_gzip), ("a.json.gz", write_gzip)],
)
def test_json_lines(tmp_path, name, write_it):
    path = write_it(tmp_path / name, '{"body": "one\\ntwo", "id": 1}\n\n{"body": " "}\n{"body": "é"}\n')
    assert list(read_documents(path, text_field="body")) == ["one\ntwo", "é"]


def test_parquet(tmp_path):
    table = pa.table({"id": [1, 2, 3], "body": ["one", "", "two"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_documents(tmp_path / "a.parquet", text_field="body")) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"good\nb\xffd\n", "line 2, byte 6 of the file: 0xff"),
        (b"\xef\xbb\xbfb\xe9d\n", "line 1, byte 4 of the file: 0xe9"),
        (b"good\ncut \xe2\x82", "line 2, byte 9 of the file: 0xe2"),
        (b"good\n\n\xc3\xa9\0\n", "line 3, byte 8 of the file: 0x00 is a NUL"),
        ("a".encode("utf-16"), "line 1, byte 0 of the file: 0xff"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_invalid_bytes(tmp_path, content, place, packed):
    path = write(tmp_path / ("a.txt.gz" if packed else "a.txt"), gzip.compress(content) if packed else content)
    with pytest.raises(CorpusError, match=f'a.txt.*, {place}.*on_invalid="replace"'):
        list(read_documents(path))
    assert "\ufffd" in "".join(read_documents(path, on_invalid="replace"))


def test_replace_keeps_the_rest(tmp_path):
    path = write(tmp_path / "a.txt", b"a\xffb\0c\nd\n")
    assert list(read_documents(path, on_invalid="replace")) == ["a\ufffdb\ufffdc", "d"]


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800"])
def test_invalid_characters_in_json(tmp_path, escape):
    path = write(tmp_path / "a.jsonl", '{"text": "fine"}\n{"text": "ab' + escape + '"}\n')
    with pytest.raises(CorpusError, match=r"a.jsonl, line 2: the field 'text' holds .* at character 2"):
        list(read_documents(path))
    assert list(read_documents(path, on_invalid="replace")) == ["fine", "ab\ufffd"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ('["text"]', "line 2: .*JSON list"),
        ('{"body": "a", "id": 3}', "line 2: .*'text'.*text_field.*body, id"),
        ('{"text": 3}', r"line 2: .*'text' is 3 \(int\)"),
        ('{"text": null}', r"line 2: the field 'text' is None"),
    ],
)
def test_bad_json_lines(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", '{"text": "fine"}\n' + line + "\n")
    with pytest.raises(CorpusError, match=f"a.jsonl, {message}"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("column", "field", "message"),
    [
        (["a", None], "text", r"a\.parquet, row 2: .*'text' is None"),
        ([1, 2], "text", r"a\.parquet, row 1: .*'text' is 1 \(int\)"),
        (["a"], "body", r"a\.parquet: .*'body'.*text_field.*text"),
    ],
)
def test_bad_parquet(tmp_path, column, field, message):
    parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=message):
        list(read_documents(tmp_path / "a.parquet", text_field=field))


def test_damaged_containers(tmp_path):
    packed = gzip.compress(b"some text\n" * 1000)
    with pytest.raises(CorpusError, match=r"cut\.txt\.gz.*gzip"):
        list(read_documents(write(tmp_path / "cut.txt.gz", packed[:-20])))
    with pytest.raises(CorpusError, match=r"plain\.txt\.gz.*gzip"):
        list(read_documents(write(tmp_path / "plain.txt.gz", "some text")))
    with pytest.raises(CorpusError, match=r"plain\.parquet.*Parquet"):
        list(read_documents(write(tmp_path / "plain.parquet", "some text")))


@pytest.mark.reliability("C4")
@pytest.mark.parametrize(("name", "content"), [("a.txt", b""), ("a.txt", b" \n\n"), ("a.jsonl", b'{"text": ""}\n')])
@pytest.mark.parametrize("sample_by", text_files.SAMPLE_BY)
def test_file_without_text(tmp_path, name, content, sample_by):
    with pytest.raises(CorpusError, match=f"the corpus .*{name} has no text"):
        list(read_documents(write(tmp_path / name, content), sample_by=sample_by))


@pytest.mark.parametrize("setting", ["sample_by", "on_invalid"])
def test_bad_settings(tmp_path, setting):
    path = write(tmp_path / "a.txt", "a")
    with pytest.raises(ValueError, match=f"{setting} is 'word'; it must be one of "):
        list(read_documents(path, **{setting: "word"}))
    with pytest.raises(ValueError, match=f"{setting} is 'word'; it must be one of "):
        load_corpus(path, **{setting: "word"})


# --- load_corpus: files ---


@pytest.mark.parametrize("streaming", [False, True])
def test_file_list_glob_and_folder(tmp_path, streaming):
    write(tmp_path / "train.txt", "one\ntwo\n")
    write(tmp_path / "validation.jsonl", '{"text": "three"}\n')

    def load(*args):
        corpus = load_corpus(*args, streaming=streaming)
        assert isinstance(corpus, datasets.IterableDataset if streaming else datasets.Dataset)
        assert corpus.column_names == ["text"]
        return texts(corpus)

    assert load(tmp_path / "train.txt") == ["one", "two"]
    assert load(str(tmp_path / "train.txt")) == ["one", "two"]
    assert load([tmp_path / "validation.jsonl", str(tmp_path / "train.txt")]) == ["three", "one", "two"]
    assert load(str(tmp_path / "*.*")) == ["one", "two", "three"]
    assert load(tmp_path) == ["one", "two"]
    assert load(str(tmp_path), "validation") == ["three"]


def test_settings_reach_the_reader(tmp_path):
    path = write(tmp_path / "a.txt", b"a\nb\xff\n\nc\n")
    assert texts(load_corpus(path, sample_by="paragraph", on_invalid="replace")) == ["a\nb\ufffd", "c"]


def test_cache_is_used_and_not_when_the_file_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", "one\n")
    os.utime(path, ns=(0, 1))
    assert texts(load_corpus(path)) == ["one"]
    # same size, other time
    write(path, "two\n")
    os.utime(path, ns=(0, 2))
    assert texts(load_corpus(path)) == ["two"]
    monkeypatch.setattr(corpus_module, "read_documents", lambda *_, **__: pytest.fail("read again"))
    assert texts(load_corpus(path)) == ["two"]


@pytest.mark.reliability("B20")
def test_damaged_cache_names_the_folder(tmp_path):
    path = write(tmp_path / "a.txt", "damaged soon\n" * 100)
    corpus = load_corpus(path)
    for file in corpus.cache_files:
        os.truncate(file["filename"], 500)
    with pytest.raises(CorpusError, match="cached copy .* delete the folder .*generator"):
        load_corpus(path)


def test_files_of_no_known_kind_are_named(tmp_path):
    write(tmp_path / "a.txt", "read\n")
    write(tmp_path / "notes.md", "not read\n")
    with pytest.warns(UserWarning, match=r"1 files of no known kind, such as notes\.md"):
        assert texts(load_corpus(tmp_path)) == ["read"]


def test_the_shards_of_a_split_are_read_in_order(tmp_path):
    for number in (1, 0, 2):
        write_gzip(tmp_path / f"train-0{number}.txt.gz", f"text {number}\n")
    write(tmp_path / "validation.txt", "held out\n")
    write(tmp_path / "train_small.txt", "train-00.txt.gz\ntrain-02.txt.gz\n")
    assert texts(load_corpus(tmp_path)) == ["text 0", "text 1", "text 2"]
    assert texts(load_corpus(tmp_path / "train_small.txt")) == ["text 0", "text 2"]
    assert texts(load_corpus(tmp_path / "train_small.txt", "validation")) == ["held out"]
    with pytest.raises(CorpusError, match=r"no test\.txt"):
        load_corpus(tmp_path / "train_small.txt", "test")
    splits = load_splits(tmp_path / "train_small.txt", test_split="validation")
    assert texts(splits["validation"]) == texts(splits["test"]) == ["held out"]
    assert texts(splits["train"]) == ["text 0", "text 2"]
    write(tmp_path / "train_small.txt", "# half of it\n./train-00.txt.gz\n\ntrain-02.txt.gz\n")
    assert texts(load_corpus(tmp_path / "train_small.txt")) == ["text 0", "text 2"]
    write(tmp_path / "train_small.txt", "train-00.txt.gz\nnone.txt\n")
    with pytest.raises(CorpusError, match=r"train_small\.txt lists none\.txt, but .* has no such file"):
        load_corpus(tmp_path / "train_small.txt")
    # a text that only looks like a list
    write(tmp_path / "train_small.txt", "see train-00.txt.gz\n")
    assert texts(load_corpus(tmp_path / "train_small.txt")) == ["see train-00.txt.gz"]


def test_shards_of_two_kinds_are_refused(tmp_path):
    write(tmp_path / "train-00.txt", "a\n")
    write(tmp_path / "train-01.jsonl", '{"text": "b"}\n')
    with pytest.raises(CorpusError, match=r"train-00\.txt and train-01\.jsonl: keep one of them"):
        load_corpus(tmp_path)


def test_streamed_files_are_shards(tmp_path):
    files = [write(tmp_path / f"{number}.txt", f"text {number}\n") for number in range(3)]
    assert load_corpus(files, streaming=True).num_shards == 3


@pytest.mark.parametrize("streaming", [False, True])
def test_reader_errors_come_through(tmp_path, streaming):
    good, bad = write(tmp_path / "good.txt", "fine\n"), write(tmp_path / "bad.txt", b"\xff\n")
    with pytest.raises(CorpusError, match="bad.txt, line 1, byte 0"):
        list(load_corpus([good, bad], streaming=streaming))
    with pytest.raises(CorpusError, match="the corpus .*empty.txt has no text"):
        list(load_corpus([good, write(tmp_path / "empty.txt", "")], streaming=streaming))


def test_missing_files(tmp_path):
    for source in (tmp_path / "no.txt", str(tmp_path / "no*.txt"), "data/no.txt", "no"):
        with pytest.raises(CorpusError, match="is not a file or folder, no file matches"):
            load_corpus(source)
    with pytest.raises(CorpusError, match="no.txt is not a file"):
        load_corpus([tmp_path / "no.txt"])
    with pytest.raises(CorpusError, match="empty list"):
        load_corpus([])


@pytest.mark.parametrize("streaming", [False, True])
def test_unknown_kind_of_file(tmp_path, streaming):
    with pytest.raises(CorpusError, match=r"a.pdf is of no known kind; .*\.txt, .*\.parquet"):
        load_corpus(write(tmp_path / "a.pdf", "a"), streaming=streaming)


def test_splits_that_are_not_there(tmp_path):
    path = write(tmp_path / "train.txt", "one\n")
    for source in (path, [path], str(tmp_path / "*.txt")):
        with pytest.raises(CorpusError, match=r"no split 'validation'.*folder.*validation\.txt"):
            load_corpus(source, "validation")
    with pytest.raises(CorpusError, match=r"has no validation\.txt.*; it has train\.txt"):
        load_corpus(tmp_path, "validation")
    write_gzip(tmp_path / "train.jsonl.gz", '{"text": "two"}\n')
    with pytest.raises(CorpusError, match=r"train\.txt.*train\.jsonl\.gz"):
        load_corpus(tmp_path)


# --- load_corpus: the Hub ---


def test_hub(monkeypatch):
    calls = []

    def load_dataset(name, configuration, split, streaming):
        calls.append((name, configuration, split, streaming))
        dataset = datasets.Dataset.from_dict({"id": [1, 2, 3], "body": ["one", " ", "two"]})
        return dataset.to_iterable_dataset() if streaming else dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus("owner/name", text_field="body")
    assert corpus.column_names == ["text"]
    assert texts(corpus) == ["one", "two"]
    assert texts(load_corpus("owner/name:config-1", "test", text_field="body", streaming=True)) == ["one", "two"]
    assert calls == [("owner/name", None, "train", False), ("owner/name", "config-1", "test", True)]
    with pytest.raises(CorpusError, match="owner/name.*'text'.*id, body"):
        load_corpus("owner/name")


def test_hub_out_of_reach():
    # the test session is offline
    with pytest.raises(CorpusError, match="owner/name.* Hub"):
        load_corpus("owner/name")


# --- load_corpus: the embedded text ---


DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
{pages}
</mediawiki>"""
PAGE = "<page><title>T</title>{redirect}<revision><text>{text}</text></revision></page>"


def test_wikipedia_pages_are_cleaned_and_split_by_article(tmp_path):
    pytest.importorskip("gensim")
    article = """{{{{Infobox}}}}
'''Article {number}''' (; or ) is one [[a|of]] the , [http://x.org twenty] that ''are'' here.&lt;ref&gt;x&lt;/ref&gt;
==A heading that has rather many words in it, or so==
* an item of a list that has rather many words, or so
Few words.

The second paragraph of article {number} has enough words."""
    pages = [PAGE.format(redirect="", text=article.format(number=number)) for number in range(40)]
    pages.insert(3, PAGE.format(redirect='<redirect title="x" />', text="#REDIRECT a b c d e f g h i j"))
    dump = tmp_path / "dump.bz2"
    dump.write_bytes(bz2.compress(DUMP.format(pages="\n".join(pages)).encode()))
    rows = list(embedded_corpus._read_wikipedia((str(dump), 0, 0), whole=False, version=0))
    assert [row["text"] for row in rows[:2]] == [
        "Article 0 is one of the, twenty that are here.",
        "The second paragraph of article 0 has enough words.",
    ]
    assert len(rows) == 80
    for split, articles in (("validation", [18, 38]), ("test", [19, 39])):
        assert [row["text"].split()[1] for row in rows if row["split"] == split][::2] == [str(n) for n in articles]
    whole = list(embedded_corpus._read_wikipedia((str(dump), 0, 0), whole=True, version=0))
    assert len(whole) == 40
    assert [line for row in whole for line in row["text"].split("\n")] == [row["text"] for row in rows]
    assert [row["split"] for row in whole] == [row["split"] for row in rows[::2]]


def test_default_corpus_is_wikipedia():
    pytest.importorskip("gensim")
    corpora = {split: load_corpus(split=split) for split in ("train", "validation", "test")}
    sizes = {split: sum(map(len, texts(corpus))) for split, corpus in corpora.items()}
    total = sum(sizes.values())
    assert total > 2_000_000
    assert all(0.03 < sizes[split] / total < 0.10 for split in ("validation", "test"))
    documents = [text for corpus in corpora.values() for text in texts(corpus)]
    assert any(text.startswith("Anarchism is a political philosophy") for text in texts(corpora["train"]))
    assert len(set(documents)) == len(documents)
    assert all(len(text.split()) >= 8 and text == text.strip() for text in documents)
    markup = ("[[", "]]", "{{", "}}", "''", "|", "<ref", "==", "&nbsp;")
    assert not [text for text in documents for mark in markup if mark in text]
    assert texts(load_corpus(split="test", streaming=True)) == texts(corpora["test"])
    articles = texts(load_corpus(split="test", sample_by="paragraph"))
    assert len(articles) < 20
    assert "\n".join(articles).split("\n") == texts(corpora["test"])


def test_default_corpus_agrees_with_the_prepared_one(shared_data):
    """The same dump, cleaned by other code, which kept the items of lists too."""
    pytest.importorskip("gensim")

    def letters(text):
        return re.sub(r"\W", "", text)[:60]

    prepared = set()
    for split in ("train", "validation", "test"):
        with gzip.open(shared_data / "lm_enwiki_gensim" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            prepared |= {letters(paragraph) for line in file for paragraph in json.loads(line)["text"].split("\n")}
    ours = [letters(text) for split in ("train", "validation", "test") for text in texts(load_corpus(split=split))]
    assert sum(paragraph in prepared for paragraph in ours) / len(ours) > 0.99
    assert len(ours) / len(prepared) > 0.8


def test_default_corpus_is_parsed_once(monkeypatch):
    pytest.importorskip("gensim")
    load_corpus()
    monkeypatch.setattr(embedded_corpus, "_wikipedia_articles", lambda *_: pytest.fail("parsed again"))
    for split in ("train", "validation", "test"):
        assert len(load_corpus(split=split)) > 100


def test_default_corpus_without_gensim(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gensim" else find_spec(name))
    splits = {}
    for split in ("train", "validation", "test"):
        with pytest.warns(UserWarning, match=r"gensim.*pip install 'hf_lineage\[demo\]'") as caught:
            splits[split] = texts(load_corpus(split=split))
        assert caught[0].filename == __file__
    assert sum(map(len, splits["train"])) > 200_000
    assert all(splits.values())
    documents = sum(splits.values(), [])
    assert len(set(documents)) == len(documents)


def test_default_corpus_when_the_wheel_lacks_its_file(monkeypatch):
    pytest.importorskip("gensim")
    monkeypatch.setattr(embedded_corpus, "_WIKIPEDIA", "test/test_data/none.bz2")
    assert embedded_corpus._find_wikipedia() is None


def test_default_corpus_has_three_splits():
    with pytest.raises(CorpusError, match="'dev'.*train, validation.*test"):
        load_corpus(split="dev")
