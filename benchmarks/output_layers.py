"""What an output layer costs in training: the full softmax against the adaptive and the sampled one, interleaved.

    python benchmarks/output_layers.py
    python benchmarks/output_layers.py --rounds 9 --rows 256

Forward and backward of the layer alone, on one thread, in CPU-seconds. The layer reads 700 vectors of 512 numbers (20
texts of 35 words); words are drawn by Zipf's law. Optimizers, which touch every row, do not count. Rounds alternate;
the last line has the ratios of the medians, full softmax / adaptive softmax (above 1: the adaptive one is faster).
"""

import os
import time
from dataclasses import dataclass, field
from statistics import median


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hf_lineage.arguments import parse
from hf_lineage.data.randomness import generator, log_uniform
from hf_lineage.models.output_layers import AdaptiveSoftmax, sampled_softmax_loss


VOCABULARIES = {50_000: [2_000, 10_000], 200_000: [4_000, 20_000, 60_000]}


@dataclass
class BenchmarkArguments:
    """Sizes of the layers, and how often they run."""

    rounds: int = field(default=5, metadata={"help": "Rounds; each runs all layers."})
    rows: int = field(default=700, metadata={"help": "Words scored at once."})
    hidden_size: int = field(default=512, metadata={"help": "Length of the vector that the layer reads."})
    num_negatives: int = field(default=8_192, metadata={"help": "Negatives of the sampled softmax."})


def layers(vocab_size, args):
    """Name -> a function that computes a loss, and the parameters it gives gradients to."""
    full = nn.Linear(args.hidden_size, vocab_size)
    adaptive = AdaptiveSoftmax(args.hidden_size, vocab_size, VOCABULARIES[vocab_size])
    yield "full", lambda x, targets, negatives: cross_entropy(full(x), targets), full
    yield "adaptive", lambda x, targets, negatives: adaptive.loss(x, targets).mean(), adaptive
    yield (
        f"sampled, {args.num_negatives} negatives",
        lambda x, targets, negatives: sampled_softmax_loss(x, targets, full.weight, full.bias, negatives).mean(),
        full,
    )


def main():
    (args,) = parse(BenchmarkArguments)
    torch.manual_seed(0)
    ratios = []
    print(f"{args.rows} rows, hidden size {args.hidden_size}, {args.rounds} rounds")
    print(f"{'vocabulary':>10}  {'layer':<26}{'median CPU s':>14}{'min':>8}{'max':>8}{'full / it':>11}")
    for vocab_size in VOCABULARIES:
        measured = list(layers(vocab_size, args))
        seconds = {name: [] for name, _, _ in measured}
        # the first round only warms up
        for round_number in range(-1, args.rounds):
            draws = generator(0, round_number + 1, vocab_size)
            x = torch.randn(args.rows, args.hidden_size, requires_grad=True)
            targets, negatives = (
                torch.from_numpy(log_uniform(draws, size, vocab_size)) for size in (args.rows, args.num_negatives)
            )
            for name, loss, layer in measured:
                layer.zero_grad()
                started = time.process_time()
                loss(x, targets, negatives).backward()
                if round_number >= 0:
                    seconds[name].append(time.process_time() - started)
        for name, times in seconds.items():
            ratio = median(seconds["full"]) / median(times)
            columns = f"{median(times):>14.3f}{min(times):>8.3f}{max(times):>8.3f}{ratio:>11.1f}"
            print(f"{vocab_size:>10,}  {name:<26}{columns}")
        ratios.append(f"{median(seconds['full']) / median(seconds['adaptive']):.1f} at {vocab_size:,} words")
    print(f"full softmax / adaptive softmax: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
