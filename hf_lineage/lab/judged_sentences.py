"""View k: which of two sentences is right, asked of every language model, with an n-gram model as the opponent."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from hf_lineage.lab.examples import MINIMAL_PAIRS
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View, rounded
from hf_lineage.metrics.ngrams import KneserNey


ORDER = 5
TEXTS_AT_ONCE = 200


@torch.no_grad()
def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per phenomenon its pairs, and per model the log-probability of both sentences of each pair, in bits."""
    sentences = [text for pairs in MINIMAL_PAIRS.values() for pair in pairs for text in pair]
    able = [one for one in models if all(map(one.can_judge, sentences))]
    if not able:
        return None
    rows = [{"name": model.name, "scores": scores(model, sentences)} for model in able]
    readers = [model for model in able if model.is_causal]
    if given.corpus is not None and readers:
        rows.append(ngram_row(readers[0], given, sentences))
    return {"phenomena": [{"name": name, "pairs": pairs} for name, pairs in MINIMAL_PAIRS.items()], "rows": rows}


@torch.no_grad()
def scores(model: LabModel, sentences: Sequence[str]) -> list[float]:
    """log2 p of each sentence; of a masked model the pseudo-log-likelihood, of ELMo the mean of both directions."""
    found = model.log_probabilities(sentences)
    return [rounded(score.double().sum(-1).mean().item() / math.log(2), 3) for score in found]


def ngram_row(model: LabModel, given: Given, sentences: Sequence[str]) -> dict:
    """The scores of a Kneser-Ney model, counted on the corpus in the model's tokens; each text follows an end mark."""
    end = model.tokenizer.eos_token_id

    def stream(texts):
        ids = model.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return np.concatenate([[end, *row] for row in ids])

    parts, length = [], 0
    for start in range(0, len(given.corpus), TEXTS_AT_ONCE):
        parts.append(stream(given.corpus[start : start + TEXTS_AT_ONCE]))
        length += len(parts[-1])
        if length >= given.corpus_tokens:
            break
    tokens = np.concatenate(parts)[: given.corpus_tokens]
    ngrams = KneserNey(tokens, len(model.tokenizer), ORDER)
    found = [ngrams.log_probabilities(stream([text])).sum() / math.log(2) for text in sentences]
    return {"name": f"{ORDER}-gram", "tokens": len(tokens), "scores": rounded(found, 3)}


VIEW = View(
    "minimal_pairs",
    "Judgements",
    "Which sentence is right?",
    "Two sentences differ in one point; a model is right if it finds the grammatical one more likely. Short-range "
    "agreement is easy even for n-grams; across a phrase the model must keep the subject in mind.",
    "Warstadt et al. (2020), section 3; Kneser-Ney as in Chen & Goodman (1999), section 4.1.6",
    compute,
)
