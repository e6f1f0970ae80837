"""The trainers: schedules, carried state, truncated gradients, accumulation and NaN."""

import errno
import json
import logging
import math
import os

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import DistilBertConfig, DistilBertForMaskedLM, DynamicCache, TrainerCallback, default_data_collator

from hf_lineage import GRUConfig, GRUForCausalLM, LSTMConfig, LSTMForCausalLM, NNLMConfig, NNLMForCausalLM
from hf_lineage.data import ContiguousBlocks, ParallelStreams, TokenStream, VariableStreams
from hf_lineage.models.cache_argument import cache_of
from hf_lineage.tokenization import causal_tokenizer
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    TruncatedBPTTTrainer,
    flat_then_decay,
    inverse_time,
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


def test_sutskevers_schedule():
    # 5 epochs at 0.7, then halved every half epoch, 7.5 epochs in all (section 3.4)
    factor = flat_then_decay(updates_per_epoch=10, flat_epochs=5, epoch_decay=0.5, decay_epochs=0.5)
    assert [factor(update) for update in (0, 49, 50, 54, 55, 60, 65, 70, 74)] == [
        *(1, 1, 0.5, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125)
    ]


def test_a_sum_that_nothing_would_make_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sum_over_time.*LineageTrainer"):
        LineageTrainer(lstm(), arguments(tmp_path, sum_over_time=True))


def test_learning_rate_decays_by_epoch(tmp_path):
    trainer = train(tmp_path, lstm(), num_train_epochs=3, flat_epochs=1, epoch_decay=0.5)
    rates = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
    assert rates == pytest.approx([0.5] * 8 + [0.25] * 8 + [0.125] * 8)


def test_schedule_of_bengio(tmp_path):
    # section 4: ε0 / (1 + r t)
    factor = inverse_time(1e-8)
    assert [factor(0), factor(10**8), factor(3 * 10**8)] == [1, 0.5, 0.25]
    trainer = train(tmp_path, lstm(), inverse_time_decay=0.5)
    rates = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
    assert rates == pytest.approx([0.5 / (1 + 0.5 * t) for t in range(8)])


def test_weight_decay_spares_biases_only(tmp_path):
    # Bengio et al., section 2, footnote 3: the weights and C, not b and d
    model = NNLMForCausalLM(NNLMConfig(vocab_size=30, embedding_size=4, hidden_size=5))
    start = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer = LineageTrainer(model, arguments(tmp_path, weight_decay=0.1))
    optimizer = trainer.create_optimizer()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        # plain gradient descent at rate 0.5 on the penalty
        assert_close(parameter, start[name] * (1 if name.endswith("bias") else 1 - 0.5 * 0.1))
    assert {name for name in start if not name.endswith("bias")} == {
        "model.embed_tokens.weight",
        "model.hidden.weight",
        "lm_head.weight",
    }


def test_state_is_carried_and_gradient_is_cut(tmp_path):
    # the same by hand: each stream keeps its hidden state, detached, with plain SGD after each block
    model, reference = lstm(), lstm()
    trainer = train(tmp_path, model)
    tokens = torch.from_numpy(stream().tokens).long()
    rows = torch.stack([tokens[row * 40 : row * 40 + 41] for row in range(4)])
    cache, expected = None, []
    for step in range(8):
        inputs = rows[:, step * BLOCK : (step + 1) * BLOCK]
        targets = rows[:, step * BLOCK + 1 : (step + 1) * BLOCK + 1]
        outputs = reference(inputs, cache=cache, use_cache=True)
        cache = cache_of(outputs)
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


class Restarting(ParallelStreams):
    """The last two of four streams begin each odd step with empty states."""

    def __getitem__(self, position):
        example = super().__getitem__(position)
        return example | {"restarts": example["stream"] > 1 and example["stream_step"] % 2 == 1}


def test_rows_that_restart_have_empty_states(tmp_path):
    # without learning, the losses are those of the streams, cut where they restart
    model = lstm()
    trainer = TruncatedBPTTTrainer(
        model, arguments(tmp_path, learning_rate=0.0), train_dataset=Restarting(stream(), 4, BLOCK),
        data_collator=default_data_collator,
    )  # fmt: skip
    trainer.train()
    tokens = torch.from_numpy(stream().tokens).long()
    expected = torch.zeros(4, 8)
    for row in range(4):
        # a restart at step 1, 3, 5, 7
        pieces = [(0, 8)] if row < 2 else [(0, 1), (1, 3), (3, 5), (5, 7), (7, 8)]
        for first, last in pieces:
            begin, end = row * 40 + first * BLOCK, row * 40 + last * BLOCK
            logits = model(tokens[None, begin:end]).logits[0]
            nll = torch.nn.functional.cross_entropy(logits, tokens[begin + 1 : end + 1], reduction="none")
            expected[row, first:last] = nll.view(-1, BLOCK).mean(1)
    assert losses(trainer) == pytest.approx(expected.mean(0).tolist(), abs=1e-4)


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


def test_accumulated_batches_end_an_epoch_as_one_batch_does(tmp_path):
    """Of 22 rows a batch of 8 drops 6; so do 4 accumulated batches of 2, which could make a smaller last update."""
    models, steps = [], []
    for rows in (8, 2):
        models.append(lstm())
        data = ContiguousBlocks(stream(22 * (BLOCK - 1) + 1), BLOCK)
        assert len(data) == 22
        settings = arguments(
            tmp_path / str(rows),
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=8 // rows,
            num_train_epochs=3,
        )
        trainer = LineageTrainer(models[-1], settings, train_dataset=data)
        assert len(trainer.get_train_dataloader()) == 16 // rows
        trainer.train()
        steps.append(trainer.state.global_step)
    assert steps == [6, 6]
    assert_close(dict(models[0].named_parameters()), dict(models[1].named_parameters()))


def test_an_update_that_the_data_do_not_fill_is_refused(tmp_path):
    settings = arguments(tmp_path, gradient_accumulation_steps=3)
    message = "the 8 training examples do not fill one update of 12: lower .*batch_size or gradient_accumulation_steps"
    with pytest.raises(ValueError, match=message):
        LineageTrainer(lstm(), settings, train_dataset=examples(*[True] * 8)).train()


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


@pytest.mark.reliability("A9")
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


def test_models_without_a_cache_are_trained_too(tmp_path):
    config = DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=8, max_position_embeddings=8)
    trainer = LineageTrainer(
        DistilBertForMaskedLM(config), arguments(tmp_path), train_dataset=ContiguousBlocks(stream(), BLOCK)
    )
    trainer.train()
    trainer.save_model()
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flat_epochs": 4}, "belong together"),
        ({"flat_epochs": 4, "epoch_decay": 2}, r"in \(0, 1\]"),
        ({"inverse_time_decay": -1}, "inverse_time_decay is -1.* 0"),
        ({"flat_epochs": 4, "epoch_decay": 0.5, "inverse_time_decay": 0.1}, "give one of them"),
    ],
)
def test_bad_schedules_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_last_rate_of_zaremba_small():
    assert math.isclose(flat_then_decay(2_323, 4, 0.5)(2_323 * 12), 0.5**9)


def examples(*labelled):
    """Rows of six tokens; only the named ones are scored."""
    ids = torch.arange(6).repeat(len(labelled), 1)
    labels = [row.clone() if scored else torch.full((6,), -100) for row, scored in zip(ids, labelled, strict=True)]
    return [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]


@pytest.mark.reliability("A10")
@pytest.mark.parametrize("accumulation", [1, 2])
def test_batch_without_labels_has_no_loss_and_no_gradient(tmp_path, caplog, accumulation):
    # two updates: the first without a label
    data = examples(*[False] * 4 * accumulation, *[True] * 4 * accumulation)
    model = lstm()
    start = {name: parameter.clone() for name, parameter in model.named_parameters()}
    after = []

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            after.append(max(parameter.grad.abs().max().item() for parameter in model.parameters()))

        def on_step_end(self, args, state, control, **kwargs):
            after.append(all(torch.equal(start[name], parameter) for name, parameter in model.named_parameters()))

    settings = arguments(tmp_path, gradient_accumulation_steps=accumulation)
    trainer = LineageTrainer(model, settings, train_dataset=data, callbacks=[Look()])
    with caplog.at_level(logging.WARNING, "hf_lineage"):
        trainer.train()
    first_gradient, first_unchanged, second_gradient, second_unchanged = after
    assert first_gradient == 0
    assert first_unchanged
    assert second_gradient > 0
    assert not second_unchanged
    assert losses(trainer)[0] == 0
    assert math.isfinite(losses(trainer)[1])
    warnings = [record.message for record in caplog.records if "no label to learn from" in record.message]
    assert len(warnings) == 1
    assert warnings[0].startswith("1 updates up to step 1")


def test_row_without_labels_does_not_count(tmp_path):
    # the loss is the mean over the scored tokens of the whole accumulated batch
    model = lstm()
    with torch.no_grad():
        expected = model(torch.arange(6)[None], labels=torch.arange(6)[None]).loss.item()
    settings = arguments(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    trainer = LineageTrainer(model, settings, train_dataset=examples(False, True))
    trainer.train()
    assert losses(trainer) == [pytest.approx(expected, abs=1e-4)]


def test_evaluation_sees_the_last_examples_too(tmp_path):
    model, data = lstm().eval(), [{"input_ids": row, "labels": row} for row in torch.randint(1, 30, (7, 6))]
    with torch.no_grad():
        rows = [model(row["input_ids"][None], labels=row["labels"][None]).loss.item() for row in data]
    settings = arguments(tmp_path, per_device_eval_batch_size=4)
    trainer = LineageTrainer(model, settings, train_dataset=data, eval_dataset=data)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(rows) / 7, abs=1e-5)
    assert trainer.predict(data).predictions.shape[0] == 7
    # while training drops what does not fill a batch, so that several processes see the same ones
    assert len(trainer.get_train_dataloader()) == 1


@pytest.mark.reliability("A10")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (examples(*[False] * 8), "label.* 8 training examples.* -100"),
        (examples(*[True] * 3), "the 3 training examples do not fill one batch of 4: lower per_device_train"),
    ],
)
def test_data_that_teach_nothing_are_refused(tmp_path, data, message):
    trainer = LineageTrainer(lstm(), arguments(tmp_path), train_dataset=data)
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert trainer.state.global_step == 0


class FullDisk:
    """Stands for a tokenizer whose files do not fit on the disk: the second one is torn."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def save_pretrained(self, folder):
        self.tokenizer.save_pretrained(folder)
        path = os.path.join(folder, "tokenizer.json")
        os.truncate(path, os.path.getsize(path) // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.reliability("A6", "A7")
def test_full_disk_leaves_the_saved_model_as_it_was(tmp_path, tiny_tokenizer):
    trainer = LineageTrainer(lstm(), arguments(tmp_path / "run"), processing_class=tiny_tokenizer)
    trainer.save_model(str(tmp_path / "model"))
    before = contents(tmp_path / "model")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= before.keys()

    trainer.model.config.hidden_act = "relu"
    trainer.processing_class = FullDisk(tiny_tokenizer)
    with pytest.raises(OSError, match="No space left"):
        trainer.save_model(str(tmp_path / "model"))
    assert contents(tmp_path / "model") == before
    assert not trainer.model.config.use_cache

    trainer.processing_class = tiny_tokenizer
    with torch.no_grad():
        trainer.model.lm_head.bias.zero_()
    trainer.save_model(str(tmp_path / "model"))
    assert contents(tmp_path / "model").keys() == before.keys()
    assert not LSTMForCausalLM.from_pretrained(tmp_path / "model").lm_head.bias.any()


def test_save_in_other_files_leaves_no_old_weights(tmp_path, monkeypatch):
    # from_pretrained() takes model.safetensors before the shards
    trainer = LineageTrainer(lstm(), arguments(tmp_path))
    (tmp_path / "model-notes.txt").write_text("not weights")
    save = LSTMForCausalLM.save_pretrained
    for bias, options in ((1.0, {}), (2.0, {"max_shard_size": "1KB"}), (3.0, {})):
        monkeypatch.setattr(LSTMForCausalLM, "save_pretrained", lambda *a, o=options, **k: save(*a, **k, **o))
        with torch.no_grad():
            trainer.model.lm_head.bias.fill_(bias)
        trainer.save_model()
        assert len(list(tmp_path.glob("*.safetensors"))) == 1 or options
        assert (LSTMForCausalLM.from_pretrained(tmp_path).lm_head.bias == bias).all()
    assert (tmp_path / "model-notes.txt").is_file()


@pytest.mark.parametrize("num_streams", [2, 6])
def test_streams_that_do_not_fill_the_batches_are_refused(tmp_path, num_streams):
    with pytest.raises(ValueError, match=f"num_streams is {num_streams}.*multiple of 4"):
        train(tmp_path, lstm(), num_streams=num_streams)


def test_shuffled_streams_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train_sampling_strategy is 'random'.*\"sequential\""):
        train(tmp_path, lstm(), train_sampling_strategy="random")


@pytest.mark.reliability("A4")
def test_resuming_takes_the_newest_whole_checkpoint(tmp_path):
    expected = train(tmp_path, lstm(), save_strategy="steps", save_steps=3).model.state_dict()
    # the run was killed while it saved its last checkpoint, after step 8
    (tmp_path / "checkpoint-8" / "seal.json").unlink()
    (tmp_path / "checkpoint-8" / "trainer_state.json").unlink()
    data = ParallelStreams(stream(), 4, BLOCK)
    trainer = TruncatedBPTTTrainer(
        lstm(), arguments(tmp_path), train_dataset=data, data_collator=default_data_collator
    )
    trainer.train(resume_from_checkpoint=True)
    assert_close(trainer.model.state_dict(), expected, rtol=0, atol=0)


def test_training_ends_with_the_best_checkpoint(tmp_path):
    def run(resume=None):
        data = ParallelStreams(stream(), 4, BLOCK)
        trainer = TruncatedBPTTTrainer(
            lstm(),
            arguments(
                tmp_path,
                # so high a rate that the loss rises again
                learning_rate=30.0,
                load_best_model_at_end=True,
                per_device_eval_batch_size=4,
                save_total_limit=1,
                **dict.fromkeys(("eval_strategy", "save_strategy"), "steps"),
                **dict.fromkeys(("eval_steps", "save_steps"), 2),
            ),
            train_dataset=data,
            eval_dataset=data,
            data_collator=default_data_collator,
        )
        trainer.train(resume)
        return trainer

    first = run()
    scores = {row["step"]: row["eval_loss"] for row in first.state.log_history if "eval_loss" in row}
    best = min(scores, key=scores.get)
    assert best < first.state.global_step == max(scores)
    expected = LSTMForCausalLM.from_pretrained(tmp_path / f"checkpoint-{best}").state_dict()
    assert_close(first.model.state_dict(), expected, rtol=0, atol=0)
    assert first.evaluate()["eval_loss"] == pytest.approx(scores[best])
    # the command of a finished run again
    again = run(resume=True)
    assert again.state.global_step == first.state.global_step
    assert_close(again.model.state_dict(), expected, rtol=0, atol=0)


def test_resuming_without_a_whole_checkpoint_is_refused(tmp_path):
    trainer = LineageTrainer(lstm(), arguments(tmp_path), train_dataset=ContiguousBlocks(stream(), BLOCK))
    with pytest.raises(ValueError, match="has no whole checkpoint"):
        trainer.train(resume_from_checkpoint=True)


def variable_run(folder, resume=None, batch_size=4, **settings):
    data = VariableStreams(stream(), num_streams=4, block_size=BLOCK, seed=3)
    torch.manual_seed(0)
    trainer = TruncatedBPTTTrainer(
        lstm(),
        arguments(folder, per_device_train_batch_size=batch_size, num_train_epochs=2, **settings),
        train_dataset=data,
        data_collator=default_data_collator,
    )
    trainer.train(resume)
    return trainer


def test_variable_blocks_train_like_a_hand_loop(tmp_path):
    """Plain SGD at a rate in proportion to the length of the block."""
    trainer = variable_run(tmp_path)
    data, model, lengths = VariableStreams(stream(), 4, BLOCK, seed=3), lstm(), set()
    model.train()
    for epoch in range(2):
        data.epoch = epoch
        cache = DynamicCache(config=model.config)
        for step in range(data.num_steps):
            rows = [data[4 * step + row] for row in range(4)]
            ids, labels = (torch.stack([row[name] for row in rows]) for name in ("input_ids", "shift_labels"))
            lengths.add(ids.shape[1])
            logits = model(ids, cache=cache, use_cache=True).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.data -= 0.5 * ids.shape[1] / BLOCK * gradient
            for layer in cache.layers:
                layer.detach()
    assert len(lengths) > 1
    assert_close(dict(trainer.model.named_parameters()), dict(model.named_parameters()), atol=1e-5, rtol=1e-4)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.5


def test_variable_blocks_resumed_or_accumulated_are_the_same_run(tmp_path):
    whole = variable_run(tmp_path, save_strategy="steps", save_steps=6)
    resumed = variable_run(tmp_path, str(tmp_path / "checkpoint-6"), save_strategy="steps", save_steps=6)
    parts = variable_run(tmp_path / "parts", batch_size=2, gradient_accumulation_steps=2)
    assert losses(resumed) == losses(whole)
    for other in (resumed, parts):
        assert_close(dict(other.model.named_parameters()), dict(whole.model.named_parameters()), atol=1e-5, rtol=1e-4)


@pytest.mark.reliability("A9")
def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = train(tmp_path, lstm())
    with torch.no_grad():
        trainer.model.lm_head.bias[3] = math.nan
    with pytest.raises(FloatingPointError, match=r"lm_head\.bias.* step 8"):
        trainer.save_model()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.reliability("A12")
def test_a_finished_runs_command_changes_no_file(tmp_path, tiny_tokenizer):
    def run():
        data = ParallelStreams(stream(), 4, BLOCK)
        args = arguments(tmp_path, save_strategy="steps", save_steps=8)
        trainer = TruncatedBPTTTrainer(
            lstm(),
            args,
            train_dataset=data,
            data_collator=default_data_collator,
            processing_class=causal_tokenizer(tiny_tokenizer),
        )
        trainer.train(last_complete_checkpoint(tmp_path))
        trainer.save_model()
        kept = ("*.json", "*.safetensors", "*.py")
        return {path.name: path.read_bytes() for kind in kept for path in tmp_path.glob(kind)}

    first = run()
    assert json.loads(first["config.json"])["eos_token_id"] is not None
    assert run() == first
