"""Recipes run in their own processes, by another one."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from hf_lineage.files import write_json
from hf_lineage.hub.model_card import read_results
from hf_lineage.training.results import Results
from hf_lineage.training.run_settings import digest_of, digest_of_files


def run_recipe(name: str, command: Sequence[str], log: Path) -> float:
    """Runs a command with its output in a log; returns the seconds.

    Raises:
        RuntimeError: the command failed; the message has the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise RuntimeError("\n".join([f"{name} ended with status {done.returncode}; the end of {log}:", *lines]))
    return time.perf_counter() - started


class RecipeRuns:
    """Runs of recipes, each in a folder of `output_dir`, with their logs; a finished one is not repeated.

    runs.json has the command of each run, and the seconds of finished ones; with `anew` all are done again.
    `recipes` is the folder of the scripts.
    """

    def __init__(self, output_dir: Path, recipes: Path, *, anew: bool = False):
        self.output_dir, self.recipes, self.anew = output_dir, recipes, anew
        path = output_dir / "runs.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not anew else {}
        self.finished = Results(path, **found)

    def check_data(self, files: Iterable[str], **data):
        """Refuses to continue with data whose content is another one; data.json has the digests of the first.

        `files` are files, folders, or names on the Hub, which are not compared.

        Raises:
            ValueError: some have changed; the message names them.
        """
        path = self.output_dir / "data.json"
        digests = {name: digest_of(content) for name, content in data.items()}
        digests |= {place: found for place in files if (found := digest_of_files([place])) is not None}
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not self.anew else {}
        if changed := [name for name in digests if before.get(name, digests[name]) != digests[name]]:
            raise ValueError(
                f"{self.output_dir} holds results of another {', '.join(changed)}: give the same data, another "
                "output_dir, or --overwrite_output_dir"
            )
        write_json(path, before | digests)

    def run(self, name: str, recipe: str, *options, continues: bool = False, replaces: bool = False) -> dict:
        """Runs a recipe with these options and returns its results.

        With `continues`, an interrupted recipe continues from its last checkpoint; otherwise it starts anew. What
        another command left in the folder is then an error of the recipe, or with `replaces` it is done again.

        Raises:
            RuntimeError: the recipe failed; the message has the end of its log.
        """
        folder, command = self.output_dir / name, [recipe, *map(str, options)]
        before = self.finished.get(name, {"command": command})
        if "seconds" in before and before["command"] == command:
            return read_results(folder)
        tqdm.write(f"{name}: {' '.join(command)}")
        is_same = before["command"] == command
        # a model without checkpoints cannot be continued: of its run this command did not see the end
        is_whole = is_same and (folder / "model.safetensors").is_file() and not any(folder.glob("checkpoint-*"))
        goes_on = continues and not self.anew and not is_whole and (is_same or not replaces)
        if is_same or not goes_on:
            self.finished[name] = {"command": command}
        call = [sys.executable, str(self.recipes / recipe), *command[1:], "--output_dir", str(folder)]
        call += ["--disable_tqdm", "true"] + ([] if goes_on else ["--overwrite_output_dir", "true"])
        seconds = run_recipe(name, call, self.output_dir / "logs" / f"{name}.log")
        self.finished[name] = {"command": command, "seconds": round(seconds, 1)}
        return read_results(folder)
