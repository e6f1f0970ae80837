"""Long dependencies: how far back RNN, LSTM and GRU remember one symbol, after the same training.

    python recipes/long_dependencies.py --output_dir runs/long_dependencies

A text is one of 8 symbols, a gap of noise words, and a question mark, at which the model names the symbol. Training
draws the gap of each batch between 1 and `longest_gap`, evenly in its logarithm; recall is then measured gap by gap,
1/8 of it by chance. Written are results.json and recall.png.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import parse
from hf_lineage.data.randomness import generator


SYMBOLS, NOISE = 8, 8
QUESTION = SYMBOLS + NOISE
STATIONS = {
    "RNN": {"model_type": "lineage_rnn"},
    "LSTM": {"model_type": "lineage_lstm", "forget_gate_bias": 1.0},
    "GRU": {"model_type": "lineage_gru"},
}


@dataclass
class LongDependencyArguments:
    """The experiment's sizes."""

    output_dir: str = field(default="runs/long_dependencies", metadata={"help": "Where results and plot go."})
    gaps: list[int] = field(
        default_factory=lambda: [10, 25, 50, 100, 200, 400], metadata={"help": "Gaps at which recall is measured."}
    )
    longest_gap: int = field(default=400, metadata={"help": "Longest gap in training."})
    updates: int = field(default=1_500, metadata={"help": "Updates of each station."})
    batch_size: int = field(default=32, metadata={"help": "Texts an update, all with one gap."})
    hidden_size: int = field(default=64, metadata={"help": "Units of each station's one layer."})
    learning_rate: float = field(default=3e-3, metadata={"help": "Adam's; gradients are clipped to norm 1."})
    seed: int = field(default=0, metadata={"help": "Of the weights and the texts."})
    disable_tqdm: bool = field(default=False, metadata={"help": "No progress bar."})


ARGUMENTS = (LongDependencyArguments,)


def texts(batch_size: int, gap: int, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids [B, gap + 2] and the symbols [B] to recall."""
    symbols = random.integers(SYMBOLS, size=(batch_size, 1))
    noise = random.integers(SYMBOLS, QUESTION, size=(batch_size, gap))
    ids = np.concatenate([symbols, noise, np.full_like(symbols, QUESTION)], axis=1)
    return torch.from_numpy(ids), torch.from_numpy(symbols[:, 0])


def training_batch(seed: int, step: int, batch_size: int, longest_gap: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The texts of one update: a pure function of its arguments."""
    random = generator(seed, 0, step, "training")
    gap = round(longest_gap ** random.random())
    return texts(batch_size, gap, random)


@torch.no_grad()
def recall(model, gap: int, seed: int, size: int = 256) -> float:
    """Share of symbols that the model names over this gap."""
    ids, symbols = texts(size, gap, generator(seed, 0, gap, "test"))
    return (model(ids).logits.argmax(1) == symbols).float().mean().item()


def train(fields: dict, args: LongDependencyArguments, title: str):
    """One station, trained."""
    set_seed(args.seed)
    config = AutoConfig.for_model(
        **fields,
        vocab_size=QUESTION + 1,
        hidden_size=args.hidden_size,
        num_hidden_layers=1,
        num_labels=SYMBOLS,
        initializer_range=args.hidden_size**-0.5,
    )
    model = AutoModelForSequenceClassification.from_config(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    for step in tqdm(range(args.updates), desc=title, unit="update", disable=args.disable_tqdm):
        ids, symbols = training_batch(args.seed, step, args.batch_size, args.longest_gap)
        optimizer.zero_grad()
        model(ids, labels=symbols).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def plot(results: dict[str, dict[int, float]], path: Path):
    """Recall by gap, a line a station, as a PNG."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, recalls in results.items():
        axes.plot(list(recalls), list(recalls.values()), marker="o", label=name)
    axes.axhline(1 / SYMBOLS, color="grey", linestyle=":", label="chance")
    axes.set(xscale="log", ylim=(0, 1.03), xlabel="gap in words", ylabel="recall of one of 8 symbols")
    gaps = list(next(iter(results.values())))
    axes.set_xticks(gaps, labels=gaps)
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    (args,) = parse(*ARGUMENTS)
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, fields in STATIONS.items():
        model = train(fields, args, name)
        results[name] = {gap: recall(model, gap, args.seed) for gap in args.gaps}
    print(f"\n{'recall after a gap of':<24}" + "".join(f"{gap:>8}" for gap in args.gaps))
    for name, recalls in results.items():
        print(f"{name:<24}" + "".join(f"{recalls[gap]:>8.3f}" for gap in args.gaps))
    temporary = output_dir / "results.tmp"
    temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
    os.replace(temporary, output_dir / "results.json")
    plot(results, output_dir / "recall.png")


if __name__ == "__main__":
    main()
