"""Packed documents: nothing lost, nothing seen across documents, and the loss of each document alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

from hf_lineage.data.packing import PackedDocuments
from hf_lineage.data.token_stream import TokenStream


EOS = 1
IGNORED = -100


def stream_of(documents):
    tokens, starts = [EOS], []
    for document in documents:
        starts.append(len(tokens))
        tokens += [*document, EOS]
    return TokenStream(np.array(tokens, dtype=np.int32), np.array(starts), 0, 0, 0)


def random_documents(count, longest, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(2, 30, size=draw.integers(0, longest + 1)).tolist() for _ in range(count)]


def runs(example):
    """The (tokens, labels) of each run of positions 0, 1, 2, ... in a block."""
    starts = [place for place, position in enumerate(example["position_ids"].tolist()) if position == 0]
    bounds = [*starts, len(example["position_ids"])]
    assert example["position_ids"].tolist() == [
        position for start, end in pairwise(bounds) for position in range(end - start)
    ]
    return [
        (example["input_ids"][start:end].tolist(), example["labels"][start:end].tolist())
        for start, end in pairwise(bounds)
    ]


@pytest.mark.parametrize("block_size", [2, 5, 16, 100])
def test_each_prediction_of_the_corpus_is_made_once(block_size):
    documents = random_documents(60, 30)
    packed = PackedDocuments(stream_of(documents), block_size, shuffle=False)
    predicted, padding = [], 0
    for example in packed:
        for name in ("input_ids", "labels", "position_ids"):
            assert example[name].shape == (block_size,)
            assert example[name].dtype == torch.int64
        for tokens, labels in runs(example):
            assert labels[0] == IGNORED
            if all(label == IGNORED for label in labels):
                assert set(tokens) == {EOS}
                padding += len(tokens)
            else:
                assert labels[1:] == tokens[1:]
                predicted += list(pairwise(tokens))
    expected = [pair for document in documents for pair in pairwise([EOS, *document, EOS])]
    assert sorted(predicted) == sorted(expected)
    assert packed.efficiency == pytest.approx(1 - padding / (len(packed) * block_size))


def test_documents_that_fit_are_whole():
    documents = [[number + 2] * (number % 7) for number in range(40)]
    packed = PackedDocuments(stream_of(documents), 9)
    whole = [tokens for example in packed for tokens, labels in runs(example) if any(label >= 0 for label in labels)]
    assert sorted(whole) == sorted([EOS, *document, EOS] for document in documents)


def test_a_long_document_is_cut_with_one_token_in_common():
    packed = PackedDocuments(stream_of([list(range(2, 11))]), 4, shuffle=False)
    pieces = sorted(runs(example)[0][0] for example in packed)
    # 10 predictions, 3 to a piece
    assert pieces == sorted([[EOS, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10], [10, EOS]])


def test_best_fit():
    # with their marks 7, 6, 5, 4, 3, 3: only [7, 3], [6, 4] and [5, 3] fit into three blocks of ten
    packed = PackedDocuments(stream_of([[2] * size for size in (1, 5, 3, 2, 4, 1)]), 10)
    assert len(packed) == 3
    assert packed.efficiency == pytest.approx(28 / 30)


def test_many_short_documents_waste_little():
    packed = PackedDocuments(stream_of(random_documents(2000, 60)), 128)
    assert packed.efficiency > 0.99


def test_no_attention_mask():
    example = PackedDocuments(stream_of([[2, 3]]), 8)[0]
    assert set(example) == {"input_ids", "labels", "position_ids"}


def test_order_follows_the_epoch_and_the_blocks_do_not():
    packed = PackedDocuments(stream_of(random_documents(200, 20)), 16, seed=3)
    epochs = []
    for epoch in (0, 1):
        packed.epoch = epoch
        epochs.append([tuple(example["input_ids"].tolist()) for example in packed])
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


@pytest.mark.parametrize("block_size", [1, 0])
def test_block_size_too_small(block_size):
    with pytest.raises(ValueError, match=f"block_size is {block_size}.*at least 2"):
        PackedDocuments(stream_of([[2]]), block_size)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_is_that_of_each_document_alone(attention):
    set_seed(0)
    config = GPT2Config(
        vocab_size=30,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=EOS,
        eos_token_id=EOS,
        attn_implementation=attention,
    )
    model = GPT2LMHeadModel(config).eval()
    documents = random_documents(20, 12)
    packed = PackedDocuments(stream_of(documents), 32)
    assert len(packed) < len(documents)
    batch = {name: torch.stack([example[name] for example in packed]) for name in packed[0]}
    with torch.no_grad():
        loss = model(**batch, use_cache=False).loss
        # each document by itself, without labels: the targets are made here
        losses = [
            cross_entropy(
                model(torch.tensor([[EOS, *document]]), use_cache=False).logits[0],
                torch.tensor([*document, EOS]),
                reduction="none",
            )
            for document in documents
        ]
        alone = torch.cat(losses).mean()
        # the test can fail: with one run of positions a block, documents see each other
        mixed = model(batch["input_ids"], labels=batch["labels"], use_cache=False).loss
    assert loss.item() == pytest.approx(alone.item(), abs=1e-5)
    assert abs(mixed.item() - alone.item()) > 1e-2
