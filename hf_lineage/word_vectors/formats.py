"""Files of word vectors: word2vec's binary and text formats, and fastText's .vec (the same text).

"V D\\n", then for each of V words: binary `word`, blank, D little-endian float32 numbers, and from the authors' tool
(not from gensim) a newline; text `word`, D decimal numbers, with a blank before each, and a newline.

A header that promises more than its file can hold is refused before memory is reserved for it.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from hf_lineage.files import replacing


FORMATS = {".bin": "binary", ".txt": "text", ".vec": "text"}
NEVER_READ = (".kv", ".model", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
# far longer than a word, far shorter than what would take long to search
MAX_HEADER_BYTES = 64
MAX_WORD_BYTES = 10_000


def read_vectors(
    path: str | Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    on_duplicate: str = "error",
    show_progress: bool = True,
) -> tuple[list[str], np.ndarray]:
    """The words of a file and their vectors, float32 [V, D], or of its first `limit` rows.

    `format` is "binary" or "text"; by default .bin is binary, .txt and .vec are text. A word that stands twice is an
    error; `on_duplicate="first"` keeps its first vector instead, and warns.

    Raises:
        ValueError: an argument is out of its range, or the file is not in this format (says where).
        OSError: the file cannot be read.
    """
    path = Path(path)
    if path.suffix in NEVER_READ:
        raise ValueError(
            f"{path}: files of this kind can run code when they are opened, so hf_lineage never reads them. Convert "
            "it where you trust its author: gensim.models.KeyedVectors.load(path).save_word2vec_format('vectors.bin', "
            "binary=True), or WordVectors(words, numpy.load(path)).save('vectors.bin')"
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all words")
    if on_duplicate not in ("error", "first"):
        raise ValueError(f'on_duplicate is {on_duplicate!r}; it must be "error" or "first"')
    is_binary = _format(path, format) == "binary"
    with open(path, "rb", buffering=2**20) as file:
        size, dimension = _read_header(path, file, is_binary)
        count = min(size, limit or size)
        rows = (_binary_rows if is_binary else _text_rows)(path, file, count, dimension)
        with tqdm(rows, path.name, count, unit=" words", disable=not show_progress) as rows:
            words, vectors = _collect(path, is_binary, rows, np.empty((count, dimension), np.float32), on_duplicate)
        if count == size and file.read(MAX_WORD_BYTES).strip():
            raise ValueError(f"{path}: goes on after the {size} words that its header announces")
    return words, vectors


def _format(path, format):
    format = format or FORMATS.get(path.suffix)
    if format not in FORMATS.values():
        raise ValueError(f'{path}: format is {format!r}; give "binary" or "text", or a name in .bin, .txt or .vec')
    return format


def _place(path, is_binary, row):
    return f"{path}, word {row + 1}" if is_binary else f"{path}, line {row + 2}"


def _read_header(path, file, is_binary):
    header = file.readline(MAX_HEADER_BYTES)
    fields = header.split()
    if len(fields) != 2 or not all(field.isdigit() and int(field) > 0 for field in fields):
        raise ValueError(
            f"{path}, line 1: {header!r} is not a header, two numbers of at least 1: how many words follow, and "
            "their dimension. GloVe's files lack it; a model of fastText (.bin) or gensim is another format"
        )
    size, dimension = map(int, fields)
    present = os.fstat(file.fileno()).st_size - len(header)
    # a word has a byte or more; in text a number too, with a blank before it, and the last newline may be missing
    needed = size * (4 * dimension + 2) if is_binary else size * (2 * dimension + 2) - 1
    if present < needed:
        raise ValueError(
            f"{path}, line 1: {size} words of {dimension} dimensions take at least {needed} bytes, but {present} "
            "follow: the file is cut short or its header is wrong"
        )
    return size, dimension


def _binary_rows(path, file, count, dimension) -> Iterator[tuple[bytes | bytearray, np.ndarray]]:
    vector = np.empty(dimension, "<f4")
    for row in range(count):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b"") and len(word) < MAX_WORD_BYTES:
            word += byte
        if byte != b" " or file.readinto(vector) < vector.nbytes:
            raise ValueError(
                f"{_place(path, True, row)}: {bytes(word[:40])!r} is not followed by a blank and {dimension} numbers "
                f"before byte {file.tell()}"
            )
        yield word.removeprefix(b"\n"), vector


def _text_rows(path, file, count, dimension) -> Iterator[tuple[bytes, np.ndarray]]:
    row = -1
    for row, line in zip(range(count), file, strict=False):
        word, _, numbers = line.rstrip(b" \r\n").partition(b" ")
        try:
            # the zero is not reached after something that is no number, which older numpy only warns of
            vector = np.fromstring(numbers + b" 0", np.float32, sep=" ")[:-1]
        except ValueError:
            raise ValueError(f"{_place(path, False, row)}: not all after {word[:40]!r} are numbers") from None
        if len(vector) != dimension:
            raise ValueError(
                f"{_place(path, False, row)}: {len(vector)} numbers after {word[:40]!r}; the header says {dimension}"
            )
        yield word, vector
    if row < count - 1:
        raise ValueError(f"{_place(path, False, row)}: the file ends, before line {count + 1} of its header")


def _collect(path, is_binary, rows, vectors, on_duplicate) -> tuple[list[str], np.ndarray]:
    """Fills `vectors` with the rows; returns the words and the part that was filled."""
    row_of, repeated = {}, []
    for row, (encoded, vector) in enumerate(rows):
        try:
            word = encoded.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{_place(path, is_binary, row)}: {bytes(encoded)!r} is not UTF-8") from None
        if not _is_one_word(encoded):
            raise ValueError(
                f"{_place(path, is_binary, row)}: {word!r} is empty or has white space; was the file written with "
                f"another dimension than {vectors.shape[1]}?"
            )
        if word not in row_of:
            vectors[len(row_of)] = vector
            row_of[word] = row
        elif on_duplicate == "first":
            repeated.append(word)
        else:
            raise ValueError(
                f"{_place(path, is_binary, row)}: {word!r} stands already at {_place(path, is_binary, row_of[word])}; "
                'on_duplicate="first" keeps that vector'
            )
    if repeated:
        warnings.warn(
            f"{path}: of {len(repeated)} repeated words the first vector was kept: {repeated[:5]}", stacklevel=3
        )
    return list(row_of), vectors[: len(row_of)]


def write_vectors(path: str | Path, words: Sequence[str], vectors: np.ndarray, format: str | None = None):
    """Writes words and vectors [V, D] as "binary" or "text", by default what the name ends in.

    Text keeps every float32 exactly.

    Raises:
        ValueError: the format is unknown, or a word cannot be written: it has white space or is no valid unicode.
        OSError: the file cannot be written. An older file of this name is then left as it was.
    """
    path = Path(path)
    is_binary = _format(path, format) == "binary"
    size, dimension = vectors.shape
    template = " ".join(["%.9g"] * dimension)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(f"{size} {dimension}\n".encode())
        for word, vector in zip(words, vectors, strict=True):
            numbers = vector.astype("<f4").tobytes() if is_binary else (template % tuple(vector.tolist())).encode()
            file.write(_encode(path, word) + b" " + numbers + b"\n")


def _encode(path, word):
    try:
        encoded = word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path}: the word {word!r} is not valid unicode") from None
    if not _is_one_word(encoded):
        raise ValueError(f"{path}: the word {word!r} has white space, which ends a word in this format")
    return encoded


def _is_one_word(encoded):
    # bytes are split at ASCII white space only: U+00A0 is a letter to all readers of these formats
    return encoded.split() == [encoded]
