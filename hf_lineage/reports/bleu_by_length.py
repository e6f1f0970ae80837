"""BLEU by the length of the source: how the quality of translations changes as sentences get longer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hf_lineage.files import save_figure
from hf_lineage.metrics import BLEU


def bleu_by_length(
    translations: Sequence[str],
    references: Sequence[str],
    lengths: Sequence[int],
    bounds: Sequence[int],
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[dict]:
    """Corpus BLEU per bucket of source length: 1 to bounds[0] words, up to bounds[1], …, and longer than the last.

    `lengths` counts the words of each source, for example by `hf_lineage.data.cjk.numbers_of_words`. Gives one row per
    bucket with pairs: `longer_than` and `up_to` (None for the rest), `pairs`, their mean source length `words`, and
    `bleu` (0 to 100).

    Raises:
        ValueError: a bound is not above the one before it (the first: above 0), or the three lists differ in length.
    """
    if not len(translations) == len(references) == len(lengths):
        raise ValueError(
            f"there are {len(translations)} translations, {len(references)} references and {len(lengths)} lengths: "
            "give one of each per pair"
        )
    edges = [0, *bounds]
    if any(low >= high for low, high in zip(edges, edges[1:], strict=False)):
        raise ValueError(f"the bounds {list(bounds)} must be above 0 and rise, such as 10 15 20")
    rows = []
    for low, high in zip(edges, [*bounds, None], strict=True):
        kept = [i for i, length in enumerate(lengths) if low < length and (high is None or length <= high)]
        if kept:
            score = BLEU().compute(
                predictions=[translations[i] for i in kept],
                references=[references[i] for i in kept],
                tokenize=tokenize,
                lowercase=lowercase,
            )
            words = sum(lengths[i] for i in kept) / len(kept)
            rows.append({"longer_than": low, "up_to": high, "pairs": len(kept), "words": words, "bleu": score["bleu"]})
    return rows


def plot_bleu_by_length(curves: Mapping[str, Sequence[dict]], path: str | Path):
    """One curve per model through its rows of `bleu_by_length`, as an image; the ending of `path` says which kind."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, rows in curves.items():
        axes.plot([row["words"] for row in rows], [row["bleu"] for row in rows], marker="o", label=name)
    axes.set(xlabel="words of the source (means of the buckets)", ylabel="BLEU")
    axes.set_ylim(bottom=0)
    axes.legend()
    save_figure(figure, path, dpi=150)
