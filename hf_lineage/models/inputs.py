"""What every station does with its inputs: checks them and looks up token vectors."""

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor


# the label of what is not scored, as in transformers
IGNORED = -100


def is_recorded(x: Tensor) -> bool:
    """Whether torch.compile, torch.export or a trace records what is done with `x`, to repeat it on other values."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(x, FakeTensor)


def can_look(x: Tensor) -> bool:
    """Whether Python may branch on the values of `x`: not on a GPU, where that stalls every step, nor if recorded."""
    return x.device.type == "cpu" and not is_recorded(x)


def widest_float(device: torch.device) -> torch.dtype:
    """float64, but float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def table_of(embedding: nn.Module) -> nn.Module:
    """The table of vectors itself, in which an adapter (PEFT's) may be wrapped: it has the sizes."""
    if hasattr(embedding, "num_embeddings"):
        return embedding
    return next(module for module in embedding.modules() if hasattr(module, "num_embeddings"))


def embed_inputs(embedding: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """Token vectors [B, T, E] of `input_ids` [B, T], or `inputs_embeds` [B, T, E] as given.

    Raises:
        ValueError: as `check_inputs`.
    """
    check_inputs(embedding, input_ids, inputs_embeds)
    return embedding(input_ids) if inputs_embeds is None else inputs_embeds


def check_inputs(embedding: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None):
    """Either `input_ids` [B, T] or `inputs_embeds` [B, T, E] must fit the embedding.

    Raises:
        ValueError: both or neither are given, the shape or dtype is wrong, or an id lies outside the vocabulary
            (where `can_look` allows looking).
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    table = table_of(embedding)
    if inputs_embeds is not None:
        if inputs_embeds.dim() != 3 or inputs_embeds.shape[2] != table.embedding_dim:
            raise ValueError(
                f"inputs_embeds must have shape [batch, time, {table.embedding_dim}], not {list(inputs_embeds.shape)}"
            )
        return
    if not isinstance(input_ids, Tensor) or input_ids.dim() != 2 or input_ids.is_floating_point():
        found = f"{input_ids.dtype} {list(input_ids.shape)}" if isinstance(input_ids, Tensor) else type(input_ids)
        raise ValueError(f"input_ids must be an integer tensor of shape [batch, time], not {found}")
    if can_look(input_ids) and input_ids.numel():
        outside = (input_ids < 0) | (input_ids >= table.num_embeddings)
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise ValueError(
                f"input_ids[{row}, {column}] is {input_ids[row, column].item()}; ids must lie between 0 and "
                f"{table.num_embeddings - 1} (vocab_size {table.num_embeddings}): does the tokenizer belong "
                "to this model?"
            )


def check_mask(attention_mask: Tensor | None, batch: int, seen: int, length: int, *, padding_only: bool = False):
    """A mask [B, seen + T] must cover the tokens in the cache and the new ones.

    4-D masks, one value per pair of positions, pass unchecked unless the model can only skip padding.

    Raises:
        ValueError: it covers another number of rows or tokens, or is 4-D with `padding_only`.
    """
    if attention_mask is None or (attention_mask.dim() == 4 and not padding_only):
        return
    if attention_mask.dim() != 2 or attention_mask.shape[0] != batch:
        raise ValueError(
            f"attention_mask must have shape [{batch}, {seen + length}] (batch, tokens), not "
            f"{list(attention_mask.shape)}"
        )
    if attention_mask.shape[1] != seen + length:
        raise ValueError(
            f"attention_mask covers {attention_mask.shape[1]} tokens, but the input has {length}"
            + (f" after {seen} in the cache: it must cover {seen + length}" if seen else "")
        )
