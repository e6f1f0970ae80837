"""Batches of sentence pairs: functions of (seed, epoch), within their budget, the same for one process or many."""

import numpy as np
import pytest
import torch

from hf_lineage.data import CorpusError, PairCollator, TokenBuckets, TranslationPairs, grammar_corpus
from hf_lineage.tokenization import train_word_level


@pytest.fixture(scope="module")
def tokenizer():
    corpus = grammar_corpus("train", 300)
    return train_word_level([*corpus["source"], *corpus["target"]], show_progress=False)


@pytest.fixture(scope="module")
def pairs(tokenizer):
    return TranslationPairs(grammar_corpus("train", 300), tokenizer, show_progress=False)


def buckets(pairs, parts=1, tokens=64, seed=0, epoch=0):
    dataset = TokenBuckets(pairs, tokens, pad_token_id=0, parts=parts, seed=seed)
    dataset.epoch = epoch
    return dataset


def contents(dataset) -> list[list[tuple]]:
    """Of each example, its rows without padding."""
    return [
        [
            (tuple(source[mask.bool()].tolist()), tuple(target[target != -100].tolist()))
            for source, mask, target in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
        ]
        for batch in dataset
    ]


def test_pairs_are_what_the_tokenizer_gives(pairs, tokenizer):
    corpus = grammar_corpus("train", 300)
    assert len(pairs) == 300
    for index in (0, 17, 299):
        assert pairs[index]["input_ids"].tolist() == tokenizer(corpus[index]["source"]).input_ids
        assert pairs[index]["labels"].tolist() == tokenizer(corpus[index]["target"]).input_ids
    assert pairs.source_lengths[17] == len(pairs[17]["input_ids"])


def test_long_pairs_are_left_out(pairs, tokenizer):
    fewer = TranslationPairs(grammar_corpus("train", 300), tokenizer, max_length=9, show_progress=False)
    longest = np.maximum(pairs.source_lengths, pairs.target_lengths)
    assert len(fewer) == (longest <= 9).sum() < 300
    assert max(fewer.source_lengths.max(), fewer.target_lengths.max()) == 9
    with pytest.raises(CorpusError, match=" 300 .* 2 tokens.*max_length"):
        TranslationPairs(grammar_corpus("train", 300), tokenizer, max_length=2, show_progress=False)
    nothing = grammar_corpus("train", 300).select(range(0))
    for max_length in (None, 9):
        with pytest.raises(CorpusError, match="^the corpus has no sentence pair"):
            TranslationPairs(nothing, tokenizer, max_length=max_length, show_progress=False)


def test_every_pair_comes_once_an_epoch_within_the_budget(pairs):
    expected = sorted((tuple(pair["input_ids"].tolist()), tuple(pair["labels"].tolist())) for pair in pairs)
    for epoch in range(3):
        dataset = buckets(pairs, epoch=epoch)
        assert sorted(row for batch in contents(dataset) for row in batch) == expected
        for batch in dataset:
            assert max(batch["input_ids"].numel(), batch["labels"].numel()) <= 64
    # a batch is full: one more row of its length would be too much for most of them
    fill = [max(batch["input_ids"].numel(), batch["labels"].numel()) / 64 for batch in buckets(pairs)]
    assert np.mean(fill) > 0.8


def test_batches_are_a_function_of_seed_and_epoch(pairs):
    first = contents(buckets(pairs, seed=3, epoch=2))
    assert contents(buckets(pairs, seed=3, epoch=2)) == first
    used = buckets(pairs, seed=3, epoch=0)
    contents(used)
    used.epoch = 2
    assert contents(used) == first
    for other in (buckets(pairs, seed=3, epoch=1), buckets(pairs, seed=4, epoch=2)):
        assert len(other) == len(first)
        # other neighbours, not only another order
        assert {frozenset(batch) for batch in contents(other)} != {frozenset(batch) for batch in first}
        assert contents(other) != first


def test_parts_make_up_the_same_batches(pairs):
    whole = contents(buckets(pairs, epoch=1))
    for parts in (2, 3):
        dealt = contents(buckets(pairs, parts=parts, epoch=1))
        assert len(dealt) == parts * len(whole)
        for index, batch in enumerate(whole):
            rows = [row for part in dealt[index * parts : (index + 1) * parts] for row in part]
            assert sorted(row for row in rows if row[1]) == sorted(batch)


def test_a_part_without_a_row_teaches_nothing(pairs):
    dataset = buckets(pairs, parts=8, tokens=30)
    empty = [batch for batch in dataset if (batch["labels"] == -100).all()]
    assert empty
    assert all(batch["input_ids"].shape[0] == 1 for batch in empty)
    assert sum(bool((batch["labels"] != -100).any()) for batch in dataset) <= 300


@pytest.mark.parametrize(
    ("settings", "message"), [({"tokens": 5}, "tokens_per_batch is 5, but a text has"), ({"parts": 0}, "parts is 0")]
)
def test_bad_settings_are_named(pairs, settings, message):
    with pytest.raises(ValueError, match=message):
        buckets(pairs, **settings)


def test_collator_pads():
    rows = [
        {"input_ids": torch.tensor([5, 6]), "labels": torch.tensor([7])},
        {"input_ids": torch.tensor([8]), "labels": torch.tensor([9, 10, 11])},
    ]
    batch = PairCollator(pad_token_id=4)(rows)
    assert batch["input_ids"].tolist() == [[5, 6], [8, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[7, -100, -100], [9, 10, 11]]
    assert PairCollator(pad_token_id=4)([batch]) is batch
