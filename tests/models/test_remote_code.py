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
for head, other in zip(heads, heads[1:] + heads[:1]):
    auto = getattr(transformers, head)
    # with the package, every head opens every other's checkpoint: common_files.py
    for saved in {head, other}:
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
            model.save_pretrained(f"{folder}/again-{head}")
            again = auto.from_pretrained(f"{folder}/again-{head}", trust_remote_code=True)
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
    assert "UNEXPECTED" not in result.stderr
    assert result.stdout.split("\n")[:-1] == [f"opened {head}" for head in heads]
    for head in heads:
        # what was saved again carries the same code, that of the pipelines too
        saved, again = tmp_path / head, tmp_path / f"again-{head}"
        assert code_in(again) == code_in(saved) == {name: (MODELS / name).read_bytes() for name in code_in(saved)}
        stamps = [
            {name: json.loads((folder / "config.json").read_text()).get(name) for name in STAMPS}
            for folder in (saved, again)
        ]
        assert stamps[0] == stamps[1]
        assert stamps[0]["hf_lineage_version"] == hf_lineage.__version__


STAMPS = ("lineage_format", "hf_lineage_version", "custom_pipelines", "auto_map")


def code_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.py")}


# the files that travel with a station, besides its modeling and configuration file
ALL = {"configuration_lineage", "inputs", "replaced_files", "saved_models"}
ALL |= {"losses", "loss_terms", "fast_cross_entropy", "fast_dropout", "fast_scored"}
CLASSES = {"classification", "choices", "token_labels"}
CLASSES |= {"pipeline_inputs", "pipeline_multiple_choice", "pipeline_token_classification"}
TASKS = CLASSES | {"pipeline_question_answering", "answer_spans", "pooling"}
STATE = {"cache_argument", "recurrent_state"}
CELLS = STATE | {"recurrent_cells", "recurrent_layers", "fast_recurrence", "fast_steps", "fast_step_kernels"}
TARGET = {"encoder_decoder", "cache_argument", "scheduled_sampling", "pipeline_inputs", "pipeline_translation"}
BLOCKS = {"transformer_layers", "reading", "packed_texts", "fast_segments"}
RECURRENT_TARGET = TARGET | CELLS | {"recurrent_seq2seq", "configuration_recurrent_seq2seq"}
OUTPUTS = {"output_layers", "fast_sampled_softmax"}
TRAVELS = {
    "nnlm": STATE | OUTPUTS,
    "word2vec": CLASSES,
    "rnn": CELLS | TASKS,
    "seq2seq": RECURRENT_TARGET,
    "rnnsearch": RECURRENT_TARGET | {"attentional_decoder", "fast_rnnsearch"},
    "luong": RECURRENT_TARGET | {"attentional_decoder", "fast_feeding"},
    "transformer": TARGET | BLOCKS,
    "elmo": CELLS | TASKS | OUTPUTS | {"elmo_layers"},
    "gpt": {"cache_argument"} | BLOCKS | TASKS,
    "bert": BLOCKS | TASKS | {"pipeline_next_sentence"},
}


@pytest.mark.parametrize("config_class", hf_lineage.LINEAGE, ids=lambda config_class: config_class.model_type)
def test_only_what_a_station_needs_travels(config_class, tmp_path):
    name = config_class.auto_classes["AutoModel"].partition(".")[0].removeprefix("modeling_")
    transformers.AutoModel.from_config(tiny_config(config_class)).save_pretrained(tmp_path)
    expected = ALL | TRAVELS[name] | {f"modeling_{name}", f"configuration_{name}"}
    assert {path.stem for path in tmp_path.glob("*.py")} == expected


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path):
    hf_lineage.GPTModel(tiny_config(hf_lineage.GPTConfig)).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert (fields["lineage_format"], fields["hf_lineage_version"]) == (1, hf_lineage.__version__)
    later = fields | {"lineage_format": 2, "hf_lineage_version": "9.0"}
    (tmp_path / "config.json").write_text(json.dumps(later))
    for opener in (transformers.AutoConfig, transformers.AutoModel, hf_lineage.GPTModel):
        with pytest.raises(
            ValueError, match=r"lineage_format is 2, .* up to 1: hf_lineage 9\.0 .*pip install --upgrade"
        ):
            opener.from_pretrained(tmp_path)
    # another version of the same format opens, and so does what was saved before there were formats
    without = {name: value for name, value in fields.items() if name not in STAMPS}
    for readable in (fields | {"hf_lineage_version": "9.0"}, without):
        (tmp_path / "config.json").write_text(json.dumps(readable))
        assert transformers.AutoModel.from_pretrained(tmp_path).config.to_dict().keys().isdisjoint(STAMPS[:3])


@pytest.mark.reliability("B12")
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
