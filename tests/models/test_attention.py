"""Multi-head attention against torch.nn and torch's own scaled dot-product attention."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import DynamicCache

from hf_lineage import GPTConfig
from hf_lineage.models.transformer_layers import MultiHeadAttention, eager_attention_forward


B, T, D, H = 3, 6, 16, 4


def new_attention(implementation: str, is_causal: bool = False) -> MultiHeadAttention:
    config = GPTConfig(hidden_size=D, num_attention_heads=H, num_hidden_layers=1, attention_dropout=0.0)
    config._attn_implementation = implementation
    return MultiHeadAttention(config, 0, is_causal).double()


def torch_attention(attention: MultiHeadAttention) -> nn.MultiheadAttention:
    """torch's module with the same weights; it keeps query, key and value in one matrix."""
    reference = nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.double)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        reference.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        reference.out_proj.weight.copy_(attention.out_proj.weight)
        reference.out_proj.bias.copy_(attention.out_proj.bias)
    return reference


def allowed_positions(causal: bool, padded: bool) -> torch.Tensor:
    """True where the query in row t may look at the key in column s [B, 1, T, T]."""
    allowed = torch.ones(B, 1, T, T, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    if padded:
        allowed = allowed & (torch.arange(T) < torch.tensor([6, 4, 1])[:, None])[:, None, None]
    return allowed


def additive(allowed: torch.Tensor) -> torch.Tensor:
    return torch.zeros(allowed.shape, dtype=torch.double).masked_fill(~allowed, -torch.inf)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torchs_module(causal, padded, implementation):
    attention = new_attention(implementation)
    reference = torch_attention(attention)
    x = torch.randn(B, T, D, dtype=torch.double)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    allowed = allowed_positions(causal, padded)

    # eager adds its mask, sdpa takes "may look"; torch's module wants "must not look", once per head
    output, weights = attention(ours, additive(allowed) if implementation == "eager" else allowed)
    forbidden = (~allowed).expand(B, H, T, T).flatten(0, 1)
    expected, expected_weights = reference(theirs, theirs, theirs, attn_mask=forbidden, average_attn_weights=False)
    assert_close(output, expected)
    if implementation == "eager":
        assert_close(weights, expected_weights)

    probe = torch.randn_like(output)
    (output * probe).sum().backward()
    (expected * probe).sum().backward()
    assert_close(ours.grad, theirs.grad)
    weight_gradients = [
        projection.weight.grad for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    assert_close(torch.cat(weight_gradients), reference.in_proj_weight.grad)
    assert_close(attention.q_proj.bias.grad, reference.in_proj_bias.grad[:D])
    assert_close(attention.v_proj.bias.grad, reference.in_proj_bias.grad[2 * D :])
    assert_close(attention.out_proj.weight.grad, reference.out_proj.weight.grad)
    assert_close(attention.out_proj.bias.grad, reference.out_proj.bias.grad)


@pytest.mark.parametrize("masked", [False, True])
def test_eager_is_torchs_scaled_dot_product_attention(masked):
    query = torch.randn(B, H, T, 5, dtype=torch.double, requires_grad=True)
    key, value = (torch.randn(B, H, 9, 5, dtype=torch.double, requires_grad=True) for _ in range(2))
    mask = torch.randn(B, 1, T, 9, dtype=torch.double) if masked else None
    expected = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3).transpose(1, 2)
    output, weights = eager_attention_forward(nn.Identity(), query, key, value, mask, scaling=0.3)
    assert_close(output, expected)
    assert_close(weights.sum(3), torch.ones(B, H, T, dtype=torch.double))
    probe = torch.randn_like(output)
    gradients, expected_gradients = (
        torch.autograd.grad((tensor * probe).sum(), (query, key, value)) for tensor in (output, expected)
    )
    assert_close(gradients, expected_gradients)


def test_dropout_acts_on_the_weights_in_training_only():
    attention = new_attention("eager")
    attention.dropout = 0.5
    x = torch.randn(B, T, D, dtype=torch.double)
    complete = attention.eval()(x)[1]
    dropped = attention.train()(x)[1]
    kept = dropped != 0
    assert 0.4 < kept.double().mean() < 0.6
    assert_close(dropped[kept], 2 * complete[kept])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_keys_and_values_of_the_past_come_from_the_cache(implementation):
    attention = new_attention(implementation, is_causal=True)
    x, allowed = torch.randn(B, T, D, dtype=torch.double), allowed_positions(causal=True, padded=False)
    mask = additive(allowed) if implementation == "eager" else allowed
    expected = attention(x, mask)[0]
    cache = DynamicCache(config=attention.config)
    pieces = [
        attention(x[:, start:end], mask[:, :, start:end, :end], cache=cache)[0]
        for start, end in ((0, 3), (3, 4), (4, 6))
    ]
    assert_close(torch.cat(pieces, dim=1), expected)
    assert cache.layers[0].keys.shape == (B, H, T, D // H)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_order_of_the_others_does_not_matter_without_a_mask(implementation):
    # attention alone sees a set: only positions added to the vectors make it a sequence
    attention, order = new_attention(implementation), torch.randperm(T)
    x = torch.randn(B, T, D, dtype=torch.double)
    assert_close(attention(x[:, order])[0], attention(x)[0][:, order])
