"""Several fine-tuning runs in one command: what is chosen, on which text, and what is reported."""

import json
import math
import random
import runpy
from pathlib import Path
from statistics import mean, stdev

import datasets
import pytest

from hf_lineage.arguments import FineTuningArguments, GridArguments
from hf_lineage.reports.task_report import spreads_section
from hf_lineage.training import FineTuningRun, LineageTrainer, LineageTrainingArguments, finetuning
from tests.recipes.test_finetune_classification import saved


ROOT = Path(__file__).resolve().parents[2]


def write(folder, sizes):
    """Texts that tell their class by one word."""
    draw = random.Random(0)
    folder.mkdir()
    for split, size in sizes.items():
        rows = []
        for number in range(size):
            words = [
                draw.choice(["quiet", "old", "river"]),
                ["dog", "letter"][number % 2],
                draw.choice(["again", "the"]),
            ]
            rows.append({"text": " ".join(words), "label": ["no", "yes"][number % 2]})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def model(tmp_path, tiny_tokenizer):
    return saved(tmp_path / "model", "Word2Vec", tiny_tokenizer)


@pytest.fixture
def run(monkeypatch, tmp_path, model):
    """Calls the recipe in this process; gives results.json."""
    script = runpy.run_path(str(ROOT / "recipes" / "finetune_classification.py"))

    def call(output_dir=tmp_path / "out", dataset=tmp_path / "data", **settings):
        settings = {"model_name_or_path": model, "output_dir": output_dir, "dataset": dataset} | settings
        settings = {"max_steps": 4, "per_device_train_batch_size": 8, "save_strategy": "no"} | settings
        settings |= {"disable_tqdm": True, "report_to": "none"}
        flags = []
        for name, value in settings.items():
            if value is None:
                continue
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        monkeypatch.setattr("sys.argv", ["finetune_classification.py", *flags])
        script["main"]()
        return json.loads((output_dir / "results.json").read_text())

    return call


def test_the_rate_is_chosen_on_validation_and_the_test_text_scored_once(run, tmp_path, monkeypatch, capsys):
    write(tmp_path / "data", {"train": 48, "validation": 16, "test": 16})
    settings = {"seeds": [0, 1], "learning_rates": [1e-6, 5e-1]}
    results = run(**settings)
    [point] = results["points"]
    assert point["learning_rate"] == 0.5
    assert point["train_rows"] == 48
    cells = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/results.json")}
    assert cells.keys() == {f"rate_{rate}-seed_{seed}" for rate in ("1e-06", "0.5") for seed in (0, 1)}
    assert [name for name in sorted(cells) if "test" in cells[name]] == ["rate_0.5-seed_0", "rate_0.5-seed_1"]
    for split in ("validation", "test"):
        values = [cells[f"rate_0.5-seed_{seed}"][split]["accuracy"] for seed in (0, 1)]
        found = point[split]["accuracy"]
        assert found == {"mean": pytest.approx(mean(values)), "std": pytest.approx(stdev(values)), "values": values}
    slow = [cells[f"rate_1e-06-seed_{seed}"]["validation"]["accuracy"] for seed in (0, 1)]
    assert point["validation_by_learning_rate"]["1e-06"]["mean"] == pytest.approx(mean(slow))
    assert point["test"]["floors"]["majority"]["accuracy"]["mean"] == 0.5
    out = capsys.readouterr().out
    assert f"{point['test']['accuracy']['mean']:.4f} ± {point['test']['accuracy']['std']:.4f}" in out

    # a finished command trains nothing, and a killed one what is missing
    trained, train = [], LineageTrainer.train
    monkeypatch.setattr(LineageTrainer, "train", lambda self, *a: (trained.append(self.args.seed), train(self, *a)))
    assert run(**settings) == results
    assert not trained
    (tmp_path / "out" / "results.json").unlink()
    (tmp_path / "out" / "rate_1e-06-seed_1" / "predictions.jsonl").unlink()
    assert run(**settings) == results
    assert trained == [1]
    (tmp_path / "out" / "results.json").unlink()
    with pytest.raises(ValueError, match="max_steps=4, this run has 5"):
        run(max_steps=5, **settings)


def test_random_weights_are_a_floor(run, tmp_path, capsys):
    write(tmp_path / "data", {"train": 48, "validation": 16, "test": 16})
    alone = run(tmp_path / "alone", random_weights=True, seed=3)
    results = run(random_weights_floor=True, seed=3)
    for split in ("validation", "test"):
        assert results[split]["floors"]["random weights"] == {
            name: alone[split][name] for name in results[split]["floors"]["random weights"]
        }
        assert "accuracy" in results[split]["floors"]["random weights"]
    assert "random weights" in capsys.readouterr().out
    assert "random weights" in (tmp_path / "out" / "report.html").read_text()
    grid = run(tmp_path / "grid", random_weights_floor=True, seeds=[3], learning_rates=[1e-6, 5e-1])
    twin = json.loads((tmp_path / "grid" / "rate_0.5-seed_3" / "_random_weights" / "results.json").read_text())
    [point] = grid["points"]
    assert point["learning_rate"] == 0.5
    assert point["test"]["floors"]["random weights"]["accuracy"]["mean"] == twin["test"]["accuracy"]
    assert twin["parameters"]["loaded"] == 0
    with pytest.raises(ValueError, match="set random_weights to false"):
        FineTuningArguments("x", random_weights=True, random_weights_floor=True)


def test_random_weights_choose_their_own_rate(run, tmp_path, monkeypatch):
    """Whatever the trained weights like best; the test text has no part in the choice."""
    write(tmp_path / "data", {"train": 48, "validation": 16, "test": 16})

    rates, best_rate = iter([1e-6, 5e-1]), finetuning.best_rate
    monkeypatch.setattr(finetuning, "best_rate", lambda *arguments: (next(rates), best_rate(*arguments)[1]))
    [point] = run(random_weights_floor=True, seeds=[3], learning_rates=[1e-6, 5e-1])["points"]
    assert (point["learning_rate"], point["learning_rate_of_random_weights"]) == (1e-6, 5e-1)
    other = tmp_path / "out" / "rate_0.5-seed_3"
    twin = json.loads((other / "_random_weights" / "results.json").read_text())
    for split in ("validation", "test"):
        floor = point[split]["floors"]["random weights"]
        assert {name: value["mean"] for name, value in floor.items()} == {name: twin[split][name] for name in floor}
    assert "test" not in json.loads((other / "results.json").read_text())


def test_few_labels_are_a_curve_beside_others(run, tmp_path, capsys):
    write(tmp_path / "data", {"train": 48, "validation": 16})
    other = run(tmp_path / "other", seeds=[0], transfer="features")
    assert [point["train_rows"] for point in other["points"]] == [48]
    results = run(label_counts=[32, 8], transfer="frozen", learning_rate=0.5, compare_with=[tmp_path / "other"])
    assert [point["train_rows"] for point in results["points"]] == [8, 32]
    assert (tmp_path / "out" / "curve.png").stat().st_size > 5_000
    assert "| 8 | 0.5 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="compare_with names .*model"):
        run(tmp_path / "more", compare_with=[tmp_path / "model"])
    unlike = tmp_path / "other" / "results.json"
    unlike.write_text(json.dumps(other | {"main_score": "spearman"}))
    with pytest.raises(ValueError, match="compare_with names .*other, whose score is spearman; here it is"):
        run(tmp_path / "more", seeds=[0], compare_with=[tmp_path / "other"])


@pytest.mark.parametrize("settings", [{"label_counts": [4, 16]}, {"max_train_samples": 4, "seeds": [0, 1]}])
def test_too_few_rows_for_an_update_are_refused_before_any_run(run, tmp_path, settings):
    write(tmp_path / "data", {"train": 48, "validation": 16})
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is 4, but an update of the weights reads 8 rows"):
        run(**settings)
    assert not (tmp_path / "out").exists()


def test_a_score_that_equals_its_floor_is_not_below_it(tmp_path, capsys):
    arguments = FineTuningArguments("x"), LineageTrainingArguments(str(tmp_path))
    tuning = FineTuningRun(tmp_path, *arguments)
    tuning.results = {}
    for third, is_below in ((1 / 3, False), (1 / 3 - 1e-3, True)):
        tuning.report("test", {"accuracy": third}, {"majority": {"accuracy": 1 / 3}}, [], "accuracy")
        assert ("below its floor" in capsys.readouterr().out) == is_below
    assert tuning.results["test"]["floors"] == {"majority": {"accuracy": 0.3333}}


@pytest.mark.parametrize(("main", "is_missed"), [("loss", "above a floor"), ("accuracy", "below a floor")])
def test_the_table_of_several_runs_marks_what_misses_a_floor(main, is_missed):
    worse, better = (0.9, 0.4) if main == "loss" else (0.4, 0.9)
    for mean_score, floor, marks in ((worse, better, 1), (better, worse, 0), (better, better, 0)):
        scores = {main: {"mean": mean_score, "std": 0.0}, "floors": {"majority": {main: {"mean": floor}}}}
        points = [{"train_rows": 8, "learning_rate": 0.1, "validation": scores}]
        table = finetuning.curve_table(points, main)
        assert table.count(is_missed) == marks
        # without a test text its column is not the validation text's once more
        assert table.splitlines()[0] == f"| training rows | learning rate | validation {main} | majority |"
        assert spreads_section(scores).count('class="below"') == marks


def test_more_rows_than_there_are_means_all_and_is_said(run, tmp_path, capsys):
    write(tmp_path / "data", {"train": 48, "validation": 16})
    [point] = run(tmp_path / "counts", label_counts=[49], max_steps=1)["points"]
    assert point["train_rows"] == 48
    assert "label_counts has 49, but there are only 48 training rows" in capsys.readouterr().out
    [point] = run(tmp_path / "twice", label_counts=[48, 49], max_steps=1)["points"]
    assert point["train_rows"] == 48
    capsys.readouterr()
    assert run(tmp_path / "most", max_train_samples=50, max_steps=1)["train_rows"] == 48
    assert "max_train_samples is 50, but there are only 48 training rows" in capsys.readouterr().out
    run(tmp_path / "all", max_train_samples=48, max_steps=1)
    assert "there are only" not in capsys.readouterr().out


def test_scores_that_do_not_exist_are_said_and_stand_as_null(run, tmp_path, capsys):
    """A correlation with labels that are all equal."""
    (tmp_path / "data").mkdir()
    for split, size in (("train", 8), ("validation", 4)):
        rows = [json.dumps({"text": "quiet dog", "label": number / 8 * (split == "train")}) for number in range(size)]
        (tmp_path / "data" / f"{split}.jsonl").write_text("\n".join(rows))
    # 0.0 in all validation rows is also among the numbers of training
    settings = {"seeds": [0, 1], "problem_type": "regression", "max_steps": 1, "random_weights_floor": True}
    [point] = run(**settings)["points"]
    found = point["validation"]["spearman"]
    assert found == {"mean": None, "std": None, "values": [None, None]}
    assert point["validation"]["loss"]["mean"] is not None
    assert "validation spearman is not defined in 2 of 2 runs" in capsys.readouterr().out
    # finished runs are read from their files, where NaN is null
    (tmp_path / "out" / "results.json").unlink()
    assert run(**settings)["points"] == [point]
    # and plots of other commands, too
    run(tmp_path / "other", compare_with=[tmp_path / "out"], **settings)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_score_that_one_run_lacks_has_no_mean(missing):
    """It is null in the file of a finished run, and NaN in that of one that has just ended."""
    results = [
        {"train_rows": 8, "learning_rate": 0.1, "validation": {"spearman": value, "loss": 0.5, "floors": {}}}
        for value in (0.5, missing)
    ]
    found = finetuning.point(results, {0.1: [0.5, math.nan]})["validation"]
    assert math.isnan(found["spearman"]["mean"])
    assert math.isnan(found["spearman"]["std"])
    assert found["spearman"]["values"][0] == 0.5
    assert found["loss"]["mean"] == 0.5


def test_rows_of_one_class_have_no_tf_idf_and_that_is_said(run, tmp_path, capsys):
    write(tmp_path / "data", {"train": 48, "validation": 16, "test": 16})
    small, large = run(label_counts=[1, 32], max_steps=1, per_device_train_batch_size=1)["points"]
    assert "TF-IDF" not in small["test"]["floors"]
    assert large["test"]["floors"]["TF-IDF"]["accuracy"]["mean"] == 1
    out = capsys.readouterr().out
    assert "test: TF-IDF is no floor" in out
    assert "| – |" in out


@pytest.mark.parametrize("flag", ["dataset", "train_file"])
def test_folds_are_parts_of_all_rows(run, tmp_path, flag):
    folder = write(tmp_path / "data", {"train": 30})
    # of a folder one cannot tell whether its validation rows were forgotten
    source = {"dataset": folder, "validation_split": "train"}
    if flag == "train_file":
        source = {"dataset": None, "train_file": folder / "train.jsonl"}
    results = run(folds=3, per_device_train_batch_size=4, **source)
    [point] = results["points"]
    assert len(point["validation"]["accuracy"]["values"]) == 3
    lines = [
        json.loads(line)
        for fold in range(3)
        for line in (tmp_path / "out" / f"fold_{fold}-seed_42" / "predictions.jsonl").read_text().splitlines()
    ]
    rows = [json.loads(line) for line in (tmp_path / "data" / "train.jsonl").read_text().splitlines()]
    assert sorted(line["texts"][0] for line in lines) == sorted(row["text"] for row in rows)


def test_a_class_of_the_validation_rows_alone_is_learnt_in_folds(run, tmp_path):
    folder = write(tmp_path / "data", {"train": 20, "validation": 10})
    path = folder / "validation.jsonl"
    path.write_text(path.read_text().replace('"label": "yes"', '"label": "maybe"'))
    results = run(folds=2)
    assert len(results["points"][0]["validation"]["accuracy"]["values"]) == 2
    with pytest.raises(ValueError, match="label is 'maybe' in some rows of the split 'validation'"):
        run(tmp_path / "one")


@pytest.mark.parametrize("make", [datasets.Dataset.from_list, list], ids=["data set", "list"])
def test_folds_join_training_and_validation(make, tmp_path):
    splits = {"train": make([{"n": n} for n in range(7)]), "validation": make([{"n": n} for n in range(7, 10)])}
    splits["test"] = make([{"n": 99}])
    arguments = FineTuningArguments("x", max_train_samples=4), LineageTrainingArguments(str(tmp_path))
    held = []
    for number in range(4):
        rows = FineTuningRun(tmp_path, *arguments, fold=(number, 4)).rows_of(splits)
        train, validation = ([row["n"] for row in rows[split]] for split in ("train", "validation"))
        assert len(train) == 4
        assert not set(train) & set(validation)
        assert rows["test"][0] == {"n": 99}
        held += validation
    assert sorted(held) == list(range(10))
    # a larger number of rows includes the smaller one
    draws = [
        {row["n"] for row in FineTuningRun(tmp_path, *arguments, label_count=n).rows_of(splits)["train"]}
        for n in (2, 3)
    ]
    assert draws[0] < draws[1]


def test_early_stopping_needs_evaluations(run, tmp_path):
    write(tmp_path / "data", {"train": 8, "validation": 8})
    with pytest.raises(ValueError, match="early_stopping_patience is 2, but load_best_model_at_end is False"):
        run(early_stopping_patience=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": []}, "seeds is"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]"),
        ({"learning_rates": [-1.0]}, "learning_rates is"),
        ({"label_counts": [0]}, "label_counts is"),
        ({"folds": 1}, "folds is 1"),
        ({"folds": 2, "label_counts": [3]}, "folds and label_counts"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GridArguments(**settings)
