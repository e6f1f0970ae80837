"""The output layers of large vocabularies: against torch's, by counting all samples there are, and in the limit."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_lineage.data.randomness import generator, log_uniform
from hf_lineage.models.output_layers import (
    AdaptiveSoftmax,
    log_uniform_probability,
    nce_loss,
    sampled_softmax_loss,
)


OBJECTIVES = [sampled_softmax_loss, nce_loss]


@pytest.mark.parametrize("vocab_size", [1, 2, 60, 10_001])
def test_log_uniform_probabilities_sum_to_one(vocab_size):
    q = log_uniform_probability(torch.arange(vocab_size), vocab_size)
    assert q.double().sum().item() == pytest.approx(1, abs=1e-5)
    assert (q.diff() < 0).all()


def test_draws_have_the_probabilities_that_the_model_assumes():
    draws = log_uniform(generator(0, 0, 0), 200_000, 50)
    counts = np.bincount(draws, minlength=50)
    expected = 200_000 * log_uniform_probability(torch.arange(50), 50).double().numpy()
    # chi square of 49 degrees of freedom: 85.4 is exceeded once in 1,000
    assert ((counts - expected) ** 2 / expected).sum() < 85.4
    assert np.array_equal(draws, log_uniform(generator(0, 0, 0), 200_000, 50))
    assert not np.array_equal(draws, log_uniform(generator(0, 1, 0), 200_000, 50))


def small_layer(vocab_size=4, size=3):
    """A layer, one input, and the distribution that the layer gives it."""
    weight, x = torch.randn(vocab_size, size).double(), torch.randn(size).double()
    scores = weight @ x + torch.randn(vocab_size).double()
    # scores that are log-probabilities: only then does noise-contrastive estimation have nothing to learn
    p = scores.softmax(0)
    return weight.requires_grad_(), (p.log() - weight @ x).detach().requires_grad_(), x, p.detach()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("negatives_each", [1, 2, 3])
def test_expected_gradient_is_zero_at_the_truth(objective, negatives_each):
    # not in the limit but for any number of negatives: every target and every sample, each with its probability
    weight, bias, x, p = small_layer()
    q = log_uniform_probability(torch.arange(4), 4).double()
    samples = torch.tensor(list(itertools.product(range(4), repeat=negatives_each)))
    targets, rows = torch.cartesian_prod(torch.arange(4), torch.arange(len(samples))).T
    probability = p[targets] * q[samples].prod(1)[rows]
    losses = objective(x.expand(len(rows), 1, -1), targets[:, None], weight, bias, samples[rows])[:, 0]
    expected = torch.autograd.grad(probability @ losses, (weight, bias), retain_graph=True)
    assert all(gradient.abs().max() < 1e-6 for gradient in expected)
    # with other probabilities it is not
    others = torch.autograd.grad(losses.mean(), (weight, bias))
    assert all(gradient.abs().max() > 1e-3 for gradient in others)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_negatives_give_the_gradient_of_the_full_softmax(objective):
    torch.manual_seed(1)
    weight, bias, x, p = small_layer(30, 5)
    targets = torch.tensor([[3], [17]])
    negatives = torch.from_numpy(log_uniform(generator(0, 0, 0), 2 * 200_000, 30)).view(2, -1)
    inputs = x.expand(2, 1, -1)
    sampled = objective(inputs, targets, weight, bias, negatives)
    exact = cross_entropy((inputs @ weight.T + bias)[:, 0], targets[:, 0], reduction="none")
    found = torch.autograd.grad(sampled.sum(), (weight, bias))
    expected = torch.autograd.grad(exact.sum(), (weight, bias))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()
    if objective is sampled_softmax_loss:
        assert_close(sampled[:, 0], exact, rtol=0.01, atol=0.01)


def test_sampled_softmax_is_the_softmax_over_the_target_and_the_sample():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 4), torch.randn(20, 4), torch.randn(20)
    targets, negatives = torch.randint(20, (2, 3)), torch.randint(20, (2, 6))
    q = log_uniform_probability(torch.arange(20), 20)
    losses = sampled_softmax_loss(x, targets, weight, bias, negatives)
    for row, t in itertools.product(range(2), range(3)):
        words = [targets[row, t].item(), *negatives[row].tolist()]
        scores = weight[words] @ x[row, t] + bias[words]
        z = (scores.exp() / q[words]).mean()
        assert losses[row, t].item() == pytest.approx((z.log() - scores[0]).item(), abs=1e-4)


def shared_case():
    """x, targets, weight, bias, and negatives that all rows share; words stand twice in both and in either."""
    x, weight, bias = (torch.randn(*size).double().requires_grad_() for size in ((2, 3, 4), (20, 4), (20,)))
    targets, negatives = torch.tensor([[5, 5, 0], [7, 19, 2]]), torch.tensor([3, 7, 3, 3, 0, 11, 7, 0, 1])
    return x, targets, weight, bias, negatives


def test_shared_negatives_are_the_softmax_over_target_and_sample():
    x, targets, weight, bias, negatives = shared_case()
    q = log_uniform_probability(torch.arange(20), 20).double()
    # every draw a column of its own, the target before them: cross entropy with the scores of importance sampling
    words = torch.cat([targets[..., None], negatives.expand(2, 3, -1)], dim=-1)
    scores = (weight[words] * x[..., None, :]).sum(-1) + bias[words] - q[words].log()
    losses = cross_entropy(scores.flatten(0, 1), torch.zeros(6, dtype=torch.long), reduction="none").view(2, 3)
    expected = losses - math.log(len(negatives) + 1) - q[targets].log()
    found = sampled_softmax_loss(x, targets, weight, bias, negatives)
    assert_close(found, expected, rtol=0, atol=1e-6)
    pull = torch.randn(2, 3).double()
    for one, other in zip(*(torch.autograd.grad(y, (x, weight, bias), pull) for y in (found, expected)), strict=True):
        assert_close(one, other, rtol=0, atol=1e-6)


def test_derivatives_with_shared_negatives():
    x, targets, weight, bias, negatives = shared_case()

    def losses(x, weight, bias):
        return sampled_softmax_loss(x, targets, weight, bias, negatives)

    assert torch.autograd.gradcheck(losses, (x, weight, bias))
    assert torch.autograd.gradgradcheck(losses, (x, weight, bias))


def test_many_shared_negatives_give_the_gradient_of_the_full_softmax():
    x, targets, weight, bias, _ = shared_case()
    negatives = torch.from_numpy(log_uniform(generator(0, 0, 0), 200_000, 20))
    found = torch.autograd.grad(sampled_softmax_loss(x, targets, weight, bias, negatives).sum(), (x, weight, bias))
    exact = cross_entropy((x @ weight.T + bias).flatten(0, 1), targets.flatten(), reduction="sum")
    for one, other in zip(found, torch.autograd.grad(exact, (x, weight, bias)), strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("shared", [False, True])
def test_only_the_sampled_rows_are_touched(shared):
    weight, bias = torch.randn(1_000, 4, requires_grad=True), torch.zeros(1_000, requires_grad=True)
    targets, negatives = torch.tensor([[5, 9]]), torch.tensor([[1, 2, 2]])
    losses = sampled_softmax_loss(torch.randn(1, 2, 4), targets, weight, bias, negatives[0] if shared else negatives)
    losses.sum().backward()
    assert weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [1, 2, 5, 9]
    assert bias.grad.nonzero()[:, 0].tolist() == [1, 2, 5, 9]


@pytest.mark.parametrize("cutoffs", [[5], [5, 20], [1, 2, 30]])
def test_adaptive_softmax_is_torchs(cutoffs):
    torch.manual_seed(0)
    layer, reference = AdaptiveSoftmax(64, 40, cutoffs), torch.nn.AdaptiveLogSoftmaxWithLoss(
        64, 40, cutoffs, div_value=4.0, head_bias=True
    )  # fmt: skip
    reference.load_state_dict(layer.state_dict())
    x, targets = torch.randn(50, 64), torch.randint(40, (50,))
    losses = layer.loss(x, targets)
    assert_close(losses, -reference(x, targets).output)
    assert_close(layer(x), reference.log_prob(x))
    assert_close(layer(x.view(5, 10, 64)), reference.log_prob(x).view(5, 10, 40))
    assert_close(layer(x).exp().sum(1), torch.ones(50))
    losses.mean().backward()
    reference(x, targets).loss.backward()
    for parameter, other in zip(layer.parameters(), reference.parameters(), strict=True):
        # a cluster without targets is not looked at
        assert_close(parameter.grad, other.grad)


def test_mean_nce_loss_of_chance():
    # scores equal to the noise: target and noise cannot be told apart, whatever is drawn
    bias = log_uniform_probability(torch.arange(20), 20).log()
    targets, negatives = torch.tensor([[3, 7]]), torch.tensor([[1, 2, 2, 19]])
    losses = nce_loss(torch.randn(1, 2, 4), targets, torch.zeros(20, 4), bias, negatives)
    assert_close(losses, torch.full((1, 2), math.log(5) + 4 * math.log(5 / 4)))
