"""Weights in safetensors, the file format that runs no code; pickles are refused, never opened."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hf_lineage.converters.foreign_files import check_numbers


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of the file by name.

    Raises:
        ValueError: it is not a whole safetensors file (it may be a pickle); the error says how to make one. Or a
            tensor holds NaN or infinity.
        OSError: it cannot be read.
    """
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}). What torch.save wrote (.pt, .pth, .bin) may run "
            "any code when loaded, and is not opened here. If you trust it, convert it to safetensors: "
            "safetensors.torch.save_file({name: tensor.clone().contiguous() for name, tensor in state_dict.items()}, "
            "'model.safetensors')"
        ) from error
    check_numbers(path, weights)
    return weights


def read_weights(weights: Mapping[str, Tensor] | str | Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a state dict or of its safetensors file, and what errors call them.

    Raises:
        ValueError: a tensor holds NaN or infinity, or as `read_safetensors`.
        OSError: the file cannot be read.
    """
    if isinstance(weights, str | Path):
        return read_safetensors(weights), str(weights)
    check_numbers("the state dict", weights)
    return dict(weights), "the state dict"
