"""View f: one word in several sentences, across the layers of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_lineage.data.cjk import WITHOUT_BLANKS
from hf_lineage.inference.words_in_context import WordNotFoundError, word_layers
from hf_lineage.lab.examples import SENSES
from hf_lineage.lab.opened import LabModel, spans_of_words
from hf_lineage.lab.view import Given, View, rounded
from hf_lineage.tokenization import is_word_level


# the first word without context, and the stations that give words vectors in context
STATIONS = ("lineage_word2vec", "lineage_elmo", "lineage_gpt", "lineage_bert")


@torch.no_grad()
def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per word its sentences with their senses, and per model the products of its vectors, layer by layer."""
    words = []
    for word, senses in SENSES.items():
        sentences = [(sense, text) for sense, texts in senses.items() for text in texts]
        found = [shown for model in models if (shown := _products(model, word, [text for _, text in sentences]))]
        if found:
            words.append({"word": word, "sentences": [{"sense": s, "text": t} for s, t in sentences], "models": found})
    return {"words": words} if words else None


def _products(model: LabModel, word: str, texts: Sequence[str]) -> dict | None:
    """The cosines of the word's vectors at each layer, [N, n, n]; for ELMo also the products between layers.

    ELMo's vector is a mix of its layers, so its products follow from the products of all pairs of layers: `products`
    [N, N, n, n], divided by the mean square of the vectors.
    """
    model_type = model.config.model_type
    if model.translates or (model_type.startswith("lineage_") and model_type not in STATIONS):
        return None
    try:
        layers = torch.stack([vectors(model, text, word) for text in texts], dim=1).double()  # [N, n, D]
    except (WordNotFoundError, ValueError):
        return None
    units = layers / layers.norm(dim=2, keepdim=True)
    shown = {"name": model.name, "cosines": rounded(units @ units.transpose(1, 2))}
    if model_type == "lineage_elmo":
        scale = layers.square().sum(2).mean()
        shown["products"] = rounded(torch.einsum("ksd,ltd->klst", layers, layers) / scale, 5)
    return shown


def sense_gaps(model: LabModel) -> list[float]:
    """By layer, the mean cosine of a word's vectors in one sense less that in two senses; the mean over all words.

    Empty if the model has no vectors of words in context, or knows none of the words.
    """
    gaps = []
    for word in (compute([model], Given()) or {"words": []})["words"]:
        senses = [sentence["sense"] for sentence in word["sentences"]]
        same = torch.tensor([[one == other for other in senses] for one in senses])
        others = same & ~torch.eye(len(senses), dtype=torch.bool)
        gaps.append([float(c[others].mean() - c[~same].mean()) for c in torch.tensor(word["models"][0]["cosines"])])
    return torch.tensor(gaps).mean(0).tolist() if gaps else []


def vectors(model: LabModel, text: str, word: str) -> Tensor:
    """`word_layers` of the text as the model reads it."""
    if is_word_level(model.tokenizer):
        # in writing without blanks only the word itself is known to be one
        parts = text.split(word) if WITHOUT_BLANKS.match(word) else [text]
        text = f" {word} ".join(" ".join(part[a:b] for a, b in spans_of_words(part, True)) for part in parts)
    for spelling in (word, word.lower()):
        try:
            return word_layers(model.model.base_model, model.tokenizer, text.replace(word, spelling), spelling)
        except WordNotFoundError as error:
            unknown = error
    raise unknown


VIEW = View(
    "senses",
    "Senses",
    "One word, several sentences",
    "A word of word2vec has one vector, so all its points lie on one spot; in ELMo, GPT and BERT each sentence has "
    "its own. Move through the layers, or mix ELMo's, and see whether the two senses part.",
    "Peters et al. (2018), section 3.2 and table 4; Devlin et al. (2019), section 5.3",
    compute,
)
