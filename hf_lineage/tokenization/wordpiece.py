"""WordPiece tokenizers, trained reproducibly, for GPT, BERT and the Transformer.

The same words with the same counts give the same bytes of tokenizer.json, on every run and with any number of threads.
The trainer of `tokenizers` alone does not guarantee that: it numbers the `##` pieces in the order of a randomly seeded
hash table, and breaks ties between merges by these numbers. Here they get their numbers before it starts.

texts -> chunks between white space, counted -> words, counted -> vocabulary -> PreTrainedTokenizerFast
"""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_lineage.data.text_files import CorpusError
from hf_lineage.tokenization.alphabet import Alphabet
from hf_lineage.tokenization.pruned_counts import PrunedCounts
from hf_lineage.tokenization.roles import (
    CONTINUING_PREFIX,
    check_at_least_one,
    check_boolean,
    check_if_given,
    special_roles,
    wrap,
)
from hf_lineage.tokenization.word_counts import count_words


MAX_WORD_LENGTH = 100
# a share of the text that few web addresses stay below
MOST_IN_LONG_WORDS = 0.001
# words per line of the text for the trainer: long enough to be fast, short enough to divide among threads
WORDS_PER_LINE = 1_000
# an alphabet of up to this size is kept whole
SMALL_ALPHABET = 1_000


def train_wordpiece(
    texts_or_files: str | Path | Iterable | PrunedCounts,
    vocab_size: int = 30_000,
    *,
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    handle_chinese_chars: bool = True,
    special_tokens: Mapping[str, str | None] | None = None,
    model_max_length: int | None = None,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Trains a WordPiece tokenizer with BERT's normalisation and the template `[CLS] A [SEP] B [SEP]`.

    The vocabulary grows by merging the most frequent pair of neighbours (Sennrich et al., 2016), as in the
    `WordPieceTrainer` of `tokenizers`, not by likelihood (Schuster and Nakajima, 2012). Ids: special tokens,
    characters and then `##characters` by code point, then merged pieces in the order in which they were merged. A word
    of more than 100 characters, or with a character outside the alphabet, becomes the unk token.

    Args:
        texts_or_files: a path, a list of paths, an iterable of strings or of lists of strings, or `PrunedCounts` of
            words that these settings make (`hf_lineage.scale`).
        vocab_size: how many tokens there may be, special tokens included.
        min_frequency: how often a pair must occur to be merged.
        limit_alphabet: how many of the most frequent characters to keep (ties by code points). None keeps 1,000, or as
            many as spell 99.99 % of the words, if vocab_size has room for them.
        lowercase: lower-case the text.
        strip_accents: remove accents; None means "if lowercase", as in BERT.
        handle_chinese_chars: make each Chinese character a word.
        special_tokens: role -> token for unk_token (required), pad_token, cls_token, sep_token, mask_token, bos_token
            and eos_token; by default BERT's five. A role that is missing or None does not exist, but a missing
            bos_token or eos_token is the cls or sep token.
        model_max_length: the longest input of the model, in tokens.
        show_progress: show progress bars.

    Warns if words of the text are too long or have characters outside the alphabet, and if the vocabulary stays below
    half of vocab_size.

    Raises:
        ValueError: an argument is out of its range, or vocab_size is too small for the alphabet.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    check_at_least_one(vocab_size=vocab_size, min_frequency=min_frequency)
    if limit_alphabet is not None:
        check_at_least_one(limit_alphabet=limit_alphabet)
    check_boolean(lowercase=lowercase, handle_chinese_chars=handle_chinese_chars)
    if strip_accents is not None:
        check_boolean(strip_accents=strip_accents)
    check_if_given(model_max_length=model_max_length)
    roles = special_roles(special_tokens)
    specials = list(dict.fromkeys(roles.values()))
    normalizer, pre_tokenizer = wordpiece_rules(lowercase, strip_accents, handle_chinese_chars)
    word_counts = count_words(texts_or_files, normalizer, pre_tokenizer, specials, show_progress)
    characters = sum(len(word) * count for word, count in word_counts.items())
    # in an order independent of the order of the texts
    word_counts = {word: count for word, count in sorted(word_counts.items()) if len(word) <= MAX_WORD_LENGTH}
    if not word_counts:
        raise CorpusError(f"the corpus has no text in words of at most {MAX_WORD_LENGTH} characters")
    _warn_of_long_words(1 - sum(len(word) * count for word, count in word_counts.items()) / characters)

    alphabet = Alphabet(word_counts)
    within = set(chain.from_iterable(word[1:] for word in word_counts))
    takes = np.array([(c not in specials) + (c in within) for c in alphabet.characters])
    number = _number_of_characters(alphabet, takes, limit_alphabet, len(specials), vocab_size)
    kept, continuing = _kept(alphabet, number, within)
    # a special token may be a single character
    pieces = list(dict.fromkeys([*specials, *kept, *continuing]))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*specials, *continuing],
        initial_alphabet=kept,
        limit_alphabet=len(kept),
        continuing_subword_prefix=CONTINUING_PREFIX,
        # this bar writes blank lines to stdout where no one watches it
        show_progress=show_progress and sys.stdout.isatty(),
    )
    merging = Tokenizer(models.WordPiece(unk_token=roles["unk_token"]))
    merging.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    merging.train_from_iterator(rebuilt_text(word_counts), trainer)
    ids = merging.get_vocab()
    merged = sorted(ids.keys() - set(pieces), key=ids.__getitem__)
    if limit_alphabet is None:
        # one-character words have nothing to merge, so the remaining room is for rare characters
        room = vocab_size - len(merged) - len(specials)
        number = max(number, int(np.searchsorted(takes.cumsum(), room, side="right")))
        kept, continuing = _kept(alphabet, number, within)
        pieces = list(dict.fromkeys([*specials, *kept, *continuing]))
    _warn_of_losses(alphabet, number, vocab_size, len(pieces) + len(merged))

    vocabulary = {token: index for index, token in enumerate([*pieces, *merged])}
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token=roles["unk_token"], max_input_chars_per_word=MAX_WORD_LENGTH)
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece(CONTINUING_PREFIX)
    return wrap(tokenizer, roles, model_max_length)


def wordpiece_rules(
    lowercase: bool = True, strip_accents: bool | None = None, handle_chinese_chars: bool = True
) -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """What `train_wordpiece` does to a text before it counts its words."""
    normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=handle_chinese_chars
    )
    return normalizer, pre_tokenizers.BertPreTokenizer()


def _number_of_characters(
    alphabet: Alphabet, takes: np.ndarray, limit: int | None, specials: int, vocab_size: int
) -> int:
    room = vocab_size - specials
    number = alphabet.enough(SMALL_ALPHABET, takes, room) if limit is None else min(limit, len(takes))
    needed = int(takes[:number].sum())
    if needed > room:
        raise ValueError(
            f"vocab_size={vocab_size} is too small: special tokens and the characters of the corpus take "
            f"{specials + needed} tokens; raise vocab_size to at least {specials + needed} or lower "
            f"limit_alphabet={number}"
        )
    return number


def _kept(alphabet: Alphabet, number: int, within: set[str]) -> tuple[list[str], list[str]]:
    """Characters, then `##` pieces of those inside words, both by code point."""
    kept = sorted(alphabet.characters[:number])
    return kept, [CONTINUING_PREFIX + character for character in kept if character in within]


def _warn_of_long_words(share: float):
    if share > MOST_IN_LONG_WORDS:
        warnings.warn(
            f"{share:.2%} of the text's characters are unknown to this tokenizer: they stand in words of more than "
            f"{MAX_WORD_LENGTH} characters; put blanks between the words of writing without blanks, such as Thai, or "
            "use train_byte_pairs or train_characters",
            stacklevel=3,
        )


def _warn_of_losses(alphabet: Alphabet, number: int, vocab_size: int, size: int):
    if rare := alphabet.characters[number:]:
        warnings.warn(
            f"{1 - alphabet.shares[number]:.2%} of the words are unknown to this tokenizer: they contain one of the "
            f"{len(rare)} rarest characters of the text, such as {''.join(rare[:10])!r}; it knows the {number} most "
            "frequent ones: raise limit_alphabet or vocab_size",
            stacklevel=3,
        )
    if 2 * size < vocab_size:
        warnings.warn(
            f"the vocabulary has {size} tokens of the vocab_size={vocab_size} asked for: no other pair of pieces "
            "in the text is frequent enough; give more text, or a lower min_frequency or vocab_size",
            stacklevel=3,
        )


def rebuilt_text(word_counts: Mapping[str, int]) -> Iterator[str]:
    """Lines in which every word occurs as often as it was counted."""
    for word, count in word_counts.items():
        line = (word + " ") * min(count, WORDS_PER_LINE)
        for _ in range(count // WORDS_PER_LINE):
            yield line
        yield line[: (len(word) + 1) * (count % WORDS_PER_LINE)]
