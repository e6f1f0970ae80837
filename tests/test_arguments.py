"""Recipe arguments: flags beat the file, the file beats the defaults, and mistakes are named."""

import logging
import re
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
import transformers
import yaml
from transformers import AutoModelForCausalLM, AutoModelForPreTraining, AutoTokenizer, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from hf_lineage import LINEAGE, GPTForCausalLM, LSTMConfig
from hf_lineage.arguments import DataArguments, LabelledDataArguments, ModelArguments, parse, run
from hf_lineage.training import LineageTrainingArguments


ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Settings:
    name: str = field(metadata={"help": "demanded"})
    rate: float = 0.1
    steps: int = 10
    sizes: list[int] = field(default_factory=lambda: [1])
    quick: bool = False
    exact: bool = True
    limit: float | None = None
    mode: Literal["old", "new"] = "old"
    interval: IntervalStrategy = IntervalStrategy.STEPS
    options: dict | None = None


def parse_file(tmp_path, text, *flags, types=(Settings,)):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="latin-1")
    parsed = parse(*types, argv=[str(path), *flags])
    return parsed[0] if len(types) == 1 else parsed


def test_flags_beat_the_file_and_the_file_beats_the_defaults(tmp_path):
    settings = parse_file(tmp_path, "name: x\nrate: 3e-4\nsizes: [2, 3]\nquick: true", "--rate", "0.5")
    assert settings == Settings(name="x", rate=0.5, steps=10, sizes=[2, 3], quick=True)


def test_a_float_without_a_dot_is_a_number(tmp_path):
    assert parse_file(tmp_path, "name: x\nrate: 3e-4").rate == 3e-4


def test_without_a_file():
    assert parse(Settings, argv=["--name", "x"])[0] == Settings(name="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nlerning_rate: 1", "unknown keys .*lerning_rate"),
        ("- name", "must hold `key: value` lines, not a list"),
        ("name: [", "cannot read the recipe file"),
        ("rate: 1", "required: --name"),
        ("name: x\nsteps: many", "steps"),
        ("name: x\nsteps: 1.5", "steps"),
        ("name: x\nsteps: [1, 2]", "steps"),
        ("name: x\nsteps: true", r"steps in the recipe file .*recipe.yaml is True \(bool\) and must be int"),
        ("name: x\nsteps:", "steps .* is None"),
        ("name: x\nrate: fast", "rate .* is 'fast' .* must be float"),
        ("name: x\nsizes: 3", r"sizes .* must be list\[int\]"),
        ("name: x\nsizes: [3, x]", "sizes"),
        ("name: 1e5", r"name .* is 100000.0 \(float\) and must be str; put it in quotes"),
        ("name: x\nquick: 1", "quick .* must be bool"),
        ("name: x\nmode: newer", "mode .* must be 'old' or 'new'"),
        ("name: x\ninterval: never", "interval .* must be 'no' or 'steps' or 'epoch'"),
        ("name: x\noptions: 3", "options .* must be dict or null"),
        ("name: x\nhelp: 1", "unknown keys .*help"),
        ("name: x\nratte: 1", r"ratte \(did you mean rate\?\)"),
        ("name: x\nname: y", "name is set twice"),
        ("", "not a NoneType"),
        ("\xff", "cannot read the recipe file"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, capsys, text, message):
    with pytest.raises(SystemExit) as stop:
        parse_file(tmp_path, text)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_the_file_sets_what_is_true_by_default(tmp_path):
    assert not parse_file(tmp_path, "name: x\nexact: false").exact
    assert parse_file(tmp_path, "name: x\nexact: false", "--exact").exact
    assert not parse_file(tmp_path, "name: x", "--no_exact").exact


def test_values_of_the_file_have_the_types_of_the_fields(tmp_path):
    settings = parse_file(tmp_path, "name: x\nrate: 1\nlimit: null\nmode: new\ninterval: epoch\noptions: {a: 1e-2}")
    assert isinstance(settings.rate, float)
    assert (settings.limit, settings.mode, settings.options) == (None, "new", {"a": 0.01})
    assert settings.interval == IntervalStrategy.EPOCH


@pytest.mark.parametrize("number", ["3e-4", "3E-4", "3.e-4", ".3e-3", "+3e-4", "0.0003"])
def test_every_spelling_of_a_float_is_a_number(tmp_path, number):
    assert parse_file(tmp_path, f"name: x\nrate: {number}\noptions: {{a: {number}}}") == Settings(
        name="x", rate=3e-4, options={"a": 3e-4}
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--name", "x", "--stepz", "1"], "unknown arguments: --stepz 1"),
        # an abbreviation would be an unknown key that passes
        (["--name", "x", "--step", "1"], "unknown arguments: --step 1"),
        (["--name", "x", "late.yaml"], "late.yaml .a YAML file must come first"),
        (["--name", "x", "--options", "{a"], "options.*'{a'"),
        (["--name", "x", "--options", "[1]"], "options.*JSON mapping"),
        (["--rate", "1"], "required: --name"),
        (["--name", "x", "--ratte", "1"], r"unknown arguments: --ratte 1 .did you mean --rate\?"),
        (["--model_type", "lstmm"], r"model_type is lstmm.* did you mean lineage_lstm\?"),
        (["--model_type", "transfomer"], r"model_type is transfomer.* did you mean lineage_transformer\?"),
        (["--model_type", "lstm", "--config_name", "x"], "exactly one of model_type"),
    ],
)
def test_mistakes_on_the_command_line_are_named(capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        parse(ModelArguments if "--model_type" in flags else Settings, argv=flags)
    assert stop.value.code == 2
    [error] = capsys.readouterr().err.splitlines()
    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("types", "flags", "message"),
    [
        (DataArguments, ["--block_size", "0"], "block_size is 0; .* at least 1"),
        (LabelledDataArguments, ["--dataset", "x", "--train_file", "y"], "not both; .* --dataset FOLDER"),
        (LineageTrainingArguments, ["--output_dir", "x", "--num_train_epochs", "-1"], "num_train_epochs is -1"),
        (LineageTrainingArguments, ["--output_dir", "x", "--learning_rate", "-0.1"], "learning_rate is -0.1; "),
        (
            LineageTrainingArguments,
            ["--output_dir", "x", "--report_to", "wandbb"],
            "report_to is wandbb, .* installed",
        ),
        (
            LineageTrainingArguments,
            ["--output_dir", "x", "--per_device_train_batch_size", "0"],
            "per_device_train_batch_size is 0; .* at least 1",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(capsys, types, flags, message):
    with pytest.raises(SystemExit) as stop:
        parse(types, argv=flags)
    assert stop.value.code == 2
    [error] = capsys.readouterr().err.splitlines()
    assert re.search(message, error), error


@pytest.mark.parametrize("station", LINEAGE, ids=lambda station: station.model_type)
def test_stations_have_short_names(station):
    short = station.model_type.removeprefix("lineage_")
    assert {ModelArguments(model_type=name).model_type for name in (short, station.model_type)} == {station.model_type}


def test_configurations_of_transformers_keep_their_names():
    assert ModelArguments(model_type="gpt2").model_type == "gpt2"


@pytest.mark.parametrize(
    ("settings", "heads", "message"),
    [
        ({"model_type": "bert"}, (AutoModelForCausalLM,), "lineage_lstm .* not lineage_bert"),
        ({"model_type": "bert"}, (AutoModelForPreTraining, "lineage_elmo"), "lineage_elmo, not lineage_bert"),
        ({"model_name_or_path": "nowhere"}, (AutoModelForCausalLM,), "model_name_or_path is nowhere"),
        ({"config_name": "nowhere"}, (AutoModelForCausalLM,), "config_name is nowhere"),
        ({"model_type": "lstm", "tokenizer_name": "nowhere"}, (AutoModelForCausalLM,), "tokenizer_name is nowhere"),
        (
            {"model_type": "lstm", "config_overrides": {"hiden_size": 3}},
            (AutoModelForCausalLM,),
            r"lineage_lstm lacks: hiden_size .did you mean hidden_size\?",
        ),
        (
            {"model_type": "lstm", "config_overrides": {"hidden_size": -3}},
            (AutoModelForCausalLM,),
            "_size is -3",
        ),
        (
            {"model_type": "lstm", "config_overrides": {"hidden_size": "3"}},
            (AutoModelForCausalLM,),
            "hidden_size.*int",
        ),
    ],
)
def test_a_model_that_the_recipe_cannot_train_is_named(settings, heads, message):
    with pytest.raises(ValueError, match=re.compile(message, re.S)):
        ModelArguments(**settings).check(*heads)


def test_overrides_may_be_any_field_of_the_configuration():
    fields = {"hidden_size": 12, "attn_implementation": "eager", "num_labels": 3}
    arguments = ModelArguments(model_type="gpt", config_overrides=fields)
    assert arguments.check(AutoModelForCausalLM) is GPTForCausalLM


def test_a_missing_file_is_named(capsys):
    with pytest.raises(SystemExit):
        parse(Settings, argv=["nowhere.yaml"])
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["file", "flag"])
def test_nested_settings_come_from_file_and_command_line(tmp_path, way):
    types = (ModelArguments, TrainingArguments)
    if way == "file":
        text = "model_type: lineage_rnn\nconfig_overrides: {hidden_size: 8}\n"
        text += "lr_scheduler_kwargs: {num_cycles: 2}\noutput_dir: x"
        model, training = parse_file(tmp_path, text, types=types)
    else:
        flags = ["--config_overrides", '{"hidden_size": 8}', "--lr_scheduler_kwargs", '{"num_cycles": 2}']
        model, training = parse(*types, argv=["--output_dir", "x", "--model_type", "lineage_rnn", *flags])
    assert model.config_overrides == {"hidden_size": 8}
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_parses(path, tmp_path):
    # its comment names the recipe
    (script,) = set(re.findall(r"recipes/(\w+)\.py", path.read_text()))
    recipe = runpy.run_path(str(ROOT / "recipes" / f"{script}.py"))
    # some presets leave the data set to the user
    needs_data = script.startswith("finetune_") and "dataset" not in yaml.safe_load(path.read_text())
    data = ["--dataset", "folder"] if needs_data else []
    parsed = parse(*recipe["ARGUMENTS"], argv=[str(path), "--output_dir", str(tmp_path), *data])
    found = {name: value for part in parsed for name, value in vars(part).items()}
    for name, value in yaml.safe_load(path.read_text()).items():
        if (name, value) == ("precision", "auto"):
            assert found[name] in ("fp32", "bf16")
        else:
            assert found[name] == (float(value) if isinstance(found[name], float) else value), name
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of model_type"),
        ({"model_type": "lineage_rnn", "model_name_or_path": "x"}, "exactly one of model_type"),
        ({"model_type": "lineage_rnn", "config_name": "x"}, "exactly one of model_type or config_name"),
        ({"config_name": "x", "model_name_or_path": "x"}, "exactly one of model_type or config_name"),
        ({"model_name_or_path": "x", "config_overrides": {"a": 1}}, "config_overrides is for a new model"),
    ],
)
def test_bad_model_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelArguments(**settings)


@pytest.mark.recipe
def test_a_new_model_of_a_saved_configuration(tmp_path, tiny_corpus, monkeypatch):
    LSTMConfig(hidden_size=16, embedding_size=12, forget_gate_bias=1.5).save_pretrained(tmp_path / "configuration")
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.txt").write_text("\n".join(tiny_corpus[:20]), encoding="utf-8")
    settings = {
        "config_name": tmp_path / "configuration",
        "config_overrides": '{"num_hidden_layers": 3}',
        "corpus": tmp_path,
        "output_dir": tmp_path / "model",
        "vocab_size": 150,
        "block_size": 4,
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "disable_tqdm": True,
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    recipe = runpy.run_path(str(ROOT / "recipes" / "pretrain_causal_lm.py"))
    monkeypatch.setattr(sys, "argv", ["pretrain_causal_lm.py", *flags])
    recipe["main"]()
    config = LSTMConfig.from_pretrained(tmp_path / "model")
    assert (config.hidden_size, config.embedding_size, config.forget_gate_bias) == (16, 12, 1.5)
    assert config.num_hidden_layers == 3
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "model"))


def test_a_saved_model_brings_its_tokenizer():
    assert ModelArguments(model_name_or_path="runs/gpt").tokenizer_name == "runs/gpt"
    assert ModelArguments(model_name_or_path="runs/gpt", tokenizer_name="words").tokenizer_name == "words"
    assert ModelArguments(model_type="lineage_gpt").tokenizer_name is None


def test_a_recipe_ends_its_process_group(monkeypatch, tmp_path):
    """gloo's threads would now and then abort a process that has finished, and its launcher would report a failure."""
    at_exit = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    store = f"file://{tmp_path / 'store'}"
    run(lambda: torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1))
    assert torch.distributed.is_initialized()
    for function in at_exit:
        function()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_log_has_no_bars(is_terminal, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    # transformers' own default asks for it
    monkeypatch.setattr(transformers.training_args.logger, "getEffectiveLevel", lambda: logging.WARNING)
    flags = ["--output_dir", str(tmp_path)]
    [arguments] = parse(TrainingArguments, argv=flags)
    assert arguments.disable_tqdm is not is_terminal
    [arguments] = parse(TrainingArguments, argv=[*flags, "--disable_tqdm", "false"])
    assert arguments.disable_tqdm is False
