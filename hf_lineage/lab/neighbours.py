"""View j: word vectors: neighbours, analogies and a map, computed in the page from the vectors themselves."""

import base64
from collections.abc import Sequence

import numpy as np

from hf_lineage.lab.examples import ANALOGIES, WORD_GROUPS
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View
from hf_lineage.word_vectors import WordVectors


# most bytes of one model's vectors in the page
MOST_BYTES = 700_000
MOST_WORDS = 3_000


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per word2vec its most frequent words with unit vectors, as 16-bit numbers in base64, and examples."""
    shown = []
    for model in models:
        if model.config.model_type != "lineage_word2vec":
            continue
        vectors = WordVectors.from_model(model.model, model.tokenizer)
        number = min(len(vectors), MOST_WORDS, MOST_BYTES // (2 * vectors.vectors.shape[1]))
        kept = _kept(vectors, number)
        units = vectors.unit(kept)
        known = {vectors.words[i] for i in kept}
        groups = {name: [word for word in words if word in known] for name, words in WORD_GROUPS.items()}
        shown.append(
            {
                "name": model.name,
                "vocabulary": len(vectors),
                "words": [vectors.words[i] for i in kept],
                "size": units.shape[1],
                # a cosine is off by less than 0.0005
                "vectors": base64.b64encode(np.rint(units * 32767).astype("<i2").tobytes()).decode("ascii"),
                "analogies": [question for question in ANALOGIES if known.issuperset(question)],
                "groups": {name: words for name, words in groups.items() if len(words) > 1},
            }
        )
    return {"models": shown} if shown else None


def _kept(vectors: WordVectors, number: int) -> list[int]:
    """The most frequent words, and those of the examples."""
    examples = [word for group in (*WORD_GROUPS.values(), *ANALOGIES) for word in group if word in vectors]
    ids = dict.fromkeys([*vectors.ids(*examples), *range(number)])
    return sorted(list(ids)[:number])


VIEW = View(
    "word_vectors",
    "Word vectors",
    "Neighbours and analogies",
    "Words that stand in like places have vectors that point the same way; differences of vectors can stand for a "
    "relation, as in king − man + woman. Type words of your own: the page computes with the vectors it carries.",
    "Mikolov et al. (2013a), section 4.1 and table 8; Mikolov et al. (2013b), section 4",
    compute,
)
