"""Long dependencies: how far back do RNN, LSTM and GRU remember one symbol after the same training?

    python recipes/long_dependencies.py --output_dir runs/long_dependencies
    python recipes/long_dependencies.py --output_dir runs/short --longest_gap 50 --gaps 10 25 50 --seeds 1

A text is a row of symbols (8 kinds) and a question mark. Two of the symbols follow a mark; the model must name the
last marked one. The gap between it and the question mark has symbols of the same kinds, so the model must keep the
marked symbol while it reads others, and replace it at the next mark.

Training draws the gap of each batch between 1 and a limit, evenly in its logarithm. The limit starts at 2 and grows by
three tenths whenever nearly all answers are right, up to `longest_gap`: short gaps prepare for long ones. Recall is
then measured per gap; chance is 1/8. Writes results.json and recall.png.
"""

from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import parse, run
from hf_lineage.data.randomness import generator
from hf_lineage.files import save_figure
from hf_lineage.training import Results, last_lines, page_command, prepare_output_dir


SYMBOLS = 8
MARK, QUESTION = SYMBOLS, SYMBOLS + 1
STATIONS = {
    "RNN": {"model_type": "lineage_rnn"},
    "LSTM": {"model_type": "lineage_lstm", "forget_gate_bias": 1.0},
    "GRU": {"model_type": "lineage_gru"},
}
# for Adam
LEARNING_RATES = {"RNN": 1e-3, "LSTM": 3e-3, "GRU": 3e-3}


@dataclass
class LongDependencyArguments:
    """The experiment's sizes."""

    output_dir: str = field(default="runs/long_dependencies", metadata={"help": "Folder for results and plot."})
    gaps: list[int] = field(
        default_factory=lambda: [10, 25, 50, 100, 200, 400], metadata={"help": "Gaps to measure recall at."}
    )
    longest_gap: int = field(default=400, metadata={"help": "Longest gap in training."})
    updates: int = field(default=1_000, metadata={"help": "Updates of each station."})
    batch_size: int = field(default=32, metadata={"help": "Texts per update, all with one gap."})
    hidden_size: int = field(default=64, metadata={"help": "Units of each station's one layer."})
    seeds: int = field(default=3, metadata={"help": "Number of seeds; recall is their mean."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the results of an older run."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})


ARGUMENTS = (LongDependencyArguments,)


def texts(batch_size: int, gap: int, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids [B, T] with 3 to 12 symbols before the gap's 4 others, and the symbols [B] to recall."""
    before = 2 + int(random.integers(1, 11))
    ids = random.integers(SYMBOLS, size=(batch_size, before + 2 + gap + 1))
    ids[:, [0, before]] = MARK
    ids[:, -1] = QUESTION
    ids = torch.from_numpy(ids)
    return ids, ids[:, before + 1].clone()


def training_batch(seed: int, step: int, batch_size: int, limit: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The texts of one update, with a gap up to `limit`: a pure function of its arguments."""
    random = generator(seed, 0, step, "training")
    gap = round(limit ** random.random())
    return texts(batch_size, gap, random)


@torch.no_grad()
def recall(model, gap: int, seed: int, size: int = 256) -> float:
    """Share of symbols that the model recalls over this gap."""
    ids, symbols = texts(size, gap, generator(seed, 0, gap, "test"))
    return (model(ids).logits.argmax(1) == symbols).float().mean().item()


def train(name: str, args: LongDependencyArguments, seed: int):
    """Trains one station; returns it in eval mode."""
    set_seed(seed)
    config = AutoConfig.for_model(
        **STATIONS[name],
        vocab_size=QUESTION + 1,
        hidden_size=args.hidden_size,
        num_hidden_layers=1,
        num_labels=SYMBOLS,
        initializer_range=args.hidden_size**-0.5,
    )
    model = AutoModelForSequenceClassification.from_config(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATES[name])
    limit, right = min(2.0, args.longest_gap), 0.0
    for step in tqdm(range(args.updates), desc=f"{name}, seed {seed}", unit="update", disable=args.disable_tqdm):
        ids, symbols = training_batch(seed, step, args.batch_size, limit)
        optimizer.zero_grad()
        outputs = model(ids, labels=symbols)
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        right = 0.9 * right + 0.1 * (outputs.logits.argmax(1) == symbols).float().mean().item()
        if right > 0.95 and limit < args.longest_gap:
            limit, right = min(1.3 * limit, args.longest_gap), 0.5
    return model.eval()


def plot(results: dict[str, dict[int, float]], path: Path):
    """Plots recall by gap, a line per station, as a PNG."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, recalls in results.items():
        axes.plot(list(recalls), list(recalls.values()), marker="o", label=name)
    axes.axhline(1 / SYMBOLS, color="grey", linestyle=":", label="chance")
    axes.set(xscale="log", ylim=(0, 1.03), xlabel="gap in words", ylabel="recall of one of 8 symbols")
    gaps = list(next(iter(results.values())))
    axes.set_xticks(gaps, labels=gaps)
    axes.minorticks_off()
    axes.legend()
    save_figure(figure, path, dpi=150)
    plt.close(figure)


def main():
    (args,) = parse(*ARGUMENTS, description=__doc__)
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir)
    results = Results(output_dir / "results.json")
    with results.kept_on_error():
        for name in STATIONS:
            models = [(train(name, args, seed), seed) for seed in range(args.seeds)]
            results[name] = {
                gap: float(np.mean([recall(model, gap, seed) for model, seed in models])) for gap in args.gaps
            }
    print(f"\n{'recall after a gap of':<24}" + "".join(f"{gap:>8}" for gap in args.gaps))
    for name, recalls in results.items():
        print(f"{name:<24}" + "".join(f"{recalls[gap]:>8.3f}" for gap in args.gaps))
    with results.kept_on_error():
        plot(results, output_dir / "recall.png")
    gap = max(args.gaps)
    score = f"recall after a gap of {gap}: " + ", ".join(f"{name} {results[name][gap]:.3f}" for name in results)
    print(last_lines(output_dir, score, page_command(output_dir / "recall.png")))


if __name__ == "__main__":
    run(main)
