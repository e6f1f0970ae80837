"""What earlier versions saved opens today and answers as it did then: models by any route, and tokenizers.

tests/checkpoints/ has an archive for each version, made at its release (tests/checkpoints/save.py). A checkpoint that
is refused from some version on is named here, with the remedy that its error message must give.
"""

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedConfig

import hf_lineage
from tests.checkpoints import answers


FOLDER = Path(answers.__file__).parent
ARCHIVES = sorted(FOLDER.glob("*.tar.xz"))


def names(kind):
    """version/kind/name of everything of a kind ("models", "tokenizers") that the archives hold."""
    found = set()
    for path in ARCHIVES:
        with tarfile.open(path) as archive:
            members = [member.split("/") for member in archive.getnames()]
        found |= {f"{path.name.removesuffix('.tar.xz')}/{kind}/{member[1]}" for member in members if member[0] == kind}
    return sorted(found)


MODELS, TOKENIZERS = names("models"), names("tokenizers")
# one of each station, what a user most likely has
MAIN_FORMS = (
    "NNLMForCausalLM",
    "Word2VecForPreTraining",
    "RNNForCausalLM",
    "LSTMForCausalLM",
    "GRUForCausalLM",
    "Seq2SeqForConditionalGeneration",
    "RNNSearchForConditionalGeneration",
    "TransformerForConditionalGeneration",
    "ELMoForPreTraining",
    "GPTForCausalLM",
    "BERTForPreTraining",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of all versions; each checkpoint is as save_pretrained left it, with its code."""
    folder = tmp_path_factory.mktemp("saved")
    for path in ARCHIVES:
        version = folder / path.name.removesuffix(".tar.xz")
        with tarfile.open(path) as archive:
            archive.extractall(version, filter="data")
        for checkpoint in [*version.glob("models/*"), *version.glob("tokenizers/*")]:
            shutil.copytree(version / "code", checkpoint, dirs_exist_ok=True, copy_function=os.link)
    return folder


def open_without_package(saved, opened, cwd):
    """Opens the checkpoints in a process without hf_lineage, with the code stored with their weights."""
    result = subprocess.run(
        [sys.executable, answers.__file__, *(str(saved / name) for name in opened)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"HF_HOME": str(cwd / "home"), "PYTHONPATH": ""},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split() == [Path(name).name for name in opened]


def assert_settings_are_read(config, settings):
    """A setting whose field is gone would live on as an attribute that nothing reads."""
    fields = {field.name for field in dataclasses.fields(config)}
    assert settings.keys() & vars(config).keys() - fields <= {"auto_map", "model_type"}
    # transformers' own, such as its version, are not ours to keep
    ours = settings.keys() & fields - {field.name for field in dataclasses.fields(PreTrainedConfig)}
    assert {name: config.to_dict()[name] for name in ours} == {name: settings[name] for name in ours}


def test_there_are_checkpoints_of_every_station():
    assert {f"0.1.0/models/{name}" for name in MAIN_FORMS} <= set(MODELS)
    assert TOKENIZERS


@pytest.mark.parametrize("name", MODELS)
def test_models_open(name, saved, tmp_path):
    model = answers.open_model(saved / name)
    assert type(model).__module__.startswith(f"{hf_lineage.__name__}."), "not the code stored with the weights"
    assert_settings_are_read(model.config, json.loads((saved / name / "config.json").read_text(encoding="utf-8")))
    answers.assert_same_answers(model, saved / name)
    model.save_pretrained(tmp_path)
    shutil.copy(saved / name / answers.EXPECTED, tmp_path)
    answers.assert_same_answers(answers.open_model(tmp_path), tmp_path)


@pytest.mark.parametrize("name", names("code"))
def test_modules_of_earlier_versions_can_be_imported(name, monkeypatch):
    """Their code has imported its bricks by these names, and so may a user's."""
    module = f"hf_lineage.models.{Path(name).stem}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert importlib.import_module(module).__name__.startswith("hf_lineage.models.")


def test_main_forms_open_without_the_package(saved, tmp_path):
    opened = [name for name in MODELS + TOKENIZERS if Path(name).name in (*MAIN_FORMS, "elmo")]
    open_without_package(saved, opened, tmp_path)


@pytest.mark.slow
def test_everything_opens_without_the_package(saved, tmp_path):
    open_without_package(saved, MODELS + TOKENIZERS, tmp_path)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_open(name, saved, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(saved / name)
    assert type(tokenizer).__module__.startswith(("hf_lineage.", "transformers.")), "not the files' own code"
    answers.assert_same_tokens(tokenizer, saved / name)
    tokenizer.save_pretrained(tmp_path)
    shutil.copy(saved / name / answers.EXPECTED_TEXTS, tmp_path)
    answers.assert_same_tokens(AutoTokenizer.from_pretrained(tmp_path), tmp_path)
