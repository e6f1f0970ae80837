"""recipes/pretrain_bert.py: what it leaves behind, and that a killed run resumes bit by bit."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hf_lineage.data import SentencePairs
from hf_lineage.training import BERTPretrainingTrainer
from tests.models.test_modeling_bert import TestBERT as BERT
from tests.recipes.here import call, succeed
from tests.recipes.test_a_failed_evaluation import RECIPES, folder  # noqa: F401 - a fixture
from tests.recipes.test_a_failed_evaluation import run as run_here


ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    name: size for name, size in BERT.tiny.items() if name not in ("vocab_size", "initializer_range", "num_labels")
}
SETTINGS = {
    "model_type": "lineage_bert",
    "config_overrides": json.dumps({**SIZES, "hidden_dropout_prob": 0.1}),
    "sample_by": "paragraph",
    "vocab_size": 200,
    "block_size": 24,
    "long_block_size": 32,
    "long_share": 0.25,
    "duplicates": 2,
    "paper_exact": True,
    "per_device_train_batch_size": 4,
    "max_steps": 8,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_steps": 2,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_corpus):
    texts = tmp_path_factory.mktemp("corpus")
    for number, split in enumerate(("train", "validation", "test")):
        sentences = tiny_corpus[number::3]
        documents = ["\n".join(sentences[start : start + 6]) for start in range(0, len(sentences), 6)]
        (texts / f"{split}.txt").write_text("\n\n".join(documents), encoding="utf-8")
    return texts


def command(corpus, output_dir, but=(), **changes):
    settings = {**SETTINGS, "corpus": corpus, "output_dir": output_dir, **changes}
    flags = [part for name, value in settings.items() if name not in but for part in (f"--{name}", str(value))]
    return ["recipes/pretrain_bert.py", *flags]


def run(command, launcher=()):
    result = subprocess.run([sys.executable, *launcher, *command], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]


@pytest.mark.recipe
def test_the_folder_opens_as_users_would(corpus, tmp_path):
    succeed(*command(corpus, tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 8
    assert len(results["train_curve"]) == 8
    assert results["test"]["masked_word_loss"] < math.log(200) + 1
    assert 0 <= results["test"]["next_sentence_accuracy"] <= 1
    assert all(len(guesses) == 5 for _, guesses in results["samples"])
    assert "[CLS]" in (tmp_path / "attention.html").read_text()
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == 32
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2).config.vocab_size == len(
        tokenizer
    )
    assert len(pipeline("fill-mask", model=str(tmp_path), device="cpu")("The [MASK].")) == 5
    assert transformers.BertModel.from_pretrained(tmp_path).config.hidden_size == 16


@pytest.mark.recipe
def test_only_training_pairs_are_masked_as_asked(folder, tmp_path, monkeypatch):  # noqa: F811
    seen = []

    class Watched(SentencePairs):
        def __init__(self, documents, tokenizer, length, *, masking, **settings):
            seen.append((masking.probability, masking.mask_share, masking.random_share, masking.max_predictions))
            super().__init__(documents, tokenizer, length, masking=masking, **settings)

    monkeypatch.setattr("hf_lineage.data.SentencePairs", Watched)
    settings = RECIPES["pretrain_bert"][2] | {"mask_probability": 0.5, "mask_share": 1, "random_share": 0}
    run_here(folder, "pretrain_bert", settings, tmp_path, monkeypatch)
    assert seen == [(0.5, 1.0, 0.0, 12), (0.15, 0.8, 0.1, 4), (0.15, 0.8, 0.1, 4)]


@pytest.mark.recipe
def test_pairs_batches_and_masks_may_grow(corpus, tmp_path, monkeypatch):
    shares, sizes = [], []

    class Watched(BERTPretrainingTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            sizes.append((len(inputs["cu_seq_lens_q"]) - 1, inputs["cu_seq_lens_q"].diff().max().item()))
            shares.append(inputs["labels"].ne(-100).sum().item() / inputs["labels"].numel())
            return super().compute_loss(model, inputs, *args, **kwargs)

    monkeypatch.setattr("hf_lineage.training.BERTPretrainingTrainer", Watched)
    growth = {"first_batch_size": 1, "growth_steps": 4, "dynamic_masking": True, "last_mask_probability": 0.15}
    growth |= {"mask_probability": 0.6, "num_train_epochs": 1, "ema_decay": 0.9, "paper_exact": False}
    growth |= {"muon_learning_rate": 0.01, "short_probability": 0}
    succeed(*command(corpus, tmp_path, but=("max_steps",), save_strategy="no", **growth))
    steps = json.loads((tmp_path / "results.json").read_text())["steps"]
    assert [number for number, _ in sizes[:steps]] == [1, 1, 2, 3] + [4] * (steps - 4)
    long_steps = round(steps * SETTINGS["long_share"])
    assert max(length for _, length in sizes[: steps - long_steps]) == 24
    assert all(24 < length <= 32 for _, length in sizes[steps - long_steps : steps])
    assert shares[0] > 0.4
    assert max(shares[steps - long_steps : steps]) < 0.25


@pytest.mark.recipe
def test_streamed_text_trains(corpus, tmp_path):
    succeed(*command(corpus, tmp_path, but=("long_block_size", "long_share"), streaming=True, max_steps=6))
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["train_curve"]) == 6
    assert results["test"]["num_sentences"] > 0


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streaming": True, "max_steps": -1}, "streaming: a streamed corpus has no known end; set max_steps"),
        ({"streaming": True}, "long_block_size and first_batch_size need a corpus in memory"),
        ({"last_mask_probability": 0.1}, "last_mask_probability needs new masks in each epoch"),
        ({"document_packing": True}, "document_packing is for causal language models"),
    ],
)
def test_what_cannot_be_is_refused(corpus, tmp_path, changes, message):
    result = call(*command(corpus, tmp_path, **changes))
    assert result.returncode != 0
    assert message in result.stderr


# a streamed corpus has no second phase
STREAMED = {"but": ("long_block_size", "long_share", "duplicates"), "streaming": True}


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.parametrize("settings", [{}, STREAMED, {**STREAMED, "dataloader_num_workers": 2}])
def test_a_killed_run_resumes_bit_identically(corpus, tmp_path, settings):
    run(command(corpus, tmp_path / "whole", **settings))
    flags = command(corpus, tmp_path / "killed", **settings)
    process = subprocess.Popen([sys.executable, *flags], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "checkpoint-4" / "seal.json").exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    run(flags)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not whole[name].equal(resumed[name])] == []


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_two_processes_train_like_one(corpus, tmp_path, settings):
    sizes = json.dumps({**SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    settings = {"config_overrides": sizes, "optim": "sgd", "learning_rate": 0.1, "paper_exact": False, **settings}
    run(command(corpus, tmp_path / "one", per_device_train_batch_size=8, **settings))
    launch = ["-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu_2procs.yaml"]
    launch += ["--main_process_port", str(29_000 + os.getpid() % 300)]
    run(command(corpus, tmp_path / "two", per_device_train_batch_size=4, **settings), launch)
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["train_curve"] for name in ("one", "two"))
    assert len(one) == 8
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], abs=1e-4)
    assert_close(
        load_file(tmp_path / "one" / "model.safetensors"),
        load_file(tmp_path / "two" / "model.safetensors"),
        atol=1e-5,
        rtol=1e-4,
    )
