"""Cross entropy whose gradient takes the place of the probabilities, against torch's."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_lineage.models.fast_cross_entropy import SummedCrossEntropy, summed_cross_entropy


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_loss_and_gradient_are_those_of_torch(scale):
    torch.manual_seed(0)
    values, labels = torch.randn(7, 50) * scale, torch.randint(50, (7,))
    results = []
    for loss_of in (summed_cross_entropy, lambda x, y: cross_entropy(x, y, reduction="sum")):
        logits = values.clone().requires_grad_()
        loss = loss_of(logits, labels)
        (loss / 3).backward()
        results.append((loss, logits.grad))
    assert_close(*results)


def test_a_kept_graph_gives_its_gradient_again():
    logits, labels = torch.randn(4, 9, requires_grad=True), torch.randint(9, (4,))
    loss = summed_cross_entropy(logits, labels)
    first, second = (torch.autograd.grad(2 * loss, logits, retain_graph=True)[0] for _ in range(2))
    assert_close(first, second)
    assert torch.autograd.gradcheck(
        lambda x: SummedCrossEntropy.apply(x, labels), torch.randn(4, 9, dtype=torch.double, requires_grad=True)
    )


def test_no_label_is_no_loss():
    logits = torch.randn(0, 9, requires_grad=True)
    loss = summed_cross_entropy(logits, torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert logits.grad.shape == (0, 9)
