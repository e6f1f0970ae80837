"""View i: the same words in another order, with and without the vectors of positions."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from hf_lineage.data.randomness import generator
from hf_lineage.lab.examples import WORD_ORDERS
from hf_lineage.lab.opened import LabModel, spans_of_words
from hf_lineage.lab.view import Given, View, rounded


SHUFFLES = 12


@torch.no_grad()
def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per pair of orders, the bits per token of each order and of random ones, under each model."""
    examples = []
    own = [(given.texts[0], given.texts[1])] if len(given.texts) > 1 and _same_words(*given.texts[:2]) else []
    for first, second in [*own, *WORD_ORDERS]:
        able = [one for one in models if (one.is_causal or one.fills_masks) and one.knows(first)]
        if not able:
            continue
        orders = [first, second, *shuffles(first)]
        rows = []
        for model in able:
            rows.append({"name": model.name, "positions": True, "bits": bits(model, orders)})
            with without_positions(model) as table:
                if table is not None:
                    rows.append({"name": model.name, "positions": False, "bits": bits(model, orders)})
        examples.append({"orders": orders, "rows": rows})
    return {"examples": examples} if examples else None


def _units(text: str) -> list[str]:
    """Words between blanks, or the characters of a text without blanks; a number stays whole."""
    return text.split() if " " in text else [text[start:end] for start, end in spans_of_words(text)]


def _same_words(first: str, second: str) -> bool:
    return sorted(_units(first.lower())) == sorted(_units(second.lower()))


def shuffles(text: str) -> list[str]:
    """The words in random orders, all different from the text's own."""
    units, joined = _units(text), " " if " " in text else ""
    orders, draw = [], generator(0, 0, 0, "word order")
    for _ in range(10 * SHUFFLES):
        order = joined.join(np.array(units)[draw.permutation(len(units))].tolist())
        if order not in (text, *orders) and len(orders) < SHUFFLES:
            orders.append(order)
    return orders


@torch.no_grad()
def bits(model: LabModel, texts: Sequence[str]) -> list[float]:
    """Bits per token of each text: of the log-probability, or for a masked model of the pseudo-log-likelihood."""
    return [rounded(-score.double().mean().item() / math.log(2), 3) for score in model.log_probabilities(texts)]


@contextmanager
def without_positions(model: LabModel) -> Iterator[torch.Tensor | None]:
    """All positions have the mean vector within the block, so that none tells a place; gives the table, None if none.

    The causal mask of GPT still tells how many words stand before each.
    """
    names = ("embed_positions", "position_embeddings", "wpe")
    network = model.masked_lm if model.fills_masks else model.model
    tables = [module for name, module in network.named_modules() if name.rpartition(".")[2] in names]
    if not tables:
        yield None
        return
    [table] = tables
    saved = table.weight.detach().clone()
    with torch.no_grad():
        table.weight.copy_(saved.mean(0, keepdim=True).expand_as(saved))
    try:
        yield table.weight
    finally:
        with torch.no_grad():
            table.weight.copy_(saved)


VIEW = View(
    "word_order",
    "Word order",
    "The order of words",
    "The same words in two orders mean different things, and most other orders mean nothing: a model that knows order "
    "finds shuffled words much less likely. Without its position vectors BERT sees a bag of words and finds all "
    "orders alike.",
    "Vaswani et al. (2017), section 3.5; Devlin et al. (2019), figure 2",
    compute,
)
