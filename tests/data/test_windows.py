"""word2vec's blocks: what is kept, who is whose neighbour, which words are noise."""

import numpy as np
import pytest
from datasets import Dataset

from hf_lineage.data import WordFile, WordWindows
from hf_lineage.data.text_files import CorpusError
from hf_lineage.data.windows import SENTENCE_END, AliasTable, keep_probabilities
from hf_lineage.tokenization import train_word_level


TEXTS = ["a b c a", "d a", "e", "b a e a c d a b a c"]


@pytest.fixture
def tokenizer():
    return train_word_level(TEXTS, special_tokens={"unk_token": "<unk>"}, show_progress=False)


@pytest.fixture
def words(tokenizer, tmp_path):
    return WordFile.write(tmp_path / "ids", TEXTS * 40, tokenizer, show_progress=False)


def test_file_holds_sentences_without_unknown_words(tokenizer, tmp_path):
    words = WordFile.write(tmp_path / "ids", ["a b never a", "", "never"], tokenizer, show_progress=False)
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    assert words.ids.tolist() == [a, b, a, SENTENCE_END, SENTENCE_END, SENTENCE_END]
    assert words.num_words == 3
    assert words.counts[[a, b]].tolist() == [2, 1]
    assert np.array_equal(WordFile(tmp_path / "ids", len(tokenizer)).counts, words.counts)


def test_text_of_unknown_words_leaves_the_old_file(tokenizer, words):
    before = words.path.read_bytes()
    with pytest.raises(CorpusError, match="no word"):
        WordFile.write(words.path, ["never"], tokenizer, show_progress=False)
    assert words.path.read_bytes() == before
    assert [path.name for path in words.path.parent.iterdir()] == ["ids"]


def test_file_of_another_vocabulary_is_refused(words):
    with pytest.raises(ValueError, match="vocabulary has 3 words"):
        WordFile(words.path, 3)


def test_keep_probabilities_are_gensims():
    gensim = pytest.importorskip("gensim.models.word2vec")
    counts = np.array([5_000, 1_000, 200, 30, 5])
    for threshold in (1e-2, 1e-3):
        model = gensim.Word2Vec(min_count=1, sample=threshold, vector_size=2)
        model.build_vocab_from_freq({f"w{i}": int(count) for i, count in enumerate(counts)})
        theirs = [model.wv.get_vecattr(f"w{i}", "sample_int") / (2**32 - 1) for i in range(5)]
        np.testing.assert_allclose(keep_probabilities(counts, threshold), theirs, rtol=1e-5)
    assert keep_probabilities(counts, 0).tolist() == [1] * 5


def test_alias_table_draws_from_the_distribution():
    probabilities = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    table = AliasTable(probabilities)
    # exactly: what each slot gives to itself and to its alias
    exact = np.zeros(5)
    np.add.at(exact, np.arange(5), table.share / 5)
    np.add.at(exact, table.alias, (1 - table.share) / 5)
    np.testing.assert_allclose(exact, probabilities, atol=1e-7)
    drawn = table.draw(np.random.default_rng(0), (200_000,))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 200_000, probabilities, atol=0.005)


def test_neighbours_stay_in_window_and_sentence(words):
    data = WordWindows(words, window=2, subsample=0, block_size=len(words.ids), shuffle=False)
    example = data[0]
    ids, low, high = example["ids"], example["low"], example["high"]
    assert np.array_equal(ids, words.ids[words.ids != SENTENCE_END])
    sentence = np.cumsum(words.ids == SENTENCE_END)[words.ids != SENTENCE_END]
    reaches = []
    for i in range(len(ids)):
        assert 0 <= low[i] <= i < high[i] <= len(ids)
        assert set(sentence[low[i] : high[i]]) == {sentence[i]}
        inside = np.flatnonzero(sentence == sentence[i])
        left, right = i - low[i], high[i] - 1 - i
        assert max(left, right) <= 2
        # what the sentence's end does not cut is the same on both sides
        if i - left > inside[0] and i + right < inside[-1]:
            assert left == right
            reaches.append(left)
    assert 0.35 < np.mean(np.array(reaches) == 1) < 0.65


def test_windows_are_drawn_after_subsampling(words):
    data = WordWindows(words, window=1, subsample=0.05, block_size=len(words.ids))
    example = data[0]
    kept = len(example["ids"]) / words.num_words
    expected = (data.keep[words.ids[words.ids != SENTENCE_END]]).mean()
    assert kept == pytest.approx(expected, abs=0.08)
    assert kept < 0.9
    # neighbours are next to each other among the words that are left
    assert set((example["high"] - example["low"]).tolist()) <= {1, 2, 3}


def test_draws_depend_on_seed_epoch_and_example_only(words):
    def blocks(seed, epoch):
        data = WordWindows(words, block_size=50, seed=seed, subsample=0.05)
        data.epoch = epoch
        return [data[i] for i in range(len(data))]

    def equal(first, second):
        return all(np.array_equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)

    assert equal(blocks(0, 3), blocks(0, 3))
    assert not equal(blocks(0, 3), blocks(0, 4))
    assert not equal(blocks(0, 3), blocks(1, 3))


def test_blocks_cover_the_text_once_an_epoch(words):
    data = WordWindows(words, block_size=37, subsample=0)
    found = np.concatenate([data[i]["ids"] for i in range(len(data))])
    assert np.array_equal(np.bincount(found, minlength=len(words.counts)), words.counts)


def test_stretches_are_read_without_the_map(words):
    size = len(words.ids)
    for start, stop in ((0, 7), (5, 5), (size - 3, size + 100), (0, size)):
        assert np.array_equal(words.read(start, stop), words.ids[start:stop])


def test_noise_may_follow_the_counts_of_other_text(words):
    counts = np.zeros_like(words.counts)
    counts[3] = 7
    data = WordWindows(words, noise_counts=counts)
    assert set(data[0]["negatives"].flat) == {3}
    with pytest.raises(ValueError, match="noise_counts has 2 words"):
        WordWindows(words, noise_counts=counts[:2])


def test_a_chunk_shares_its_negatives(words):
    data = WordWindows(words, chunk=8, negatives_per_chunk=3, block_size=100, subsample=0)
    example = data[0]
    assert example["negatives"].shape == (-(-len(example["ids"]) // 8), 3)
    assert (words.counts[example["negatives"]] > 0).all()


@pytest.mark.parametrize(
    ("argument", "value"), [("window", 0), ("chunk", 0), ("block_size", 0), ("subsample", 1.5), ("subsample", -1)]
)
def test_bad_arguments_are_named(words, argument, value):
    with pytest.raises(ValueError, match=f"{argument} is {value}"):
        WordWindows(words, **{argument: value})


def test_texts_may_be_a_column(tokenizer, tmp_path):
    column = Dataset.from_dict({"text": TEXTS})["text"]
    assert WordFile.write(tmp_path / "ids", column, tokenizer, show_progress=False).num_words == 17
