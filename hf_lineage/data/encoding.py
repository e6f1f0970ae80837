"""Texts -> token ids, where ids alone are wanted: each different chunk between white space is encoded only once."""

import copy
import json
import re
from array import array
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from transformers import PreTrainedTokenizerBase


# these neither look beyond a blank, tab or line end, nor make or take one away
LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase"}
LOCAL_PRE_TOKENIZERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
MODELS_OF_WORDS = {"WordPiece", "WordLevel", "BPE"}
BLANKS = str.maketrans("\t\n\r", "   ")


class TextEncoder:
    """`tokenizer(texts, add_special_tokens=False)["input_ids"]`, as int32 arrays, for most tokenizers much faster.

    With BERT's normalisation, or plain words, a text's ids are those of its chunks end to end, special tokens in the
    text included, and chunks repeat: what they give is kept. With BERT's pre-tokenizer, new chunks of ASCII are put
    together from their words and marks, which repeat more. Any other tokenizer (`by_chunk` is False then) encodes
    whole texts. Truncation and padding of the tokenizer are ignored.

    `max_characters` bounds the chunks that are kept, to some 100 MB by default; beyond it the encoder starts anew.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_characters: int = 4_000_000):
        if max_characters < 1:
            raise ValueError(f"max_characters is {max_characters}; it must be at least 1")
        self.by_chunk = chunks_are_independent(tokenizer)
        self.words_of = words_of_chunks(tokenizer) if self.by_chunk else None
        self.tokenizer = tokenizer
        self.max_characters = max_characters
        self._forget()

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        if not self.by_chunk:
            return [np.array(ids, np.int32) for ids in self._encode(texts)]
        known = self.ids.__getitem__
        encoded, unknown = [], {}
        for index, text in enumerate(texts):
            chunks = text.translate(BLANKS).split(" ")
            try:
                encoded.append(b"".join(map(known, chunks)))
            except KeyError:
                encoded.append(None)
                unknown[index] = chunks
        if unknown:
            self._learn(list(set().union(*unknown.values()).difference(self.ids)))
            for index, chunks in unknown.items():
                encoded[index] = b"".join(map(known, chunks))
        if self.num_characters > self.max_characters:
            self._forget()
        return [np.frombuffer(ids, np.int32) for ids in encoded]

    def __getstate__(self):
        # what was learnt is no part of the encoder: not copied to other processes, not seen by the cache of datasets
        return {name: getattr(self, name) for name in ("by_chunk", "tokenizer", "max_characters")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.words_of = words_of_chunks(self.tokenizer) if self.by_chunk else None
        self._forget()

    def _forget(self):
        # chunk -> its ids as bytes, which join faster than lists; several blanks in a row have nothing between them
        self.ids = {"": b""}
        self.num_characters = 0
        self.backend = None

    def _learn(self, chunks):
        new, joined = set(chunks), {}
        if self.words_of:
            joined = {chunk: words for chunk in chunks if (words := self.words_of(chunk))}
            new.difference_update(joined)
            new.update(set(chain.from_iterable(joined.values())).difference(self.ids))
        new = list(new)
        self.ids.update(zip(new, (array("i", ids).tobytes() for ids in self._encode(new)), strict=True))
        known = self.ids.__getitem__
        self.ids.update((chunk, b"".join(map(known, its))) for chunk, its in joined.items())
        self.num_characters += sum(map(len, new)) + sum(map(len, joined))

    def _encode(self, texts):
        if not self.tokenizer.is_fast:
            # verbose=False: a document may be longer than the model's longest input
            return self.tokenizer(list(texts), add_special_tokens=False, padding=False, verbose=False)["input_ids"]
        if self.backend is None:
            self.backend = copy.deepcopy(self.tokenizer.backend_tokenizer)
            self.backend.no_truncation()
            self.backend.no_padding()
            self.backend.encode_special_tokens = self.tokenizer.split_special_tokens
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def chunks_are_independent(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text's ids are those of its parts between white space, read off the tokenizer's components."""
    if not tokenizer.is_fast:
        return False
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    words = [part["type"] for part in _members(parts["pre_tokenizer"], "pretokenizers")]
    return (
        all(part["type"] in LOCAL_NORMALIZERS for part in _members(parts["normalizer"], "normalizers"))
        and bool(words)
        and all(word in LOCAL_PRE_TOKENIZERS for word in words)
        and parts["model"]["type"] in MODELS_OF_WORDS
        # dropped merges are drawn anew each time
        and not parts["model"].get("dropout")
        and not any(character.isspace() for token in parts["added_tokens"] for character in token["content"])
    )


def words_of_chunks(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[str]] | None:
    """What cuts a chunk into words and marks whose ids, end to end, are its own: none for a chunk that may not be cut.

    None for a tokenizer that cuts otherwise than at the marks of ASCII, or where an added token looks like a word.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = [token["content"] for token in parts["added_tokens"]]
    # one mark of each added token, which is found before anything is cut
    marks = [re.search("[^0-9A-Za-z]", token) for token in tokens]
    if [part["type"] for part in _members(parts["pre_tokenizer"], "pretokenizers")] != ["BertPreTokenizer"] or not all(
        marks
    ):
        return None
    barred = {mark.group() for mark in marks}
    cut = re.compile("[0-9A-Za-z]+|[!-~]").findall

    def words_of(chunk):
        if chunk.isalnum() or not (chunk.isascii() and chunk.isprintable() and barred.isdisjoint(chunk)):
            return []
        return cut(chunk)

    return words_of


def _members(part: dict | None, name: str) -> list[dict]:
    """The components of a sequence, in which sequences may stand; of a single component, itself."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [member for each in part[name] for member in _members(each, name)]
