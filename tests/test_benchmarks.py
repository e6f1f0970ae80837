"""Every benchmark runs, at its smallest size: nobody else calls them when the code that they measure changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALLEST = {
    "bert_embeddings": "--corpus {corpus} --texts 4 --rounds 1",
    "bert_pretraining": "--rounds 1 --steps 1",
    "decoding": "--rounds 1 --batch_sizes 2 --new_tokens 4",
    "determinism": "--steps 4",
    "elmo": "--rounds 1",
    "gpu": "--dry_run",
    "loading": "--rounds 1",
    "output_layers": "--rounds 1 --rows 20",
    "recurrent": "--rounds 1",
    "scale": "--corpus {corpus} --words 2000 --files 2 --vocab_size 300 --rounds 1",
    "tokenizer_training": "--corpus {corpus} --vocab_size 300 --rounds 1",
    "transfer_modes": "--station GRU --rounds 1",
    "translation_decoding": "--rounds 1 --batch_sizes 2 --new_tokens 4",
    "word2vec": "--corpus {corpus} --rounds 1 --sizes 8",
    "word2vec_large": "--corpus {corpus} --repeat 1",
    "word2vec_memory": "--corpus {corpus} --size 8",
    "word2vec_threads": "--corpus {corpus} --rounds 1",
    "wordpiece_encoding": "--corpus {corpus} --vocab_size 300 --rounds 1",
}


def test_every_benchmark_has_a_smallest_size():
    assert sorted(SMALLEST) == sorted(path.stem for path in BENCHMARKS.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_the_benchmark_runs(name, tmp_path):
    corpus = tmp_path / "corpus.txt"
    words = "the a cat dog sees hears finds old small river house and then".split()
    lines = [" ".join(words[(i * j + j) % len(words)] for j in range(1, 12)) for i in range(1, 2_000)]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = SMALLEST[name].format(corpus=corpus).split()
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)},
        timeout=1_800,
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-3_000:]
    assert done.stdout.strip()
