"""Files of token ids that training streams: their blocks, their pairs, resuming, and the files of each process."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from pyarrow import parquet
from transformers import default_data_collator

from hf_lineage import LSTMConfig, LSTMForCausalLM
from hf_lineage.data import (
    ContiguousBlocks,
    CorpusError,
    SentenceStream,
    TextEncoder,
    encode_corpus,
    encode_sentences,
    encoded_blocks,
    encoded_sentence_pairs,
    split_sentences,
)
from hf_lineage.data.encoded_shards import facts_of, shards_of, write_shard
from hf_lineage.data.sentence_pairs import encode_documents
from hf_lineage.tokenization import train_wordpiece
from hf_lineage.training import LineageTrainer, LineageTrainingArguments


FILES = 4


def texts_of_file(corpus, number):
    return [f"{first} {second}" for first, second in zip(corpus[number::FILES], corpus[number + 1 :], strict=False)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_corpus, tiny_tokenizer):
    folder, encode = tmp_path_factory.mktemp("encoded"), TextEncoder(tiny_tokenizer)
    end = np.array([tiny_tokenizer.eos_token_id], np.int32)
    for number in range(FILES):
        documents = ([ids, end] for ids in encode(texts_of_file(tiny_corpus, number)))
        write_shard(folder / f"{number:05d}.parquet", documents, facts_of(tiny_tokenizer), sentences=False)
    return folder


@pytest.fixture(scope="module")
def sentences_folder(tmp_path_factory, tiny_corpus, tiny_tokenizer):
    folder, encode = tmp_path_factory.mktemp("sentences"), TextEncoder(tiny_tokenizer)
    for number in range(FILES):
        documents = encode_documents(texts_of_file(tiny_corpus, number), encode, split_sentences)
        write_shard(folder / f"{number:05d}.parquet", documents, facts_of(tiny_tokenizer), sentences=True)
    return folder


def rows(dataset):
    return [{name: torch.as_tensor(value).tolist() for name, value in row.items()} for row in dataset]


@pytest.mark.parametrize("context_size", [1, 3])
def test_blocks_are_those_of_each_file(folder, tiny_corpus, tiny_tokenizer, context_size):
    expected = []
    for number in range(FILES):
        corpus = datasets.Dataset.from_dict({"text": texts_of_file(tiny_corpus, number)})
        stream = encode_corpus(corpus, tiny_tokenizer)
        expected += rows(ContiguousBlocks(stream, 16, shuffle=False, context_size=context_size))
    found = rows(encoded_blocks(folder, tiny_tokenizer, 16, context_size=context_size))
    assert len(found) > 100
    assert found == expected


def test_row_groups_do_not_show(folder, tiny_tokenizer, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_lineage.data.encoded_shards._ROW_GROUP", 100)
    encode, end = TextEncoder(tiny_tokenizer), np.array([tiny_tokenizer.eos_token_id], np.int32)
    documents = ([ids, end] for ids in encode(texts_of_file(tiny_corpus, 0)))
    number = write_shard(tmp_path / "a.parquet", documents, facts_of(tiny_tokenizer), sentences=False)
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups > 5
    assert number == len(file.read()["tokens"].combine_chunks().flatten())
    found = rows(encoded_blocks(tmp_path, tiny_tokenizer, 16))
    assert found == rows(encoded_blocks(folder, tiny_tokenizer, 16))[: len(found)]


def test_reading_resumes_in_the_middle_of_a_file(folder, tiny_tokenizer, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = rows(encoded_blocks(tmp_path, tiny_tokenizer, 16))
    reading = encoded_blocks(tmp_path, tiny_tokenizer, 16)
    for place, row in enumerate(reading):
        if place == len(whole) // 2:
            assert rows([row]) == [whole[place]]
            state = reading.state_dict()
            break
    resumed = encoded_blocks(tmp_path, tiny_tokenizer, 16)
    resumed.load_state_dict(state)
    # the files before are not read again
    (tmp_path / "00000.parquet").write_bytes(b"")
    assert rows(resumed) == whole[place + 1 :]


def test_each_process_reads_its_own_files(folder, tiny_tokenizer, monkeypatch):
    whole = rows(encoded_blocks(folder, tiny_tokenizer, 16))
    opened = []

    class Recording(parquet.ParquetFile):
        def __init__(self, path):
            opened.append(Path(path).name)
            super().__init__(path)

    monkeypatch.setattr("hf_lineage.data.encoded_shards.parquet.ParquetFile", Recording)
    read, files = [], []
    for process in range(2):
        opened.clear()
        loader = torch.utils.data.DataLoader(
            encoded_blocks(folder, tiny_tokenizer, 16), batch_size=1, collate_fn=default_data_collator
        )
        options = {"num_processes": 2, "process_index": process, "dispatch_batches": False}
        for batch in prepare_data_loader(loader, **options):
            read.append({name: value[0].tolist() for name, value in batch.items()})
        files.append(sorted(opened))
    assert files == [["00000.parquet", "00001.parquet"], ["00002.parquet", "00003.parquet"]]
    assert read == whole


def test_a_resumed_run_is_bit_identical(folder, tiny_tokenizer, tmp_path):
    def train(name, **options):
        torch.manual_seed(0)
        model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tiny_tokenizer), hidden_size=8, num_hidden_layers=1))
        arguments = LineageTrainingArguments(
            str(tmp_path / name), max_steps=8, save_steps=3, per_device_train_batch_size=50, report_to=[], use_cpu=True
        )
        blocks = encoded_blocks(folder, tiny_tokenizer, 16).repeat(None)
        trainer = LineageTrainer(model, arguments, train_dataset=blocks, data_collator=default_data_collator)
        trainer.train(**options)
        return model.state_dict()

    # more than a pass
    assert len(rows(encoded_blocks(folder, tiny_tokenizer, 16))) < 8 * 50
    expected = train("run")
    found = train("again", resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def test_sentences_of_the_files_are_those_of_the_texts(sentences_folder, tiny_corpus, tiny_tokenizer):
    texts = [text for number in range(FILES) for text in texts_of_file(tiny_corpus, number)]
    expected = encode_sentences(datasets.Dataset.from_dict({"text": texts}), tiny_tokenizer)
    tables = [parquet.read_table(path).to_pydict() for path in shards_of(sentences_folder, tiny_tokenizer, "lengths")]
    documents = []
    for table in tables:
        for tokens, lengths in zip(table["tokens"], table["lengths"], strict=True):
            documents.append(np.split(np.array(tokens, np.int32), np.cumsum(lengths)[:-1]))
    found = SentenceStream.of(documents)
    for name in ("tokens", "sentence_starts", "document_starts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_pairs_of_files_are_reproducible_and_resume(sentences_folder, tiny_tokenizer):
    def pairs(**options):
        return encoded_sentence_pairs(sentences_folder, tiny_tokenizer, 32, **options)

    whole = rows(pairs(duplicates=2, seed=3))
    assert whole == rows(pairs(duplicates=2, seed=3))
    assert whole != rows(pairs(duplicates=2, seed=4))
    once = rows(pairs(seed=3))
    assert whole[: len(once)] == once != whole[len(once) :]
    following = np.mean([row["next_sentence_label"] for row in whole])
    assert 0.3 < following < 0.9
    for row in whole:
        assert row["input_ids"][0] == tiny_tokenizer.cls_token_id
        # a random word in place of a masked one may be [SEP] too
        assert row["input_ids"].count(tiny_tokenizer.sep_token_id) >= 2
        assert len(row["input_ids"]) <= 32
    reading = pairs(duplicates=2, seed=3)
    for place, _ in enumerate(reading):
        if place == len(once) + 2:
            break
    resumed = pairs(duplicates=2, seed=3)
    resumed.load_state_dict(reading.state_dict())
    assert rows(resumed) == whole[place + 1 :]


def test_folders_that_do_not_fit_are_refused(folder, tiny_tokenizer, tiny_corpus, tmp_path):
    other = train_wordpiece(tiny_corpus[:50], vocab_size=150, show_progress=False)
    with pytest.raises(CorpusError, match="another tokenizer"):
        encoded_blocks(folder, other, 16)
    with pytest.raises(CorpusError, match="'lengths'"):
        encoded_sentence_pairs(folder, tiny_tokenizer)
    with pytest.raises(CorpusError, match=str(tmp_path)):
        encoded_blocks(tmp_path, tiny_tokenizer, 16)
    with pytest.raises(ValueError, match="block_size"):
        encoded_blocks(folder, tiny_tokenizer, 1)
    with pytest.raises(ValueError, match="duplicates"):
        encoded_sentence_pairs(folder, tiny_tokenizer, duplicates=0)
    (tmp_path / "cut.parquet").write_bytes((folder / "00000.parquet").read_bytes()[:-10])
    with pytest.raises(CorpusError, match=r"cut\.parquet"):
        encoded_blocks(tmp_path, tiny_tokenizer, 16)
