"""Arguments of the recipes: flags beat the YAML file, the file beats the defaults."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from transformers import HfArgumentParser


def parse(*dataclass_types, argv=None):
    """`recipe.py [config.yaml] [--key value ...]` -> one object of each dataclass.

    Exits with status 2 and a message, as argparse does, for an unknown key, a file that is not a YAML mapping, or a
    value of the wrong type.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(dataclass_types)
    if argv and not argv[0].startswith("--"):
        path = Path(argv.pop(0))
        settings = _read_settings(parser, path)
        actions = {action.dest: action for action in parser._actions}
        if unknown := settings.keys() - actions.keys():
            parser.error(f"unknown keys in the recipe file {path}: {sorted(unknown)}")
        for key, value in settings.items():
            if isinstance(value, list | dict) and actions[key].nargs is None and actions[key].type in (int, float):
                parser.error(f"{key} in the recipe file {path} is {value!r}; it must be one number")
            # argparse converts and checks defaults that are strings: `3e-4`, a string to YAML, becomes a number
            is_scalar = isinstance(value, int | float)
            actions[key].default, actions[key].required = str(value) if is_scalar else value, False
    return parser.parse_args_into_dataclasses(argv)


def _read_settings(parser, path):
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"cannot read the recipe file {path}: {error}")
    if not isinstance(settings, dict):
        parser.error(f"the recipe file {path} must hold `key: value` lines, not a {type(settings).__name__}")
    return settings


@dataclass
class ModelArguments:
    """Which model: a new one of `model_type`, or a saved one."""

    model_type: str | None = field(default=None, metadata={"help": "A station, such as lineage_lstm."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "A checkpoint to go on from."})
    config_overrides: dict | str | None = field(
        default=None, metadata={"help": "Fields of the new model's configuration (JSON on the command line)."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "A saved tokenizer (folder or Hub name)."})

    def __post_init__(self):
        if isinstance(self.config_overrides, str):
            self.config_overrides = json.loads(self.config_overrides)


@dataclass
class DataArguments:
    """Which text, and how it is cut."""

    corpus: str | None = field(
        default=None, metadata={"help": "A file, a folder with <split> files, or a Hub name; default: embedded text."}
    )
    text_field: str = field(default="text", metadata={"help": "Field that holds the text in jsonl and parquet."})
    sample_by: str = field(default="line", metadata={"help": "A document of a text file: line, paragraph, document."})
    validation_split: str = field(default="validation", metadata={"help": "Name of the validation split."})
    test_split: str = field(default="test", metadata={"help": "Name of the test split."})
    block_size: int = field(default=128, metadata={"help": "Tokens in a block (truncated BPTT: time steps)."})
    document_packing: bool = field(default=False, metadata={"help": "Keep documents apart within a block."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenize."})
