"""Sealed checkpoints: a list of digests shows which are whole, so that a killed run resumes from the newest one."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from hf_lineage.files import write_json


SEAL = "seal.json"
logger = logging.getLogger(__name__)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
    return sha256.hexdigest()


def seal(checkpoint: Path, run: dict):
    """Writes the list of the checkpoint's files with their digests, last and in one piece.

    `run` holds the settings of the run (seed, batch size, ...); only a run with the same ones may continue it.
    """
    files = {
        str(path.relative_to(checkpoint)): digest(path)
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != SEAL
    }
    write_json(checkpoint / SEAL, {"run": run, "files": files})


def flaw(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every sealed file is there, byte for byte."""
    try:
        files = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"{SEAL} is missing (the run ended while saving)"
    except (ValueError, KeyError, TypeError):
        return f"{SEAL} is not a seal"
    for name, expected in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if digest(checkpoint / name) != expected:
            return f"{name} has changed since it was written"
    return None


def complete_checkpoints(output_dir: str | Path) -> Iterator[str]:
    """The whole checkpoints in `output_dir`, newest first; logs a warning for each one it skips."""
    checkpoints = [
        path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()
    ]
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name[11:]), reverse=True):
        found = flaw(checkpoint)
        if found is None:
            yield str(checkpoint)
        else:
            logger.warning("skipping the incomplete checkpoint %s: %s", checkpoint, found)


def last_complete_checkpoint(output_dir: str | Path) -> str | None:
    """The newest whole checkpoint in `output_dir`, None if there is none; logs a warning for each one it skips."""
    return next(complete_checkpoints(output_dir), None)


# what a finished run leaves in its folder, not in a checkpoint
FINISHED = ("model.safetensors", "model.safetensors.index.json", "results.json", "evaluation.json", "tokenizer.json")


def prepare_output_dir(
    output_dir: str | Path,
    overwrite: bool = False,
    *,
    finished: tuple[str, ...] = FINISHED,
    is_main_process: bool = True,
) -> Path:
    """The folder of a run; with `overwrite` the checkpoints of an older run are removed from it.

    Raises:
        ValueError: it holds one of the `finished` files, and no checkpoint from which to continue, and `overwrite` is
            False.
    """
    output_dir = Path(output_dir)
    if overwrite:
        for checkpoint in output_dir.glob("checkpoint-*"):
            if is_main_process and checkpoint.is_dir():
                shutil.rmtree(checkpoint)
        return output_dir
    found = [name for name in finished if (output_dir / name).is_file()]
    if found and last_complete_checkpoint(output_dir) is None:
        raise ValueError(
            f"output_dir is {output_dir}, which holds the {found[0]} of a finished run: give another folder, or "
            "--overwrite_output_dir"
        )
    return output_dir


def check_same_run(checkpoint: str | Path, run: dict):
    """Refuses to continue a checkpoint with other settings, which would silently train something else.

    Raises:
        ValueError: a setting differs; both values are named.
    """
    path = Path(checkpoint) / SEAL
    if not path.is_file():
        return
    for name, before in json.loads(path.read_text(encoding="utf-8"))["run"].items():
        if run.get(name) != before:
            raise ValueError(
                f"{checkpoint} was trained with {name}={before!r}, this run has {run.get(name)!r}: use the same "
                "value, or another output_dir for a new run"
            )
