"""What a view of the lab is: two sentences for the reader, its source, and the numbers that a script draws."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_lineage.lab.examples import PASSAGES
from hf_lineage.lab.opened import LabModel, spans_of_words


@dataclass(frozen=True)
class Given:
    """What is given beside the models.

    texts: the user's sentences. corpus: the models' training texts; an n-gram model reads their first `corpus_tokens`
    tokens.
    recall: the results of recipes/long_dependencies.py, {station: {gap: recall}}.
    training: the results of a training run, {"stations": rows of (station, new idea, seconds, result), "tables":
    [{"title", "note", "columns", "rows"}], "curves": [{"name", "train": [(tokens, loss)]}], "samples": [{"name",
    "texts": [(prompt, continuation)]}]}.
    """

    texts: Sequence[str] = ()
    corpus: Sequence[str] | None = None
    corpus_tokens: int = 1_000_000
    recall: dict[str, dict[str, float]] | None = None
    training: dict | None = None


@dataclass(frozen=True)
class View:
    """One section of the page, `short` in its navigation.

    `compute(models, given)` gives JSON data, or None if no model can be shown. `key` names the script that draws it,
    `page/views/KEY.js`.
    """

    key: str
    short: str
    title: str
    see: str
    source: str
    compute: Callable[[Sequence[LabModel], Given], dict | None]


def first_known(model: LabModel, texts: Sequence[str]) -> str | None:
    """The first of the texts that the model can read."""
    return next((text for text in texts if model.knows(text)), None)


def common_text(models: Sequence[LabModel], texts: Sequence[str]) -> tuple[str | None, list[LabModel]]:
    """The text that most of the models can read, the first of equals, and these models; all see the same words."""
    best, readers = None, []
    for text in texts:
        words = [text[start:end] for start, end in spans_of_words(text)]
        found = [model for model in models if model.knows(text) and model.read(text).words == words]
        if len(found) > len(readers):
            best, readers = text, found
    return best, readers


def passages(given: Given) -> list[str]:
    """Texts of some length: the user's sentences followed by a passage, these sentences, or the passages alone."""
    if not given.texts:
        return PASSAGES
    return [*(" ".join([*given.texts, passage]) for passage in PASSAGES), " ".join(given.texts), *PASSAGES]


def packed(values, low: float = 0.0, high: float = 1.0) -> dict:
    """Numbers as bytes in base64, 0 to 255 for `low` to `high`, with their shape: precise enough for pictures."""
    values = np.asarray(values, dtype=np.float64)
    levels = np.rint((values.clip(low, high) - low) / (high - low) * 255).astype(np.uint8)
    text = base64.b64encode(levels.tobytes()).decode("ascii")
    return {"shape": list(values.shape), "low": low, "high": high, "bytes": text}


def rounded(values, decimals: int = 4):
    """Numbers, in nested lists, with a few decimals."""
    return np.round(np.asarray(values, dtype=np.float64), decimals).tolist()
