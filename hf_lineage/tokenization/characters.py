"""Character tokenizers: one token per character, white space too, for models of characters (Sutskever et al., 2011).

texts -> characters, counted -> the most frequent ones -> PreTrainedTokenizerFast
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_lineage.tokenization.roles import check_at_least_one, check_boolean, special_roles, wrap
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
    check_at_least_one(vocab_size=1 if vocab_size is None else vocab_size, min_frequency=min_frequency)
    check_boolean(lowercase=lowercase)
    if model_max_length is not None:
        check_at_least_one(model_max_length=model_max_length)
    roles = special_roles(special_tokens)
    specials = list(dict.fromkeys(roles.values()))
    if vocab_size is not None and vocab_size <= len(specials):
        raise ValueError(
            f"vocab_size={vocab_size} leaves no room for characters after {len(specials)} special tokens; raise it to "
            f"at least {len(specials) + 1}"
        )
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
