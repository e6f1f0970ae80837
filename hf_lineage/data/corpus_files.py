"""The files of a corpus, and the cache of what was read from them."""

import glob
import os
import re
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError

from hf_lineage.data.text_files import SUFFIXES, CorpusError, suffix_of


_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def is_hub_name(source):
    if not isinstance(source, str) or not _HUB_NAME.fullmatch(source):
        return False
    return not Path(source).exists() and not source.lower().endswith(SUFFIXES)


def find_files(source, split):
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if path.is_dir():
            return [_file_of_split(path, split)]
        files = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not files:
            raise CorpusError(
                f"the corpus {source} is no file or folder, no file matches it as a pattern, and it is not of the "
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
            raise CorpusError(f"the corpus {path} is no file")
        suffix_of(path)
    return files


def _file_of_split(folder, split):
    found = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").is_file()]
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise CorpusError(f"the folder {folder} has no {split}.txt, {split}.jsonl or {split}.parquet; it has {there}")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise CorpusError(f"the folder {folder} has {names}: keep one of them, or name the files to read")
    return found[0]


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
