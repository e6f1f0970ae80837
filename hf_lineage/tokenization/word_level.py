"""Word-level tokenizers: one token per word, for NNLM, word2vec, the recurrent models and ELMo.

texts -> words, counted (`word_counts`) -> the most frequent ones -> PreTrainedTokenizerFast
"""

import copy
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_lineage.data.cjk import WITHOUT_BLANKS, are_without_blanks
from hf_lineage.tokenization.pruned_counts import PrunedCounts
from hf_lineage.tokenization.roles import (
    check_at_least_one,
    check_boolean,
    check_if_given,
    special_roles,
    special_tokens_before,
    wrap,
)
from hf_lineage.tokenization.word_counts import count_words, most_frequent


# texts that show how a data set is written
_SHOWN = 1_000
# marks, joiners and soft hyphens belong to the character before (Unicode, UAX 29, rule WB4)
SOFT = r"\p{M}\p{Cf}&&[^\x{200B}]"
DIGIT, HEBREW = r"\p{N}", r"\p{Hebrew}"
LETTER = r"[\p{L}&&[^\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]"
# these stay between letters or digits: ExtendNumLet of UAX 29, and the hyphen (where UAX 29 cuts)
BETWEEN_ALL = r"\p{Pc}'’\-‐‑"
# these stay between letters (MidLetter), between digits (MidNum), and between either (MidNumLet)
BETWEEN_LETTERS = ":·\u0387\u055f״\u2027\ufe13\ufe55："
BETWEEN_DIGITS = ",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54，；"
BETWEEN_EITHER = ".\u2018\u2024\ufe52\uff07．"


def _unless_between(marks: str, neighbours: str) -> str:
    """One of `marks` that does not stand between two `neighbours`, ignoring soft characters."""
    return rf"[{marks}](?:(?<!(?:{neighbours}|[{SOFT}])[{marks}])|(?![{SOFT}]*{neighbours}))"


# what stands between words: begins at the start, at a character outside words, or at a mark that joins nothing
PUNCTUATION = (
    rf"(?:\A(?=[^\p{{L}}\p{{N}}])"
    rf"|\x{{200B}}|[^\p{{L}}\p{{N}}\p{{M}}\p{{Cf}}{BETWEEN_ALL}{BETWEEN_LETTERS}{BETWEEN_DIGITS}{BETWEEN_EITHER}\"]"
    rf"|[{BETWEEN_ALL}](?![{SOFT}]*[\p{{L}}\p{{N}}])"
    rf"|{_unless_between(BETWEEN_LETTERS, LETTER)}"
    rf"|{_unless_between(BETWEEN_DIGITS, DIGIT)}"
    rf"|[{BETWEEN_EITHER}](?:(?<!(?:{LETTER}|[{SOFT}])[{BETWEEN_EITHER}])|(?![{SOFT}]*{LETTER}))"
    rf"(?:(?<!\p{{N}}[{BETWEEN_EITHER}])|(?!\p{{N}}))"
    rf"|{_unless_between(chr(34), HEBREW)}"
    rf")[^\p{{L}}\p{{N}}]*"
)
# a cased letter before and none after, ignoring non-letters, as in str.lower()
CASED, PASSED_OVER = r"[\p{Lu}\p{Ll}\p{Lt}]", r"[\p{M}\p{Cf}\p{Lm}'’.:·]*"
FINAL_SIGMA = rf"{CASED}{PASSED_OVER}\KΣ(?!{PASSED_OVER}{CASED})"


def is_word_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether its tokens are the words between white space, so that it reads a Chinese sentence as one word."""
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, models.WordLevel) or backend.pre_tokenizer is None:
        return False
    return len(backend.pre_tokenizer.pre_tokenize_str("你好")) == 1


def refuse_texts_without_blanks(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]):
    """Raises ValueError if the tokens are words between blanks and the first texts have no blanks between theirs."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or not is_word_level(tokenizer):
        return
    first = list(islice(texts, _SHOWN))
    if are_without_blanks(first):
        text = next(text for text in first if are_without_blanks([text]))
        raise ValueError(
            f"the tokens of this model are words between blanks, and texts such as {text[:40]!r} have none: each "
            "would be one unknown word. Pre-train it with --word_segmentation characters, after which it reads texts "
            'as they are written, or put blanks between the words: segmented(text, "rjieba") of hf_lineage.data'
        )


def train_word_level(
    texts_or_files: str | Path | Iterable | PrunedCounts,
    vocab_size: int | None = None,
    *,
    min_frequency: int = 1,
    lowercase: bool = False,
    strip_punctuation: bool = False,
    split_punctuation: bool = False,
    split_characters: bool = False,
    special_tokens: Mapping[str, str | None] | None = None,
    model_max_length: int | None = None,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer whose tokens are the words between white space, most frequent first.

    With `strip_punctuation` words end at Unicode's word boundaries (UAX 29), except that hyphens between letters or
    digits stay: "end." is end, and "can't", "3.14", "col·legi", "well-known" are words.
    With `split_punctuation` each punctuation mark is a word: "end." is end and the full stop.
    With `split_characters` each character of writing without blanks is a word, as in `segmented(text, "characters")`
    of `hf_lineage.data`: the tokenizer reads Chinese, Japanese or Thai as it is written.
    Ids: special tokens, then words by falling count (ties by code points). A special token in the text, such as the
    Penn Treebank's `<unk>`, keeps its role. For the arguments see `train_wordpiece`. Without `vocab_size` every word
    that occurs `min_frequency` times is kept. BERT's template and token_type_ids need the roles cls_token and
    sep_token.

    Raises:
        ValueError: an argument is out of its range, both strip_punctuation and split_punctuation are set, or no word
            is frequent enough.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    check_at_least_one(min_frequency=min_frequency)
    check_if_given(vocab_size=vocab_size, model_max_length=model_max_length)
    check_boolean(
        lowercase=lowercase,
        strip_punctuation=strip_punctuation,
        split_punctuation=split_punctuation,
        split_characters=split_characters,
    )
    normalizer, pre_tokenizer = word_level_rules(lowercase, strip_punctuation, split_punctuation, split_characters)
    roles = special_roles(special_tokens)
    specials = special_tokens_before("words", roles, vocab_size)
    words = most_frequent(
        count_words(texts_or_files, normalizer, pre_tokenizer, specials, show_progress), min_frequency
    )
    # lower-casing can turn a word into a special token: <UNK> in the text, <unk> the role
    tokens = dict.fromkeys([*specials, *words])
    del words
    vocabulary = {token: index for index, token in enumerate(islice(tokens, vocab_size))}
    del tokens

    tokenizer = Tokenizer(models.WordLevel({token: vocabulary[token] for token in specials}, roles["unk_token"]))
    if lowercase or strip_punctuation:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    return wrap(tokenizer, roles, model_max_length, vocabulary)


def word_level_rules(
    lowercase: bool = False,
    strip_punctuation: bool = False,
    split_punctuation: bool = False,
    split_characters: bool = False,
) -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """What `train_word_level` does to a text before it counts its words.

    Raises ValueError if both strip_punctuation and split_punctuation are set.
    """
    if strip_punctuation and split_punctuation:
        raise ValueError("strip_punctuation leaves no punctuation for split_punctuation: choose one")
    # the second also splits at white space
    pre_tokenizer = pre_tokenizers.WhitespaceSplit() if not split_punctuation else pre_tokenizers.BertPreTokenizer()
    if split_characters:
        characters = pre_tokenizers.Split(Regex(WITHOUT_BLANKS.pattern), "isolated")
        pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizer, characters])
    return word_normalizer(lowercase, strip_punctuation), pre_tokenizer


def lowercasing() -> normalizers.Normalizer:
    """Lower case as in str.lower(): Σ at the end of a word becomes ς."""
    return normalizers.Sequence([normalizers.Replace(Regex(FINAL_SIGMA), "ς"), normalizers.Lowercase()])


def word_normalizer(lowercase: bool, strip_punctuation: bool) -> normalizers.Normalizer:
    """What `train_word_level` does to a text before it looks for words."""
    strip = normalizers.Replace(Regex(PUNCTUATION), " ")
    if lowercase and not strip_punctuation:
        return lowercasing()
    return normalizers.Sequence([strip] * strip_punctuation + [lowercasing()] * lowercase)


def extend_word_level(
    tokenizer: PreTrainedTokenizerFast,
    texts_or_files: str | Path | Iterable,
    *,
    min_frequency: int = 1,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """A copy of a `train_word_level` tokenizer that also knows the words of new texts; old ids do not change.

    New words that occur at least `min_frequency` times follow the old vocabulary, most frequent first.

    Raises:
        ValueError: the tokenizer is of another kind, or min_frequency is out of its range.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    check_at_least_one(min_frequency=min_frequency)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    if not isinstance(backend.model, models.WordLevel):
        raise ValueError(f"the tokenizer's model is {type(backend.model).__name__}; only WordLevel can be extended")
    normalizer = backend.normalizer or normalizers.Sequence([])
    words = count_words(texts_or_files, normalizer, backend.pre_tokenizer, tokenizer.all_special_tokens, show_progress)
    vocabulary = backend.get_vocab()
    new = [word for word, count in words.items() if count >= min_frequency and word not in vocabulary]
    for word in sorted(new, key=lambda word: (-words[word], word)):
        vocabulary[word] = len(vocabulary)
    backend.model = models.WordLevel(vocabulary, unk_token=tokenizer.unk_token)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        **tokenizer.special_tokens_map,
    )
