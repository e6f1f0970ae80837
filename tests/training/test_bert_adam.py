"""BertAdam against its equations, written out, and its state in a checkpoint."""

import numpy as np
import torch
from torch.testing import assert_close

from hf_lineage.training import BertAdam


def written_out(start, gradients, rates, decay, beta1=0.9, beta2=0.999, eps=1e-6):
    """The released optimization.py: AdamWeightDecayOptimizer.apply_gradients."""
    weights, m, v = start.copy(), 0.0, 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        weights = weights - rate * (m / (np.sqrt(v) + eps) + decay * weights)
    return weights


def run(optimizer, parameters, gradients, rates):
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter, series in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(series[step].copy())
        optimizer.step()
        assert all(group["lr"] == rate for group in optimizer.param_groups)


def setting():
    draw = np.random.default_rng(0)
    starts = [draw.normal(size=(5, 3)), draw.normal(size=4)]
    # gradients as small as eps, where its place in the formula shows
    gradients = [
        draw.normal(size=(12, *start.shape)) * 10.0 ** draw.integers(-7, 1, size=start.shape) for start in starts
    ]
    parameters = [torch.nn.Parameter(torch.from_numpy(start.copy())) for start in starts]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "weight_decay": 0.0}]
    rates = [*np.linspace(0.001, 0.01, 4), *np.linspace(0.009, 0.001, 8)]
    return starts, gradients, parameters, BertAdam(groups, lr=0.01, weight_decay=0.1), rates


def test_updates_are_the_released_ones():
    starts, gradients, parameters, optimizer, rates = setting()
    run(optimizer, parameters, gradients, rates)
    for start, series, parameter, decay in zip(starts, gradients, parameters, (0.1, 0.0), strict=True):
        expected = torch.from_numpy(written_out(start, series, rates, decay))
        assert_close(parameter.detach(), expected, rtol=1e-9, atol=1e-12)


def test_a_resumed_optimizer_goes_on_alike():
    _, gradients, parameters, optimizer, rates = setting()
    run(optimizer, parameters, gradients, rates)
    _, _, others, first, _ = setting()
    run(first, others, [series[:5] for series in gradients], rates[:5])
    second = BertAdam([{"params": others[:1]}, {"params": others[1:], "weight_decay": 0.0}], lr=0.5, weight_decay=0.3)
    second.load_state_dict(first.state_dict())
    run(second, others, [series[5:] for series in gradients], rates[5:])
    assert_close(others, parameters, rtol=0, atol=0)
