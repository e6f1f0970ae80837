"""ELMo's tokenizer: words of a vocabulary, each with the bytes of its spelling."""

import copy
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_lineage.models.tokenization_elmo import ELMoTokenizer


def elmo_tokenizer(
    vocabulary: PreTrainedTokenizerFast | Iterable[str], *, max_characters_per_token: int = 50
) -> ELMoTokenizer:
    """ELMo's tokenizer over the words of a word-level tokenizer (`train_word_level`), or over a list of words.

    Every sentence stands between the marks `<S>` and `</S>`. A list of words, such as the published programs' file
    with one word per line, must hold these marks and `<UNK>`. Words should be sorted by frequency, as sampled and
    adaptive softmax expect. `char_ids` have `max_characters_per_token` entries per word.

    Raises:
        ValueError: the tokenizer's tokens are not words, a mark is missing, a word occurs twice, or
            `max_characters_per_token` is out of its range.
    """
    if not 3 <= max_characters_per_token <= 1_000:
        raise ValueError(f"max_characters_per_token is {max_characters_per_token}; it must lie between 3 and 1000")
    if isinstance(vocabulary, PreTrainedTokenizerFast):
        backend, roles = copy.deepcopy(vocabulary.backend_tokenizer), dict(vocabulary.special_tokens_map)
        if not isinstance(backend.model, models.WordLevel):
            raise ValueError(f"the tokens of a {type(backend.model).__name__} are not words: use train_word_level")
        if missing := [role for role in ("bos_token", "eos_token", "unk_token") if role not in roles]:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: train it with special_tokens that name them")
    else:
        words = list(vocabulary)
        roles = {"bos_token": "<S>", "eos_token": "</S>", "unk_token": "<UNK>"}
        ids = {word: index for index, word in enumerate(words)}
        if len(ids) < len(words):
            twice = next(word for index, word in enumerate(words) if ids[word] != index)
            raise ValueError(f"the word {twice!r} is in the vocabulary twice; keep it once")
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
