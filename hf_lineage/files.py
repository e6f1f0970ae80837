"""Files that are written whole or not at all: a killed run or a full disk leaves the older one as it was."""

import json
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
    """`content` as JSON, a line a value, letters of all languages as they are."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1))
