"""BERT under LineageTrainer: packed batches train as padded ones, and an interrupted run resumes bit for bit."""

import datasets
import pytest
import torch
from torch.testing import assert_close
from transformers import DataCollatorForTokenClassification, Trainer, TrainerCallback, set_seed

from hf_lineage import BERTConfig, BERTForPreTraining
from hf_lineage.data import PackingCollator, Phases, SentencePairs, encode_sentences
from hf_lineage.metrics import measure_bert_pretraining
from hf_lineage.training import (
    BERTPretrainingTrainer,
    LineageTrainer,
    LineageTrainingArguments,
    last_complete_checkpoint,
)
from tests.models.test_modeling_bert import TestBERT as BERT


class BreakDown(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def pairs(tiny_corpus, tiny_tokenizer):
    corpus = datasets.Dataset.from_dict({"text": ["\n".join(tiny_corpus[i : i + 8]) for i in range(0, 96, 8)]})
    stream = encode_sentences(corpus, tiny_tokenizer)

    def make(length, **settings):
        return SentencePairs(stream, tiny_tokenizer, length, duplicates=1, seed=1, **settings)

    return make


def trainer(folder, data, collator, tokenizer, dropout=0.0, trainer_class=LineageTrainer, callbacks=(), **settings):
    set_seed(0)
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = BERTForPreTraining(BERTConfig(**{**BERT.tiny, **drops, "vocab_size": len(tokenizer)}))
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 12,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 4,
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    arguments = LineageTrainingArguments(**defaults | settings)
    return trainer_class(model, arguments, data_collator=collator, train_dataset=data, callbacks=list(callbacks))


def losses(run):
    return [row["loss"] for row in run.state.log_history if "loss" in row]


def trained(*args, **settings):
    """A short run of plain SGD."""
    run = trainer(*args, max_steps=4, optim="sgd", **settings)
    run.train()
    return run


def check_same_training(first, second):
    assert losses(first) == pytest.approx(losses(second), abs=1e-5)
    assert_close(first.model.state_dict(), second.model.state_dict(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_packed_batches_train_as_padded_ones(pairs, tiny_tokenizer, tmp_path, accumulation):
    runs = [
        trained(tmp_path / name, pairs(30), collator, tiny_tokenizer, gradient_accumulation_steps=accumulation)
        for name, collator in {
            "packed": PackingCollator(),
            "padded": DataCollatorForTokenClassification(tiny_tokenizer),
        }.items()
    ]
    check_same_training(*runs)
    packed, padded = (measure_bert_pretraining(run.model, pairs(30), show_progress=False) for run in runs)
    assert packed["num_words"] > 100
    assert packed == pytest.approx(padded, rel=1e-5)


def test_accumulated_batches_train_as_one(pairs, tiny_tokenizer, tmp_path):
    """Though their shares of the masked words are not those of the pairs."""
    data = pairs(30)
    hidden = [(data[number]["labels"] != -100).sum() for number in range(12)]
    assert len({sum(hidden[start : start + 4]) for start in (0, 4, 8)}) > 1
    whole, parts = (
        trained(
            tmp_path / str(batch_size),
            data,
            PackingCollator(),
            tiny_tokenizer,
            trainer_class=BERTPretrainingTrainer,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=12 // batch_size,
        )
        for batch_size in (12, 4)
    )
    check_same_training(whole, parts)


@pytest.mark.parametrize("trainer_class", [LineageTrainer, Trainer])
def test_a_broken_run_goes_on_bit_by_bit(pairs, tiny_tokenizer, tmp_path, trainer_class):
    # dropout, dynamic masks, and a second phase that begins after the break
    def data():
        return Phases([pairs(24, dynamic_masking=True), pairs(32, dynamic_masking=True)], [32, 16])

    def new(folder, *callbacks):
        return trainer(
            folder, data(), PackingCollator(), tiny_tokenizer, 0.1, trainer_class=trainer_class, callbacks=callbacks
        )

    whole = new(tmp_path / "whole")
    whole.train()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        new(tmp_path / "broken", BreakDown(6)).train()
    resumed = new(tmp_path / "broken")
    checkpoint = last_complete_checkpoint(tmp_path / "broken") or str(tmp_path / "broken" / "checkpoint-4")
    assert checkpoint.endswith("checkpoint-4")
    resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.state.global_step == 12
    for (name, found), expected in zip(
        resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("trainer_class", [BERTPretrainingTrainer, LineageTrainer])
@pytest.mark.parametrize("size", [2, 5])
def test_evaluation_is_the_mean_over_all_words_plus_that_over_all_pairs(
    pairs, tiny_tokenizer, tmp_path, size, trainer_class
):
    data = pairs(30)
    run = trainer(
        tmp_path,
        data,
        PackingCollator(),
        tiny_tokenizer,
        trainer_class=trainer_class,
        per_device_eval_batch_size=size,
        prediction_loss_only=True,
    )
    scores = measure_bert_pretraining(run.model, data, batch_size=3, show_progress=False)
    # before any update, and whatever the number of pairs of the last one
    for numbers in ({}, {"num_pairs_in_batch": torch.tensor(7)}):
        run.other_numbers = numbers
        loss = run.evaluate(data)["eval_loss"]
        assert loss == pytest.approx(scores["masked_word_loss"] + scores["next_sentence_loss"], rel=1e-5)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_evaluation_of_pairs_that_are_not_scored(pairs, tiny_tokenizer, tmp_path, size):
    """The first batch scores no pair, or, at size 1, one batch scores no word."""
    data = [dict(pairs(30)[number]) for number in range(8)]
    for example in data[:3]:
        example["next_sentence_label"] = torch.tensor(-100)
    data[4]["labels"] = torch.full_like(torch.as_tensor(data[4]["labels"]), -100)
    run = trainer(tmp_path, data, PackingCollator(), tiny_tokenizer, per_device_eval_batch_size=size)
    totals, numbers = torch.zeros(2), torch.zeros(2)
    for example in data:
        inputs = {name: torch.as_tensor(value)[None] for name, value in example.items() if name.endswith("ids")}
        with torch.no_grad():
            outputs = run.model.eval()(**inputs)
        scored = {"prediction_logits": example["labels"], "seq_relationship_logits": example["next_sentence_label"]}
        for part, (name, labels) in enumerate(scored.items()):
            labels = torch.as_tensor(labels).flatten()
            logits = outputs[name].flatten(0, -2)
            totals[part] += torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            numbers[part] += labels.ne(-100).sum()
    assert run.evaluate(data)["eval_loss"] == pytest.approx(float((totals / numbers).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_batches_say_where_the_masked_words_are(pairs, tiny_tokenizer, tmp_path, kind):
    """In training; an evaluation divides batches by rows, and a GPU need not hurry there."""
    collator = PackingCollator() if kind == "packed" else DataCollatorForTokenClassification(tiny_tokenizer)
    run = trainer(tmp_path / kind, pairs(30), collator, tiny_tokenizer)
    batch = next(iter(run.get_train_dataloader()))
    positions, labels = batch["scored_positions"], batch["labels"]
    rows, columns = (labels != -100).nonzero(as_tuple=True)
    assert len(columns) > 4
    assert positions[positions >= 0].tolist() == columns.tolist()
    assert (positions >= 0).sum(1).tolist() == rows.bincount(minlength=len(labels)).tolist()
    assert run.data_collator is collator
    assert "scored_positions" not in next(iter(run.get_eval_dataloader(pairs(30))))
    # the checkpoint of an earlier version is continued
    assert run.run_settings()["collator"] == type(collator).__qualname__
