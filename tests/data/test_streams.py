"""Token streams, blocks and parallel streams, against plain lists of tokens."""

import datasets
import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, IterableDatasetShard
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from hf_lineage.data import token_stream
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.streamed_blocks import StreamedBlocks
from hf_lineage.data.streams import BlocksWithNegatives, ContiguousBlocks, ParallelStreams, VariableStreams
from hf_lineage.data.text_files import CorpusError
from hf_lineage.data.token_stream import TokenStream, encode_corpus


UNK, EOS = 0, 1
WORDS = {"<unk>": UNK, "<eos>": EOS, **{letter: 2 + number for number, letter in enumerate("abcdefgh")}}


@pytest.fixture
def tokenizer():
    backend = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # a template, and a short model, that a stream must not show
    backend.post_processor = processors.TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", model_max_length=4, truncation_side="left"
    )


def corpus_of(*texts):
    return datasets.Dataset.from_dict({"text": list(texts)})


def stream_of(tokens):
    return TokenStream(np.array(tokens, dtype=np.int32), np.array([1]), 0, 0, 0)


# --- encode_corpus ---


def test_stream_begins_and_ends_each_document_with_an_end_mark(tokenizer):
    stream = encode_corpus(corpus_of("a b  zzz", "", "c d e f g h a"), tokenizer)
    assert stream.tokens.tolist() == [EOS, 2, 3, UNK, EOS, EOS, 4, 5, 6, 7, 8, 9, 2, EOS]
    assert stream.tokens.dtype == np.int32
    assert stream.document_starts.tolist() == [1, 5, 6]
    assert stream.num_words == (3 + 1) + (0 + 1) + (7 + 1)
    assert stream.num_characters == (8 + 1) + (0 + 1) + (13 + 1)
    assert stream.num_unknown == 1
    assert stream.num_predictions == 13
    assert stream.eos_token_id == EOS


def test_long_corpus_in_processes_and_a_selection_keep_the_order(tokenizer, caplog):
    letters = [WORDS[letter] for letter in "abcdefgh"]
    corpus = corpus_of(*[" ".join("abcdefgh"[: row % 8]) for row in range(5000)]).select(range(4999, -1, -1))
    stream = encode_corpus(corpus, tokenizer, num_proc=2)
    expected = [EOS] + [token for row in range(4999, -1, -1) for token in (*letters[: row % 8], EOS)]
    assert stream.tokens.tolist() == expected
    assert all(stream.tokens[start - 1] == EOS for start in stream.document_starts)
    assert "longer than" not in caplog.text


@pytest.fixture
def corpus_on_disk(tmp_path):
    """Only what was read from a file has a cache that outlives the process."""
    corpus_of("a b", "c").to_parquet(tmp_path / "corpus.parquet")
    files = {"train": str(tmp_path / "corpus.parquet")}
    return datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))["train"]


def test_a_second_call_reads_the_cache(tokenizer, corpus_on_disk, monkeypatch):
    first = encode_corpus(corpus_on_disk, tokenizer)
    monkeypatch.setattr(TextEncoder, "__call__", lambda *_: pytest.fail("tokenized again"))
    assert encode_corpus(corpus_on_disk, tokenizer).tokens.tolist() == first.tokens.tolist()


def test_the_cache_is_of_one_tokenizer(tokenizer, corpus_on_disk):
    # the same class, settings and number of tokens; only the ids of two letters differ
    swapped = Tokenizer(models.WordLevel(WORDS | {"a": WORDS["b"], "b": WORDS["a"]}, unk_token="<unk>"))
    swapped.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    other = PreTrainedTokenizerFast(
        tokenizer_object=swapped, unk_token="<unk>", eos_token="<eos>", model_max_length=4, truncation_side="left"
    )
    a, b, c = (WORDS[letter] for letter in "abc")
    assert encode_corpus(corpus_on_disk, tokenizer).tokens.tolist() == [EOS, a, b, EOS, c, EOS]
    assert encode_corpus(corpus_on_disk, other).tokens.tolist() == [EOS, b, a, EOS, c, EOS]
    assert encode_corpus(corpus_on_disk, tokenizer).tokens.tolist() == [EOS, a, b, EOS, c, EOS]
    # nor is it of a tokenizer that has changed since
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("c", "b")
    assert encode_corpus(corpus_on_disk, tokenizer).tokens.tolist() == [EOS, a, b, EOS, b, EOS]


def test_a_new_encoding_rule_does_not_read_the_old_cache(tokenizer, corpus_on_disk, monkeypatch):
    encode_corpus(corpus_on_disk, tokenizer)
    monkeypatch.setattr(TextEncoder, "__call__", lambda _, texts: [np.array([], np.int32) for _ in texts])
    monkeypatch.setattr(token_stream, "_ENCODING_VERSION", token_stream._ENCODING_VERSION + 1)
    with pytest.raises(CorpusError, match="no text"):
        encode_corpus(corpus_on_disk, tokenizer)


def test_tokenizer_without_end_mark(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match='no eos_token.*tokenizer.eos_token = "'):
        encode_corpus(corpus_of("a"), tokenizer)


@pytest.mark.reliability("C4")
@pytest.mark.parametrize(("texts", "message"), [((), "no documents"), (("", " "), "no text.* 2 documents")])
def test_empty_corpus(tokenizer, texts, message):
    corpus = corpus_of(*texts).cast(datasets.Features(text=datasets.Value("string")))
    with pytest.raises(CorpusError, match=message):
        encode_corpus(corpus, tokenizer)


def test_row_that_is_not_text(tokenizer):
    with pytest.raises(CorpusError, match="row 1 of the corpus is None"):
        encode_corpus(corpus_of("a", None), tokenizer)


# --- ContiguousBlocks ---


@pytest.mark.parametrize(("length", "block_size"), [(13, 4), (13, 5), (14, 5), (4, 4), (9, 2)])
def test_each_token_is_predicted_once(length, block_size):
    tokens = list(range(100, 100 + length))
    blocks = ContiguousBlocks(stream_of(tokens), block_size, shuffle=False)
    predicted = []
    for block in blocks:
        assert block["input_ids"].shape == (block_size,)
        assert block["input_ids"].dtype == torch.int64
        assert torch.equal(block["labels"], block["input_ids"])
        predicted += block["labels"][1:].tolist()
    assert len(predicted) + blocks.num_dropped == length - 1
    assert predicted == tokens[1 : 1 + len(predicted)]
    assert blocks.num_dropped < block_size - 1


def test_blocks_are_shuffled_by_seed_and_epoch():
    blocks = ContiguousBlocks(stream_of(range(41)), 3, seed=1)
    starts = [int(block["input_ids"][0]) for block in blocks]
    assert sorted(starts) == list(range(0, 40, 2))
    assert starts != sorted(starts)
    blocks.epoch = 1
    assert [int(block["input_ids"][0]) for block in blocks] != starts


def test_labels_do_not_share_memory_with_input():
    block = ContiguousBlocks(stream_of(range(5)), 3)[0]
    block["labels"][:] = -100
    assert (block["input_ids"] >= 0).all()


@pytest.mark.parametrize("block_size", [1, 0, -3])
def test_block_size_too_small(block_size):
    with pytest.raises(ValueError, match=f"block_size is {block_size}.*at least 2"):
        ContiguousBlocks(stream_of(range(9)), block_size)


def test_stream_shorter_than_a_block():
    with pytest.raises(CorpusError, match="9 tokens.*block_size=10"):
        ContiguousBlocks(stream_of(range(9)), 10)


@pytest.mark.parametrize("context_size", [1, 2, 4])
def test_blocks_for_a_window_predict_each_token_once_with_its_whole_context(context_size):
    blocks = ContiguousBlocks(stream_of(range(43)), 6, shuffle=False, context_size=context_size)
    predicted = []
    for block in blocks:
        scored = (block["labels"][1:] != -100).nonzero()[:, 0] + 1
        for position in scored.tolist():
            token = block["input_ids"][position].item()
            assert block["labels"][position] == token
            # as much before it as the window holds, or all that there is
            assert position >= min(context_size, token)
            predicted.append(token)
    assert predicted == list(range(1, 43 - blocks.num_dropped))
    assert blocks.num_dropped < 6


@pytest.mark.parametrize("context_size", [0, 6])
def test_context_must_leave_something_to_predict(context_size):
    with pytest.raises(ValueError, match=f"context_size is {context_size}; it must lie between 1 and 5"):
        ContiguousBlocks(stream_of(range(43)), 6, context_size=context_size)


def test_negatives_are_a_function_of_seed_epoch_and_block():
    def negatives(seed=0, epoch=0):
        blocks = BlocksWithNegatives(stream_of(range(43)), 6, 50, 8, seed=seed, context_size=2)
        blocks.epoch = epoch
        return {tuple(block["input_ids"].tolist()): block["negative_ids"].tolist() for block in blocks}

    first = negatives()
    assert negatives() == first
    assert len(set(map(tuple, first.values()))) == len(first) == 10
    assert all(len(words) == 8 and min(words) >= 0 and max(words) < 50 for words in first.values())
    for other in (negatives(seed=1), negatives(epoch=1)):
        assert other.keys() == first.keys()
        assert all(other[block] != first[block] for block in first)
    with pytest.raises(ValueError, match="num_negatives is 0"):
        BlocksWithNegatives(stream_of(range(43)), 6, 50, 0)


# --- ParallelStreams ---


def test_rows_continue_from_batch_to_batch():
    tokens = np.arange(100, 132)
    dataset = ParallelStreams(stream_of(tokens), num_streams=3, block_size=4)
    rows = [[] for _ in range(3)]
    for batch in DataLoader(dataset, batch_size=3):
        assert batch["stream"].tolist() == [0, 1, 2]
        assert len(set(batch["stream_step"].tolist())) == 1
        for row in range(3):
            assert batch["labels"][row].tolist() == batch["input_ids"][row].tolist()
            assert batch["shift_labels"][row].tolist() == (batch["input_ids"][row] + 1).tolist()
            rows[row] += batch["input_ids"][row].tolist()
    # 31 predictions: 10 per stream, and 8 of these fill two steps
    assert rows == [list(range(start, start + 8)) for start in (100, 110, 120)]
    assert dataset.num_dropped == 31 - 24


def test_one_stream_of_single_tokens_predicts_everything():
    dataset = ParallelStreams(stream_of(range(9)), num_streams=1, block_size=1)
    assert [int(example["shift_labels"]) for example in dataset] == list(range(1, 9))
    assert dataset.num_dropped == 0


@pytest.mark.parametrize("num_processes", [2, 4])
def test_each_process_keeps_its_streams(num_processes):
    dataset = ParallelStreams(stream_of(range(90)), num_streams=4, block_size=3)
    per_process = 4 // num_processes
    for process in range(num_processes):
        sampler = BatchSamplerShard(
            BatchSampler(SequentialSampler(dataset), per_process, drop_last=False), num_processes, process
        )
        streams_seen = [batch["stream"].tolist() for batch in DataLoader(dataset, batch_sampler=sampler)]
        own = list(range(process * per_process, (process + 1) * per_process))
        assert streams_seen == [own] * dataset.num_steps


@pytest.mark.parametrize(
    ("num_streams", "block_size", "message"),
    [(0, 3, "num_streams is 0.*at least 1"), (2, 0, "block_size is 0.*at least 1")],
)
def test_parallel_streams_settings(num_streams, block_size, message):
    with pytest.raises(ValueError, match=message):
        ParallelStreams(stream_of(range(9)), num_streams, block_size)


def test_parallel_streams_of_a_short_stream():
    assert len(ParallelStreams(stream_of(range(9)), 2, 4)) == 2
    with pytest.raises(CorpusError, match="8 tokens, fewer than the 9 .* num_streams=2 by block_size=4"):
        ParallelStreams(stream_of(range(8)), 2, 4)


@pytest.mark.parametrize("position", [-1, 2])
def test_parallel_streams_position(position):
    with pytest.raises(IndexError, match="2 examples"):
        ParallelStreams(stream_of(range(9)), 2, 4)[position]


def test_variable_blocks_read_every_stream_whole_in_another_way_each_epoch():
    dataset = VariableStreams(stream_of(range(6002)), num_streams=3, block_size=40, seed=1)
    cuts = []
    for epoch in range(2):
        dataset.epoch = epoch
        rows, lengths = [[] for _ in range(3)], []
        for batch in DataLoader(dataset, batch_size=3):
            assert torch.equal(batch["shift_labels"], batch["input_ids"] + 1)
            lengths.append(batch["input_ids"].shape[1])
            for row in range(3):
                rows[row] += batch["input_ids"][row].tolist()
        assert rows == [list(range(start, start + 2000)) for start in (0, 2000, 4000)]
        assert len(lengths) == dataset.num_steps == round(2000 / 39)
        assert 3 < np.std([length for length in lengths if length > 30]) < 8
        cuts.append(lengths)
    assert cuts[0] != cuts[1]
    again = VariableStreams(stream_of(range(6002)), num_streams=3, block_size=40, seed=1)
    # whichever step is asked for first
    assert [len(again[3 * step]["input_ids"]) for step in reversed(range(again.num_steps))] == cuts[0][::-1]
    assert dataset.num_dropped == 1
    with pytest.raises(ValueError, match="block_size is 4"):
        VariableStreams(stream_of(range(99)), 2, 4)


# --- StreamedBlocks ---


TEXTS = [" ".join("abcdefgh"[row % 8 :]) for row in range(700)]


@pytest.fixture
def streamed():
    return corpus_of(*TEXTS).to_iterable_dataset(num_shards=4)


def ids(blocks):
    return [tuple(block["input_ids"].tolist()) for block in blocks]


def test_streamed_blocks_are_the_contiguous_ones(tokenizer, streamed):
    expected = ContiguousBlocks(encode_corpus(corpus_of(*TEXTS), tokenizer), 6, shuffle=False)
    blocks = list(StreamedBlocks(streamed, tokenizer, 6))
    assert ids(blocks) == ids(expected)
    assert all(torch.equal(block["input_ids"], block["labels"]) for block in blocks)
    assert blocks[0]["input_ids"].dtype == torch.int64


def test_streamed_blocks_for_a_window_are_the_contiguous_ones(tokenizer, streamed):
    expected = ContiguousBlocks(encode_corpus(corpus_of(*TEXTS), tokenizer), 6, shuffle=False, context_size=3)
    blocks = list(StreamedBlocks(streamed, tokenizer, 6, context_size=3))
    assert ids(blocks) == ids(expected)
    assert [block["labels"].tolist() for block in blocks] == [block["labels"].tolist() for block in expected]
    with pytest.raises(ValueError, match="context_size is 6"):
        StreamedBlocks(streamed, tokenizer, 6, context_size=6)


def test_streamed_blocks_read_lazily(tokenizer):
    read = []

    def documents():
        for row in range(100_000):
            read.append(row)
            yield {"text": "a b c"}

    blocks = iter(StreamedBlocks(datasets.IterableDataset.from_generator(documents), tokenizer, 6))
    for _ in range(3):
        next(blocks)
    assert len(read) < 1000


def test_shuffle_buffer_is_a_function_of_seed_and_pass(tokenizer, streamed):
    plain = ids(StreamedBlocks(streamed, tokenizer, 6))
    two_passes = ids(StreamedBlocks(streamed, tokenizer, 6, seed=1, shuffle_buffer=50, passes=2))
    first, second = two_passes[: len(plain)], two_passes[len(plain) :]
    assert sorted(first) == sorted(second) == sorted(plain)
    assert first != plain
    assert first != second
    assert two_passes == ids(StreamedBlocks(streamed, tokenizer, 6, seed=1, shuffle_buffer=50, passes=2))
    assert first != ids(StreamedBlocks(streamed, tokenizer, 6, seed=2, shuffle_buffer=50))


def test_without_end(tokenizer, streamed):
    one_pass = ids(StreamedBlocks(streamed, tokenizer, 6))
    endless = iter(StreamedBlocks(streamed, tokenizer, 6, passes=None))
    read = ids(next(endless) for _ in range(2 * len(one_pass) + 5))
    assert read == one_pass + one_pass + one_pass[:5]


def test_resumed_run_on_streamed_blocks_is_bit_identical(tokenizer, tmp_path):
    """The step where it stops lies in the second pass through the corpus."""
    corpus = corpus_of(*TEXTS[:10]).to_iterable_dataset()
    assert len(ids(StreamedBlocks(corpus, tokenizer, 6))) < 7 * 2

    def train(folder, resume=None):
        set_seed(0)
        trainer = Trainer(
            GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2)),
            TrainingArguments(
                str(folder), max_steps=12, per_device_train_batch_size=2, save_steps=7, disable_tqdm=True, use_cpu=True
            ),
            train_dataset=StreamedBlocks(corpus, tokenizer, 6, shuffle_buffer=4, passes=None),
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer.model.state_dict()

    unbroken = train(tmp_path / "unbroken")
    resumed = train(tmp_path / "resumed", resume=str(tmp_path / "unbroken" / "checkpoint-7"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())


def document_tokens(blocks):
    return sorted(token for block in blocks for token in block[1:])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [2, 6])
def test_workers_do_not_repeat_documents(tokenizer, num_workers):
    # every document has a token of its own
    names = [f"w{row}" for row in range(400)]
    vocabulary = {"<eos>": 0, **{name: 1 + row for row, name in enumerate(names)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    corpus = corpus_of(*names).to_iterable_dataset(num_shards=4)
    blocks = StreamedBlocks(corpus, tokenizer, 3, shuffle_buffer=10)
    loader = DataLoader(blocks, batch_size=None, num_workers=num_workers, multiprocessing_context="fork")
    assert document_tokens(ids(loader)) == sorted([*range(1, 401)] + [0] * 400)
    assert ids(loader) == ids(loader)


def test_processes_share_the_blocks(tokenizer, streamed):
    blocks = StreamedBlocks(streamed, tokenizer, 6, shuffle_buffer=20)
    shards = [
        ids(IterableDatasetShard(blocks, batch_size=3, num_processes=2, process_index=process, drop_last=True))
        for process in range(2)
    ]
    whole = ids(blocks)[: 2 * len(shards[0])]
    assert sorted(shards[0] + shards[1]) == sorted(whole)


def test_streamed_blocks_of_a_short_corpus(tokenizer):
    corpus = corpus_of("a b c").to_iterable_dataset()
    assert len(ids(StreamedBlocks(corpus, tokenizer, 5))) == 1
    with pytest.raises(CorpusError, match="tokens.*block_size=6"):
        list(StreamedBlocks(corpus, tokenizer, 6, passes=None))


def test_streamed_row_that_is_not_text(tokenizer):
    with pytest.raises(CorpusError, match="row 1 of the corpus is None"):
        list(StreamedBlocks(corpus_of("a", None).to_iterable_dataset(), tokenizer, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 1}, "block_size is 1"),
        ({"shuffle_buffer": -1}, "shuffle_buffer is -1"),
        ({"passes": 0}, "passes is 0"),
    ],
)
def test_streamed_blocks_settings(tokenizer, streamed, settings, message):
    with pytest.raises(ValueError, match=message):
        StreamedBlocks(streamed, tokenizer, **{"block_size": 6, **settings})


def test_streamed_blocks_want_a_streamed_corpus(tokenizer):
    with pytest.raises(TypeError, match="streaming=True"):
        StreamedBlocks(corpus_of("a"), tokenizer, 2)


def test_streamed_blocks_want_an_end_mark(tokenizer, streamed):
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        StreamedBlocks(streamed, tokenizer, 2)
