"""Files that are written whole or not at all: a killed run or a full disk leaves the older one as it was."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary sibling, with the same ending, that takes the place of `path` at the end, and vanishes on an error.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    path = Path(path)
    # several processes may write the same file
    temporary = path.with_name(f".{path.stem}.tmp{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # errors of other files, such as those read on the way, keep their names
        if error.filename not in (None, str(temporary), temporary):
            raise
        raise OSError(error.errno, f"{error.strerror or error}; not written", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str):
    """`text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content):
    """`content` as JSON, a line a value, letters of all languages as they are, numbers as `json_text` has them."""
    write_text(path, json_text(content, indent=1))


def json_text(content, indent: int | None = None) -> str:
    """`content` as JSON that every reader takes: a number that is infinite or none at all is null."""
    return json.dumps(_finite(content), ensure_ascii=False, indent=indent, allow_nan=False)


def _finite(content):
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
