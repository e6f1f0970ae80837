"""What determinism costs: WordPiece training by hf_lineage against the trainer of `tokenizers` alone, interleaved.

    python benchmarks/tokenizer_training.py --corpus my_texts/ --vocab_size 30000

Both read the same strings in memory, on as many threads as RAYON_NUM_THREADS allows. The table has wall seconds; the
last line is the ratio of the medians (above 1: slower than the trainer of `tokenizers`).
"""

import time
from dataclasses import dataclass, field
from statistics import median

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from hf_lineage.arguments import parse
from hf_lineage.data import load_corpus
from hf_lineage.tokenization import BERT_SPECIAL_TOKENS, train_wordpiece


@dataclass
class BenchmarkArguments:
    """What is trained on, and how often."""

    corpus: str | None = field(default=None, metadata={"help": "As load_corpus takes it; default: Wikipedia text."})
    vocab_size: int = field(default=30_000, metadata={"help": "Vocabulary size."})
    rounds: int = field(default=5, metadata={"help": "Rounds; each runs both trainers."})


def train_stock(texts: list[str], vocab_size: int) -> str:
    """Trains with the trainer of `tokenizers` and BERT's normalisation; returns the tokenizer as text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(BERT_SPECIAL_TOKENS.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def train_ours(texts: list[str], vocab_size: int) -> str:
    return train_wordpiece(texts, vocab_size, show_progress=False).backend_tokenizer.to_str()


def main():
    (args,) = parse(BenchmarkArguments)
    texts = list(load_corpus(args.corpus)["text"])
    print(f"{sum(map(len, texts)):,} characters, vocabulary {args.vocab_size:,}, {args.rounds} rounds")
    print(f"{'trainer':<12}{'median s':>10}{'min':>8}{'max':>8}{'different results':>20}")
    seconds, results = {train_stock: [], train_ours: []}, {train_stock: set(), train_ours: set()}
    for _ in range(args.rounds):
        for train in seconds:
            started = time.perf_counter()
            results[train].add(train(texts, args.vocab_size))
            seconds[train].append(time.perf_counter() - started)
    for train, name in ((train_stock, "tokenizers"), (train_ours, "hf_lineage")):
        times = seconds[train]
        print(f"{name:<12}{median(times):>10.2f}{min(times):>8.2f}{max(times):>8.2f}{len(results[train]):>20}")
    print(f"hf_lineage / tokenizers: {median(seconds[train_ours]) / median(seconds[train_stock]):.2f}")


if __name__ == "__main__":
    main()
