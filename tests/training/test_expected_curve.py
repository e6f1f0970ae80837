"""The warning for a run that falls off its preset's curve."""

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from hf_lineage.training import ExpectedCurve, loss_by_frequency
from tests.recipes.here import call


CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"


def evaluated(curve, step, loss):
    curve.on_evaluate(None, SimpleNamespace(global_step=step, is_world_process_zero=True), None, {"eval_loss": loss})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"points": [[100, 0.9], [10_000, 0.5]]}))
    return path


def test_only_a_loss_above_the_curve_is_warned_of_and_once(path):
    curve = ExpectedCurve(path, chance=6.0, tokens_after=lambda step: 10 * step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # before the first point, and on the curve: between the points it is straight over the logarithm
        evaluated(curve, 9, 99.0)
        evaluated(curve, 100, 6.0 * 0.7 * 1.049)
        evaluated(curve, 5_000, 3.1)
    with pytest.warns(UserWarning, match=r"1,000 tokens .* 4\.50; mine expects at most 4\.20") as caught:
        evaluated(curve, 100, 4.5)
    assert "learning rate" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluated(curve, 200, 9.0)


def test_without_evaluations_it_says_that_nothing_is_compared(path):
    curve, state = ExpectedCurve(path, 6.0, float), SimpleNamespace(is_world_process_zero=True)
    with pytest.warns(UserWarning, match="eval_strategy is no: nothing is compared"):
        curve.on_train_begin(SimpleNamespace(eval_strategy="no"), state, None)


def test_a_presets_curve_lies_beside_it():
    for path in CONFIGS.glob("budget_*.yaml"):
        if name := yaml.safe_load(path.read_text(encoding="utf-8")).get("expected_curve"):
            curve = ExpectedCurve(name, 6.0, float, CONFIGS)
            assert (np.diff(curve.tokens) > 0).all()
            # a model learns more than how frequent words are, and never unlearns it
            assert curve.shares[0] < 1
            assert (np.diff(curve.shares) < 0).all()
            assert name == f"{path.stem}.json"
    assert (CONFIGS / "budget_cpu_lstm.json").is_file()


@pytest.mark.parametrize("content", ["{", "{}", '{"points": 3}', '{"points": [[1]]}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"expected_curve is .*a\.json"):
        ExpectedCurve(tmp_path / "a.json", 6.0, float)


def test_loss_by_frequency_is_the_cross_entropy_of_counts():
    train, held_out = np.array([0, 0, 1]), np.array([0, 1, 2])
    expected = -sum(math.log(count / 6) for count in (3, 2, 1)) / 3
    assert loss_by_frequency(train, held_out, 3) == pytest.approx(expected)


@pytest.mark.recipe
def test_a_recipe_warns(tmp_path, tiny_corpus):
    (tmp_path / "text.txt").write_text("\n".join(tiny_corpus), encoding="utf-8")
    (tmp_path / "curve.json").write_text(json.dumps({"points": [[1, 0.1], [2, 0.1]]}))
    flags = {"model_type": "lstm", "config_overrides": '{"hidden_size": 8}', "vocab_size": 200, "block_size": 8}
    flags |= {"corpus": tmp_path / "text.txt", "output_dir": tmp_path / "run", "max_steps": 2, "save_strategy": "no"}
    flags |= {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "expected_curve": tmp_path / "curve.json",
        "disable_tqdm": True,
    }
    with pytest.warns(UserWarning, match="Usual causes"):
        result = call("recipes/pretrain_causal_lm.py", *(part for k, v in flags.items() for part in (f"--{k}", v)))
    assert result.returncode == 0, result.stderr[-2000:]
