"""Averaged SGD that sets in when validation stalls."""

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import TrainerCallback, default_data_collator

from hf_lineage.data import ParallelStreams
from hf_lineage.training import NonMonotonicAverage, TruncatedBPTTTrainer
from tests.training.test_trainers import BLOCK, arguments, lstm, stream


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_averaging_sets_in_as_in_the_papers_algorithm(patience):
    losses = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 2.9, 3.3]
    average, logs, triggered = NonMonotonicAverage(nn.Linear(2, 2), patience), [], None
    for t, loss in enumerate(losses):
        # algorithm 1: if t > n and v > min over logs[0 … t − n − 1], T is set
        if triggered is None and t > patience and loss > min(logs[: t - patience]):
            triggered = t
        logs.append(loss)
        average.on_evaluate(None, None, None, metrics={"eval_loss": loss})
        assert (average.mean is not None) == (triggered is not None), t


def test_mean_is_that_of_the_weights_since_the_stall():
    model = nn.Linear(2, 2)
    average = NonMonotonicAverage(model, 1)
    average.on_step_end(None, None, None)
    for loss in (1.0, 2.0, 3.0):
        average.on_evaluate(None, None, None, metrics={"eval_loss": loss})
    seen = []
    for _ in range(5):
        nn.init.normal_(model.weight)
        seen.append(model.weight.detach().clone())
        average.on_step_end(None, None, None)
    with average.in_place_of():
        assert_close(model.weight, torch.stack(seen).mean(0))
    assert torch.equal(model.weight, seen[-1])
    average.on_train_end(None, None, None)
    assert_close(model.weight, torch.stack(seen).mean(0))


class Watch(TrainerCallback):
    """Keeps the weights of each step, and pretends that validation gets worse and worse."""

    def __init__(self):
        self.weights = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights[state.global_step] = model.lm_head.weight.detach().clone()


def train(folder, resume=None, watch=None, **settings):
    data = ParallelStreams(stream(), 4, BLOCK)
    settings = {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 2, "average_after": 1, **settings}
    trainer = TruncatedBPTTTrainer(
        lstm(),
        arguments(folder, learning_rate=30.0, per_device_eval_batch_size=4, **settings),
        train_dataset=data,
        eval_dataset=data,
        data_collator=default_data_collator,
        callbacks=[watch] if watch else [],
    )
    trainer.train(resume)
    return trainer


def test_trained_model_is_the_mean(tmp_path):
    watch = Watch()
    trainer = train(tmp_path, watch=watch)
    first = trainer.state.global_step - trainer.average.num_averaged + 1
    assert 1 < first < trainer.state.global_step
    expected = torch.stack([weight for step, weight in watch.weights.items() if step >= first]).mean(0)
    assert_close(trainer.model.lm_head.weight.detach(), expected)
    assert not torch.equal(expected, watch.weights[trainer.state.global_step])


def test_resumed_run_has_the_same_mean(tmp_path):
    whole = train(tmp_path, save_strategy="steps", save_steps=8)
    assert whole.average.num_averaged > whole.state.global_step - 8
    resumed = train(tmp_path, resume=str(tmp_path / "checkpoint-8"), save_strategy="steps", save_steps=8)
    assert resumed.average.num_averaged == whole.average.num_averaged
    for found, expected in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_finished_run_ends_with_its_mean_again(tmp_path):
    first = train(tmp_path, save_strategy="steps", save_steps=8)
    last = type(first.model).from_pretrained(tmp_path / f"checkpoint-{first.state.global_step}")
    assert not torch.equal(last.lm_head.weight, first.model.lm_head.weight)
    again = train(tmp_path, resume=True, save_strategy="steps", save_steps=8)
    assert again.state.global_step == first.state.global_step
    assert_close(again.model.state_dict(), first.model.state_dict(), atol=0, rtol=0)
    # what the recipe does with it
    again.save_model()
    saved = type(first.model).from_pretrained(tmp_path)
    assert_close(saved.state_dict(), first.model.state_dict(), atol=0, rtol=0)
    assert again.evaluate()["eval_loss"] == first.evaluate()["eval_loss"]


def test_averaging_is_not_turned_on_or_off_midway(tmp_path):
    for before, after in ((None, 1), (1, None), (2, 1)):
        folder = tmp_path / str(before)
        settings = {"save_strategy": "steps", "save_steps": 4, "max_steps": 4}
        train(folder, average_after=before, **settings)
        for max_steps in (4, 8):
            with pytest.raises(ValueError, match=f"average_after={before}, this run has {after}"):
                train(folder, resume=True, average_after=after, **settings | {"max_steps": max_steps})


@pytest.mark.parametrize("average_after", [None, 1])
def test_seals_that_do_not_say_whether_weights_are_averaged(tmp_path, average_after):
    settings = {"save_strategy": "steps", "save_steps": 4, "max_steps": 4}
    expected = train(tmp_path, average_after=None, **settings).model.state_dict()
    path = tmp_path / "checkpoint-4" / "seal.json"
    seal = json.loads(path.read_text())
    del seal["run"]["average_after"]
    path.write_text(json.dumps(seal))
    if average_after is None:
        again = train(tmp_path, resume=True, average_after=None, **settings)
        assert_close(again.model.state_dict(), expected, atol=0, rtol=0)
        return
    for max_steps in (4, 8):
        with pytest.raises(ValueError, match=r"average_after is 1, but .*checkpoint-4 has no average\.safetensors"):
            train(tmp_path, resume=True, **settings | {"max_steps": max_steps, "ignore_changed": ["max_steps"]})


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="patience is 0"):
        NonMonotonicAverage(nn.Linear(1, 1), 0)
    with pytest.raises(ValueError, match="average_after is 5.*eval_strategy"):
        arguments(tmp_path, average_after=5)
    with pytest.raises(ValueError, match=r"average_after.* \(?5\)?.*load_best_model_at_end"):
        arguments(tmp_path, average_after=5, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
