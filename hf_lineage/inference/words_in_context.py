"""How a word's vector depends on its sentence: the same word in two sentences, compared at every layer of a model."""

import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.data.cjk import WITHOUT_BLANKS


class WordNotFoundError(ValueError):
    """The word is not in the text, or the model does not know it."""


@torch.no_grad()
def word_layers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, word: str) -> Tensor:
    """The vectors [layers, D] of the first `word` in `text`, token vectors first; the mean over several pieces.

    Raises:
        WordNotFoundError: the word is not in the text, or a model that reads whole words does not know it.
    """
    places = re.finditer(re.escape(word), text)
    place = next((place for place in places if word and _is_word(text, *place.span())), None)
    if place is None:
        raise WordNotFoundError(f"the word {word!r} does not occur in {text!r}")
    inputs = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    pieces = [i for i, (start, end) in enumerate(offsets) if start < min(end, place.end()) and end > place.start()]
    # ELMo reads the letters of words outside its vocabulary
    unknown = "char_ids" not in inputs and tokenizer.unk_token_id in inputs["input_ids"][0, pieces].tolist()
    if not pieces or unknown:
        raise WordNotFoundError(f"{type(model).__name__} does not know the word {word!r}")
    was_training = model.training
    model.eval()
    outputs = model(**inputs.to(model.device), output_hidden_states=True)
    model.train(was_training)
    return torch.stack([layer[0, pieces].mean(0) for layer in outputs.hidden_states])


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is not part of a longer word; in writing without blanks, whole letters may be one."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if _is_mark(after):
        return False
    return not any(_joins(a) and _joins(b) for a, b in ((before, text[start]), (text[end - 1], after)))


def _joins(character: str) -> bool:
    in_word = character.isalnum() or character == "_" or _is_mark(character)
    return in_word and not WITHOUT_BLANKS.match(character)


def _is_mark(character: str) -> bool:
    return character != "" and unicodedata.category(character).startswith("M")


def context_similarities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, word: str, sentences: Sequence[str]
) -> list[float]:
    """Cosine of the vectors of `word` in two sentences, one per layer, token vectors first, to 6 decimal places.

    It is 1.0 if the vector depends only on the word, as in word2vec (compare Peters et al., 2018, table 4).

    Raises:
        WordNotFoundError: see `word_layers`.
    """
    first, second = (word_layers(model, tokenizer, text, word).double() for text in sentences)
    first, second = (vectors / vectors.norm(dim=1, keepdim=True) for vectors in (first, second))
    # from the distance, which is exactly 0 for equal vectors; a scalar product is not exactly 1
    return [round(value, 6) for value in (1 - (first - second).square().sum(1) / 2).tolist()]
