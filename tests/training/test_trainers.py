"""The trainers: schedules, carried state, truncated gradients, accumulation and NaN."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import TrainerCallback, default_data_collator

from hf_lineage import GRUConfig, GRUForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.data import ContiguousBlocks, ParallelStreams, TokenStream
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    TruncatedBPTTTrainer,
    flat_then_decay,
    last_complete_checkpoint,
)


BLOCK = 5


def stream(length=161):
    tokens = np.random.default_rng(0).integers(1, 30, length).astype(np.int32)
    return TokenStream(tokens, np.array([1]), num_words=length, num_characters=length, num_unknown=0)


def arguments(folder, **settings) -> LineageTrainingArguments:
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "optim": "sgd",
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return LineageTrainingArguments(**defaults | settings)


def lstm():
    torch.manual_seed(0)
    return LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8))


def train(folder, model, num_streams=4, trainer_class=TruncatedBPTTTrainer, **settings):
    data = ParallelStreams(stream(), num_streams, BLOCK)
    trainer = trainer_class(
        model, arguments(folder, **settings), train_dataset=data, data_collator=default_data_collator
    )
    trainer.train()
    return trainer


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_zaremba_schedule():
    # 4 epochs at the full rate, then halved at the start of each one (section 4.1)
    factor = flat_then_decay(updates_per_epoch=10, flat_epochs=4, epoch_decay=0.5)
    assert [factor(10 * epoch) for epoch in range(8)] == [1, 1, 1, 1, 0.5, 0.25, 0.125, 0.0625]
    assert factor(39) == 1
    assert factor(49) == 0.5


def test_learning_rate_decays_by_epoch(tmp_path):
    trainer = train(tmp_path, lstm(), num_train_epochs=3, flat_epochs=1, epoch_decay=0.5)
    rates = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
    assert rates == pytest.approx([0.5] * 8 + [0.25] * 8 + [0.125] * 8)


def test_state_is_carried_and_gradient_is_cut(tmp_path):
    # the same by hand: each stream's hidden state goes on, detached, with plain SGD after each block
    model, reference = lstm(), lstm()
    trainer = train(tmp_path, model)
    tokens = torch.from_numpy(stream().tokens).long()
    rows = torch.stack([tokens[row * 40 : row * 40 + 41] for row in range(4)])
    cache, expected = None, []
    for step in range(8):
        inputs = rows[:, step * BLOCK : (step + 1) * BLOCK]
        targets = rows[:, step * BLOCK + 1 : (step + 1) * BLOCK + 1]
        outputs = reference(inputs, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
        loss = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), targets.flatten())
        expected.append(loss.item())
        reference.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter -= 0.5 * parameter.grad
    assert losses(trainer) == pytest.approx(expected, abs=1e-4)
    assert_close(dict(model.named_parameters()), dict(reference.named_parameters()))


def test_sum_over_time_is_a_rate_times_the_block(tmp_path):
    # Zaremba et al. sum the loss over a block: with plain SGD that is the mean's rate and clipping, rescaled
    summed, rescaled = lstm(), lstm()
    first = train(tmp_path, summed, sum_over_time=True, learning_rate=0.1, max_grad_norm=5.0)
    second = train(tmp_path, rescaled, learning_rate=0.1 * BLOCK, max_grad_norm=5.0 / BLOCK)
    assert losses(first) == pytest.approx(losses(second), abs=1e-5)
    assert_close(dict(summed.named_parameters()), dict(rescaled.named_parameters()))


@pytest.mark.parametrize("sum_over_time", [False, True])
def test_accumulated_streams_keep_their_states(tmp_path, sum_over_time):
    whole, accumulated = lstm(), lstm()
    train(tmp_path, whole, per_device_train_batch_size=4, sum_over_time=sum_over_time)
    train(
        tmp_path,
        accumulated,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        sum_over_time=sum_over_time,
    )
    assert_close(dict(whole.named_parameters()), dict(accumulated.named_parameters()))


def test_evaluation_carries_a_state_of_its_own(tmp_path):
    model, data = lstm(), ParallelStreams(stream(), 1, BLOCK)
    trainer = TruncatedBPTTTrainer(
        model, arguments(tmp_path, per_device_eval_batch_size=1), train_dataset=data, eval_dataset=data,
        data_collator=default_data_collator,
    )  # fmt: skip
    ids = torch.from_numpy(stream().tokens).long()[None]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(model(ids, labels=ids).loss.item(), abs=1e-5)
    assert not trainer.carried["train"]


def test_carried_state_resumes_from_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    config = GRUConfig(vocab_size=30, hidden_size=8, dropout=0.3)
    model = GRUForCausalLM(config)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(tmp_path / "whole", model, save_strategy="steps", save_steps=3, num_train_epochs=2)

    again = GRUForCausalLM(config)
    again.load_state_dict(start)
    data = ParallelStreams(stream(), 4, BLOCK)
    settings = arguments(tmp_path / "whole", save_strategy="no", num_train_epochs=2)
    trainer = TruncatedBPTTTrainer(again, settings, train_dataset=data, data_collator=default_data_collator)
    trainer.train(str(tmp_path / "whole" / "checkpoint-12"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_checkpointing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="activation_checkpointing drops the carried state"):
        train(tmp_path, lstm(), activation_checkpointing=True)


class Poison(TrainerCallback):
    """Puts a NaN into one weight before step 4."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3:
            with torch.no_grad():
                model.lm_head.weight[0, 0] = math.nan


@pytest.mark.parametrize(
    ("logging_steps", "message"), [(1, "loss is nan at step 4"), (100, "is not finite at step 4")]
)
def test_training_stops_at_nan_and_saves_nothing_after_it(tmp_path, logging_steps, message):
    settings = arguments(tmp_path, save_strategy="steps", save_steps=1, logging_steps=logging_steps)
    data = ContiguousBlocks(stream(), BLOCK)
    trainer = LineageTrainer(
        lstm(), settings, train_dataset=data, data_collator=default_data_collator, callbacks=[Poison()]
    )
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")
    saved = LSTMForCausalLM.from_pretrained(tmp_path / "checkpoint-3")
    assert all(parameter.isfinite().all() for parameter in saved.parameters())


def test_saved_models_keep_their_cache_setting(tmp_path):
    trainer = train(tmp_path, lstm())
    trainer.save_model(str(tmp_path / "model"))
    assert LSTMConfig.from_pretrained(tmp_path / "model").use_cache
    assert not trainer.model.config.use_cache


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"flat_epochs": 4}, "belong together"), ({"flat_epochs": 4, "epoch_decay": 2}, r"in \(0, 1\]")],
)
def test_bad_schedules_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_last_rate_of_zaremba_small():
    assert math.isclose(flat_then_decay(2_323, 4, 0.5)(2_323 * 12), 0.5**9)
