"""Where words begin in a row of token ids, found by the tokenizer's own way of cutting words into pieces."""

import codecs
import json
from collections.abc import Callable

import numpy as np
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from hf_lineage.data.cjk import OTHER_WRITING, WITHOUT_BLANKS


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
    is cut into words as the tokenizer cuts it, and before each ▁. In Japanese, Thai, Khmer and other writing without
    blanks, what a tokenizer calls a word can be a whole phrase: there, as in BERT's Chinese, each character or Tibetan
    syllable begins a word, and so do letters of other writing and digits behind it. A piece belongs to the word of
    its first character.

    An unknown piece hides where its word begins or ends: with `##ing` and `@@ing` it begins a word, with `ing</w>` and
    `ing@@` it ends one, and with ▁ it counts as a letter. Other added tokens are words by themselves.

    Raises:
        ValueError: the tokenizer's pieces do not show where words begin.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"the pieces of a {type(tokenizer).__name__} do not show its words: use a fast tokenizer")
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model, tokens = parts["model"], tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    unknown = {tokenizer.unk_token, model.get("unk_token")}
    if model.get("unk_id") is not None:
        unknown.add(tokens[model["unk_id"]])
    alone = {token.content for token in tokenizer.added_tokens_decoder.values()} - unknown
    begin, end = alone, alone
    pre_tokenizer, blank = None, None
    if prefix := model.get("continuing_subword_prefix"):
        begin = {token for token in tokens if not token.startswith(prefix)} | unknown | alone
        texts = [token.removeprefix(prefix).encode() for token in tokens]
    elif suffix := model.get("end_of_word_suffix"):
        end = {token for token in tokens if token.endswith(suffix)} | unknown | alone
        texts = [token.removesuffix(suffix).encode() for token in tokens]
    elif any(token.endswith("@@") and len(token) > 2 for token in tokens):
        end = {token for token in tokens if not token.endswith("@@")} | unknown | alone
        texts = [token.removesuffix("@@").encode() for token in tokens]
    elif model["type"] == "WordLevel":
        begin = set(tokens)
        texts = [token.encode() for token in tokens]
    else:
        pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
        description = json.dumps([parts["pre_tokenizer"], parts["normalizer"]], ensure_ascii=False)
        if '"ByteLevel"' in description:
            byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
            texts = [_bytes(token, byte_of) for token in tokens]
        elif "▁" in description:
            # Metaspace itself replaces blanks by ▁; otherwise the normalizer does, before words are cut
            blank = " " if '"Metaspace"' in description else "▁"
            texts = [_bytes_of_piece(token, blank) for token in tokens]
        else:
            raise ValueError(
                f"the tokenizer ({model['type']}) has no mark of where words begin: whole words can be masked with "
                "WordPiece, byte-level pieces, pieces with ▁, @@ or </w>, and words"
            )
    # a letter, which no tokenizer cuts from those around it
    texts = [b"x" if token in unknown else text for token, text in zip(tokens, texts, strict=True)]
    begins, ends = (np.array([token in marked for token in tokens]) for marked in (begin, end))
    return Words(begins, ends, texts, pre_tokenizer, blank)


class Words:
    """The words of a row: by the marks of its pieces, by its text, and by the text's writing.

    begins, ends: bool [V], whether a piece begins or ends a word, whatever is around it; texts: the UTF-8 bytes of
    each piece; pre_tokenizer: cuts text into words, where marks do not suffice; blank: a character that begins a word.
    """

    def __init__(
        self,
        begins: np.ndarray,
        ends: np.ndarray,
        texts: list[bytes],
        pre_tokenizer: PreTokenizer | None,
        blank: str | None,
    ):
        self.begins, self.ends, self.texts = begins, ends, texts
        self.pre_tokenizer, self.blank = pre_tokenizer, blank
        by_text = pre_tokenizer is not None or blank is not None
        self.needs_text = np.array([by_text or WITHOUT_BLANKS.search(text.decode()) is not None for text in texts])

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        begins = self.begins[ids]
        begins[1:] |= self.ends[ids[:-1]]
        if self.needs_text[ids].any():
            begins |= self._in_text(ids)
        begins[:1] = True
        return begins

    def _in_text(self, ids):
        """Whether a word of the text begins at or before each piece's first byte, and behind the first of the last."""
        texts = [self.texts[id] for id in ids.tolist()]
        text = b"".join(texts).decode(errors="hf_lineage_parts")
        words = {match.start() for pattern in (WITHOUT_BLANKS, OTHER_WRITING) for match in pattern.finditer(text)}
        if self.pre_tokenizer is not None:
            # white space that is cut off belongs to the word behind it
            words |= {end for _, (_, end) in self.pre_tokenizer.pre_tokenize_str(text)}
        if self.blank is not None:
            words |= {place for place, character in enumerate(text) if character == self.blank}
        # where each character begins, in bytes
        places = np.cumsum([0, *(len(character.encode()) for character in text)])
        starts = np.cumsum([0, *map(len, texts)])[:-1]
        word_of = np.searchsorted(np.sort(places[list(words)]), starts, side="right")
        return np.diff(word_of, prepend=-1) > 0


def _bytes(token: str, byte_of: dict[str, int]) -> bytes:
    # added tokens are plain text
    return bytes(map(byte_of.__getitem__, token)) if all(map(byte_of.__contains__, token)) else token.encode()


def _bytes_of_piece(token: str, blank: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", blank).encode()
