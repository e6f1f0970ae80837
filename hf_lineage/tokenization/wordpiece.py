"""WordPiece tokenizers, trained reproducibly, for GPT, BERT and the Transformer.

The same words, as often, give the same bytes of tokenizer.json, on every run and with any number of threads. The
trainer of `tokenizers` alone does not promise that: it numbers the `##` pieces in the order of a randomly seeded hash
table, and breaks ties between merges by these numbers. Here they are numbered before it starts.

texts -> chunks between white space, counted -> words, counted -> vocabulary -> PreTrainedTokenizerFast
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_lineage.data.text_files import CorpusError
from hf_lineage.tokenization.roles import CONTINUING_PREFIX, check_at_least_one, check_boolean, special_roles, wrap
from hf_lineage.tokenization.word_counts import count_words


MAX_WORD_LENGTH = 100
# words per line of the text rebuilt for the trainer: long enough to be fast, short enough for the threads to share
WORDS_PER_LINE = 1_000


def train_wordpiece(
    texts_or_files: str | Path | Iterable,
    vocab_size: int = 30_000,
    *,
    min_frequency: int = 2,
    limit_alphabet: int = 1_000,
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
    characters and then `##characters` by code point, merged pieces by age. A word of more than 100 characters, or
    with a character beyond the alphabet, is the unk token.

    Args:
        texts_or_files: a path, a list of paths, or an iterable of strings or of lists of strings.
        vocab_size: how many tokens there may be, special tokens included.
        min_frequency: how often a pair must occur to be merged.
        limit_alphabet: how many characters to keep, the most frequent ones; ties go to the smaller code point.
        lowercase: lower-case the text.
        strip_accents: remove accents; None means "if lowercase", as in BERT.
        handle_chinese_chars: make each Chinese character a word.
        special_tokens: role -> token for unk_token (demanded), pad_token, cls_token, sep_token, mask_token, bos_token
            and eos_token; by default BERT's five. A role left out or None does not exist, except that bos_token and
            eos_token, if left out, are the cls and sep tokens.
        model_max_length: the longest input of the model, in tokens.
        show_progress: show progress bars.

    Raises:
        ValueError: an argument is out of its range, or vocab_size is too small for the alphabet.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    check_at_least_one(vocab_size=vocab_size, min_frequency=min_frequency, limit_alphabet=limit_alphabet)
    check_boolean(lowercase=lowercase, handle_chinese_chars=handle_chinese_chars)
    if strip_accents is not None:
        check_boolean(strip_accents=strip_accents)
    if model_max_length is not None:
        check_at_least_one(model_max_length=model_max_length)
    roles = special_roles(special_tokens)
    specials = list(dict.fromkeys(roles.values()))
    normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=handle_chinese_chars
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    word_counts = count_words(texts_or_files, normalizer, pre_tokenizer, specials, show_progress)
    # in an order that does not depend on the order of the texts
    word_counts = {word: count for word, count in sorted(word_counts.items()) if len(word) <= MAX_WORD_LENGTH}
    if not word_counts:
        raise CorpusError(f"the corpus has no text in words of at most {MAX_WORD_LENGTH} characters")

    alphabet = _alphabet(word_counts, limit_alphabet)
    continuing = sorted(set(chain.from_iterable(word[1:] for word in word_counts)).intersection(alphabet))
    continuing = [CONTINUING_PREFIX + character for character in continuing]
    # a special token may be a single character
    pieces = list(dict.fromkeys([*specials, *alphabet, *continuing]))
    if len(pieces) > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} is too small: special tokens and the characters of the corpus take {len(pieces)}"
            f" tokens; raise vocab_size to at least {len(pieces)} or lower limit_alphabet={limit_alphabet}"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*specials, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUING_PREFIX,
        show_progress=show_progress,
    )
    merging = Tokenizer(models.WordPiece(unk_token=roles["unk_token"]))
    merging.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    merging.train_from_iterator(_rebuilt_text(word_counts), trainer)
    ids = merging.get_vocab()
    merged = sorted(ids.keys() - set(pieces), key=ids.__getitem__)

    vocabulary = {token: index for index, token in enumerate([*pieces, *merged])}
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token=roles["unk_token"], max_input_chars_per_word=MAX_WORD_LENGTH)
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece(CONTINUING_PREFIX)
    return wrap(tokenizer, roles, model_max_length)


def _alphabet(word_counts: Mapping[str, int], limit: int) -> list[str]:
    """The `limit` most frequent characters by code point; of equally frequent ones the smaller code points."""
    counts = Counter()
    for word, count in word_counts.items():
        for character in word:
            counts[character] += count
    return sorted(sorted(counts, key=lambda character: (-counts[character], character))[:limit])


def _rebuilt_text(word_counts: Mapping[str, int]) -> Iterator[str]:
    """Every word as often as it occurs, in lines."""
    for word, count in word_counts.items():
        line = (word + " ") * min(count, WORDS_PER_LINE)
        for _ in range(count // WORDS_PER_LINE):
            yield line
        yield line[: (len(word) + 1) * (count % WORDS_PER_LINE)]
