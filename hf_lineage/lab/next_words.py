"""View a: one sentence through all stations, with what each expects next at every word."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hf_lineage.lab.examples import SENTENCES
from hf_lineage.lab.opened import LabModel, Reading
from hf_lineage.lab.view import Given, View, common_text, rounded


CANDIDATES = 8


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """For each model and each word, how surprising the word is (bits) and the likeliest tokens in its place."""
    able = [model for model in models if model.is_causal or model.is_bidirectional or model.fills_masks]
    text, readers = common_text(able, [*given.texts, *SENTENCES])
    if text is None:
        return None
    rows = [row for model in readers for row in expectations(model, model.read(text))]
    return {
        "text": text,
        "words": readers[0].read(text).words,
        "rows": rows,
        "left_out": [model.name for model in able if model not in readers],
    }


@torch.no_grad()
def expectations(model: LabModel, reading: Reading) -> list[dict]:
    """The rows of one model: one, or for ELMo one per direction."""
    outputs = None if model.fills_masks else model.model(**reading.inputs)
    if model.fills_masks:
        return [
            {"name": model.name, "reads": "both sides", "words": [_masked(model, reading, w) for w in _all(reading)]}
        ]
    forward = {"name": model.name, "reads": "left side", "words": _expected(model, reading, outputs.logits, 1)}
    if not model.is_bidirectional:
        return [forward]
    backward = _expected(model, reading, outputs.backward_logits, -1)
    return [
        forward | {"name": f"{model.name} forward"},
        {"name": f"{model.name} backward", "reads": "right side", "words": backward},
    ]


def _all(reading: Reading) -> range:
    return range(len(reading.words))


def _expected(model: LabModel, reading: Reading, logits: Tensor, step: int) -> list[dict | None]:
    """Per word its surprise, and the best tokens for its first place, read in direction `step` (1 or −1).

    logits [1, T, V] at a place are of the token one step further. None for a word before which nothing is read.
    """
    log_p, ids, words = logits[0].double().log_softmax(1), reading.ids, []
    for word in _all(reading):
        places = reading.tokens_of(word)[::step]
        if not places or not 0 <= places[0] - step < len(ids):
            words.append(None)
            continue
        bits = -sum(log_p[place - step, ids[place]].item() for place in places) / math.log(2)
        before = ids[places[0] - step] if step == 1 else None
        words.append({"bits": round(bits, 3), "best": best(model, log_p[places[0] - step], before, ids[places[0]])})
    return words


def _masked(model: LabModel, reading: Reading, word: int) -> dict | None:
    """The same for a masked model: all tokens of the word are hidden."""
    places = reading.tokens_of(word)
    if not places:
        return None
    hidden = dict(reading.inputs)
    hidden["input_ids"] = hidden["input_ids"].clone()
    hidden["input_ids"][0, places] = model.tokenizer.mask_token_id
    log_p = model.masked_lm(**hidden).logits[0].double().log_softmax(1)
    ids = reading.ids
    bits = -sum(log_p[place, ids[place]].item() for place in places) / math.log(2)
    return {"bits": round(bits, 3), "best": best(model, log_p[places[0]], ids[places[0] - 1], ids[places[0]])}


def best(model: LabModel, log_p: Tensor, before: int | None, true: int, number: int = CANDIDATES) -> list[dict]:
    """The most probable tokens, as they read after the token `before`, with their probability; `true` is marked."""
    found = []
    for token in log_p.topk(min(number, len(log_p))).indices.tolist():
        last = model.tokenizer.pad_token_id or 0 if before is None else before
        shown = model.continuation(last, token)
        found.append(shown | {"p": rounded(log_p[token].exp().item(), 5)} | ({"true": True} if token == true else {}))
    return found


VIEW = View(
    "next_words",
    "Next words",
    "One sentence through all stations",
    "Each row is a model and each column a word: the darker a cell, the more the word surprised that model. Choose a "
    "word to compare, side by side, what each model expected in its place.",
    "Bengio et al. (2003), section 2; Devlin et al. (2019), section 3.1 for the masked words",
    compute,
)
