"""What every station does with its inputs: checks them, looks up token vectors, and asks whether fast paths may run.

A fast path gives the same result faster (dropout draws other random numbers), but a debugger cannot stop on the
paper's line. `HF_LINEAGE_PLAIN=1` in the environment turns all fast paths off, `plain_equations()` for one block.
"""

import os
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor


# the label of what is not scored, as in transformers
IGNORED = -100
# what an embedding can look up, and what a label can be
ID_TYPES = (torch.int64, torch.int32)
LABEL_TYPES = (*ID_TYPES, torch.int16, torch.int8, torch.uint8)
# in the environment, because code loaded from the Hub is a second copy of this file and must see the same switch
SWITCH = "HF_LINEAGE_PLAIN"


def fast_paths_allowed() -> bool:
    """Whether fast paths may replace the paper's equations; a compiled model keeps the first answer."""
    return os.environ.get(SWITCH, "") in ("", "0")


@contextmanager
def plain_equations():
    """Within the block all models run the paper's equations: cells step by step, attention and softmax written out.

    The switch holds for the whole process. With gradient checkpointing, call `backward` within the block too, since it
    runs layers again. A model made within the block keeps the written-out attention.
    """
    before = os.environ.get(SWITCH, "")
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        os.environ[SWITCH] = before


def attention_in_use(config) -> str | None:
    """transformers' name for a configuration's attention; without fast paths "eager", the written-out equations."""
    return config._attn_implementation_internal if os.environ.get(SWITCH, "") in ("", "0") else "eager"


def is_recorded(x: Tensor) -> bool:
    """Whether torch.compile, torch.export or a trace records what is done with `x`, to repeat it on other values."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(x, FakeTensor)


def is_exported() -> bool:
    """Whether an export or a trace records the model, whose outputs are then tensors: no caches."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def can_look(x: Tensor) -> bool:
    """Whether Python may branch on the values of `x`: not on a GPU, where that stalls every step, nor if recorded."""
    return x.device.type == "cpu" and not is_recorded(x)


def recomputes(model: nn.Module) -> bool:
    """Whether the model runs layers twice (gradient checkpointing), which would write a cache twice."""
    return getattr(model, "gradient_checkpointing", False) and model.training and torch.is_grad_enabled()


def widest_float(device: torch.device) -> torch.dtype:
    """float64, but float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def embed_inputs(
    embedding: nn.Embedding,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    padding_mask: Tensor | None = None,
    seen: int = 0,
    look_up: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Token vectors [B, T, E] of `input_ids` [B, T], or `inputs_embeds` [B, T, E] as given.

    The embedding may be wrapped in an adapter (PEFT's); `look_up` replaces it. `padding_mask` [B, seen + T] is only
    checked.

    Raises:
        ValueError: both or neither are given, the shape or dtype is wrong, an id lies outside the vocabulary or a
            vector is not finite (both seen on a CPU), or the mask as in `check_mask`.
    """
    given = input_ids if inputs_embeds is None else inputs_embeds
    if padding_mask is not None and isinstance(given, Tensor) and given.dim() > 1:
        check_mask(padding_mask, given.shape[0], seen, given.shape[1], padding_only=True)
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    # the table itself has the sizes
    is_wrapped = not hasattr(embedding, "num_embeddings")
    table = next(m for m in embedding.modules() if hasattr(m, "num_embeddings")) if is_wrapped else embedding
    if inputs_embeds is not None:
        if inputs_embeds.dim() != 3 or inputs_embeds.shape[2] != table.embedding_dim:
            raise ValueError(
                f"inputs_embeds must have shape [batch, time, {table.embedding_dim}], not {list(inputs_embeds.shape)}"
            )
        check_finite("inputs_embeds", inputs_embeds)
        return inputs_embeds
    if not isinstance(input_ids, Tensor) or input_ids.dim() != 2 or input_ids.dtype not in ID_TYPES:
        raise ValueError(
            f"input_ids must be an integer tensor (int64 or int32) of shape [batch, time], not {kind_of(input_ids)}"
        )
    try:
        return (look_up or embedding)(input_ids)
    except IndexError:
        size = table.num_embeddings
        row, column = ((input_ids < 0) | (input_ids >= size)).nonzero().tolist()[0]
        raise ValueError(
            f"input_ids[{row}, {column}] is {input_ids[row, column].item()}; ids must lie between 0 and {size - 1} "
            f"(vocab_size {size}): does the tokenizer belong to this model?"
        ) from None


def kind_of(x) -> str:
    """Type and shape of an argument, for messages."""
    return f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def check_finite(name: str, vectors: Tensor):
    """Refuses vectors that are not real numbers, and (if `can_look` allows looking) NaN and infinity.

    Raises:
        ValueError: they have another dtype, or one is not finite; the message names its place.
    """
    if not vectors.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, not {kind_of(vectors)}")
    # a sum is faster than a test of each number
    if can_look(vectors) and not vectors.detach().sum().isfinite():
        spoilt = (~vectors.isfinite()).nonzero().tolist()
        if spoilt:
            place = ", ".join(map(str, spoilt[0]))
            raise ValueError(f"{name}[{place}] is {vectors[tuple(spoilt[0])].item()}; all numbers must be finite")


def check_classes(name: str, labels, number: int | None = None):
    """Refuses labels that are not classes: they must be whole numbers, `number` of them if that is given.

    Raises:
        ValueError: they are not a tensor, have another dtype, or are more or fewer.
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype not in LABEL_TYPES:
        raise ValueError(f"{name} must be an integer tensor, each the number of a class, not {kind_of(labels)}")
    if number is not None and labels.numel() != number:
        raise ValueError(
            f"{name} must be {number}, one for each place that has an output, not {labels.numel()} "
            f"({list(labels.shape)})"
        )


def check_ids(name: str, ids: Tensor, size: int, size_name: str, ignored: int | None = None):
    """Ids of `name` must lie in [0, size), or be `ignored` (if `can_look` allows looking).

    Raises:
        ValueError: an id lies outside, or they are not whole numbers.
    """
    if ids.dtype not in LABEL_TYPES:
        raise ValueError(f"{name} must be an integer tensor, not {kind_of(ids)}")
    if can_look(ids):
        outside = (ids < 0) | (ids >= size)
        if ignored is not None:
            outside &= ids != ignored
        if outside.any():
            raise ValueError(
                f"{name} has {ids[outside][0].item()}; it must lie between 0 and {size - 1} ({size_name} {size})"
                + (f", or be {ignored} where nothing is scored" if ignored is not None else "")
            )


def check_mask(attention_mask: Tensor | None, batch: int, seen: int, length: int, *, padding_only: bool = False):
    """A mask [B, seen + T] must cover the tokens in the cache and the new ones.

    4-D masks, one value per pair of positions, pass unchecked unless the model can only skip padding.

    Raises:
        ValueError: it covers another number of rows or tokens, or is 4-D with `padding_only`.
    """
    if attention_mask is None or (attention_mask.dim() == 4 and not padding_only):
        return
    shape = list(attention_mask.shape)
    if len(shape) != 2 or shape[0] != batch:
        raise ValueError(f"attention_mask must have shape [{batch}, {seen + length}] (batch, tokens), not {shape}")
    if shape[1] != seen + length:
        raise ValueError(
            f"attention_mask covers {shape[1]} tokens, but the input has {length}"
            + (f" after {seen} in the cache: it must cover {seen + length}" if seen else "")
        )
