"""The claims: a verdict follows from the numbers, both ways, and finished runs are not repeated."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.here import call


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recipe():
    return runpy.run_path(str(ROOT / "recipes" / "claims.py"))


def recalls(rnn, lstm, gru):
    return {"recall": {"RNN": {"10": 0.9, "400": rnn}, "LSTM": {"10": 1, "400": lstm}, "GRU": {"10": 1, "400": gru}}}


def areas(static, elmo, without_context=0.5):
    return {
        "areas": {"word2vec": {"0": static}, "elmo": {"0": without_context, "1": elmo}},
        "test_pairs": [400, 400],
    }


def orders(true_without):
    """The true order is the likeliest with positions; without, by so many bits."""
    worse = [[5.0, 6.0, 7.0]] * 40
    return {"bits": {"gpt": {"with": worse, "without": [[6.0, 6.0 + true_without, 6.0 + true_without]] * 40}}}


def layers(*means):
    scores = {
        str(i): {"mean": mean, "std": 0.01, "seeds": [mean - 0.01, mean, mean + 0.01]} for i, mean in enumerate(means)
    }
    return {"accuracy": {"elmo": scores}}


def features(mixed, masked):
    return {
        "accuracy": {"bert": layers(0.1, mixed)["accuracy"]["elmo"], "all": layers(0.9, masked)["accuracy"]["elmo"]}
    }


def bleu(attention, fixed):
    curves = {"attention": attention, "fixed state": fixed}
    return {
        "bleu": {
            name: [{"bleu": score, "words": 5 + 9 * i, "longer_than": 9 * i} for i, score in enumerate(scores)]
            for name, scores in curves.items()
        }
    }


def taggers(trained, untrained):
    of = {
        name: [mean - 0.01, mean, mean + 0.01]
        for name, mean in {"pre-trained": trained, "untrained": untrained}.items()
    }
    return {"scores": {n: {"mean": np.mean(seeds), "std": 0.01, "seeds": seeds} for n, seeds in of.items()}}


@pytest.mark.parametrize(
    ("claim", "true", "false"),
    [
        # the RNN remembers too; the GRU forgets; none remembers much
        (
            "long_dependencies",
            [recalls(0.13, 0.99, 0.98)],
            [recalls(0.97, 0.99, 1), recalls(0.13, 0.99, 0.5), recalls(0.115, 0.19, 0.19)],
        ),
        # chance; places tell as much as contexts; a static vector tells
        ("senses", [areas(0.5, 0.6)], [areas(0.5, 0.52), areas(0.5, 0.6, 0.59), areas(0.6, 0.7)]),
        # the order is as clear without positions
        ("positions", [orders(0)], [orders(1)]),
        # layers 2 and 0 are as good
        ("elmo_syntax", [layers(0.8, 0.9, 0.86)], [layers(0.8, 0.9, 0.895), layers(0.9, 0.9, 0.8)]),
        # quality lost with attention; kept without; lost by both
        (
            "attention",
            [bleu([99, 98], [18, 3])],
            [bleu([99, 40], [18, 17]), bleu([99, 98], [18, 99]), bleu([15.6, 1.3], [15.5, 1])],
        ),
        ("masking", [features(0.8, 0.7)], [features(0.8, 0.79), features(0.7, 0.8)]),
        ("pretraining", [taggers(0.8, 0.7)], [taggers(0.7, 0.695), taggers(0.6, 0.7)]),
    ],
)
def test_verdict_follows_from_the_numbers(recipe, claim, true, false, tmp_path):
    judge = recipe["CLAIMS"][claim].judge
    for numbers in true + false:
        holds, measured = judge(numbers)
        assert holds == (numbers in true)
        assert re.search(r"\d", measured)
    recipe["plot"](recipe["CLAIMS"][claim], {"numbers": true[0], "holds": True}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_error_of_an_area_is_that_of_drawn_samples(recipe):
    draw = np.random.default_rng(0)
    # of exponential scores, for which the formula is exact: the share of pairs in the right order
    wrong, right = draw.exponential(1.5, (2000, 60, 1)), draw.exponential(1, (2000, 1, 90))
    samples = (right < wrong).mean((1, 2))
    assert recipe["error_of_area"](np.mean(samples), 60, 90) == pytest.approx(np.std(samples), rel=0.1)


def test_order_is_preferred_by_fewer_bits_and_ties_count_half(recipe):
    assert recipe["preference"]([[1.0, 2.0, 0.5], [3.0, 3.001, 4.0]]) == pytest.approx((1 + 0 + 0.5 + 1) / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--claims", "magic"], r"claims has unknown names \['magic'\]; there are long_dependencies"),
        (["--claims", "senses"], "senses is missing, which the claim senses needs"),
        (["--claims", "attention", "--seeds", "1"], r"seeds is \[1\]; a claim needs at least 2"),
    ],
)
def test_bad_arguments_are_refused_before_work(options, message, tmp_path):
    done = call("recipes/claims.py", "--output_dir", tmp_path / "out", *options)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_finished_run_is_not_repeated(recipe, tmp_path, monkeypatch):
    """A run whose folder and command are known is read; another command, or a failed one, runs."""
    runs_class, calls = recipe["Runs"], []

    def run_recipe(name, command, log):
        calls.append(command)
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "results.json").write_text(json.dumps({"number": len(calls)}))
        if "--fail" in command:
            raise RuntimeError("ended with status 1")
        return 1.0

    monkeypatch.setitem(runs_class.run.__globals__, "run_recipe", run_recipe)
    args = recipe["ClaimsArguments"](claims=["attention"])
    for expected, options in ((1, []), (1, []), (2, ["--other", 3])):
        assert runs_class(args, tmp_path).run("probe", "probe_layers.py", *options) == {"number": expected}
    for _ in range(2):
        with pytest.raises(RuntimeError):
            runs_class(args, tmp_path).run("failing", "probe_layers.py", "--fail")
    assert len(calls) == 4
    assert (
        runs_class(recipe["ClaimsArguments"](claims=["attention"], overwrite_output_dir=True), tmp_path).finished == {}
    )


@pytest.mark.recipe
@pytest.mark.slow
def test_recipe_measures_a_claim(tmp_path):
    command = [sys.executable, "recipes/claims.py", "--output_dir", str(tmp_path), "--claims", "long_dependencies"]
    done = subprocess.run(
        command, cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    result = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["long_dependencies"]
    assert result["holds"]
    assert result["numbers"]["recall"] == json.loads((tmp_path / "long_dependencies/results.json").read_text("utf-8"))
    assert "1 of 1 claims hold" in done.stdout
    assert (tmp_path / "claims.md").read_text("utf-8").count("| yes |") == 1
