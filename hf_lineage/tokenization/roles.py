"""Special tokens and their roles: [CLS] and [SEP] around texts, end marks, prompts and translations."""

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast

from hf_lineage.files import write_text
from hf_lineage.tokenization.spacing import blanks_decoder, cuts_marks_off, spacing_decoder


BERT_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROLES = (*BERT_SPECIAL_TOKENS, "bos_token", "eos_token")
CONTINUING_PREFIX = "##"


def causal_tokenizer(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str] | None = None
) -> PreTrainedTokenizerFast:
    """A copy for causal language models, which read documents as `<eos> text <eos> text ...`.

    A prompt starts with the end mark of the document before it and ends with its own last token; BERT's template would
    end it with [SEP], which closes the text. Batches are padded on the left, as generate() needs. Every word is
    decoded with the blank before it, so that a continuation can be appended to its prompt. If the tokenizer cuts words
    at punctuation, as BERT's does, `texts` teach it where blanks belong; without `texts` it sets them as in English.
    Characters are decoded as they are. Text ids do not change.

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
    # characters need no blanks before them: their decoder is a Fuse
    is_fused = isinstance(backend.decoder, decoders.Fuse)
    if isinstance(backend.model, models.WordPiece | models.WordLevel) and not is_fused:
        backend.decoder = spacing_decoder(backend, texts, at_start=True)
    elif backend.decoder is not None and backend.decoder.__getstate__() == blanks_decoder(False).__getstate__():
        backend.decoder = blanks_decoder(at_start=True)
    # of the plain class: a BertTokenizer would be loaded with BERT's template again
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        # a causal model has no segments, and generate() refuses unknown inputs
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=tokenizer.model_max_length,
        padding_side="left",
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map | {"bos_token": eos},
    )


def translation_tokenizer(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str] | None = None
) -> PreTrainedTokenizerFast:
    """A copy for encoder-decoders, which read and write `text <eos>`; the decoder starts from bos_token.

    Batches are padded on the right. Text ids do not change. A tokenizer that cuts words at punctuation or between
    Chinese characters, as BERT's does, forgets where blanks stood; it learns from `texts` of the target language where
    they belong. A tokenizer of `train_byte_pairs` forgets nothing.

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
    if texts is not None and cuts_marks_off(backend):
        backend.decoder = spacing_decoder(backend, texts, at_start=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=tokenizer.model_max_length,
        padding_side="right",
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def check_at_least_one(**arguments):
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")


def check_if_given(**arguments):
    """`check_at_least_one` of the arguments that are not None."""
    check_at_least_one(**{name: value for name, value in arguments.items() if value is not None})


def special_tokens_before(units: str, roles: dict[str, str], vocab_size: int | None) -> list[str]:
    """The special tokens of `roles`, each once, in a vocabulary that has room for `units` after them.

    Raises:
        ValueError: it has no room.
    """
    specials = list(dict.fromkeys(roles.values()))
    if vocab_size is not None and vocab_size <= len(specials):
        raise ValueError(
            f"vocab_size={vocab_size} leaves no room for {units} after {len(specials)} special tokens; raise it to at "
            f"least {len(specials) + 1}"
        )
    return specials


def check_boolean(**arguments):
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; it must be True or False")


def special_roles(special_tokens: Mapping[str, str | None] | None) -> dict[str, str]:
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


def wrap(
    tokenizer: Tokenizer,
    roles: dict[str, str],
    model_max_length: int | None,
    vocabulary: dict[str, int] | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer for transformers. A WordLevel tokenizer takes its vocabulary from `vocabulary`, which is then empty.

    The vocabulary goes through a file, so that memory holds it once: transformers would copy a tokenizer.
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
        write_text(path, json.dumps(content))
        vocabulary.clear()
        return PreTrainedTokenizerFast(tokenizer_file=str(path), **fields)
