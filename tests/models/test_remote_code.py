"""Checkpoints carry their code: every head of every station opens where hf_lineage is not installed."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Literal

import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

import hf_lineage


# sizes of a tiny model of any station: each takes what its configuration has
TINY = {
    "vocab_size": 60,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "token_layer": "words",
    "projection_size": 8,
}
MODELS = Path(hf_lineage.__file__).parent / "models"
LIBRARIES = {"torch", "transformers", "huggingface_hub", "safetensors"}
FILES = sorted(path for path in MODELS.glob("*.py") if path.name != "__init__.py")

# run where the package cannot be imported; prints one line a head that opened and answered alike
WITHOUT_PACKAGE = """
import json, sys
sys.modules["hf_lineage"] = None  # makes any import of it fail
import torch, transformers
from safetensors.torch import load_file
torch.set_num_threads(1)
folder, heads = sys.argv[1], json.loads(sys.argv[2])
ids = torch.tensor(json.loads(sys.argv[3]))
for head in heads:
    auto = getattr(transformers, head)
    for saved in heads:
        # output layers of equal name and other size: several labels a text, or one a choice
        options = {"trust_remote_code": True, "ignore_mismatched_sizes": saved != head}
        model = auto.from_pretrained(f"{folder}/{saved}", **options).eval()
        assert model.config.auto_map.keys() == {"AutoConfig", *heads}
        if saved == head:
            decoder_ids = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
            output = model(ids[None] if head == "AutoModelForMultipleChoice" else ids, **decoder_ids)[0]
            # not bit by bit: weights lie elsewhere in memory, which changes the order in which a dot product is summed
            torch.testing.assert_close(output, load_file(f"{folder}/{head}.safetensors")["output"], rtol=0, atol=1e-6)
            if head in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM"):
                cached = model.generate(ids, max_new_tokens=5, num_beams=2, pad_token_id=0)
                assert torch.equal(cached, load_file(f"{folder}/{head}.safetensors")["generated"])
            model.save_pretrained(f"{folder}/again")
            again = auto.from_pretrained(f"{folder}/again", trust_remote_code=True)
            assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters()))
    print("opened", head)
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_models_import_only_siblings(path):
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, ast.unparse(node)
            assert node.module, ast.unparse(node)
            assert "." not in node.module, ast.unparse(node)
            importer, imported = path.stem.split("_")[0], node.module.split("_")[0]
            assert imported != "modeling", "a station never imports another station"
            if path.stem == "configuration_lineage":
                assert node.module in ("inputs", "replaced_files"), "the switch of the attention, and saving"
            elif importer == "configuration":
                # the second is what the recurrent encoder-decoders share
                assert node.module in ("configuration_lineage", "configuration_recurrent_seq2seq")
            elif importer != "modeling":
                assert imported != "configuration", "a brick takes the config as an argument"
    assert set(get_imports(path)) - set(sys.stdlib_module_names) <= {
        "torch",
        "transformers",
        "huggingface_hub",
        "safetensors",
    }
    assert all(Path(file).is_file() for file in get_relative_import_files(path))


@pytest.mark.parametrize("path", [f for f in FILES if f.stem.startswith("modeling_")], ids=lambda path: path.stem)
def test_stations_open_with_three_lines(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    what, _, change, flow = docstring.splitlines()[:4]
    assert re.search(r"\(.*\d{4}.*\)", what), "the paper"
    assert change.startswith("What changes from ")
    assert re.search(r"\[.*B.*\].*->", flow), "the data flow with shapes"


def tiny_config(config_class, **fields):
    hints = {field.name: field.type for field in dataclasses.fields(config_class)}
    # NNLM has one layer, whatever the others have
    fits = {
        name: typing.get_origin(hint) is not Literal or TINY.get(name) in hint.__args__ for name, hint in hints.items()
    }
    return config_class(**{name: size for name, size in TINY.items() if fits.get(name)} | fields)


# each opens all heads of a station in a process of its own
IN_SHORT = {"lineage_word2vec", "lineage_rnnsearch", "lineage_bert"}


@pytest.mark.parametrize(
    "config_class",
    [
        pytest.param(each, id=each.model_type, marks=[] if each.model_type in IN_SHORT else pytest.mark.slow)
        for each in hf_lineage.LINEAGE
    ],
)
def test_every_head_opens_without_the_package(config_class, tmp_path):
    config = tiny_config(config_class)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    for head in config_class.auto_classes:
        model = getattr(transformers, head).from_config(config).eval()
        model.save_pretrained(tmp_path / head)
        # the first output: logits, or the vectors of a base model
        decoder_ids = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
        tensors = {"output": model(ids[None] if head == "AutoModelForMultipleChoice" else ids, **decoder_ids)[0]}
        if head in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM"):
            tensors["generated"] = model.generate(ids, max_new_tokens=5, num_beams=2, pad_token_id=0)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / f"{head}.safetensors")
    heads = list(config_class.auto_classes)
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path), json.dumps(heads), json.dumps(ids.tolist())],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split("\n")[:-1] == [f"opened {head}" for head in heads]


def test_code_is_not_run_without_trust(tmp_path):
    hf_lineage.GPTModel(tiny_config(hf_lineage.GPTConfig)).save_pretrained(tmp_path)
    script = (
        "import sys; sys.modules['hf_lineage'] = None\n"
        "from transformers import AutoModel\n"
        f"AutoModel.from_pretrained({str(tmp_path)!r}, trust_remote_code=False)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode != 0
    assert "trust_remote_code=True" in result.stderr
