"""Word vectors against gensim's KeyedVectors."""

import difflib

import numpy as np
import pytest
import torch

from hf_lineage import GPTConfig, GPTModel
from hf_lineage.tokenization import train_word_level, train_wordpiece
from hf_lineage.word_vectors import WordVectors, analogy_scores


WORDS = [f"word{i}" for i in range(60)]


@pytest.fixture
def vectors():
    return WordVectors(WORDS, np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32))


@pytest.fixture
def keyed(vectors):
    models = pytest.importorskip("gensim.models")
    keyed = models.KeyedVectors(12)
    keyed.add_vectors(WORDS, vectors.vectors)
    return keyed


def assert_same(found, expected):
    assert [word for word, _ in found] == [word for word, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 7, 59])
@pytest.mark.parametrize("restrict_vocab", [None, 20])
def test_nearest_words_are_those_of_gensim(vectors, keyed, n, restrict_vocab):
    for word in ("word3", "word50"):
        expected = keyed.most_similar(word, topn=n, restrict_vocab=restrict_vocab)
        assert_same(vectors.nearest(word, n, restrict_vocab), expected)
    query = np.arange(12, dtype=np.float32) - 5
    assert_same(
        vectors.nearest(query, n, restrict_vocab), keyed.most_similar([query], topn=n, restrict_vocab=restrict_vocab)
    )


@pytest.mark.parametrize(
    "words", [("word0", "word1", "word2"), ("word40", "word7", "word40"), ("word9", "word9", "word5")]
)
def test_analogies_are_those_of_gensim(vectors, keyed, words):
    a, b, c = words
    for limit in (None, 30):
        expected = keyed.most_similar(positive=[b, c], negative=[a], topn=9, restrict_vocab=limit)
        assert_same(vectors.analogy(a, b, c, 9, restrict_vocab=limit), expected)
    expected = keyed.most_similar_cosmul(positive=[b, c], negative=[a], topn=9)
    assert_same(vectors.analogy(a, b, c, 9, method="3CosMul"), expected)


def test_similarity_and_the_odd_one_out_are_those_of_gensim(vectors, keyed):
    assert vectors.similarity("word1", "word2") == pytest.approx(keyed.similarity("word1", "word2"), abs=1e-6)
    for start in range(0, 50, 5):
        words = WORDS[start : start + 6]
        assert vectors.doesnt_match(words) == keyed.doesnt_match(words)


def test_vector_of_a_word(vectors):
    assert (vectors.vector("word5") == vectors.vectors[5]).all()
    assert "word5" in vectors
    assert "word60" not in vectors
    assert len(vectors) == 60


def test_scores_by_hand():
    a, b, c = np.array([0.5]), np.array([0.0]), np.array([1.0])
    assert analogy_scores(a, b, c, "3CosAdd") == pytest.approx(0.5)
    assert analogy_scores(a, b, c, "3CosMul") == pytest.approx(0.5 * 1 / (0.75 + 1e-6))


def test_zero_vector_has_cosine_zero_and_extreme_ones_their_direction():
    vectors = WordVectors(["zero", "huge", "tiny", "up"], [[0, 0], [1e30, 1e30], [1e-30, 0], [0, 1]])
    assert vectors.similarity("zero", "up") == 0
    assert vectors.similarity("huge", "up") == pytest.approx(0.5**0.5)
    assert vectors.similarity("huge", "tiny") == pytest.approx(0.5**0.5)
    assert vectors.nearest("zero", 3) == [("huge", 0), ("tiny", 0), ("up", 0)]


@pytest.mark.parametrize(
    ("words", "array", "message"),
    [
        (["a", "b"], np.ones((3, 2)), r"2 words and vectors of shape \[3, 2\]"),
        (["a", "b"], np.ones(2), r"vectors of shape \[2\]"),
        (["a"], np.ones((1, 0)), r"vectors of shape \[1, 0\]"),
        ([], np.ones((0, 4)), "0 words"),
        (["a", "b", "a"], np.ones((3, 2)), "word 0 .*'a', is empty or occurs twice"),
        (["a", ""], np.ones((2, 2)), "word 1 .*'', is empty"),
        (["a", "b"], [[1, 2], [3, np.nan]], "word 1 .*'b', holds nan, inf"),
        (["a", "b"], [[1, -np.inf], [3, 4]], "word 0 .*'a', holds nan, inf"),
        (["a", "b"], [[1, 1e300], [3, 4]], "word 0 .*'a', .*beyond float32"),
    ],
)
def test_flawed_vectors_are_named(words, array, message):
    with pytest.raises(ValueError, match=message):
        WordVectors(words, array)


def test_unknown_word_is_named_with_similar_ones(vectors):
    with pytest.raises(ValueError, match="'wrd12'.* 60 .*word12"):
        vectors.similarity("word1", "wrd12")
    with pytest.raises(ValueError, match="'Ω' is not among the 60 words$"):
        vectors.nearest("Ω")


def test_similar_words_are_found_among_few_of_many(monkeypatch):
    vectors = WordVectors([f"word{i}" for i in range(300_000)], np.ones((300_000, 1)))
    compared = []
    matches = difflib.SequenceMatcher.set_seq1
    monkeypatch.setattr(difflib.SequenceMatcher, "set_seq1", lambda *a: (compared.append(a), matches(*a)))
    with pytest.raises(ValueError, match="similar ones are word"):
        vectors.vector("wordd77")
    assert 0 < len(compared) <= 2_001


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: v.nearest("word1", 0), "n is 0"),
        (lambda v: v.nearest("word1", restrict_vocab=0), "restrict_vocab is 0"),
        (lambda v: v.nearest(np.ones(5)), r"12 finite numbers is needed, got shape \(5,\)"),
        (lambda v: v.analogy("word1", "word2", "word3", method="3cosadd"), "must be one of 3CosAdd, 3CosMul"),
        (lambda v: v.doesnt_match(["word1", "word2"]), "at least 3 words"),
    ],
)
def test_bad_arguments_are_named(vectors, call, message):
    with pytest.raises(ValueError, match=message):
        call(vectors)


def gpt(vocab_size):
    return GPTModel(GPTConfig(vocab_size=vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))


def test_vectors_of_a_model_are_its_embeddings_without_special_tokens(tiny_corpus):
    tokenizer = train_word_level(tiny_corpus, show_progress=False)
    model = gpt(len(tokenizer)).to(torch.bfloat16)
    vectors = WordVectors.from_model(model, tokenizer)
    assert len(vectors) == len(tokenizer) - len(tokenizer.all_special_ids)
    assert vectors.words[0] == "the"
    for word in ("the", vectors.words[-1]):
        row = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(word)]
        assert vectors.vector(word).tolist() == row.tolist()


def test_model_and_tokenizer_of_different_sizes_are_refused(tiny_corpus):
    tokenizer = train_wordpiece(tiny_corpus, vocab_size=150, show_progress=False)
    with pytest.raises(ValueError, match=f"the tokenizer has {len(tokenizer)} tokens.*the model 64 embeddings"):
        WordVectors.from_model(gpt(64), tokenizer)


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt"])
def test_saved_and_loaded(vectors, tmp_path, name):
    vectors.save(tmp_path / name)
    loaded = WordVectors.load(tmp_path / name, limit=50)
    assert loaded.words == WORDS[:50]
    assert (loaded.vectors == vectors.vectors[:50]).all()
