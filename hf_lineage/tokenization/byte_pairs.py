"""Byte-pair encoding whose decoding restores the text exactly, for translation and generation.

A blank is a character like any other, shown as ▁, and begins the word after it (sentencepiece; Kudo and Richardson,
2018). A rare character is spelled in its UTF-8 bytes. So nothing is unknown and nothing is lost, in any script.

texts -> words with the ▁ before them, counted -> characters, pairs merged (Sennrich et al., 2016) -> tokenizer
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_lineage.data.text_files import CorpusError
from hf_lineage.tokenization.alphabet import Alphabet
from hf_lineage.tokenization.pruned_counts import PrunedCounts
from hf_lineage.tokenization.roles import (
    check_at_least_one,
    check_boolean,
    check_if_given,
    special_roles,
    wrap,
)
from hf_lineage.tokenization.spacing import IDEOGRAPHS, VISIBLE_BLANK, blanks_decoder
from hf_lineage.tokenization.word_counts import count_words
from hf_lineage.tokenization.word_level import lowercasing
from hf_lineage.tokenization.wordpiece import MAX_WORD_LENGTH, rebuilt_text


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# an ideograph; letters, digits or marks, with the blank before them; a blank without one of these after it
WORDS = (
    rf"[{IDEOGRAPHS}]|{VISIBLE_BLANK}?(?:(?![{IDEOGRAPHS}])[\p{{L}}\p{{M}}\p{{Cf}}])+|{VISIBLE_BLANK}?\p{{N}}+"
    rf"|{VISIBLE_BLANK}?[^\p{{L}}\p{{M}}\p{{Cf}}\p{{N}}\s{VISIBLE_BLANK}]+|{VISIBLE_BLANK}"
)


def train_byte_pairs(
    texts_or_files: str | Path | Iterable | PrunedCounts,
    vocab_size: int = 30_000,
    *,
    min_frequency: int = 2,
    lowercase: bool = False,
    special_tokens: Mapping[str, str | None] | None = None,
    model_max_length: int | None = None,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer whose `decode` restores every text (lower-cased if `lowercase`), but turns ▁ into a blank.

    Punctuation, numbers and each Chinese character are separate from words. Ids: special tokens, the 256 bytes, the
    characters that spell 99.99 % of the words (by code point), then merged pieces in the order in which they were
    merged. For the arguments and the template see `train_wordpiece`. The unk token exists, but no text contains it.

    Raises:
        ValueError: an argument is out of its range, or vocab_size is too small for the bytes and characters.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    check_at_least_one(vocab_size=vocab_size, min_frequency=min_frequency)
    check_boolean(lowercase=lowercase)
    check_if_given(model_max_length=model_max_length)
    roles = special_roles(special_tokens)
    specials = list(dict.fromkeys(roles.values()))
    normalizer, pre_tokenizer = byte_pairs_rules(lowercase)
    word_counts = count_words(texts_or_files, normalizer, pre_tokenizer, specials, show_progress)
    word_counts = {word: count for word, count in sorted(word_counts.items()) if len(word) <= MAX_WORD_LENGTH}
    if not word_counts:
        raise CorpusError(f"the corpus has no text in words of at most {MAX_WORD_LENGTH} characters")

    alphabet = Alphabet(word_counts)
    first = list(dict.fromkeys([*specials, *BYTES]))
    number = alphabet.enough(1, np.ones(len(alphabet.characters), int), vocab_size - len(first))
    if len(first) + number > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} is too small: special tokens, 256 bytes and {number} characters of the corpus "
            f"need {len(first) + number}"
        )
    vocabulary, merges = _merged(word_counts, first, sorted(alphabet.characters[:number]), vocab_size, min_frequency)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=roles["unk_token"], byte_fallback=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = blanks_decoder(at_start=False)
    return wrap(tokenizer, roles, model_max_length)


def byte_pairs_rules(lowercase: bool = False) -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """What `train_byte_pairs` does to a text before it counts its words."""
    # not Metaspace, which would lose a blank at the beginning of a text
    marked = [normalizers.Prepend(VISIBLE_BLANK), normalizers.Replace(" ", VISIBLE_BLANK)]
    normalizer = normalizers.Sequence([*([lowercasing()] if lowercase else []), *marked])
    return normalizer, pre_tokenizers.Split(Regex(WORDS), "isolated")


def _merged(
    word_counts: Mapping[str, int], first: list[str], alphabet: list[str], vocab_size: int, min_frequency: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token -> id, and the pairs to merge, oldest first; the ids that break ties are fixed before the trainer starts.

    Words with a character outside the alphabet take no part: their bytes are not merged.
    """
    known = re.compile(f"[{re.escape(''.join(alphabet))}]+")
    words = {word: count for word, count in word_counts.items() if known.fullmatch(word)}
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*first, *(character for character in alphabet if character not in first)],
        limit_alphabet=0,
        show_progress=False,
    )
    merging = Tokenizer(models.BPE())
    merging.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    merging.train_from_iterator(rebuilt_text(words), trainer)
    model = json.loads(merging.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]
