"""What the fine-tuning recipes share: a run from its rows to its page, and several runs in one command."""

import copy
import dataclasses
import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from accelerate import PartialState
from transformers import TrainerState

from hf_lineage.arguments import FineTuningArguments, GridArguments, saved_config
from hf_lineage.data.randomness import permutation
from hf_lineage.data.rows import draw_rows, joined_rows, rows_at
from hf_lineage.files import json_text, write_json, write_text
from hf_lineage.hub.model_card import RunFacts, last_lines, page_command, read_results
from hf_lineage.metrics.score_table import misses_floor, score_table, side_of_floor
from hf_lineage.training.checkpoints import (
    FINISHED,
    check_same_settings,
    last_complete_checkpoint,
    prepare_output_dir,
)
from hf_lineage.training.results import Results
from hf_lineage.training.run_settings import digest_of_files, plain, settings_of_arguments
from hf_lineage.training.trainer import LineageTrainer
from hf_lineage.training.training_arguments import LineageTrainingArguments


# written last: a folder that has it holds a finished run
PREDICTIONS = "predictions.jsonl"
STATE = "trainer_state.json"
# push_to_hub leaves out what begins so
FEATURES = "_features"
RANDOM_WEIGHTS = "_random_weights"


@dataclass
class FineTuningRun:
    """One run of a fine-tuning recipe, from its training rows to what it leaves in its folder.

    Args:
        folder: where the model and all results go.
        model_args: of the recipe.
        training_args: of the recipe; seed, learning rate and output_dir are the run's own.
        label_count: the number of training rows, in place of `max_train_samples`.
        fold: (number, of how many): which part of the training and validation rows validates this run.
        is_trained: the folder holds the trained model, which is only scored.
        splits: which splits are scored; None: validation and test.
    """

    folder: Path
    model_args: FineTuningArguments
    training_args: LineageTrainingArguments
    label_count: int | None = None
    fold: tuple[int, int] | None = None
    is_trained: bool = False
    splits: tuple[str, ...] | None = None
    results: Results = field(init=False)
    trainer: LineageTrainer = field(init=False)

    def __post_init__(self):
        self._lines: list[dict] = []
        self._train_rows = 0

    def rows_of(self, splits: Mapping, validation_split: str = "validation") -> dict:
        """The run's rows of the splits train, validation and perhaps test: of its fold, or the few that are drawn.

        Without folds, all runs draw the same training rows, and a larger number includes the smaller ones.

        Where there are fewer training rows than asked for, all are taken, and a printed line says so.

        Raises:
            ValueError: there are fewer training rows than folds.
        """
        rows = dict(splits)
        if self.fold is not None:
            number, folds = self.fold
            # where there is no validation split, --validation_split train names the same rows twice
            is_whole = validation_split == "train"
            whole = rows["train"] if is_whole else joined_rows(rows["train"], rows["validation"])
            if len(whole) < folds:
                raise ValueError(f"folds is {folds}, but there are only {len(whole)} rows")
            order = permutation(0, 0, len(whole))
            is_here = [place % folds == number for place in range(len(whole))]
            rows["validation"] = rows_at(whole, [row for row, here in zip(order, is_here, strict=True) if here])
            rows["train"] = rows_at(whole, [row for row, here in zip(order, is_here, strict=True) if not here])
        for name, number in (
            ("label_counts has", self.label_count),
            ("max_train_samples is", self.model_args.max_train_samples),
        ):
            if number is not None and number > len(rows["train"]):
                there = len(rows["train"])
                PartialState().print(f"{name} {number}, but there are only {there} training rows: all are taken")
        rows["train"] = draw_rows(rows["train"], self.label_count or self.model_args.max_train_samples)
        self._train_rows = len(rows["train"])
        return rows

    def inputs(self, transfer, rows: Mapping, collator: Callable) -> tuple[Mapping, Callable]:
        """The encoded rows of each split and their collator; with transfer features, what the body gives for them."""
        if transfer.mode != "features":
            return rows, collator
        transfer.model.base_model.to(self.training_args.device)
        folder = self.model_args.features_dir or self.folder / FEATURES
        with self.training_args.main_process_first(desc="features"):
            kept = transfer.keep_states(rows, collator, folder, self.training_args.per_device_eval_batch_size)
        return kept, kept["train"].collate

    def train(self, trainer: LineageTrainer, facts: RunFacts, **entries):
        """Trains and saves the model, or loads what is trained; `entries` stand in results.json."""
        self.trainer = trainer
        trainer.facts = facts
        if self.is_trained:
            trainer._load_from_checkpoint(str(self.folder))
            trainer.state = TrainerState.load_from_json(str(self.folder / STATE))
        else:
            trainer.train(self.training_args.resume_from_checkpoint or last_complete_checkpoint(self.folder))
            trainer.save_model()
            trainer.save_state()
        transfer = trainer.transfer
        assert transfer is not None
        self.results = Results(
            self.folder / "results.json",
            is_writer=trainer.is_world_process_zero(),
            model_type=trainer.model.config.model_type,
            **entries,
            transfer=transfer.mode,
            parameters=transfer.counts(),
            seed=self.training_args.seed,
            learning_rate=self.training_args.learning_rate,
            train_rows=self._train_rows,
        )

    def scored(self, rows: Iterable[str]) -> list[str]:
        """The splits of `rows` that this run scores."""
        return [split for split in self.splits or ("validation", "test") if split in rows]

    def report(
        self,
        split: str,
        scores: Mapping[str, float],
        floors: Mapping[str, Mapping[str, float]],
        predictions: Iterable[Mapping],
        main: str,
        **counts: int,
    ):
        """Keeps the scores of a split, its floors and what was predicted; prints a table.

        `main` is the score by which runs are compared. Each prediction has "gold" and "answer", and the input.
        """
        self.results["main_score"] = main
        # both rounded, so that a score that equals its floor is not below it
        scores = {name: round(value, 4) for name, value in scores.items()}
        floors = {
            floor: {name: round(value, 4) for name, value in of_floor.items()} for floor, of_floor in floors.items()
        }
        if self.model_args.random_weights_floor:
            untrained = read_results(self.folder / RANDOM_WEIGHTS)[split]
            floors = {**floors, "random weights": {name: _number(untrained[name]) for name in scores}}
        self.results[split] = {**scores, **counts, "floors": floors}
        PartialState().print(f"\n{split}\n{score_table(scores, floors)}")
        self._lines += [{"split": split, **line} for line in predictions]

    def finish(self):
        """Writes the card, the page and the predictions, prints the last lines, and pushes the model if asked to."""
        trainer = self.trainer
        split, main = "test" if "test" in self.results else "validation", self.results["main_score"]
        if trainer.is_world_process_zero():
            trainer.create_model_card()
            self._write_page()
            write_text(self.folder / PREDICTIONS, "".join(json_text(line) + "\n" for line in self._lines))
        PartialState().print(trainer.last_lines(f"{split} {main} {self.results[split][main]:.4f}"))
        PartialState().wait_for_everyone()
        if self.training_args.push_to_hub:
            trainer.push_to_hub()

    def _write_page(self):
        try:
            from hf_lineage.reports.task_report import write_task_report
        except ImportError as error:
            PartialState().print(f"report.html needs {error.name}: pip install 'hf_lineage[finetune]'")
            return
        write_task_report(self.folder / "report.html", self.results, self._lines, self.trainer.state.log_history)


def finetune_twin(finetune: Callable, run: FineTuningRun, task_args, data_args):
    """`finetune` from random weights, in a folder within the run's, unless that is finished."""
    folder, own = run.folder / RANDOM_WEIGHTS, copy.copy(run.training_args)
    own.output_dir, own.push_to_hub = str(folder), False
    of_twin = dataclasses.replace(run.model_args, random_weights=True, random_weights_floor=False, features_dir=None)
    if run.is_trained or not (folder / PREDICTIONS).is_file():
        twin = dataclasses.replace(run, folder=folder, model_args=of_twin, training_args=own)
        PartialState().print("\nthe same network from random weights")
        finetune(twin, of_twin, task_args, data_args, own)
    PartialState().wait_for_everyone()


def finetune_all(
    finetune: Callable,
    model_args: FineTuningArguments,
    task_args,
    data_args,
    grid: GridArguments,
    training_args: LineageTrainingArguments,
):
    """Calls `finetune(tuning, model_args, task_args, data_args, training_args)` once, or for each run of `grid`.

    Of several learning rates the one with the best mean score on the validation text is chosen, for each number of
    labels; only its models are scored on the test text. Random weights choose their own. The folder of several runs
    has a folder of each, results.json with means and standard deviations, and, for a curve or a comparison, curve.png.
    A killed command continues where it stopped.

    Raises:
        ValueError: the folder holds a finished run or one with other settings, `compare_with` names a folder without
            such results, early stopping has no evaluations to look at, or a file of the data is missing.
    """
    _check_stopping(model_args, training_args)
    _check_counts(model_args, grid, training_args)
    data_args.check_files(grid.folds)
    if grid.folds is not None and data_args.validation_split not in data_args.files and data_args.dataset is None:
        # the folds are cut from the training rows alone
        data_args = dataclasses.replace(data_args, validation_split="train")
    saved_config(model_args.model_name_or_path)
    others = {folder: _curve_of(folder) for folder in grid.compare_with or ()}
    folder = prepare_output_dir(
        str(training_args.output_dir),
        training_args.overwrite_output_dir,
        # of several runs each finished one is found again
        finished=FINISHED if grid.is_one_run else (),
        is_main_process=training_args.process_index == 0,
    )

    def with_its_twin(run: FineTuningRun):
        if run.model_args.random_weights_floor:
            finetune_twin(finetune, run, task_args, data_args)
        finetune(run, run.model_args, task_args, data_args, run.training_args)

    if grid.is_one_run:
        with_its_twin(FineTuningRun(folder, model_args, training_args))
        return
    if training_args.push_to_hub:
        raise ValueError("push_to_hub is True, but there are several runs: push one of their folders afterwards")
    if model_args.features_dir is None:
        model_args = dataclasses.replace(model_args, features_dir=str(folder / FEATURES))
    cells = Cell.all(grid, training_args)
    of_command = _same_grid(folder, cells, [model_args, task_args, data_args, grid], training_args)
    # a run's trainer knows no others
    accepted = [name for name in training_args.ignore_changed or () if name not in of_command]

    def run_of(cell: "Cell", **options) -> FineTuningRun:
        own = copy.copy(training_args)
        own.ignore_changed = accepted
        own.output_dir, own.seed, own.learning_rate = str(folder / cell.name), cell.seed, cell.learning_rate
        PartialState().print(f"\n{cell.name}")
        return FineTuningRun(
            folder / cell.name, model_args, own, label_count=cell.label_count, fold=cell.fold, **options
        )

    def run_one(cell: "Cell", **options) -> dict:
        run = run_of(cell, **options)
        with_its_twin(run)
        return dict(run.results)

    def untrained(cell: "Cell") -> dict:
        return read_results(folder / cell.name / RANDOM_WEIGHTS)

    def choose_for_random_weights(chosen: Sequence["Cell"], of_count: Sequence["Cell"]) -> float:
        """Puts what random weights reach at their own best rate beside the scores of `chosen`; returns the rate."""
        rate, _ = best_rate({cell: untrained(cell) for cell in of_count}, main)
        for cell, twin in zip(chosen, [cell for cell in of_count if cell.learning_rate == rate], strict=True):
            if "test" in results[cell] and "test" not in untrained(twin):
                finetune_twin(finetune, run_of(twin, is_trained=True), task_args, data_args)
            reached = untrained(twin)
            for split in ("validation", "test"):
                if split in results[cell]:
                    floor = results[cell][split]["floors"]["random weights"]
                    floor |= {name: _number(reached[split][name]) for name in floor}
        return rate

    results = {
        cell: read_results(folder / cell.name) for cell in cells if (folder / cell.name / PREDICTIONS).is_file()
    }
    results = {cell: found for cell, found in results.items() if "validation" in found}
    PartialState().wait_for_everyone()
    several_rates = len({cell.learning_rate for cell in cells}) > 1
    for cell in cells:
        if cell not in results:
            # the test text has no part in the choice of a rate
            results[cell] = run_one(cell, splits=("validation",) if several_rates else None)
    main = results[cells[0]]["main_score"]
    if unlike := {folder: one["main_score"] for folder, one in others.items() if one["main_score"] != main}:
        other, score = next(iter(unlike.items()))
        raise ValueError(f"compare_with names {other}, whose score is {score}; here it is {main}: leave it out")
    points = []
    for count in sorted({cell.label_count for cell in cells}, key=lambda count: count or 0):
        of_count = [cell for cell in cells if cell.label_count == count]
        best, by_rate = best_rate({cell: results[cell] for cell in of_count}, main)
        chosen = [cell for cell in of_count if cell.learning_rate == best]
        twin_rate = {}
        if several_rates:
            results |= {cell: run_one(cell, is_trained=True) for cell in chosen if "test" not in results[cell]}
            if model_args.random_weights_floor:
                twin_rate = {"learning_rate_of_random_weights": choose_for_random_weights(chosen, of_count)}
        found = point([results[cell] for cell in chosen], by_rate) | twin_rate
        # two numbers of labels may both be all that there are
        if not points or points[-1]["train_rows"] != found["train_rows"]:
            points.append(found)
    if PartialState().is_main_process:
        curve = {"main_score": main, "points": points}
        write_json(folder / "results.json", curve)
        PartialState().print("\n" + curve_table(points, main))
        PartialState().print("".join(f"{line}\n" for line in _undefined(points)), end="")
        shown = _shown(folder, {folder.name: curve, **others}, bool(grid.label_counts or others))
        split = "test" if "test" in points[-1] else "validation"
        score = points[-1][split][main]
        said = f"{split} {main} {score['mean']:.4f} ± {score['std']:.4f}"
        PartialState().print(last_lines(folder, said, page_command(shown)))


def _check_stopping(model_args: FineTuningArguments, training_args: LineageTrainingArguments):
    patience = model_args.early_stopping_patience
    if patience is not None and not training_args.load_best_model_at_end:
        raise ValueError(
            f"early_stopping_patience is {patience}, but load_best_model_at_end is False: set it to true, with "
            "eval_strategy and save_strategy epoch (or steps)"
        )


def _check_counts(model_args: FineTuningArguments, grid: GridArguments, training_args: LineageTrainingArguments):
    """Refuses numbers of training rows that fill no update, before the first run trains."""
    rows = training_args.rows_per_update
    for name, counts in (("label_counts", grid.label_counts), ("max_train_samples", [model_args.max_train_samples])):
        least = min((count for count in counts or () if count is not None), default=rows)
        if training_args.dataloader_drop_last and least < rows:
            raise ValueError(
                f"{name} is {least}, but an update of the weights reads {rows} rows: give at least as many, lower "
                "per_device_train_batch_size, or set dataloader_drop_last to false"
            )


@dataclass(frozen=True)
class Cell:
    """What one of several runs has for its own; `name` is its folder."""

    name: str
    label_count: int | None
    learning_rate: float
    fold: tuple[int, int] | None
    seed: int

    @classmethod
    def all(cls, grid: GridArguments, training_args: LineageTrainingArguments) -> list["Cell"]:
        """The runs of a grid; most labels first, so that too few rows show at once."""
        cells = []
        for count, rate, fold, seed in itertools.product(
            sorted(grid.label_counts, reverse=True) if grid.label_counts else [None],
            grid.learning_rates or [training_args.learning_rate],
            range(grid.folds) if grid.folds else [None],
            grid.seeds or [training_args.seed],
        ):
            parts = [f"labels_{count}"] if grid.label_counts else []
            parts += [f"rate_{rate}"] if grid.learning_rates else []
            parts += [f"fold_{fold}"] if fold is not None else []
            name = "-".join([*parts, f"seed_{seed}"])
            cells.append(cls(name, count, rate, None if fold is None else (fold, grid.folds or 1), seed))
        return cells


def best_rate(results: Mapping[Cell, Mapping], main: str) -> tuple[float, dict[float, list[float]]]:
    """The learning rate with the best mean of the score `main` on the validation text, and the scores at each."""
    by_rate: dict[float, list[float]] = {}
    for cell, result in results.items():
        by_rate.setdefault(cell.learning_rate, []).append(_number(result["validation"][main]))
    # a correlation with answers that are all equal does not exist
    means = {rate: fmean(values) for rate, values in by_rate.items()}
    return max(means, key=lambda rate: -math.inf if math.isnan(means[rate]) else means[rate]), by_rate


def point(results: Sequence[Mapping], by_rate: Mapping[float, Sequence[float]]) -> dict:
    """Scores of runs that differ in seed and fold: mean, standard deviation (of a sample, n − 1) and values."""
    found = {"train_rows": results[0]["train_rows"], "learning_rate": results[0]["learning_rate"]}
    found["validation_by_learning_rate"] = {str(rate): spread(values) for rate, values in by_rate.items()}
    for split in ("validation", "test"):
        if all(split in result for result in results):
            of_split = [result[split] for result in results]
            # counts are whole numbers
            names = [name for name in of_split[0] if all(isinstance(one[name], float | None) for one in of_split)]
            found[split] = {name: spread([_number(one[name]) for one in of_split]) for name in names}
            # rows of one class have no TF-IDF
            shared = [floor for floor in of_split[0]["floors"] if all(floor in one["floors"] for one in of_split)]
            found[split]["floors"] = {
                floor: {
                    name: spread([_number(one["floors"][floor][name]) for one in of_split])
                    for name in of_split[0]["floors"][floor]
                }
                for floor in shared
            }
    return found


def _number(value: float | None) -> float:
    """NaN stands as null in results.json."""
    return math.nan if value is None else value


def spread(values: Sequence[float]) -> dict:
    """Mean, standard deviation of a sample (0 for one value) and the values; NaN if one of these is NaN."""
    mean = fmean(values)
    # Python 3.11's stdev fails on NaN
    std = math.nan if math.isnan(mean) else stdev(values) if len(values) > 1 else 0.0
    return {"mean": mean, "std": std, "values": list(values)}


def _undefined(points: Sequence[Mapping]):
    """Gives a line for each score that some runs do not have."""
    for one in points:
        for split in ("validation", "test"):
            for name, found in one.get(split, {}).items():
                missing = sum(map(math.isnan, found["values"])) if name != "floors" else 0
                if missing:
                    yield (
                        f"{split} {name} is not defined in {missing} of {len(found['values'])} runs of "
                        f"{one['train_rows']} training rows, so that its mean is null in results.json: all labels or "
                        "all answers are equal there"
                    )


def curve_table(points: Sequence[Mapping], main: str) -> str:
    """A row for each number of training rows, in Markdown: mean ± standard deviation of `main`, and the floors' means.

    Marks each score whose mean is worse than a floor's mean.
    """
    split = "test" if all("test" in one for one in points) else "validation"
    floors = dict.fromkeys(name for one in points for name, of in one[split]["floors"].items() if main in of)
    # without a test text there is one column
    parts = dict.fromkeys(("validation", split))
    header = ["training rows", "learning rate", *(f"{part} {main}" for part in parts), *floors]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for one in points:
        of_floors = [one[split]["floors"].get(name, {main: {"mean": math.nan}})[main]["mean"] for name in floors]
        cells = [f"{one[part][main]['mean']:.4f} ± {one[part][main]['std']:.4f}" for part in parts]
        if any(misses_floor(main, one[split][main]["mean"], floor) for floor in of_floors):
            cells[-1] += f" ({side_of_floor(main)} a floor)"
        cells += ["–" if math.isnan(floor) else f"{floor:.4f}" for floor in of_floors]
        lines.append(f"| {one['train_rows']} | {one['learning_rate']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _curve_of(folder: str) -> dict:
    results = read_results(Path(folder))
    if "points" not in results:
        raise ValueError(
            f"compare_with names {folder}, which has no results.json of several runs: name the output_dir of a "
            "finished command with --seeds or --label_counts"
        )
    return results


def _shown(folder: Path, curves: Mapping[str, dict], is_curve: bool) -> Path:
    """Writes the page of several runs, and the plot of a curve; returns what to look at."""
    try:
        from hf_lineage.reports.task_report import plot_curves, write_grid_report
    except ImportError as error:
        PartialState().print(f"report.html needs {error.name}: pip install 'hf_lineage[finetune]'")
        return folder / "results.json"
    if is_curve:
        plot_curves(folder / "curve.png", curves)
    write_grid_report(folder / "report.html", curves)
    return folder / "report.html"


# of the arguments of several runs these change no result
FREE_NAMES = ("features_dir", "compare_with")


def _same_grid(
    folder: Path, cells: Sequence["Cell"], arguments: Sequence, training: LineageTrainingArguments
) -> set[str]:
    """Keeps the command's settings in grid.json; refuses to continue runs of other settings, data or another model.

    Returns the names of the settings that are none of a single run.
    """
    of_command: dict = {}
    for one in arguments:
        of_command |= dataclasses.asdict(one)
        # the same name may lead to other files today
        if (source := getattr(one, "source", None)) is not None:
            of_command["data.files"] = digest_of_files(source.values() if isinstance(source, Mapping) else [source])
        if (model := getattr(one, "model_name_or_path", None)) is not None:
            of_command["model.files"] = digest_of_files([model], ("config.json", "*.safetensors"))
    of_command = {name: value for name, value in of_command.items() if name not in FREE_NAMES}
    settings = plain(settings_of_arguments(training) | of_command)
    path, is_main = folder / "grid.json", training.process_index == 0
    if training.overwrite_output_dir and is_main:
        for cell in cells:
            shutil.rmtree(folder / cell.name, ignore_errors=True)
        path.unlink(missing_ok=True)
    PartialState().wait_for_everyone()
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))["settings"]
        check_same_settings(folder, before, settings, training.ignore_changed or ())
    elif not training.overwrite_output_dir and (found := [name for name in FINISHED if (folder / name).is_file()]):
        raise ValueError(
            f"output_dir is {folder}, which holds the {found[0]} of a finished run: give another folder, or "
            "--overwrite_output_dir"
        )
    PartialState().wait_for_everyone()
    if is_main:
        write_json(path, {"settings": settings})
    PartialState().wait_for_everyone()
    return {name for name in of_command if not name.startswith("data.")}
