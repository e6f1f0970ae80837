"""word2vec on a text too large for memory: speed and memory must not depend on the length of the text.

    python benchmarks/word2vec_large.py                                   # the package's corpus, and 10 times as much
    python benchmarks/word2vec_large.py --corpus text.txt --repeat 30     # 3.5 million words, 30 times: 105 million

Trains skip-gram with 100 dimensions on one thread: one epoch over the text, and one over the text repeated. Each runs
in a process of its own, which reports its resident memory before training and at the peak. The words are on disk
(`WordFile`), and are read block by block in the random order of the epoch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch

from hf_lineage import Word2VecConfig, Word2VecForPreTraining
from hf_lineage.data import WordFile, WordWindows, load_corpus
from hf_lineage.tokenization import train_word_level
from hf_lineage.training.word2vec_fast import FastPath, update


def resident_megabytes(kind="VmRSS"):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024


def train(path, vocab_size):
    """One epoch over a file of word ids, as Word2VecTrainer's steps do it."""
    words = WordFile(path, vocab_size)
    config = Word2VecConfig(vocab_size=vocab_size)
    model = Word2VecForPreTraining(config)
    model.set_word_counts(torch.from_numpy(words.counts))
    fast = FastPath.of(config)
    data = WordWindows(words, chunk=fast.chunk, negatives_per_chunk=fast.negatives_per_chunk)
    steps = len(data)

    def step(position):
        update(model, data[position], fast, 0.025 * (1 - position / steps))

    step(0)  # compiles
    before, started, processor = resident_megabytes(), time.perf_counter(), time.process_time()
    for position in range(steps):
        step(position)
    report = {
        "words": words.num_words,
        "megabytes on disk": os.path.getsize(path) / 2**20,
        "words per CPU-second": words.num_words / (time.process_time() - processor),
        "words per second": words.num_words / (time.perf_counter() - started),
        "MB before": before,
        "MB peak": resident_megabytes("VmHWM"),
    }
    print(json.dumps(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="one sentence per line; default: the package's, in lower case")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--folder", help="where the word ids are written; default: a temporary folder")
    parser.add_argument("--train", nargs=2, metavar=("IDS", "VOCAB_SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        return train(args.train[0], int(args.train[1]))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.corpus is None:
            args.corpus = Path(folder) / "corpus.txt"
            lines = (line.lower() for row in load_corpus(None, "train") for line in row["text"].splitlines())
            args.corpus.write_text("\n".join(lines), encoding="utf-8")
        with open(args.corpus, encoding="utf-8") as file:
            tokenizer = train_word_level(file, min_frequency=5, special_tokens={"unk_token": "<unk>"})
        once, many = Path(folder) / "once", Path(folder) / "many"
        with open(args.corpus, encoding="utf-8") as file:
            WordFile.write(once, file, tokenizer)
        with open(many, "wb") as file:
            for _ in range(args.repeat):
                file.write(once.read_bytes())
        reports = []
        for path in (once, many):
            command = [sys.executable, __file__, "--train", str(path), str(len(tokenizer))]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            reports.append(json.loads(result.stdout))
    for name in reports[0]:
        print(f"{name:24}{reports[0][name]:>16,.0f}{reports[1][name]:>16,.0f}")
    speed = reports[1]["words per CPU-second"] / reports[0]["words per CPU-second"]
    memory = reports[1]["MB peak"] - reports[0]["MB peak"]
    print(f"{args.repeat} times the text: {speed:.2f} times the speed, {memory:+.0f} MB at the peak")


if __name__ == "__main__":
    main()
