"""The fast updates of word2vec against the authors' arithmetic, against autograd, and numba against torch."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hf_lineage import Word2VecConfig, Word2VecForPreTraining
from hf_lineage.training.word2vec_fast import FastPath, update


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
        word_loss, measured = update(model, batch, FastPath(backend, count, 1), 0.01)
        assert measured == len(pairs)
        loss += noise[word].item() * word_loss
        for change, after, old in zip(changes, matrices(model), before, strict=True):
            change += noise[word] * (after.double() - old.double())
    assert loss == pytest.approx(sum(losses).item(), rel=1e-4)
    for change, gradient in zip(changes, gradients, strict=True):
        assert_close(change / -0.01, gradient.double(), atol=2e-3, rtol=1e-3)


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
    assert FastPath.of(Word2VecConfig(objective="softmax")).backend == "torch"
