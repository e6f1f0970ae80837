"""Text files read line by line, and files written whole or not at all.

All text is read by `read_lines`, so that one place handles byte order marks, gzip, NULs and other encodings. A killed
run or a full disk leaves the older file unchanged.
"""

import codecs
import errno
import gzip
import json
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CorpusError(ValueError):
    """A text that cannot be used; the message names the file, the place and the remedy."""


def read_lines(
    path: str | os.PathLike, on_invalid: str = "error", *, remedy: str = "convert the file to UTF-8 text"
) -> Iterator[str]:
    """The lines of a text file in UTF-8, without line ends. The file is packed by gzip if its name ends in .gz.

    A byte order mark is dropped. Bytes that are not UTF-8, and NULs, are an error, or with `on_invalid="replace"` the
    character U+FFFD. `remedy` ends the message of that error.

    Raises:
        CorpusError: such a byte, with file, line (from 1) and byte offset in the unpacked file (from 0), or a damaged
            gzip file.
        OSError: the file cannot be read.
    """
    for line, _ in read_line_parts(path, None, on_invalid, remedy=remedy):
        yield line


def read_line_parts(
    path: str | os.PathLike,
    longest: int | None,
    on_invalid: str = "error",
    *,
    remedy: str = "convert the file to UTF-8 text",
) -> Iterator[tuple[str, bool]]:
    """As `read_lines`, in constant memory: lines of more than `longest` bytes in parts; True if a part ends its line.

    Lines are cut after a blank or tab; a word longer than `longest` stays whole. Raises what `read_lines` does.
    """
    unpack = gzip.open if Path(path).suffix.lower() == ".gz" else open
    number, offset = 1, 0
    try:
        with unpack(path, "rb") as file:
            for raw, ends in _raw_parts(file, longest):
                part = raw.removeprefix(codecs.BOM_UTF8) if offset == 0 else raw
                start = offset + len(raw) - len(part)
                text = _decode(part, f"{path}, line {number}", start, on_invalid, remedy)
                yield text.rstrip("\r\n") if ends else text, ends
                number, offset = number + ends, offset + len(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path} is not a whole gzip file ({error}); fetch or pack it again") from error


def _raw_parts(file, longest):
    if longest is None:
        for line in file:
            yield line, True
        return
    # the bytes of a word that has not ended yet
    held = bytearray()
    ends = True
    while raw := file.readline(longest):
        # fewer bytes are the last ones of the file
        ends = raw.endswith(b"\n") or len(raw) < longest
        cut = len(raw) if ends else max(raw.rfind(b" "), raw.rfind(b"\t")) + 1
        held += raw[:cut]
        if cut:
            yield bytes(held), ends
            held.clear()
        held += raw[cut:]
    if not ends:
        yield bytes(held), True


def read_text(path: str | os.PathLike) -> str:
    """A whole text file, read as `read_lines` does.

    Raises CorpusError and OSError as `read_lines` does.
    """
    return "\n".join(read_lines(path))


def _decode(line, place, start, on_invalid, remedy):
    if on_invalid == "replace":
        return line.decode("utf-8", errors="replace").replace("\0", "\ufffd")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"0x{line[error.start]:02x} is not UTF-8"
        raise CorpusError(f"{place}, byte {start + error.start} of the file: {problem}; {remedy}") from None
    if "\0" in text:
        raise CorpusError(f"{place}, byte {start + line.index(0)} of the file: 0x00 is a NUL; {remedy}")
    return text


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file next to `path`, with its suffix; it replaces `path` at the end, or is removed after an error.

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
    except Exception as error:
        # of safetensors, tokenizers and other libraries in Rust
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None or int(number[1]) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        raise OSError(int(number[1]), f"{error}; not written", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_figure(figure: "Figure", path: str | Path, **options):
    """matplotlib's `savefig` with its `options`, through `replacing`."""
    with replacing(path) as temporary:
        figure.savefig(temporary, **options)


def write_text(path: str | Path, text: str):
    """Writes `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content):
    """Writes `json_text` of `content`, one value per line."""
    write_text(path, json_text(content, indent=1))


def json_text(content, indent: int | None = None) -> str:
    """`content` as JSON that every reader takes: infinite numbers and NaN become null. Letters are not escaped."""
    return json.dumps(_finite(content), ensure_ascii=False, indent=indent, allow_nan=False)


def _finite(content):
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
