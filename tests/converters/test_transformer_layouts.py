"""The Transformer against transformers' Marian and FSMT (fairseq), through the converters, both ways."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import FSMTConfig, FSMTForConditionalGeneration, MarianConfig, MarianMTModel

from hf_lineage import TransformerConfig, TransformerForConditionalGeneration
from hf_lineage.converters import from_fairseq, from_marian, to_fairseq, to_marian


B, S, T, V = 3, 7, 5, 60


def randomised(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def marian(**changes):
    sizes = {
        "vocab_size": V,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "activation_function": "swish",
        "scale_embedding": True,
        "pad_token_id": V - 1,
        "eos_token_id": 0,
        "decoder_start_token_id": V - 1,
        "max_position_embeddings": 64,
    }
    model = randomised(MarianMTModel(MarianConfig(**sizes | changes)))
    model.final_logits_bias.normal_()
    return model


def fsmt():
    model = randomised(
        FSMTForConditionalGeneration(
            FSMTConfig(
                langs=["de", "en"],
                src_vocab_size=V,
                tgt_vocab_size=V,
                d_model=16,
                encoder_layers=2,
                decoder_layers=3,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=24,
                decoder_ffn_dim=24,
                scale_embedding=True,
            )
        )
    )
    with torch.no_grad():
        for other in (model.model.encoder.embed_tokens, model.model.decoder.output_projection):
            other.weight.copy_(model.model.decoder.embed_tokens.weight)
    return model


def batch():
    torch.manual_seed(2)
    mask = (torch.arange(S) < torch.tensor([[S], [5], [2]])).long()
    return torch.randint(4, V - 1, (B, S)), mask, torch.randint(4, V - 1, (B, T))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_whole_model_is_marians(tmp_path, implementation):
    """Logits, loss and every gradient, with padding."""
    theirs = marian()
    theirs.save_pretrained(tmp_path)
    ours = from_marian(tmp_path)
    ours.set_attn_implementation(implementation)
    ids, mask, labels = batch()
    expected, found = (model(ids, mask, labels=labels) for model in (theirs, ours))
    assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert_close(found.loss, expected.loss)
    expected.loss.backward()
    found.loss.backward()
    for side in ("encoder", "decoder"):
        blocks, layers = getattr(ours.model, side).blocks, getattr(theirs.model, side).layers
        for block, layer in zip(blocks, layers, strict=True):
            for name, their_name in (
                ("attention.q_proj", "self_attn.q_proj"),
                ("attention.out_proj", "self_attn.out_proj"),
                ("feed_forward.up_proj", "fc1"),
                ("feed_forward_norm", "final_layer_norm"),
            ):
                gradient = block.get_submodule(name).weight.grad
                assert_close(gradient, layer.get_submodule(their_name).weight.grad, atol=1e-5, rtol=1e-4)
    embeddings = theirs.get_input_embeddings().weight
    # transformers gives the padding's vector no gradient, but ours stands at every target's beginning
    kept = torch.arange(V) != V - 1
    gradient = ours.get_input_embeddings().weight.grad
    assert_close(gradient[kept], embeddings.grad[kept], atol=1e-5, rtol=1e-4)


def test_marian_translations_are_equal(tmp_path):
    theirs = marian()
    theirs.save_pretrained(tmp_path)
    ours = from_marian(tmp_path)
    ids, mask, _ = batch()
    options = {"num_beams": 3, "max_new_tokens": 8, "num_return_sequences": 2, "length_penalty": 0.6}
    assert torch.equal(
        ours.generate(ids, attention_mask=mask, **options), theirs.generate(ids, attention_mask=mask, **options)
    )


def test_marian_comes_back(tmp_path):
    theirs = marian()
    theirs.save_pretrained(tmp_path)
    again = to_marian(from_marian(tmp_path), max_position_embeddings=64)
    expected, found = theirs.state_dict(), again.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale_embedding": False}, "scale_embedding=false"),
        ({"decoder_ffn_dim": 32}, "ffn_dim.*24, 32.*must be alike"),
    ],
)
def test_other_marians_are_refused(tmp_path, changes, message):
    marian(**changes).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        from_marian(tmp_path)


def test_a_damaged_marian_is_named(tmp_path):
    marian().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_layers": 3}))
    with pytest.raises(ValueError, match=r"encoder\.layers\.2\..* is missing"):
        from_marian(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_layers": 1}))
    with pytest.raises(ValueError, match=r"encoder\.layers\.1\..* has no place"):
        from_marian(tmp_path)


def test_what_marian_cannot_hold_is_refused():
    sizes = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with pytest.raises(ValueError, match="position_layout='concatenated' only.*'interleaved'"):
        to_marian(TransformerForConditionalGeneration(TransformerConfig(**sizes)))


# fairseq


def fairseq_state(model, old=False):
    """The state dict that fairseq would have saved of the same model, as it did up to 0.8 if `old`."""
    state = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    state["encoder.version"] = torch.tensor([3.0])
    state["encoder.embed_positions._float_tensor"] = torch.zeros(1)
    for name in list(state):
        if "embed_positions.weight" in name:
            del state[name]
    if old:
        for name in [name for name in state if "q_proj" in name]:
            parts = [state.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
            state[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return state


@pytest.mark.parametrize("old", [False, True])
def test_the_whole_model_is_fairseqs(old):
    theirs = fsmt()
    ours = from_fairseq(fairseq_state(theirs, old), num_attention_heads=4)
    ids, mask, targets = batch()
    decoder_ids = torch.cat([torch.full((B, 1), 2), targets[:, :-1]], dim=1)
    # FSMT takes padding from the tokens
    ids = ids.masked_fill(mask == 0, 1)
    found = ours(ids, mask, decoder_input_ids=decoder_ids).logits
    expected = theirs(ids, mask, decoder_input_ids=decoder_ids, use_cache=False).logits
    assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_fairseq_comes_back(tmp_path):
    state = fairseq_state(fsmt())
    ours = from_fairseq(state, num_attention_heads=4)
    written = to_fairseq(ours, tmp_path / "fairseq.safetensors")
    for name, tensor in written.items():
        assert torch.equal(tensor, state[name]), name
    assert set(state) - set(written) == {"encoder.version", "encoder.embed_positions._float_tensor"}
    again = from_fairseq(tmp_path / "fairseq.safetensors", num_attention_heads=4)
    for name, parameter in ours.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"encoder.layer_norm.weight": torch.ones(16)}), "the state dict is pre-norm"),
        (lambda s: s.update({"encoder.embed_positions.weight": torch.ones(9, 16)}), "of learned positions"),
        (lambda s: s.update({"encoder.embed_tokens.weight": torch.ones(V, 16)}), "share-all-embeddings"),
        (lambda s: s.pop("decoder.layers.2.fc1.bias"), r"decoder\.layers\.2\.fc1\.bias is missing"),
        (lambda s: s.update({"decoder.layers.2.fc1.bias": torch.ones(3)}), r"fc1\.bias is \[3\], the model's \[24\]"),
        (lambda s: s.update({"decoder.adaptive.weight": torch.ones(3)}), r"decoder\.adaptive\.weight has no place"),
    ],
)
def test_other_fairseq_models_are_refused(tmp_path, change, message):
    state = fairseq_state(fsmt())
    change(state)
    with pytest.raises(ValueError, match=message):
        from_fairseq(state, num_attention_heads=4)


def test_the_file_is_named(tmp_path):
    save_file({"encoder.embed_tokens.weight": torch.ones(3, 4)}, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match="odd.safetensors has no encoder.layers"):
        from_fairseq(tmp_path / "odd.safetensors", num_attention_heads=1)
