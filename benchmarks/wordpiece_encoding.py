"""Text to WordPiece ids: our `TextEncoder` against `encode_batch_fast` of tokenizers, interleaved.

    python benchmarks/wordpiece_encoding.py --corpus my_texts/ --vocab_size 30000

Both read the same texts in memory, a thousand at a time; the benchmark checks that they give the same ids. The table
has megabytes per CPU-second of all threads. Each round starts with an empty encoder ("cold"), then reads all texts
again ("warm"). The last line is the ratio of the medians, cold.
"""

import time
from dataclasses import dataclass, field
from statistics import median

from hf_lineage.arguments import parse
from hf_lineage.data import TextEncoder, load_corpus
from hf_lineage.tokenization import train_wordpiece


@dataclass
class BenchmarkArguments:
    """What is encoded, and how often."""

    corpus: str | None = field(default=None, metadata={"help": "As load_corpus takes it; default: Wikipedia text."})
    vocab_size: int = field(default=30_000, metadata={"help": "Vocabulary size of the tokenizer trained on it."})
    batch_size: int = field(default=1_000, metadata={"help": "Texts at a time."})
    rounds: int = field(default=5, metadata={"help": "Rounds; each runs all encoders."})


def main():
    (args,) = parse(BenchmarkArguments)
    texts = list(load_corpus(args.corpus)["text"])
    batches = [texts[start : start + args.batch_size] for start in range(0, len(texts), args.batch_size)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    tokenizer = train_wordpiece(texts, args.vocab_size, show_progress=False)
    backend = tokenizer.backend_tokenizer

    def stock(texts):
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def measure(encode):
        started = time.process_time()
        ids = [encode(batch) for batch in batches]
        return megabytes / (time.process_time() - started), ids

    rates = {"encode_batch_fast": [], "TextEncoder, cold": [], "TextEncoder, warm": []}
    for _ in range(args.rounds):
        encoder, results = TextEncoder(tokenizer), []
        for name, encode in zip(rates, (stock, encoder, encoder), strict=True):
            rate, ids = measure(encode)
            rates[name].append(rate)
            results.append([list(text) for batch in ids for text in batch])
        if not results[0] == results[1] == results[2]:
            raise AssertionError("the ids differ")
    print(f"{megabytes:.1f} MB in {len(texts):,} texts, vocabulary {len(tokenizer):,}, {args.rounds} rounds")
    print(f"{'':<20}{'MB/CPU-s':>10}{'min':>8}{'max':>8}")
    for name, values in rates.items():
        print(f"{name:<20}{median(values):>10.2f}{min(values):>8.2f}{max(values):>8.2f}")
    stock_rate, cold, warm = map(median, rates.values())
    print(f"warm: {warm / stock_rate:.2f}")
    print(f"TextEncoder / encode_batch_fast: {cold / stock_rate:.2f}")


if __name__ == "__main__":
    main()
