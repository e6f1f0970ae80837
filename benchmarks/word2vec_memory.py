"""word2vec: memory against gensim, from the text to trained vectors, each in a process of its own.

    python benchmarks/word2vec_memory.py                                                    # the package's corpus
    python benchmarks/word2vec_memory.py --corpus text.txt --min_count 1 --size 300

--corpus is a text file with one sentence per line and blanks between words. Skip-gram, one epoch, one thread. The
table has the resident memory of a process that has trained on a few words (torch, transformers and numba are larger
than gensim, whatever is trained), its peak when it then trains on the corpus, and the difference, which vocabulary,
matrices and training take.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def megabytes(kind):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024


def train_gensim(corpus, min_count, size):
    import gensim

    gensim.models.Word2Vec(corpus_file=corpus, vector_size=size, sg=1, min_count=min_count, workers=1, epochs=1)


def train_ours(corpus, min_count, size, backend):
    import torch

    from hf_lineage import Word2VecConfig, Word2VecForPreTraining
    from hf_lineage.data import WordFile, WordWindows
    from hf_lineage.tokenization import train_word_level
    from hf_lineage.training.word2vec_fast import FastPath, update

    with open(corpus, encoding="utf-8") as file:
        tokenizer = train_word_level(file, min_frequency=min_count, special_tokens={"unk_token": "<unk>"})
    with tempfile.TemporaryDirectory() as folder, open(corpus, encoding="utf-8") as file:
        words = WordFile.write(Path(folder) / "ids", file, tokenizer)
        config = Word2VecConfig(vocab_size=len(tokenizer), hidden_size=size)
        model = Word2VecForPreTraining(config)
        model.set_word_counts(torch.from_numpy(words.counts))
        path = FastPath.of(config, backend)
        data = WordWindows(words, chunk=path.chunk, negatives_per_chunk=path.negatives_per_chunk)
        for position in range(len(data)):
            update(model, data[position], path, 0.025)


def report(name, corpus, min_count, size):
    """Trains on a few words, to import and compile, then on the corpus; prints the memory before and at the peak."""
    train = train_gensim if name == "gensim" else functools.partial(train_ours, backend=name)
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.txt"
        few.write_text("a few words\n" * 100, encoding="utf-8")
        train(str(few), 1, 8)
    before = megabytes("VmRSS")
    train(corpus, min_count, size)
    print(json.dumps({"before": before, "peak": megabytes("VmHWM")}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="default: the package's, in lower case")
    parser.add_argument("--min_count", type=int, default=5)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--run", choices=["gensim", "numba", "torch"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        report(args.run, args.corpus, args.min_count, args.size)
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.corpus is None:
            from hf_lineage.data import load_corpus

            args.corpus = Path(folder) / "corpus.txt"
            lines = (line.lower() for row in load_corpus(None, "train") for line in row["text"].splitlines())
            args.corpus.write_text("\n".join(lines), encoding="utf-8")
        print(f"{'':12}{'before':>10}{'peak':>10}{'difference':>12}   MB")
        used = {}
        for name in ("gensim", "numba", "torch"):
            command = [sys.executable, __file__, "--run", name, "--corpus", str(args.corpus)]
            command += ["--min_count", str(args.min_count), "--size", str(args.size)]
            memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            used[name] = memory["peak"] - memory["before"]
            print(f"{name:12}{memory['before']:>10,.0f}{memory['peak']:>10,.0f}{used[name]:>12,.0f}", flush=True)
    ratios = ", ".join(f"{name} {used[name] / used['gensim']:.2f}" for name in ("numba", "torch"))
    print(f"memory that the training takes, as a share of gensim's: {ratios}")


if __name__ == "__main__":
    main()
