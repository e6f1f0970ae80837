"""recipes/pretrain_causal_lm.py: killed runs, equal process counts, and what it leaves behind."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from hf_lineage.data import TextEncoder
from hf_lineage.data.encoded_shards import facts_of, write_shard
from hf_lineage.training import LineageTrainer, last_complete_checkpoint
from tests.recipes.here import call, run_in_forks, succeed


ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "pretrain_causal_lm.py"
TINY_GPT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}
TINY_NNLM = {
    "hidden_size": 16,
    "embedding_size": 8,
    "context_size": 3,
    "objective": "sampled_softmax",
    "num_negatives": 16,
    "dropout": 0.2,
}
STATIONS = {
    "nnlm": ["--model_type", "lineage_nnlm", "--config_overrides", json.dumps(TINY_NNLM)],
    "lstm": ["--model_type", "lineage_lstm", "--config_overrides", '{"hidden_size": 16, "dropout": 0.2}'],
    "gpt": ["--model_type", "lineage_gpt", "--config_overrides", json.dumps(TINY_GPT)],
}
SETTINGS = {
    "vocab_size": 200,
    "block_size": 8,
    "per_device_train_batch_size": 4,
    "max_steps": 40,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_steps": 3,
    "save_total_limit": 2,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_corpus):
    """A folder of three splits; the training text lasts for about a dozen updates, so that runs see several epochs."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, sentences in (
        ("train", tiny_corpus[:40]),
        ("validation", tiny_corpus[40:60]),
        ("test", tiny_corpus[60:80]),
    ):
        (folder / f"{split}.txt").write_text("\n".join(sentences), encoding="utf-8")
    return folder


def arguments(corpus, output_dir, station, **changes) -> list[str]:
    settings = SETTINGS | {"corpus": corpus, "output_dir": output_dir} | changes
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [str(RECIPE), *STATIONS[station], *flags]


def run_two(command, output_dir):
    """Two processes, as `accelerate launch` with cpu_2procs.yaml starts them."""
    statuses = run_in_forks(lambda rank: succeed(*command), 2, output_dir)
    assert statuses == [0, 0], "".join(Path(f"{output_dir}-{rank}.log").read_text()[-2000:] for rank in (0, 1))


@pytest.mark.recipe
@pytest.mark.parametrize("station", ["gpt", "nnlm"])
def test_blocks_and_batches_may_grow(corpus, tmp_path, station, monkeypatch):
    seen = []

    class Watched(LineageTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            if model.training:
                seen.append(tuple(inputs["input_ids"].shape))
            return super().compute_loss(model, inputs, *args, **kwargs)

    monkeypatch.setattr("hf_lineage.training.LineageTrainer", Watched)
    growth = {
        "first_batch_size": 1,
        "growth_steps": 3,
        "long_block_size": 16,
        "long_share": 0.25,
        "save_strategy": "no",
    }
    succeed(*arguments(corpus, tmp_path, station, **growth, max_steps=8, ema_decay=0.5))
    assert seen == [(1, 8), (2, 8), (3, 8), *[(4, 8)] * 3, *[(4, 16)] * 2]
    context = 1 if station == "gpt" else TINY_NNLM["context_size"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["trained_tokens"] == sum(rows * (length - context) for rows, length in seen)
    # the same budget in tokens takes the same updates
    succeed(
        *arguments(corpus, tmp_path / "again", station, **growth, train_tokens=results["trained_tokens"], max_steps=-1)
    )
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["trained_tokens"] == results["trained_tokens"]
    assert len(again["train_curve"]) == 8


@pytest.mark.recipe
@pytest.mark.parametrize(
    "growth", [{"long_block_size": 16, "long_share": 0.5}, {"first_batch_size": 1, "growth_steps": 6}]
)
def test_an_epoch_is_the_whole_text_however_it_grows(corpus, tmp_path, growth):
    """Long blocks read more of it per update, small batches less."""
    options = {"max_steps": -1, "num_train_epochs": 2, "eval_strategy": "no", "save_strategy": "no"}
    succeed(*arguments(corpus, tmp_path / "plain", "gpt", **options))
    succeed(*arguments(corpus, tmp_path / "grown", "gpt", **options, **growth))
    read = [
        json.loads((tmp_path / name / "results.json").read_text())["trained_tokens"] for name in ("plain", "grown")
    ]
    # up to an update more; a plain epoch leaves out what does not fill one
    assert read[0] <= read[1] < read[0] + 3 * 4 * 15


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"long_block_size": 8}, "long_block_size is 8; it must be above block_size 8"),
        ({"long_block_size": 32}, "long_block_size is 32, but the model reads 16 tokens"),
        ({"long_block_size": 16, "flat_epochs": 1, "epoch_decay": 0.5}, "flat_epochs is 1.0, but long_block_size"),
        ({"first_batch_size": 1, "growth_steps": 1, "eval_strategy": "epoch"}, "eval_strategy is epoch, but"),
    ],
)
def test_what_does_not_go_with_growth_is_refused(corpus, tmp_path, settings, message):
    result = call(*arguments(corpus, tmp_path, "gpt", **settings))
    assert result.returncode == 2
    assert message in result.stderr
    assert not [*tmp_path.glob("checkpoint-*")]


@pytest.mark.recipe
def test_a_model_that_carries_its_state_does_not_grow(corpus, tmp_path):
    result = call(*arguments(corpus, tmp_path, "lstm", long_block_size=16, max_steps=4))
    assert result.returncode == 2
    assert "long_block_size and first_batch_size are for blocks that are read by themselves" in result.stderr


@pytest.mark.recipe
@pytest.mark.parametrize("sizes", [(30, 3, 1), (40,)], ids=["uneven files", "fewer files than processes"])
def test_two_processes_read_files_of_token_ids_and_continue(corpus, tmp_path, tiny_tokenizer, tiny_corpus, sizes):
    """The longest file lasts for all updates; the others begin again and again, or the rows of one are dealt out."""
    encoded, encode = tmp_path / "encoded", TextEncoder(tiny_tokenizer)
    encoded.mkdir()
    end, texts = np.array([tiny_tokenizer.eos_token_id], np.int32), iter(tiny_corpus)
    for number, size in enumerate(sizes):
        documents = [[ids, end] for ids in encode([next(texts) for _ in range(size)])]
        write_shard(encoded / f"{number:05d}.parquet", documents, facts_of(tiny_tokenizer), sentences=False)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    options = {"encoded_corpus": encoded, "tokenizer_name": tmp_path / "tokenizer", "per_device_train_batch_size": 2}
    options |= {"lr_scheduler_type": "constant", "eval_strategy": "no", "save_steps": 2}

    def run(name, max_steps, **more):
        command = arguments(corpus, tmp_path / name, "gpt", **options, max_steps=max_steps, **more)
        del command[command.index("--vocab_size") : command.index("--vocab_size") + 2]
        run_two(command, tmp_path / name)
        return load_file(tmp_path / name / "model.safetensors")

    unbroken = run("unbroken", 8)
    run("broken", 4)
    assert_close(run("broken", 8, ignore_changed="max_steps"), unbroken, rtol=0, atol=0)


def logged_losses(output_dir) -> list[float]:
    last = last_complete_checkpoint(output_dir)
    log = json.loads((Path(last) / "trainer_state.json").read_text())["log_history"]
    return [row["loss"] for row in log if "loss" in row]


def kill_at_random_steps_until_done(command, output_dir, kills: int, seed: int):
    """Starts the recipe again and again; SIGKILLs it `kills` times, each at a random step further on."""
    draw, killed = random.Random(seed), 0
    while True:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        steps_to_live = draw.randint(1, 6)
        output = []
        for line in process.stdout:
            output.append(line)
            steps_to_live -= ": loss " in line
            if steps_to_live <= 0 and killed < kills:
                # between two log lines: now and then in the middle of a save
                time.sleep(draw.random() * 0.02)
                process.send_signal(signal.SIGKILL)
                killed += 1
                break
        process.stdout.close()
        if process.wait() == 0:
            return killed
        assert process.returncode == -signal.SIGKILL, "".join(output)[-4000:]


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("station", STATIONS)
def test_ten_kills(corpus, tmp_path, station, workers):
    """Default tests of the kind: test_training_kills.py, in forks, and a new interpreter in test_pretrain_bilm.py."""
    settings = {"dataloader_num_workers": workers, "logging_strategy": "steps"}
    succeed(*arguments(corpus, tmp_path / "whole", station, **settings))
    command = arguments(corpus, tmp_path / "killed", station, **settings)
    assert kill_at_random_steps_until_done(command, tmp_path / "killed", kills=10, seed=workers) == 10
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not whole[name].equal(resumed[name])] == []


@pytest.mark.recipe
@pytest.mark.reliability("A3")
@pytest.mark.parametrize(
    "station",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("nnlm", "lstm with DropConnect", "gpt")), "lstm"],
)
def test_two_processes_train_like_one(corpus, tmp_path, station):
    overrides = {
        "nnlm": TINY_NNLM | {"dropout": 0.0},
        "lstm": {"hidden_size": 16},
        # processes of one seed drop the same weights, whatever the size of their batches
        "lstm with DropConnect": {"hidden_size": 16, "weight_dropout": 0.5},
        "gpt": TINY_GPT | {"dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0},
    }[station]
    common = {"config_overrides": json.dumps(overrides), "max_steps": 8, "save_steps": 8, "learning_rate": 1e-3}
    station = station.split()[0]
    succeed(*arguments(corpus, tmp_path / "one", station, per_device_train_batch_size=8, **common))
    run_two(arguments(corpus, tmp_path / "two", station, per_device_train_batch_size=4, **common), tmp_path / "two")
    one, two = logged_losses(tmp_path / "one"), logged_losses(tmp_path / "two")
    assert len(one) == 8
    assert two == pytest.approx(one, abs=1e-5)
    assert_close(
        load_file(tmp_path / "one" / "model.safetensors"),
        load_file(tmp_path / "two" / "model.safetensors"),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.recipe
def test_the_folder_opens_as_users_would(corpus, tmp_path):
    succeed(*arguments(corpus, tmp_path, "lstm", max_steps=5))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.use_cache
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    text = pipeline("text-generation", model=str(tmp_path), device="cpu")("The baker", max_new_tokens=3)
    assert text[0]["generated_text"].startswith("The baker")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["parameters"] == model.num_parameters()
    assert results["trained_tokens"] == 5 * 4 * 8


@pytest.mark.recipe
def test_streamed_text_needs_an_end(corpus, tmp_path):
    succeed(*arguments(corpus, tmp_path, "gpt", streaming=True, max_steps=6))
    assert len(logged_losses(tmp_path)) == 6
    command = arguments(corpus, tmp_path / "endless", "gpt", streaming=True, max_steps=-1)
    result = call(*command)
    assert "set train_tokens or max_steps" in result.stderr


@pytest.mark.recipe
def test_documents_are_packed(corpus, tmp_path):
    succeed(*arguments(corpus, tmp_path, "gpt", document_packing=True, max_steps=3, block_size=16))
    assert len(logged_losses(tmp_path)) == 3
    command = arguments(corpus, tmp_path / "lstm", "lstm", document_packing=True)
    result = call(*command)
    assert "document_packing needs a model that takes position_ids, which LSTMForCausalLM does not" in result.stderr


@pytest.mark.recipe
def test_a_finished_run_is_left_alone_and_other_settings_are_refused(corpus, tmp_path):
    succeed(*arguments(corpus, tmp_path, "gpt", max_steps=6))
    before = {path.name: path.stat().st_mtime_ns for path in Path(last_complete_checkpoint(tmp_path)).iterdir()}
    succeed(*arguments(corpus, tmp_path, "gpt", max_steps=6))
    last = Path(last_complete_checkpoint(tmp_path))
    assert json.loads((last / "trainer_state.json").read_text())["global_step"] == 6
    assert {path.name: path.stat().st_mtime_ns for path in last.iterdir()} == before

    command = arguments(corpus, tmp_path, "gpt", max_steps=9, seed=7)
    result = call(*command)
    assert result.returncode != 0
    assert "seed=42, this run has 7" in result.stderr
