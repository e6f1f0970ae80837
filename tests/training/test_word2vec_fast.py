"""The fast updates of word2vec against the authors' arithmetic, against autograd, and numba against torch."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hf_lineage import Word2VecConfig, Word2VecForPreTraining
from hf_lineage.data import WordFile, WordWindows
from hf_lineage.training.word2vec_fast import FastPath, passes, update


V, D = 12, 8
BACKENDS = [
    "torch",
    pytest.param("numba", marks=pytest.mark.skipif("not __import__('importlib').util.find_spec('numba')")),
]


def new_model(seed=0, scale=1.0, **fields):
    torch.manual_seed(seed)
    config = Word2VecConfig(vocab_size=V, hidden_size=D, **fields)
    model = Word2VecForPreTraining(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0, scale)
        model.context_embeddings.normal_(0, scale)
    model.set_word_counts(torch.arange(2 * V, V, -1))
    return model


def matrices(model):
    return [m.detach().clone() for m in (model.get_input_embeddings().weight, model.context_embeddings)]


def block(n, chunk, negatives, window=2, seed=0, sentence=9):
    """Words in sentences of 9, with windows of their own and noise words."""
    draws = np.random.default_rng(seed)
    reach, position = draws.integers(1, window + 1, n), np.arange(n)
    begin = position // sentence * sentence
    noise = [draws.permutation(V)[:negatives] for _ in range(-(-n // chunk))]
    batch = {
        "ids": draws.integers(V, size=n),
        "low": np.maximum(position - reach, begin),
        "high": np.minimum(np.minimum(position + reach + 1, begin + sentence), n),
        # no word twice: one after the other and both at once would differ
        "negatives": np.stack(noise),
    }
    return {name: values.astype(np.int32) for name, values in batch.items()}


def tabulated_sigmoid(f):
    """The authors' table: 1000 steps from -6 to 6, each with the value at its lower end."""
    assert abs(f) < 6
    return sigmoid((int((f + 6) * (1000 / 6 / 2)) / 1000 * 2 - 1) * 6)


def sigmoid(f):
    return 1 / (1 + math.exp(-f))


def c_update(embedding, context, inputs, targets, rate, cbow, sigmoid):
    """The authors' inner loops on one centre, in float64."""
    groups = [inputs] if cbow else [[word] for word in inputs]
    for group in groups:
        h = sum(embedding[word] for word in group) / len(group)
        error = np.zeros(D)
        for row, label in targets:
            f = float(h @ context[row])
            g = (label - sigmoid(f)) * rate
            error += g * context[row]
            context[row] += g * h
        for word in group:
            embedding[word] += error


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
@pytest.mark.parametrize("objective", ["negative_sampling", "hierarchical_softmax"])
@pytest.mark.parametrize(("scale", "sigmoid"), [(0.005, tabulated_sigmoid), (0.5, sigmoid)])
def test_one_update_is_the_c_codes(architecture, objective, backend, scale, sigmoid):
    # 0.005: what training starts from, where the steps of the table (up to 0.003) stay below the tolerance
    model = new_model(scale=scale, architecture=architecture, objective=objective, num_negatives=3, window=3)
    ids = np.array([4, 7, 1, 9], np.int32)
    # the centre is word 1: the others have no neighbour, and no part
    low = np.array([0, 1, 0, 3], np.int32)
    high = np.array([1, 2, 4, 4], np.int32)
    noise = [2, 1, 10]  # the second is the centre itself, which the C code skips
    negatives = np.array([[0, 0, 0], [0, 0, 0], noise, [0, 0, 0]], np.int32)
    inputs = [4, 7, 9]
    if objective == "negative_sampling":
        targets = [(1, 1), (2, 0), (10, 0)]
        path = FastPath(backend, 1, 3)
    else:
        negatives, path = negatives[:, :0], FastPath(backend, 1, 0)
        tree = model.huffman_tree()
        nodes, signs = tree.nodes[1].tolist(), tree.signs[1].tolist()
        targets = [(node, (1 + sign) // 2) for node, sign in zip(nodes, signs, strict=True) if sign]
    if architecture == "skip_gram":
        # one neighbour: the fast path takes several from one state
        inputs, low[2] = [9], 2
    expected = [m.double().numpy() for m in matrices(model)]
    c_update(*expected, inputs, targets, 0.025, architecture == "cbow", sigmoid)
    update(model, {"ids": ids, "low": low, "high": high, "negatives": negatives}, path, 0.025)
    for found, reference in zip(matrices(model), expected, strict=True):
        assert_close(found.double(), torch.from_numpy(reference), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [1, 4, 16])
def test_numba_equals_torch_on_skip_gram(length):
    pytest.importorskip("numba")
    batch = block(100, length, 5)
    models = [new_model(), new_model()]
    for model, backend in zip(models, ["numba", "torch"], strict=True):
        update(model, batch, FastPath(backend, length, 5), 0.05)
    for found, expected in zip(*map(matrices, models), strict=True):
        assert_close(found, expected, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "cbow"},
        {"architecture": "cbow", "cbow_grad": "corrected"},
        {"architecture": "cbow", "cbow_mean": False},
        {"architecture": "cbow", "objective": "hierarchical_softmax"},
    ],
    ids=str,
)
def test_numba_equals_torch_word_by_word(fields):
    pytest.importorskip("numba")
    noise = 0 if "objective" in fields else 3
    batch = block(60, 1, noise)
    models = [new_model(scale=0.3, num_negatives=3, **fields) for _ in range(2)]
    for model, backend in zip(models, ["numba", "torch"], strict=True):
        update(model, batch, FastPath(backend, 1, noise), 0.05)
    for found, expected in zip(*map(matrices, models), strict=True):
        assert_close(found, expected, atol=3e-5, rtol=1e-4)


def pairs_of(batch, architecture):
    """(input words, centre) of each term of the objective, written out."""
    ids, low, high = (batch[name].tolist() for name in ("ids", "low", "high"))
    for i, centre in enumerate(ids):
        around = [ids[p] for p in range(low[i], high[i]) if p != i]
        if architecture == "cbow" and around:
            yield around, centre
        elif architecture == "skip_gram":
            yield from (([word], centre) for word in around)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
def test_negatives_have_the_expected_gradient_of_the_exact_objective(architecture, backend):
    # a chunk as long as the text, one shared negative: the mean over all negatives, weighted by the noise, is exact
    if backend == "numba" and architecture == "cbow":
        pytest.skip("takes words one by one, never from one state")
    count = 6
    batch = block(count, count, 1)
    reference = new_model(architecture=architecture, num_negatives=5, cbow_grad="corrected")
    before, noise = matrices(reference), reference.noise()
    losses, pairs = [], list(pairs_of(batch, architecture))
    for words, centre in pairs:
        output = reference(torch.tensor([words]), labels=torch.tensor([centre]))
        losses.append(output.loss)
    sum(losses).backward()
    gradients = [reference.get_input_embeddings().weight.grad, reference.context_embeddings.grad]

    changes, loss = [torch.zeros(V, D, dtype=torch.float64) for _ in range(2)], 0.0
    for word in range(V):
        model = new_model(architecture=architecture, num_negatives=5, cbow_grad="corrected")
        batch["negatives"][:] = word
        word_loss, measured = update(model, batch, FastPath(backend, count, 1), 0.004)
        assert measured == len(pairs)
        loss += noise[word].item() * word_loss
        for change, after, old in zip(changes, matrices(model), before, strict=True):
            change += noise[word] * (after.double() - old.double())
    assert loss == pytest.approx(sum(losses).item(), rel=1e-4)
    for change, gradient in zip(changes, gradients, strict=True):
        assert_close(change / -0.004, gradient.double(), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
@pytest.mark.parametrize("objective", ["hierarchical_softmax", "softmax"])
def test_softmax_updates_are_the_gradient_of_the_forward_pass(architecture, objective):
    batch = block(6, 1, 0)
    fields = {"architecture": architecture, "objective": objective, "cbow_grad": "corrected"}
    reference, model = new_model(**fields), new_model(**fields)
    before = matrices(model)
    losses = [
        reference(torch.tensor([words]), labels=torch.tensor([centre])).loss
        for words, centre in pairs_of(batch, architecture)
    ]
    sum(losses).backward()
    loss, measured = update(model, batch, FastPath("torch", 1, 0, chunks_at_once=6), 0.01)
    assert measured == len(losses)
    assert loss == pytest.approx(sum(losses).item(), rel=1e-4)
    gradients = [reference.get_input_embeddings().weight.grad, reference.context_embeddings.grad]
    for after, old, gradient in zip(matrices(model), before, gradients, strict=True):
        assert_close((after - old) / -0.01, gradient, atol=1e-3, rtol=1e-3)


def test_settings_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="'cuda'"):
        FastPath.of(Word2VecConfig(), "cuda")
    with pytest.raises(ValueError, match="not cuda"):
        FastPath.of(Word2VecConfig(), "numba", torch.device("cuda"))
    assert FastPath.of(Word2VecConfig(objective="softmax")).backend == "torch"


def test_a_gpu_takes_torch():
    """numba reads the memory of the CPU only."""
    assert FastPath.of(Word2VecConfig(), device=torch.device("cuda", 0)).backend == "torch"
    assert FastPath.of(Word2VecConfig(), device="cpu") == FastPath.of(Word2VecConfig())


def few_words(vocab_size, folder, path, sentences):
    """Sentences of a third of the vocabulary each, without subsampling."""
    draws, third = np.random.default_rng(0), max(1, vocab_size // 3)
    texts = [(draws.integers(third, size=8) + i % 3 * third) % vocab_size for i in range(sentences)]
    np.concatenate([np.append(text, -1) for text in texts]).astype(np.int32).tofile(folder / "ids")
    words = WordFile(folder / "ids", vocab_size)
    shape = {"chunk": path.chunk, "negatives_per_chunk": path.negatives_per_chunk}
    return texts, WordWindows(words, subsample=0, block_size=500, **shape)


def train_on_few_words(vocab_size, folder, rate, backend, epochs, sentences=150, **fields):
    torch.manual_seed(0)
    model = Word2VecForPreTraining(Word2VecConfig(vocab_size=vocab_size, hidden_size=50, **fields))
    path = FastPath.of(model.config, backend)
    texts, data = few_words(vocab_size, folder, path, sentences)
    model.set_word_counts(torch.from_numpy(data.words.counts).clamp(min=1))
    losses = []
    for data.epoch in range(epochs):
        sums = [update(model, data[position], path, rate) for position in range(len(data))]
        losses.append(sum(loss for loss, _ in sums) / sum(pairs for _, pairs in sums))
    return model, texts, losses


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
@pytest.mark.parametrize("objective", ["negative_sampling", "hierarchical_softmax"])
@pytest.mark.parametrize("vocab_size", [2, 5, 12, 20])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_few_words_and_high_rates_stay_finite(vocab_size, rate, objective, architecture, backend, tmp_path):
    fields = {"architecture": architecture, "objective": objective}
    # torch takes one centre at a time with few words
    epochs, sentences = (2, 20) if backend == "torch" else (6, 150)
    model, _, losses = train_on_few_words(vocab_size, tmp_path, rate, backend, epochs, sentences, **fields)
    # gensim's largest number in these settings is 88.7, and 5.6 for skip-gram
    assert max(m.abs().max() for m in matrices(model)) < 20
    untrained = (1 + 5) * math.log(2) if objective == "negative_sampling" else math.log2(vocab_size) * math.log(2)
    assert losses[-1] < min(untrained, 1.05 * losses[0] if rate < 1 else math.inf)


def exact_loss(embedding, context, texts, architecture):
    """The objective's expectation over reaches of 1 … 5 and the noise, in nats per pair, from its definition."""
    vocab_size = len(embedding)
    noise = np.bincount(np.concatenate(texts), minlength=vocab_size) ** 0.75
    noise = noise / noise.sum()
    loss, weight = 0.0, 0.0
    for text in texts:
        for i, centre in enumerate(text):
            for reach in range(1, 6):
                around = [text[p] for p in range(max(0, i - reach), min(len(text), i + reach + 1)) if p != i]
                groups = [around] if architecture == "cbow" else [[word] for word in around]
                for group in groups:
                    scores = context @ embedding[group].mean(0)
                    others = noise * (np.arange(vocab_size) != centre)
                    loss += np.logaddexp(0, -scores[centre]) + 5 * others @ np.logaddexp(0, scores)
                    weight += 1
    return loss / weight


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
def test_twelve_words_are_learned_as_well_as_gensim_learns_them(architecture, backend, tmp_path):
    word2vec = pytest.importorskip("gensim.models").Word2Vec
    model, texts, _ = train_on_few_words(12, tmp_path, 0.1, backend, 8, architecture=architecture)
    sentences = [[str(word) for word in text] for text in texts]
    options = {"window": 5, "sample": 0, "min_count": 1, "alpha": 0.1, "min_alpha": 0.1, "epochs": 8, "workers": 1}
    peer = word2vec(sentences, vector_size=50, sg=int(architecture == "skip_gram"), negative=5, seed=0, **options)
    order = [peer.wv.key_to_index[str(word)] for word in range(12)]
    expected = exact_loss(peer.wv.vectors[order], peer.syn1neg[order], texts, architecture)
    found = exact_loss(*(m.numpy() for m in matrices(model)), texts, architecture)
    assert found < 1.1 * expected


@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
@pytest.mark.parametrize("objective", ["negative_sampling", "hierarchical_softmax"])
def test_usual_settings_go_over_a_block_once(architecture, objective, tmp_path):
    frequencies = 1 / np.arange(1, 5_001)
    ids = np.random.default_rng(0).choice(5_000, 100_000, p=frequencies / frequencies.sum())
    ids.astype(np.int32).tofile(tmp_path / "ids")
    model = Word2VecForPreTraining(Word2VecConfig(vocab_size=5_000, architecture=architecture, objective=objective))
    for backend in ("torch", "numba"):
        path = FastPath.of(model.config, backend)
        shape = {"chunk": path.chunk, "negatives_per_chunk": path.negatives_per_chunk}
        data = WordWindows(WordFile(tmp_path / "ids", 5_000), subsample=1e-3, **shape)
        assert passes(model, data[0], path, 0.025 if architecture == "skip_gram" else 0.05) == 1


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
@pytest.mark.parametrize("objective", ["negative_sampling", "hierarchical_softmax"])
def test_frequent_words_that_are_not_thinned_out_stay_finite(architecture, objective, tmp_path):
    # torch takes 150 centres at once from one state here
    frequencies = 1 / np.arange(1, 3_001)
    ids = np.random.default_rng(0).choice(3_000, 4_000, p=frequencies / frequencies.sum())
    ids.astype(np.int32).tofile(tmp_path / "ids")
    torch.manual_seed(0)
    model = Word2VecForPreTraining(Word2VecConfig(vocab_size=3_000, architecture=architecture, objective=objective))
    path = FastPath.of(model.config, "torch")
    shape = {"chunk": path.chunk, "negatives_per_chunk": path.negatives_per_chunk}
    data = WordWindows(WordFile(tmp_path / "ids", 3_000), subsample=0, **shape)
    model.set_word_counts(torch.from_numpy(data.words.counts))
    losses = [loss / pairs for loss, pairs in (update(model, data[0], path, 0.1) for _ in range(3))]
    assert max(m.abs().max() for m in matrices(model)) < 20
    assert losses[2] < losses[0]
