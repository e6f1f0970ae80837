"""Learning curves: training loss at each report, validation loss at each evaluation."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from hf_lineage.files import save_figure


def learning_curves(results: Mapping[str, dict], unit: str) -> Figure:
    """Training loss (line) and validation loss (dots) of each model, in nats, over the number of `unit` trained on.

    Each result has `train_curve` and `validation_curve`, lists, possibly empty, of (number of units, loss, …).
    """
    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        (line,) = axes.plot(*_columns(result["train_curve"]), alpha=0.8, label=name)
        axes.plot(*_columns(result["validation_curve"]), "o", color=line.get_color())
    axes.set(xlabel=f"training {unit}", ylabel="loss, nats")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def plot_learning_curves(results: Mapping[str, dict], path: str | Path, unit: str = "updates"):
    """`learning_curves` as an image; the ending of `path` decides its format."""
    save_figure(learning_curves(results, unit), path)


def _columns(curve) -> tuple[list, list]:
    return [row[0] for row in curve], [row[1] for row in curve]
