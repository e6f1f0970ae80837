"""Texts -> token ids: each distinct chunk between white space is encoded only once."""

import copy
import json
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, filterfalse, islice, pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

from hf_lineage.text_parts import LONGEST, Part, encodable_parts, in_parts
from hf_lineage.tokenization.word_level import FINAL_SIGMA


# these never look across a blank, tab or line end, and neither add nor remove one
LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase"}
LOCAL_PRE_TOKENIZERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
MODELS_OF_WORDS = {"WordPiece", "WordLevel", "BPE"}
# new words that are encoded together
WORDS_IN_TEXT = 500
# parts of long texts that are encoded together
PARTS_TOGETHER = 64
BLANKS = str.maketrans("\t\n\r", "   ")


class TextEncoder:
    """`tokenizer(texts, add_special_tokens=False)["input_ids"]` as int32 arrays, much faster for most tokenizers.

    A chunk is a stretch between white space. With BERT's normalisation, or with tokens that are whole words, the ids
    of a text are the ids of its chunks, one after the other; this holds for special tokens in the text too. Chunks
    repeat, so the encoder keeps their ids. With BERT's pre-tokenizer, it puts a new ASCII chunk together from its
    words and punctuation marks, which repeat more often. Any other tokenizer (`by_chunk` is False) encodes whole
    texts, but long ones in parts, cut where that changes no id nearby. The tokenizer's truncation and padding
    are ignored.

    `max_characters` limits the characters of the kept chunks, by default to about 100 MB of memory; beyond it the
    encoder forgets all of them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_characters: int = 4_000_000):
        if max_characters < 1:
            raise ValueError(f"max_characters is {max_characters}; it must be at least 1")
        self.by_chunk = chunks_are_independent(tokenizer)
        self.tokenizer = tokenizer
        self.max_characters = max_characters
        self._read_tokenizer()
        self._forget()

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        encode = self._encode_by_chunk if self.by_chunk else self._encode_whole
        if max(map(len, texts), default=0) <= LONGEST:
            return encode(texts)
        return list(self._encode_by_part(texts, encode))

    def _encode_whole(self, texts):
        return [np.array(ids, np.int32) for ids in self._encode(texts)]

    def _encode_by_part(self, texts, encode):
        """Encodes long texts a few parts at a time: encoding a text needs many times the memory of its ids."""
        texts, held = map(str, texts), []
        parts = in_parts(texts) if self.by_chunk else encodable_parts(texts, encode)
        while batch := list(islice(parts, PARTS_TOGETHER)):
            for part, ids in zip(batch, encode(batch), strict=True):
                held.append(ids)
                if not isinstance(part, Part):
                    yield np.concatenate(held)
                    held.clear()

    def _encode_by_chunk(self, texts):
        known, missing = self.ids.__getitem__, self.ids.missing
        # left over from an interrupted call
        missing.clear()
        encoded, incomplete = [], []
        for text in texts:
            parts = list(map(known, text.translate(BLANKS).split(" ")))
            if missing:
                incomplete.append((len(encoded), parts, missing.copy()))
                missing.clear()
                encoded.append(b"")
            else:
                encoded.append(b"".join(parts))
        if incomplete:
            self._learn(set().union(*(chunks for _, _, chunks in incomplete)))
            for index, parts, chunks in incomplete:
                place = -1
                for chunk in chunks:
                    place = parts.index(None, place + 1)
                    parts[place] = known(chunk)
                encoded[index] = b"".join(parts)
        if self.num_characters > self.max_characters:
            self._forget()
        return [np.frombuffer(ids, np.int32) for ids in encoded]

    def __getstate__(self):
        # without the kept ids, which must not be copied to other processes or change the cache key of datasets
        return {name: getattr(self, name) for name in ("by_chunk", "tokenizer", "max_characters")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._read_tokenizer()
        self._forget()

    def _read_tokenizer(self):
        self.words_of = words_of_chunks(self.tokenizer) if self.by_chunk else None
        self.begins = word_beginnings(self.tokenizer) if self.words_of else None

    def _forget(self):
        # chunk -> its ids as bytes, which join faster than lists; "" stands between two blanks in a row
        self.ids = KeptChunks({"": b""})
        self.num_characters = 0
        self.backend = None

    def _learn(self, chunks):
        joined, words = {}, []
        if self.words_of:
            joined = self.words_of(chunks)
            words = list(set(filterfalse(self.ids.__contains__, chain.from_iterable(joined.values()))))
            self._learn_words(words)
        others = [chunk for chunk in chunks if chunk not in joined]
        self._learn_one_by_one(others)
        known = self.ids.__getitem__
        self.ids.update((chunk, b"".join(map(known, its))) for chunk, its in joined.items())
        self.num_characters += sum(map(len, chain(words, others, joined)))

    def _learn_one_by_one(self, chunks):
        self.ids.update(zip(chunks, (array("i", ids).tobytes() for ids in self._encode(chunks)), strict=True))

    def _learn_words(self, words):
        if self.begins is None:
            return self._learn_one_by_one(words)
        # many words per text: an encoding per word would take most of the time
        groups = [words[start : start + WORDS_IN_TEXT] for start in range(0, len(words), WORDS_IN_TEXT)]
        for group, ids in zip(groups, self._encode([" ".join(group) for group in groups]), strict=True):
            ids = np.array(ids, np.int32)
            data, ends = ids.tobytes(), np.flatnonzero(self.begins[ids]) * ids.itemsize
            ends = [*ends.tolist(), len(data)]
            self.ids.update(zip(group, (data[a:b] for a, b in pairwise(ends)), strict=True))

    def _encode(self, texts):
        if not self.tokenizer.is_fast:
            if not texts:
                # slow tokenizers refuse an empty batch
                return []
            # verbose=False: a document may be longer than the model's longest input
            return self.tokenizer(list(texts), add_special_tokens=False, padding=False, verbose=False)["input_ids"]
        if self.backend is None:
            self.backend = copy.deepcopy(self.tokenizer.backend_tokenizer)
            self.backend.no_truncation()
            self.backend.no_padding()
            self.backend.encode_special_tokens = self.tokenizer.split_special_tokens
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]


class KeptChunks(dict):
    """Chunk -> its ids as bytes; an unknown chunk gives None and is added to `missing`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.missing = []

    def __missing__(self, chunk):
        self.missing.append(chunk)


def chunks_are_independent(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text's ids are those of its parts between white space, judged by the tokenizer's components."""
    if not tokenizer.is_fast:
        return False
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    words = [part["type"] for part in _members(parts["pre_tokenizer"], "pretokenizers")]
    return (
        all(map(_is_local, _members(parts["normalizer"], "normalizers")))
        and bool(words)
        and all(word in LOCAL_PRE_TOKENIZERS for word in words)
        and parts["model"]["type"] in MODELS_OF_WORDS
        # BPE dropout draws other merges each time
        and not parts["model"].get("dropout")
        and not any(character.isspace() for token in parts["added_tokens"] for character in token["content"])
    )


def _is_local(normalizer: dict) -> bool:
    return normalizer["type"] in LOCAL_NORMALIZERS or normalizer.get("pattern") == {"Regex": FINAL_SIGMA}


def words_of_chunks(tokenizer: PreTrainedTokenizerBase) -> Callable[[Iterable[str]], dict[str, list[str]]] | None:
    """A function that cuts chunks into words and punctuation marks; joined, their ids are the ids of the chunk.

    It skips chunks for which that might not hold. None if the tokenizer does not cut at ASCII punctuation, or an added
    token looks like a word.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = [token["content"] for token in parts["added_tokens"]]
    # a mark of each added token; chunks with that mark are skipped, since the tokenizer finds added tokens first
    marks = [re.search("[^0-9A-Za-z]", token) for token in tokens]
    if [part["type"] for part in _members(parts["pre_tokenizer"], "pretokenizers")] != ["BertPreTokenizer"] or not all(
        marks
    ):
        return None
    barred = {mark.group() for mark in marks if mark}
    allowed = "".join(re.escape(mark) for mark in map(chr, range(ord("!"), ord("~") + 1)) if mark not in barred)
    # all chunks at once, one per line: a call per chunk would take longer than the cutting
    find = re.compile(f"^[{allowed}]+$", re.MULTILINE).findall
    apart = {mark: f" {chr(mark)} " for mark in range(ord("!"), ord("~") + 1) if not chr(mark).isalnum()}

    def words_of(chunks):
        chunks = find("\n".join(chunks))
        return dict(zip(chunks, map(str.split, "\n".join(chunks).translate(apart).split("\n")), strict=False))

    return words_of


def word_beginnings(tokenizer: PreTrainedTokenizerBase) -> np.ndarray | None:
    """Which ids begin a word, bool [V]; None if the id alone does not tell."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    prefix = model.get("continuing_subword_prefix")
    if model["type"] == "BPE" or prefix == "":
        return None
    begins = np.ones(max(model["vocab"].values()) + 1, bool)
    if prefix:
        # no word begins with "##": words are letters and digits, or one mark
        begins[[id for token, id in model["vocab"].items() if token.startswith(prefix)]] = False
        if model["unk_token"] in model["vocab"]:
            begins[model["vocab"][model["unk_token"]]] = True
    return begins


def _members(part: dict | None, name: str) -> list[dict]:
    """The components of a (nested) sequence, or the single component."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [member for each in part[name] for member in _members(each, name)]
