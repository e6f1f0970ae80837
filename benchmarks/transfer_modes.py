"""Time and memory of an epoch of fine-tuning in each transfer mode: full, partial, gradual, frozen, features.

    OMP_NUM_THREADS=1 python benchmarks/transfer_modes.py [--station BERT] [--rounds 5]

A new model of 4 layers of 256 units learns to label 128 texts of 20 to 64 tokens, in batches of 32 padded rows, by
AdamW. An epoch reads the rows, makes the batches and updates the weights. "rates" is full with one rate per layer. In
"partial" only the last of the 4 layers learns. "gradual" is the mean of its first six epochs, from the head alone to
all weights. Rounds alternate; ratios are medians over the rounds; seconds are CPU-seconds. "first" is what features
takes once, to compute and store the states. For memory, a process runs one epoch alone (of gradual all six); the
figure is the growth of its peak, in MB (Linux). docs/benchmarks.md has what was measured.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader

import hf_lineage
from hf_lineage.data import TaskCollator
from hf_lineage.training import Transfer


datasets.disable_progress_bars()
# name -> mode, layers nearest the input that do not learn, factor on the rate per layer
MODES = {
    "full": ("full", None, 1.0),
    "rates": ("full", None, 1 / 2.6),
    "partial": ("partial", 3, 1.0),
    "gradual": ("gradual", None, 1.0),
    "frozen": ("frozen", None, 1.0),
    "features": ("features", None, 1.0),
}
ATTENTION = {"num_attention_heads": 4, "intermediate_size": 1024}
SIZES = {"hidden_size": 256, "num_hidden_layers": 4}
BATCH, TEXTS, VOCABULARY = 32, 128, 4_000


def make_rows() -> datasets.Dataset:
    """Token ids of texts, with a label each."""
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, VOCABULARY, draw.integers(20, 65)).tolist() for _ in range(TEXTS)]
    labels = [number % 2 for number in range(TEXTS)]
    masks = [[1] * len(ids) for ids in texts]
    return datasets.Dataset.from_dict({"input_ids": texts, "attention_mask": masks, "labels": labels})


class Mode:
    """A model that learns in the mode `name`; `epoch` is one pass over all rows."""

    def __init__(self, station: str, name: str, rows: datasets.Dataset):
        torch.manual_seed(0)
        sizes = SIZES | (ATTENTION if station in ("BERT", "GPT") else {})
        config = getattr(hf_lineage, f"{station}Config")(vocab_size=VOCABULARY, **sizes)
        self.model = getattr(hf_lineage, f"{station}ForSequenceClassification")(config).train()
        mode, frozen_layers, factor = MODES[name]
        self.transfer = Transfer(self.model, [], mode, frozen_layers, factor)
        collate, began = TaskCollator(SimpleNamespace(pad_token_id=0)), time.process_time()
        if mode == "features":
            [rows] = self.transfer.keep_states({"train": rows}, collate, tempfile.mkdtemp(), BATCH).values()
            collate = rows.collate
        self.first = time.process_time() - began
        self.batches = DataLoader(rows, BATCH, collate_fn=collate)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-4)
        self.transfer.split_groups(self.optimizer)

    def epoch(self) -> float:
        """CPU-seconds of an epoch."""
        began = time.process_time()
        for batch in self.batches:
            self.model(**batch).loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.process_time() - began

    def round(self) -> float:
        """CPU-seconds of an epoch; of the gradual mode the mean over the epochs in which a layer is added."""
        if self.transfer.mode != "gradual":
            return self.epoch()
        seconds = []
        for depth in range(SIZES["num_hidden_layers"], -2, -1):
            self.transfer.freeze(depth)
            seconds.append(self.epoch())
        return statistics.mean(seconds)


def megabytes(kind: str) -> float:
    """VmRSS, the memory of this process, or VmHWM, the most since the last reset."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--station", default="BERT", choices=["RNN", "LSTM", "GRU", "GPT", "BERT"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory_of", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = make_rows()
    if args.memory_of:
        mode = Mode(args.station, args.memory_of, rows)
        before = megabytes("VmRSS")
        # resets VmHWM
        Path("/proc/self/clear_refs").write_text("5")
        mode.round()
        print(megabytes("VmHWM") - before)
        return
    modes = {name: Mode(args.station, name, rows) for name in MODES}
    for mode in modes.values():
        mode.round()
    rounds = [{name: mode.round() for name, mode in modes.items()} for _ in range(args.rounds)]
    print(f"{args.station:10}{'s an epoch':>12}{'full / it':>12}{'first, s':>12}{'MB':>8}   {args.rounds} rounds")
    for name in MODES:
        seconds = statistics.median(one[name] for one in rounds)
        ratio = statistics.median(one["full"] / one[name] for one in rounds)
        command = [sys.executable, __file__, "--station", args.station, "--memory_of", name]
        memory = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        first = f"{modes[name].first:.2f}" if name == "features" else ""
        print(f"{name:10}{seconds:>12.2f}{ratio:>12.2f}{first:>12}{memory:>8.0f}")


if __name__ == "__main__":
    main()
