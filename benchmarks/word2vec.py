"""word2vec: speed and quality against gensim, with the same settings on the same text.

    python benchmarks/word2vec.py                                         # speed, on the default corpus
    python benchmarks/word2vec.py --corpus text.txt --seeds 3 --analogies questions-words.txt --similarities ws353.tsv

--corpus is a text file with one sentence per line and blanks between words. The table has words of the corpus (before
subsampling) per CPU-second of training, on one thread. gensim reads the corpus file (`corpus_file`); hf_lineage reads
a file of word ids, and the time to make this file is shown apart. Window 5, 5 negatives, a learning rate that falls
to 0; flags set the rest. Rounds alternate.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import gensim
import torch

from hf_lineage import Word2VecConfig, Word2VecForPreTraining
from hf_lineage.data import WordFile, WordWindows, load_corpus
from hf_lineage.metrics import (
    load_analogies,
    load_similarities,
    measure_word_analogy,
    measure_word_similarity,
)
from hf_lineage.tokenization import train_word_level
from hf_lineage.training.word2vec_fast import FastPath, update
from hf_lineage.word_vectors import WordVectors


class Text:
    """The corpus as a file for gensim and as word ids for hf_lineage."""

    def __init__(self, path, folder):
        self.path = str(path)
        with open(path, encoding="utf-8") as file:
            self.tokenizer = train_word_level(file, min_frequency=5, special_tokens={"unk_token": "<unk>"})
        started = time.process_time()
        with open(path, encoding="utf-8") as file:
            self.words = WordFile.write(Path(folder) / "ids", file, self.tokenizer, show_progress=False)
        self.encoding_seconds = time.process_time() - started
        with open(path, encoding="utf-8") as file:
            self.num_words, self.num_sentences = 0, 0
            for line in file:
                self.num_words += len(line.split())
                self.num_sentences += 1


@dataclass(frozen=True)
class Settings:
    """The settings of both sides."""

    architecture: str
    size: int
    epochs: int
    subsample: float
    rate: float


def train_gensim(text, settings, seed):
    epochs = settings.epochs
    model = gensim.models.Word2Vec(
        vector_size=settings.size,
        sg=int(settings.architecture == "skip_gram"),
        sample=settings.subsample,
        alpha=settings.rate,
        min_count=5,
        workers=1,
        epochs=epochs,
        seed=seed,
    )
    model.build_vocab(corpus_file=text.path)
    started = time.process_time()
    model.train(corpus_file=text.path, total_words=text.num_words, total_examples=text.num_sentences, epochs=epochs)
    return WordVectors(model.wv.index_to_key, model.wv.vectors), time.process_time() - started


def train_ours(text, settings, seed, backend):
    torch.manual_seed(seed)
    # gensim starts from ±1/D, the authors' code from ±0.5/D
    config = Word2VecConfig(
        vocab_size=len(text.tokenizer),
        hidden_size=settings.size,
        architecture=settings.architecture,
        initializer_range=1.0,
    )
    model = Word2VecForPreTraining(config)
    model.set_word_counts(torch.from_numpy(text.words.counts))
    path = FastPath.of(config, backend)
    data = WordWindows(
        text.words,
        subsample=settings.subsample,
        chunk=path.chunk,
        negatives_per_chunk=path.negatives_per_chunk,
        seed=seed,
    )
    steps, step = settings.epochs * len(data), 0
    started = time.process_time()
    for data.epoch in range(settings.epochs):
        for position in range(len(data)):
            update(model, data[position], path, settings.rate * (1 - step / steps))
            step += 1
    seconds = time.process_time() - started
    return WordVectors.from_model(model, text.tokenizer), seconds


SYSTEMS = {
    "gensim": train_gensim,
    "numba": lambda *arguments: train_ours(*arguments, "numba"),
    "torch": lambda *arguments: train_ours(*arguments, "torch"),
}


def compare_speed(text, settings, systems, rounds):
    """Prints words per CPU-second of each system; returns how many times as fast as the first the others are."""
    for name in systems:
        SYSTEMS[name](text, settings, 0)  # compiles, and warms the caches
    seconds = {name: [] for name in systems}
    for seed in range(rounds):
        for name in systems:
            seconds[name].append(SYSTEMS[name](text, settings, seed)[1])
    median = {name: statistics.median(values) for name, values in seconds.items()}
    speeds = "".join(f"{text.num_words / median[name]:>12,.0f}" for name in systems)
    print(f"{f'{settings.architecture}, {settings.size} dimensions':24}{speeds}", flush=True)
    first, *others = systems
    ratios = ", ".join(f"{name} {median[first] / median[name]:.2f}" for name in others)
    return f"{settings.architecture} {settings.size}: {ratios}"


def compare_quality(text, settings, systems, seeds, analogies, pairs):
    """Prints accuracy on the analogies, in percent, Spearman's correlation and CPU-seconds: medians and all seeds."""
    for name in systems:
        vectors, seconds = zip(*(SYSTEMS[name](text, settings, seed) for seed in range(1, seeds + 1)), strict=True)
        accuracy = [100 * measure_word_analogy(v, analogies, restrict_vocab=30_000)["accuracy"] for v in vectors]
        spearman = [measure_word_similarity(v, pairs)["spearman"] for v in vectors]
        medians = f"{statistics.median(accuracy):>12.2f}{statistics.median(spearman):>12.3f}"
        every = " ".join(f"{a:.2f}/{s:.3f}" for a, s in zip(accuracy, spearman, strict=True))
        print(
            f"{name + ' ' + settings.architecture:24}{medians}{statistics.median(seconds):>12.1f}   {every}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="default: the package's, in lower case")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--architectures", nargs="+", default=["skip_gram", "cbow"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, default=0, help="how many seeds to train for the quality")
    parser.add_argument("--epochs", type=int, default=5, help="of the runs whose quality is measured")
    parser.add_argument("--subsample", type=float, default=1e-3)
    parser.add_argument("--learning_rate", type=float, default=0.025)
    parser.add_argument("--analogies")
    parser.add_argument("--similarities")
    args = parser.parse_args()
    if args.seeds and not (args.analogies and args.similarities):
        parser.error("--seeds needs --analogies and --similarities, files to measure the quality with")
    with tempfile.TemporaryDirectory() as folder:
        if args.corpus is None:
            args.corpus = Path(folder) / "corpus.txt"
            lines = (line.lower() for row in load_corpus(None, "train") for line in row["text"].splitlines())
            args.corpus.write_text("\n".join(lines), encoding="utf-8")
        text = Text(args.corpus, folder)
        known = text.words.num_words
        print(f"{text.num_words:,} words, {known:,} in the vocabulary of {len(text.tokenizer):,}")
        print(f"encoding, once: {text.num_words / text.encoding_seconds:,.0f} words per CPU-second")
        shared = {"subsample": args.subsample, "rate": args.learning_rate}
        if args.seeds:
            columns = f"{'analogies':>12}{'similarity':>12}{'CPU-seconds':>12}"
            print(f"{f'quality, {args.epochs} epochs':24}{columns}   medians and all seeds")
            analogies, pairs = load_analogies(args.analogies), load_similarities(args.similarities)
            for architecture in args.architectures:
                settings = Settings(architecture, args.sizes[0], args.epochs, **shared)
                compare_quality(text, settings, args.systems, args.seeds, analogies, pairs)
        if args.rounds:
            ratios, header = [], "".join(f"{name:>12}" for name in args.systems)
            print(f"{'':24}{header}   words per CPU-second, median of {args.rounds}")
            for size in args.sizes:
                for architecture in args.architectures:
                    settings = Settings(architecture, size, 1, **shared)
                    ratios.append(compare_speed(text, settings, args.systems, args.rounds))
            print(f"times as fast as {args.systems[0]}: {'; '.join(ratios)}")


if __name__ == "__main__":
    main()
