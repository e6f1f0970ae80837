"""word2vec on several threads (Hogwild) against one: words per second of wall time, so that it needs an idle machine.

    python benchmarks/word2vec_threads.py                                # 1 and 2 threads, on the default corpus
    python benchmarks/word2vec_threads.py --corpus text.txt --threads 4

--corpus is a text file with one sentence per line and blanks between words. Rounds alternate; each is one epoch.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch

from hf_lineage import Word2VecConfig, Word2VecForPreTraining
from hf_lineage.data import WordFile, WordWindows, load_corpus
from hf_lineage.tokenization import train_word_level
from hf_lineage.training import FastPath, LineageTrainingArguments, Word2VecTrainer


def seconds(words, architecture, num_threads):
    """One epoch of `Word2VecTrainer`, as recipes/pretrain_word2vec.py calls it."""
    config = Word2VecConfig(vocab_size=len(words.counts), architecture=architecture)
    model = Word2VecForPreTraining(config)
    model.set_word_counts(torch.from_numpy(words.counts))
    path = FastPath.of(config)
    data = WordWindows(words, chunk=path.chunk, negatives_per_chunk=path.negatives_per_chunk)
    arguments = LineageTrainingArguments(
        words.path.parent,
        per_device_train_batch_size=4 * num_threads,
        num_train_epochs=1,
        learning_rate=0.025,
        lr_scheduler_type="linear",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Word2VecTrainer(model, arguments, train_dataset=data, path=path, num_threads=num_threads)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="default: the package's, in lower case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.corpus is None:
            args.corpus = Path(folder) / "corpus.txt"
            lines = [line.lower() for row in load_corpus(None, "train") for line in row["text"].splitlines()]
            args.corpus.write_text("\n".join(lines * 10), encoding="utf-8")
        with open(args.corpus, encoding="utf-8") as file:
            tokenizer = train_word_level(file, min_frequency=5, special_tokens={"unk_token": "<unk>"})
        with open(args.corpus, encoding="utf-8") as file:
            words = WordFile.write(Path(folder) / "ids", file, tokenizer)
        ratios = []
        for architecture in ("skip_gram", "cbow"):
            seconds(words, architecture, args.threads)  # compiles
            rounds = [[seconds(words, architecture, n) for n in (1, args.threads)] for _ in range(args.rounds)]
            one, several = map(statistics.median, zip(*rounds, strict=True))
            print(f"{architecture}: {words.num_words / one:,.0f} words per second on 1 thread, ", end="")
            print(f"{words.num_words / several:,.0f} on {args.threads}", flush=True)
            ratios.append(f"{architecture} {one / several:.2f}")
    print(f"{args.threads} threads, times as fast as one: {', '.join(ratios)}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
