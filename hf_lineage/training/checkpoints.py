"""Sealed checkpoints: a list of digests shows which are whole, so that a killed run resumes from the newest one."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hf_lineage.arguments import remedy_for
from hf_lineage.files import write_json
from hf_lineage.models.replaced_files import digest
from hf_lineage.training.run_lock import hold


SEAL = "seal.json"
logger = logging.getLogger(__name__)


def seal(checkpoint: Path, run: dict, seconds: float):
    """Writes the list of the checkpoint's files with their digests, last and in one piece.

    `run` holds the settings of the run by name; only a run with the same ones may continue it (`check_same_run`).
    `seconds` is how long it has trained.
    """
    files = {
        str(path.relative_to(checkpoint)): digest(path)
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != SEAL
    }
    write_json(checkpoint / SEAL, {"run": run, "seconds": seconds, "files": files})


def read_seal(checkpoint: str | Path) -> dict:
    """What `seal` wrote.

    Raises:
        FileNotFoundError: there is no seal.
        ValueError: the file is none.
    """
    try:
        content = json.loads((Path(checkpoint) / SEAL).read_text(encoding="utf-8"))
        is_seal = isinstance(content["run"], dict) and all(isinstance(each, str) for each in content["files"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        is_seal = False
    if not is_seal:
        raise ValueError(f"{SEAL} is not a seal")
    return content


def flaw(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every sealed file is there, byte for byte."""
    try:
        files = read_seal(checkpoint)["files"]
    except FileNotFoundError:
        return f"{SEAL} is missing (the run ended while saving)"
    except ValueError as error:
        return str(error)
    for name, expected in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if digest(checkpoint / name) != expected:
            return f"{name} has changed since it was written"
    return None


def numbered_checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints in `output_dir`, whole or not, newest first."""
    checkpoints = [
        path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()
    ]
    return sorted(checkpoints, key=lambda path: int(path.name[11:]), reverse=True)


def runs_before(output_dir: str | Path, checkpoint: str | Path | bool | None = None) -> Iterator[dict]:
    """The settings of the runs that sealed the checkpoints in `output_dir`, newest first, or of `checkpoint` alone."""
    named = [Path(checkpoint)] if isinstance(checkpoint, str | Path) and Path(checkpoint).is_dir() else None
    for folder in named or numbered_checkpoints(output_dir):
        try:
            content = read_seal(folder)
        except (OSError, ValueError):
            # without a seal, or of another program: `last_complete_checkpoint` skips it too
            continue
        yield content["run"]


def complete_checkpoints(output_dir: str | Path) -> Iterator[str]:
    """The whole checkpoints in `output_dir`, newest first; logs a warning for each one it skips."""
    for checkpoint in numbered_checkpoints(output_dir):
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
    """The folder of a run, made and held for this process; with `overwrite` an older run's checkpoints are removed.

    Only the main process holds it (`RunLock`), until it ends.

    Raises:
        ValueError: it is a file; it holds one of the `finished` files, and no checkpoint from which to continue, and
            `overwrite` is False; or a run of another process holds the folder.
        OSError: the folder cannot be made.
    """
    output_dir = Path(output_dir)
    if output_dir.is_file():
        raise ValueError(f"output_dir is {output_dir}, which is a file: give a folder")
    if is_main_process:
        hold(output_dir)
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


def check_whole(checkpoint: str | Path):
    """Refuses a checkpoint that a user has named, if it is not whole.

    Raises:
        ValueError: there is no such folder, or a file of it is missing or has changed; the message names the file.
    """
    if not Path(checkpoint).is_dir():
        raise ValueError(f"resume_from_checkpoint is {checkpoint}, where no checkpoint is")
    if found := flaw(Path(checkpoint)):
        raise ValueError(
            f"resume_from_checkpoint is {checkpoint}, which is not whole: {found}; take another one, or true for the "
            "newest whole one in output_dir"
        )


def check_same_run(checkpoint: str | Path, run: dict, accepted: Sequence[str] = ()):
    """Refuses to continue a checkpoint with other settings, which would silently train something else.

    Settings that the seal, perhaps of an earlier version, does not know are not compared. `accepted` are names, or the
    first part of names ("data" for all of "data.tokens", "data.seed", …), that may differ; a warning says how.

    Raises:
        ValueError: a setting differs; its name and both values are in the message. A name in `accepted` is none of a
            setting.
    """

    for name in accepted:
        if not any(each == name or each.startswith(f"{name}.") for each in run):
            remedy = remedy_for(name, run, "the settings are", sorted(run))
            raise ValueError(f"ignore_changed has {name}, which no setting of this run is called; {remedy}")
    check_same_settings(checkpoint, read_seal(checkpoint)["run"], run, accepted)


def check_same_settings(place: str | Path, before: Mapping, run: Mapping, accepted: Sequence[str] = ()):
    """Refuses settings that differ from those before, which stand in `place`; see `check_same_run`.

    Raises:
        ValueError: a setting differs; its name and both values are in the message.
    """

    def is_accepted(name):
        return any(name == each or name.startswith(f"{each}.") for each in accepted)

    differing = [name for name in before.keys() & run.keys() if before[name] != run[name]]
    changed = {name: f"{name}={before[name]!r}, this run has {run[name]!r}" for name in differing}
    if refused := sorted(name for name in changed if not is_accepted(name)):
        raise ValueError(
            f"{place} was trained with {'; '.join(changed[name] for name in refused)}: use the same values, or "
            f"another output_dir for a new run; --ignore_changed {' '.join(refused)} continues all the same"
        )
    for name in sorted(changed):
        logger.warning("%s was trained with %s (accepted by ignore_changed)", place, changed[name])
