"""Checkpoint averaging: the mean of what is whole, of one model only."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_lineage import TransformerConfig, TransformerForConditionalGeneration
from hf_lineage.training import AverageCheckpoints, TranslationTrainingArguments, average_checkpoints, load_average
from hf_lineage.training.checkpoints import seal


TINY = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def new_model(seed, **changes):
    torch.manual_seed(seed)
    return TransformerForConditionalGeneration(TransformerConfig(**TINY | changes))


@pytest.fixture
def run(tmp_path):
    """The folder of a run with three whole checkpoints and a newer one that was cut short; and their models."""
    models = {step: new_model(step) for step in (2, 4, 10)}
    for step, model in {**models, 12: new_model(12)}.items():
        # the newest in several files
        model.save_pretrained(tmp_path / f"checkpoint-{step}", max_shard_size="2KB" if step == 10 else "1GB")
        if step != 12:
            seal(tmp_path / f"checkpoint-{step}", {}, 0.0)
    assert len(list((tmp_path / "checkpoint-10").glob("*.safetensors"))) > 1
    return tmp_path, models


def test_average_is_the_mean_of_each_weight(run):
    folder, models = run
    average = average_checkpoints([folder / f"checkpoint-{step}" for step in (2, 4, 10)])
    for name, tensor in average.items():
        assert_close(tensor, torch.stack([models[step].get_parameter(name) for step in models]).mean(0))
    assert average.keys() == dict(models[2].named_parameters()).keys()


def test_half_precision_is_summed_exactly(tmp_path):
    for name, value in (("a", 1.0), ("b", 2**-9), ("c", 2**-9)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.tensor([value], dtype=torch.bfloat16)}, tmp_path / name / "model.safetensors")
    mean = average_checkpoints([tmp_path / name for name in "abc"])["w"]
    assert mean.dtype is torch.bfloat16
    assert mean == torch.tensor([(1.0 + 2**-8) / 3]).bfloat16()


@pytest.mark.parametrize(("last", "steps"), [(1, [10]), (2, [4, 10]), (5, [2, 4, 10])])
def test_callback_takes_the_newest_whole_checkpoints(run, last, steps):
    folder, models = run
    model = new_model(0)
    AverageCheckpoints(last).on_train_end(
        TrainingArguments(output_dir=str(folder), use_cpu=True), TrainerState(), TrainerControl(), model=model
    )
    for name, parameter in model.named_parameters():
        expected = torch.stack([models[step].get_parameter(name) for step in steps]).mean(0)
        assert_close(parameter.detach(), expected.detach())
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_other_models_are_refused(run, tmp_path):
    folder, _ = run
    new_model(0, hidden_size=16).save_pretrained(tmp_path / "wide")
    new_model(0, num_hidden_layers=2).save_pretrained(tmp_path / "deep")
    with pytest.raises(ValueError, match=r"wide/model.safetensors: .* is not in .*checkpoint-2"):
        average_checkpoints([folder / "checkpoint-2", tmp_path / "wide"])
    with pytest.raises(ValueError, match=r"checkpoint-2 lacks .*blocks\.1.*, which .*deep has"):
        average_checkpoints([tmp_path / "deep", folder / "checkpoint-2"])
    with pytest.raises(ValueError, match=r"checkpoint-2 is of another model: .*blocks\.1"):
        load_average(new_model(0, num_hidden_layers=2), [folder / "checkpoint-2"])
    with pytest.raises(FileNotFoundError, match="has no model.safetensors"):
        average_checkpoints([tmp_path])
    with pytest.raises(ValueError, match="no checkpoint"):
        average_checkpoints([])


@pytest.mark.parametrize("settings", [{"save_strategy": "no"}, {"save_strategy": "epoch", "save_total_limit": 2}])
def test_checkpoints_must_be_kept(tmp_path, settings):
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)
    with pytest.raises(ValueError, match="last 3 checkpoints.*save and keep at least 3"):
        AverageCheckpoints(3).on_train_begin(args, TrainerState(), TrainerControl())
    with pytest.raises(ValueError, match="last is 0"):
        AverageCheckpoints(0)


@pytest.mark.parametrize("other", [{"ema_decay": 0.9}, {"average_after": 2, "eval_strategy": "steps"}])
def test_there_is_one_average(tmp_path, other):
    with pytest.raises(ValueError, match=f"average_checkpoints and {next(iter(other))} are two averages"):
        TranslationTrainingArguments(str(tmp_path), use_cpu=True, average_checkpoints=3, **other)


def test_a_changed_checkpoint_is_skipped(run):
    folder, models = run
    index = folder / "checkpoint-10" / "model.safetensors.index.json"
    index.write_text(json.dumps({}))
    model = new_model(0)
    AverageCheckpoints(1).on_train_end(
        TrainingArguments(output_dir=str(folder), use_cpu=True), TrainerState(), TrainerControl(), model=model
    )
    assert_close(model.lm_head.weight, models[4].lm_head.weight)
