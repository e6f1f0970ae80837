"""ELMo's published files: options.json with the sizes, and an hdf5 file with the weights.

The layout is that of the authors' TensorFlow program: matrices are [in, out]; `char_embed` has no row for padding; one
LSTM matrix over [x; h] holds the gates i, g, f, o; the network adds 1 to the forget bias when it runs. The softmax is
not in the file.

Every array is checked before it is read: it must have the shape that options.json gives it, and be stored
uncompressed, in one piece and in this file, so that reading never takes more memory than the file's size.
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from hf_lineage.converters.foreign_files import check_numbers, reading
from hf_lineage.files import read_text, replacing, write_json
from hf_lineage.models.configuration_elmo import ELMoConfig
from hf_lineage.models.modeling_elmo import ELMoModel


# the published options have a few hundred bytes
MAX_OPTIONS_BYTES = 1_000_000
# the published program's order of the gates, as torch's i, f, g, o
TO_TORCH = (0, 2, 1, 3)
CELL = "RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/{name}"


def from_elmo(options_file: str | Path, weight_file: str | Path) -> ELMoModel:
    """The published bidirectional language model as an `ELMoModel`, whose mix starts as the mean of its layers.

    Raises:
        ValueError: the options do not describe an ELMo model, the weights are damaged or do not fit them, or one is
            not finite (the error names which).
        OSError: a file cannot be read.
    """
    config = _read_options(Path(options_file))
    path = Path(weight_file)
    with reading(path), _hdf5().File(path, "r") as file:
        datasets = {name: _checked(path, file, name, shape) for name, shape in _shapes(config).items()}
        # reserve memory only after every array was found with its size
        model = ELMoModel(config)
        with torch.no_grad():
            for name, parameters in _parameters(model).items():
                values = datasets[name][...]
                check_numbers(path, {name: torch.from_numpy(values)})
                _set(name, parameters, values)
    return model.eval()


def to_elmo(model: ELMoModel, folder: str | Path):
    """Writes `options.json` and `lm_weights.hdf5` into `folder`; `from_elmo` gives back the same weights, bit by bit.

    A forget bias is stored minus 1, in 64 bits if 32 cannot hold the difference exactly.

    Raises:
        ValueError: token_layer is not "characters", the only one that the layout has.
    """
    config = model.config
    if config.token_layer != "characters":
        raise ValueError(
            f"token_layer is {config.token_layer!r}: the published layout holds models that read characters"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # in memory first: on a full disk the library would end the whole process
    content = io.BytesIO()
    with _hdf5().File(content, "w") as file:
        for name, parameters in _parameters(model).items():
            file.create_dataset(name, data=_get(name, parameters))
    with replacing(folder / "lm_weights.hdf5") as temporary:
        temporary.write_bytes(content.getbuffer())
    write_json(folder / "options.json", _options(config))


def from_elmo_token_vectors(path: str | Path, vocab_size: int, size: int) -> torch.Tensor:
    """The published programs' cache of token vectors [V, P] (`embedding`), in the order of their vocabulary.

    Raises:
        ValueError: the array is missing, has another shape or holds NaN, or the file is damaged.
        OSError: the file cannot be read.
    """
    path = Path(path)
    with reading(path), _hdf5().File(path, "r") as file:
        vectors = torch.from_numpy(_checked(path, file, "embedding", (vocab_size, size))[...].astype(np.float32))
        check_numbers(path, {"embedding": vectors})
        return vectors


def _read_options(path: Path) -> ELMoConfig:
    if path.stat().st_size > MAX_OPTIONS_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; options take at most {MAX_OPTIONS_BYTES}")
    try:
        options = json.loads(read_text(path))
        lstm, characters = options["lstm"], options["char_cnn"]
        return ELMoConfig(
            # the size of the softmax, which only the options of a training run have
            vocab_size=options.get("n_tokens_vocab", 1),
            num_characters=262,
            max_characters=characters["max_characters_per_token"],
            character_size=characters["embedding"]["dim"],
            cnn_filters=characters["filters"],
            cnn_act=characters.get("activation", "relu"),
            num_highway_layers=characters.get("n_highway", 0),
            hidden_size=lstm["dim"],
            projection_size=lstm["projection_dim"],
            num_hidden_layers=lstm["n_layers"],
            cell_clip=lstm.get("cell_clip"),
            projection_clip=lstm.get("proj_clip"),
            residual=lstm.get("use_skip_connections", False),
        )
    except KeyError as error:
        raise ValueError(f"{path} has no {error}: it does not describe an ELMo model of characters") from None
    except (ValueError, TypeError, AttributeError, RecursionError, StrictDataclassError) as error:
        raise ValueError(f"{path} does not describe an ELMo model: {error}") from error


def _options(config: ELMoConfig) -> dict:
    return {
        "lstm": {
            "cell_clip": config.cell_clip,
            "use_skip_connections": config.residual,
            "n_layers": config.num_hidden_layers,
            "proj_clip": config.projection_clip,
            "projection_dim": config.projection_size,
            "dim": config.hidden_size,
        },
        "char_cnn": {
            "embedding": {"dim": config.character_size},
            "filters": config.cnn_filters,
            "n_highway": config.num_highway_layers,
            "n_characters": config.num_characters,
            "max_characters_per_token": config.max_characters,
            "activation": config.cnn_act,
        },
        "n_tokens_vocab": config.vocab_size,
    }


def _shapes(config: ELMoConfig) -> dict[str, tuple[int, ...]]:
    """Every array of the file with its shape."""
    filters, size, cell = config.num_filters, config.projection_size, config.hidden_size
    shapes = {"char_embed": (config.num_characters - 1, config.character_size)}
    for i, (width, number) in enumerate(config.cnn_filters):
        shapes[f"CNN/W_cnn_{i}"] = (1, width, config.character_size, number)
        shapes[f"CNN/b_cnn_{i}"] = (number,)
    for i in range(config.num_highway_layers):
        for part in ("carry", "transform"):
            shapes[f"CNN_high_{i}/W_{part}"] = (filters, filters)
            shapes[f"CNN_high_{i}/b_{part}"] = (filters,)
    if filters != size:
        shapes |= {"CNN_proj/W_proj": (filters, size), "CNN_proj/b_proj": (size,)}
    for direction in range(2):
        for layer in range(config.num_hidden_layers):
            cell_shapes = {"W_0": (2 * size, 4 * cell), "B": (4 * cell,), "W_P_0": (cell, size)}
            for name, shape in cell_shapes.items():
                shapes[CELL.format(direction=direction, layer=layer, name=name)] = shape
    return shapes


def _parameters(model: ELMoModel) -> dict[str, tuple[nn.Parameter, ...]]:
    """Every array of the file with its parameters."""
    characters = model.token_layer
    parameters = {"char_embed": (characters.embed_characters.weight,)}
    for i, convolution in enumerate(characters.convolutions):
        parameters[f"CNN/W_cnn_{i}"] = (convolution.weight,)
        parameters[f"CNN/b_cnn_{i}"] = (convolution.bias,)
    for i, highway in enumerate(characters.highways):
        for part, linear in (("carry", highway.gate), ("transform", highway.transform)):
            parameters[f"CNN_high_{i}/W_{part}"] = (linear.weight,)
            parameters[f"CNN_high_{i}/b_{part}"] = (linear.bias,)
    if isinstance(characters.projection, nn.Linear):
        parameters["CNN_proj/W_proj"] = (characters.projection.weight,)
        parameters["CNN_proj/b_proj"] = (characters.projection.bias,)
    for direction, stack in enumerate((model.forward_layers, model.backward_layers)):
        for index, layer in enumerate(stack):
            cell = layer.cell
            held = {"W_0": (cell.weight_ih, cell.weight_hh), "B": (cell.bias,), "W_P_0": (cell.weight_hr,)}
            for name, members in held.items():
                parameters[CELL.format(direction=direction, layer=index, name=name)] = members
    return parameters


def _set(name: str, parameters: tuple[nn.Parameter, ...], values: np.ndarray):
    """Copies an array of the file into its parameters."""
    if name == "char_embed":
        parameters[0][0] = 0
        parameters[0][1:] = torch.from_numpy(values)
    elif "W_cnn" in name:
        parameters[0].copy_(torch.from_numpy(values[0].transpose(2, 1, 0)))
    elif name.endswith("/B"):
        # exact in 64 bits, then rounded as in the published program
        gates = values.astype(np.float64).reshape(4, -1)[list(TO_TORCH)]
        gates[1] += 1
        parameters[0].copy_(torch.from_numpy(gates.reshape(-1)))
    elif name.endswith("/W_0"):
        gates = values.T.reshape(4, -1, values.shape[0])[list(TO_TORCH)].reshape(-1, values.shape[0])
        weight_ih, weight_hh = parameters
        weight_ih.copy_(torch.from_numpy(gates[:, : weight_ih.shape[1]]))
        weight_hh.copy_(torch.from_numpy(gates[:, weight_ih.shape[1] :]))
    else:
        parameters[0].copy_(torch.from_numpy(values.T))


def _get(name: str, parameters: tuple[nn.Parameter, ...]) -> np.ndarray:
    """The array of the file that holds these parameters."""
    values = [parameter.detach().float().cpu().numpy() for parameter in parameters]
    if name == "char_embed":
        return values[0][1:]
    if "W_cnn" in name:
        return values[0].transpose(2, 1, 0)[None]
    if name.endswith("/B"):
        gates = values[0].reshape(4, -1).astype(np.float64)
        gates[1] -= 1
        gates = gates[list(TO_TORCH)].reshape(-1)
        rounded = gates.astype(np.float32)
        restored = np.float32(1) + rounded.reshape(4, -1)[TO_TORCH.index(1)]
        return rounded if np.array_equal(restored, values[0].reshape(4, -1)[1]) else gates
    if name.endswith("/W_0"):
        both = np.concatenate(values, axis=1)
        return both.reshape(4, -1, both.shape[1])[list(TO_TORCH)].reshape(both.shape).T
    return values[0].T


def _hdf5():
    try:
        import h5py
    except ImportError as error:
        raise ImportError("ELMo's files are hdf5, which h5py reads: pip install 'hf_lineage[elmo]'") from error
    return h5py


def _checked(path: Path, file, name: str, shape: tuple[int, ...]):
    """The array `name` of an open file, checked for its shape and for storage in the file itself."""
    h5py, group = _hdf5(), file
    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path} has no array {name} of its own")
        group = group[part]
    if not isinstance(group, h5py.Dataset):
        raise ValueError(f"{path}: {name} is a group, not an array")
    if group.shape != shape:
        raise ValueError(f"{path}: {name} has the shape {group.shape}; by the options it must be {shape}")
    if group.dtype not in (np.float32, np.float64):
        raise ValueError(f"{path}: {name} holds {group.dtype}; it must hold floating-point numbers of 32 or 64 bits")
    if group.chunks is not None or group.external or group.is_virtual or group.id.get_storage_size() != group.nbytes:
        raise ValueError(
            f"{path}: {name} is not stored as {group.nbytes} bytes in one piece; compressed arrays are not read, as "
            "a small file could fill the memory: rewrite it uncompressed"
        )
    return group
