"""Sentences in both directions: every word said once by each, letters kept, states that can be carried on."""

import datasets
import numpy as np
import pytest
import torch

from hf_lineage.data import BidirectionalStreams, CorpusError, EpochDataset, encode_bilm_corpus
from hf_lineage.tokenization import elmo_tokenizer, train_word_level


MARKS = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>"}
SENTENCES = ["the cat sat", "", "on the odd mat", "yes", "the odd cat of the house"]


@pytest.fixture
def tokenizer():
    known = ["the cat sat on mat yes of the"]
    return elmo_tokenizer(train_word_level(known, special_tokens=MARKS, show_progress=False))


@pytest.fixture
def stream(tokenizer):
    corpus = datasets.Dataset.from_dict({"text": SENTENCES})
    return encode_bilm_corpus(corpus, tokenizer, show_progress=False)


def expected_pairs(tokenizer):
    """(read, said) of each direction, sentence by sentence, written out."""
    forward, backward = [], []
    for sentence in filter(None, SENTENCES):
        words = ["<S>", *sentence.split(), "</S>"]
        forward += zip(words, words[1:], strict=False)
        backward += zip(words[::-1], words[-2::-1], strict=False)
    return forward, backward


def spelled(row):
    letters = [number - 1 for number in row if number < 257]
    return bytes(letters).decode() or {257: "<S>", 258: "</S>"}[int(row[1])]


def test_each_direction_says_every_word_once(stream, tokenizer):
    forward, backward = expected_pairs(tokenizer)
    assert stream.num_predictions == len(forward) == len(backward)
    windows = stream.window(0, stream.num_predictions)
    names = [[spelled(stream.characters[number]) for number in window] for window in windows]
    assert list(zip(names[0], names[1], strict=True)) == forward
    assert list(zip(names[2], names[3], strict=True)) == backward
    ids = [[tokenizer.convert_tokens_to_ids(word) for _, word in pairs] for pairs in (forward, backward)]
    assert stream.word_ids[windows[1]].tolist() == ids[0]
    assert stream.word_ids[windows[3]].tolist() == ids[1]
    assert stream.num_unknown == 3  # odd, odd, house


@pytest.mark.parametrize(("num_streams", "block_size"), [(1, 4), (3, 2), (2, 5)])
def test_streams_go_on_from_step_to_step(stream, num_streams, block_size):
    data = BidirectionalStreams(stream, num_streams, block_size)
    whole = stream.window(0, stream.num_predictions)
    names = ("input_ids", "shift_labels", "backward_input_ids", "backward_shift_labels")
    for name, expected in zip(names, whole, strict=True):
        for row in range(num_streams):
            parts = [data[step * num_streams + row] for step in range(data.num_steps)]
            assert [part["stream_step"] for part in parts] == list(range(data.num_steps))
            assert {part["stream"] for part in parts} == {row}
            start = row * data.stream_length
            length = data.num_steps * block_size
            found = torch.cat([part[name] for part in parts])
            assert found.tolist() == stream.word_ids[expected[start : start + length]].tolist()
    assert data.num_dropped == stream.num_predictions - len(data) * block_size


def test_characters_are_those_of_the_words(stream, tokenizer):
    example = BidirectionalStreams(stream, 1, 4)[0]
    assert example["char_ids"].tolist() == [tokenizer.characters_of(word) for word in ("<S>", "the", "cat", "sat")]
    assert [spelled(row) for row in example["backward_char_ids"].tolist()] == ["</S>", "sat", "cat", "the"]
    assert torch.equal(example["labels"], example["shift_labels"])
    assert "char_ids" not in BidirectionalStreams(stream, 1, 4, characters=False)[0]


def test_negatives_are_a_function_of_seed_epoch_and_step(stream):
    def draw(seed, epoch, position):
        data = BidirectionalStreams(stream, 2, 2, num_negatives=50, vocab_size=1000, seed=seed)
        assert isinstance(data, EpochDataset)
        data.epoch = epoch
        return tuple(data[position]["negative_ids"].tolist())

    assert draw(0, 0, 0) == draw(0, 0, 0) == draw(0, 0, 1)  # one step, two streams
    assert len({draw(0, 0, 0), draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 2)}) == 4
    data = BidirectionalStreams(stream, 2, 2, num_negatives=50, vocab_size=1000)
    batch = data.collate([data[0], data[1]])
    assert batch["negative_ids"].shape == (50,)
    assert batch["char_ids"].shape == (2, 2, 50)
    with pytest.raises(ValueError, match="num_negatives is 5.*vocab_size None"):
        BidirectionalStreams(stream, 2, 2, num_negatives=5)


def test_restarts_are_a_share_and_a_function_of_seed_epoch_and_block(stream):
    def restarts(share, epoch=0, seeds=range(100)):
        found = []
        for seed in seeds:
            data = BidirectionalStreams(stream, 2, 2, restart_share=share, seed=seed)
            data.epoch = epoch
            found += [bool(data[position]["restarts"]) for position in range(len(data))]
        return found

    found = restarts(0.3)
    # three standard deviations
    assert abs(np.mean(found) - 0.3) < 3 * (0.3 * 0.7 / len(found)) ** 0.5
    assert found == restarts(0.3)
    assert found != restarts(0.3, epoch=1)
    assert found != restarts(0.3, seeds=range(1, 101))
    assert all(restarts(1.0))
    assert "restarts" not in BidirectionalStreams(stream, 2, 2)[0]
    with pytest.raises(ValueError, match=r"restart_share is 1\.5.*\[0, 1\]"):
        BidirectionalStreams(stream, 2, 2, restart_share=1.5)


def test_text_that_is_none(tokenizer):
    for texts, message in (([], "no sentence"), (["", " "], "no sentence"), ([None], "None.*not text")):
        corpus = datasets.Dataset.from_dict({"text": texts})
        with pytest.raises(CorpusError, match=message):
            encode_bilm_corpus(corpus, tokenizer, show_progress=False)


def test_normalised_words_keep_their_letters():
    lower = elmo_tokenizer(train_word_level(["the"], special_tokens=MARKS, lowercase=True, show_progress=False))
    stream = encode_bilm_corpus([{"text": "The THE the"}], lower, show_progress=False)
    read, said, _, _ = stream.window(0, 3)
    assert [spelled(row) for row in stream.characters[said]] == ["The", "THE", "the"]
    assert np.unique(stream.word_ids[said]).size == 1
    assert read[0] == 0
