"""Cross entropy whose gradient takes the place of the probabilities, against torch's."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_lineage import plain_equations
from hf_lineage.models import fast_cross_entropy
from hf_lineage.models.fast_cross_entropy import (
    CrossEntropyInParts,
    SummedCrossEntropy,
    in_parts,
    summed_cross_entropy,
)
from hf_lineage.models.losses import mean_cross_entropy


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("part", [1, 3 * 50, 2**24])
def test_parts_in_bfloat16_are_torchs_cross_entropy(monkeypatch, part, smoothing):
    monkeypatch.setattr(fast_cross_entropy, "PART", part)
    values, labels = (torch.randn(2, 5, 50) * 4).bfloat16(), torch.randint(50, (2, 5))
    labels[0, 1:3] = -100
    found, expected = (values.clone().requires_grad_() for _ in "12")
    loss = mean_cross_entropy(found, labels, smoothing=smoothing)
    (3 * loss).backward()
    options = {"ignore_index": -100, "label_smoothing": smoothing}
    exact = cross_entropy(expected.float().flatten(0, 1), labels.flatten(), **options)
    (3 * exact).backward()
    assert loss.dtype is torch.float32
    assert_close(loss, exact)
    # rounded once more, by the factor
    assert_close(found.grad, expected.grad, rtol=2**-7, atol=1e-5)
    assert (found.grad[0, 1:3] == 0).all()


def test_only_gradients_in_bfloat16_are_computed_in_parts():
    low, high = torch.randn(3, 9, dtype=torch.bfloat16), torch.randn(3, 9)
    assert in_parts(low.clone().requires_grad_())
    assert not in_parts(low)
    assert not in_parts(high.requires_grad_())
    with plain_equations():
        assert not in_parts(low.clone().requires_grad_())


def test_what_is_kept_for_the_gradient_is_in_bfloat16():
    kept = []
    logits = torch.randn(6, 40, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        CrossEntropyInParts.apply(logits, torch.arange(6), 0.0)
    assert {(x.dtype, x.shape) for x in kept} == {(torch.bfloat16, logits.shape)}


@pytest.mark.parametrize("label", [9, -1])
def test_a_label_that_is_no_class_is_named_in_bfloat16_too(label):
    logits = torch.randn(1, 9, dtype=torch.bfloat16, requires_grad=True)
    with pytest.raises(ValueError, match=f"labels has {label}"):
        mean_cross_entropy(logits, torch.tensor([label]))
