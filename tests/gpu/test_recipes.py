"""Every recipe's tiny preset trains on a GPU, in the precision that it chooses and in float32."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


pytestmark = [pytest.mark.gpu, pytest.mark.slow]
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {
    "bert": "pretrain_bert",
    "elmo": "pretrain_bilm",
    **dict.fromkeys(("nnlm", "rnn", "lstm", "gru", "gpt"), "pretrain_causal_lm"),
    **dict.fromkeys(("seq2seq", "rnnsearch", "luong", "transformer"), "pretrain_translation"),
    "word2vec": "pretrain_word2vec",
}


def test_every_tiny_preset_has_its_recipe():
    assert {path.stem for path in (ROOT / "recipes" / "configs").glob("*_tiny.yaml")} == {f"{n}_tiny" for n in RECIPES}


@pytest.mark.parametrize("precision", ["auto", "fp32"])
@pytest.mark.parametrize("name", RECIPES)
def test_tiny_preset_trains_for_20_steps(tmp_path, name, precision):
    flags = ["--output_dir", tmp_path, "--max_steps", "20", "--logging_steps", "5", "--precision", precision]
    command = [
        sys.executable,
        ROOT / "recipes" / f"{RECIPES[name]}.py",
        ROOT / "recipes" / "configs" / f"{name}_tiny.yaml",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command), *map(str, flags)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    states = sorted(tmp_path.glob("checkpoint-*/trainer_state.json"))
    assert states, "no checkpoint was saved"
    losses = [row["loss"] for row in json.loads(states[-1].read_text())["log_history"] if "loss" in row]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    assert (tmp_path / "results.json").is_file()
