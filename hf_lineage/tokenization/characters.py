"""Character tokenizers: one token per character, white space too, for models of characters (Sutskever et al., 2011).

texts -> characters, counted -> the most frequent ones -> PreTrainedTokenizerFast
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_lineage.tokenization.roles import (
    check_at_least_one,
    check_boolean,
    check_if_given,
    special_roles,
    special_tokens_before,
    wrap,
)
from hf_lineage.tokenization.word_counts import count_characters, most_frequent


def train_characters(
    texts_or_files: str | Path | Iterable,
    vocab_size: int | None = None,
    *,
    min_frequency: int = 1,
    lowercase: bool = False,
    special_tokens: Mapping[str, str | None] | None = None,
    model_max_length: int | None = None,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer whose tokens are single characters (code points), so that decoding restores the text exactly.

    Ids: special tokens, then characters by falling count (ties by code points). A special token in the text keeps its
    role. For the arguments see `train_wordpiece`. Without `vocab_size` every character that occurs `min_frequency`
    times is kept; the others become the unk token.

    Raises:
        ValueError: an argument is out of its range, or no character is frequent enough.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    check_at_least_one(min_frequency=min_frequency)
    check_if_given(vocab_size=vocab_size, model_max_length=model_max_length)
    check_boolean(lowercase=lowercase)
    roles = special_roles(special_tokens)
    specials = special_tokens_before("characters", roles, vocab_size)
    normalizer = normalizers.Lowercase() if lowercase else None
    counts = count_characters(texts_or_files, normalizer, specials, show_progress)
    # a special token may be a single character
    tokens = dict.fromkeys([*specials, *most_frequent(counts, min_frequency)])
    vocabulary = {token: index for index, token in enumerate(islice(tokens, vocab_size))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, roles["unk_token"]))
    if normalizer:
        tokenizer.normalizer = normalizer
    # "." would not split at line breaks
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return wrap(tokenizer, roles, model_max_length)
