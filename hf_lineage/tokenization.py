"""Tokenizers of the lineage, trained reproducibly: WordPiece (GPT, BERT) and whole words (NNLM, word2vec, LSTM).

The same words, as often, give the same bytes of tokenizer.json, on every run and with any number of threads. The
trainer of `tokenizers` alone does not promise that: it numbers the `##` pieces in the order of a randomly seeded hash
table, and breaks ties between merges by these numbers. Here they are numbered before it starts.

texts -> chunks between white space, counted -> words, counted -> vocabulary -> PreTrainedTokenizerFast
"""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hf_lineage.data.corpus import CorpusError
from hf_lineage.models.tokenization_elmo import ELMoTokenizer
from hf_lineage.word_counts import count_words


BERT_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROLES = (*BERT_SPECIAL_TOKENS, "bos_token", "eos_token")
CONTINUING_PREFIX = "##"
MAX_WORD_LENGTH = 100
# words per line of the text rebuilt for the trainer: long enough to be fast, short enough for the threads to share
WORDS_PER_LINE = 1_000
# to be left out of words; apostrophe, hyphen and underscore stay between letters or digits
PUNCTUATION = r"[^\p{L}\p{N}\p{M}_'’-]|(?<![\p{L}\p{N}\p{M}])[_'’-]+|[_'’-]+(?![\p{L}\p{N}\p{M}])"


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
    _check_at_least_one(vocab_size=vocab_size, min_frequency=min_frequency, limit_alphabet=limit_alphabet)
    _check_boolean(lowercase=lowercase, handle_chinese_chars=handle_chinese_chars)
    if strip_accents is not None:
        _check_boolean(strip_accents=strip_accents)
    if model_max_length is not None:
        _check_at_least_one(model_max_length=model_max_length)
    roles = _special_roles(special_tokens)
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
    merged = sorted(ids.keys() - set(pieces), key=ids.get)

    vocabulary = {token: index for index, token in enumerate([*pieces, *merged])}
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token=roles["unk_token"], max_input_chars_per_word=MAX_WORD_LENGTH)
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece(CONTINUING_PREFIX)
    return _wrap(tokenizer, roles, model_max_length)


def train_word_level(
    texts_or_files: str | Path | Iterable,
    vocab_size: int | None = None,
    *,
    min_frequency: int = 1,
    lowercase: bool = False,
    strip_punctuation: bool = False,
    split_punctuation: bool = False,
    special_tokens: Mapping[str, str | None] | None = None,
    model_max_length: int | None = None,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer whose tokens are the words between white space, most frequent first.

    With `strip_punctuation` only letters, digits, marks, and `_'’-` between them are left in a word: "end." is end.
    With `split_punctuation` each punctuation mark is a word by itself: "end." is end and the full stop.
    Ids: special tokens, then words by falling count (ties by code points). A special token that also stands in the
    text, such as the Penn Treebank's `<unk>`, is that special token. For the arguments see `train_wordpiece`; without
    `vocab_size` every word that occurs `min_frequency` times is kept. BERT's template and token_type_ids come with
    the roles cls_token and sep_token only.

    Raises:
        ValueError: an argument is out of its range, punctuation is to be both stripped and split, or no word is
            frequent enough.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    _check_at_least_one(vocab_size=1 if vocab_size is None else vocab_size, min_frequency=min_frequency)
    _check_boolean(lowercase=lowercase, strip_punctuation=strip_punctuation, split_punctuation=split_punctuation)
    if strip_punctuation and split_punctuation:
        raise ValueError("strip_punctuation leaves no punctuation for split_punctuation: choose one")
    if model_max_length is not None:
        _check_at_least_one(model_max_length=model_max_length)
    roles = _special_roles(special_tokens)
    specials = list(dict.fromkeys(roles.values()))
    if vocab_size is not None and vocab_size <= len(specials):
        raise ValueError(
            f"vocab_size={vocab_size} leaves no room for words beside {len(specials)} special tokens; raise it to at "
            f"least {len(specials) + 1}"
        )
    normalizer = word_normalizer(lowercase, strip_punctuation)
    # the second splits at white space too
    pre_tokenizer = pre_tokenizers.WhitespaceSplit() if not split_punctuation else pre_tokenizers.BertPreTokenizer()
    words = _frequent_words(
        count_words(texts_or_files, normalizer, pre_tokenizer, specials, show_progress), min_frequency
    )
    # lower-casing can make a special token of a word: <UNK> in the text, <unk> the role
    tokens = dict.fromkeys([*specials, *words])
    del words
    vocabulary = {token: index for index, token in enumerate(islice(tokens, vocab_size))}
    del tokens

    tokenizer = Tokenizer(models.WordLevel({token: vocabulary[token] for token in specials}, roles["unk_token"]))
    if lowercase or strip_punctuation:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    return _wrap(tokenizer, roles, model_max_length, vocabulary)


def _frequent_words(word_counts: Mapping[str, int], min_frequency: int) -> list[str]:
    """Words that occur `min_frequency` times, most frequent first (ties by code points)."""
    words = sorted(word for word, count in word_counts.items() if count >= min_frequency)
    if not words:
        most_frequent = max(word_counts, key=word_counts.get)
        raise ValueError(
            f"min_frequency={min_frequency} leaves no word: the most frequent one, {most_frequent!r}, occurs "
            f"{word_counts[most_frequent]} times; lower it to at most that"
        )
    # ties stay in order
    words.sort(key=word_counts.get, reverse=True)
    return words


def word_normalizer(lowercase: bool, strip_punctuation: bool) -> normalizers.Normalizer:
    """What `train_word_level` does to a text before it looks for words."""
    strip = normalizers.Replace(Regex(PUNCTUATION), " ")
    if lowercase and not strip_punctuation:
        return normalizers.Lowercase()
    return normalizers.Sequence([strip] * strip_punctuation + [normalizers.Lowercase()] * lowercase)


def extend_word_level(
    tokenizer: PreTrainedTokenizerFast,
    texts_or_files: str | Path | Iterable,
    *,
    min_frequency: int = 1,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """A copy of a `train_word_level` tokenizer that also knows the words of new texts: old ids stay as they are.

    Words that occur `min_frequency` times and are not in the vocabulary come after it, most frequent first.

    Raises:
        ValueError: the tokenizer is of another kind, or min_frequency is out of its range.
        CorpusError: the corpus has no text, or holds something that is not text.
        FileNotFoundError: a file is missing.
    """
    _check_at_least_one(min_frequency=min_frequency)
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


def causal_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A copy for causal language models, which read documents as `<eos> text <eos> text ...`.

    A prompt starts with the end mark of the document before it and ends with its own last token: BERT's template
    would end it with [SEP], after which there is nothing left to say. Batches are padded on the left, where
    generate() wants it. Every word is decoded with the blank before it, so that a continuation can be appended to its
    prompt. Text ids stay as they are.

    Raises:
        ValueError: the tokenizer has no eos_token.
    """
    if tokenizer.eos_token is None:
        raise ValueError('the tokenizer has no eos_token to mark the end of a document: set tokenizer.eos_token = "…"')
    eos = tokenizer.eos_token
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{eos} $A", pair=f"{eos} $A $B", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    if isinstance(backend.model, models.WordPiece | models.WordLevel):
        backend.decoder = _decoder_of_continuations(backend.model)
    # a new object of the plain class: a BertTokenizer would come back from disk with BERT's template
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        # a causal model has no segments, and generate() refuses inputs that its model does not know
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=tokenizer.model_max_length,
        padding_side="left",
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map | {"bos_token": eos},
    )


def translation_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A copy for encoder-decoders, which read and write `text <eos>`; the decoder starts from bos_token.

    Batches are padded on the right. Text ids stay as they are.

    Raises:
        ValueError: the tokenizer has no eos_token, bos_token or pad_token.
    """
    for role in ("eos_token", "bos_token", "pad_token"):
        if getattr(tokenizer, role) is None:
            raise ValueError(f'the tokenizer has no {role}, which translation needs: set tokenizer.{role} = "…"')
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    eos = tokenizer.eos_token
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=tokenizer.model_max_length,
        padding_side="right",
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def elmo_tokenizer(
    vocabulary: PreTrainedTokenizerFast | Iterable[str], *, max_characters_per_token: int = 50
) -> ELMoTokenizer:
    """ELMo's tokenizer over the words of a word-level tokenizer (`train_word_level`), or over a list of words.

    Every sentence stands between the marks `<S>` and `</S>`; a list of words, such as the published programs' file of
    one word a line, holds them already, and `<UNK>`. Words should stand in order of their frequency, as sampled and
    adaptive softmax expect. `char_ids` have `max_characters_per_token` entries a word.

    Raises:
        ValueError: the tokenizer's tokens are not words, a mark is missing, a word stands twice, or there is no room
            for a letter.
    """
    if not 3 <= max_characters_per_token <= 1_000:
        raise ValueError(f"max_characters_per_token is {max_characters_per_token}; it must lie between 3 and 1000")
    if isinstance(vocabulary, PreTrainedTokenizerFast):
        backend, roles = copy.deepcopy(vocabulary.backend_tokenizer), dict(vocabulary.special_tokens_map)
        if not isinstance(backend.model, models.WordLevel):
            raise ValueError(f"the tokens of a {type(backend.model).__name__} are no words: use train_word_level")
        if missing := [role for role in ("bos_token", "eos_token", "unk_token") if role not in roles]:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: train it with special_tokens that name them")
    else:
        words = list(vocabulary)
        roles = {"bos_token": "<S>", "eos_token": "</S>", "unk_token": "<UNK>"}
        ids = {word: index for index, word in enumerate(words)}
        if len(ids) < len(words):
            twice = next(word for index, word in enumerate(words) if ids[word] != index)
            raise ValueError(f"the word {twice!r} stands twice in the vocabulary")
        if missing := [mark for mark in roles.values() if mark not in ids]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        backend = Tokenizer(models.WordLevel(ids, unk_token=roles["unk_token"]))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bos, eos = roles["bos_token"], roles["eos_token"]
    # padding needs an id, though nothing reads it
    roles.setdefault("pad_token", eos)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {bos} $B {eos}",
        special_tokens=[(mark, backend.token_to_id(mark)) for mark in (bos, eos)],
    )
    return ELMoTokenizer(
        tokenizer_object=backend,
        model_input_names=ELMoTokenizer.model_input_names,
        max_characters_per_token=max_characters_per_token,
        **roles,
    )


def _decoder_of_continuations(model: models.Model) -> decoders.Decoder:
    """Blank before each word but not before `##` pieces and closing punctuation, at the start of the text too."""
    if isinstance(model, models.WordLevel):
        return decoders.Sequence([decoders.Replace(Regex("^"), " "), decoders.Fuse()])
    return decoders.Sequence(
        [
            decoders.Replace(Regex(f"^(?!{CONTINUING_PREFIX})"), " "),
            decoders.Replace(Regex(f"^{CONTINUING_PREFIX}"), ""),
            *(decoders.Replace(f" {mark}", mark) for mark in ".,;:!?)%"),
            decoders.Fuse(),
        ]
    )


def _check_at_least_one(**arguments):
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")


def _check_boolean(**arguments):
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; it must be True or False")


def _special_roles(special_tokens: Mapping[str, str | None] | None) -> dict[str, str]:
    if not isinstance(special_tokens, Mapping | None):
        raise ValueError(f"special_tokens is {special_tokens!r}; it must map roles to tokens: {BERT_SPECIAL_TOKENS}")
    roles = dict(BERT_SPECIAL_TOKENS if special_tokens is None else special_tokens)
    if unknown := roles.keys() - set(ROLES):
        raise ValueError(f"special_tokens has unknown roles {sorted(unknown)}; there are {', '.join(ROLES)}")
    for name, stand_in in (("bos_token", "cls_token"), ("eos_token", "sep_token")):
        roles.setdefault(name, roles.get(stand_in))
    roles = {name: token for name, token in roles.items() if token is not None}
    for name, token in roles.items():
        if not isinstance(token, str) or not token or any(character.isspace() for character in token):
            raise ValueError(f"special_tokens[{name!r}] is {token!r}; a token is text without white space")
    if "unk_token" not in roles:
        raise ValueError('special_tokens has no unk_token; name one, such as {"unk_token": "[UNK]"}')
    return roles


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


def _wrap(
    tokenizer: Tokenizer,
    roles: dict[str, str],
    model_max_length: int | None,
    vocabulary: dict[str, int] | None = None,
) -> PreTrainedTokenizerFast:
    """What transformers works with; a `vocabulary`, which is emptied, takes the place of a WordLevel tokenizer's own.

    It goes through a file, so that it is in memory once: of a tokenizer transformers makes a copy.
    """
    input_names = ["input_ids", "attention_mask"]
    if "cls_token" in roles and "sep_token" in roles:
        cls, sep = roles["cls_token"], roles["sep_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
        )
        input_names.insert(1, "token_type_ids")
    limits = {} if model_max_length is None else {"model_max_length": model_max_length}
    fields = {"model_input_names": input_names, **roles, **limits}
    if vocabulary is None:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **fields)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        content = json.loads(tokenizer.to_str())
        content["model"]["vocab"] = vocabulary
        path.write_text(json.dumps(content), encoding="utf-8")
        vocabulary.clear()
        return PreTrainedTokenizerFast(tokenizer_file=str(path), **fields)
