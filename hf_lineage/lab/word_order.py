"""View i: the same words in another order, with and without the vectors of positions."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import hf_lineage
from hf_lineage.data.randomness import generator
from hf_lineage.lab.examples import WORD_ORDERS
from hf_lineage.lab.heads import LONGEST, inputs_of
from hf_lineage.lab.next_words import expectations, is_word2vec
from hf_lineage.lab.opened import LabModel, spans_of_words
from hf_lineage.lab.view import Given, View, rounded


SHUFFLES = 12


@torch.no_grad()
def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per pair of orders, the bits per token of each order and of random ones, under each model.

    For an encoder-decoder they are the bits of its translation of the first order, when it reads the words in another.
    """
    examples = []
    own = [(given.texts[0], given.texts[1])] if len(given.texts) > 1 and _same_words(*given.texts[:2]) else []
    for first, second in [*own, *WORD_ORDERS]:
        orders = [first, second, *shuffles(first, second)]
        if rows := [row for model in models for row in _rows(model, orders)]:
            examples.append({"orders": orders, "rows": rows})
    return {"examples": examples} if examples else None


def _rows(model: LabModel, orders: Sequence[str]) -> list[dict]:
    """The rows of one model: as it is, and without positions if it has any; none if it cannot judge these words."""
    first = orders[0]
    if not model.can_judge(first) and not ((model.translates or is_word2vec(model)) and model.knows(first)):
        return []
    about = {"name": model.name}
    measure = partial(bits, model)
    if model.translates:
        words = translation_of(model, first)
        about["translation"] = model.tokenizer.decode(words[0], skip_special_tokens=True)
        measure = partial(bits_of_translation, model, words)
    elif is_word2vec(model):
        measure = partial(bits_around, model)
    rows = [about | {"positions": True, "bits": measure(orders)}]
    with without_positions(model) as changed:
        if changed:
            rows.append(about | {"positions": False, "bits": measure(orders)})
    return rows


def _units(text: str) -> list[str]:
    """Words between blanks, or the characters of a text without blanks; a number stays whole."""
    return text.split() if " " in text else [text[start:end] for start, end in spans_of_words(text)]


def _same_words(first: str, second: str) -> bool:
    return sorted(_units(first.lower())) == sorted(_units(second.lower()))


def shuffles(text: str, *others: str) -> list[str]:
    """The words in random orders, all different from the text's own and from `others`."""
    units, joined = _units(text), " " if " " in text else ""
    orders, draw = [], generator(0, 0, 0, "word order")
    for _ in range(10 * SHUFFLES):
        order = joined.join(np.array(units)[draw.permutation(len(units))].tolist())
        if order not in (text, *others, *orders) and len(orders) < SHUFFLES:
            orders.append(order)
    return orders


@torch.no_grad()
def bits(model: LabModel, texts: Sequence[str]) -> list[float]:
    """Bits per token of each text: of the log-probability, or for a masked model of the pseudo-log-likelihood.

    ELMo's are the mean of both directions.
    """
    return [rounded(-score.double().mean().item() / math.log(2), 3) for score in model.log_probabilities(texts)]


def bits_around(model: LabModel, texts: Sequence[str]) -> list[float]:
    """word2vec's bits per word, each guessed from the words around it."""
    found = []
    for text in texts:
        [row] = expectations(model, model.read(text))
        found.append(rounded(np.mean([word["bits"] for word in row["words"] if word]), 3))
    return found


@torch.no_grad()
def translation_of(model: LabModel, text: str) -> Tensor:
    """The likeliest words of the translation, one after the other, as ids [1, 1 + T]."""
    return model.model.generate(**inputs_of(model, model.read(text)), num_beams=1, max_new_tokens=LONGEST)


@torch.no_grad()
def bits_of_translation(model: LabModel, translation: Tensor, texts: Sequence[str]) -> list[float]:
    """Bits per token of one translation, given each of the texts as its source."""
    found = []
    for text in texts:
        inputs = inputs_of(model, model.read(text))
        logits = model.model(**inputs, decoder_input_ids=translation[:, :-1]).logits[0]
        loss = cross_entropy(logits.double(), translation[0, 1:])
        found.append(rounded(loss.item() / math.log(2), 3))
    return found


@contextmanager
def without_positions(model: LabModel) -> Iterator[bool]:
    """All positions have one vector within the block, so that none tells a place; false if the model has none.

    The vector is the mean of a table's, or for the Transformer the first of the source. The causal mask of GPT still
    tells how many words stand before each.
    """
    if isinstance(model.model, hf_lineage.TransformerForConditionalGeneration):
        encoder = model.model.model.encoder
        add = encoder.add_positions
        encoder.add_positions = lambda vectors, places: add(vectors, torch.zeros_like(places))
        try:
            yield True
        finally:
            del encoder.add_positions
        return
    names = ("embed_positions", "position_embeddings", "wpe")
    network = model.masked_lm if model.fills_masks else model.model.get_encoder() if model.translates else model.model
    tables = [module for name, module in network.named_modules() if name.rpartition(".")[2] in names]
    if not tables:
        yield False
        return
    [table] = tables
    saved = table.weight.detach().clone()
    with torch.no_grad():
        table.weight.copy_(saved.mean(0, keepdim=True).expand_as(saved))
    try:
        yield True
    finally:
        with torch.no_grad():
            table.weight.copy_(saved)


VIEW = View(
    "word_order",
    "Word order",
    "The order of words",
    "The same words in two orders mean different things, and most other orders mean nothing: a model that knows order "
    "finds shuffled words much less likely. Without position vectors BERT and the Transformer's encoder see a bag of "
    "words, as word2vec does, and all orders are alike.",
    "Vaswani et al. (2017), section 3.5; Devlin et al. (2019), figure 2",
    compute,
)
