"""The word2vec recipe, run as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModel, AutoTokenizer, pipeline

import hf_lineage
from hf_lineage.word_vectors import WordVectors


ROOT = Path(__file__).parents[2]


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
    command = [sys.executable, "recipes/pretrain_word2vec.py", "recipes/configs/word2vec_tiny.yaml"]
    command += ["--corpus", str(tmp_path / "text.txt"), "--output_dir", str(tmp_path / "out"), "--backend", backend]
    command += ["--similarities", str(tmp_path / "pairs.tsv"), "--config_overrides", json.dumps(overrides)]
    command += ["--words_per_step", "500", "--subsample", "0", "--learning_rate", "0.02", "--num_train_epochs", "20"]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)

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
