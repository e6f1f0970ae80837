"""The documented way from a loaded checkpoint into the converters, and what is said of one that did not take it."""

import runpy
import textwrap

import pytest
import torch
from torch.testing import assert_close
from transformers import MarianConfig

from hf_lineage.converters import (
    awd_lstm_lm,
    fairseq,
    from_awd_lstm_lm,
    from_fairseq,
    from_joeynmt,
    from_marian,
    from_opennmt,
    recurrent_nmt,
)
from tests.converters.test_awd_lstm_lm import RNNModel
from tests.converters.test_recurrent_nmt import joeynmt, opennmt
from tests.converters.test_transformer_layouts import fairseq_state, fsmt


def awd_lstm_lm_checkpoint():
    model = RNNModel(weight_drop=False, tied=True)
    return model, model.state_dict(), from_awd_lstm_lm


def opennmt_checkpoint():
    weights, _ = opennmt("lstm", True, "general")
    parts = {"model": {}, "generator": {}}
    for name, tensor in weights.items():
        part = "generator" if name.startswith("generator.") else "model"
        parts[part][name.removeprefix("generator.")] = tensor
    # not contiguous, as transposed weights are
    parts["generator"]["0.weight"] = parts["generator"]["0.weight"].T.contiguous().T
    return parts | {"opt": None}, weights, from_opennmt


def joeynmt_checkpoint():
    weights, _ = joeynmt("gru", True, True)
    # shared memory, as with tied weights
    weights["trg_embed.lut.weight"] = weights["decoder.output_layer.weight"][:, :6]
    return {"model_state": weights, "steps": 7}, weights, from_joeynmt


def fairseq_checkpoint():
    weights = fairseq_state(fsmt())
    weights |= dict.fromkeys(fairseq.EMBEDDINGS, weights[fairseq.EMBEDDINGS[0]])
    return (
        {"model": weights, "args": None},
        weights,
        lambda path: from_fairseq(path, num_attention_heads=4),
    )


@pytest.mark.parametrize(
    ("module", "checkpoint"),
    [
        (awd_lstm_lm, awd_lstm_lm_checkpoint),
        (recurrent_nmt, opennmt_checkpoint),
        (recurrent_nmt, joeynmt_checkpoint),
        (fairseq, fairseq_checkpoint),
    ],
)
def test_the_documented_way_in_works(tmp_path, monkeypatch, module, checkpoint):
    loaded, weights, convert = checkpoint()
    pointers = [tensor.data_ptr() for tensor in weights.values()]
    if convert is not from_opennmt:
        assert len(set(pointers)) < len(pointers), "weights are to be tied"
    monkeypatch.chdir(tmp_path)
    lines = module.__doc__.splitlines()
    code = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))
    (tmp_path / "documented.py").write_text(code)
    runpy.run_path("documented.py", {"model" if module is awd_lstm_lm else "checkpoint": loaded})
    found, expected = convert("model.safetensors"), convert(weights)
    assert_close(dict(found.named_parameters()), dict(expected.named_parameters()), atol=0, rtol=0)


@pytest.mark.parametrize(
    "convert",
    [from_awd_lstm_lm, from_opennmt, from_joeynmt, lambda path: from_fairseq(path, num_attention_heads=1)],
)
def test_a_pickle_is_named_with_the_remedy(tmp_path, convert):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt is not a whole safetensors file.*save_file\(\{name: tensor\.clone"):
        convert(tmp_path / "x.pt")
    with pytest.raises(OSError, match="absent.safetensors"):
        convert(tmp_path / "absent.safetensors")


def test_a_cut_file_of_marian_is_named(tmp_path):
    MarianConfig(scale_embedding=True).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 4)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        from_marian(tmp_path)
