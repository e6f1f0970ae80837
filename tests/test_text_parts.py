"""Long texts in parts: what is read, counted and encoded is that of the whole text, in memory that does not grow."""

import random
import subprocess
import sys

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_lineage import text_parts
from hf_lineage.data import (
    CorpusTexts,
    Phrases,
    StreamedBlocks,
    TextEncoder,
    TranslationPairs,
    WordFile,
    encode_bilm_corpus,
    encode_corpus,
    load_corpus,
    read_documents,
    read_parts,
)
from hf_lineage.text_parts import Part, encodable_parts, in_parts, whole_texts
from hf_lineage.tokenization import causal_tokenizer, elmo_tokenizer, train_word_level, train_wordpiece


LONGEST = 50


@pytest.fixture
def texts(tiny_corpus):
    """Long and short ones, with blanks of several kinds, marks and letters beyond ASCII."""
    long = " ".join(tiny_corpus[:60])
    return [long, tiny_corpus[60], f"New  York,\t{long[:400]} 好的。Über", "  ", "x" * 120, long[500:900] + " "]


@pytest.fixture
def path(texts, tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(texts), encoding="utf-8")
    return tmp_path / "train.txt"


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    """Parts of 50 characters wherever texts are cut."""
    monkeypatch.setattr(in_parts, "__defaults__", (LONGEST,))
    monkeypatch.setattr("hf_lineage.data.encoding.LONGEST", LONGEST)
    monkeypatch.setattr(text_parts, "_NEAR", 20)


def byte_level(texts):
    """Ids of a word depend on the blank before it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<eos>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")


@pytest.fixture(params=["wordpiece", "word_level", "byte_level"])
def tokenizer(request, texts):
    if request.param == "byte_level":
        return byte_level(texts)
    if request.param == "wordpiece":
        return causal_tokenizer(train_wordpiece(texts, 150, show_progress=False))
    roles = {"unk_token": "<unk>", "eos_token": "<eos>"}
    return train_word_level(texts, strip_punctuation=True, special_tokens=roles, show_progress=False)


# reading


def test_parts_end_to_end_are_the_text():
    draw = random.Random(0)
    pieces = ["a", "bb", "é", " ", "  ", "\t", "\n", "好的", "word", "\u3000"]
    for _ in range(2_000):
        text, longest = "".join(draw.choices(pieces, k=draw.randint(0, 30))), draw.randint(1, 20)
        parts = list(in_parts([text], longest))
        assert "".join(parts) == text
        assert [isinstance(part, Part) for part in parts] == [True] * (len(parts) - 1) + [False]
        assert all(part[-1] in text_parts.BLANKS for part in parts[:-1])
        words = max(map(len, text.replace("\t", " ").replace("\n", " ").split(" ")))
        assert max(map(len, parts)) <= max(longest, words + 1)
        assert list(whole_texts(parts)) == [text]


@pytest.mark.parametrize("sample_by", ["line", "paragraph", "document"])
def test_files_read_in_parts_hold_the_same_documents(tmp_path, sample_by):
    draw, path, cut = random.Random(0), tmp_path / "a.txt", 0
    pieces = ["a", "bb ", "é", " ", "  ", "\n", "\n\n", "好好", "\t", "\r\n", "word ", "\u3000"]
    for _ in range(400):
        path.write_bytes(("\ufeffstart" + "".join(draw.choices(pieces, k=draw.randint(1, 40)))).encode())
        expected = list(read_documents(path, sample_by=sample_by))
        for longest in (1, 3, 8, 1_000):
            parts = list(read_parts(path, sample_by=sample_by, longest=longest))
            cut += sum(isinstance(part, Part) for part in parts)
            assert list(whole_texts(parts)) == expected
    assert cut > 1_000
    assert sample_by != "line" or expected[0].startswith("start")


def test_json_is_read_in_parts_too(tmp_path, texts):
    datasets.Dataset.from_dict({"text": texts}).to_json(tmp_path / "a.jsonl")
    datasets.Dataset.from_dict({"text": texts}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        parts = list(read_parts(tmp_path / name, longest=LONGEST))
        assert list(whole_texts(parts)) == list(read_documents(tmp_path / name))
        assert len(parts) > 50


def test_errors_in_parts_name_the_same_place(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a line\n" + b"word " * 100 + b"\xff word\n")
    for read in (read_documents, lambda path: read_parts(path, longest=20)):
        with pytest.raises(ValueError, match="a.txt, line 2, byte 507"):
            list(read(tmp_path / "a.txt"))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_corpus_in_parts(path, streaming):
    whole = load_corpus(path, streaming=streaming)
    parts = load_corpus(path, streaming=streaming, longest=LONGEST)
    assert len(list(parts)) > len(list(whole)) + 50
    texts = CorpusTexts(parts)
    assert list(whole_texts(texts)) == list(whole_texts(texts)) == [row["text"] for row in whole]
    assert list(CorpusTexts(whole)) == [row["text"] for row in whole]
    with pytest.raises(ValueError, match="longest is 0"):
        load_corpus(path, longest=0)


# what is made of it


def test_words_are_counted_alike(path, texts, monkeypatch):
    found = train_word_level(path, show_progress=False).get_vocab()
    pieces = train_wordpiece(path, 150, show_progress=False).get_vocab()
    monkeypatch.setattr(in_parts, "__defaults__", (10**9,))
    assert found == train_word_level(texts, show_progress=False).get_vocab()
    assert pieces == train_wordpiece(texts, 150, show_progress=False).get_vocab()


def test_word_files_are_alike(path, texts, tokenizer, tmp_path):
    options = {"add_special_tokens": False}
    special = set(tokenizer.all_special_ids)
    expected = []
    for ids in tokenizer([text for text in texts if text.strip()], **options).input_ids:
        expected += [index for index in ids if index not in special] + [-1]
    for source in (read_documents(path), read_parts(path, longest=LONGEST), read_parts(path, longest=7)):
        assert WordFile.write(tmp_path / "ids", source, tokenizer, show_progress=False).ids.tolist() == expected


def test_cuts_that_change_the_ids_are_not_made(texts):
    tokenizer = byte_level(texts)

    def encode(batch):
        return tokenizer(batch).input_ids

    assert encode(["Ada paints"])[0] != [index for ids in encode(["Ada ", "paints"]) for index in ids]
    parts = list(encodable_parts([texts[0]], encode))
    assert len(parts) > 20
    assert [index for ids in encode(parts) for index in ids] == encode([texts[0]])[0]
    assert list(encodable_parts([texts[0]], lambda batch: [[len(text)] for text in batch])) == [texts[0]]
    words = train_wordpiece(texts, 150, show_progress=False)
    parts = list(encodable_parts([texts[0]], lambda batch: words(batch, add_special_tokens=False).input_ids))
    assert len(parts) > 20


def test_phrases_are_those_of_whole_texts(tiny_corpus):
    text = " ".join(["new york is old and new jersey is new york is"] * 60 + tiny_corpus)
    options = {"thresholds": [2.0, 1.0], "min_count": 2, "show_progress": False}
    parts = list(in_parts([text, "new york"], 30))
    assert len(parts) > 50
    learned = Phrases.learn(parts, **options)
    assert learned == Phrases.learn([text, "new york"], **options)
    assert ("new", "york") in learned.passes[0]
    assert [joined.strip() for joined in whole_texts(learned.joined(parts))] == [learned.join(text), "new_york"]
    assert list(learned.joined(["in  new york", ""])) == ["in new_york", ""]


def test_streams_are_alike(path, tokenizer):
    whole = encode_corpus(load_corpus(path), tokenizer)
    parts = encode_corpus(load_corpus(path, longest=LONGEST), tokenizer)
    for name in ("tokens", "document_starts", "num_words", "num_characters", "num_unknown"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    assert parts.tokens.dtype == np.int32
    blocks = [
        StreamedBlocks(load_corpus(path, streaming=True, longest=longest), tokenizer, 8) for longest in (None, LONGEST)
    ]
    first, second = ([block["input_ids"].tolist() for block in data] for data in blocks)
    assert first == second
    found = [first[0][0], *(index for block in first for index in block[1:])]
    assert found == whole.tokens[: len(found)].tolist()


def test_long_texts_are_encoded_part_by_part(texts, tokenizer, monkeypatch):
    encode = TextEncoder(tokenizer)
    assert any(len(text) > LONGEST for text in texts)
    expected = tokenizer([*texts, ""], add_special_tokens=False).input_ids
    for _ in range(2):
        assert [ids.tolist() for ids in encode([*texts, ""])] == expected


def test_bilm_streams_are_alike(path, texts):
    marks = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>"}
    tokenizer = elmo_tokenizer(train_word_level(texts[1:3], special_tokens=marks, show_progress=False))
    corpora = [load_corpus(path), load_corpus(path, longest=LONGEST)]
    whole, parts = (encode_bilm_corpus(corpus, tokenizer, show_progress=False) for corpus in corpora)
    for name in ("tokens", "sentence_starts", "word_ids", "characters", "num_unknown"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    words = [len(text.split()) for text in texts if text.strip()]
    assert np.diff([*whole.sentence_starts, whole.num_predictions]).tolist() == [count + 1 for count in words]


def test_translation_pairs_are_the_tokenizers(texts):
    tokenizer = train_wordpiece(texts, 150, show_progress=False)
    rows = [text for text in texts if text.strip()]
    pairs = TranslationPairs(datasets.Dataset.from_dict({"source": rows, "target": rows[::-1]}), tokenizer)
    expected = tokenizer(rows).input_ids
    assert [pair["input_ids"].tolist() for pair in pairs] == expected
    assert [pair["labels"].tolist() for pair in pairs] == expected[::-1]


MEMORY = """
import resource, sys
from hf_lineage.data import *
from hf_lineage.tokenization import train_word_level

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

folder, ids = sys.argv[1:]
roles = {"unk_token": "<unk>", "eos_token": "<eos>", "pad_token": "<pad>"}
next(iter(load_corpus(folder, streaming=True, longest=2**14)))
before = peak()
texts = CorpusTexts(load_corpus(folder, streaming=True, longest=2**14))
tokenizer = train_word_level(texts, min_frequency=5, special_tokens=roles, show_progress=False)
phrases = Phrases.learn(texts, [100.0], show_progress=False)
print(WordFile.write(ids, phrases.joined(texts), tokenizer, show_progress=False).num_words, peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_line(tmp_path):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 9))) for _ in range(200)]
    with open(tmp_path / "train.txt", "w", encoding="utf-8") as file:
        while file.tell() < 20_000_000:
            file.write(" ".join(draw.choices(words, k=10_000)) + " ")
    command = [sys.executable, "-c", MEMORY, str(tmp_path), str(tmp_path / "ids")]
    num_words, growth = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert num_words > 3_000_000
    # MB; it took 2,000 and more when lines were read whole
    assert growth < 80
