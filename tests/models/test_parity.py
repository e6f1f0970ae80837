"""Whole models against transformers' own, with copied weights."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_lineage import GPTConfig, GPTForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.models.transformer_layers import eager_attention_forward


def gpt_pair(**settings):
    """Our GPT and transformers' OpenAI GPT with equal weights (theirs are transposed, query, key and value in one)."""
    reference = OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=60, n_positions=32, n_embd=16, n_layer=3, n_head=4, initializer_range=0.3)
    ).eval()
    model = GPTForCausalLM(
        GPTConfig(
            vocab_size=60,
            max_position_embeddings=32,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            **settings,
        )
    ).eval()
    pairs = [
        (model.model.embed_tokens.weight, reference.transformer.tokens_embed.weight, False),
        (model.model.embed_positions.weight, reference.transformer.positions_embed.weight, False),
    ]
    for ours, theirs in zip(model.model.blocks, reference.transformer.h, strict=True):
        for layer, conv in (
            (ours.attention.out_proj, theirs.attn.c_proj),
            (ours.feed_forward.up_proj, theirs.mlp.c_fc),
            (ours.feed_forward.down_proj, theirs.mlp.c_proj),
        ):
            pairs += [(layer.weight, conv.weight, True), (layer.bias, conv.bias, False)]
        for norm, theirs_norm in ((ours.attention_norm, theirs.ln_1), (ours.feed_forward_norm, theirs.ln_2)):
            pairs += [(norm.weight, theirs_norm.weight, False), (norm.bias, theirs_norm.bias, False)]
    with torch.no_grad():
        for ours, theirs, transposed in pairs:
            ours.copy_(theirs.T if transposed else theirs)
        for ours, theirs in zip(model.model.blocks, reference.transformer.h, strict=True):
            for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
                projection = getattr(ours.attention, name)
                projection.weight.copy_(theirs.attn.c_attn.weight.T.chunk(3)[part])
                projection.bias.copy_(theirs.attn.c_attn.bias.chunk(3)[part])
    return model, reference, pairs


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
def test_gpt_equals_transformers_openai_gpt(padded, attn_implementation):
    model, reference, pairs = gpt_pair(attn_implementation=attn_implementation)
    lengths = torch.tensor([[7], [5], [3]] if padded else [[7], [7], [7]])
    ids, mask = torch.randint(60, (3, 7)), (torch.arange(7) < lengths).long()
    labels = ids.masked_fill(mask == 0, -100)
    ours = model(ids, attention_mask=mask, labels=labels)
    theirs = reference(ids, attention_mask=mask, labels=labels)
    assert_close(ours.logits[mask.bool()], theirs.logits[mask.bool()], atol=1e-5, rtol=1e-5)
    assert_close(ours.loss, theirs.loss)

    ours.loss.backward()
    theirs.loss.backward()
    for parameter, expected, transposed in pairs:
        assert_close(parameter.grad, expected.grad.T if transposed else expected.grad, atol=1e-5, rtol=1e-4)
    for block, their_block in zip(model.model.blocks, reference.transformer.h, strict=True):
        packed = their_block.attn.c_attn.weight.grad.T.chunk(3)
        for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
            assert_close(getattr(block.attention, name).weight.grad, packed[part], atol=1e-5, rtol=1e-4)


def test_masks_of_each_query_reach_the_attention():
    model, _, _ = gpt_pair(attn_implementation="sdpa")
    ids = torch.randint(60, (1, 7))
    # two documents, by a mask instead of positions
    document = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    mask = (document == document[:, None]).tril()[None, None]
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    found = model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    assert_close(found[:, 4:], model(ids[:, 4:]).logits)


def flash_by_bounds(module, query, key, value, attention_mask, scaling, dropout, **options):
    """Flash attention's contract: no mask, rows end to end, texts told apart by their bounds alone."""
    assert attention_mask is None
    bounds, longest = options["cu_seq_lens_q"].tolist(), options["cu_seq_lens_q"].diff().max()
    assert options["cu_seq_lens_k"].tolist() == bounds
    assert options["max_length_q"] == options["max_length_k"] == longest
    rows = [x.transpose(1, 2).flatten(0, 1).transpose(0, 1) for x in (query, key, value)]  # [H, B · T, D/H]
    texts = [
        scaled_dot_product_attention(*(x[:, a:b] for x in rows), is_causal=module.is_causal, scale=scaling)
        for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    return torch.cat(texts, dim=1).transpose(0, 1).view(len(query), -1, *query.shape[1::2]), None


@pytest.fixture
def flash(monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_by_bounds", flash_by_bounds)
    return "flash_by_bounds"


@pytest.mark.parametrize("rows", [1, 2])
def test_flash_attention_is_told_where_packed_documents_begin(flash, rows):
    model, _, _ = gpt_pair(attn_implementation="eager")
    ids = torch.randint(60, (rows, 9))
    positions = torch.cat([torch.arange(5), torch.arange(4)]).expand(rows, -1)
    expected = model(ids, position_ids=positions, use_cache=False).logits
    model.config._attn_implementation = flash
    assert_close(model(ids, position_ids=positions, use_cache=False).logits, expected)
    if rows == 1:
        bounds = torch.tensor([0, 5, 9], dtype=torch.int32)
        assert_close(model(ids, cu_seq_lens_q=bounds, use_cache=False).logits, expected)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa", "by_mask_alone"])
def test_documents_packed_by_bounds_do_not_see_each_other_or_what_comes(attn_implementation, monkeypatch):
    # as flex attention, which heeds no is_causal
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "by_mask_alone", eager_attention_forward)
    model, _, _ = gpt_pair()
    model.config._attn_implementation = attn_implementation
    first, second = torch.randint(60, (1, 5)), torch.randint(60, (1, 4))
    bounds = torch.tensor([0, 5, 9], dtype=torch.int32)
    packed = model(torch.cat([first, second], dim=1), cu_seq_lens_q=bounds, use_cache=False).logits
    expected, _, _ = gpt_pair(attn_implementation="eager")
    expected.load_state_dict(model.state_dict())
    assert_close(packed[:, :5], expected(first).logits)
    assert_close(packed[:, 5:], expected(second).logits)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_packed_documents_do_not_see_each_other(attn_implementation):
    model, _, _ = gpt_pair(attn_implementation=attn_implementation)
    first, second = torch.randint(60, (1, 5)), torch.randint(60, (1, 4))
    positions = torch.cat([torch.arange(5), torch.arange(4)])[None]
    packed = model(torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits
    assert_close(packed[:, :5], model(first).logits)
    assert_close(packed[:, 5:], model(second).logits)


def test_gpt_has_the_papers_size():
    with torch.device("meta"):
        model = GPTForCausalLM(GPTConfig())
    assert model.num_parameters() == model.model.num_parameters() == 116_534_784


def test_zaremba_small_has_the_papers_size():
    # one bias a gate; torch's nn.LSTM counts a second, redundant one
    embedding, layer, softmax = 10_000 * 200, 4 * (200 * 200 + 200 * 200 + 200), 200 * 10_000 + 10_000
    assert LSTMForCausalLM(LSTMConfig()).num_parameters() == embedding + 2 * layer + softmax == 4_651_600
