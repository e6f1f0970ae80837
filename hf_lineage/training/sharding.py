"""Stations under FSDP2: which of their modules are sharded as units, and their own class while they are saved."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


def units_to_shard(model: PreTrainedModel) -> list[str]:
    """The classes of the modules whose weights FSDP2 gathers together: those that the model names as not to split.

    Without those that hold the word vectors: accelerate makes a unit of these by itself, and fails if they are in one.
    """
    found = {}
    for module in model.modules():
        if type(module).__name__ in (model._no_split_modules or ()):
            holds_words = any(part is model.get_input_embeddings() for part in module.modules())
            found[type(module).__name__] = found.get(type(module).__name__, False) or holds_words
    return [name for name, holds_words in found.items() if not holds_words]


@contextmanager
def tied_weights_in_one_unit(model: PreTrainedModel) -> Iterator[None]:
    """Within the block accelerate shards all that is tied as one unit, together with what is in no other.

    It would make a unit of the word vectors and the output layer, and torch refuses that where more is tied to them
    (BERT's bias).
    """
    # one name: the output layer's weight, which is the word vectors
    hides = len(model._tied_weights_keys or ()) > 1
    names = ("get_input_embeddings", "get_output_embeddings") if hides else ()
    for name in names:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)


@contextmanager
def in_own_class(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model has its own class, which FSDP2 replaces by one of torch's.

    What is saved with the weights for use without hf_lineage is the code of the class.
    """
    sharded = type(model)
    # torch makes the class from FSDPModule and the model's
    is_sharded = torch.distributed.is_available() and issubclass(sharded, torch.distributed.fsdp.FSDPModule)
    if is_sharded:
        model.__class__ = sharded.__bases__[-1]
    try:
        yield
    finally:
        model.__class__ = sharded
