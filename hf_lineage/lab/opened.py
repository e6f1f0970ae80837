"""Models opened for the lab, and texts as they read them: words as people write them, and the tokens of each word."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

import hf_lineage
from hf_lineage.arguments import saved_config
from hf_lineage.data.cjk import WITHOUT_BLANKS
from hf_lineage.data.word_starts import WordStarts, word_starts
from hf_lineage.hub.papers import PAPERS
from hf_lineage.metrics.likelihood import (
    continuation_log_probabilities,
    directional_log_probabilities,
    pseudo_log_probabilities,
)
from hf_lineage.models import LINEAGE, name_and_idea, station_of
from hf_lineage.tokenization import is_word_level, open_tokenizer


_ALONE = WITHOUT_BLANKS.pattern
_LETTERS = rf"(?:(?!{_ALONE})\w)+"
WORD = re.compile(rf"{_ALONE}|{_LETTERS}(?:['’-]{_LETTERS})*|[^\w\s]")
# of a text with blanks between its words, in any writing
WORD_BETWEEN_BLANKS = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
# a text with more unknown tokens is not in the model's language
MOST_UNKNOWN = 0.1


def spans_of_words(text: str, between_blanks: bool = False) -> list[tuple[int, int]]:
    """Where words and marks begin and end; in writing without blanks each character is a word.

    With `between_blanks`, a stretch of such characters is one word if the text has blanks.
    """
    pattern = WORD_BETWEEN_BLANKS if between_blanks and " " in text.strip() else WORD
    return [match.span() for match in pattern.finditer(text)]


def membership(groups: Sequence[Sequence[int]], tokens: int) -> Tensor:
    """The places of each group's tokens -> 1 where a token [column] is part of a group [row], [G, T]."""
    parts = torch.zeros(len(groups), tokens)
    for row, places in enumerate(groups):
        parts[row, places] = 1
    return parts


@dataclass(frozen=True)
class Reading:
    """A text as a model reads it: its W words, the tokenizer's tensors [1, T], and the word of each token.

    `word_of` [T] is None for special tokens around the text; `pieces` [T] are the tokens as they stand in the text.
    """

    words: list[str]
    inputs: dict[str, Tensor]
    word_of: list[int | None]
    pieces: list[str]
    unknown_share: float

    @property
    def ids(self) -> list[int]:
        return self.inputs["input_ids"][0].tolist()

    def tokens_of(self, word: int) -> list[int]:
        """The places of a word's tokens."""
        return [place for place, owner in enumerate(self.word_of) if owner == word]

    def labels(self) -> list[dict]:
        """Per token {"text"}, with "joins" if it continues the word before it, and "special" if it is not text."""
        labels = []
        for place, (piece, word) in enumerate(zip(self.pieces, self.word_of, strict=True)):
            joins = place > 0 and word is not None and word == self.word_of[place - 1]
            labels.append(
                {"text": piece} | ({"joins": True} if joins else {}) | ({"special": True} if word is None else {})
            )
        return labels

    def groups(self) -> tuple[list[str], Tensor]:
        """The words and special tokens in reading order, and 1 where a token [column] is part of one [row], [G, T]."""
        labels, rows, last = [], [], None
        for place, word in enumerate(self.word_of):
            if word is None or word != last:
                labels.append(self.pieces[place] if word is None else self.words[word])
                rows.append([])
            rows[-1].append(place)
            last = word
        return labels, membership(rows, len(self.word_of))


@dataclass(eq=False)
class LabModel:
    """A saved model with its tokenizer, and the name that the page gives it."""

    folder: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    name: str = ""

    @property
    def config(self):
        return self.model.config

    @property
    def is_causal(self) -> bool:
        """Whether it gives the probability of the next token, from the tokens on the left alone."""
        return self.model.can_generate() and not self.config.is_encoder_decoder

    @property
    def translates(self) -> bool:
        return bool(self.config.is_encoder_decoder) and self.model.can_generate()

    @property
    def fills_masks(self) -> bool:
        """Whether it was saved with an output layer for masked tokens."""
        of_masks = type(self.model).__name__.endswith(("ForMaskedLM", "ForPreTraining"))
        return of_masks and type(self.config) in AutoModelForMaskedLM._model_mapping

    @cached_property
    def masked_lm(self) -> PreTrainedModel:
        """The model with the head that gives only the scores of masked tokens."""
        if type(self.model).__name__.endswith("ForMaskedLM"):
            return self.model
        return AutoModelForMaskedLM.from_pretrained(self.folder, attn_implementation="eager").eval()

    @property
    def is_bidirectional(self) -> bool:
        """Whether it is ELMo's pair of language models."""
        return isinstance(self.model, hf_lineage.ELMoForPreTraining)

    @property
    def longest(self) -> int:
        """The most tokens that it reads."""
        limits = [getattr(self.config, "max_position_embeddings", None), self.tokenizer.model_max_length]
        return min(limit for limit in limits if limit is not None)

    @cached_property
    def starts(self) -> WordStarts:
        """Which tokens of a row begin a word; see `word_starts`."""
        return word_starts(self.tokenizer)

    def read(self, text: str) -> Reading:
        """The text as the model reads it.

        Raises:
            ValueError: the text has no word, or more tokens than the model reads.
        """
        whole_words = is_word_level(self.tokenizer)
        spans = spans_of_words(text, whole_words)
        if not spans:
            raise ValueError(f"the text {text!r} has no word: give one with letters")
        words = [text[start:end] for start, end in spans]
        if whole_words:
            # its words stand between blanks
            text = " ".join(words)
            ends = torch.tensor([len(word) + 1 for word in words]).cumsum(0).tolist()
            spans = [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]
        encoded = self.tokenizer(text, return_tensors="pt", return_offsets_mapping=True, verbose=False)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        if len(offsets) > self.longest:
            raise ValueError(f"the text has {len(offsets)} tokens, but {self.name} reads at most {self.longest}")
        begins = [start for start, _ in spans]
        # a token may begin with the blank before its word
        word_of = [bisect_right(begins, end - 1) - 1 if end > start else None for start, end in offsets]
        ids = encoded["input_ids"][0].tolist()
        read = [place for place, word in enumerate(word_of) if word is not None]
        unknown = sum(ids[place] == self.tokenizer.unk_token_id for place in read)
        # ELMo reads the letters of unknown words
        share = 0.0 if "char_ids" in encoded else unknown / max(len(read), 1)
        names = self.tokenizer.convert_ids_to_tokens(ids)
        pieces = [text[a:b].strip() if b > a else name for (a, b), name in zip(offsets, names, strict=True)]
        return Reading(words, {name: encoded[name] for name in encoded}, word_of, pieces, share)

    def knows(self, text: str) -> bool:
        """Whether it can read the whole text, and nearly all of its tokens are known."""
        try:
            return self.read(text).unknown_share <= MOST_UNKNOWN
        except ValueError:
            return False

    def can_judge(self, text: str) -> bool:
        """Whether it gives a probability of the text, nearly all of whose tokens it knows."""
        if not (self.is_causal or self.fills_masks or self.is_bidirectional) or not self.knows(text):
            return False
        # ELMo reads the letters of a word that it cannot expect
        ids = self.read(text).ids
        return ids.count(self.tokenizer.unk_token_id) <= MOST_UNKNOWN * len(ids)

    def log_probabilities(self, texts: Sequence[str]) -> list[Tensor]:
        """Natural log-probability of each token [T] of each text; of a masked model given all other tokens.

        ELMo's has two rows: from the left without the first token, and from the right without the last, [2, T − 1].
        """
        if self.is_causal:
            pairs = [("", text) for text in texts]
            return continuation_log_probabilities(self.model, self.tokenizer, pairs, show_progress=False)
        if self.is_bidirectional:
            both = directional_log_probabilities(self.model, self.tokenizer, list(texts), show_progress=False)
            return [torch.stack(directions) for directions in both]
        return pseudo_log_probabilities(self.masked_lm, self.tokenizer, list(texts), show_progress=False)

    def continuation(self, last: int, token: int) -> dict:
        """How a token reads after another one: {"text"}, and "joins" if it continues the word."""
        if token in self.tokenizer.all_special_ids:
            return {"text": self.tokenizer.convert_ids_to_tokens(token), "special": True}
        before = self.tokenizer.decode([last])
        both = self.tokenizer.decode([last, token])
        text = both[len(before) :] if both.startswith(before) else self.tokenizer.decode([token])
        joins = not self.starts(torch.tensor([last, token]).numpy())[1]
        return {"text": text.strip() or self.tokenizer.convert_ids_to_tokens(token)} | (
            {"joins": True} if joins else {}
        )

    def card(self) -> dict:
        """What the page says about the model."""
        model_type = self.config.model_type
        station = station_of(model_type)
        return {
            "name": self.name,
            "folder": self.folder,
            "class": type(self.model).__name__,
            "station": type(self.config).__name__ if station is None else name_and_idea(station)[0],
            "paper": PAPERS.get(model_type),
            "parameters": self.model.num_parameters(),
        }


def order_in_history(model: LabModel) -> int:
    station = station_of(model.config.model_type)
    return len(LINEAGE) if station is None else LINEAGE.index(station)


def open_models(folders: Sequence[str | Path]) -> list[LabModel]:
    """Opens saved models with the heads they were saved with, in the order of history, each with a name of its own.

    Raises:
        ValueError: a folder has no model or no tokenizer; the error names it.
    """
    models = [_open(str(folder)) for folder in folders]
    models.sort(key=order_in_history)
    plain = [short_name(one.config.model_type) for one in models]
    for one, name in zip(models, plain, strict=True):
        one.name = name if plain.count(name) == 1 else f"{name} ({Path(one.folder).name})"
    names = [one.name for one in models]
    for one, name, shown in zip(models, plain, names, strict=True):
        if names.count(shown) > 1:
            one.name = f"{name} ({one.folder})"
    return models


def short_name(model_type: str) -> str:
    """`lineage_lstm` -> LSTM, the name in the page."""
    station = station_of(model_type)
    if station is None:
        return model_type
    name = station.__name__.removesuffix("Config")
    return {"Word2Vec": "word2vec", "RNNSearch": "RNNsearch"}.get(name, name)


def _open(folder: str) -> LabModel:
    config = saved_config(folder, "MODEL")
    [head] = (config.architectures or ["AutoModel"])[:1]
    kind = getattr(hf_lineage, head, None) or getattr(transformers, head, AutoModel)
    try:
        tokenizer = open_tokenizer(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"MODEL is {folder}: it has no tokenizer; save one there too ({error})") from error
    # only the eager implementation of attention returns its weights
    return LabModel(folder, kind.from_pretrained(folder, attn_implementation="eager").eval(), tokenizer)
