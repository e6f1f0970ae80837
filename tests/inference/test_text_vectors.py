"""Vectors of packed texts against transformers' feature-extraction pipeline, text by text."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from torch.testing import assert_close
from transformers import BertModel, pipeline

from hf_lineage import (
    BERTConfig,
    BERTModel,
    LSTMConfig,
    LSTMModel,
    Word2VecConfig,
    Word2VecForPreTraining,
)
from hf_lineage.inference.text_vectors import embed_texts, first_component
from tests.models.test_modeling_bert import TestBERT as BERT


@pytest.fixture
def model(tiny_tokenizer, tmp_path):
    tiny_tokenizer.model_max_length = 32
    sizes = {"vocab_size": len(tiny_tokenizer), "initializer_range": 0.3}
    model = BERTModel(BERTConfig(**{**BERT.tiny, **sizes}))
    model.save_pretrained(tmp_path)
    yield model
    tiny_tokenizer.model_max_length = int(1e30)


@pytest.mark.parametrize("tokens_per_row", [1, 50, 2_048])
def test_vectors_are_the_pipelines(model, tiny_tokenizer, tiny_corpus, tmp_path, tokens_per_row):
    texts = [tiny_corpus[0], "", "The dog", " ".join(tiny_corpus[:9]), *tiny_corpus[10:20]]
    theirs = BertModel.from_pretrained(tmp_path)
    pipe = pipeline("feature-extraction", model=theirs, tokenizer=tiny_tokenizer, device="cpu")
    expected = [vectors[0] for vectors in pipe(texts, return_tensors=True, tokenize_kwargs={"truncation": True})]
    model.train()
    options = {"tokens_per_row": tokens_per_row}
    found = embed_texts(texts, model, tiny_tokenizer, pooling=None, **options)
    assert model.training
    assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for pooling, of_text in {"mean": lambda v: v.mean(0), "first": lambda v: v[0]}.items():
        pooled = embed_texts(texts, model, tiny_tokenizer, pooling=pooling, **options)
        assert_close(pooled, torch.stack([of_text(vectors) for vectors in expected]), atol=1e-5, rtol=1e-5)
    inputs = tiny_tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    pooled = embed_texts(texts, model, tiny_tokenizer, pooling="pooler", **options)
    assert_close(pooled, theirs(**inputs).pooler_output, atol=1e-5, rtol=1e-5)


def test_no_texts(model, tiny_tokenizer):
    assert embed_texts([], model, tiny_tokenizer).shape == (0, 16)
    assert embed_texts([], model, tiny_tokenizer, pooling=None) == []


@pytest.mark.parametrize(
    ("settings", "message"), [({"pooling": "max"}, "pooling is 'max'"), ({"tokens_per_row": 0}, "tokens_per_row is 0")]
)
def test_bad_settings_are_named(model, tiny_tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        embed_texts(["a"], model, tiny_tokenizer, **settings)


def test_models_that_cannot_read_packed_texts_are_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match="LSTMModel cannot read packed texts"):
        embed_texts(["a"], LSTMModel(LSTMConfig(vocab_size=60, hidden_size=8)), tiny_tokenizer)


def words_model(tokenizer):
    model = Word2VecForPreTraining(Word2VecConfig(vocab_size=len(tokenizer), hidden_size=12))
    model.set_word_counts(torch.arange(1, len(tokenizer) + 1))
    return model


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("sif", [None, 1e-2])
def test_averages_of_words_are_those_of_the_paper(tiny_tokenizer, tiny_corpus, sif, remove):
    """Arora et al. (2017), algorithm 1, in numpy: weights, then the part along the first singular vector."""
    model, texts = words_model(tiny_tokenizer), tiny_corpus[:20]
    table = model.get_input_embeddings().weight.detach().double().numpy()
    p = np.arange(1, len(table) + 1) / np.arange(1, len(table) + 1).sum()
    sentences = [tiny_tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    expected = np.array(
        [np.mean([(1 if sif is None else sif / (sif + p[w])) * table[w] for w in ids], axis=0) for ids in sentences]
    )
    if remove:
        # u is the eigenvector of X X^T with the largest eigenvalue; X has a column per sentence
        u = np.linalg.eigh(expected.T @ expected)[1][:, -1]
        expected = expected - expected @ np.outer(u, u)
    found = embed_texts(texts, model, tiny_tokenizer, sif=sif, remove_first_component=remove).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_unknown_words_do_not_count(tiny_tokenizer):
    model = words_model(tiny_tokenizer).model
    first, second, none = embed_texts(["The dog \u2603", "the dog", "\u2603"], model, tiny_tokenizer)
    assert_close(first, second)
    assert not none.any()
    assert embed_texts([], model, tiny_tokenizer).shape == (0, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sif": 0.0}, "sif is 0.0"),
        ({"sif": 1e-3, "word_counts": [1, 2]}, r"word_counts are of shape \[2\]"),
        ({"sif": 1e-3}, "word_counts are missing"),
        ({"pooling": "first"}, "pooling is 'first'"),
    ],
)
def test_bad_options_of_averages_are_named(tiny_tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        embed_texts(["the dog"], words_model(tiny_tokenizer).model, tiny_tokenizer, **options)


def test_only_word2vec_has_the_options_of_averages(model, tiny_tokenizer):
    with pytest.raises(ValueError, match="are for word2vec, not lineage_bert"):
        embed_texts(["the dog"], model, tiny_tokenizer, sif=1e-3)


@pytest.mark.parametrize("sif", [None, 1e-2])
def test_the_component_of_many_texts_serves_new_ones(tiny_tokenizer, tiny_corpus, sif):
    """As scikit-learn takes it from the corpus and leaves it out of another one."""
    model, corpus, new = words_model(tiny_tokenizer), tiny_corpus[:20], tiny_corpus[20:23]
    component = first_component(corpus, model, tiny_tokenizer, sif=sif)
    own = embed_texts(corpus, model, tiny_tokenizer, sif=sif).numpy()
    theirs = TruncatedSVD(1, algorithm="arpack").fit(own)
    [direction] = theirs.components_
    assert abs(component.numpy() @ direction) == pytest.approx(1, abs=1e-5)
    for texts in (corpus, new, new[:1]):
        before = embed_texts(texts, model, tiny_tokenizer, sif=sif).numpy()
        after = embed_texts(texts, model, tiny_tokenizer, sif=sif, remove_first_component=component).numpy()
        np.testing.assert_allclose(after, before - theirs.inverse_transform(theirs.transform(before)), atol=1e-5)
        assert np.abs(after).max() > 0.1 * np.abs(before).max()
    with_own = embed_texts(corpus, model, tiny_tokenizer, sif=sif, remove_first_component=True)
    assert_close(with_own, embed_texts(corpus, model, tiny_tokenizer, sif=sif, remove_first_component=component))


@pytest.mark.parametrize("texts", [["the dog"], ["the dog", "the dog"], ["the dog", "\u2603"], ["\u2603"]])
def test_too_few_texts_have_no_component(tiny_tokenizer, texts):
    """It would be all that they have."""
    model = words_model(tiny_tokenizer)
    for call in (
        lambda: embed_texts(texts, model, tiny_tokenizer, remove_first_component=True),
        lambda: first_component(texts, model, tiny_tokenizer),
    ):
        with pytest.raises(ValueError, match="first component.* must be at least 2: .*remove_first_component"):
            call()


def test_a_component_of_another_model_is_refused(model, tiny_tokenizer):
    words = words_model(tiny_tokenizer)
    with pytest.raises(ValueError, match=r"remove_first_component is of shape \[3\]; .* \[12\]"):
        embed_texts(["the dog"], words, tiny_tokenizer, remove_first_component=torch.ones(3))
    with pytest.raises(ValueError, match="for word2vec, not lineage_bert"):
        first_component(["the dog", "a"], model, tiny_tokenizer)
    with pytest.raises(ValueError, match="for word2vec, not lineage_bert"):
        embed_texts(["the dog"], model, tiny_tokenizer, remove_first_component=torch.ones(16))
