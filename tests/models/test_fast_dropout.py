"""Dropout from fewer random numbers, and the packed attention that uses it."""

import pytest
import torch

from hf_lineage.models.fast_dropout import Dropout, dropout_mask
from hf_lineage.models.fast_segments import SegmentAttention


@pytest.mark.parametrize("rate", [0.1, 0.5, 1e-3])
def test_entries_are_dropped_at_the_rate_and_keep_the_mean(rate):
    mask = dropout_mask(torch.empty(0, dtype=torch.double), [500, 2_001], rate)
    number = mask.numel()
    dropped = (mask == 0).double()
    # five standard deviations
    assert dropped.mean().item() == pytest.approx(rate, abs=5 * (rate / number) ** 0.5)
    assert len(mask.unique()) == 2
    torch.testing.assert_close(mask.max().item(), 1 / (1 - rate), rtol=2e-5, atol=0)
    # neighbours share the word that was drawn
    together = (dropped.flatten()[:-1] * dropped.flatten()[1:]).mean().item()
    assert together == pytest.approx(rate**2, abs=5 * rate / number**0.5)


@pytest.mark.parametrize("rate", [0.0, 1e-7, 1 - 1e-7, 1.0])
def test_rates_beyond_sixteen_bits(rate):
    x = torch.ones(1_000)
    expected = round(rate)
    assert (Dropout(rate).train()(x) == 0).float().mean() == pytest.approx(expected, abs=0.01)
    torch.testing.assert_close(Dropout(rate).eval()(x), x)


def test_seeds_decide():
    x, layer = torch.ones(100), Dropout(0.5)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)


@pytest.mark.parametrize("causal", [False, True])
class TestSegmentAttention:
    lengths = [3, 7, 1, 5]

    def sources(self, causal):
        return self.lengths if causal else [2, 1, 6, 4]

    def values(self, causal):
        torch.manual_seed(0)
        totals = [sum(self.lengths)] + 2 * [sum(self.sources(causal))]
        values = (torch.randn(1, total, 4, 8, dtype=torch.double) for total in totals)
        return [x.transpose(1, 2).requires_grad_() for x in values]

    def attend(self, *values, causal, rate=0.3):
        torch.manual_seed(5)
        return SegmentAttention.apply(*values, self.lengths, self.sources(causal), 8**-0.5, rate, causal)

    def test_gradients(self, causal):
        torch.autograd.gradcheck(lambda *values: self.attend(*values, causal=causal), self.values(causal))

    def test_equals_attention_text_by_text(self, causal):
        values = self.values(causal)
        splits = (self.lengths, self.sources(causal), self.sources(causal))
        texts = zip(*(x.split(lengths, dim=2) for x, lengths in zip(values, splits, strict=True)), strict=True)
        attend = torch.nn.functional.scaled_dot_product_attention
        expected = torch.cat([attend(*text, is_causal=causal) for text in texts], dim=2).transpose(1, 2)
        # a rate that drops none of so few
        torch.testing.assert_close(self.attend(*values, causal=causal, rate=1e-9), expected, rtol=1e-7, atol=1e-7)
