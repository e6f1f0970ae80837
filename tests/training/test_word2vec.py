"""Word2VecTrainer: learning, resuming, several threads, and settings that do not fit."""

import copy

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_lineage import Word2VecConfig, Word2VecForPreTraining
from hf_lineage.data import WordFile, WordWindows
from hf_lineage.tokenization import train_word_level
from hf_lineage.training import (
    FastPath,
    LineageTrainingArguments,
    Word2VecTrainer,
    last_complete_checkpoint,
    word2vec,
)
from hf_lineage.training.word2vec_fast import update
from hf_lineage.word_vectors import WordVectors


GROUPS = [["cat", "dog", "cow", "pig"], ["red", "blue", "green", "pink"], ["one", "two", "three", "four"]]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sentences of words of one group each."""
    draws = np.random.default_rng(0)
    texts = [" ".join(draws.choice(GROUPS[i % 3], size=8)) for i in range(1_200)]
    tokenizer = train_word_level(texts, special_tokens={"unk_token": "<unk>"}, show_progress=False)
    path = tmp_path_factory.mktemp("words") / "ids"
    return WordFile.write(path, texts, tokenizer, show_progress=False), tokenizer


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def new_trainer(text, folder, *, path=None, num_threads=1, window=3, fields=None, callbacks=None, **settings):
    words, tokenizer = text
    torch.manual_seed(0)
    config = Word2VecConfig(vocab_size=len(tokenizer), hidden_size=12, window=window, **(fields or {}))
    model = Word2VecForPreTraining(config)
    model.set_word_counts(torch.from_numpy(words.counts))
    if path is None:
        path = FastPath("torch", 4, 4) if config.objective == "negative_sampling" else FastPath("torch", 1, 0, 8)
    data = WordWindows(
        words,
        window=3,
        subsample=0,
        block_size=1_000,
        chunk=path.chunk,
        negatives_per_chunk=path.negatives_per_chunk,
    )
    settings = {"learning_rate": 0.05, "num_train_epochs": 8, "lr_scheduler_type": "linear", **settings}
    arguments = LineageTrainingArguments(
        str(folder),
        **{
            "per_device_train_batch_size": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "logging_steps": 5,
            **settings,
        },
    )
    return Word2VecTrainer(
        model, arguments, train_dataset=data, path=path, num_threads=num_threads, callbacks=callbacks
    )


def assert_groups_are_found(trainer, tokenizer):
    vectors = WordVectors.from_model(trainer.model, tokenizer)
    for group in GROUPS:
        for word in group:
            assert {neighbour for neighbour, _ in vectors.nearest(word, 3)} == set(group) - {word}


@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
@pytest.mark.parametrize("objective", ["negative_sampling", "hierarchical_softmax", "softmax"])
def test_words_of_one_kind_come_together(text, tmp_path, architecture, objective):
    fields = {"architecture": architecture, "objective": objective}
    trainer = new_trainer(text, tmp_path, fields=fields, num_train_epochs=4, learning_rate=0.1)
    trainer.train()
    assert_groups_are_found(trainer, text[1])
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]


def test_logged_loss_is_the_models_own(text, tmp_path):
    # a learning rate of 0: every step's loss is that of the same model, with fresh negatives
    trainer = new_trainer(text, tmp_path, learning_rate=0.0, num_train_epochs=1)
    with torch.no_grad():
        trainer.model.context_embeddings.normal_(0, 0.5)
        trainer.model.get_input_embeddings().weight.normal_(0, 0.5)
    trainer.train()
    found = np.mean([row["loss"] for row in trainer.state.log_history if "loss" in row])
    data, losses = trainer.blocks, []
    for position in range(3):
        example = data[position]
        ids, low, high = (example[name].tolist() for name in ("ids", "low", "high"))
        pairs = [(ids[p], ids[i]) for i in range(len(ids)) for p in range(low[i], high[i]) if p != i]
        words, labels = torch.tensor(pairs).T
        losses.append(trainer.model(words[:, None], labels=labels).loss.item())
    assert found == pytest.approx(np.mean(losses), rel=0.02)


def test_loss_of_an_epoch_is_the_mean_over_its_pairs(text, tmp_path):
    settings = {"learning_rate": 0.0, "num_train_epochs": 2, "lr_scheduler_type": "constant"}
    trainer = new_trainer(text, tmp_path, **settings)
    torch.nn.init.normal_(trainer.model.context_embeddings, 0, 0.5)
    sums = []
    step = trainer.training_step

    def recording_step(model, inputs, num_items_in_batch=None):
        (position,) = inputs["position"].tolist()
        sums.append(update(copy.deepcopy(trainer.model), trainer.blocks[position], trainer.path, 0.0))
        return step(model, inputs, num_items_in_batch)

    trainer.training_step = recording_step
    trainer.train()
    found = [row["epoch_loss"] for row in trainer.state.log_history if "epoch_loss" in row]
    steps = len(sums) // 2
    expected = [np.array(part).sum(0) for part in (sums[:steps], sums[steps:])]
    assert found == pytest.approx([loss / pairs for loss, pairs in expected])
    # the same model twice: the second epoch does not count the first again
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_resumed_run_ends_in_the_same_bits(text, tmp_path):
    whole = new_trainer(text, tmp_path / "whole", num_train_epochs=2, save_strategy="steps", save_steps=7)
    whole.train()
    first = new_trainer(text, tmp_path / "cut", num_train_epochs=2, save_strategy="steps", save_steps=7)
    first.add_callback(StopAt(10))
    first.train()
    checkpoint = last_complete_checkpoint(tmp_path / "cut")
    assert str(checkpoint).endswith("-7")
    resumed = new_trainer(text, tmp_path / "cut", num_train_epochs=2, save_strategy="steps", save_steps=7)
    resumed.train(checkpoint)
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, dict(resumed.model.named_parameters())[name]), name
    # the resumed run has seen only the end of the first epoch
    losses = [
        [row["epoch_loss"] for row in trainer.state.log_history if "epoch_loss" in row] for trainer in (whole, resumed)
    ]
    assert len(losses[0]) == 2
    assert losses[1] == losses[0][-1:]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_block_is_trained_on_once_an_epoch(text, tmp_path, monkeypatch, num_threads):
    seen = []

    def recording_update(model, block, path, rate):
        seen.append((rate, block["ids"].tolist()))
        return 1.0, 2

    monkeypatch.setattr(word2vec, "update", recording_update)
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "save_strategy": "no"}
    trainer = new_trainer(text, tmp_path, num_threads=num_threads, **settings)
    trainer.train()
    expected = []
    for trainer.blocks.epoch in range(2):
        expected += [trainer.blocks[position]["ids"].tolist() for position in range(len(trainer.blocks))]
    # the blocks of a step come in any order
    assert sorted(ids for _, ids in seen) == sorted(expected)
    rates = [rate for rate, _ in seen]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == rates[1] == 0.05


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_two_threads_learn_as_well(text, tmp_path, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    path = FastPath(backend, 16, 16)
    trainer = new_trainer(text, tmp_path, path=path, num_threads=2, per_device_train_batch_size=2)
    trainer.train()
    assert_groups_are_found(trainer, text[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_threads": 0}, "num_threads is 0.* 1"),
        ({"num_threads": 2}, "per_device_train_batch_size is 1 .* num_threads, which is 2"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps is 2"),
        ({"muon_learning_rate": 0.1}, "muon_learning_rate is set, but word2vec"),
        ({"window": 4}, "window of 3, the model's is 4"),
    ],
)
def test_settings_that_do_not_fit_are_named(text, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        new_trainer(text, tmp_path, **changes)
