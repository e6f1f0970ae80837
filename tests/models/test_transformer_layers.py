"""The post-norm block against torch.nn.TransformerEncoderLayer."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_lineage import GPTConfig
from hf_lineage.models.transformer_layers import FeedForward, SelfAttentionBlock


B, T, D, H, F = 3, 6, 16, 4, 24


def new_block(activation: str, implementation: str = "sdpa", is_causal: bool = False) -> SelfAttentionBlock:
    config = GPTConfig(
        hidden_size=D,
        num_attention_heads=H,
        intermediate_size=F,
        hidden_act=activation,
        layer_norm_eps=1e-3,
        dropout=0.0,
        attention_dropout=0.0,
    )
    config._attn_implementation = implementation
    block = SelfAttentionBlock(config, 0, is_causal).double()
    with torch.no_grad():
        for norm in (block.attention_norm, block.feed_forward_norm):
            norm.weight.normal_()
            norm.bias.normal_()
    return block


def torch_block(block: SelfAttentionBlock, activation) -> nn.TransformerEncoderLayer:
    """torch's layer with the same weights."""
    reference = nn.TransformerEncoderLayer(
        D, H, F, dropout=0.0, activation=activation, layer_norm_eps=1e-3, batch_first=True, dtype=torch.double
    )
    attention = block.attention
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    with torch.no_grad():
        reference.self_attn.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        reference.self_attn.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        for ours, theirs in pairs(block, reference):
            theirs.weight.copy_(ours.weight)
            theirs.bias.copy_(ours.bias)
    return reference


def pairs(block: SelfAttentionBlock, reference: nn.TransformerEncoderLayer) -> list[tuple[nn.Module, nn.Module]]:
    """Modules that correspond one to one."""
    return [
        (block.attention.out_proj, reference.self_attn.out_proj),
        (block.feed_forward.up_proj, reference.linear1),
        (block.feed_forward.down_proj, reference.linear2),
        (block.attention_norm, reference.norm1),
        (block.feed_forward_norm, reference.norm2),
    ]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new"])
def test_block_equals_torchs_post_norm_layer(activation, masked, implementation):
    block = new_block(activation, implementation)
    tanh_gelu = lambda x: nn.functional.gelu(x, approximate="tanh")  # noqa: E731 - as short as the names beside it
    reference = torch_block(block, tanh_gelu if activation == "gelu_new" else activation)
    x = torch.randn(B, T, D, dtype=torch.double)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    may_look = torch.rand(B, 1, T, T) < 0.6
    may_look = may_look | torch.eye(T, dtype=torch.bool)
    mask, forbidden = may_look, (~may_look).expand(B, H, T, T).flatten(0, 1)
    if implementation == "eager":
        mask = torch.zeros(may_look.shape, dtype=torch.double).masked_fill(~may_look, -torch.inf)
    output = block(ours, mask if masked else None)
    expected = reference(theirs, src_mask=forbidden if masked else None)
    assert_close(output, expected)

    probe = torch.randn_like(output)
    (output * probe).sum().backward()
    (expected * probe).sum().backward()
    assert_close(ours.grad, theirs.grad)
    for module, their_module in pairs(block, reference):
        assert_close(module.weight.grad, their_module.weight.grad)
        assert_close(module.bias.grad, their_module.bias.grad)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_causal_block_cannot_see_the_future(implementation):
    block = new_block("gelu_new", implementation, is_causal=True)
    mask = None
    if implementation == "eager":
        mask = torch.full((1, 1, T, T), -torch.inf, dtype=torch.double).triu(1)
    x = torch.randn(1, T, D, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: block(x, mask), x)[0, :, :, 0]  # [T, D, T, D]
    depends = jacobian.abs().sum((1, 3)) > 0
    assert torch.equal(depends, torch.ones(T, T, dtype=torch.bool).tril())


def test_output_is_normalised():
    """Post-norm: the block ends in a LayerNorm (Vaswani et al., 2017, section 3.1)."""
    block = new_block("relu")
    with torch.no_grad():
        block.feed_forward_norm.weight.fill_(1.0)
        block.feed_forward_norm.bias.fill_(0.0)
    output = block(10 * torch.randn(B, T, D, dtype=torch.double))
    assert_close(output.mean(2), torch.zeros(B, T, dtype=torch.double), atol=1e-9, rtol=0)
    assert_close(output.var(2, correction=0), torch.ones(B, T, dtype=torch.double), atol=1e-2, rtol=0)


def test_feed_forward_treats_every_position_alike():
    feed_forward = FeedForward(D, F, "relu")
    x, order = torch.randn(B, T, D), torch.randperm(T)
    assert_close(feed_forward(x[:, order]), feed_forward(x)[:, order])
    up, down = feed_forward.up_proj, feed_forward.down_proj
    assert_close(feed_forward(x), (x @ up.weight.T + up.bias).clamp(min=0) @ down.weight.T + down.bias)
