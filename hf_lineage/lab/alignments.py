"""View d: a translation as the beam grows, and which source word each of its words looks at."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from hf_lineage.inference.given_alignment import cross_attention
from hf_lineage.lab.heads import LONGEST, inputs_of, sources, target_words
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View, packed


BEAMS = 4
SHOWN = 2


class Recorder(LogitsProcessor):
    """Keeps the beams [K, t] of every step of generate(), and the log-probabilities [K, V] of their next token."""

    def __init__(self):
        self.steps: list[tuple[Tensor, Tensor]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append((input_ids.clone(), scores.clone()))
        return scores


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per model and source the beams of every step, with scores, words and attention to the source."""
    shown = []
    for model in models:
        if not model.translates:
            continue
        known = [text for text in dict.fromkeys([*given.texts, *sources(model)]) if model.knows(text)][:SHOWN]
        if known:
            shown.append({"name": model.name, "sentences": [search(model, text) for text in known]})
    return {"models": shown, "beams": BEAMS} if shown else None


@torch.no_grad()
def search(model: LabModel, text: str, beams: int = BEAMS) -> dict:
    """generate()'s beam search over one source, step by step.

    Each step has its beams, best first: the words so far, the sum of the log-probabilities of its tokens, the beam of
    the step before that it continues, and if the model has attention the weights [words, source words]. The last
    entries are generate()'s answers, with the score that ranks them.
    """
    reading = model.read(text)
    inputs = inputs_of(model, reading)
    recorder = Recorder()
    outputs = model.model.generate(
        **inputs,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=LONGEST,
        logits_processor=LogitsProcessorList([recorder]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    columns, groups = reading.groups()
    attention = _attention(model, inputs, groups)
    steps, totals = [], {tuple(recorder.steps[0][0][0].tolist()): 0.0}
    for number, (before, log_p) in enumerate(recorder.steps[:-1]):
        candidates = {
            (*row, token): (totals[row] + log_p[place, token].item(), place)
            for place, row in reversed(list(enumerate(map(tuple, before.tolist()))))
            if row in totals
            for token in {ids[-1] for ids in recorder.steps[number + 1][0].tolist()}
        }
        rows = [tuple(row) for row in recorder.steps[number + 1][0].tolist()]
        rows = [row for row in dict.fromkeys(rows) if row in candidates]
        totals = {row: candidates[row][0] for row in rows}
        steps.append([_beam(model, row, *candidates[row], attention) for row in rows])
    answers, ends = [], model.model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for ids, score in zip(outputs.sequences.tolist(), outputs.sequences_scores.tolist(), strict=True):
        # a shorter answer is filled up behind its end
        last = next((place for place, token in enumerate(ids) if place and token in ends), len(ids) - 1)
        ids = ids[: last + 1]
        answers.append(_beam(model, tuple(ids), score, None, attention))
    return {"source": text, "columns": columns, "steps": steps, "answers": answers}


def _attention(model: LabModel, inputs: dict[str, Tensor], groups: Tensor):
    """A function ids [t + 1] -> weights [t, source words] of the tokens after the first; None without attention."""

    def weights(ids: tuple[int, ...]) -> Tensor | None:
        target = torch.tensor([ids[:-1]])
        outputs = model.model(**inputs, decoder_input_ids=target, output_attentions=True)
        if not outputs.get("cross_attentions"):
            return None
        return cross_attention(outputs)[0] @ groups.T

    return weights


def _beam(model: LabModel, ids: tuple[int, ...], score: float, parent: int | None, attention) -> dict:
    words, groups = target_words(model, list(ids[1:]))
    weights = attention(ids)
    beam = {"words": words, "tokens": len(ids) - 1, "score": round(score, 4)} | (
        {} if parent is None else {"parent": parent}
    )
    if weights is not None:
        beam["weights"] = packed(groups @ weights / groups.sum(1, keepdim=True))
    return beam


VIEW = View(
    "alignments",
    "Beams",
    "A translation as the beam grows",
    "Move through the steps: the search keeps the best beginnings of a translation, each with its log-probability, "
    "and drops the others. The matrix shows which source word the model looked at for each word of the chosen one; a "
    "model without attention has none.",
    "Sutskever et al. (2014), section 3.2; Bahdanau et al. (2015), sections 3.1 and 5.2.1; Luong et al. (2015), "
    "section 3",
    compute,
)
