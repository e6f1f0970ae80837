"""Every draw is a function of (seed, epoch, index), and a resumed run on the stock Trainer equals an unbroken one."""

import functools
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from hf_lineage.data.randomness import EpochCallback, EpochDataset, generator, permutation, updates_per_epoch


class RandomText(EpochDataset):
    """Examples whose tokens are all drawn; `tag` tells which one it is."""

    def __init__(self, size, seed=0, shuffle=True):
        super().__init__(seed, shuffle)
        self.size = size

    def __len__(self):
        return self.size

    def example(self, index, generator):
        tokens = torch.from_numpy(generator.integers(16, size=6))
        return {"input_ids": tokens, "labels": tokens.clone(), "tag": index}


class OtherText(RandomText):
    pass


# --- generator and permutation ---


def test_generator_depends_on_each_value():
    draws = {
        name: tuple(generator(*values).integers(1 << 60, size=2))
        for name, values in {
            "base": (0, 0, 0),
            "seed": (1, 0, 0),
            "epoch": (0, 1, 0),
            "index": (0, 0, 1),
            "purpose": (0, 0, 0, "masking"),
            "joined": (0, 0, 10),
            "apart": (0, 1, 0, "0"),
        }.items()
    }
    assert len(set(draws.values())) == len(draws)


def test_generator_is_the_same_in_another_process_with_another_hash_seed():
    code = "from hf_lineage.data.randomness import generator; assert generator(3, 1, 4, 'x').random() == {!r}"
    expected = float(generator(3, 1, 4, "x").random())
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code.format(expected)],
        check=True,
        cwd=root,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(root), "PATH": ""},
    )


def test_neighbouring_generators_are_not_correlated():
    first = np.array([generator(0, 0, index).random() for index in range(4000)])
    assert abs(first.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05


def test_permutation_holds_each_index_once_and_changes_with_the_epoch():
    orders = [permutation(0, epoch, 50) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


# --- dataset ---


def tags(dataset):
    return [example["tag"] for example in dataset]


def test_dataset_order_follows_seed_and_epoch():
    dataset = RandomText(10, seed=5)
    first = tags(dataset)
    assert first == list(permutation(5, 0, 10))
    dataset.epoch = 1
    assert tags(dataset) == list(permutation(5, 1, 10))
    dataset.epoch = 0
    assert tags(dataset) == first
    assert tags(RandomText(10, shuffle=False)) == list(range(10))


def test_draws_belong_to_the_index_and_not_to_the_position():
    shuffled = {example["tag"]: example["input_ids"].tolist() for example in RandomText(10)}
    in_order = {example["tag"]: example["input_ids"].tolist() for example in RandomText(10, shuffle=False)}
    assert shuffled == in_order
    assert len({tuple(tokens) for tokens in in_order.values()}) == 10


def test_draws_change_with_epoch_and_with_the_kind_of_dataset():
    dataset = RandomText(1)
    first = dataset[0]["input_ids"].tolist()
    dataset.epoch = 1
    assert dataset[0]["input_ids"].tolist() != first
    assert OtherText(1)[0]["input_ids"].tolist() != first


@pytest.mark.parametrize("position", [-1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_position_out_of_range(position, shuffle):
    with pytest.raises(IndexError, match=f"position {position} .* 3 examples"):
        RandomText(3, shuffle=shuffle)[position]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_epoch_reaches_running_workers(context):
    if context not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {context} on this platform")
    dataset = RandomText(4)
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context=context, persistent_workers=True)
    for epoch in (0, 3):
        dataset.epoch = epoch
        assert [int(batch["tag"]) for batch in loader] == list(permutation(0, epoch, 4))


# --- the stock Trainer ---


class StopAt(TrainerCallback):
    """Ends the run after a step, as a kill would, without changing its schedule."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_training_stop = True


class Recorder:
    """Collates, and keeps the tags of the examples that were asked for (with num_workers=0)."""

    def __init__(self):
        self.tags = []

    def __call__(self, examples):
        self.tags += [example["tag"] for example in examples]
        return {name: torch.stack([example[name] for example in examples]) for name in ("input_ids", "labels")}


def train(folder, *, size=20, stop_at=None, resume=None, num_workers=0, **arguments):
    torch.manual_seed(0)
    # dropout, so that the Trainer's own random state counts too
    config = GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    dataset = RandomText(size)
    recorder = Recorder()
    trainer = Trainer(
        GPT2LMHeadModel(config),
        TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=3,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=0.01,
            train_sampling_strategy="sequential",
            dataloader_num_workers=num_workers,
            save_steps=stop_at or 1000,
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=True,
            **arguments,
        ),
        data_collator=recorder,
        train_dataset=dataset,
        callbacks=[EpochCallback(dataset)] + ([StopAt(stop_at)] if stop_at else []),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model.state_dict(), recorder.tags


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Weights and tags of the run that nothing stops, without workers, for a number of examples."""
    return functools.cache(lambda size: train(tmp_path_factory.mktemp("unbroken"), size=size))


def assert_identical(weights, expected):
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


# 20 examples in batches of 2, accumulated by 2: 5 steps per epoch, 15 in all; with 18, the last step is short
@pytest.mark.parametrize(
    ("stop_at", "size", "num_workers"),
    [(2, 20, 0), (12, 20, 0), (5, 20, 0), (13, 18, 0), (10, 18, 0), (2, 20, 2), (12, 20, 2), (5, 20, 2)],
)
def test_resumed_run_is_bit_identical(tmp_path, unbroken, stop_at, size, num_workers):
    expected, unbroken_tags = unbroken(size)
    stopped, _ = train(tmp_path / "run", size=size, num_workers=num_workers, stop_at=stop_at)
    resumed, resumed_tags = train(
        tmp_path / "run", size=size, num_workers=num_workers, resume=str(tmp_path / "run" / f"checkpoint-{stop_at}")
    )
    assert_identical(resumed, expected)
    assert not torch.equal(stopped["transformer.wte.weight"], expected["transformer.wte.weight"])
    if num_workers == 0:
        assert unbroken_tags == [int(tag) for epoch in range(3) for tag in permutation(0, epoch, size)]
        assert resumed_tags == unbroken_tags[-len(resumed_tags) :]
        steps_per_epoch = 5
        epoch, step = divmod(stop_at, steps_per_epoch)
        assert len(resumed_tags) == (3 - epoch) * size - step * 4


def test_workers_change_nothing(tmp_path, unbroken):
    assert_identical(train(tmp_path, num_workers=2)[0], unbroken(20)[0])


def test_a_generator_with_a_state_would_not_resume(tmp_path, monkeypatch):
    """The test above can fail: with draws from a running generator the resumed weights differ."""
    running = np.random.default_rng(0)
    monkeypatch.setattr("hf_lineage.data.randomness.generator", lambda *_: running)
    monkeypatch.setattr("hf_lineage.data.randomness.permutation", lambda seed, epoch, size: np.arange(size))
    expected, _ = train(tmp_path / "unbroken")
    train(tmp_path / "run", stop_at=2)
    resumed, _ = train(tmp_path / "run", resume=str(tmp_path / "run" / "checkpoint-2"))
    assert not torch.equal(resumed["transformer.wte.weight"], expected["transformer.wte.weight"])


def test_two_processes_see_what_one_sees():
    dataset = RandomText(16)
    dataset.epoch = 2

    def global_batches(num_processes):
        samplers = [
            BatchSamplerShard(
                BatchSampler(SequentialSampler(dataset), batch_size=4 // num_processes, drop_last=False),
                num_processes=num_processes,
                process_index=process,
            )
            for process in range(num_processes)
        ]
        loaders = [DataLoader(dataset, batch_sampler=sampler) for sampler in samplers]
        return [torch.cat([batch["input_ids"] for batch in batches]) for batches in zip(*loaders, strict=True)]

    one, two = global_batches(1), global_batches(2)
    assert len(one) == len(two) == 4
    assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_other_sampling_is_refused(tmp_path, strategy):
    callback = EpochCallback(RandomText(4))
    arguments = TrainingArguments(output_dir=str(tmp_path), train_sampling_strategy=strategy, use_cpu=True)
    with pytest.raises(ValueError, match=f"'{strategy}'.*RandomText.*\"sequential\""):
        callback.on_train_begin(arguments, None, None, train_dataloader=[1])


def test_persistent_workers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dataloader_persistent_workers=False"):
        train(tmp_path, num_workers=1, dataloader_persistent_workers=True)


@pytest.mark.parametrize(("batches", "accumulation", "updates"), [(10, 1, 10), (10, 2, 5), (9, 2, 5), (1, 4, 1)])
def test_updates_per_epoch(batches, accumulation, updates):
    assert updates_per_epoch(range(batches), accumulation) == updates
