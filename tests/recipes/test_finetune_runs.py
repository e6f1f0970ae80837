"""The fine-tuning recipes: a run that goes on ends as an unbroken one, runs stop early, two processes learn alike."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.recipes import test_finetune_multiple_choice as choices
from tests.recipes import test_finetune_question_answering as answers
from tests.recipes import test_finetune_tagging as tags
from tests.recipes.here import call
from tests.recipes.test_finetune_classification import saved
from tests.training.test_trainers import contents


ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("classification", "tagging", "question_answering", "multiple_choice")
# the score that is compared
MAIN = {"tagging": "f1", "question_answering": "f1"}


@pytest.fixture
def inputs(tmp_path, tiny_tokenizer, tiny_corpus):
    """recipe -> its flags: data, and a GRU without dropout."""

    def of(recipe):
        if recipe == "tagging":
            data, model = tags.write_conll(tmp_path / "data", tags.sentences(96)), tmp_path / "model"
            saved(model, "GRU", tiny_tokenizer)
        elif recipe == "question_answering":
            data, model = answers.write(tmp_path / "data", answers.rows(96)), answers.saved(tmp_path / "model", "GRU")
        elif recipe == "multiple_choice":
            data, model = choices.write(tmp_path / "data", choices.rows(96)), tmp_path / "model"
            saved(model, "GRU", tiny_tokenizer)
        else:
            data, model = tmp_path / "data", saved(tmp_path / "model", "GRU", tiny_tokenizer)
            data.mkdir()
            rows = [json.dumps({"text": text, "label": len(text) % 2}) for text in tiny_corpus]
            for split, part in (("train", rows[:64]), ("validation", rows[64:90]), ("test", rows[90:120])):
                (data / f"{split}.jsonl").write_text("\n".join(part))
        flags = {"model_name_or_path": model, "dataset": data, "learning_rate": 1e-2, "max_steps": 4}
        flags |= {"disable_tqdm": True, "report_to": "none", "save_steps": 2}
        return flags | (answers.SIZES if recipe == "question_answering" else {})

    return of


def command(recipe, settings) -> list[str]:
    flags = [part for name, value in settings.items() for part in (f"--{name}", *str(value).split())]
    return [str(ROOT / "recipes" / f"finetune_{recipe}.py"), *flags]


@pytest.fixture
def run(monkeypatch):
    """Calls the script in this process; gives results.json."""

    def call(recipe, output_dir, **settings):
        monkeypatch.setattr("sys.argv", command(recipe, settings | {"output_dir": output_dir}))
        runpy.run_path(sys.argv[0])["main"]()
        return json.loads((output_dir / "results.json").read_text())

    return call


@pytest.mark.slow
@pytest.mark.parametrize("transfer", ["full", "features"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_goes_on_ends_as_an_unbroken_one(recipe, transfer, inputs, run, tmp_path):
    settings = inputs(recipe) | {"per_device_train_batch_size": 8, "transfer": transfer}
    whole = run(recipe, tmp_path / "whole", **settings)
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "broken" / "checkpoint-2")
    assert run(recipe, tmp_path / "broken", **settings) == whole
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert_close(first, second, rtol=0, atol=0)


@pytest.mark.reliability("A11", "A12")
def test_several_runs_continue_with_the_same_settings_and_data(inputs, run, tmp_path, caplog):
    settings, folder = inputs("classification") | {"max_steps": 2, "seeds": "0 1"}, tmp_path / "out"
    whole = run("classification", folder, **settings)
    before = contents(folder)
    # the command of a finished run, and what may change
    assert run("classification", folder, **settings, logging_steps=1, dataloader_num_workers=1) == whole
    assert contents(folder) == before

    def interrupt():
        shutil.rmtree(folder / "seed_1")
        (folder / "results.json").unlink()

    interrupt()
    message = "learning_rate=0.01, this run has 0.002; weight_decay=0.0, .* 0.1.*--ignore_changed learning_rate weight"
    with pytest.raises(ValueError, match=message):
        run("classification", folder, **settings | {"learning_rate": 0.002, "weight_decay": 0.1})
    assert run("classification", folder, **settings) == whole
    assert contents(folder).keys() == before.keys()

    interrupt()
    train = settings["dataset"] / "train.jsonl"
    train.write_text("\n".join(train.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"data\.files='\w+', this run has '\w+'.*--ignore_changed data"):
        run("classification", folder, **settings)
    run("classification", folder, **settings, ignore_changed="data")
    assert "accepted by ignore_changed" in caplog.text
    config = settings["model_name_or_path"] / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ValueError, match=r"model\.files"):
        run("classification", folder, **settings)


def test_several_runs_do_not_replace_a_single_one(inputs, run, tmp_path):
    settings, folder = inputs("classification") | {"max_steps": 2}, tmp_path / "out"
    run("classification", folder, **settings)
    before = contents(folder)
    with pytest.raises(ValueError, match="holds the model.safetensors of a finished run"):
        run("classification", folder, **settings, seeds="0 1")
    assert contents(folder) == before


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_best_weights_are_saved_and_scored(recipe, inputs, run, tmp_path):
    """Best means the highest loss here: it falls, so that the last weights are not the best."""
    settings = inputs(recipe) | {"max_steps": 3, "save_steps": 1, "eval_steps": 1, "eval_strategy": "steps"}
    settings |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    results = run(recipe, tmp_path / "out", **settings, lr_scheduler_type="constant")
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    losses = {log["step"]: log["eval_loss"] for log in state["log_history"] if "eval_loss" in log}
    best = max(losses, key=losses.get)
    assert losses[best] > losses[3] + 1e-3
    found, of_best, of_last = (
        load_file(tmp_path / "out" / folder / "model.safetensors")
        for folder in (".", f"checkpoint-{best}", "checkpoint-3")
    )
    assert all(found[name].equal(tensor) for name, tensor in of_best.items())
    assert not all(found[name].equal(tensor) for name, tensor in of_last.items())
    assert results["validation"]["loss"] == pytest.approx(losses[best], abs=1e-4)


# before the data are read: there are none
NO_DATA = ["--dataset", "nowhere", "--report_to", "none"]


def refused(recipe, *flags):
    """The one line on stderr."""
    result = call(f"recipes/finetune_{recipe}.py", *flags)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*token*", "model_name_or_path is .*: no folder with a saved tokenizer"),
        ("*.safetensors", "model_name_or_path is .*, a folder without weights .*: give the folder of a finished run"),
    ],
)
def test_a_model_without_a_part_is_refused_before_the_data_are_read(
    recipe, pattern, message, tmp_path, tiny_tokenizer
):
    model = saved(tmp_path / "model", "LSTM", tiny_tokenizer)
    for path in model.glob(pattern):
        path.unlink()
    line = refused(recipe, "--model_name_or_path", model, *NO_DATA, "--output_dir", tmp_path / "out")
    assert re.search(message, line)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_station_without_the_head_is_refused_before_the_data_are_read(recipe, tmp_path, tiny_tokenizer):
    station = "Word2Vec" if recipe == "question_answering" else "NNLM"
    model = saved(tmp_path / "model", station, tiny_tokenizer)
    line = refused(recipe, "--model_name_or_path", model, *NO_DATA, "--output_dir", tmp_path / "out")
    assert re.search(
        f"of type lineage_{station.lower()}, which AutoModelFor.* does not open: give .*lineage_bert", line
    )
    assert len(line) < 600


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_that_are_not_there_are_named(recipe, tmp_path, tiny_tokenizer):
    model = saved(tmp_path / "model", "LSTM", tiny_tokenizer)
    line = refused(recipe, "--model_name_or_path", model, *NO_DATA, "--output_dir", tmp_path / "out")
    assert re.search("dataset is nowhere: no folder, and the Hub gives .*; give a folder", line)
    files = ["--train_file", tmp_path / "nix.jsonl", "--validation_file", tmp_path / "nix.jsonl"]
    line = refused(recipe, "--model_name_or_path", model, *files, "--output_dir", tmp_path / "out")
    assert re.search(r"train_file is .*nix\.jsonl, but there is no such file", line)


@pytest.mark.parametrize(
    ("recipe", "flag"),
    [
        ("tagging", "problem_type"),
        ("multiple_choice", "problem_type"),
        ("question_answering", "problem_type"),
        ("question_answering", "label_field"),
    ],
)
def test_options_that_do_nothing_are_not_taken(recipe, flag, tmp_path):
    flags = ["--model_name_or_path", "x", *NO_DATA, f"--{flag}", "regression", "--output_dir", tmp_path]
    assert f"unknown arguments: --{flag}" in refused(recipe, *flags)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_without_gain_stops_early(recipe, inputs, run, tmp_path):
    settings = inputs(recipe) | {"learning_rate": 0.0, "max_steps": 8, "save_steps": 1, "eval_steps": 1}
    settings |= {"eval_strategy": "steps", "load_best_model_at_end": True, "early_stopping_patience": 2}
    results = run(recipe, tmp_path / "out", **settings, metric_for_best_model=MAIN.get(recipe, "accuracy"))
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    # the first evaluation is the best one
    assert state["global_step"] == 3
    assert "test" in results


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_learn_and_answer_the_same(recipe, inputs, tmp_path):
    """Two runs in one command, so that the processes also agree on what comes next."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "recipes/accelerate/cpu_2procs.yaml")]
    settings, found = inputs(recipe), []
    for name, start, size in (("one", [], 8), ("two", launch, 4)):
        settings |= {"per_device_train_batch_size": size, "seeds": "0 1", "save_strategy": "no"}
        result = subprocess.run(
            [sys.executable, *start, *command(recipe, settings | {"output_dir": tmp_path / name})],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        [point] = json.loads((tmp_path / name / "results.json").read_text())["points"]
        assert "standard deviation over seeds" in (tmp_path / name / "report.html").read_text(encoding="utf-8")
        lines = [
            json.loads(line)
            for seed in (0, 1)
            for line in (tmp_path / name / f"seed_{seed}" / "predictions.jsonl").read_text().splitlines()
        ]
        weights = load_file(tmp_path / name / "seed_1" / "model.safetensors")
        # equal for all positions or choices, these change no answer; only rounding moves them
        weights = {key: value for key, value in weights.items() if key not in ("qa_outputs.bias", "scorer.bias")}
        found.append((point["test"]["loss"]["mean"], [line["answer"] for line in lines], weights))
    (loss, texts, weights), (of_two, other_texts, other_weights) = found
    assert of_two == pytest.approx(loss, abs=2e-4)
    assert other_texts == texts
    # Adam turns the rounding of a gradient near 0 into steps, far below the rate of 1e-2
    assert_close(other_weights, weights, rtol=1e-3, atol=1e-4)
