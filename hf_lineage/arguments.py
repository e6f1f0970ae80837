"""Arguments of the recipes: flags override the YAML file, which overrides the defaults."""

import argparse
import dataclasses
import difflib
import inspect
import json
import re
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from hf_lineage.files import CorpusError, read_text


def parse(*dataclass_types, argv: list[str] | None = None) -> tuple:
    """`recipe.py [config.yaml] [--key value ...]` -> one object of each dataclass.

    Keys of the file are fields of the dataclasses. A field that holds a dict is a mapping in the file and JSON on the
    command line. Exits with status 2 and a message, as argparse does, for an unknown key or flag, a value of the
    wrong type, a missing argument, or a file that is not a YAML mapping.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    hints = {}
    for dataclass_type in dataclass_types:
        types = get_type_hints(dataclass_type)
        hints |= {item.name: types[item.name] for item in dataclasses.fields(dataclass_type) if item.init}
    # an abbreviated flag would be an unknown key that is accepted
    parser = HfArgumentParser(
        dataclass_types, allow_abbrev=False, usage="%(prog)s [config.yaml] [--key value ...]    (-h lists the keys)"
    )
    settings = {}
    if argv and not argv[0].startswith("-"):
        path = Path(argv.pop(0))
        try:
            settings = _read_settings(path, hints)
        except ValueError as error:
            parser.error(str(error))
    parser.set_defaults(**settings)
    for action in parser._actions:
        if action.dest in settings:
            action.required = False
        if dict in _options(hints.get(action.dest)):
            action.type = _mapping if str not in _options(hints[action.dest]) else _mapping_or_text
    *objects, unknown = parser.parse_args_into_dataclasses(
        argv, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)} (a YAML file must come first)")
    return tuple(objects)


@dataclass
class ModelArguments:
    """Which model: a new one of `model_type` or of a saved configuration, or a saved model.

    A saved model uses the tokenizer in its folder unless `tokenizer_name` is given.

    Raises:
        ValueError: not exactly one of the three is given, or config_overrides is given with a saved model.
    """

    model_type: str | None = field(default=None, metadata={"help": "A station, such as lineage_lstm."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "A checkpoint to continue from."})
    config_name: str | None = field(
        default=None, metadata={"help": "A saved configuration (folder or Hub name) for a new model."}
    )
    config_overrides: dict | None = field(
        default=None, metadata={"help": "Fields of the new model's configuration (JSON on the command line)."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "A saved tokenizer (folder or Hub name); default: that of model_name_or_path."}
    )

    def __post_init__(self):
        if [self.model_type, self.config_name, self.model_name_or_path].count(None) != 2:
            raise ValueError(
                "give exactly one of model_type or config_name (a new model) and model_name_or_path (a saved one)"
            )
        if self.config_overrides and self.model_name_or_path:
            raise ValueError(
                "config_overrides is for a new model (model_type, config_name); a saved one keeps its configuration"
            )
        self.tokenizer_name = self.tokenizer_name or self.model_name_or_path


@dataclass
class DataArguments:
    """Which text to read, and how to cut it."""

    corpus: str | None = field(
        default=None, metadata={"help": "A file, a folder with <split> files, or a Hub name; default: Wikipedia text."}
    )
    text_field: str = field(default="text", metadata={"help": "Field with the text in jsonl and parquet."})
    sample_by: Literal["line", "paragraph", "document"] = field(
        default="line", metadata={"help": "What counts as a document of a text file."}
    )
    validation_split: str = field(default="validation", metadata={"help": "Name of the validation split."})
    test_split: str = field(default="test", metadata={"help": "Name of the test split."})
    block_size: int = field(default=128, metadata={"help": "Tokens in a block (truncated BPTT: time steps)."})
    streaming: bool = field(
        default=False, metadata={"help": "Read and tokenize the training text while training, in constant memory."}
    )
    document_packing: bool = field(default=False, metadata={"help": "Keep documents apart within a block."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenize."})


@dataclass
class LabelledDataArguments:
    """Which labelled texts: a data set with its splits, or a file for each.

    Raises:
        ValueError: both or neither are given, or a test file is given without the other two.
    """

    dataset: str | None = field(
        default=None, metadata={"help": "A folder with <split> files, or owner/name[:configuration] on the Hub."}
    )
    train_file: str | None = field(
        default=None,
        metadata={"help": "Instead of dataset: .jsonl, .json, .csv, .tsv, .conllu, .conll (also .gz) or .parquet."},
    )
    validation_file: str | None = field(default=None, metadata={"help": "Goes with train_file."})
    test_file: str | None = field(default=None, metadata={"help": "Optional, together with train_file."})
    validation_split: str = field(default="validation", metadata={"help": "The split that measures the training."})
    label_field: str = field(default="label", metadata={"help": "The column with the labels."})
    problem_type: Literal["single_label_classification", "regression", "multi_label_classification"] | None = field(
        default=None, metadata={"help": "What the labels are; default: the whole column decides (a line says how)."}
    )
    encoding: str = field(default="utf-8", metadata={"help": "Encoding of the text files, such as latin-1."})

    def __post_init__(self):
        files = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        self.files = {split: path for split, path in files.items() if path is not None}
        if self.dataset is None and not {"train", "validation"} <= set(self.files):
            raise ValueError("give dataset, or train_file and validation_file")
        if self.dataset is not None and self.files:
            raise ValueError(f"give dataset or {'_file, '.join(self.files)}_file, not both")

    @property
    def source(self) -> str | dict[str, str]:
        """What `load_labelled` reads."""
        return self.dataset or self.files


@dataclass
class FineTuningArguments:
    """Which pretrained model, and which of its weights learn (`hf_lineage.training.Transfer`)."""

    model_name_or_path: str = field(metadata={"help": "A pretrained model (folder or Hub name)."})
    transfer: Literal["full", "frozen", "partial", "gradual"] = field(
        default="full",
        metadata={
            "help": "full: all weights learn; frozen: only the task's own; partial: all but the frozen_layers; "
            "gradual: the task's own, then one layer more per epoch."
        },
    )
    frozen_layers: int | None = field(
        default=None, metadata={"help": "With transfer partial: the layers nearest the input that do not learn."}
    )
    layer_learning_rate_factor: float = field(
        default=1.0,
        metadata={"help": "Each layer's learning rate is this times that of the layer above, in (0, 1]."},
    )
    random_weights: bool = field(
        default=False, metadata={"help": "Start untrained, to measure what pre-training brings."}
    )
    config_overrides: dict | None = field(
        default=None, metadata={"help": 'Fields of the configuration to change, such as GPT\'s {"lm_loss_weight": 0}.'}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Training rows, drawn alike for every seed; default: all."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without gain; needs load_best_model_at_end."}
    )

    def __post_init__(self):
        for name in ("max_train_samples", "early_stopping_patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


class _SettingsLoader(yaml.SafeLoader):
    """Reads `3e-4` as a number, as YAML 1.2 and Python do, and refuses a repeated key."""

    def construct_mapping(self, node, deep=False):
        seen = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is set twice", problem_mark=key.start_mark
                )
            seen.append(key.value)
        return super().construct_mapping(node, deep)


_SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def _read_settings(path: Path, hints: dict[str, Any]) -> dict[str, Any]:
    """Returns field -> value of a YAML file, each value of its field's type."""
    try:
        settings = _SettingsLoader(read_text(path)).get_single_data()
    except (OSError, CorpusError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the recipe file {path}: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"the recipe file {path} must hold `key: value` lines, not a {type(settings).__name__}")
    if unknown := [_with_suggestion(str(key), hints) for key in settings if key not in hints]:
        raise ValueError(f"unknown keys in the recipe file {path}: {', '.join(unknown)}")
    return {key: _checked(value, hints[key], f"{key} in the recipe file {path}") for key, value in settings.items()}


def _with_suggestion(key: str, known: dict[str, Any]) -> str:
    similar = difflib.get_close_matches(key, known, n=1)
    return f"{key} (did you mean {similar[0]}?)" if similar else key


def _checked(value, hint, name: str):
    if not _fits(value, hint):
        wanted = " or ".join(_describe(option) for option in _options(hint))
        remedy = "; put it in quotes" if _fits(str(value), hint) and not isinstance(value, (dict, list)) else ""
        raise ValueError(f"{name} is {value!r} ({type(value).__name__}) and must be {wanted}{remedy}")
    wants_float = float in _options(hint) and int not in _options(hint)
    return float(value) if wants_float and type(value) is int else value


def _options(hint) -> tuple:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value, hint) -> bool:
    if len(options := _options(hint)) > 1:
        return any(_fits(value, option) for option in options)
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, *get_args(hint)) for item in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return value in [choice.value for choice in hint]
    return isinstance(value, hint)


def _describe(hint) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return " or ".join(repr(choice.value) for choice in hint)
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint)


def _mapping(text: str) -> dict:
    try:
        mapping = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error
    if not isinstance(mapping, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON mapping such as {{"hidden_size": 64}}')
    return mapping


def _mapping_or_text(text: str) -> dict | str:
    return _mapping(text) if text.lstrip().startswith("{") else text
