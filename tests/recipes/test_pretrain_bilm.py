"""recipes/pretrain_bilm.py: stopped runs go on as if nothing had happened, two processes train as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer

from hf_lineage import ELMoTokenizer
from tests.recipes.here import call


ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "character_size": 4,
    "cnn_filters": [[1, 4], [2, 8]],
    "num_highway_layers": 1,
    "hidden_size": 16,
    "projection_size": 8,
    "dropout": 0.2,
    "output_layer": "sampled",
}
SETTINGS = {
    "model_type": "lineage_elmo",
    "config_overrides": json.dumps(SIZES),
    "num_negatives": 20,
    "restart_share": 0.3,
    "block_size": 5,
    "per_device_train_batch_size": 4,
    "optim": "adagrad",
    "learning_rate": 0.2,
    "max_grad_norm": 10.0,
    "logging_steps": 1,
    "save_steps": 3,
    "disable_tqdm": True,
    "max_steps": 20,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_corpus):
    folder = tmp_path_factory.mktemp("sentences")
    for split, sentences in (
        ("train", tiny_corpus[:30]),
        ("validation", tiny_corpus[40:60]),
        ("test", tiny_corpus[60:80]),
    ):
        (folder / f"{split}.txt").write_text("\n".join(sentences), encoding="utf-8")
    return folder


def command(corpus, output_dir, **changes):
    settings = SETTINGS | {"corpus": corpus, "output_dir": output_dir} | changes
    flags = [part for name, value in settings.items() if value is not None for part in (f"--{name}", str(value))]
    return [str(ROOT / "recipes" / "pretrain_bilm.py"), *flags]


def run(corpus, output_dir, launcher=(), **changes):
    """In a process of its own if there is a launcher, else in this one."""
    flags = command(corpus, output_dir, **changes)
    result = subprocess.run([*launcher, *flags], capture_output=True, text=True) if launcher else call(*flags)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return load_file(Path(output_dir) / "model.safetensors")


@pytest.mark.recipe
def test_a_stopped_run_goes_on_bit_by_bit(corpus, tmp_path):
    """The text lasts for fewer updates than the run, so that it stops in its second epoch or later."""
    whole = run(corpus, tmp_path / "whole")
    epochs = json.loads((tmp_path / "whole" / "checkpoint-20" / "trainer_state.json").read_text())["epoch"]
    assert epochs > 1.5
    # squares are only added to what Adagrad starts from
    optimizer = torch.load(tmp_path / "whole" / "checkpoint-3" / "optimizer.pt", weights_only=True)
    sums = [state["sum"] for state in optimizer["state"].values()]
    assert sums
    assert all(values.min() >= 1.0 for values in sums)
    # what a killed run leaves behind: its checkpoints up to some step
    copy = tmp_path / "stopped"
    copy.mkdir()
    (tmp_path / "whole" / "checkpoint-15").rename(copy / "checkpoint-15")
    # a new process, in which sets have another order
    resumed = run(corpus, copy, launcher=[sys.executable])
    assert [name for name in whole if not whole[name].equal(resumed[name])] == []

    results = json.loads((copy / "results.json").read_text())
    assert results["tokens_per_epoch"] + results["tokens_dropped"] == sum(
        len(line.split()) + 1 for line in (corpus / "train.txt").read_text().splitlines()
    )
    assert 1 < results["test"]["forward_perplexity"] < 1000
    assert type(AutoTokenizer.from_pretrained(copy)) is ELMoTokenizer
    assert AutoModel.from_pretrained(copy)(**AutoTokenizer.from_pretrained(copy)("The dog", return_tensors="pt"))


@pytest.mark.recipe
def test_a_saved_model_keeps_its_words(corpus, tmp_path):
    run(corpus, tmp_path / "first", max_steps=1)
    # as many words, in another order of their frequency
    other = tmp_path / "other"
    other.mkdir()
    lines = (corpus / "train.txt").read_text().splitlines()
    for split in ("train", "validation", "test"):
        (other / f"{split}.txt").write_text("\n".join(lines + lines[-5:] * 9), encoding="utf-8")
    more = {"model_type": None, "config_overrides": None, "model_name_or_path": tmp_path / "first"}
    run(other, tmp_path / "second", max_steps=1, **more)
    first, second = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("first", "second"))
    assert second.get_vocab() == first.get_vocab()


@pytest.mark.slow
@pytest.mark.recipe
def test_two_processes_train_as_one(corpus, tmp_path):
    no_dropout = json.dumps(SIZES | {"dropout": 0.0})
    one = run(corpus, tmp_path / "one", config_overrides=no_dropout)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611"]
    two = run(corpus, tmp_path / "two", launcher, per_device_train_batch_size=2, config_overrides=no_dropout)
    assert_close(two, one, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.recipe
def test_memory_does_not_grow_with_the_updates(corpus, tmp_path):
    peaks = []
    for updates in (300, 3000):
        flags = command(corpus, tmp_path / str(updates), max_steps=updates, save_strategy="no", logging_steps=100)
        process = subprocess.Popen([sys.executable, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    # MB: 6 kB an update would show
    assert peaks[1] < peaks[0] + 16
