"""The Transformer: against torch.nn's layers, transformers' position tables and the paper's numbers."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.testing import assert_close
from transformers.models.fsmt.modeling_fsmt import SinusoidalPositionalEmbedding
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from hf_lineage import TransformerConfig, TransformerForConditionalGeneration, TransformerModel
from hf_lineage.data import TranslationPackingCollator
from hf_lineage.models.modeling_transformer import DecoderBlock, sinusoidal_positions
from tests.models.common import assert_same_gradients, constant, gradients, normal, uniform
from tests.models.common_seq2seq import Seq2SeqTests


ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "dropout": 0.0,
}
B, S, T, D = 3, 7, 5, 16


class TestTransformer(Seq2SeqTests):
    config_class = TransformerConfig
    tiny = TINY

    without_effect = {"k_proj.bias": "softmax does not change when all scores of a query rise alike"}

    def initialization(self, name, config):
        if name.endswith("bias"):
            return constant(0.0)
        if "norm" in name:
            return constant(1.0)
        if "embed_tokens" in name:
            return normal(config.hidden_size**-0.5)
        inputs, outputs = config.hidden_size, config.hidden_size
        if "up_proj" in name or "down_proj" in name:
            outputs = config.intermediate_size
        if "lm_head" in name:
            outputs = config.vocab_size
        return uniform(math.sqrt(6 / (inputs + outputs)))


def new_model(head=TransformerForConditionalGeneration, **changes):
    """A model whose parameters all differ from their initial values, biases and norms included."""
    model = head(TransformerConfig(**TINY | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


# positions


@pytest.mark.parametrize("position", [0, 1, 77, 4_000])
def test_positions_are_the_papers_formula(position):
    vector = sinusoidal_positions(torch.tensor([[position]]), 12)[0, 0]
    for i in range(6):
        angle = position / 10_000 ** (2 * i / 12)
        assert vector[2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert vector[2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_concatenated_positions_are_marians():
    table = MarianSinusoidalPositionalEmbedding(50, 12).create_weight()
    found = sinusoidal_positions(torch.arange(50)[None], 12, "concatenated")[0]
    assert_close(found, table, atol=1e-6, rtol=0)
    assert_close(found[:, [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]], sinusoidal_positions(torch.arange(50)[None], 12)[0])


def test_tensor2tensors_positions_are_fairseqs():
    table = SinusoidalPositionalEmbedding(50, 12, padding_idx=1).get_embedding(50, 12, None)
    found = sinusoidal_positions(torch.arange(50)[None], 12, "tensor2tensor")[0]
    assert_close(found, table, atol=1e-5, rtol=0)


def test_positions_start_at_their_offset_and_skip_padding():
    model = new_model(TransformerModel, position_offset=2)
    ids = torch.randint(60, (1, S))
    found = model.encoder(ids, output_hidden_states=True).hidden_states[0]
    vectors = model.encoder.embed_tokens(ids) * 4 + sinusoidal_positions(torch.arange(2, S + 2)[None], D)
    assert_close(found, vectors)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    padded = model.encoder(ids, mask, output_hidden_states=True).hidden_states[0]
    assert_close(padded[:, 2:], model.encoder(ids[:, 2:], output_hidden_states=True).hidden_states[0])


# layers


def torch_layer(block, kind):
    """torch's encoder or decoder layer with the weights of ours."""
    heads, width = block.attention.config.num_attention_heads, block.feed_forward.up_proj.out_features
    layer = kind(
        D, heads, width, dropout=0.0, activation="relu", layer_norm_eps=1e-6, batch_first=True, norm_first=False
    ).eval()
    pairs = [(block.attention, layer.self_attn)]
    norms = [block.attention_norm, block.feed_forward_norm]
    if kind is nn.TransformerDecoderLayer:
        pairs.append((block.cross_attention, layer.multihead_attn))
        norms.insert(1, block.cross_attention_norm)
    modules = [(block.feed_forward.up_proj, layer.linear1), (block.feed_forward.down_proj, layer.linear2)]
    modules += [(norm, getattr(layer, f"norm{i}")) for i, norm in enumerate(norms, 1)]
    with torch.no_grad():
        for ours, theirs in pairs:
            parts = (ours.q_proj, ours.k_proj, ours.v_proj)
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            modules.append((ours.out_proj, theirs.out_proj))
        for ours, theirs in modules:
            theirs.weight.copy_(ours.weight)
            theirs.bias.copy_(ours.bias)
    return layer, pairs, modules


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
def test_stacks_are_torchs_post_norm_layers(padded, implementation):
    model = new_model(TransformerModel, attn_implementation=implementation)
    lengths = torch.tensor([[S], [4], [1]] if padded else [[S]] * B)
    mask = (torch.arange(S) < lengths).long()
    ids, target_ids = torch.randint(60, (B, S)), torch.randint(60, (B, T))
    outputs = model(ids, mask, target_ids, use_cache=False)

    encoder_layers = [torch_layer(block, nn.TransformerEncoderLayer) for block in model.encoder.blocks]
    decoder_layers = [torch_layer(block, nn.TransformerDecoderLayer) for block in model.decoder.blocks]
    padding = mask == 0
    source = model.encoder.add_positions(model.encoder.embed_tokens(ids), torch.arange(S)[None])
    for layer, _, _ in encoder_layers:
        source = layer(source, src_key_padding_mask=padding)
    target = model.decoder.add_positions(model.encoder.embed_tokens(target_ids), torch.arange(T)[None])
    future = nn.Transformer.generate_square_subsequent_mask(T)
    for layer, _, _ in decoder_layers:
        target = layer(target, source, tgt_mask=future, memory_key_padding_mask=padding, tgt_is_causal=True)
    kept = mask.bool()
    assert_close(outputs.encoder_last_hidden_state[kept], source[kept], atol=1e-5, rtol=1e-5)
    assert_close(outputs.last_hidden_state, target, atol=1e-5, rtol=1e-5)

    probe = torch.randn_like(target)
    (outputs.last_hidden_state * probe).sum().backward()
    (target * probe).sum().backward()
    for _, pairs, modules in encoder_layers + decoder_layers:
        for ours, theirs in modules:
            assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)
        for ours, theirs in pairs:
            weights = torch.cat([ours.q_proj.weight.grad, ours.k_proj.weight.grad, ours.v_proj.weight.grad])
            assert_close(weights, theirs.in_proj_weight.grad, atol=1e-4, rtol=1e-4)


def test_dropout_acts_where_the_paper_has_it():
    """On the sums of token and position vectors, and on each sub-layer's output; not in attention or feed-forward."""
    model = new_model(TransformerModel, dropout=0.5).train()
    places = {name.rsplit(".", 1)[0] for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    blocks = {f"{part}.blocks.{i}" for part in ("encoder", "decoder") for i in range(2)}
    assert places == {"encoder", "decoder"} | blocks
    assert model.config.attention_dropout == 0
    block = model.decoder.blocks[0]
    x, source = torch.randn(1, T, D), torch.randn(1, S, D)
    # a sub-layer's dropout scales or erases what the sub-layer adds, element by element
    assert isinstance(block, DecoderBlock)
    seen = []
    block.dropout.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    block(x, source)
    assert len(seen) == 3
    assert all(torch.isin((out / put).round(decimals=3), torch.tensor([0.0, 2.0])).all() for put, out in seen)


# what each position sees


def test_the_decoder_sees_the_past_and_not_the_future():
    model = new_model()
    vectors = torch.randn(1, T, D, requires_grad=True)
    logits = model(torch.randint(60, (1, S)), decoder_inputs_embeds=vectors).logits
    for t in range(T):
        (gradient,) = torch.autograd.grad(logits[0, t].sin().sum(), vectors, retain_graph=True)
        assert (gradient[0, : t + 1].abs().sum(1) > 0).all()
        assert gradient[0, t + 1 :].abs().max() == 0 if t + 1 < T else True


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_no_padding_of_the_source_is_seen(implementation):
    model = new_model(attn_implementation=implementation)
    vectors = torch.randn(1, S, D, requires_grad=True)
    mask = torch.tensor([[0, 1, 1, 0, 1, 1, 0]])
    logits = model(inputs_embeds=vectors, attention_mask=mask, decoder_input_ids=torch.randint(60, (1, T))).logits
    (gradient,) = torch.autograd.grad(logits.sin().sum(), vectors)
    assert torch.equal(gradient[0].abs().sum(1) > 0, mask[0].bool())
    if implementation == "eager":
        outputs = model(
            inputs_embeds=vectors,
            attention_mask=mask,
            decoder_input_ids=torch.randint(60, (1, T)),
            output_attentions=True,
        )
        for weights in outputs.cross_attentions:
            assert weights[..., mask[0] == 0].abs().max() == 0


# sizes


def count(vocabulary, width, inner, layers=6):
    attention, feed_forward, norm = 4 * (width * width + width), 2 * width * inner + inner + width, 2 * width
    encoder = attention + feed_forward + 2 * norm
    return vocabulary * width + layers * (encoder + encoder + attention + norm)


def test_presets_have_the_papers_sizes():
    """Table 3: 65 and 213 million; the vocabulary is "about 37,000"."""
    for config, size, published in (
        (TransformerConfig(), count(37_000, 512, 2_048), 65),
        (TransformerConfig.big(), count(37_000, 1_024, 4_096), 213),
    ):
        with torch.device("meta"):
            found = TransformerForConditionalGeneration(config).num_parameters()
        assert found == size
        assert found / 1e6 == pytest.approx(published, rel=0.03)
    settings = yaml.safe_load((ROOT / "recipes" / "configs" / "transformer_big.yaml").read_text(encoding="utf-8"))
    assert TransformerConfig(**settings["config_overrides"]).to_dict() == TransformerConfig.big().to_dict()
    assert (count(37_000, 512, 2_048), count(37_000, 1_024, 4_096)) == (63_082_496, 214_245_376)


def test_source_target_and_output_share_one_matrix(tmp_path):
    model = new_model()
    embeddings = model.get_input_embeddings()
    assert model.lm_head.weight is embeddings.weight
    assert [name for name, _ in model.named_parameters() if name.endswith("embed_tokens.weight")] == [
        "model.encoder.embed_tokens.weight"
    ]
    ids, labels = torch.randint(50, (B, S)), torch.randint(50, (B, T))
    before = model(ids, labels=labels).logits
    model.resize_token_embeddings(67)
    after = model(ids, labels=labels).logits
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert_close(after[..., :60], before)
    model.save_pretrained(tmp_path)
    assert_close(TransformerForConditionalGeneration.from_pretrained(tmp_path)(ids, labels=labels).logits, after)


def test_the_stacks_may_differ_in_depth():
    model = new_model(num_hidden_layers=1, decoder_layers=3)
    assert (len(model.model.encoder.blocks), len(model.model.decoder.blocks)) == (1, 3)
    ids = torch.randint(4, 60, (B, S))
    options = {"max_new_tokens": 6, "num_beams": 3, "eos_token_id": None}
    assert torch.equal(model.generate(ids, **options), model.generate(ids, use_cache=False, **options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 18, "num_attention_heads": 4}, "hidden_size 18.*num_attention_heads 4"),
        ({"hidden_size": 15, "num_attention_heads": 3}, "hidden_size is 15.*even"),
        ({"decoder_layers": 0}, "decoder_layers is 0.*1 and 1000"),
        ({"position_layout": "learned"}, "position_layout"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(StrictDataclassError, match=f"(?s){message}"):
        TransformerConfig(**TINY | changes)


def test_the_loss_shifts_once():
    model = new_model()
    ids, labels = torch.randint(60, (B, S)), torch.randint(60, (B, T))
    labels[0, 3:] = -100
    start = torch.full((B, 1), model.config.decoder_start_token_id)
    decoder_ids = torch.cat([start, labels[:, :-1]], dim=1).clamp(min=model.config.pad_token_id)
    logits = model(ids, decoder_input_ids=decoder_ids).logits
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert_close(model(ids, labels=labels).loss, expected)
    assert_close(model(ids, labels=labels, num_items_in_batch=2 * (B * T - 2)).loss, expected / 2)


# packing


def sentence_pairs(number=4):
    """Examples of {"input_ids", "labels"} whose lengths differ, the same batch padded, and packed."""
    examples = [
        {"input_ids": torch.randint(4, 60, (3 + 2 * i % 5,)), "labels": torch.randint(4, 60, (2 + 3 * i % 7,))}
        for i in range(number)
    ]
    pad = nn.utils.rnn.pad_sequence
    sources = [example["input_ids"] for example in examples]
    padded = {
        "input_ids": pad(sources, batch_first=True),
        "attention_mask": pad([torch.ones_like(source) for source in sources], batch_first=True),
        "labels": pad([example["labels"] for example in examples], batch_first=True, padding_value=-100),
    }
    return examples, padded, TranslationPackingCollator()(examples)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_packed_pairs_have_the_loss_and_gradients_of_padded_ones(implementation):
    model = new_model(decoder_start_token_id=2, pad_token_id=0)
    model.set_attn_implementation(implementation)
    _, padded, packed = sentence_pairs()
    losses, found = [], []
    for batch in (padded, packed):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss)
        found.append(gradients(model))
    assert_close(*losses, rtol=0, atol=1e-6)
    assert_same_gradients(found[1], found[0])


def test_packed_pairs_train_with_dropout_and_checkpointing():
    model = new_model(decoder_start_token_id=2, dropout=0.5, attention_dropout=0.5).train()
    _, _, packed = sentence_pairs()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(0)
        model(**packed).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        model.activation_checkpointing_enable()
    for plain, recomputed in zip(*gradients, strict=True):
        assert_close(plain, recomputed)


def test_malformed_packing_is_refused():
    model, (_, _, packed) = new_model(decoder_start_token_id=2), sentence_pairs()
    sources = packed.pop("cu_seq_lens_k")
    with pytest.raises(ValueError, match="give both cu_seq_lens_q"):
        model(**packed)
    with pytest.raises(ValueError, match="4 targets, cu_seq_lens_k 3 sources"):
        model(**packed, cu_seq_lens_k=torch.cat([sources[:1], sources[2:]]))
    with pytest.raises(ValueError, match="labels.*example 1 "):
        TranslationPackingCollator()([{"input_ids": [1], "labels": [1]}, {"input_ids": [1], "labels": []}])
