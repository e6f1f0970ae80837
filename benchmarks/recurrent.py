"""Recurrent cells: speed against torch's own nn.LSTM and nn.LSTMCell, on one thread.

    python benchmarks/recurrent.py

The medium model of Zaremba et al. (2014): 2 layers of 650 units, 35 time steps, batch 20, 10,000 words. Times are
CPU-seconds, the systems take turns in every round, and a ratio is the median of the rounds' ratios.

Measured with `--rounds 5` on one core of an AMD EPYC with AVX-512, as multiples of the peer's time:

    recurrence, forward and backward / nn.LSTM: plain LSTM 1.03, peephole 0.93, CIFG 0.65, CIFG with peephole 0.67,
        full peephole 1.30, projected and clipped 0.65, GRU with reset before the product 0.67 (nn.GRU 0.90)
    whole language model / the same of nn.LSTM: plain LSTM 0.98, peephole 1.02, CIFG 0.89
    one token / a loop over nn.LSTMCell: generate() 1.13 to 1.20, with `custom_generate=fast_decoding` 0.71 to 0.83,
        with PreparedDecoding 0.62 to 0.66; a loop over forward with cache 1.08 to 1.11

A token takes 5 ms, nearly all of it to read the matrices; this takes half the time where they are stored by columns.
generate() adds transformers' own loop and the calls of modules.
"""

import argparse
import os
import statistics
import time


os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from hf_lineage import GRUConfig, GRUForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.inference.fast_decoding import PreparedDecoding, fast_decoding


LAYERS, UNITS, TIME, BATCH, WORDS = 2, 650, 35, 20, 10_000
VARIANTS = {
    "plain LSTM": {},
    "peephole": {"peephole": "diagonal"},
    "CIFG": {"coupled_gates": "input"},
    "CIFG with peephole": {"coupled_gates": "input", "peephole": "diagonal"},
    "peephole, full": {"peephole": "full"},
    "projected and clipped": {"projection_size": 325, "cell_clip": 3.0, "projection_clip": 3.0},
}


class HandWrittenLM(nn.Module):
    """What a user would write with torch.nn: embedding, nn.LSTM, softmax, dropout between them."""

    def __init__(self, dropout: float):
        super().__init__()
        self.embed = nn.Embedding(WORDS, UNITS)
        self.lstm = nn.LSTM(UNITS, UNITS, LAYERS, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(UNITS, WORDS)

    def forward(self, ids, labels):
        outputs, _ = self.lstm(self.dropout(self.embed(ids)))
        return cross_entropy(self.head(self.dropout(outputs)).flatten(0, 1), labels.flatten())


class HandWrittenLoop(nn.Module):
    """Greedy generation with one nn.LSTMCell per layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, UNITS)
        self.cells = nn.ModuleList(nn.LSTMCell(UNITS, UNITS) for _ in range(LAYERS))
        self.head = nn.Linear(UNITS, WORDS)

    @torch.no_grad()
    def generate(self, ids, length):
        states = [(torch.zeros(len(ids), UNITS),) * 2 for _ in self.cells]
        words = [ids[:, 0]]
        for _ in range(length):
            x = self.embed(words[-1])
            for i, cell in enumerate(self.cells):
                states[i] = cell(x, states[i])
                x = states[i][0]
            words.append(self.head(x).argmax(1))
        return torch.stack(words, dim=1)


def causal_lm(dropout: float = 0.0, **fields):
    sizes = {"vocab_size": WORDS, "hidden_size": UNITS, "num_hidden_layers": LAYERS, "dropout": dropout}
    if "reset_mode" in fields:
        return GRUForCausalLM(GRUConfig(**sizes, **fields))
    return LSTMForCausalLM(LSTMConfig(**sizes, **fields))


def cpu_seconds(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def compare(title: str, peer: str, systems: dict, rounds: int, repeats: int = 1) -> dict[str, float]:
    """Prints one table; returns each system's median time as a multiple of the peer's."""
    seconds = {name: [] for name in systems}
    for _ in range(rounds + 1):
        for name, function in systems.items():
            seconds[name].append(sum(cpu_seconds(function) for _ in range(repeats)) / repeats)
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
    print(f"\n{title + f', median of {rounds}':60}{'ms':>8}{'range':>14}{'ratio':>8}")
    ratios = {}
    for name, values in seconds.items():
        ratios[name] = statistics.median(a / b for a, b in zip(values, seconds[peer], strict=True))
        spread = f"{1000 * min(values):.0f}–{1000 * max(values):.0f}"
        print(f"{name:60}{1000 * statistics.median(values):>8.1f}{spread:>14}{ratios[name]:>8.3f}", flush=True)
    return ratios


def recurrence(rounds: int) -> dict[str, float]:
    x, probe = torch.randn(BATCH, TIME, UNITS), torch.randn(BATCH, TIME, UNITS)
    lstm, gru = (cell(UNITS, UNITS, LAYERS, batch_first=True) for cell in (nn.LSTM, nn.GRU))

    def ours(**fields):
        layers = causal_lm(**{"embedding_size": UNITS, **fields}).model.layers

        def step():
            outputs = x
            for layer in layers:
                outputs, _ = layer(outputs)
            outputs.backward(probe[..., : outputs.shape[2]])

        return step

    systems = {"nn.LSTM": lambda: lstm(x)[0].backward(probe)}
    systems |= {name: ours(**fields) for name, fields in VARIANTS.items()}
    systems |= {"nn.GRU": lambda: gru(x)[0].backward(probe)}
    systems |= {"GRU, reset before the product": ours(reset_mode="before")}
    return compare("recurrence, forward and backward", "nn.LSTM", systems, rounds)


def training_step(rounds: int) -> dict[str, float]:
    ids = torch.randint(WORDS, (BATCH, TIME + 1))
    hand_written = HandWrittenLM(dropout=0.5)

    def ours(**fields):
        model = causal_lm(dropout=0.5, **fields).train()

        def step():
            model(
                ids[:, :-1], labels=ids[:, :-1], shift_labels=ids[:, 1:].contiguous(), use_cache=False
            ).loss.backward()

        return step

    systems = {"nn.LSTM": lambda: hand_written(ids[:, :-1], ids[:, 1:]).backward()}
    systems |= {name: ours(**VARIANTS[name]) for name in ("plain LSTM", "peephole", "CIFG")}
    return compare("language model, forward and backward", "nn.LSTM", systems, rounds)


def generation(rounds: int, length: int = 100) -> dict[str, float]:
    hand_written, prompt = HandWrittenLoop().eval(), torch.zeros(1, 1, dtype=torch.long)

    @torch.no_grad()
    def forward_loop(model):
        cache, word = DynamicCache(config=model.config), prompt
        for _ in range(length):
            word = model(word, cache=cache, use_cache=True).logits[:, -1].argmax(1, keepdim=True)

    def generate(model, fast=None):
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "custom_generate": fast}
        model.generate(prompt, max_new_tokens=length, **options)

    lstm, peephole = causal_lm().eval(), causal_lm(peephole="diagonal").eval()
    prepared = PreparedDecoding(lstm)
    systems = {
        "nn.LSTMCell in a loop": lambda: hand_written.generate(prompt, length),
        "LSTM, forward with cache in a loop": lambda: forward_loop(lstm),
        "LSTM, generate()": lambda: generate(lstm),
        "LSTM, generate() with fast_decoding": lambda: generate(lstm, fast_decoding),
        "LSTM, generate() with PreparedDecoding": lambda: generate(lstm, prepared),
        "peephole, generate()": lambda: generate(peephole),
    }
    return compare(f"greedy generation of {length} words", "nn.LSTMCell in a loop", systems, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=["recurrence", "training", "generation"])
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    results = []
    if args.only in (None, "recurrence"):
        ratios = recurrence(args.rounds)
        results += [f"{name} {ratios[name]:.2f}" for name in ("peephole", "CIFG")]
    if args.only in (None, "training"):
        results.append(f"peephole language model {training_step(args.rounds)['peephole']:.2f} of nn.LSTM's time")
    if args.only in (None, "generation"):
        ratios = generation(args.rounds)
        results.append(
            f"generate() {ratios['LSTM, generate()']:.2f}, with fast_decoding "
            f"{ratios['LSTM, generate() with fast_decoding']:.2f} of nn.LSTMCell's"
        )
    print("; ".join(results))


if __name__ == "__main__":
    main()
