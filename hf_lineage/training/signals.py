"""SIGTERM and SIGINT in training: a checkpoint of the current step, then the exit status of the signal."""

import contextlib
import signal
import threading

import torch
from transformers import TrainerCallback


class StopOnSignal(TrainerCallback):
    """Ends the run after the update at which SIGTERM or SIGINT arrives: saves a checkpoint, exits with 128 + signal.

    A run resumed from that checkpoint trains the same model as an unbroken one; an evaluation that was due is left
    out. Of several processes one signal is enough: all stop at the same update. A repeated signal changes nothing
    (launchers send it on to processes that have had it from the terminal); SIGQUIT ends at once. In place of
    transformers' `enable_jit_checkpoint`, which knows SIGTERM only, waits 3 seconds, does not ask the other processes
    and lets the script go on as if the training had been finished.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.received = None
        self.group = None

    @contextlib.contextmanager
    def listening(self):
        """Takes over both signals; one that no update followed is delivered at the end."""
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

    # inherited by workers that load data, which must live until the process that they serve has stopped
    def receive(self, number, frame):
        self.received = number

    def agreed(self) -> int:
        """The signal that any process has received, 0 for none; the same in all processes."""
        received = torch.tensor(self.received or 0)
        if self.trainer.args.world_size > 1:
            if self.group is None:
                # over the CPU: asking an accelerator would stall every update
                self.group = torch.distributed.new_group(backend="gloo")
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX, group=self.group)
        return int(received)

    def on_step_end(self, args, state, control, **kwargs):
        # an evaluation draws from the random state: it has to begin, or a resumed run would draw other numbers
        if not control.should_evaluate:
            self.save_and_exit_if_asked()

    def on_prediction_step(self, args, state, control, **kwargs):
        self.save_and_exit_if_asked()

    def save_and_exit_if_asked(self):
        if number := self.agreed():
            # an evaluation may come before the first update
            if self.trainer.state.global_step:
                self.trainer._save_checkpoint(self.trainer.model, trial=None)
            raise SystemExit(128 + number)
