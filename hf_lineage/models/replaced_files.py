"""Files of a model that replace older ones together: after a kill, the old weights or the new ones load.

Weights in several files would mix where each shard replaces its namesake. Here new shards have names of their own,
by their content; the index, which says what loads, replaces the old one in one step, and old shards go last.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


INDEX = re.compile(r"(.+)\.safetensors\.index(\..+)?\.json")
SHARD = re.compile(r"(.+?)(-[0-9a-f]{16})?(-\d{5}-of-\d{5})\.safetensors")
MANIFEST = "SHA256SUMS"
TEMPORARY = ".saving"
# of errors that are not an OSError: those of torch's writer, and of libraries in Rust
WRITING = re.compile(r"inline_container|PytorchStreamWriter|iostream error|os error \d+|I/O error")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replaced_together(folder: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder in `folder`; at the end its files replace their namesakes there, weights last.

    Weights of the same kind that no new file replaces are removed, and a list of digests (SHA256SUMS) is never older
    than the weights. After an error `folder` is unchanged.

    Raises:
        OSError: a file cannot be written; the error names `folder` or the file.
    """
    folder = Path(folder)
    temporary = folder / TEMPORARY
    folder.mkdir(parents=True, exist_ok=True)
    # left by a killed process
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with naming_the_disk(folder):
            yield temporary
            _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def naming_the_disk(folder: str | os.PathLike) -> Iterator[None]:
    """Gives errors of writing, which torch, safetensors and tokenizers raise without a path, the name of `folder`.

    Raises:
        OSError: instead of these errors, with the space that is left.
    """
    try:
        yield
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if isinstance(error, OSError):
            is_of_disk = error.errno in NO_ROOM or error.filename is None
        else:
            is_of_disk = bool(WRITING.search(reason))
        if not is_of_disk:
            raise
        free = shutil.disk_usage(folder).free
        raise OSError(
            f"{folder} cannot be written ({reason}); its disk has {free:,} bytes left. What was there before is whole"
        ) from error


def _replace(source, target):
    name_shards_by_content(source)
    written = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    # what decides which weights load
    indexes = [path for path in written if INDEX.fullmatch(path.name)]
    whole = [path for path in written if path.suffix == ".safetensors" and not SHARD.fullmatch(path.name)]
    if indexes or whole:
        (target / MANIFEST).unlink(missing_ok=True)
    # first shards, whose names are new
    others = sorted({*written} - {*indexes, *whole, Path(MANIFEST)}, key=lambda path: not SHARD.fullmatch(path.name))
    for path in [*others, *indexes, *whole]:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source / path, target / path)
    replaced = {_kind(path.name) for path in (*indexes, *whole)}
    old = [
        path for path in target.iterdir() if _kind(path.name) in replaced and path.relative_to(target) not in written
    ]
    # a single file beats an index, and an index needs its shards
    for path in sorted(old, key=lambda path: (bool(SHARD.fullmatch(path.name)), path.suffix == ".json")):
        path.unlink()
    if Path(MANIFEST) in written:
        os.replace(source / MANIFEST, target / MANIFEST)


def _kind(name):
    """Name and variant of weights: model.fp16 of model.fp16-00001-of-00002.safetensors and of its index."""
    if found := INDEX.fullmatch(name):
        return found[1] + (found[2] or "")
    found = SHARD.fullmatch(name)
    return found[1] if found else name.removesuffix(".safetensors") if name.endswith(".safetensors") else None


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def name_shards_by_content(folder: Path):
    """Puts a digest of all shards into their names and the index: model-0123456789abcdef-00001-of-00002.safetensors.

    Shards that have such names keep them.
    """
    for index in [path for path in folder.iterdir() if INDEX.fullmatch(path.name)]:
        content = json.loads(index.read_text(encoding="utf-8"))
        parts = {shard: SHARD.fullmatch(shard) for shard in sorted(set(content["weight_map"].values()))}
        if any(found is None or found[2] for found in parts.values()):
            continue
        total = hashlib.sha256()
        for shard in parts:
            total.update(bytes.fromhex(digest(folder / shard)))
        for shard, found in parts.items():
            parts[shard] = f"{found[1]}-{total.hexdigest()[:16]}{found[3]}.safetensors"
            os.replace(folder / shard, folder / parts[shard])
        content["weight_map"] = {tensor: parts[shard] for tensor, shard in content["weight_map"].items()}
        index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
