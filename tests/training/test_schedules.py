"""The Transformer's schedule against the paper's formula and transformers' late one."""

import pytest
import torch
from transformers import get_inverse_sqrt_schedule

from hf_lineage.training import noam


@pytest.mark.parametrize(("width", "warmup"), [(512, 4_000), (1_024, 4_000), (64, 1)])
def test_noam_is_equation_3(width, warmup):
    factor, base = noam(warmup), width**-0.5 * warmup**-0.5
    for step in (1, 2, 17, warmup, warmup + 1, 100_000):
        expected = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert base * factor(step - 1) == pytest.approx(expected, rel=1e-12)


def test_noam_is_transformers_inverse_sqrt_one_update_earlier():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_inverse_sqrt_schedule(optimizer, num_warmup_steps=30).lr_lambdas[0]
    assert theirs(0) == 0
    assert [noam(30)(update) for update in range(500)] == pytest.approx([theirs(update + 1) for update in range(500)])


def test_warm_up_takes_an_update_at_least():
    with pytest.raises(ValueError, match="warmup_updates is 0"):
        noam(0)
