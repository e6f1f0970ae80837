"""Pruned counts: the stated bounds against exact counts, merging, files, and what they feed."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_lineage.data import CorpusError
from hf_lineage.tokenization import (
    RULES,
    TRAINERS,
    PrunedCounts,
    extend_word_level,
    train_byte_pairs,
    train_characters,
    train_word_level,
    train_wordpiece,
)
from hf_lineage.tokenization.roles import special_roles
from hf_lineage.tokenization.word_counts import count_words_in_stretches, rules_of


def counts_of(words, limit, stretch=7):
    counts = PrunedCounts(limit)
    for start in range(0, len(words), stretch):
        counts.add(Counter(words[start : start + stretch]))
    return counts


def check_bounds(counts: PrunedCounts, true: Counter):
    """count ≤ true ≤ counter + E for every word, E ≤ (N − C) / (k + 1), at most k words."""
    table = counts.table.to_pydict()
    kept = {word: (count, counter) for word, count, counter in zip(*table.values(), strict=True)}
    assert len(kept) == len(table["word"]) <= counts.limit
    for word, frequency in true.items():
        count, counter = kept.get(word, (0, 0))
        assert count <= frequency <= counter + counts.error
    assert kept.keys() <= true.keys()
    assert counts.total == true.total()
    assert counts.error * (counts.limit + 1) <= counts.total - sum(table["counter"])


WORDS = st.lists(st.sampled_from("abcdefghijklmnop"), max_size=120)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 9))
def test_bounds_hold_for_any_words_and_any_merging(parts, limit, stretch):
    merged, true = PrunedCounts(limit), Counter()
    for words in parts:
        one = counts_of(words, limit, stretch)
        check_bounds(one, Counter(words))
        merged.merge(one)
        true.update(words)
        check_bounds(merged, true)


@pytest.mark.parametrize("limit", [50, 400])
def test_bounds_of_a_zipfian_text_in_shards(limit):
    draw = np.random.default_rng(0)
    parts = [[f"w{rank}" for rank in draw.zipf(1.2, 5_000)] for _ in range(6)]
    merged, true = PrunedCounts(limit), Counter()
    for words in parts:
        merged.merge(counts_of(words, limit, 500))
        true.update(words)
    check_bounds(merged, true)
    assert 0 < merged.error <= true.total() / (limit + 1)
    # every word above the error is there, and the most frequent ones, never dropped, are exact
    kept = dict(merged.items())
    assert all(word in kept for word, frequency in true.items() if frequency > merged.error)
    assert all(kept[word] == frequency for word, frequency in true.most_common(5))


def test_counts_that_were_not_pruned_are_exact():
    words = [random.choice("abcdef") for _ in range(500)]
    merged = counts_of(words[:300], 6)
    merged.merge(counts_of(words[300:], 6))
    assert merged.error == 0
    assert dict(merged.items()) == Counter(words)


def test_pruning_by_hand():
    counts = PrunedCounts(2)
    counts.add({"a": 5, "b": 3})
    counts.add({"c": 2, "d": 1})
    # the third largest counter is 2
    assert dict(counts.items()) == {"a": 5, "b": 3}
    assert counts.error == 2
    assert sorted(counts.table["counter"].to_pylist()) == [1, 3]
    # c comes back: its count misses the 2 before, which the error covers
    counts.add({"c": 4})
    assert dict(counts.items()) == {"a": 5, "c": 4}
    assert counts.error == 3


def test_files_hold_all_and_equal_counts_give_equal_bytes(tmp_path):
    words = [f"wort{draw}" for draw in np.random.default_rng(1).zipf(1.3, 3_000)]
    one, other = counts_of(words, 100, 10), PrunedCounts(100)
    one.save(tmp_path / "one")
    other.merge(PrunedCounts.load(tmp_path / "one"))
    other.save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    again = PrunedCounts.load(tmp_path / "one")
    assert (again.limit, again.total, again.error) == (100, 3_000, one.error)
    assert dict(again.items()) == dict(one.items())
    assert again.table["word"].to_pylist() == sorted(dict(one.items()))


def test_files_that_hold_no_counts_are_refused(tmp_path):
    (tmp_path / "text").write_text("a 1")
    with pytest.raises(CorpusError, match="text"):
        PrunedCounts.load(tmp_path / "text")
    with pytest.raises(ValueError, match="no files"):
        PrunedCounts.merged([])
    with pytest.raises(ValueError, match="limit"):
        PrunedCounts(0)
    other = PrunedCounts(5, {"words": "others"})
    with pytest.raises(ValueError, match="others"):
        PrunedCounts(5).merge(other)


def counted(texts, kind, special_tokens=None, limit=1_000, **rules):
    """What `hf_lineage.scale` counts."""
    parts = RULES[kind](**rules)
    specials = list(dict.fromkeys(special_roles(special_tokens).values()))
    counts = PrunedCounts(limit, {"words": rules_of(*parts, specials)})
    for stretch in count_words_in_stretches(texts, *parts, specials):
        counts.add(stretch)
    return counts


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("lowercase", [True, False])
def test_trainers_make_the_same_tokenizer_of_counts_and_of_texts(tiny_corpus, kind, lowercase):
    texts = [*tiny_corpus, "[SEP] Ada's  dog\tdoesn't [MASK]\n 你好 naïve"]
    settings = {"lowercase": lowercase, "show_progress": False}
    size = {"vocab_size": 400} if kind == "byte_pairs" else {}
    expected = TRAINERS[kind](texts, **size, **settings)
    found = TRAINERS[kind](counted(texts, kind, lowercase=lowercase), **size, **settings)
    assert found.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()


def test_a_vocabulary_grows_by_counts(tiny_corpus):
    tokenizer = train_word_level(tiny_corpus[:20], show_progress=False)
    expected = extend_word_level(tokenizer, tiny_corpus, show_progress=False)
    found = extend_word_level(tokenizer, counted(tiny_corpus, "word_level"), show_progress=False)
    assert found.get_vocab() == expected.get_vocab()


def test_counts_of_other_words_are_refused(tiny_corpus):
    counts = counted(tiny_corpus, "wordpiece")
    for train, options in (
        (train_byte_pairs, {}),
        (train_word_level, {}),
        (train_wordpiece, {"lowercase": False}),
        (train_wordpiece, {"special_tokens": {"unk_token": "<unk>"}}),
        (train_characters, {}),
    ):
        with pytest.raises(ValueError, match="PrunedCounts|counts are of other words"):
            train(counts, show_progress=False, **options)


def test_pruned_counts_warn_the_trainers(tiny_corpus):
    with pytest.warns(UserWarning, match="pruned"):
        train_word_level(counted(tiny_corpus, "word_level", limit=20), show_progress=False)
