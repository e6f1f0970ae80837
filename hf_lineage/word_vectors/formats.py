"""Files of word vectors: word2vec's binary and text formats, fastText's .vec (the same text), and GloVe's text.

The first line is "V D", the numbers of words and of dimensions. V words follow. In binary files each is the word, a
blank and D little-endian float32 numbers; the authors' tool, but not gensim, adds a newline. In text files each is a
line: the word and D decimal numbers, each after a blank. GloVe's files are text files without the first line. All may
be packed by gzip.

A header that promises more than its file can hold is refused before memory is reserved for it.
"""

import codecs
import gzip
import io
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from hf_lineage.files import replacing


FORMATS = ("binary", "text", "glove")
SUFFIXES = {".bin": "binary", ".txt": "text", ".vec": "text"}
NEVER_READ = (".kv", ".model", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
ON_DUPLICATE = ("error", "first", "last")
UNICODE_ERRORS = ("strict", "ignore", "replace")
# far longer than a word or a number in text, but quick to search
MAX_HEADER_BYTES = 64
MAX_WORD_BYTES = 10_000
MAX_NUMBER_BYTES = 50
MAX_LINE_BYTES = 2**20
# deflate cannot pack better than this
MAX_PACKING = 1032
# trained vectors stay below about 100, and counts below this; four letters read as a float32 are 1e20 or more
MAX_VALUE = 1e12
# three letters and a blank read as a float32 end in this byte and are between 1e-19 and 5e-19; what tools draw and
# train is above 1e-12 or exactly 0, since it is a sum of float32 numbers of about 1e-3
LAST_BYTE_OF_BLANK = 0x20
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


class Layout(NamedTuple):
    """The layout of a file: `size` words, each with `dimension` numbers; `wanted` words are read."""

    path: Path
    format: str
    size: int
    dimension: int
    wanted: int

    def place(self, row: int) -> str:
        if self.format == "binary":
            return f"{self.path}, word {row + 1}"
        return f"{self.path}, line {row + (2 if self.format == 'text' else 1)}"


def read_vectors(
    path: str | Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    on_duplicate: str = "error",
    unicode_errors: str = "strict",
    max_value: float | None = MAX_VALUE,
    show_progress: bool = True,
) -> tuple[list[str], np.ndarray]:
    """The words of a file and their vectors, float32 [V, D], or only its first `limit` rows.

    `format` is "binary", "text" or "glove". By default .bin is binary; .txt and .vec are text, or GloVe's text if the
    first line is a word with two numbers or more. All may end in .gz. A byte order mark is dropped.

    A repeated word is an error. `on_duplicate="first"` or "last" keeps the first or last vector, in the place of the
    first, and warns. `unicode_errors` decides about words that are not UTF-8, such as words that the authors' tool cut
    within a character: "strict" refuses them, "ignore" drops the bytes, "replace" puts U+FFFD there. Numbers beyond
    ± `max_value` are refused, since they are mostly letters read as numbers, and so is a first number that three
    letters and a blank give; None accepts all finite numbers.

    Raises:
        ValueError: an argument is out of its range, or the file is not in this format (says where).
        OSError: the file cannot be read.
    """
    path = Path(path)
    if _suffix(path) in NEVER_READ:
        raise ValueError(
            f"{path}: files of this kind can run code when they are opened, so hf_lineage never reads them. Convert "
            "it where you trust its author: gensim.models.KeyedVectors.load(path).save_word2vec_format('vectors.bin', "
            "binary=True), or WordVectors(words, numpy.load(path)).save('vectors.bin')"
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all words")
    if max_value is not None and not max_value > 0:
        raise ValueError(f"max_value is {max_value}; it must be above 0, or None for all finite numbers")
    choices = (("on_duplicate", on_duplicate, ON_DUPLICATE), ("unicode_errors", unicode_errors, UNICODE_ERRORS))
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
    by_name = _format(path, format)
    with _unpacked(path) as file:
        layout = _read_layout(path, file, by_name, format is None, limit)
        rows = (_binary_rows if layout.format == "binary" else _text_rows)(layout, file)
        with tqdm(rows, path.name, layout.wanted, unit=" words", disable=not show_progress) as rows:
            words, vectors = _collect(layout, rows, on_duplicate, unicode_errors, max_value)
        if layout.wanted < (limit or np.inf) and file.read(MAX_WORD_BYTES).strip():
            raise ValueError(f"{path}: there is more after the {layout.size} words that its header announces")
    return words, vectors


def _suffix(path):
    return (Path(path.stem).suffix if _is_packed(path) else path.suffix).lower()


def _is_packed(path):
    return path.suffix.lower() == ".gz"


def _format(path, format):
    format = format or SUFFIXES.get(_suffix(path))
    if format not in FORMATS:
        raise ValueError(
            f"{path}: format is {format!r}; give one of {', '.join(FORMATS)}, or a name in .bin, .txt or .vec, which "
            ".gz may follow"
        )
    return format


@contextmanager
def _unpacked(path) -> Iterator[BinaryIO]:
    if not _is_packed(path):
        with open(path, "rb", buffering=2**20) as file:
            yield file
        return
    try:
        with gzip.open(path, "rb") as packed, io.BufferedReader(packed, 2**20) as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); fetch or pack it again") from error


def _read_layout(path, file, format, may_lack_header, limit) -> Layout:
    """Reads the first line, and leaves the file where the first word begins."""
    start = len(codecs.BOM_UTF8) if file.peek(3).startswith(codecs.BOM_UTF8) else 0
    file.seek(start)
    first = file.readline(MAX_LINE_BYTES)
    dimension = _numbers_at_end(first)
    if format == "glove" or (format == "text" and may_lack_header and dimension > 1):
        if dimension == 0:
            raise ValueError(f"{path}, line 1: {first[:MAX_HEADER_BYTES]!r} is not a word and its numbers")
        file.seek(start)
        size = _count_lines(file, dimension, limit)
        file.seek(start)
        return Layout(path, "glove", size, dimension, size)
    size, dimension = _parse_header(path, first)
    present = os.stat(path).st_size * (MAX_PACKING if _is_packed(path) else 1) - file.tell()
    # a word has at least one byte; in text, so has a number, after a blank; the last newline may be missing
    needed = size * (4 * dimension + 2) if format == "binary" else size * (2 * dimension + 2) - 1
    if present < needed:
        raise ValueError(
            f"{path}, line 1: {size} words of {dimension} dimensions take at least {needed} bytes, but {present} "
            "follow: the file is cut short or its header is wrong"
        )
    return Layout(path, format, size, dimension, min(size, limit or size))


def _parse_header(path, line):
    fields = line.split()
    if len(line) > MAX_HEADER_BYTES or len(fields) != 2 or not all(f.isdigit() and int(f) > 0 for f in fields):
        raise ValueError(
            f"{path}, line 1: {line[:MAX_HEADER_BYTES]!r} is not a header, two numbers of at least 1: how many words "
            'follow, and their dimension. GloVe\'s files lack it: format="glove" reads them. A model of fastText '
            "(.bin) or gensim is another format"
        )
    return int(fields[0]), int(fields[1])


def _numbers_at_end(line):
    """The number of fields at the end of a line that are numbers; the first field is a word."""
    fields = line.split()[:0:-1]
    return next((i for i, field in enumerate(fields) if not _is_number(field)), len(fields))


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def _lines(file, dimension):
    longest = MAX_WORD_BYTES + MAX_NUMBER_BYTES * dimension
    return iter(lambda: file.readline(longest), b"")


def _count_lines(file, dimension, limit):
    return sum(1 for _ in islice(filter(bytes.strip, _lines(file, dimension)), limit))


def _binary_rows(layout, file) -> Iterator[tuple[bytes, np.ndarray]]:
    vector = np.empty(layout.dimension, "<f4")
    for row in range(layout.wanted):
        word, byte = _word(file)
        if byte != b" " or file.readinto(vector) < vector.nbytes:
            raise ValueError(
                f"{layout.place(row)}: {bytes(word[:40])!r} is not followed by a blank and {layout.dimension} numbers "
                f"before byte {file.tell()}"
            )
        yield word.removeprefix(b"\n"), vector
    if layout.wanted < layout.size:
        # if a word begins within numbers, the last row is wrong
        _decode(layout, layout.wanted, _word(file)[0].removeprefix(b"\n"), "replace")


def _word(file) -> tuple[bytes, bytes]:
    """The bytes of the next word, and the byte after it: a blank if the file is whole."""
    word = bytearray()
    while (byte := file.read(1)) not in (b" ", b"") and len(word) < MAX_WORD_BYTES:
        word += byte
    return bytes(word), byte


def _text_rows(layout, file) -> Iterator[tuple[bytes, np.ndarray]]:
    row, example = -1, "header says" if layout.format == "text" else "first line has"
    for row, line in zip(range(layout.wanted), _lines(file, layout.dimension), strict=False):
        word, numbers = _cut(layout, line.rstrip(b" \r\n"))
        try:
            # the zero is not reached if a field is not a number; older numpy versions only warn then
            vector = np.fromstring(numbers + b" 0", np.float32, sep=" ")[:-1]
        except ValueError:
            raise ValueError(f"{layout.place(row)}: not all fields after {word[:40]!r} are numbers") from None
        if len(vector) != layout.dimension:
            raise ValueError(
                f"{layout.place(row)}: {len(vector)} numbers after {word[:40]!r}; the {example} {layout.dimension}"
            )
        yield word, vector
    if row < layout.wanted - 1:
        raise ValueError(f"{layout.place(row)}: the file ends, before line {layout.wanted + 1} of its header")


def _cut(layout, line):
    """A line -> its word and the numbers as text; GloVe's vectors have words with blanks, such as ". . ."."""
    extra = line.count(b" ") - layout.dimension
    if layout.format == "glove" and extra > 0:
        *parts, numbers = line.split(b" ", extra + 1)
        if not any(map(_is_number, parts[1:])):
            return b" ".join(parts), numbers
    word, _, numbers = line.partition(b" ")
    return word, numbers


def _collect(layout, rows, on_duplicate, unicode_errors, max_value) -> tuple[list[str], np.ndarray]:
    """The words of the rows, and their vectors [V, D]."""
    vectors = np.empty((layout.wanted, layout.dimension), np.float32)
    position_of, row_of, repeated = {}, [], []
    for row, (encoded, vector) in enumerate(rows):
        try:
            word = _decode(layout, row, encoded, unicode_errors)
        except ValueError:
            # if a word begins within numbers, the row before may be wrong
            _check_values(layout, vectors, row_of, max_value)
            raise
        position = position_of.setdefault(word, len(row_of))
        if position == len(row_of):
            row_of.append(row)
        elif on_duplicate == "error":
            raise ValueError(
                f"{layout.place(row)}: {word!r} is already at {layout.place(row_of[position])}; "
                'on_duplicate="first" or "last" keeps that vector'
            )
        else:
            repeated.append(word)
            if on_duplicate == "first":
                continue
        vectors[position] = vector
    _check_values(layout, vectors, row_of, max_value)
    if repeated:
        warnings.warn(
            f"{layout.path}: of {len(repeated)} repeated words the {on_duplicate} vector was kept: {repeated[:5]}",
            stacklevel=3,
        )
    return list(position_of), vectors[: len(row_of)]


def _decode(layout, row, encoded, unicode_errors):
    try:
        word = encoded.decode(errors=unicode_errors)
    except UnicodeDecodeError:
        raise ValueError(
            f"{layout.place(row)}: {encoded!r} is not UTF-8; "
            'unicode_errors="replace" or "ignore" reads it without the invalid bytes'
        ) from None
    if CONTROL.search(encoded):
        raise ValueError(
            f"{layout.place(row)}: {word!r} holds a control character: a word of the file has a blank, which ends a "
            "word in this format, or the dimension is wrong. Write the file again with _ for the blanks"
        )
    # GloVe's words may have blanks, but no other white space
    without_blanks = encoded.replace(b" ", b"_") if layout.format == "glove" else encoded
    if not _is_one_word(without_blanks) or not word:
        raise ValueError(
            f"{layout.place(row)}: {word!r} is empty or has white space: a word of the file has a blank, or the "
            f"file was written with another dimension than {layout.dimension}"
        )
    return word


def _check_values(layout, vectors, row_of, max_value):
    found = vectors[: len(row_of)]
    if max_value is None or not len(found):
        return
    if layout.format == "binary":
        # numbers that end in a byte of 0x20
        blanks = np.flatnonzero(found[:, 0].astype("<f4").view("<u4") >> 24 == LAST_BYTE_OF_BLANK)
        if len(blanks):
            row = blanks[0]
            raise ValueError(
                f"{layout.place(row_of[row])}: the vector begins with {found[row, 0]:.3g}, which the letters "
                f"{found[row, 0].astype('<f4').tobytes()[:3]!r} and a blank give when they are read as a number: the "
                "word has a blank. Write the file again with _ for the blanks, or give max_value=None if the number "
                "is right"
            )
    # `WordVectors` reports numbers that are not finite
    if not max_value < max(found.max(), -found.min()) < np.inf:
        return
    flawed = next(i for i, vector in enumerate(found) if np.abs(vector).max() > max_value)
    value = found[flawed][np.abs(found[flawed]).argmax()]
    raise ValueError(
        f"{layout.place(row_of[flawed])}: the vector holds {value:.3g}, beyond ± {max_value:.3g}, so letters may "
        "be read as numbers: a word of the file has a blank, or the dimension is wrong. Write the file again with _ "
        "for the blanks, or give max_value=None if the number is right"
    )


def write_vectors(path: str | Path, words: Sequence[str], vectors: np.ndarray, format: str | None = None):
    """Writes words and vectors [V, D] as "binary", "text" or "glove", by default as the name's ending says.

    Text keeps every float32 exactly. A name in .gz gives a packed file; the same vectors always give the same bytes.

    Raises:
        ValueError: the format is unknown, or a word cannot be written: it has white space or control characters, or is
            not valid unicode.
        OSError: the file cannot be written; an older file of this name then stays unchanged.
    """
    path = Path(path)
    format = _format(path, format)
    size, dimension = vectors.shape
    template = " ".join(["%.9g"] * dimension)
    with replacing(path) as temporary, _packed(temporary) as file:
        if format != "glove":
            file.write(f"{size} {dimension}\n".encode())
        for word, vector in zip(words, vectors, strict=True):
            is_binary = format == "binary"
            numbers = vector.astype("<f4").tobytes() if is_binary else (template % tuple(vector.tolist())).encode()
            file.write(_encode(path, word) + b" " + numbers + b"\n")


@contextmanager
def _packed(path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with open(path, "wb") as file:
        if not _is_packed(path):
            yield file
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield packed


def _encode(path, word):
    try:
        encoded = word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path}: the word {word!r} is not valid unicode") from None
    if not _is_one_word(encoded) or CONTROL.search(encoded):
        raise ValueError(
            f"{path}: the word {word!r} has white space, which ends a word in this format, or a control character"
        )
    return encoded


def _is_one_word(encoded):
    # bytes are split only at ASCII white space: U+00A0 is a letter in all readers of these formats
    return encoded.split() == [encoded]
