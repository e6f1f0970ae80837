"""word2vec: the common tests, the objective in all its forms, and the Huffman tree."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

from hf_lineage import Word2VecConfig, Word2VecForPreTraining, Word2VecForSequenceClassification, Word2VecModel
from hf_lineage.models.modeling_word2vec import HuffmanTree
from tests.models.common import ModelTests, constant, uniform


PRETRAINING = "AutoModelForPreTraining"


class TestWord2Vec(ModelTests):
    config_class = Word2VecConfig
    tiny = {"vocab_size": 60, "hidden_size": 16, "architecture": "cbow", "num_labels": 3, "objective": "softmax"}
    no_attention = "word2vec has no attention"
    no_gradient_checkpointing = "one look-up has nothing to compute again"

    def initialization(self, name, config):
        if "context" in name or name.endswith("bias"):
            return constant(0.0)
        return uniform(config.initializer_range / config.hidden_size)

    def test_hidden_states(self, head):
        # no layer: the vectors are all there is
        model, inputs = self.model(head), self.inputs(head)
        (states,) = model(**inputs, output_hidden_states=True).hidden_states
        assert torch.equal(states, model.base_model(**self.in_rows(inputs)).last_hidden_state)

    def inputs(self, head, batch=4, length=7):
        inputs = super().inputs(head, batch, length)
        if head == "AutoModelForMultipleChoice":
            # in another order they would be the same bag
            inputs["input_ids"][:, 1] = (inputs["input_ids"][:, 1] + 20) % 60
        return inputs

    def labels(self, head, inputs):
        if head == PRETRAINING:
            return {"labels": inputs["input_ids"][:, 0]}
        return super().labels(head, inputs)

    def expected_shape(self, head, config, batch, length):
        if head == PRETRAINING:
            return (batch, config.vocab_size)
        return super().expected_shape(head, config, batch, length)


def random_model(**fields):
    torch.manual_seed(0)
    model = Word2VecForPreTraining(Word2VecConfig(vocab_size=20, hidden_size=8, **fields))
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    torch.nn.init.normal_(model.context_embeddings)
    model.set_word_counts(torch.arange(40, 20, -1))
    return model


def test_negative_sampling_is_equation_4():
    model = random_model()
    words, labels = torch.tensor([[3], [5]]), torch.tensor([7, 2])
    negatives = torch.tensor([[1, 7, 9], [4, 4, 0]])
    u, v = (
        model.context_embeddings.detach().double().numpy(),
        model.model.embed_tokens.weight.detach().double().numpy(),
    )

    def log_sigmoid(x):
        return -math.log1p(math.exp(-x))

    expected = 0.0
    for (word,), label, noise in zip(words.tolist(), labels.tolist(), negatives.tolist(), strict=True):
        expected -= log_sigmoid(u[label] @ v[word])
        expected -= sum(log_sigmoid(-u[n] @ v[word]) for n in noise if n != label)
    assert model(words, labels=labels, negative_ids=negatives).loss.item() == pytest.approx(expected / 2, rel=1e-5)


def test_loss_without_negatives_is_the_expectation():
    model = random_model(num_negatives=5)
    words, labels = torch.tensor([[3, 4]]), torch.tensor([7])
    draws = torch.multinomial(model.noise(), 5 * 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sampled = model(words.expand(20_000, 2), labels=labels.expand(20_000), negative_ids=draws.view(20_000, 5)).loss
        assert model(words, labels=labels).loss.item() == pytest.approx(sampled.item(), rel=0.02)


def test_noise_is_the_power_of_the_counts():
    model = random_model(noise_exponent=0.5)
    counts = np.sqrt(np.arange(40, 20, -1))
    assert_close(model.noise(), torch.from_numpy(counts / counts.sum()))


def test_gradient_of_the_mean_is_divided_or_not():
    gradients = {}
    for kind in ("word2vec", "corrected"):
        model = random_model(architecture="cbow", cbow_grad=kind)
        model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([4]), negative_ids=torch.tensor([[5]])).loss.backward()
        gradients[kind] = model.get_input_embeddings().weight.grad
    assert_close(gradients["word2vec"], 3 * gradients["corrected"])
    assert gradients["word2vec"][1:4].abs().min() > 0


def test_huffman_tree_codes_frequent_words_short():
    # counts whose only optimal code lengths are 1, 2, 3, 4, 4
    tree = HuffmanTree.of([40, 20, 10, 5, 4])
    lengths = (tree.signs != 0).sum(1)
    assert lengths.tolist() == [1, 2, 3, 4, 4]
    codes = [
        tuple(zip(n[:k], s[:k], strict=True))
        for n, s, k in zip(tree.nodes.tolist(), tree.signs.tolist(), lengths.tolist(), strict=True)
    ]
    for first in codes:
        for second in codes:
            assert first == second or second[: len(first)] != first


def test_huffman_tree_is_as_short_as_gensims():
    gensim = pytest.importorskip("gensim.models.word2vec")
    counts = np.random.default_rng(0).zipf(1.3, 300)
    counts = np.sort(np.minimum(counts, 10_000))[::-1].tolist()
    vocabulary = gensim.Word2Vec(min_count=1, hs=1, negative=0, vector_size=2)
    vocabulary.build_vocab_from_freq({f"w{i}": count for i, count in enumerate(counts)})
    theirs = sum(
        counts[int(word[1:])] * len(vocabulary.wv.get_vecattr(word, "code")) for word in vocabulary.wv.index_to_key
    )
    ours = ((HuffmanTree.of(counts).signs != 0).sum(1) * torch.tensor(counts)).sum()
    assert ours.item() == theirs


def test_hierarchical_softmax_is_a_distribution():
    model = random_model(objective="hierarchical_softmax")
    words = torch.tensor([[3], [5]])
    output = model(words, labels=torch.tensor([7, 2]))
    assert_close(output.logits.exp().sum(1), torch.ones(2))
    assert output.loss.item() == pytest.approx(-(output.logits[0, 7] + output.logits[1, 2]).item() / 2)


def test_export_leaves_the_context_vectors_behind(tmp_path):
    model = random_model()
    model.save_pretrained(tmp_path / "whole")
    model.model.save_pretrained(tmp_path / "vectors")
    whole, vectors = (AutoModel.from_pretrained(tmp_path / name) for name in ("whole", "vectors"))
    assert isinstance(whole, Word2VecModel)
    assert_close(vectors.embed_tokens.weight, model.get_input_embeddings().weight)
    assert_close(whole.embed_tokens.weight, model.get_input_embeddings().weight)
    reopened = Word2VecForPreTraining.from_pretrained(tmp_path / "whole")
    assert_close(reopened.context_embeddings, model.context_embeddings)
    assert torch.equal(reopened.word_counts, model.word_counts)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "vectors")]
    assert sizes[0] > 2 * 20 * 8 * 4 > sizes[1] > 20 * 8 * 4


def test_grown_vocabulary_keeps_what_was_learned():
    model = random_model()
    before = [model.get_input_embeddings().weight.detach().clone(), model.context_embeddings.detach().clone()]
    model.resize_token_embeddings(25)
    assert_close(model.get_input_embeddings().weight[:20], before[0])
    assert_close(model.context_embeddings[:20], before[1])
    assert model.context_embeddings.shape == (25, 8)
    assert model.context_embeddings[20:].abs().max() == 0
    assert model.noise()[20:].sum() == 0


def test_grown_huffman_tree_keeps_what_was_learned(tmp_path):
    model = random_model(objective="hierarchical_softmax")
    words, size = torch.tensor([[3], [5]]), 20
    for new_size in (25, 26, 40):
        before = model(words).logits
        model.resize_token_embeddings(new_size)
        counts = model.word_counts.clone()
        counts[size:] = torch.arange(new_size - size) + 1
        model.set_word_counts(counts)
        after = model(words).logits
        assert_close(after.exp().sum(1), torch.ones(2))
        # among the words from before, the same distribution; the new root's vector decides nothing yet
        assert_close(after[:, :size].log_softmax(1), before)
        if new_size != 25:
            assert_close(after[:, :size].exp().sum(1), torch.full((2,), 0.5))
        # no node twice but by words that pass it, all V - 1 of them in use
        tree = model.huffman_tree()
        assert sorted(set(tree.nodes[tree.signs != 0].tolist())) == list(range(new_size - 1))
        size = new_size
    assert model.config.tree_sizes == [20, 25, 26]
    model.save_pretrained(tmp_path)
    assert_close(Word2VecForPreTraining.from_pretrained(tmp_path)(words).logits, model(words).logits)
    with pytest.raises(ValueError, match="new_num_tokens is 39"):
        model.resize_token_embeddings(39)
    with pytest.raises(ValueError, match=r"tree_sizes is \[20, 50\]"):
        HuffmanTree.grown([1] * 40, [20, 50])


def test_counts_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="20 numbers"):
        random_model().set_word_counts(torch.ones(19, dtype=torch.int64))


def test_classifier_reads_the_mean_of_the_words():
    config = Word2VecConfig(vocab_size=20, hidden_size=8, num_labels=2, freeze_embeddings=True)
    model = Word2VecForSequenceClassification(config).eval()
    ids, mask = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[1, 1, 1, 0]])
    mean = model.model.embed_tokens.weight[[1, 2, 3]].mean(0, keepdim=True)
    assert_close(model(ids, mask).logits, model.classifier(mean))
    assert not model.model.embed_tokens.weight.requires_grad


@pytest.mark.parametrize("freeze", [True, False])
def test_classifier_starts_from_trained_vectors_and_tunes_them_or_not(tmp_path, freeze):
    pretrained = random_model()
    pretrained.save_pretrained(tmp_path)
    options = {"num_labels": 2, "freeze_embeddings": freeze}
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, **options).train()
    before = pretrained.get_input_embeddings().weight.detach()
    assert torch.equal(model.get_input_embeddings().weight, before)
    ids, labels = torch.tensor([[1, 2, 3], [4, 5, 6], [1, 3, 7], [5, 8, 4]]), torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for _ in range(200):
        loss = model(ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    moved = (model.get_input_embeddings().weight - before).abs().sum(1) > 0
    assert moved.nonzero()[:, 0].tolist() == ([] if freeze else [1, 2, 3, 4, 5, 6, 7, 8])


def test_feature_extraction_gives_the_vectors(tiny_tokenizer, tmp_path):
    model = Word2VecModel(Word2VecConfig(vocab_size=len(tiny_tokenizer), hidden_size=8))
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    features = pipeline("feature-extraction", model=str(tmp_path), device="cpu")("the", return_tensors=True)
    assert_close(features, model.embed_tokens(tiny_tokenizer("the", return_tensors="pt").input_ids))
