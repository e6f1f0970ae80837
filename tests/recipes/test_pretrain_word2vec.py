"""The word2vec recipe, run as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForPreTraining, AutoTokenizer, pipeline, set_seed

import hf_lineage
from hf_lineage.__main__ import main
from hf_lineage.data import Phrases, WordFile, WordWindows
from hf_lineage.training import FastPath
from hf_lineage.training.word2vec_fast import update
from hf_lineage.word_vectors import WordVectors
from tests.recipes.here import succeed


ROOT = Path(__file__).parents[2]
RECIPE, PRESET = "recipes/pretrain_word2vec.py", str(ROOT / "recipes/configs/word2vec_tiny.yaml")


@pytest.mark.recipe
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_trained_vectors_open_everywhere(tmp_path, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    draws = np.random.default_rng(0)
    groups = ["cat dog cow pig".split(), "red blue green pink".split()]
    lines = [" ".join(draws.choice(groups[i % 2], size=8)) for i in range(600)]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("cat\tdog\t9\ncat\tred\t1\nblue\tpink\t8\n", encoding="utf-8")
    overrides = {"hidden_size": 12, "window": 3}
    flags = ["--corpus", tmp_path / "text.txt", "--output_dir", tmp_path / "out", "--backend", backend]
    flags += ["--similarities", tmp_path / "pairs.tsv", "--config_overrides", json.dumps(overrides)]
    flags += ["--words_per_step", "500", "--subsample", "0", "--learning_rate", "0.02", "--num_train_epochs", "20"]
    succeed(RECIPE, PRESET, *flags)

    model = AutoModel.from_pretrained(tmp_path / "out")
    assert isinstance(model, hf_lineage.Word2VecModel)
    vectors = WordVectors.from_model(model, AutoTokenizer.from_pretrained(tmp_path / "out"))
    written = WordVectors.load(tmp_path / "out" / "word_vectors.bin", show_progress=False)
    assert written.words == vectors.words
    assert np.array_equal(written.vectors, vectors.vectors)
    assert {word for word, _ in vectors.nearest("cat", 3)} == {"dog", "cow", "pig"}
    answers = pipeline("word-similarity", model=str(tmp_path / "out"), device="cpu")("red", top_k=3)
    assert {answer["word"] for answer in answers} == {"blue", "green", "pink"}
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["similarities"]["spearman"] > 0
    assert results["losses"][-1][1] < results["losses"][0][1]
    assert len(results["epoch_losses"]) == 20
    assert results["epoch_losses"][-1] < results["epoch_losses"][0]


@pytest.mark.recipe
@pytest.mark.parametrize(
    "objective", ["negative_sampling", pytest.param("hierarchical_softmax", marks=pytest.mark.slow)]
)
def test_new_text_adds_words_and_phrases_to_a_saved_model(tmp_path, objective):
    draws = np.random.default_rng(0)
    old, new = "cat dog cow pig".split(), "cat dog goat hen".split()

    def run(name, words, *flags, place):
        sentences = [draws.permutation([*words, place, "the", "of"]).tolist() for _ in range(300)]
        lines = [" ".join(sentence).replace("york", "New York") for sentence in sentences]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
        flags += ("--corpus", tmp_path / f"{name}.txt", "--output_dir", tmp_path / name)
        flags += ("--per_device_train_batch_size", "1", "--subsample", "0")
        flags += ("--words_per_step", "500", "--num_train_epochs", "2", "--save_strategy", "no")
        succeed(RECIPE, *flags)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        return AutoModelForPreTraining.from_pretrained(tmp_path / name), tokenizer

    fields = ["--config_overrides", json.dumps({"hidden_size": 8, "objective": objective})]
    first, tokenizer = run(
        "first", old, "--model_type", "lineage_word2vec", *fields, "--phrase_thresholds", "3", place="york"
    )
    assert "new_york" in tokenizer.get_vocab()
    rate = ["--learning_rate", "1e-9"]
    second, grown = run("second", new, "--model_name_or_path", tmp_path / "first", *rate, place="york")

    size = len(tokenizer)
    assert {word: i for word, i in grown.get_vocab().items() if i < size} == tokenizer.get_vocab()
    assert {word for word, i in grown.get_vocab().items() if i >= size} == {"goat", "hen"}
    # at this rate nothing that was learned moves; new words start as in a new model
    for before, after in zip(first.parameters(), second.parameters(), strict=True):
        assert_close(after[:size], before, atol=1e-6, rtol=0)
    new_rows = second.get_input_embeddings().weight[size:]
    assert 0 < new_rows.abs().max() <= 0.5 / 8 + 1e-6
    # counts are those of both texts; with a tree, old words keep their paths in it, and so their counts
    vocabulary = grown.get_vocab()
    old_count = 300 if objective == "hierarchical_softmax" else 600
    expected = {"cat": old_count, "pig": 300, "hen": 300, "new_york": old_count}
    assert {word: second.word_counts[vocabulary[word]].item() for word in expected} == expected


@pytest.mark.slow
@pytest.mark.recipe
def test_two_processes_average_what_each_learned_from_its_blocks(tmp_path):
    draws = np.random.default_rng(0)
    lines = [" ".join(draws.choice("cat dog cow pig red blue".split(), size=9)) for _ in range(200)]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    fields = {"hidden_size": 8}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [RECIPE, PRESET, "--backend", "torch"]
    command += ["--corpus", str(tmp_path / "text.txt"), "--output_dir", str(tmp_path / "out"), "--seed", "3"]
    command += ["--words_per_step", "500", "--subsample", "0", "--num_train_epochs", "1"]
    command += ["--config_overrides", json.dumps(fields)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    found = AutoModelForPreTraining.from_pretrained(tmp_path / "out")

    words = WordFile(tmp_path / "out" / "train.ids", found.config.vocab_size)
    path = FastPath.of(found.config, "torch")
    blocks = WordWindows(
        words,
        subsample=0,
        chunk=path.chunk,
        negatives_per_chunk=path.negatives_per_chunk,
        block_size=500,
        seed=3,
    )
    assert len(blocks) == 4  # two steps of two processes, averaged at the end
    copies = []
    for process in range(2):
        set_seed(3)
        copies.append(AutoModelForPreTraining.from_config(found.config))
        for step, rate in enumerate([0.025, 0.0125]):
            update(copies[-1], blocks[2 * step + process], path, rate)
    for name, parameter in found.named_parameters():
        one, two = (dict(copy.named_parameters())[name] for copy in copies)
        assert_close(parameter, (one + two) / 2, atol=1e-6, rtol=0)
        assert not torch.allclose(one, two, atol=1e-4), name


@pytest.mark.slow
@pytest.mark.recipe
def test_counted_words_and_phrases_give_the_same_vectors(tmp_path, tiny_corpus):
    pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'hf_lineage[scale]'")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(tiny_corpus), encoding="utf-8")

    def train(name, *options):
        flags = ["--corpus", text, "--output_dir", tmp_path / name, "--min_count", "2", "--num_train_epochs", "1"]
        flags += ["--config_overrides", '{"hidden_size": 8}', "--backend", "torch", *options]
        succeed(RECIPE, PRESET, *flags)
        # in the order of the counts
        passes = Phrases.load(tmp_path / name / "phrases.json").passes
        return [(tmp_path / name / file).read_bytes() for file in ("word_vectors.bin", "train.ids")], passes

    phrases, counts = tmp_path / "phrases" / "phrases.json", tmp_path / "counts" / "counts.parquet"
    run = ["scale", "phrases", str(text), str(phrases.parent), "--thresholds", "1.5", "--min_count", "2"]
    assert main(run) == 0
    assert (
        main(["scale", "words", str(text), str(counts.parent), "--kind", "word2vec", "--phrases", str(phrases)]) == 0
    )
    expected = train("whole", "--phrase_thresholds", "1.5")
    assert len(expected[1][0]) > 10
    assert train("counted", "--phrases", phrases, "--word_counts", counts) == expected
