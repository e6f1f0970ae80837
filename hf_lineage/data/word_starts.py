"""Where words begin in a row of token ids, found by the tokenizer's own way of cutting words into pieces."""

import codecs
import json
from collections.abc import Callable

import numpy as np
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from hf_lineage.data.cjk import UNCUT


WordStarts = Callable[[np.ndarray], np.ndarray]
# replaces each byte of an incomplete character, such as one cut at the end of a span: one byte, part of no word
PART = "\x1a"
# only decoding uses this handler, and decoding errors have a start and an end
codecs.register_error(
    "hf_lineage_parts",
    lambda error: (PART * (error.end - error.start), error.end),  # type: ignore[attr-defined]
)


def word_starts(tokenizer: PreTrainedTokenizerBase) -> WordStarts:
    """A function ids [T] -> bool [T], true where a token begins a word; a row's first token always does.

    The ids of word pieces suffice: pieces that continue a word (`##ing`, `@@ing`), pieces whose word continues
    (`ing@@`), pieces that end a word (`ing</w>`). Byte-level pieces and pieces with ▁ are joined to text again, which
    is cut into words as the tokenizer cuts it. In Japanese, Thai, Khmer and other writing without blanks, what a
    tokenizer calls a word can be a whole phrase: there, as in BERT's Chinese, each piece is a word that begins with a
    character of its own.

    Raises:
        ValueError: the tokenizer's pieces do not show where words begin.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"the pieces of a {type(tokenizer).__name__} do not show its words: use a fast tokenizer")
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model, tokens = parts["model"], tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if prefix := model.get("continuing_subword_prefix"):
        special = set(tokenizer.all_special_tokens)
        continues = [
            token.startswith(prefix) and token not in special and not UNCUT.match(token, len(prefix))
            for token in tokens
        ]
        return ContinuedByMark(np.array(continues))
    begins = np.array([UNCUT.match(token) is not None for token in tokens])
    if suffix := model.get("end_of_word_suffix"):
        return EndedByMark(np.array([token.endswith(suffix) for token in tokens]), begins)
    if any(token.endswith("@@") and len(token) > 2 for token in tokens):
        return EndedByMark(np.array([not token.endswith("@@") for token in tokens]), begins)
    if model["type"] == "WordLevel":
        return EndedByMark(np.ones(len(tokens), bool), begins)
    description = json.dumps([parts["pre_tokenizer"], parts["normalizer"]], ensure_ascii=False)
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    if '"ByteLevel"' in description:
        byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        return CutAgain(pre_tokenizer, [_bytes(token, byte_of) for token in tokens])
    if "▁" in description and pre_tokenizer is not None:
        # Metaspace itself replaces blanks by ▁; otherwise the normalizer does, before words are cut
        blank = " " if '"Metaspace"' in description else "▁"
        return CutAgain(pre_tokenizer, [_bytes_of_piece(token, blank) for token in tokens])
    raise ValueError(
        f"the tokenizer ({model['type']}) has no mark of where words begin: whole words can be masked with WordPiece, "
        "byte-level pieces, pieces with ▁, @@ or </w>, and words"
    )


class ContinuedByMark:
    """For tokenizers that mark the pieces which continue a word: continues, bool [V]."""

    def __init__(self, continues: np.ndarray):
        self.continues = continues

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        begins = ~self.continues[ids]
        begins[:1] = True
        return begins


class EndedByMark:
    """For tokenizers whose pieces show that they end a word, `ends`, or that they begin one, `begins`; bool [V]."""

    def __init__(self, ends: np.ndarray, begins: np.ndarray):
        self.ends, self.begins = ends, begins

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return np.concatenate([[True], self.ends[ids[:-1]]])[: len(ids)] | self.begins[ids]


class CutAgain:
    """For byte-level pieces and pieces with ▁: joins them to text, which the pre-tokenizer cuts into words."""

    def __init__(self, pre_tokenizer: PreTokenizer, pieces: list[bytes]):
        self.pre_tokenizer, self.pieces = pre_tokenizer, pieces

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        pieces = [self.pieces[id] for id in ids.tolist()]
        text = b"".join(pieces).decode(errors="hf_lineage_parts")
        # where each character begins, in bytes
        places = np.cumsum([0, *(len(character.encode()) for character in text)])
        words = {int(places[start]) for _, (start, _) in self.pre_tokenizer.pre_tokenize_str(text)}
        words |= {int(places[match.start()]) for match in UNCUT.finditer(text)}
        begins = np.isin(np.cumsum([0, *map(len, pieces)])[:-1], list(words))
        begins[:1] = True
        return begins


def _bytes(token: str, byte_of: dict[str, int]) -> bytes:
    # added tokens are plain text
    return bytes(map(byte_of.__getitem__, token)) if all(map(byte_of.__contains__, token)) else token.encode()


def _bytes_of_piece(token: str, blank: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", blank).encode()
