"""A run that continues: which checkpoint it takes, and which settings it must share with it."""

import json
import logging
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import EarlyStoppingCallback, default_data_collator

from hf_lineage import GRUConfig, GRUForCausalLM
from hf_lineage.data import ContiguousBlocks, ParallelStreams, Rows
from hf_lineage.hub.model_card import RunFacts
from hf_lineage.metrics.perplexity import perplexities
from hf_lineage.tokenization import causal_tokenizer
from hf_lineage.training import LineageTrainer, TruncatedBPTTTrainer, last_complete_checkpoint
from hf_lineage.training.run_settings import settings_of_data
from tests.training.test_trainers import arguments, contents, stream


SAVING = {"save_strategy": "steps", "save_steps": 3}


def train(
    folder, resume=None, *, dropout=0.0, block_size=5, text=None, scored=None, tokenizer=None, callbacks=(), **settings
):
    """Ten updates per epoch, of ContiguousBlocks in batches of 4."""
    torch.manual_seed(0)
    model = GRUForCausalLM(GRUConfig(vocab_size=30, hidden_size=8, dropout=dropout))
    trainer = LineageTrainer(
        model,
        arguments(folder, **SAVING | settings),
        train_dataset=ContiguousBlocks(stream() if text is None else text, block_size),
        eval_dataset=ContiguousBlocks(stream() if scored is None else scored, 5, shuffle=False),
        data_collator=default_data_collator,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.train(resume)
    return trainer


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run with checkpoints 3, 6 and 9."""
    train(tmp_path / "run", num_train_epochs=1)
    return tmp_path / "run"


def changed_text():
    text = stream()
    text.tokens[100] = text.tokens[100] % 29 + 1
    return text


@pytest.mark.reliability("A11")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.25}, "learning_rate=0.5, this run has 0.25"),
        ({"weight_decay": 0.1}, "weight_decay=0.0, this run has 0.1"),
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type='constant', this run has 'linear'"),
        ({"flat_epochs": 1, "epoch_decay": 0.5}, "epoch_decay=None, this run has 0.5; flat_epochs=None, .* 1"),
        ({"optim": "adamw_torch"}, "optim='sgd', this run has 'adamw_torch'"),
        ({"max_steps": 20}, "max_steps=-1, this run has 20"),
        ({"seed": 7}, "seed=42, this run has 7"),
        ({"per_device_train_batch_size": 2}, "per_device_train_batch_size=4, this run has 2"),
        ({"eval_strategy": "steps", "eval_steps": 4}, "eval_strategy='no', this run has 'steps'"),
        ({"dropout": 0.3}, r"config\.dropout=0\.0, this run has 0\.3"),
        ({"block_size": 4}, r"data\.block_size=5, this run has 4"),
        ({"text": changed_text()}, r"data\.tokens='\w+', this run has '\w+'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_other_settings_are_refused_by_name(run, changes, message):
    before = contents(run)
    with pytest.raises(ValueError, match=f"checkpoint-3 .*{message}.*--ignore_changed"):
        train(run, str(run / "checkpoint-3"), **{"num_train_epochs": 1} | changes)
    assert contents(run) == before


@pytest.mark.reliability("A11")
@pytest.mark.parametrize("decide", [{}, {"load_best_model_at_end": True}, {"average_after": 2}])
def test_other_scored_texts_are_refused_where_scores_decide(tmp_path, decide):
    settings = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 3} | decide
    train(tmp_path, **settings)
    if not decide:
        train(tmp_path, True, scored=changed_text(), **settings)
        return
    with pytest.raises(ValueError, match=r"eval_data\.tokens='\w+', this run has '\w+'"):
        train(tmp_path, True, scored=changed_text(), **settings)


@pytest.mark.reliability("A11")
def test_another_tokenizer_is_refused(tmp_path, tiny_tokenizer, tiny_corpus):
    train(tmp_path, tokenizer=causal_tokenizer(tiny_tokenizer), max_steps=3)
    # what a call leaves in a tokenizer is no setting
    tiny_tokenizer("a b", truncation=True, max_length=2, padding=True)
    same = causal_tokenizer(tiny_tokenizer)
    train(tmp_path, True, tokenizer=same, max_steps=3)
    same.add_tokens(["entirely new"])
    with pytest.raises(ValueError, match=r"tokenizer='\w+', this run has '\w+'"):
        train(tmp_path, True, tokenizer=same, max_steps=3)


@pytest.mark.reliability("A11")
def test_an_accepted_setting_takes_effect(run, caplog):
    options = {"learning_rate": 0.125, "num_train_epochs": 2, "logging_steps": 1}
    accepted = {"ignore_changed": ["learning_rate", "num_train_epochs"]}
    with caplog.at_level(logging.WARNING, "hf_lineage"):
        trainer = train(run, str(run / "checkpoint-6"), **options, **accepted)
    assert "learning_rate=0.5, this run has 0.125" in caplog.text
    log = [(row["step"], row["learning_rate"]) for row in trainer.state.log_history if "loss" in row]
    assert log == [(step, 0.5 if step <= 6 else 0.125) for step in range(1, 21)]
    # from now on the new setting is that of the run
    with pytest.raises(ValueError, match=r"learning_rate=0.125, this run has 0.5"):
        train(run, True, num_train_epochs=2)
    with pytest.raises(ValueError, match="ignore_changed has learning_rat, .* did you mean learning_rate"):
        train(run, True, ignore_changed=["learning_rat"], num_train_epochs=2)


@pytest.mark.reliability("A11")
def test_what_does_not_change_the_result_may_change(run, tmp_path):
    free = {"logging_steps": 2, "save_steps": 4, "disable_tqdm": False, "dataloader_num_workers": 1, "run_name": "x"}
    resumed = train(run, str(run / "checkpoint-3"), num_train_epochs=1, **free)
    expected = train(tmp_path / "whole", num_train_epochs=1)
    assert_close(resumed.model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)


@pytest.mark.reliability("A11")
def test_data_are_told_apart_by_content():
    rows = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3]], "labels": [0, 1]})
    first = settings_of_data(Rows(rows, seed=1))
    again = Rows(datasets.Dataset.from_list([*rows]).select([0, 1]), seed=1)
    again.epoch = 3
    assert [*again][0]["labels"] in (0, 1)
    assert settings_of_data(again) == first
    changed = {
        "data.dataset": Rows(datasets.Dataset.from_dict({"input_ids": [[1, 2], [4]], "labels": [0, 1]}), seed=1),
        "data.seed": Rows(rows, seed=2),
    }
    for name, data in changed.items():
        other = settings_of_data(data)
        assert [key for key in first if other[key] != first[key]] == [name]
    assert settings_of_data(ParallelStreams(stream(), 4, 5)) == settings_of_data(ParallelStreams(stream(), 4, 5))


@pytest.mark.reliability("A8")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda folder: flip(folder / "model.safetensors"), "model.safetensors has changed"),
        (lambda folder: (folder / "seal.json").write_text('{"run"'), "seal.json is not a seal"),
        (lambda folder: (folder / "seal.json").unlink(), "seal.json is missing"),
        (lambda folder: folder.rename(folder.with_name("gone")), "where no checkpoint is"),
    ],
    ids=["missing", "flipped", "torn seal", "no seal", "no folder"],
)
def test_a_named_checkpoint_is_verified(run, damage, message):
    damage(run / "checkpoint-6")
    with pytest.raises(ValueError, match=f"resume_from_checkpoint is {run}/checkpoint-6.*{message}"):
        train(run, str(run / "checkpoint-6"), num_train_epochs=1)
    # of a run without a name, the newest whole one
    last = Path(last_complete_checkpoint(run))
    assert last.name == f"checkpoint-{max(int(p.name[11:]) for p in run.glob('checkpoint-*') if p.name[11:] != '6')}"
    assert train(run, "true", num_train_epochs=1).state.global_step == int(last.name[11:])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.reliability("A12")
@pytest.mark.parametrize("reason", ["steps", "early stopping", "best model"])
def test_the_command_of_a_finished_run_changes_nothing(tmp_path, tiny_tokenizer, reason):
    settings = {"num_train_epochs": 1}
    if reason != "steps":
        # so high a rate that the loss rises
        settings = {"learning_rate": 30.0, "eval_strategy": "steps", "eval_steps": 3, "num_train_epochs": 4}
        settings |= {"load_best_model_at_end": True, "per_device_eval_batch_size": 4}
    tokenizer = causal_tokenizer(tiny_tokenizer)

    def once():
        callbacks = [EarlyStoppingCallback(1)] if reason == "early stopping" else []
        trainer = train(
            tmp_path, last_complete_checkpoint(tmp_path), tokenizer=tokenizer, callbacks=callbacks, **settings
        )
        trainer.save_model()
        return trainer, contents(tmp_path) | {"seconds": trainer.train_seconds}

    first, before = once()
    assert (first.state.global_step < first.state.max_steps) == (reason == "early stopping")
    assert json.loads(before["config.json"])["eos_token_id"] is not None
    second, after = once()
    assert second.state.global_step == first.state.global_step
    assert after == before


@pytest.mark.reliability("A12")
def test_what_people_have_written_into_the_card_stays_while_the_scores_do(tmp_path):
    def card(loss):
        trainer = train(tmp_path, last_complete_checkpoint(tmp_path), num_train_epochs=1)
        trainer.facts = RunFacts("mine.txt", "The dog")
        (tmp_path / "results.json").write_text(json.dumps({"test": {"loss": loss, "perplexity": math.exp(loss)}}))
        trainer.create_model_card()
        return (tmp_path / "README.md").read_text()

    text = card(3.0)
    (tmp_path / "README.md").write_text(text + "Trained for my lecture.\n")
    assert "for my lecture" in card(3.0)
    assert "for my lecture" not in card(2.0)


@pytest.mark.reliability("A1")
def test_the_seconds_before_a_kill_count(run, tmp_path):
    before = train(tmp_path / "other", num_train_epochs=1).train_seconds
    assert before > 0
    seal = run / "checkpoint-6" / "seal.json"
    seal.write_text(json.dumps(json.loads(seal.read_text()) | {"seconds": 1_000.0}))
    assert 1_000 < train(run, str(run / "checkpoint-6"), num_train_epochs=1).train_seconds < 1_000 + 100


@pytest.mark.reliability("A1")
def test_evaluations_without_gain_are_counted_on(tmp_path):
    """A resumed run stops early where the unbroken one does."""
    settings = {"learning_rate": 30.0, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    settings |= {"load_best_model_at_end": True, "num_train_epochs": 4, "save_total_limit": None}
    whole = train(tmp_path, callbacks=[EarlyStoppingCallback(4)], **settings)
    end = whole.state.global_step
    assert end < whole.state.max_steps
    resumed = train(
        tmp_path, str(tmp_path / f"checkpoint-{end - 2}"), callbacks=[EarlyStoppingCallback(4)], **settings
    )
    assert resumed.state.global_step == end


@pytest.mark.reliability("A9")
def test_a_large_loss_is_an_infinite_perplexity():
    found = perplexities(nll=1e6, num_tokens=2, num_words=2, num_characters=2, num_unknown=0)
    assert np.isinf(found["perplexity_per_token"])


@pytest.mark.reliability("A1")
def test_trainers_keep_what_they_carry(tmp_path):
    """The state of truncated BPTT is part of the settings' check too: other streams are refused."""

    def run(num_streams, resume=None):
        torch.manual_seed(0)
        model = GRUForCausalLM(GRUConfig(vocab_size=30, hidden_size=8))
        args = arguments(tmp_path, max_steps=4, **SAVING | {"per_device_train_batch_size": 2})
        TruncatedBPTTTrainer(
            model,
            args,
            train_dataset=ParallelStreams(stream(), num_streams, 5),
            data_collator=default_data_collator,
        ).train(resume)

    run(2)
    with pytest.raises(ValueError, match=r"data\.num_streams=2, this run has 4"):
        run(4, str(tmp_path / "checkpoint-3"))
