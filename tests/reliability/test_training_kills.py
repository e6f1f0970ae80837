"""Runs of every recipe, killed at a random moment and started again, end with the weights of an unbroken run."""

import json
import os
import random
import re
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hf_lineage.reports  # noqa: F401 - once for all children, it takes a second
from hf_lineage.training import LineageTrainer, Word2VecTrainer
from hf_lineage.training.run_lock import LOCK
from tests.recipes.here import call, run_in_forks
from tests.recipes.test_a_failed_evaluation import ELMO, folder  # noqa: F401 - a fixture
from tests.training.test_trainers import contents


ROOT = Path(__file__).resolve().parents[2]
STEPS, SAVES = 9, 2
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "dropout": 0.2}
ATTENTION = {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
TRAINING = {
    "max_steps": STEPS,
    "save_steps": SAVES,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
    "per_device_train_batch_size": 2,
}
TEXT = TRAINING | {"corpus": "texts", "vocab_size": 200, "block_size": 8}
TUNING = TRAINING | {"model_name_or_path": "bert", "eval_strategy": "no"}
TRANSLATION = {name: value for name, value in TRAINING.items() if name != "per_device_train_batch_size"} | {
    "corpus": "pairs",
    "model_type": "lineage_seq2seq",
    "tokenizer_kind": "word_level",
    "min_frequency": 1,
    "config_overrides": json.dumps({"embedding_size": 8, "hidden_size": 8, "dropout": 0.2}),
    "tokens_per_update": 256,
    "eval_strategy": "no",
}
# what runs -> recipe and settings
RUNS = {
    "LSTM": ("pretrain_causal_lm", TEXT | {"model_type": "lineage_lstm", "config_overrides": json.dumps(SMALL)}),
    "NNLM": (
        "pretrain_causal_lm",
        TEXT | {"model_type": "lineage_nnlm", "config_overrides": json.dumps({"hidden_size": 8, "embedding_size": 4})},
    ),
    "GPT, packed": (
        "pretrain_causal_lm",
        TEXT
        | {"model_type": "lineage_gpt", "document_packing": True, "block_size": 32}
        | {"config_overrides": json.dumps(SMALL | ATTENTION)},
    ),
    "GPT, streamed": (
        "pretrain_causal_lm",
        TEXT | {"model_type": "lineage_gpt", "streaming": True, "config_overrides": json.dumps(SMALL | ATTENTION)},
    ),
    "GPT, grown": (
        "pretrain_causal_lm",
        TEXT
        | {"model_type": "lineage_gpt", "muon_learning_rate": 0.02, "ema_decay": 0.9}
        | {"long_block_size": 16, "long_share": 0.4, "first_batch_size": 1, "growth_steps": 4}
        | {"config_overrides": json.dumps(SMALL | ATTENTION)},
    ),
    "BERT": (
        "pretrain_bert",
        TEXT
        | {"corpus": "documents", "model_type": "lineage_bert", "block_size": 24, "sample_by": "paragraph"}
        | {"duplicates": 1, "dynamic_masking": True}
        | {"config_overrides": json.dumps({**ATTENTION, "hidden_size": 16, "num_hidden_layers": 1})},
    ),
    "BERT, grown": (
        "pretrain_bert",
        TEXT
        | {"corpus": "documents", "model_type": "lineage_bert", "block_size": 16, "sample_by": "paragraph"}
        | {"duplicates": 1, "dynamic_masking": True, "mask_probability": 0.3, "last_mask_probability": 0.15}
        | {"long_block_size": 24, "long_share": 0.4, "ema_decay": 0.9}
        | {"config_overrides": json.dumps({**ATTENTION, "hidden_size": 16, "num_hidden_layers": 1})},
    ),
    "ELMo": (
        "pretrain_bilm",
        TEXT
        | {"model_type": "lineage_elmo", "block_size": 5, "num_negatives": 20, "restart_share": 0.3}
        | {"config_overrides": json.dumps(ELMO | {"dropout": 0.2, "output_layer": "sampled"})},
    ),
    "word2vec": (
        "pretrain_word2vec",
        TRAINING
        | {"corpus": "texts", "model_type": "lineage_word2vec", "config_overrides": '{"hidden_size": 8}'}
        | {"min_count": 1, "words_per_step": 40, "backend": "torch"},
    ),
    "Seq2Seq": ("pretrain_translation", TRANSLATION),
    "Seq2Seq, scheduled sampling": (
        "pretrain_translation",
        TRANSLATION | {"scheduled_sampling": "linear", "sampling_c": 0.15, "sampling_least": 0.2},
    ),
    "classification": ("finetune_classification", TUNING | {"dataset": "labels"}),
    "tagging": ("finetune_tagging", TUNING | {"dataset": "tags", "label_field": "upos"}),
    "question answering": (
        "finetune_question_answering",
        TUNING | {"dataset": "questions", "max_length": 30, "max_question_length": 5, "stride": 8},
    ),
    "multiple choice": ("finetune_multiple_choice", TUNING | {"dataset": "choices"}),
    "labels on ELMo": (
        "train_on_elmo",
        TRAINING
        | {"dataset": "labels", "model_name_or_path": "elmo", "eval_strategy": "no"}
        | {"config_overrides": json.dumps({"task_size": 4, "word_vector_size": 3})},
    ),
}


@pytest.fixture(scope="module")
def inputs(folder):  # noqa: F811
    """The other test's data, with more questions and choices."""
    for split in ("train", "validation", "test"):
        texts = (folder / "texts" / f"{split}.txt").read_text().splitlines()[:24]
        rows = {
            "questions": [
                {
                    "question": "Who?",
                    "context": text,
                    "answers": {"text": [text.split()[1]], "answer_start": [text.index(text.split()[1])]},
                }
                for text in texts
            ],
            "choices": [
                {"premise": text, "question": "cause", "choice1": text[::-1], "choice2": text, "label": 1}
                for text in texts
            ],
        }
        for kind, of_kind in rows.items():
            (folder / kind / f"{split}.jsonl").write_text("\n".join(map(json.dumps, of_kind)))
    return folder


def start(inputs, name, output_dir, processes, workers, kill_at=None, delay=0.0):
    """Runs the recipe up to its save_model in forked processes; in the last one SIGKILL comes after an update.

    Returns the exit statuses.
    """

    def run(rank):
        recipe, settings = RUNS[name]
        settings = settings | {"output_dir": output_dir, "dataloader_num_workers": workers}
        paths = {path.name for path in inputs.iterdir()}
        sys.argv = [f"{recipe}.py"]
        sys.argv += [f"--{key}={inputs / value if value in paths else value}" for key, value in settings.items()]
        if kill_at is not None and rank == processes - 1:
            kill_after(kill_at, delay)
        script, save_model = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py")), LineageTrainer.save_model

        def save_and_end(self, output_dir=None, _internal_call=False):
            save_model(self, output_dir, _internal_call)
            if not _internal_call:
                if kill_at is not None and rank == processes - 1:
                    # the signal is on its way
                    time.sleep(60)
                self.accelerator.wait_for_everyone()
                os._exit(0)

        LineageTrainer.save_model = save_and_end
        script["main"]()
        raise AssertionError("the recipe has not saved its model")

    return run_in_forks(run, processes, output_dir)


def kill_after(updates: int, delay: float):
    """SIGKILL, `delay` seconds after some updates: now and then in the middle of a save, or of the last one."""
    done = 0
    for trainer in (LineageTrainer, Word2VecTrainer):
        if "training_step" in vars(trainer) or trainer is LineageTrainer:
            step = trainer.training_step

            def counted(self, *args, step=step, **kwargs):
                nonlocal done
                done += 1
                if done == updates:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
                return step(self, *args, **kwargs)

            trainer.training_step = counted


def start_well(inputs, name, output_dir, processes, workers):
    """Runs the recipe to its end."""
    log = Path(f"{output_dir}-{processes - 1}.log")
    assert start(inputs, name, output_dir, processes, workers) == [0] * processes, log.read_text()[-4_000:]


def check(inputs, tmp_path, name, processes, workers, seed=0):
    """A run that is killed once, and one that is not, end with the same weights."""
    draw = random.Random(f"{name} {processes} {workers} {seed}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start_well(inputs, name, whole, processes, workers)
    when = draw.randint(1, STEPS), draw.random() * 0.05
    statuses = start(inputs, name, killed, processes, workers, *when)
    assert statuses[-1] == -signal.SIGKILL, Path(f"{killed}-{processes - 1}.log").read_text()[-4_000:]
    # no process goes on alone
    assert 0 not in statuses
    start_well(inputs, name, killed, processes, workers)
    expected, resumed = (load_file(each / "model.safetensors") for each in (whole, killed))
    assert expected.keys() == resumed.keys()
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []


def check_finished(inputs, output_dir, name, processes, workers):
    """The command of a finished run changes no file."""
    # these processes end without removing their lock
    before = contents(output_dir) | {LOCK: b""}
    start_well(inputs, name, output_dir, processes, workers)
    assert contents(output_dir) | {LOCK: b""} == before


def test_every_recipe_with_a_trainer_is_killed():
    with_trainer = {
        path.stem
        for path in (ROOT / "recipes").glob("*.py")
        if re.search(r"\w*[Tt]rainer(_class)?\($", path.read_text(encoding="utf-8"), re.M)
    }
    assert {recipe for recipe, _ in RUNS.values()} == with_trainer
    assert sorted(RUNS[name][0] for name in ONE_EACH) == sorted(with_trainer)


# one of each recipe -> processes, workers
ONE_EACH = {
    "LSTM": (2, 0),
    "BERT": (1, 0),
    "ELMo": (1, 0),
    "word2vec": (1, 0),
    "Seq2Seq, scheduled sampling": (1, 0),
    "classification": (1, 2),
    "tagging": (1, 0),
    "question answering": (1, 0),
    "multiple choice": (1, 0),
    "labels on ELMo": (1, 0),
}


@pytest.mark.recipe
@pytest.mark.reliability("A1", "A2", "A4", "A15")
@pytest.mark.parametrize("name", ONE_EACH)
def test_a_killed_recipe_ends_as_an_unbroken_one(inputs, tmp_path, name):
    check(inputs, tmp_path, name, *ONE_EACH[name])


@pytest.mark.recipe
@pytest.mark.reliability("A12")
def test_the_command_of_a_finished_run_changes_nothing(inputs, tmp_path):
    start_well(inputs, "NNLM", tmp_path / "run", 1, 0)
    check_finished(inputs, tmp_path / "run", "NNLM", 1, 0)


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.reliability("A1", "A2", "A4", "A12", "A15")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", RUNS)
def test_every_killed_recipe_ends_as_an_unbroken_one(inputs, tmp_path, name, processes, workers):
    check(inputs, tmp_path, name, processes, workers, seed=1)
    check_finished(inputs, tmp_path / "killed", name, processes, workers)


def run_whole(inputs, name, output_dir, **changes) -> tuple[int, str]:
    """The exit status and the output of the whole command, which runs in a fork."""
    recipe, settings = RUNS[name]
    quick = {"generation_max_length": 4, "generation_num_beams": 1} if recipe == "pretrain_translation" else {}
    settings = settings | quick | {"output_dir": output_dir} | changes
    paths = {path.name for path in inputs.iterdir()}
    flags = [f"--{key}={inputs / value if value in paths else value}" for key, value in settings.items()]

    def run(rank):
        result = call(Path("recipes") / f"{recipe}.py", *flags)
        sys.stdout.write(result.stdout + result.stderr)
        sys.stdout.flush()
        os._exit(result.returncode)

    log = Path(f"{output_dir}-0.log")
    log.unlink(missing_ok=True)
    [status] = run_in_forks(run, 1, output_dir)
    return status, log.read_text()


def without_times(content):
    """A results.json without what is measured in seconds."""
    if isinstance(content, dict):
        times = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
        return {name: without_times(value) for name, value in content.items() if name not in times}
    return content


@pytest.mark.recipe
@pytest.mark.reliability("A11", "A12")
@pytest.mark.parametrize(
    "name", [name if name == "word2vec" else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_the_whole_command_of_a_finished_run_changes_nothing_but_scores(inputs, tmp_path, name):
    """Nor does one that is refused."""

    def found():
        files = contents(tmp_path / "run")
        files["results.json"] = without_times(json.loads(files["results.json"]))
        # layers of other settings may lie beside, and forks end without removing their lock
        return {file: content for file, content in files.items() if not file.startswith(("layers/", LOCK))}

    status, log = run_whole(inputs, name, tmp_path / "run")
    assert status == 0, log[-4_000:]
    before = found()
    status, log = run_whole(inputs, name, tmp_path / "run")
    assert status == 0, log[-4_000:]
    assert found() == before
    status, log = run_whole(inputs, name, tmp_path / "run", seed=7)
    assert (status, "this run has 7" in log) == (2, True), log[-4_000:]
    assert found() == before
