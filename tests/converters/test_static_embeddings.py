"""Static embeddings: model2vec and sentence-transformers open ours, we open theirs, and texts have equal vectors."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import hf_lineage
from hf_lineage.converters import from_static_embeddings, to_static_embeddings
from hf_lineage.files import CorpusError
from hf_lineage.inference import embed_texts
from hf_lineage.tokenization import train_word_level


@pytest.fixture(scope="module")
def words_tokenizer(tiny_corpus):
    marks = {"unk_token": "<unk>", "pad_token": "<pad>"}
    return train_word_level(tiny_corpus, special_tokens=marks, show_progress=False)


@pytest.fixture
def texts(tiny_corpus):
    """Known words, and unknown ones among them."""
    return [*tiny_corpus[:8], "The zyx dog", f"{tiny_corpus[9]} qwv"]


def model_of(station: str, tokenizer):
    sizes = {"hidden_size": 8, "num_attention_heads": 2} if station in ("GPT", "BERT") else {"hidden_size": 8}
    config = getattr(hf_lineage, f"{station}Config")(vocab_size=len(tokenizer), **sizes)
    return getattr(hf_lineage, f"{station}Model")(config).eval()


def cosines(first, second) -> np.ndarray:
    first, second = (np.asarray(one, dtype=np.float64) for one in (first, second))
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


@pytest.mark.parametrize("library", ["model2vec", "sentence_transformers"])
@pytest.mark.parametrize("station", ["Word2Vec", "LSTM", "BERT"])
def test_the_libraries_give_our_vectors(library, station, words_tokenizer, texts, tmp_path):
    package = pytest.importorskip(library, reason=f"needs {library} (extra static)")
    model = model_of(station, words_tokenizer)
    to_static_embeddings(model, words_tokenizer, tmp_path)
    if library == "model2vec":
        found = package.StaticModel.from_pretrained(tmp_path).encode(texts)
    else:
        found = package.SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    # by hand: the mean of the known words
    table, unknown = model.get_input_embeddings().weight.detach(), words_tokenizer.unk_token_id
    ids = [[i for i in words_tokenizer(text)["input_ids"] if i != unknown] for text in texts]
    expected = torch.stack([table[one].mean(0) for one in ids])
    np.testing.assert_allclose(cosines(found, expected), 1, atol=1e-6)
    if station == "Word2Vec":
        np.testing.assert_allclose(cosines(found, embed_texts(texts, model, words_tokenizer).detach()), 1, atol=1e-6)


def test_our_files_come_back(words_tokenizer, tmp_path):
    model = model_of("Word2Vec", words_tokenizer)
    to_static_embeddings(model, words_tokenizer, tmp_path)
    again, tokenizer = from_static_embeddings(tmp_path)
    known = [i for i in range(len(words_tokenizer)) if i not in words_tokenizer.all_special_ids]
    assert torch.equal(again.embed_tokens.weight[known], model.embed_tokens.weight[known])
    assert not again.embed_tokens.weight[words_tokenizer.all_special_ids].any()
    text = "The brave zyx"
    assert tokenizer(text)["input_ids"] == words_tokenizer(text)["input_ids"]
    assert (tokenizer.unk_token, tokenizer.pad_token) == ("<unk>", "<pad>")


def test_files_of_sentence_transformers_are_read(words_tokenizer, texts, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers (extra static)")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    embedding = modules.StaticEmbedding(words_tokenizer, embedding_dim=8)
    theirs = library.SentenceTransformer(modules=[embedding], device="cpu")
    theirs.save(str(tmp_path))
    model, tokenizer = from_static_embeddings(tmp_path)
    assert_close(model.embed_tokens.weight.detach(), embedding.embedding.weight.detach())
    # texts without unknown words, which only that library counts
    known = [text for text in texts if words_tokenizer.unk_token_id not in words_tokenizer(text)["input_ids"]]
    assert len(known) == 8
    found = embed_texts(known, model, tokenizer).detach()
    np.testing.assert_allclose(cosines(theirs.encode(known), found), 1, atol=1e-6)


def test_files_of_model2vec_are_read_with_weights_and_shared_vectors(words_tokenizer, texts, tmp_path):
    model2vec = pytest.importorskip("model2vec", reason="needs model2vec (extra static)")
    size, draw = len(words_tokenizer), np.random.default_rng(0)
    theirs = model2vec.StaticModel(
        draw.normal(size=(9, 6)).astype(np.float32),
        words_tokenizer.backend_tokenizer,
        weights=draw.uniform(0.5, 2, size).astype(np.float32),
        token_mapping=draw.integers(0, 9, size),
    )
    theirs.save_pretrained(tmp_path)
    model, tokenizer = from_static_embeddings(tmp_path)
    found = embed_texts(texts, model, tokenizer).detach()
    np.testing.assert_allclose(cosines(theirs.encode(texts), found), 1, atol=1e-6)


def test_what_has_no_vector_per_token_is_refused(words_tokenizer, tmp_path):
    sizes = {"character_size": 4, "cnn_filters": [[1, 8]], "hidden_size": 8, "projection_size": 4}
    elmo = hf_lineage.ELMoModel(hf_lineage.ELMoConfig(vocab_size=30, **sizes))
    with pytest.raises(ValueError, match="ELMoModel reads characters"):
        to_static_embeddings(elmo, words_tokenizer, tmp_path)
    small = hf_lineage.Word2VecModel(hf_lineage.Word2VecConfig(vocab_size=5, hidden_size=4))
    with pytest.raises(ValueError, match="5 embeddings"):
        to_static_embeddings(small, words_tokenizer, tmp_path)


def test_bad_folders_are_named(words_tokenizer, tmp_path):
    with pytest.raises(CorpusError, match=f"{tmp_path} has no model.safetensors"):
        from_static_embeddings(tmp_path)
    to_static_embeddings(model_of("Word2Vec", words_tokenizer), words_tokenizer, tmp_path)
    vectors = load_file(tmp_path / "model.safetensors")["embeddings"]
    assert json.loads((tmp_path / "config.json").read_text())["normalize"] is False
    for tensors, message in (
        ({"other": vectors}, "other, but no"),
        ({"embeddings": vectors[:3].clone()}, "3 vectors"),
    ):
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(CorpusError, match=message):
            from_static_embeddings(tmp_path)
