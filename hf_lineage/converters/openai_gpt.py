"""GPT's published weights and tokenizer: OpenAI's numpy shards, and transformers' `openai-gpt` folders.

OpenAI's folder holds `params_0.npy`, ... (joined, they are all tensors of `params_shapes.json`),
`encoder_bpe_40000.json` (token -> id) and `vocab_40000.bpe` (the merges). Both layouts store layers as [in, out], with
query, key and value in one matrix. Nothing is unpickled, and a file whose header announces more than it holds is
refused.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel, PreTrainedTokenizerFast

from hf_lineage.converters.foreign_files import check_numbers, naming
from hf_lineage.converters.safetensors_file import read_safetensors
from hf_lineage.files import read_text
from hf_lineage.models import GPTConfig, GPTForCausalLM


# the tensors of a block in the order of the shards: transformers' names, and ours
BLOCK = {
    "attn.c_attn": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attn.c_proj": ("attention.out_proj",),
    "ln_1": ("attention_norm",),
    "mlp.c_fc": ("feed_forward.up_proj",),
    "mlp.c_proj": ("feed_forward.down_proj",),
    "ln_2": ("feed_forward_norm",),
}
HEAD_SIZE = 64
# OpenAI's "gelu" is the tanh form
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}
MAX_TEXT_BYTES = 2**28

STANDARD_MARKS = {"[—―–]": "-", "…": "...", "[´‘’]": "'", "[“”]": '"'}
WORDS = (
    # runs of the same punctuation mark
    r"\n|-+|~+|!+|\"+|;+|\?+|,+|\)+|\(+|\\+|/+|\*+|\[+|\]+|\}+|\{+|\|+|_+|\++",
    # a full stop ends a word, but not within a number
    r"\.+(?!\w)|(?<![\w.])\.+",
    # single marks, but @name is one word
    r"@(?!\w)|[#$%&:<=>^`]",
    # contractions: has n't, she 's, quotes
    r"n't(?!\w)|'(?:s|m|d|re|ve|ll)(?!\w)|(?<!n)'(?!(?:s|m|d|re|ve|ll)(?!\w))",
)


@naming
def from_openai_gpt(folder: str | Path, *, num_attention_heads: int | None = None) -> GPTForCausalLM:
    """The language model of a folder in OpenAI's layout (`params_*.npy`) or transformers' (`openai-gpt`, safetensors).

    The shards do not say how many heads there are; the default is one per 64 units, as published.

    Raises:
        ValueError: files contradict each other, are cut short, or hold other data than float32 numbers.
        OSError: a file is missing or cannot be read.
    """
    folder = Path(folder)
    if (folder / "config.json").is_file():
        return _from_transformers(folder)
    arrays = _read_shards(folder)
    (num_positions, hidden_size), (vocab_size, _) = arrays[0].shape, arrays[1].shape
    if num_attention_heads is None:
        if hidden_size % HEAD_SIZE:
            raise ValueError(
                f"{folder}: hidden size {hidden_size} is not a multiple of {HEAD_SIZE}, the published size of a head: "
                "give num_attention_heads"
            )
        num_attention_heads = hidden_size // HEAD_SIZE
    config = GPTConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=(len(arrays) - 2) // (2 * len(BLOCK)),
        num_attention_heads=num_attention_heads,
        intermediate_size=arrays[8].shape[1],
        max_position_embeddings=num_positions,
    )
    names = [name for name, _ in _correspondence(config)]
    tensors = {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
    check_numbers(folder, tensors)
    return _model(folder, config, tensors)


def to_openai_gpt(model: GPTForCausalLM) -> OpenAIGPTLMHeadModel:
    """The same model as transformers' own `OpenAIGPTLMHeadModel`, with copied weights.

    Raises:
        ValueError: openai-gpt does not have its activation, its epsilon or its untied output layer.
    """
    config = model.config
    activations = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    if config.hidden_act not in activations or config.intermediate_size != 4 * config.hidden_size:
        raise ValueError(
            f"hidden_act {config.hidden_act} and intermediate_size {config.intermediate_size}: openai-gpt knows "
            f"{', '.join(activations)} and an intermediate_size of 4 x hidden_size only"
        )
    if not config.tie_word_embeddings:
        raise ValueError("tie_word_embeddings is False: openai-gpt ties its output layer to the token vectors")
    converted = OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(
            vocab_size=config.vocab_size,
            n_positions=config.max_position_embeddings,
            n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            afn=activations[config.hidden_act],
            resid_pdrop=config.dropout,
            embd_pdrop=config.embedding_dropout,
            attn_pdrop=config.attention_dropout,
            layer_norm_epsilon=config.layer_norm_eps,
            initializer_range=config.initializer_range,
        )
    )
    ours, theirs = model.model.state_dict(), converted.transformer.state_dict()
    for name, parts in _correspondence(config):
        theirs[name].copy_(_turned(name, torch.cat([ours[part] for part in parts])))
    return converted.train(model.training)


def from_openai_bpe(encoder: str | Path, merges: str | Path) -> PreTrainedTokenizerFast:
    """GPT's tokenizer from `encoder_bpe_40000.json` and `vocab_40000.bpe`: lower-cased BPE whose words end in `</w>`.

    The text is standardised as in the released code: runs of the same punctuation mark are separate words, and
    typographic quotes and dashes become plain ones. Repairing broken encodings, as ftfy does, is left to the caller.
    The text is cut into words, punctuation marks and English contractions ("has n't"), which agrees with spaCy on
    nearly all of BooksCorpus; spaCy's list of abbreviations ("Mr.") is not reproduced. A line end is a token.

    Raises:
        ValueError: a file is not of this kind: not JSON, not text, the ids are not 0, 1, 2, ..., a merge is not two
            tokens, or its result has no id.
        OSError: a file cannot be read.
    """
    vocabulary = _read_json(Path(encoder))
    if not isinstance(vocabulary, dict) or "<unk>" not in vocabulary:
        raise ValueError(f"{encoder}: must map tokens to ids, and have <unk>")
    ids = list(vocabulary.values())
    if not all(type(index) is int for index in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError(f"{encoder}: the ids of its {len(ids)} tokens must be 0 to {len(ids) - 1}, each once")
    pairs = []
    for number, line in enumerate(_read_text(Path(merges)).split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or "".join(pair) not in vocabulary or not all(part in vocabulary for part in pair):
            raise ValueError(
                f"{merges}, line {number}: {line!r:.60} is not a merge of two tokens of {encoder} into one"
            )
        pairs.append(pair)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, pairs, unk_token="<unk>", continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            *(normalizers.Replace(Regex(old), new) for old, new in STANDARD_MARKS.items()),
            normalizers.Replace(Regex(r"\s*\n\s*"), "\n"),
            normalizers.Strip(),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in WORDS),
        ]
    )
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=512,
    )


def _correspondence(config: GPTConfig) -> Iterator[tuple[str, list[str]]]:
    """transformers' name of each tensor, in the order of the shards, and our names for its parts."""
    yield "positions_embed.weight", ["embed_positions.weight"]
    yield "tokens_embed.weight", ["embed_tokens.weight"]
    for layer in range(config.num_hidden_layers):
        for theirs, ours in BLOCK.items():
            for part in ("weight", "bias"):
                yield f"h.{layer}.{theirs}.{part}", [f"blocks.{layer}.{name}.{part}" for name in ours]


def _turned(name: str, tensor: Tensor) -> Tensor:
    """[in, out] <-> [out, in], for the layers that their layout transposes."""
    return tensor.T if ".c_" in name and name.endswith("weight") else tensor


def _model(path: Path, config: GPTConfig, tensors: dict[str, Tensor]) -> GPTForCausalLM:
    for name, _ in _correspondence(config):
        if name not in tensors:
            raise ValueError(f"{path}: the tensor {name} is missing")
    with torch.device("meta"):
        model = GPTForCausalLM(config)
    expected, state = model.model.state_dict(), {}
    for name, parts in _correspondence(config):
        chunks = _turned(name, tensors[name]).chunk(len(parts))
        for part, chunk in zip(parts, chunks, strict=False):
            state[part] = chunk.contiguous()
        found, wanted = [[list(tensor.shape) for tensor in group] for group in (chunks, [expected[p] for p in parts])]
        if found != wanted:
            raise ValueError(f"{path}: the tensor {name} gives {found}; the configuration wants {wanted}")
    model.model.load_state_dict(state, assign=True)
    model.tie_weights()
    return model.eval()


def _from_transformers(folder: Path) -> GPTForCausalLM:
    settings = _read_json(folder / "config.json")
    if not isinstance(settings, dict) or settings.get("model_type") != "openai-gpt":
        raise ValueError(f"{folder}/config.json: model_type must be openai-gpt")
    theirs = OpenAIGPTConfig(**settings)
    if theirs.afn not in ACTIVATIONS:
        raise ValueError(f"{folder}/config.json: afn is {theirs.afn!r}; it must be one of {', '.join(ACTIVATIONS)}")
    config = GPTConfig(
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.n_embd,
        num_hidden_layers=theirs.n_layer,
        num_attention_heads=theirs.n_head,
        intermediate_size=4 * theirs.n_embd,
        max_position_embeddings=theirs.n_positions,
        hidden_act=ACTIVATIONS[theirs.afn],
        dropout=theirs.resid_pdrop,
        embedding_dropout=theirs.embd_pdrop,
        attention_dropout=theirs.attn_pdrop,
        layer_norm_eps=theirs.layer_norm_epsilon,
        initializer_range=theirs.initializer_range,
    )
    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; weights in pickle files (pytorch_model.bin) are not read")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in read_safetensors(path).items()}
    return _model(path, config, tensors)


def _read_shards(folder: Path) -> list[np.ndarray]:
    """All tensors: [positions, D], [tokens, D], then those of the blocks; views of one array."""
    path = folder / "params_shapes.json"
    shapes = _read_json(path)
    if not isinstance(shapes, list) or not all(
        isinstance(shape, list) and shape and all(type(size) is int and size > 0 for size in shape) for shape in shapes
    ):
        raise ValueError(f"{path}: must be a list of shapes, each a list of numbers of at least 1")
    # the layers were convolutions of width 1
    shapes = [shape[1:] if len(shape) == 3 and shape[0] == 1 else shape for shape in shapes]
    if len(shapes) < 14 or (len(shapes) - 2) % 12 or len(shapes[1]) != 2 or len(shapes[8]) != 2:
        raise ValueError(f"{path}: {len(shapes)} shapes are not two tables and blocks of 12 tensors")
    d, f = shapes[1][1], shapes[8][1]
    block = [[d, 3 * d], [3 * d], [d, d], [d], [d], [d], [d, f], [f], [f, d], [d], [d], [d]]
    expected = [[shapes[0][0], d], [shapes[1][0], d], *block * ((len(shapes) - 2) // 12)]
    if wrong := [index for index, shape in enumerate(shapes) if shape != expected[index]]:
        raise ValueError(
            f"{path}: shape {wrong[0]} is {shapes[wrong[0]]}; in this GPT it must be {expected[wrong[0]]}"
        )

    shards = []
    while (shard := folder / f"params_{len(shards)}.npy").is_file():
        shards.append(_map_shard(shard))
    sizes = [math.prod(shape) for shape in shapes]
    if not shards or sum(map(len, shards)) != sum(sizes):
        raise ValueError(
            f"{folder}: the {len(shards)} files params_0.npy, ... hold {sum(map(len, shards))} numbers, but "
            f"{path.name} declares {sum(sizes)}: one is missing"
        )
    pieces = np.split(np.concatenate(shards), np.cumsum(sizes)[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _map_shard(path: Path) -> np.ndarray:
    try:
        # mapped, so that the header cannot announce more than the file holds; numpy unpickles nothing by default
        shard = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a whole file of numbers in numpy's format: {error}") from error
    if not isinstance(shard, np.ndarray) or shard.dtype != np.float32 or shard.ndim != 1:
        raise ValueError(f"{path}: must hold float32 numbers in one dimension")
    return shard


def _read_text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are more than the {MAX_TEXT_BYTES} of such a file")
    return read_text(path)


def _read_json(path: Path):
    try:
        return json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
