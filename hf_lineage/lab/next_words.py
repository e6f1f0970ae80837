"""View a: one sentence through all stations, with what each expects at every word; also words of translations."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import hf_lineage
from hf_lineage.lab.examples import SENTENCES
from hf_lineage.lab.heads import LONGEST, inputs_of, sources, target_words
from hf_lineage.lab.opened import LabModel, Reading
from hf_lineage.lab.view import Given, View, common_text, first_known, rounded


CANDIDATES = 8
# words on each side from which word2vec guesses the one between them, its usual window
WINDOW = 5


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """For each model and each word, how surprising the word is (bits) and the likeliest tokens in its place.

    An encoder-decoder has the words of its own translation.
    """
    able = [model for model in models if model.is_causal or model.is_bidirectional or model.fills_masks]
    able += [model for model in models if is_word2vec(model)]
    text, readers = common_text(able, [*given.texts, *SENTENCES])
    translations = [
        translation(model, source)
        for model in models
        if model.translates and (source := first_known(model, [*given.texts, *sources(model)])) is not None
    ]
    if text is None and not translations:
        return None
    rows = [row for model in models if model in readers for row in expectations(model, model.read(text))]
    return {
        "text": text,
        "words": readers[0].read(text).words if readers else [],
        "rows": rows,
        "left_out": [model.name for model in able if model not in readers],
        "translations": translations,
    }


def is_word2vec(model: LabModel) -> bool:
    """Whether it is word2vec with its second matrix, which scores words from those around them."""
    return isinstance(model.model, hf_lineage.Word2VecForPreTraining)


@torch.no_grad()
def expectations(model: LabModel, reading: Reading) -> list[dict]:
    """The rows of one model: one, or for ELMo one per direction."""
    if is_word2vec(model):
        return [{"name": model.name, "reads": "words around it", "words": _from_window(model, reading)}]
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
        before = ids[places[0] - step] if step == 1 else None
        at = [place - step for place in places]
        words.append(_guessed(model, log_p[at], [ids[place] for place in places], before))
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
    return _guessed(model, log_p[places], [ids[place] for place in places], ids[places[0] - 1])


def _from_window(model: LabModel, reading: Reading) -> list[dict | None]:
    """Per word a softmax over word2vec's scores, given the known words around it; None for an unknown word."""
    ids, unknown = reading.ids, model.tokenizer.unk_token_id
    places = [place for place, token in enumerate(ids) if reading.word_of[place] is not None and token != unknown]
    words: list[dict | None] = [None] * len(reading.words)
    for place in places:
        around = [ids[other] for other in places if 0 < abs(other - place) <= WINDOW]
        if around:
            scores = model.model(torch.tensor([around])).logits[0].double()
            # marks such as that of padding stand in no text
            scores[model.tokenizer.all_special_ids] = -torch.inf
            log_p = scores.log_softmax(0)
            words[reading.word_of[place]] = _guessed(model, log_p[None], [ids[place]], None)
    return words


@torch.no_grad()
def translation(model: LabModel, source: str) -> dict:
    """The likeliest words of a translation, one after the other, and what the decoder expected in place of each."""
    inputs = inputs_of(model, model.read(source))
    written = model.model.generate(**inputs, num_beams=1, max_new_tokens=LONGEST)
    ids = written[0].tolist()
    log_p = model.model(**inputs, decoder_input_ids=written[:, :-1]).logits[0].double().log_softmax(1)  # [T, V]
    labels, groups = target_words(model, ids[1:])
    words = []
    for group in groups:
        first, *_ = places = group.nonzero()[:, 0].tolist()
        words.append(_guessed(model, log_p[places], [ids[place + 1] for place in places], ids[first]))
    return {"name": model.name, "source": source, "words": labels, "row": words}


def _guessed(model: LabModel, log_p: Tensor, tokens: Sequence[int], before: int | None) -> dict:
    """The bits of a word's tokens under log_p [tokens, V], and the best ones in place of the first."""
    bits = -sum(log_p[place, token].item() for place, token in enumerate(tokens)) / math.log(2)
    return {"bits": round(bits, 3), "best": best(model, log_p[0], before, tokens[0])}


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
    "word to compare, side by side, what each model expected in its place; encoder-decoders show it for the "
    "translation that they write.",
    "Bengio et al. (2003), section 2; Mikolov et al. (2013a), section 3.1; Sutskever et al. (2014), section 3.2; "
    "Devlin et al. (2019), section 3.1",
    compute,
)
