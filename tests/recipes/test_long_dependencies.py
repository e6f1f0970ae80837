"""The long-dependency experiment: its texts, and the recipe run as a user would."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from tests.recipes.here import succeed


ROOT = Path(__file__).parents[2]


def test_texts_are_a_pure_function_and_ask_for_their_first_word():
    recipe = runpy.run_path(str(ROOT / "recipes" / "long_dependencies.py"))
    batch = recipe["training_batch"]
    ids, symbols = batch(3, 7, 4, 400)
    torch.manual_seed(1)
    again, _ = batch(3, 7, 4, 400)
    assert torch.equal(ids, again)
    last = (ids == recipe["MARK"]).int().cumsum(1).argmax(1)
    assert ((ids == recipe["MARK"]).sum(1) == 2).all()
    assert torch.equal(ids.gather(1, last[:, None] + 1)[:, 0], symbols)
    assert (ids[:, -1] == recipe["QUESTION"]).all()
    assert (ids.max(1).values == recipe["QUESTION"]).all()
    lengths = []
    for step in range(300):
        ids, _ = batch(3, step, 1, 400)
        lengths.append(ids.shape[1] - 3 - int((ids == recipe["MARK"]).nonzero()[-1, 1]))
    assert min(lengths) <= 3
    assert max(lengths) > 300
    # evenly in the logarithm: half of the gaps lie below the root of the longest
    assert sum(length <= 20 for length in lengths) == pytest.approx(150, abs=40)


@pytest.mark.recipe
def test_recipe_tells_what_a_station_recalls(tmp_path):
    flags = ["--output_dir", tmp_path, "--disable_tqdm", "true", "--gaps", "2", "4", "--longest_gap", "4"]
    flags += ["--updates", "3", "--hidden_size", "24", "--seeds", "1"]
    succeed("recipes/long_dependencies.py", *flags)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results.keys() == {"RNN", "LSTM", "GRU"}
    for recalls in results.values():
        assert recalls.keys() == {"2", "4"}
        # shares of 256 texts
        assert all(0 <= recall <= 1 and (256 * recall).is_integer() for recall in recalls.values())
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")
