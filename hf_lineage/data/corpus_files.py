"""The files of a corpus, and the cache of what was read from them."""

import glob
import os
import re
import warnings
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError

from hf_lineage.data.text_files import SUFFIXES, CorpusError, suffix_of


# other names of these splits
OTHER_NAMES = {
    "validation": ("valid", "val", "dev", "development"),
    "train": ("training",),
    "test": ("testing", "eval", "evaluation"),
}
# bytes; a list of shards is short
LONGEST_LIST = 1_000_000
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def is_hub_name(source):
    if not isinstance(source, str) or not _HUB_NAME.fullmatch(source):
        return False
    return not Path(source).exists() and not source.lower().endswith(SUFFIXES)


def find_files(source, split):
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if path.is_dir():
            return _files_of_folder(path) if split == "train" and not _has_splits(path) else _files_of(path, split)
        if shards := listed_shards(path):
            return shards if split == "train" else _files_of(path.parent, split)
        files = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not files:
            raise CorpusError(
                f"the corpus {source} is not a file or folder, no file matches it as a pattern, and it is not of the "
                "form owner/name or owner/name:configuration of a data set on the Hub"
            )
    else:
        files = [Path(path).expanduser() for path in source]
        if not files:
            raise CorpusError("the corpus is an empty list of files")
    if split != "train":
        raise CorpusError(
            f"the corpus {source} has no split {split!r}, since files belong to the split 'train': name a folder "
            f"with one file per split (train.txt, {split}.txt), or load the file of that split by itself."
        )
    for path in files:
        if not path.is_file():
            raise CorpusError(f"the corpus {path} is not a file")
        suffix_of(path)
    return files


def has_split(source, split):
    """Whether these files have a part of their own for `split`; a list of files and a pattern have train alone."""
    folder = Path(source).expanduser() if isinstance(source, (str, os.PathLike)) else None
    if folder is not None and listed_shards(folder):
        return split == "train" or bool(_named(folder.parent, split))
    if folder is None or not folder.is_dir():
        return split == "train"
    return bool(_named(folder, split)) or (split == "train" and not _has_splits(folder))


def _has_splits(folder):
    return any(_named(folder, split) for split in ("train", "validation", "test"))


def _named(folder, split):
    """The files of a split by its name, or else by another usual one: train.txt, or its shards train-00.txt, …"""
    for name in (split, *OTHER_NAMES.get(split, ())):
        if found := [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()]:
            return found
        shard = re.compile(rf"{name}-\d+(-of-\d+)?({'|'.join(map(re.escape, SUFFIXES))})")
        if found := sorted(path for path in folder.iterdir() if shard.fullmatch(path.name) and path.is_file()):
            return found
    return []


def listed_shards(path):
    """The files of its folder that a text file lists, one per line; none if it is a text, or no file.

    Raises:
        CorpusError: a file of the list is not there.
    """
    if path.suffix != ".txt" or not path.is_file() or path.stat().st_size > LONGEST_LIST:
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [name.removeprefix("./") for line in lines if (name := line.strip()) and not name.startswith("#")]
    if not names or not all(name.lower().endswith(SUFFIXES) and not set(name) & set("/ ") for name in names):
        return []
    if missing := [name for name in names if not (path.parent / name).is_file()]:
        raise CorpusError(f"{path} lists {missing[0]}, but {path.parent} has no such file: correct the list")
    return [path.parent / name for name in names]


def _files_of_folder(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in found if path.name.lower().endswith(SUFFIXES)]
    if not files:
        raise CorpusError(f"the folder {folder} has no text: no file in it ends in one of {', '.join(SUFFIXES)}")
    others = [
        path.name for path in found if not path.name.startswith(".") and not path.name.lower().endswith(SUFFIXES)
    ]
    if others:
        warnings.warn(
            f"the folder {folder} has {len(others)} files of no known kind, such as {others[0]}, which are not read; "
            f"names of texts end in one of {', '.join(SUFFIXES)}",
            stacklevel=2,
        )
    return files


def _files_of(folder, split):
    found = _named(folder, split)
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise CorpusError(f"the folder {folder} has no {split}.txt, {split}.jsonl or {split}.parquet; it has {there}")
    # shards have one ending; train.txt and train.jsonl may be the same text
    if len({suffix_of(path) for path in found}) > 1:
        names = " and ".join(path.name for path in found)
        raise CorpusError(f"the folder {folder} has {names}: keep one of them, or name the files to read")
    return found


def with_stamp(path):
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def cached(generate, features, settings):
    try:
        return datasets.Dataset.from_generator(generate, features=features, gen_kwargs=settings)
    except DatasetGenerationError as error:
        # datasets wraps the reader's error in one of its own
        if isinstance(error.__cause__, CorpusError):
            raise error.__cause__ from None
        raise
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"the cached copy of the corpus cannot be read ({error}): delete the folder "
            f"{Path(datasets.config.HF_DATASETS_CACHE, 'generator')}, and run again."
        ) from error
