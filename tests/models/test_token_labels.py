"""The chain over labels against all of its paths, one by one."""

from itertools import product

import pytest
import torch
import transformers

from hf_lineage.models.token_labels import ConditionalRandomField
from tests.models.common import assert_same_state
from tests.models.stations import STATIONS, TABLES


LENGTHS = [4, 1, 0, 3]


@pytest.fixture
def chain():
    chain = ConditionalRandomField(3)
    for parameter in chain.parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    return chain


@pytest.fixture
def emissions():
    return torch.randn(4, 4, 3, requires_grad=True)


def score(chain, emissions, path):
    """By the definition, a sum over one path."""
    total = chain.start[path[0]] + chain.end[path[-1]]
    total = total + sum(emissions[t, label] for t, label in enumerate(path))
    return total + sum(chain.transitions[a, b] for a, b in zip(path, path[1:], strict=False))


def all_scores(chain, emissions, length):
    paths = list(product(range(3), repeat=length))
    return paths, torch.stack([score(chain, emissions, path) for path in paths])


def test_likelihood_is_that_of_all_paths(chain, emissions):
    labels = torch.randint(3, (4, 4))
    found = chain(emissions, labels, torch.tensor(LENGTHS))
    expected = []
    for row, length in enumerate(LENGTHS):
        if length == 0:
            expected.append(torch.tensor(0.0))
            continue
        _, scores = all_scores(chain, emissions[row], length)
        expected.append(score(chain, emissions[row], labels[row, :length].tolist()) - scores.logsumexp(0))
    expected = torch.stack(expected)
    torch.testing.assert_close(found, expected)

    leaves = [emissions, *chain.parameters()]
    torch.testing.assert_close(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves))


def test_decoded_path_is_the_best_of_all(chain, emissions):
    found = chain.decode(emissions, torch.tensor(LENGTHS))
    assert found.shape == (4, 4)
    for row, length in enumerate(LENGTHS):
        assert found[row, length:].tolist() == [0] * (4 - length)
        if length:
            paths, scores = all_scores(chain, emissions[row], length)
            assert tuple(found[row, :length].tolist()) == paths[scores.argmax()]


def test_marginals_are_sums_over_all_paths(chain, emissions):
    chain, emissions = chain.double(), (3 * emissions).double().detach()
    found = chain.marginals(emissions, torch.tensor(LENGTHS))
    assert found.dtype == torch.float64
    expected = torch.zeros(4, 4, 3, dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        paths, scores = all_scores(chain, emissions[row], length) if length else ([], torch.zeros(0))
        for path, share in zip(paths, scores.softmax(0), strict=True):
            expected[row, range(length), list(path)] += share
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # the gradient of log Z, too (Eisner, 2016)
    emissions.requires_grad_()
    [gradient] = torch.autograd.grad(chain.log_normalizer(emissions, torch.tensor(LENGTHS)).sum(), emissions)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-12)


def test_marginals_of_a_long_text_in_half_precision(chain):
    """A thousand tokens: no sum may overflow, and halves become single precision."""
    emissions = (20 * torch.randn(1, 1000, 3)).half()
    found = chain.marginals(emissions, torch.tensor([1000]))
    assert found.dtype == torch.float32
    expected = chain.double().marginals(emissions.double(), torch.tensor([1000]))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)


def test_what_stands_behind_the_end_is_not_read(chain, emissions):
    lengths, labels = torch.tensor(LENGTHS), torch.randint(3, (4, 4))
    behind = torch.arange(4) >= lengths[:, None]
    other = torch.where(behind[..., None], 100.0, emissions)
    assert torch.equal(chain(emissions, labels, lengths), chain(other, labels.masked_fill(behind, 2), lengths))
    assert torch.equal(chain.decode(emissions, lengths), chain.decode(other, lengths))
    assert torch.equal(chain.marginals(emissions, lengths), chain.marginals(other, lengths))


@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_nothing_to_label(chain, shape):
    emissions, lengths = torch.zeros(*shape, 3), torch.zeros(shape[0], dtype=torch.long)
    assert chain(emissions, torch.zeros(shape, dtype=torch.long), lengths).tolist() == [0.0] * shape[0]
    assert chain.decode(emissions, lengths).shape == shape
    assert chain.marginals(emissions, lengths).shape == (*shape, 3)


# the heads of all stations

HEAD = "AutoModelForTokenClassification"
TAGGERS = [name for name in STATIONS if HEAD in TABLES[name].heads]


@pytest.fixture(params=TAGGERS)
def tagger(request):
    """A station's table and its head with a chain whose weights are random."""
    table = TABLES[request.param]
    return table, table.changed_model(HEAD, use_crf=True)


def test_every_tagger_starts_with_a_chain_of_zeros(tagger):
    table, _ = tagger
    model = table.model(HEAD, use_crf=True)
    assert all((parameter == 0).all() for parameter in model.crf.parameters())
    assert table.model(HEAD).crf is None


def test_chain_of_every_tagger_runs_over_labelled_tokens(tagger):
    table, model = tagger
    inputs = table.inputs(HEAD, batch=2)
    labels = torch.tensor([[-100, 1, -100, 2, 0, -100, 1], [0, -100, -100, -100, -100, -100, -100]])
    outputs = model(**inputs, labels=labels)
    total, found = 0.0, model.decode(outputs.logits, labels != -100)
    shares = model.probabilities(outputs.logits, labels != -100)
    for row in range(2):
        scored = labels[row] != -100
        paths, scores = all_scores(model.crf, outputs.logits[row, scored], int(scored.sum()))
        total = (
            total + score(model.crf, outputs.logits[row, scored], labels[row, scored].tolist()) - scores.logsumexp(0)
        )
        assert tuple(found[row, scored].tolist()) == paths[scores.argmax()]
        of_first = torch.stack([scores.softmax(0)[[path[0] == k for path in paths]].sum() for k in range(3)])
        torch.testing.assert_close(shares[row, scored][0], of_first)
    assert (found[labels == -100] == -100).all()
    assert (shares[labels == -100] == 0).all()
    torch.testing.assert_close(outputs.loss, -total / 5)
    # accumulated batches divide by the labels of all of them
    torch.testing.assert_close(model(**inputs, labels=labels, num_items_in_batch=10).loss, -total / 10)


def test_chain_of_every_tagger_is_saved(tagger, tmp_path):
    table, model = tagger
    inputs = table.inputs(HEAD)
    labels = table.labels(HEAD, inputs)
    model.save_pretrained(tmp_path)
    loaded = getattr(transformers, HEAD).from_pretrained(tmp_path)
    assert_same_state(loaded, model)
    assert torch.equal(loaded(**inputs, **labels).loss, model(**inputs, **labels).loss)


def test_without_a_chain_every_token_is_alone(tagger):
    table, _ = tagger
    model, mask = table.changed_model(HEAD), torch.tensor([[1, 0, 1], [0, 1, 1]])
    logits = torch.randn(2, 3, model.config.num_labels)
    expected = torch.where(mask[..., None].bool(), logits.softmax(2), 0.0)
    torch.testing.assert_close(model.probabilities(logits, mask), expected)


def test_no_chain_smooths_labels_or_lacks_them(tagger):
    table, model = tagger
    inputs = table.inputs(HEAD)
    with pytest.raises(ValueError, match="label_smoothing_factor is 0.1.*use_crf"):
        model(**inputs, **table.labels(HEAD, inputs), smoothing=0.1)
    with pytest.raises(ValueError, match="label_smoothing_factor is set.*use_crf is True"):
        model(**inputs, num_items_in_batch=4)
