"""The exponential moving average of the weights."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_lineage.training import MovingAverage
from tests.training.test_nt_asgd import Watch
from tests.training.test_nt_asgd import train as train_with_average
from tests.training.test_trainers import arguments


def test_mean_moves_as_the_recurrence_says():
    model = nn.Linear(2, 2)
    average, expected = MovingAverage(model, 0.5), None
    for number in range(1, 30):
        nn.init.normal_(model.weight)
        weight = model.weight.detach().double()
        decay = min(0.5, (1 + number) / (10 + number))
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
        average.on_step_end(None, None, None)
    with average.in_place_of():
        assert_close(model.weight.double(), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(model.weight.double(), weight)


def test_a_layer_that_begins_to_learn_later_is_averaged_from_then_on():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    average = MovingAverage(model, 0.5)
    average.on_step_end(None, None, None)
    model[0].requires_grad_(True)
    thawed = model[0].weight.detach().clone()
    with average.in_place_of():
        assert torch.equal(model[0].weight, thawed)
    average.on_step_end(None, None, None)
    nn.init.zeros_(model[0].weight)
    average.on_step_end(None, None, None)
    with average.in_place_of():
        # decay min(0.5, 4 / 13)
        assert_close(model[0].weight, thawed * 4 / 13)
    assert not model[0].weight.any()


def train(folder, resume=None, watch=None, **settings):
    defaults = {
        "ema_decay": 0.9,
        "average_after": None,
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": 8,
    }
    return train_with_average(folder, resume, watch, **defaults | settings)


def test_trained_model_is_the_average(tmp_path):
    watch = Watch()
    trainer = train(tmp_path, watch=watch)
    weights = [weight.double() for weight in watch.weights.values()]
    expected = weights[0]
    for number, weight in enumerate(weights, 1):
        expected = torch.lerp(weight, expected, min(0.9, (1 + number) / (10 + number)))
    assert_close(trainer.model.lm_head.weight.double(), expected, atol=1e-5, rtol=1e-5)


def test_resumed_run_has_the_same_average(tmp_path):
    whole = train(tmp_path)
    resumed = train(tmp_path, resume=str(tmp_path / "checkpoint-8"))
    again = train(tmp_path, resume=True)
    for other in (resumed, again):
        assert_close(other.model.state_dict(), whole.model.state_dict(), atol=0, rtol=0)
    assert again.evaluate()["eval_loss"] == whole.evaluate()["eval_loss"]


def test_averaging_is_not_turned_on_midway(tmp_path):
    train(tmp_path, ema_decay=None, max_steps=8)
    with pytest.raises(ValueError, match="ema_decay=None, this run has 0.9"):
        train(tmp_path, resume=True, max_steps=8)
    with pytest.raises(ValueError, match=r"ema_decay is 0.9, but .*checkpoint-8 has no average\.safetensors"):
        train(tmp_path, resume=True, max_steps=8, ignore_changed=["ema_decay"])


def test_bad_settings_are_named(tmp_path):
    for decay in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"ema_decay is {decay}"):
            arguments(tmp_path, ema_decay=decay)
    with pytest.raises(ValueError, match="average_after and ema_decay"):
        arguments(tmp_path, ema_decay=0.9, average_after=3, eval_strategy="epoch")
    with pytest.raises(ValueError, match=r"ema_decay \(0.9\) and load_best_model_at_end"):
        arguments(tmp_path, ema_decay=0.9, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
