"""SIGTERM and SIGINT in training: a checkpoint of the current step, then the exit status of the signal."""

import contextlib
import signal
import threading

import torch
from transformers import TrainerCallback


class StopOnSignal(TrainerCallback):
    """Ends the run after the update at which SIGTERM or SIGINT arrives: saves a checkpoint, exits with 128 + signal.

    A run resumed from that checkpoint trains the same model as an unbroken one. An evaluation that is due at that
    update is left out.
    A signal to one process stops all processes at the same update. A repeated signal changes nothing (launchers
    forward signals that the processes already have from the terminal); SIGQUIT ends at once. transformers'
    `enable_jit_checkpoint` knows only SIGTERM, waits 3 seconds, does not ask the other processes, and lets the script
    continue as if training were finished.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.received = None
        self.group = None

    @contextlib.contextmanager
    def listening(self):
        """Takes over both signals within the block; at its end, delivers a signal that came after the last update."""
        if threading.current_thread() is not threading.main_thread():
            # python delivers signals to the main thread only
            yield
            return
        before = {number: signal.signal(number, self.receive) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            received, self.received = self.received, None
        if received:
            signal.raise_signal(received)

    # DataLoader workers inherit this handler, since they must live until their process stops
    def receive(self, number, frame):
        self.received = number

    def agreed(self) -> int:
        """The signal that any process has received, 0 for none; the same in all processes."""
        received = torch.tensor(self.received or 0)
        if self.trainer.args.world_size > 1:
            if self.group is None:
                # on the CPU: asking an accelerator would stall every update
                self.group = torch.distributed.new_group(backend="gloo")
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX, group=self.group)
        return int(received)

    def on_step_end(self, args, state, control, **kwargs):
        # an evaluation draws from the random state: it must begin, or a resumed run would draw other numbers
        if not control.should_evaluate:
            self.save_and_exit_if_asked()

    def on_prediction_step(self, args, state, control, **kwargs):
        self.save_and_exit_if_asked()

    def save_and_exit_if_asked(self):
        if number := self.agreed():
            # an evaluation may come before the first update
            if self.trainer.state.global_step:
                if self.trainer.average is not None:
                    self.trainer.average.put_raw_back()
                self.trainer._save_checkpoint(self.trainer.model, trial=None)
            raise SystemExit(128 + number)
