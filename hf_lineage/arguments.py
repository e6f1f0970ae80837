"""Arguments of the recipes: flags override the YAML file, which overrides the defaults; mistakes are one line."""

import argparse
import atexit
import bisect
import dataclasses
import difflib
import inspect
import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import datasets
import numpy as np
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    EarlyStoppingCallback,
    HfArgumentParser,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

from hf_lineage.data.phases import batch_sizes
from hf_lineage.data.segmentation import WordSegmentation
from hf_lineage.files import CorpusError, read_text
from hf_lineage.models import LINEAGE
from hf_lineage.tokenization import DamagedTokenizerError, open_tokenizer


def parse(*dataclass_types, argv: list[str] | None = None, description: str | None = None) -> tuple:
    """`recipe.py [config.yaml] [--key value ...]` -> one object of each dataclass.

    Keys of the file are fields of the dataclasses. A field that holds a dict is a mapping in the file and JSON on the
    command line. `description` begins the help; a program that has one answers a call without arguments by its help.
    Exits with status 2 and one line on stderr for an unknown key or flag, a value that a dataclass refuses or of the
    wrong type, a missing argument, or a file that is not a YAML mapping.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    hints = {}
    for dataclass_type in dataclass_types:
        types = get_type_hints(dataclass_type)
        hints |= {item.name: types[item.name] for item in dataclasses.fields(dataclass_type) if item.init}
    parser = _Parser(
        dataclass_types,
        # an abbreviated flag would be an unknown key that is accepted
        allow_abbrev=False,
        usage="%(prog)s [config.yaml] [--key value ...]",
        description=description,
        formatter_class=_Help,
    )
    if not argv and description is not None:
        parser.print_help()
        parser.exit(2)
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
            action.type = json_mapping if str not in _options(hints[action.dest]) else _mapping_or_text
    # a mistyped flag is said before a missing one, which it may be
    required = [action for action in parser._actions if action.required]
    for action in required:
        action.required = False
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [name.partition("=")[0].lstrip("-") for name in unknown if name.startswith("--")]
        similar = [f"--{near}" for name in flags for near in difflib.get_close_matches(name, hints, n=1)]
        remedy = f" (did you mean {', '.join(similar)}?)" if similar else ""
        remedy = remedy if flags else " (a YAML file must come first)"
        parser.error(f"unknown arguments: {' '.join(unknown)}{remedy}")
    for action in required:
        action.required = True
    if "disable_tqdm" in hints.keys() - settings.keys() and not sys.stderr.isatty():
        # a log would hold each step of a bar, beside the lines that say the same
        parser.set_defaults(disable_tqdm=True)
    try:
        return tuple(parser.parse_args_into_dataclasses(argv, look_for_args_file=False))
    except ValueError as error:
        # of a dataclass, whose __post_init__ compares its fields
        parser.error(str(error))


def run(main: Callable[[], None], program: str | None = None):
    """Runs the `main` of a recipe; an error in its input ends it with one line on stderr and status 2.

    The line begins with `program`, by default the name of the script.

    Such errors are what hf_lineage and the recipes raise themselves, files and models that are not there, and
    configurations with bad fields. Others keep their traceback: bugs, and errors that come after training, whose notes
    say what was kept.
    """
    _leave_out_load_reports()
    if not sys.stderr.isatty():
        # in a log each step of a bar would be a line
        datasets.disable_progress_bars()
    atexit.register(_end_process_group)
    try:
        main()
    except (ValueError, OSError, StrictDataclassError) as error:
        if getattr(error, "__notes__", None) or not (isinstance(error, OSError) or _is_ours(error)):
            raise
        sys.stderr.write(f"{program or Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}\n")
        sys.exit(2)


def _end_process_group():
    # gloo's threads, if they outlive the interpreter, abort the process: its launcher would call a finished run failed
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def _is_ours(error: Exception) -> bool:
    """Whether a `raise` of hf_lineage or of a recipe raised it, in the check of some input."""
    if isinstance(error, CorpusError | StrictDataclassError):
        return True
    place = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(place.filename)
    is_here = Path(__file__).parent in file.parents or file.parent.name == "recipes"
    return is_here and (place.line or "").startswith("raise ")


def _leave_out_load_reports():
    """Drops transformers' tables of weights that a model lacks: a recipe says so in a line of its own."""

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    for module in ("modeling_utils", "modeling_layers"):
        logging.getLogger(f"transformers.{module}").addFilter(is_other)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of each flag."""


class _Parser(HfArgumentParser):
    """Flags in a group per dataclass, those of transformers' TrainingArguments last; errors in one line."""

    def __init__(self, dataclass_types, **kwargs):
        self._inherited: list[dataclasses.Field] = []
        super().__init__(dataclass_types, **kwargs)
        if self._inherited:
            group = self.add_argument_group("TrainingArguments", "What transformers' Trainer takes.")
            for item in self._inherited:
                self._parse_dataclass_field(group, item)

    def _add_dataclass_arguments(self, dtype):
        types = get_type_hints(dtype)
        title, _, _ = (inspect.getdoc(dtype) or dtype.__name__).partition("\n")
        group = self.add_argument_group(title.rstrip("."))
        for item in filter(lambda item: item.init, dataclasses.fields(dtype)):
            item.type = types[item.name]
            owner = next(base for base in dtype.__mro__ if item.name in inspect.get_annotations(base))
            if owner is not dtype and owner.__module__.startswith("transformers."):
                self._inherited.append(item)
            else:
                self._parse_dataclass_field(group, item)

    def error(self, message) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (-h lists the flags)\n")


def saved_config(name_or_path: str, argument: str = "model_name_or_path") -> PreTrainedConfig:
    """The configuration of a saved model (folder or Hub name), which `argument` named.

    Raises:
        ValueError: there is none; the message names the argument.
    """
    return _opened(AutoConfig.from_pretrained, "model", name_or_path, argument)


def check_opens(auto_class, config: PreTrainedConfig, name_or_path: str, argument: str = "model_name_or_path"):
    """Refuses a saved model that an Auto class does not open.

    Raises:
        ValueError: it is of another type; the message names argument, model, type and class.
    """
    if type(config) not in auto_class._model_mapping:
        stations = [one.model_type for one in LINEAGE if auto_class.__name__ in one.auto_classes]
        raise ValueError(
            f"{argument} is {name_or_path}, of type {config.model_type}, which {auto_class.__name__} does not open: "
            f"give a model of another type, such as {' or '.join(stations) or 'one of transformers'}"
        )


def saved_tokenizer(name_or_path: str, argument: str = "model_name_or_path") -> PreTrainedTokenizerBase:
    """The tokenizer of a saved model (folder or Hub name), which `argument` named.

    Raises:
        ValueError: there is none, or it is damaged; the message names the argument.
    """
    return _opened(open_tokenizer, "tokenizer", name_or_path, argument)


def tokenizer_of_model(name_or_path: str, argument: str = "model_name_or_path") -> PreTrainedTokenizerBase:
    """The tokenizer of a saved model that has its weights, so that a run without either stops before any other work.

    Raises:
        ValueError: a folder has a configuration, but no weights, or as `saved_tokenizer`; the message names the
            argument.
    """
    folder = Path(name_or_path)
    if folder.is_dir() and not any((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        raise ValueError(
            f"{argument} is {name_or_path}, a folder without weights (model.safetensors): give the folder of a "
            "finished run, or one of its checkpoint-… folders"
        )
    return saved_tokenizer(name_or_path, argument)


def _opened(opener, what, name_or_path, argument):
    try:
        return opener(name_or_path)
    except DamagedTokenizerError as error:
        raise ValueError(f"{argument} is {name_or_path}: {error}") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{argument} is {name_or_path}: no folder with a saved {what}, and the Hub gives none of that name "
            f"({str(error).splitlines()[0]}): give the folder of a finished run, which has a {what}"
        ) from error


def remedy_for(name: str, names: Iterable[str], introduction: str, shown: Iterable[str] | None = None) -> str:
    """The name that a mistyped one may have meant; without one, `introduction` and the names (or `shown`)."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"{introduction} {', '.join(names if shown is None else shown)}"


def configuration_type(name: str) -> str:
    """`lstm` -> `lineage_lstm`; other configurations that transformers knows keep their names."""
    stations = [config_class.model_type for config_class in LINEAGE]
    if (full := f"lineage_{name.lower()}") in stations:
        return full
    if name in CONFIG_MAPPING:
        return name
    short = {station.removeprefix("lineage_"): station for station in stations}
    near = difflib.get_close_matches(name.lower(), [*short, *stations], n=1)
    remedy = f"did you mean {short.get(near[0], near[0])}?" if near else f"the stations are {', '.join(short)}"
    raise ValueError(f"model_type is {name}, which no configuration has; {remedy}")


def check_overrides(config: PreTrainedConfig, saved: dict[str, Any], overrides: dict[str, Any]):
    """Refuses `overrides` of a configuration that has the fields `saved`.

    Raises:
        ValueError: `config_overrides` has a field that the configuration lacks, which transformers would keep without
            a use, or a bad value.
    """
    known = {*config.to_dict(), *config.attribute_map, "attn_implementation", "dtype", "num_labels"}
    if unknown := [_with_suggestion(name, known) for name in overrides if name not in known]:
        raise ValueError(f"config_overrides has fields that {config.model_type} lacks: {', '.join(unknown)}")
    try:
        # the vocabulary is not known yet: as large as can be
        type(config)(**{**saved, "vocab_size": 10_000_000, **overrides})
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise ValueError(f"config_overrides: {error}") from error


@dataclass
class ModelArguments:
    """Which model: a new one of `model_type` or of a saved configuration, or a saved model.

    A saved model uses the tokenizer in its folder unless `tokenizer_name` is given.

    Raises:
        ValueError: not exactly one of the three is given, no configuration has that model_type, config_overrides is
            given with a saved model.
    """

    model_type: str | None = field(default=None, metadata={"help": "A station, such as lstm (or lineage_lstm)."})
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
        if self.model_type is not None:
            self.model_type = configuration_type(self.model_type)
        self.tokenizer_name = self.tokenizer_name or self.model_name_or_path

    def check(self, auto_class: Any, *model_types: str) -> type:
        """The model's class; refuses, before any work, a model that the recipe could not train.

        Raises:
            ValueError: the model is of no type that `auto_class` opens, or of none of `model_types`, if there are any;
                config_overrides has an unknown field or a bad value; there is no such model, configuration or
                tokenizer.
        """
        if self.model_type is not None:
            config = AutoConfig.for_model(self.model_type)
        elif self.config_name is not None:
            config = saved_config(self.config_name, "config_name")
        else:
            # one of the three is given
            config = saved_config(str(self.model_name_or_path))
        if self.tokenizer_name is not None:
            saved_tokenizer(self.tokenizer_name, "tokenizer_name")
        known = model_types or [one.model_type for one in LINEAGE if auto_class.__name__ in one.auto_classes]
        if type(config) not in auto_class._model_mapping or (model_types and config.model_type not in model_types):
            raise ValueError(f"this recipe trains {' or '.join(known)}, not {config.model_type}")
        # of a new configuration the fields that follow from others must follow from the overrides
        saved = {} if self.model_type is not None else config.to_dict()
        check_overrides(config, saved, self.config_overrides or {})
        return auto_class._model_mapping[type(config)]


@dataclass
class DataArguments:
    """Which text to read, and how to cut it.

    Raises:
        ValueError: `block_size` is below 1.
    """

    corpus: str | None = field(
        default=None,
        metadata={"help": "A file, a folder (<split> files or any texts), or a Hub name; default: Wikipedia text."},
    )
    text_field: str = field(default="text", metadata={"help": "Field with the text in jsonl, csv and parquet."})
    sample_by: Literal["line", "paragraph", "document"] = field(
        default="line", metadata={"help": "What counts as a document of a text file."}
    )
    validation_split: str = field(default="validation", metadata={"help": "Name of the validation split."})
    test_split: str = field(default="test", metadata={"help": "Name of the test split."})
    validation_share: float = field(
        default=0.05, metadata={"help": "Share of the documents for each held-out split that the corpus lacks."}
    )
    word_segmentation: WordSegmentation = field(
        default="auto",
        metadata={"help": "Words of text without blanks, for models of words: by rjieba (extra zh) or characters."},
    )
    block_size: int = field(default=128, metadata={"help": "Tokens in a block (truncated BPTT: time steps)."})
    streaming: bool = field(
        default=False, metadata={"help": "Read and tokenize the training text while training, in constant memory."}
    )
    document_packing: bool = field(default=False, metadata={"help": "Keep documents apart within a block."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenize."})

    def __post_init__(self):
        if self.block_size < 1:
            raise ValueError(f"block_size is {self.block_size}; it must be at least 1")

    @property
    def text(self) -> dict:
        """What `load_splits` reads, by the names of its arguments."""
        return {
            "source": self.corpus,
            "validation_split": self.validation_split,
            "test_split": self.test_split,
            "validation_share": self.validation_share,
            "text_field": self.text_field,
            "sample_by": self.sample_by,
        }


def refuse_epochs(training_args: Any, reason: str):
    """Refuses settings that count epochs, where a run has only one.

    Raises:
        ValueError: flat_epochs is set, or an evaluation or a checkpoint is to end each epoch.
    """
    if getattr(training_args, "flat_epochs", None) is not None:
        raise ValueError(f"flat_epochs is {training_args.flat_epochs}, but {reason}: leave it out, with epoch_decay")
    for name in ("eval_strategy", "save_strategy"):
        if getattr(training_args, name) == "epoch":
            raise ValueError(f"{name} is epoch, but {reason}: set it to steps")


@dataclass
class GrowthArguments:
    """How texts and batches grow within the run, and which curve it is expected to follow.

    Raises:
        ValueError: `long_share` lies outside (0, 1), or only one of `first_batch_size` and `growth_steps` is given.
    """

    long_block_size: int | None = field(default=None, metadata={"help": "Tokens in a block in the last steps."})
    long_share: float = field(default=0.1, metadata={"help": "Share of the steps that read long blocks."})
    expected_curve: str | None = field(
        default=None,
        metadata={"help": "Warns of a validation loss above the curve in this file."},
    )
    first_batch_size: int | None = field(
        default=None,
        metadata={"help": "Examples in the first update, of all processes; then evenly more, up to the whole batch."},
    )
    growth_steps: int = field(default=0, metadata={"help": "Updates until the batch is whole."})

    def __post_init__(self):
        if not 0 < self.long_share < 1:
            raise ValueError(f"long_share is {self.long_share}; it must lie in (0, 1)")
        if (self.first_batch_size is None) != (self.growth_steps == 0):
            raise ValueError("first_batch_size and growth_steps belong together: give both or neither")

    @property
    def is_used(self) -> bool:
        return self.long_block_size is not None or self.first_batch_size is not None

    def check(self, training_args: Any, block_size: int):
        """Refuses, before any work, what does not go with blocks or batches that grow.

        Raises:
            ValueError: `long_block_size` is no longer than `block_size`, or a setting counts epochs, and such a run
                has one.
        """
        if self.long_block_size is not None and self.long_block_size <= block_size:
            raise ValueError(f"long_block_size is {self.long_block_size}; it must be above block_size {block_size}")
        if self.is_used:
            refuse_epochs(training_args, "long_block_size and first_batch_size make one epoch of the whole run")

    def check_longest(self, longest: int | None):
        """Refuses, before training, blocks that are longer than `longest`, the longest text that the model reads.

        Raises:
            ValueError: `long_block_size` is above it.
        """
        if self.long_block_size is not None and longest is not None and self.long_block_size > longest:
            raise ValueError(
                f"long_block_size is {self.long_block_size}, but the model reads {longest} tokens "
                "(max_position_embeddings): lower it, or give the model more positions"
            )

    def steps(self, steps: int) -> list[int]:
        """Updates of short and, if there are any, of long blocks."""
        if self.long_block_size is None:
            return [steps]
        long_steps = round(steps * self.long_share)
        return [steps - long_steps, long_steps]

    def tokens_until(self, steps: int, batch_size: int, block_size: int, only_read: int = 0) -> np.ndarray:
        """Tokens after each of `steps` updates, int64 [steps]; the first `only_read` of a block do not count."""
        phases = self.steps(steps)
        lengths = np.repeat([block_size, self.long_block_size or 0][: len(phases)], phases)
        sizes = batch_sizes(steps, batch_size, self.first_batch_size, min(self.growth_steps, steps))
        return np.cumsum(sizes * (lengths - only_read))

    def steps_for(self, tokens: float, batch_size: int, block_size: int, only_read: int = 0) -> int:
        """The fewest updates with this number of tokens, counted as in `tokens_until`."""
        sizes = batch_size, block_size, only_read
        updates = range(1, math.ceil(tokens / (batch_size * (block_size - only_read))) + self.growth_steps + 1)
        place = bisect.bisect_left(updates, tokens, key=lambda steps: self.tokens_until(steps, *sizes)[-1])
        return updates[min(place, len(updates) - 1)]


@dataclass
class SplitArguments:
    """Which rows: a data set with its splits, or a file for each.

    Raises:
        ValueError: both or neither are given, or a test or validation file is given without train_file.
    """

    dataset: str | None = field(
        default=None, metadata={"help": "A folder with <split> files, or owner/name[:configuration] on the Hub."}
    )
    train_file: str | None = field(
        default=None,
        metadata={"help": "Instead of dataset: .jsonl, .json, .csv, .tsv, .conllu, .conll (also .gz) or .parquet."},
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Goes with train_file; with folds it may be left out."}
    )
    test_file: str | None = field(default=None, metadata={"help": "Optional, together with train_file."})
    validation_split: str = field(default="validation", metadata={"help": "The split that measures the training."})
    encoding: str = field(default="utf-8", metadata={"help": "Encoding of the text files, such as latin-1."})

    def __post_init__(self):
        files = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        self.files = {split: path for split, path in files.items() if path is not None}
        if self.dataset is None and "train" not in self.files:
            raise ValueError("give dataset, or train_file and validation_file")
        if self.dataset is not None and self.files:
            raise ValueError(
                f"give dataset or {'_file, '.join(self.files)}_file, not both; if the YAML file names a dataset, put "
                "your files into a folder (train.jsonl, validation.jsonl) and give --dataset FOLDER"
            )

    def check_files(self, folds: int | None = None):
        """Refuses, before any work, files that are not there, and none that validates.

        Folds need none that validates: they cut it from the training rows.

        Raises:
            ValueError: there is no such file; the message names the argument.
        """
        for split, path in self.files.items():
            if not Path(path).is_file():
                raise ValueError(f"{split}_file is {path}, but there is no such file: give the path of one")
        if folds is None and self.dataset is None and self.validation_split not in self.files:
            raise ValueError(
                f"train_file is {self.train_file}, but there is no file for the split {self.validation_split}: give "
                "dataset, or train_file and validation_file, or folds"
            )

    @property
    def source(self) -> str | dict[str, str]:
        """What `load_labelled` reads."""
        return self.dataset or self.files


@dataclass
class LabelledDataArguments(SplitArguments):
    """Which labelled texts: a data set with its splits, or a file for each; the labels, and what they are.

    Raises:
        ValueError: as `SplitArguments`.
    """

    label_field: str = field(default="label", metadata={"help": "The column with the labels."})
    problem_type: Literal["single_label_classification", "regression", "multi_label_classification"] | None = field(
        default=None, metadata={"help": "What the labels are; default: the whole column decides (a line says how)."}
    )


@dataclass
class FineTuningArguments:
    """Which pretrained model, and which of its weights learn (`hf_lineage.training.Transfer`)."""

    model_name_or_path: str = field(metadata={"help": "A pretrained model (folder or Hub name)."})
    transfer: Literal["full", "frozen", "features", "partial", "gradual"] = field(
        default="full",
        metadata={
            "help": "full: all weights learn; frozen: only the task's own; features: as frozen, and each text is read "
            "once; partial: all but the frozen_layers; gradual: the task's own, then one layer more per epoch."
        },
    )
    features_dir: str | None = field(
        default=None,
        metadata={
            "help": "With transfer features: folder of the vectors, for other runs too; default: in output_dir."
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
    random_weights_floor: bool = field(
        default=False,
        metadata={"help": "Train the same network from random weights too; its scores stand among the floors."},
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
        if self.random_weights and self.random_weights_floor:
            raise ValueError("random_weights_floor adds a second, untrained start: set random_weights to false")
        for name in ("max_train_samples", "early_stopping_patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    def callbacks(self) -> list[TrainerCallback]:
        """What stops training early, if `early_stopping_patience` is set."""
        return [EarlyStoppingCallback(self.early_stopping_patience)] if self.early_stopping_patience else []


@dataclass
class GridArguments:
    """Several runs in one command: over seeds, learning rates, parts of the data and numbers of labels.

    Raises:
        ValueError: a list is empty or repeats a value, a number lies outside its range, or label_counts and folds
            are both given.
    """

    seeds: list[int] | None = field(
        default=None, metadata={"help": "Seeds: one run for each; the scores are means ± standard deviations."}
    )
    learning_rates: list[float] | None = field(
        default=None, metadata={"help": "Learning rates: the best one on the validation text is reported."}
    )
    folds: int | None = field(
        default=None,
        metadata={"help": "Number of parts of the training and validation rows; each validates one run (small sets)."},
    )
    label_counts: list[int] | None = field(
        default=None, metadata={"help": "Numbers of training rows: the scores of each, as a table and a plot."}
    )
    compare_with: list[str] | None = field(
        default=None, metadata={"help": "Folders of other such runs, which the plot shows too."}
    )

    def __post_init__(self):
        for name, low in (("seeds", 0), ("learning_rates", 0.0), ("label_counts", 1)):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values) or min(values) < low):
                raise ValueError(f"{name} is {values}; give different numbers of at least {low}")
        if self.folds is not None and self.folds < 2:
            raise ValueError(f"folds is {self.folds}; it must be at least 2")
        if self.folds is not None and self.label_counts is not None:
            raise ValueError("folds and label_counts exclude each other: give one of them")

    @property
    def is_one_run(self) -> bool:
        return not any((self.seeds, self.learning_rates, self.folds, self.label_counts, self.compare_with))


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


def _with_suggestion(key: str, known: Iterable[str]) -> str:
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


def json_mapping(text: str) -> dict:
    """A flag's JSON mapping; argparse makes one line of its error."""
    try:
        mapping = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error
    if not isinstance(mapping, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON mapping such as {{"hidden_size": 64}}')
    return mapping


def _mapping_or_text(text: str) -> dict | str:
    return json_mapping(text) if text.lstrip().startswith("{") else text
