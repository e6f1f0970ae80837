"""View h: how BERT's input of two sentences is built, and whether it finds that the second follows the first."""

from collections.abc import Sequence

import torch

from hf_lineage.data.sentences import split_sentences
from hf_lineage.lab.examples import PASSAGES
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View, rounded


PAIRS = 5


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per model with the head, pairs that follow each other and pairs that do not, with the model's answer."""
    shown = []
    for model in models:
        if type(model.model).__name__.lower() not in ("bertforpretraining", "bertfornextsentenceprediction"):
            continue
        rows = [pair(model, *one) for one in pairs(model, given.texts)]
        if rows:
            shown.append({"name": model.name, "pairs": rows})
    return {"models": shown} if shown else None


def pairs(model: LabModel, texts: Sequence[str]) -> list[tuple[str, str, bool]]:
    """(first, second, whether it follows): the user's texts in their order, else sentences of the passages."""
    for passage in ([*texts] if len(texts) > 1 else None), *map(split_sentences, PASSAGES):
        known = [sentence for sentence in passage or [] if model.knows(sentence)]
        if len(known) > 2:
            number = min(PAIRS, len(known) - 1)
            middle = len(known) // 2
            following = [(known[i], known[i + 1], True) for i in range(number)]
            others = [known[(i + middle) % len(known)] for i in range(number)]
            return [*following, *((known[i], other, False) for i, other in enumerate(others) if other != known[i])]
    return []


@torch.no_grad()
def pair(model: LabModel, first: str, second: str, follows: bool) -> dict:
    """The tokens of a pair with their segments, and the probability that the second sentence follows."""
    encoded = model.tokenizer(first, second, return_tensors="pt", truncation=True, max_length=model.longest)
    ids = encoded["input_ids"][0].tolist()
    outputs = model.model(**encoded)
    scores = outputs.seq_relationship_logits if "seq_relationship_logits" in outputs else outputs.logits
    # [CLS] A [SEP], then B [SEP]
    tokens = [*model.read(first).labels(), *model.read(second).labels()[1:]][: len(ids)]
    return {
        "first": first,
        "second": second,
        "follows": follows,
        "tokens": tokens,
        "segments": encoded["token_type_ids"][0].tolist(),
        # class 0: the second follows
        "p": rounded(scores[0].double().softmax(0)[0].item(), 5),
    }


VIEW = View(
    "sentence_pairs",
    "Pairs",
    "Two sentences in one input",
    "The two sentences stand between [CLS] and [SEP], and each token's vector is the sum of its own, its segment's "
    "and its position's. From the vector of [CLS] the model answers whether the second sentence follows the first; "
    "below are its answers for neighbours and for strangers.",
    "Devlin et al. (2019), section 3.1, task 2, and figure 2",
    compute,
)
