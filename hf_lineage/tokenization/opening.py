"""A saved tokenizer, opened with errors that name the damaged file."""

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file


class DamagedTokenizerError(ValueError):
    """A file of a saved tokenizer is cut off or holds something else; the message names it."""


def open_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """`AutoTokenizer.from_pretrained` of a folder or a Hub name.

    Raises:
        DamagedTokenizerError: a file of the tokenizer is damaged.
        OSError: there is no such folder or Hub name.
    """
    try:
        return AutoTokenizer.from_pretrained(name_or_path)
    except OSError:
        raise
    # tokenizers raises Exception itself
    except Exception as error:
        readers: dict[str, Callable] = {"tokenizer_config.json": json.loads, "tokenizer.json": Tokenizer.from_str}
        for name, read in readers.items():
            path = cached_file(name_or_path, name, _raise_exceptions_for_missing_entries=False)
            if path is None:
                continue
            try:
                read(Path(path).read_text(encoding="utf-8"))
            except Exception as reason:
                raise DamagedTokenizerError(
                    f"{path} is damaged ({reason}): save the tokenizer again, or delete the file and download it anew"
                ) from error
        raise
