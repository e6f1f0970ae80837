"""Saving: no NaN, no mix of two models after a kill, and no lost file on a full disk."""

import ast
import errno
import io
import json
import logging
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, default_data_collator
from transformers.utils import logging as transformers_logging

from hf_lineage import LSTMConfig, LSTMForCausalLM, Word2VecConfig, Word2VecModel
from hf_lineage.converters import to_elmo, to_static_embeddings
from hf_lineage.data import ContiguousBlocks
from hf_lineage.files import write_json
from hf_lineage.models import replaced_files
from hf_lineage.models.replaced_files import replaced_together
from hf_lineage.reports.learning_curves import plot_learning_curves
from hf_lineage.tokenization import causal_tokenizer, elmo_tokenizer
from hf_lineage.training import LineageTrainer, last_complete_checkpoint
from hf_lineage.word_vectors import WordVectors
from tests.models.stations import TABLES
from tests.training.test_trainers import arguments, contents, stream


ROOT = Path(__file__).resolve().parents[2]


def lstm(value: float, dropout: float = 0.0) -> LSTMForCausalLM:
    """A model whose weights all have one value, and whose dropout tells its configuration apart."""
    model = LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8, dropout=dropout))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def save(value: float, folder: Path, shards: bool):
    lstm(value).save_pretrained(folder, **{"max_shard_size": "1KB"} if shards else {})


def value_in(folder: Path) -> float:
    """The value of all weights of a saved model; fails for a mix of two."""
    tensors = LSTMForCausalLM.from_pretrained(folder).state_dict().values()
    [value] = {value for tensor in tensors for value in tensor.unique().tolist()}
    return value


class Killed(BaseException):
    pass


@contextmanager
def killed_after(calls: int, monkeypatch):
    """Stops at the given call that renames or removes a file, as SIGKILL would."""
    done = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal done
            if done == calls:
                raise Killed
            done += 1
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(replaced_files.os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        # a killed process tidies nothing up
        patch.setattr(replaced_files.shutil, "rmtree", lambda *args, **kwargs: None)
        yield


@pytest.mark.reliability("A5")
@pytest.mark.parametrize("before", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("after", [False, True], ids=["one file", "shards"])
def test_a_kill_at_any_step_of_a_save_leaves_the_old_or_the_new_model(tmp_path, monkeypatch, before, after):
    found, step = [], 0
    while not found or found[-1] != "whole":
        folder = tmp_path / str(step)
        save(1.0, folder, before)
        with killed_after(step, monkeypatch):
            try:
                save(2.0, folder, after)
                found.append("whole")
            except Killed:
                # which compares the weights with the list of digests, where one is
                found.append(value_in(folder))
        save(3.0, folder, after)
        assert value_in(folder) == 3.0
        index = folder / "model.safetensors.index.json"
        loaded = {*json.loads(index.read_text())["weight_map"].values()} if after else {"model.safetensors"}
        assert {path.name for path in folder.glob("*.safetensors")} == loaded
        assert index.exists() == after
        assert not (folder / ".saving").exists()
        step += 1
    assert found[:-1] == sorted(found[:-1])
    assert found[0] == 1.0
    assert step > 3


@pytest.mark.reliability("A5")
def test_new_shards_leave_no_old_ones(tmp_path):
    for value in (1.0, 2.0):
        save(value, tmp_path, shards=True)
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert {path.name for path in tmp_path.glob("*.safetensors")} == set(index["weight_map"].values())
    again = contents(tmp_path)
    save(2.0, tmp_path, shards=True)
    assert contents(tmp_path) == again


SAVER = """
import itertools, sys
from tests.reliability.test_training_saves import Path, save
print("ready", flush=True)
for number in itertools.count():
    save(2.0 + number % 2, Path(sys.argv[1]), shards=True)
"""


@pytest.mark.slow
@pytest.mark.reliability("A5")
def test_fifty_kills_of_sharded_saves(tmp_path):
    save(2.0, tmp_path, shards=True)
    draw = random.Random(0)
    for _ in range(50):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SAVER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            process.stdout.readline()
            time.sleep(draw.random() * 0.1)
            process.send_signal(signal.SIGKILL)
        assert value_in(tmp_path) in (2.0, 3.0)


@contextmanager
def files_of_at_most(size: int):
    """Lets this process write no longer files; as on a full disk, writing then fails in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def no_bars():
    """No line on a log that may itself be a file."""
    transformers_logging.disable_progress_bar()
    yield
    transformers_logging.enable_progress_bar()


# what writes, and a limit that fits into its first long file
@pytest.mark.reliability("A6")
@pytest.mark.parametrize(("method", "size"), [("_save", 4_000), ("_save_optimizer_and_scheduler", 1_000)])
def test_a_full_disk_in_training_names_the_folder_and_keeps_the_older_checkpoint(
    tmp_path, monkeypatch, no_bars, method, size
):
    def train(resume=None):
        torch.manual_seed(0)
        trainer = LineageTrainer(
            LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8)),
            arguments(tmp_path / "run", save_strategy="steps", save_steps=4),
            train_dataset=ContiguousBlocks(stream(), 5),
            data_collator=default_data_collator,
        )
        trainer.train(resume)
        return trainer.model.state_dict()

    whole = getattr(LineageTrainer, method)

    def on_a_full_disk(self, *args, **kwargs):
        if self.state.global_step < 8:
            return whole(self, *args, **kwargs)
        with files_of_at_most(size):
            return whole(self, *args, **kwargs)

    monkeypatch.setattr(LineageTrainer, method, on_a_full_disk)
    with pytest.raises(OSError, match=rf"{tmp_path}/run.* cannot be written .* bytes left"):
        train()
    monkeypatch.setattr(LineageTrainer, method, whole)
    assert last_complete_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-4")
    resumed = train(True)
    (tmp_path / "run").rename(tmp_path / "old")
    assert_close(resumed, train(), rtol=0, atol=0)


@pytest.mark.reliability("A7")
def test_a_full_disk_leaves_configuration_and_tokenizer_as_they_were(tmp_path, tiny_tokenizer, no_bars):
    trainer = LineageTrainer(lstm(1.0), arguments(tmp_path), processing_class=causal_tokenizer(tiny_tokenizer))
    trainer.save_model()
    lstm(1.0).config.save_pretrained(tmp_path / "configuration")
    before = contents(tmp_path)
    trainer.model.config.dropout = 0.25
    for size in (100, 1_500, 5_000):
        with files_of_at_most(size), pytest.raises(OSError, match=f"{tmp_path} cannot be written"):
            trainer.save_model()
    with files_of_at_most(100), pytest.raises(OSError, match=f"{tmp_path}/configuration cannot be written"):
        lstm(2.0, dropout=0.5).config.save_pretrained(tmp_path / "configuration")
    assert contents(tmp_path) == before
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(trainer.processing_class)


def written_vectors(folder, name, number):
    words, vectors = [f"word{i}" for i in range(200)], np.full((200, 20), number, np.float32)
    WordVectors(words, vectors).save(folder / name)


def curves(number):
    return {"LSTM": dict.fromkeys(("train_curve", "validation_curve"), [[i, number / (i + 1)] for i in range(20)])}


# what writes files, of other libraries too
WRITERS = {
    "vectors.bin": lambda folder, number, _: written_vectors(folder, "vectors.bin", number),
    "vectors.txt.gz": lambda folder, number, _: written_vectors(folder, "vectors.txt.gz", number),
    "static embeddings": lambda folder, number, tokenizer: to_static_embeddings(
        Word2VecModel(Word2VecConfig(vocab_size=len(tokenizer), hidden_size=10 + number)), tokenizer, folder
    ),
    "ELMo's layout": lambda folder, number, _: to_elmo(TABLES["ELMoCharacters"].model("AutoModel", number), folder),
    "ELMo's tokenizer": lambda folder, number, _: elmo_tokenizer(
        ["<S>", "</S>", "<UNK>", *(f"word{i}" for i in range(100 * number))]
    ).save_pretrained(folder),
    "a plot": lambda folder, number, _: plot_learning_curves(curves(number), folder / "curves.png"),
    "results": lambda folder, number, _: write_json(folder / "results.json", [number] * 1_000),
}


@pytest.mark.reliability("A7")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_every_kind_of_file_as_it_was(tmp_path, tiny_tokenizer, writer):
    WRITERS[writer](tmp_path, 1, tiny_tokenizer)
    before = contents(tmp_path)
    for size in (0, max(map(len, before.values())) // 2):
        with files_of_at_most(size), pytest.raises(OSError, match=str(tmp_path)):
            WRITERS[writer](tmp_path, 2, tiny_tokenizer)
    assert contents(tmp_path) == before


@pytest.mark.reliability("A7")
def test_no_file_is_written_in_the_place_of_an_older_one():
    """Of libraries: figures, tensors and tokenizers go to a temporary file or folder first."""
    writers = {"savefig", "save_file", "save_pretrained"}
    written = []
    for path in [*(ROOT / "hf_lineage").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in writers:
                is_tensors = ast.unparse(call.func).endswith("save_file")
                written.append((path.name, ast.unparse(call.args[is_tensors])))
    places = {place for _, place in written}
    # checkpoints are sealed after all their files; `path` is one of `convert`, in a temporary folder
    sealed = {"self.file(checkpoint)", "self._state_file(output_dir)"}
    assert places - sealed <= {"temporary", "str(temporary)", "buffer", "folder", "path", "save_directory"}, written
    assert {name for name, place in written if place == "path"} == {"commands.py"}


class SpoilWeight(TrainerCallback):
    """Puts a NaN into one weight after the last update, which no log shows."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == state.max_steps:
            with torch.no_grad():
                model.model.embed_tokens.weight[2, 3] = math.nan


@pytest.mark.reliability("A9")
@pytest.mark.parametrize("save_strategy", ["no", "steps"])
def test_nan_after_the_last_log_is_never_saved(tmp_path, save_strategy):
    trainer = LineageTrainer(
        lstm(0.1),
        arguments(tmp_path, save_strategy=save_strategy, save_steps=3, max_steps=5, logging_steps=2),
        train_dataset=ContiguousBlocks(stream(), 5),
        data_collator=default_data_collator,
        callbacks=[SpoilWeight()],
    )

    def run():
        trainer.train()
        trainer.save_model()

    with pytest.raises(FloatingPointError, match=r"model\.embed_tokens\.weight is not finite at step 5"):
        run()
    assert not (tmp_path / "model.safetensors").exists()
    for path in tmp_path.glob("checkpoint-*"):
        assert all(tensor.isfinite().all() for tensor in LSTMForCausalLM.from_pretrained(path).state_dict().values())


@pytest.mark.reliability("A9")
def test_a_logged_nan_names_the_weight(tmp_path):
    class Spoil(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 2:
                with torch.no_grad():
                    model.lm_head.bias[0] = math.inf

    trainer = LineageTrainer(
        lstm(0.1),
        arguments(tmp_path),
        train_dataset=ContiguousBlocks(stream(), 5),
        data_collator=default_data_collator,
        callbacks=[Spoil()],
    )
    with pytest.raises(FloatingPointError, match=r"at step 3, and so is model\.embed_tokens\.weight"):
        trainer.train()


class Hub:
    """Stands for the Hub's client: what each commit sends."""

    commits: list = []

    def create_repo(self, name, **_):
        return SimpleNamespace(repo_id=name)

    def upload_folder(self, *, folder_path, ignore_patterns=(), **_):
        assert "_*" in ignore_patterns
        names = {path.name for path in Path(folder_path).iterdir() if path.is_file()}
        self.commits.append({name for name in names if not name.startswith("_")})
        done = Future()
        done.set_result(None)
        return done


@pytest.mark.reliability("B11")
def test_a_push_is_one_commit_without_pickles(tmp_path, monkeypatch, tiny_tokenizer):
    for module in ("transformers.trainer", "hf_lineage.training.trainer"):
        monkeypatch.setattr(f"{module}.hf_api", Hub)
    monkeypatch.setattr(Hub, "commits", [])
    trainer = LineageTrainer(
        lstm(0.1),
        arguments(tmp_path, save_strategy="steps", save_steps=4, push_to_hub=True, hub_model_id="me/lstm"),
        train_dataset=ContiguousBlocks(stream(), 5),
        data_collator=default_data_collator,
        processing_class=causal_tokenizer(tiny_tokenizer),
    )
    trainer.train()
    trainer.push_to_hub()
    saves = len(list(tmp_path.glob("checkpoint-*")))
    assert len(Hub.commits) == saves + 1
    for names in Hub.commits:
        assert {"config.json", "model.safetensors", "SHA256SUMS", "tokenizer.json", "README.md"} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".lock"))]
    assert AutoModelForCausalLM.from_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "What is new in it" in card
    assert 'model="me/lstm"' in card


@pytest.mark.parametrize("error", [None, ConnectionError("no answer")])
def test_no_save_changes_files_while_they_are_sent(tmp_path, monkeypatch, caplog, error):
    """A push that failed is named, and the run goes on."""
    with ThreadPoolExecutor(1) as sender:

        def send(weights):
            before = weights.read_bytes()
            time.sleep(0.1)
            assert weights.read_bytes() == before
            if error is not None:
                raise error

        class SlowHub(Hub):
            def upload_folder(self, *, folder_path, run_as_future, **_):
                sent.append(sender.submit(send, Path(folder_path) / "model.safetensors"))
                return sent[-1] if run_as_future else sent[-1].exception()

        sent = []
        for module in ("transformers.trainer", "hf_lineage.training.trainer"):
            monkeypatch.setattr(f"{module}.hf_api", SlowHub)
        saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "push_to_hub": True}
        trainer = LineageTrainer(
            lstm(0.1),
            arguments(tmp_path, **saving, hub_model_id="me/lstm", hub_always_push=True),
            train_dataset=ContiguousBlocks(stream(), 5),
            data_collator=default_data_collator,
        )
        with caplog.at_level(logging.WARNING, "hf_lineage"):
            trainer.train()
            trainer.push_to_hub()
    assert [repr(job.exception()) for job in sent] == [repr(error)] * 4
    assert caplog.text.count("a push to me/lstm failed (ConnectionError: no answer)") == (error is not None) * 3


@pytest.mark.reliability("A6")
def test_errors_that_are_not_of_the_disk_keep_their_type(tmp_path):
    for error in (RuntimeError("CUDA error"), ValueError("x"), OSError(errno.ENOENT, "gone", "file")):
        with pytest.raises(type(error), match=str(error).replace("[", r"\[").replace("]", r"\]")):
            with replaced_together(tmp_path):
                raise error
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written"):
        with replaced_together(tmp_path):
            raise io.UnsupportedOperation("write")
