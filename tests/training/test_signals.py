"""SIGTERM and SIGINT: a checkpoint of the current step, the exit status, and a resume that changes nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_lineage import GRUConfig, GRUForCausalLM
from hf_lineage.data import ContiguousBlocks, ParallelStreams
from hf_lineage.training import LineageTrainer, TruncatedBPTTTrainer, last_complete_checkpoint
from tests.training.test_trainers import arguments, stream


ROOT = Path(__file__).resolve().parents[2]


class Send(TrainerCallback):
    """Sends this process a signal in the middle of an update or of an evaluation."""

    def __init__(self, number, step, in_evaluation=False):
        self.number, self.step, self.in_evaluation = number, step, in_evaluation

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1 and not self.in_evaluation:
            signal.raise_signal(self.number)

    def on_prediction_step(self, args, state, control, **kwargs):
        if state.global_step == self.step and self.in_evaluation:
            signal.raise_signal(self.number)


def train(folder, trainer_class, callbacks=(), resume=None, **settings):
    torch.manual_seed(0)
    # dropout, so that the random state counts too
    model = GRUForCausalLM(GRUConfig(vocab_size=30, hidden_size=8, dropout=0.3))
    if trainer_class is TruncatedBPTTTrainer:
        data = held_out = ParallelStreams(stream(), 4, 5)
    else:
        data, held_out = ContiguousBlocks(stream(), 5), ContiguousBlocks(stream(), 5, shuffle=False)
    settings = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 5} | settings
    trainer = trainer_class(
        model,
        arguments(folder, per_device_eval_batch_size=4, **settings),
        train_dataset=data,
        eval_dataset=held_out,
        callbacks=list(callbacks),
    )
    trainer.train(resume)
    return model.state_dict()


@pytest.fixture
def handlers():
    numbers = (signal.SIGTERM, signal.SIGINT)
    # a run in the background has SIGINT ignored
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, outside)
    assert after == before


@pytest.mark.reliability("A13")
@pytest.mark.parametrize("trainer_class", [LineageTrainer, TruncatedBPTTTrainer])
@pytest.mark.parametrize(
    ("send", "settings"),
    [
        (Send(signal.SIGTERM, 13), {}),
        (Send(signal.SIGINT, 13), {"save_strategy": "no"}),
        (Send(signal.SIGTERM, 13), {"eval_strategy": "steps", "eval_steps": 13}),
        (Send(signal.SIGTERM, 13, in_evaluation=True), {"eval_strategy": "steps", "eval_steps": 13}),
        # the mean weights stand in the model then
        (Send(signal.SIGTERM, 13, in_evaluation=True), {"eval_strategy": "steps", "eval_steps": 13, "ema_decay": 0.9}),
    ],
    ids=["SIGTERM", "SIGINT without other checkpoints", "evaluation due", "in evaluation", "of the mean weights"],
)
def test_signal_saves_exits_and_resumes_identically(tmp_path, trainer_class, send, settings, handlers):
    expected = train(tmp_path / "unbroken", trainer_class, **settings)
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "run", trainer_class, [send], **settings)
    assert stop.value.code == {signal.SIGTERM: 143, signal.SIGINT: 130}[send.number]
    checkpoint = last_complete_checkpoint(tmp_path / "run")
    assert checkpoint == str(tmp_path / "run" / "checkpoint-13")
    resumed = train(tmp_path / "run", trainer_class, resume=checkpoint, **settings)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())


class SendAtEnd(TrainerCallback):
    def on_epoch_end(self, args, state, control, **kwargs):
        signal.raise_signal(signal.SIGINT)


def test_signal_after_the_last_update_is_delivered(tmp_path, handlers):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, LineageTrainer, [SendAtEnd()], num_train_epochs=1)
    assert last_complete_checkpoint(tmp_path)


def test_failed_training_gives_the_signals_back(tmp_path, handlers):
    with pytest.raises(ValueError, match="train_sampling_strategy"):
        train(tmp_path, LineageTrainer, train_sampling_strategy="random")


def test_training_in_a_thread_leaves_signals_alone(tmp_path, handlers):
    finished = []
    thread = threading.Thread(target=lambda: finished.append(train(tmp_path, LineageTrainer, max_steps=2)))
    thread.start()
    thread.join()
    assert finished


SCRIPT = """
    import os, sys
    from pathlib import Path
    from tests.training.test_signals import LineageTrainer, TrainerCallback, train

    class Ready(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                Path(sys.argv[1], f"ready-{args.process_index}").write_text(str(os.getpid()))

    train(Path(sys.argv[1], "run"), LineageTrainer, [Ready()], num_train_epochs=10**6, save_strategy="no",
          logging_steps=10**6, dataloader_num_workers=int(sys.argv[2]), per_device_train_batch_size=2)
    print("finished")
"""


def start(tmp_path, launcher, processes, workers):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, *launcher, str(script), str(tmp_path), str(workers)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ready = [tmp_path / f"ready-{index}" for index in range(processes)]
    deadline = time.monotonic() + 120
    while not all(path.is_file() and path.read_text() for path in ready):
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run, [int(path.read_text()) for path in ready]


@pytest.mark.slow
@pytest.mark.reliability("A13")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_exit_status_of_a_script(tmp_path, number, status, workers):
    run, [process] = start(tmp_path, [], 1, workers)
    os.kill(process, number)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == status, output
    assert "finished" not in output
    assert last_complete_checkpoint(tmp_path / "run")


@pytest.mark.slow
def test_one_signal_stops_all_processes_at_one_update(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run, processes = start(tmp_path, launcher, 2, 0)
    os.kill(processes[1], signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    [checkpoint] = (tmp_path / "run").glob("checkpoint-*")
    assert last_complete_checkpoint(tmp_path / "run") == str(checkpoint), output
    assert len(list(checkpoint.glob("rng_state_*.pth"))) == 2
    assert load_file(checkpoint / "model.safetensors")
