"""What a run prints while it trains: a line of words for each entry of the log, which itself stays as it is."""

import re

import pytest
import torch
from transformers import TrainerState
from transformers.trainer_callback import PrinterCallback

from hf_lineage import LSTMConfig, LSTMForCausalLM
from hf_lineage.training import LineageTrainer, LineageTrainingArguments
from hf_lineage.training.log_lines import log_line


@pytest.mark.parametrize(
    ("logs", "per_token", "expected"),
    [
        (
            {"loss": 5.31234, "grad_norm": 1.5, "learning_rate": 1e-3, "epoch": 0.5},
            True,
            "step 50 of 300: loss 5.312, learning rate 0.001",
        ),
        (
            {"eval_loss": 2.0, "eval_runtime": 3.1, "eval_samples_per_second": 9.0, "epoch": 0.5},
            True,
            "step 50 of 300, evaluation: loss 2, perplexity 7.389",
        ),
        ({"eval_loss": 2.0, "eval_f1": 0.5}, False, "step 50 of 300, evaluation: loss 2, f1 0.5"),
        ({"eval_loss": 2000.0}, True, "step 50 of 300, evaluation: loss 2000, perplexity inf"),
        (
            {
                "train_runtime": 12.3,
                "train_samples_per_second": 2.0,
                "total_flos": 1e9,
                "train_loss": 4.5,
                "epoch": 1.0,
            },
            False,
            "50 steps in 12 s: mean loss 4.5",
        ),
        ({"epoch_loss": 1.25, "epoch": 2.0}, False, "step 50 of 300: loss of the epoch 1.25"),
        ({"epoch": 2.0}, False, None),
        ({}, False, None),
    ],
)
def test_an_entry_is_a_line(logs, per_token, expected):
    assert log_line(logs, TrainerState(global_step=50, max_steps=300), per_token) == expected


class OwnPrinter(PrinterCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        print("mine")


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_a_run_prints_lines_and_keeps_its_log(disable_tqdm, tmp_path, capsys):
    rows = [{"input_ids": ids, "labels": ids} for ids in torch.randint(20, (4, 6))]
    args = LineageTrainingArguments(
        str(tmp_path),
        max_steps=2,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="no",
        per_device_train_batch_size=2,
        disable_tqdm=disable_tqdm,
        report_to="none",
    )
    model = LSTMForCausalLM(LSTMConfig(vocab_size=20, hidden_size=8))
    trainer = LineageTrainer(model, args, train_dataset=rows, eval_dataset=rows, callbacks=[OwnPrinter()])
    trainer.train()
    # a bar may share the line, which begins it anew
    lines = [line.rpartition("\r")[2] for line in capsys.readouterr().out.splitlines()]
    first, second, evaluation, end = [line for line in lines if "loss" in line]
    log = trainer.state.log_history
    assert first == f"step 1 of 2: loss {log[0]['loss']:.4g}, learning rate {log[0]['learning_rate']:.4g}"
    assert second.startswith("step 2 of 2: loss ")
    perplexity = torch.tensor(log[2]["eval_loss"]).exp().item()
    assert evaluation == f"step 2 of 2, evaluation: loss {log[2]['eval_loss']:.4g}, perplexity {perplexity:.4g}"
    assert re.fullmatch(r"2 steps in \d+ s: mean loss [\d.]+", end)
    assert not [line for line in lines if "{" in line]
    assert {"loss", "grad_norm", "learning_rate", "epoch", "step"} == {*log[0]}
    assert {"train_runtime", "train_loss", "total_flos"} <= {*log[-1]}
    # a callback of the user's own is not replaced
    assert lines.count("mine") == len(log)
    # users know ours by transformers' names
    removed = trainer.pop_callback(PrinterCallback)
    assert isinstance(removed, PrinterCallback)
