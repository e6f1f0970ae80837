"""Recipes that another one runs: what is repeated, continued, replaced or refused."""

import json

import pytest

from hf_lineage.training import RecipeRuns


SCRIPT = """
import json, pathlib, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = pathlib.Path(flags["--output_dir"])
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent / "calls.txt", "a") as file:
    print("anew" if "--overwrite_output_dir" in flags else "continued", file=file)
(folder / "results.json").write_text(json.dumps({"rate": flags["--rate"]}))
(folder / "model.safetensors").touch()
sys.exit(flags.get("--fails", 0) and 1)
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script by a new RecipeRuns, as a new command would; gives the results."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def call(*options, anew=False, **how):
        runs = RecipeRuns(tmp_path / "out", tmp_path, anew=anew)
        return runs.run("model", "script.py", *options, **how)

    return call


def calls(tmp_path) -> list[str]:
    return (tmp_path / "out" / "calls.txt").read_text().split()


def test_a_finished_run_is_not_repeated_unless_asked(run, tmp_path):
    for anew in (False, False, True):
        assert run("--rate", 1, continues=True, anew=anew) == {"rate": "1"}
    assert calls(tmp_path) == ["continued", "anew"]


def test_a_run_whose_end_was_not_seen_continues_from_its_checkpoint(run, tmp_path):
    run("--rate", 1, continues=True)
    path = tmp_path / "out" / "runs.json"
    for has_checkpoint in (True, False):
        # killed before runs.json told the seconds
        path.write_text(json.dumps({"model": {"command": ["script.py", "--rate", "1"]}}))
        folder = tmp_path / "out" / "model" / "checkpoint-5"
        folder.mkdir() if has_checkpoint else folder.rmdir()
        run("--rate", 1, continues=True)
    # without one, a recipe would refuse to replace the finished model
    assert calls(tmp_path) == ["continued", "continued", "anew"]


def test_another_command_is_left_to_the_recipe_or_done_again(run, tmp_path):
    run("--rate", 1, continues=True)
    assert run("--rate", 2, continues=True, replaces=True) == {"rate": "2"}
    with pytest.raises(RuntimeError, match="ended with status 1"):
        run("--rate", 3, "--fails", 1, continues=True)
    # the failed one has not become this folder's command
    assert json.loads((tmp_path / "out" / "runs.json").read_text())["model"]["command"][-1] == "2"
    assert calls(tmp_path) == ["continued", "anew", "continued"]
