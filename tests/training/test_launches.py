"""Launches by accelerate train what one process trains: sharded, on two machines, accumulated, restarted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.utils.other import get_free_port
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForPreTraining, AutoModelForSeq2SeqLM

import hf_lineage  # noqa: F401 - registers the stations
from tests.reliability.test_hub_travel import environment_of, hub, run  # noqa: F401 - a fixture


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
# those whose blocks are compiled
COMPILE = ("GPT", "BERT", "Transformer")
ENVIRONMENT = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(*command, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=ENVIRONMENT | environment,
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


def launch(config: Path, *flags, **environment) -> subprocess.Popen:
    return start("-m", "accelerate.commands.launch", "--config_file", config, *flags, **environment)


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


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_trains_saves_and_continues_as_one_process(alone, stage, tmp_path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    flags = CONFIGS / f"deepspeed_zero{stage}.yaml", "--num_processes", 2, SCRIPT, tmp_path
    for steps in (4, STEPS):
        finish(launch(*flags, steps, *STATIONS, DS_ACCELERATOR="cpu"))
    for station in STATIONS:
        assert report_of(tmp_path, station)["sharded"]
        assert_trained_alike(tmp_path, alone, station)


OPEN = """
import sys
from safetensors.torch import save_file
from huggingface_hub import HfApi
import transformers
sys.modules["hf_lineage"] = None
for name, auto in MODELS.items():
    model = getattr(transformers, auto).from_pretrained(name, trust_remote_code=True)
    save_file({key: weight.clone() for key, weight in model.state_dict().items()}, name.replace("/", "-"))
    for commit in HfApi().list_repo_commits(name)[:-1]:
        tree = {file.path: file for file in HfApi().list_repo_tree(name, revision=commit.commit_id)}
        digests = open(HfApi().hf_hub_download(name, "SHA256SUMS", revision=commit.commit_id)).read()
        print(name, *tree, f"{tree['model.safetensors'].lfs.sha256}  model.safetensors" in digests)
"""


def test_shards_are_pushed_whole(hub, alone, sharded_config, tmp_path):  # noqa: F811
    """Each checkpoint and the end are a commit of a whole repository, which opens elsewhere without the package."""
    home = tmp_path / "home"
    home.mkdir()
    process = launch(sharded_config, SCRIPT, tmp_path, STEPS, *STATIONS, "--push", **environment_of(hub, home))
    finish(process)
    names = {f"me/{station}": auto.__name__ for station, auto in STATIONS.items()}
    opened = run(hub, f"MODELS = {names!r}\n{OPEN}", home)
    assert opened.returncode == 0, opened.stderr
    for station in STATIONS:
        assert report_of(tmp_path, station)["sharded"]
        commits = [line.split()[1:] for line in opened.stdout.splitlines() if line.startswith(f"me/{station} ")]
        # the end has nothing that the last checkpoint has not sent
        assert len(commits) == STEPS // 2
        code = {path.name for path in (alone / station).glob("*.py")}
        for *files, is_listed in commits:
            assert is_listed == "True"
            assert code | {"config.json", "model.safetensors", "SHA256SUMS", "README.md"} <= set(files)
            assert not [file for file in files if file.endswith((".bin", ".pt", ".pth", ".lock"))]
        weights = STATIONS[station].from_pretrained(tmp_path / station).state_dict()
        assert_close(load_file(home / f"me-{station}"), {**weights}, rtol=0, atol=0)
        card = (tmp_path / station / "README.md").read_text()
        assert "What is new in it" in card
        assert f"updates {STEPS}" in card


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


def test_shards_with_compiled_blocks_train_as_one_process(alone, sharded_config, tmp_path):
    for steps in (4, STEPS):
        finish(launch(sharded_config, SCRIPT, tmp_path, steps, *COMPILE, "--compiled"))
    for station in COMPILE:
        report = report_of(tmp_path, station)
        assert report["sharded"]
        assert report["graphs"] > 0
        assert_trained_alike(tmp_path, alone, station)


def test_two_processes_with_compiled_blocks_train_as_one_process(alone, tmp_path):
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, tmp_path, STEPS, *COMPILE, "--compiled"))
    for station in COMPILE:
        assert report_of(tmp_path, station)["graphs"] > 0
        assert_trained_alike(tmp_path, alone, station)


@pytest.mark.parametrize("station", [*STATIONS, "Word2Vec"])
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


@pytest.mark.parametrize("station", STATIONS)
def test_a_launch_that_failed_is_continued_by_the_next(alone, tmp_path, station):
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, tmp_path, STEPS, station, "--die_at", 3), expected=1)
    finish(launch(CONFIGS / "cpu_2procs.yaml", SCRIPT, tmp_path, STEPS, station))
    assert_trained_alike(tmp_path, alone, station)
