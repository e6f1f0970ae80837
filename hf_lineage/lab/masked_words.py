"""View g: which tokens BERT's training hides, by what, and what the model fills in."""

from collections.abc import Sequence

import numpy as np
import torch

from hf_lineage.data.masking import Masking
from hf_lineage.data.packing import IGNORED
from hf_lineage.data.randomness import generator
from hf_lineage.lab.examples import MASKED
from hf_lineage.lab.next_words import best
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View, first_known


SEEDS = 24
GUESSES = 5


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per model a text, and per seed the chosen places: what stands there, and the model's best guesses."""
    shown = []
    for model in models:
        text = first_known(model, [*given.texts, *MASKED]) if model.fills_masks else None
        if text is not None:
            draws = [draw(model, text, seed) for seed in range(SEEDS)]
            shown.append({"name": model.name, "tokens": model.read(text).labels(), "draws": draws})
    return {"models": shown} if shown else None


@torch.no_grad()
def draw(model: LabModel, text: str, seed: int) -> dict:
    """One masking of the text: [{"place", "fate", "shown", "guesses"}], drawn as in training.

    `fate` is mask, random or kept; `shown` is how the token in its place reads.
    """
    reading = model.read(text)
    ids = np.array(reading.ids)
    masked, labels = Masking.of(model.tokenizer)(ids, generator(seed, 0, 0, "masking"))
    inputs = reading.inputs | {"input_ids": torch.from_numpy(masked)[None]}
    log_p = model.masked_lm(**inputs).logits[0].double().log_softmax(1)
    places = []
    for place in np.flatnonzero(labels != IGNORED).tolist():
        hidden = masked[place] == model.tokenizer.mask_token_id
        fate = "mask" if hidden else "kept" if masked[place] == ids[place] else "random"
        places.append(
            {
                "place": place,
                "fate": fate,
                "shown": model.continuation(int(ids[place - 1]), int(masked[place])),
                "guesses": best(model, log_p[place], int(ids[place - 1]), int(ids[place]), GUESSES),
            }
        )
    return {"seed": seed, "places": places}


VIEW = View(
    "masking",
    "Masks",
    "Masked words",
    "In training, 15 % of the tokens are to be guessed: of these 80 % become the mask, 10 % another token, and 10 % "
    "stay. Move the seed for another draw, and see what the model fills in and how sure it is.",
    "Devlin et al. (2019), section 3.1, task 1, and appendix A.1",
    compute,
)
