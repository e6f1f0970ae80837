"""ELMo's characters: each word as its UTF-8 bytes between marks, and its id in a vocabulary."""

import os
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from .replaced_files import replaced_together


# bytes are 0 to 255; all are shifted by one, so that 0 is padding
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, FILL = 257, 258, 259, 260, 261


@lru_cache(maxsize=100_000)
def word_characters(word: str, length: int = 50) -> tuple[int, ...]:
    """`length` ids of a word, numbered as in Peters et al. (2018); bytes that do not fit between the marks are cut."""
    content = [byte + 1 for byte in word.encode("utf-8", "ignore")[: length - 2]]
    return (BEGIN_WORD, *content, END_WORD, *[FILL] * (length - len(content) - 2))


@lru_cache(maxsize=100)
def mark_characters(mark: int, length: int = 50) -> tuple[int, ...]:
    """`length` ids of `BEGIN_SENTENCE` or `END_SENTENCE`, which stand for words."""
    return (BEGIN_WORD, mark, END_WORD, *[FILL] * (length - 3))


def is_pair(entry, is_split_into_words: bool) -> bool:
    """Whether an entry of a batch holds two texts, as a tuple or a list (so zero-shot classification gives them)."""
    of_two = isinstance(entry, list | tuple) and len(entry) == 2
    # two words are one text
    return of_two and isinstance(entry[0], str) != is_split_into_words


class ELMoTokenizer(PreTrainedTokenizerFast):
    """A word-level tokenizer that also gives `char_ids` [T, C]: the spelling of words in or outside the vocabulary.

    A language model predicts `input_ids`, and a model with a token layer of "words" reads them. Rows of `char_ids`
    over padding are 0; `bos_token` and `eos_token` have marks instead of letters. C is `max_characters_per_token`, by
    default 50. A normalizer changes only the ids: characters are those of the text. `tokenization.elmo_tokenizer`
    makes such a tokenizer.
    """

    # not annotated: read by transformers
    model_input_names = ["input_ids", "char_ids", "attention_mask"]

    @property
    def max_characters_per_token(self) -> int:
        return self.init_kwargs.get("max_characters_per_token", 50)

    def characters_of(self, token: str) -> list[int]:
        """The row of a word or of a sentence mark, int [C]."""
        length = self.max_characters_per_token
        if token == self.bos_token:
            return list(mark_characters(BEGIN_SENTENCE, length))
        if token == self.eos_token:
            return list(mark_characters(END_SENTENCE, length))
        return list(word_characters(token, length))

    def vocabulary_characters(self) -> list[list[int]]:
        """Rows of all words of the vocabulary, [V][C], by id; input for a cache of token vectors."""
        return [self.characters_of(self.convert_ids_to_tokens(index)) for index in range(len(self))]

    def save_pretrained(self, save_directory: str | os.PathLike, *arguments, push_to_hub: bool = False, **kwargs):
        """PreTrainedTokenizerFast.save_pretrained, which leaves the older files as they were if it fails."""
        kwargs |= {"repo_id": kwargs.get("repo_id", Path(save_directory).name)} if push_to_hub else {}
        with replaced_together(save_directory) as temporary:
            files = super().save_pretrained(temporary, *arguments, push_to_hub=push_to_hub, **kwargs)
        return tuple(str(Path(save_directory) / Path(file).name) for file in files)

    def _encode_plus(self, text, text_pair=None, return_tensors=None, is_split_into_words=False, **kwargs):
        encoded = super()._encode_plus(text, text_pair, is_split_into_words=is_split_into_words, **kwargs)
        is_batch = isinstance(text, list | tuple)
        if is_split_into_words:
            is_batch = is_batch and bool(text) and isinstance(text[0], list | tuple)
        if not is_batch:
            samples = [(text, text_pair)]
        elif text_pair is not None:
            samples = list(zip(text, text_pair, strict=True))
        else:
            samples = [entry if is_pair(entry, is_split_into_words) else (entry, None) for entry in text]
        origins = encoded.get("overflow_to_sample_mapping", range(len(samples)))
        rows = [
            self._rows(encoding, samples[origin], is_split_into_words)
            for origin, encoding in zip(origins, encoded.encodings, strict=True)
        ]
        is_one = not is_batch and "overflow_to_sample_mapping" not in encoded
        encoded["char_ids"] = rows[0] if is_one else rows
        if return_tensors is None:
            return encoded
        if is_one:
            encoded = type(encoded)({name: [value] for name, value in encoded.items()}, encoded.encodings)
        return encoded.convert_to_tensors(return_tensors)

    def _rows(self, encoding, texts, is_split_into_words):
        rows = []
        members = encoding.ids, encoding.attention_mask, encoding.sequence_ids, encoding.word_ids, encoding.offsets
        for index, mask, sequence, word, (start, end) in zip(*members, strict=True):
            if not mask:
                rows.append([0] * self.max_characters_per_token)
            elif sequence is None:
                rows.append(self.characters_of(self.convert_ids_to_tokens(index)))
            else:
                source = texts[sequence][word] if is_split_into_words else texts[sequence]
                rows.append(self.characters_of(source[start:end]))
        return rows

    def _pad(self, encoded_inputs, *args, padding_side=None, **kwargs):
        encoded = super()._pad(encoded_inputs, *args, padding_side=padding_side, **kwargs)
        if "char_ids" in encoded:
            rows = [list(row) for row in encoded["char_ids"]]
            padding = [[0] * self.max_characters_per_token] * (len(encoded["input_ids"]) - len(rows))
            is_right = (padding_side or self.padding_side) == "right"
            encoded["char_ids"] = rows + padding if is_right else padding + rows
        return encoded
