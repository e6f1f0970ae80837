"""Launches by accelerate train what one process trains: sharded, on two machines, accumulated, restarted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.utils.other import get_free_port
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForPreTraining, AutoModelForSeq2SeqLM

import hf_lineage  # noqa: F401 - registers the stations


pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("launched.py")
CONFIGS = ROOT / "recipes" / "accelerate"
STEPS = 6
STATIONS = {
    "GPT": AutoModelForCausalLM,
    "BERT": AutoModelForPreTraining,
    "Transformer": AutoModelForSeq2SeqLM,
    "LSTM": AutoModelForCausalLM,
}
ENVIRONMENT = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(*command) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    """What a process printed."""
    try:
        output, _ = process.communicate(timeout=500)
    finally:
        process.kill()
    assert (process.returncode == 0) == (expected == 0), output
    return output


def launch(config: Path, *flags) -> subprocess.Popen:
    return start("-m", "accelerate.commands.launch", "--config_file", config, *flags)


def report_of(folder: Path, station: str) -> dict:
    return json.loads((folder / station / "losses.json").read_text())


def weights_of(folder: Path, station: str) -> dict:
    """The weights of a saved model, as `from_pretrained` reads them.

    Without the keys' biases, which do not change the attention: Adam makes whole steps of their rounding errors.
    """
    weights = STATIONS[station].from_pretrained(folder / station).state_dict()
    return {name: weight for name, weight in weights.items() if not name.endswith("k_proj.bias")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of one process that has trained every station."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(SCRIPT, folder, STEPS, *STATIONS))
    return folder


@pytest.fixture(scope="module")
def sharded_config(tmp_path_factory):
    """fsdp2.yaml for two processes of a CPU."""
    settings = yaml.safe_load((CONFIGS / "fsdp2.yaml").read_text())
    file = tmp_path_factory.mktemp("config") / "fsdp2.yaml"
    file.write_text(yaml.safe_dump(settings | {"use_cpu": True, "num_processes": 2}))
    return file


def assert_trained_alike(folder: Path, alone: Path, station: str, processes: int = 2):
    found, expected = report_of(folder, station), report_of(alone, station)
    assert found["processes"] == processes
    assert list(found["losses"]) == [str(step + 1) for step in range(STEPS)]
    assert_close(list(found["losses"].values()), list(expected["losses"].values()), rtol=0, atol=1e-5)
    assert_close(weights_of(folder, station), weights_of(alone, station), rtol=1e-3, atol=1e-4)


def test_shards_train_save_and_continue_as_one_process(alone, sharded_config, tmp_path):
    for steps in (4, STEPS):
        # the second launch continues the checkpoint of the first
        finish(launch(sharded_config, SCRIPT, tmp_path, steps, *STATIONS))
    for station in STATIONS:
        assert report_of(tmp_path, station)["sharded"]
        assert_trained_alike(tmp_path, alone, station)
        # the code that travels is the station's, not torch's
        names = {path.name for path in (alone / station).glob("*.py")}
        assert {path.name for path in (tmp_path / station).glob("*.py")} == names
        configs = [json.loads((folder / station / "config.json").read_text()) for folder in (tmp_path, alone)]
        assert configs[0] == configs[1]


def test_word2vec_refuses_shards(sharded_config, tmp_path):
    output = finish(launch(sharded_config, SCRIPT, tmp_path, 2, "Word2Vec"), expected=1)
    assert "multi_gpu.yaml" in output


def test_two_machines_train_as_one_process(alone, tmp_path):
    flags = ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", get_free_port()]
    machines = [
        launch(
            CONFIGS / "multi_node.yaml", *flags, "--machine_rank", rank, SCRIPT, tmp_path, STEPS, *STATIONS, "Word2Vec"
        )
        for rank in (0, 1)
    ]
    for machine in machines:
        finish(machine)
    for station in STATIONS:
        assert_trained_alike(tmp_path, alone, station)
    assert len(report_of(tmp_path, "Word2Vec")["losses"]) == STEPS


def test_two_processes_accumulate_as_one_process(alone, tmp_path):
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, tmp_path, STEPS, *STATIONS, "--accumulate", 2))
    for station in STATIONS:
        assert_trained_alike(tmp_path, alone, station)


@pytest.mark.parametrize("station", ["GPT", "LSTM", "Word2Vec"])
def test_a_worker_that_dies_is_started_again(alone, tmp_path, station):
    flags = ["--max_restarts", "1", SCRIPT, tmp_path, STEPS, station]
    finish(launch(CONFIGS / "cpu_2procs.yaml", *flags, "--die_at", 3))
    assert (tmp_path / "died").exists()
    if station != "Word2Vec":
        assert_trained_alike(tmp_path, alone, station)
        return
    unbroken = tmp_path / "unbroken"
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, unbroken, STEPS, station))
    assert report_of(tmp_path, station) == report_of(unbroken, station)


def test_a_launch_that_failed_is_continued_by_the_next(alone, tmp_path):
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, tmp_path, STEPS, "GPT", "--die_at", 3), expected=1)
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, tmp_path, STEPS, "GPT"))
    assert_trained_alike(tmp_path, alone, "GPT")
