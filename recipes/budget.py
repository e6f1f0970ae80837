r"""Pre-train the lineage under one budget, and measure what each station has learnt.

    python recipes/budget.py --corpus lm_mixed_en/train_10M.txt --output_dir runs/budget --pairs blimp.jsonl
    python recipes/budget.py --corpus lm_mixed_en/train_10M.txt --output_dir runs/curves --stations lstm gpt \
        --words 300_000 1_000_000 --epochs 1 3 --pairs blimp.jsonl --limit_per_phenomenon 100

Every station reads the same text by its preset budget_cpu_… or budget_gpu_… (--tier). Then each is asked minimal pairs
(--pairs) and, where data are named, learns to label texts (--classification), to tag words (--tagging), to answer
questions (--question_answering) and to choose (--multiple_choice), with all labels or with few; its layers are probed.
The same network from random weights, TF-IDF, unigrams and a Kneser-Ney model that counted the same text are scored
too. --words and --epochs give learning curves.

Finished runs are not repeated: after an interruption, run the same command again. Writes results.json, budget.md,
curves.png and report.html. Needs the extras finetune and demo.
"""

import itertools
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

import numpy as np
import yaml
from matplotlib.figure import Figure
from transformers import (
    CONFIG_MAPPING,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.utils import logging

from hf_lineage.arguments import parse, run
from hf_lineage.data import TokenStream, encode_corpus, load_splits, read_minimal_pairs
from hf_lineage.data.cjk import WordCount, numbers_of_words
from hf_lineage.files import save_figure, write_text
from hf_lineage.hub.model_card import read_results
from hf_lineage.metrics import judge_minimal_pairs, perplexity_of
from hf_lineage.metrics.ngrams import KneserNey
from hf_lineage.models.replaced_files import replaced_together
from hf_lineage.reports.pages import html_figure, html_table, png
from hf_lineage.reports.task_report import PAGE, STYLE
from hf_lineage.tokenization import open_tokenizer, train_wordpiece
from hf_lineage.training import RecipeRuns, Results, last_lines, page_command, prepare_output_dir


RECIPES = Path(__file__).parent
CONFIGS = RECIPES / "configs"
RECIPE_OF = {
    "word2vec": "pretrain_word2vec.py",
    "nnlm": "pretrain_causal_lm.py",
    "rnn": "pretrain_causal_lm.py",
    "lstm": "pretrain_causal_lm.py",
    "gru": "pretrain_causal_lm.py",
    "elmo": "pretrain_bilm.py",
    "gpt": "pretrain_causal_lm.py",
    "bert": "pretrain_bert.py",
}
# the others have a vocabulary of words
READ_PIECES = ("nnlm", "rnn", "lstm", "gru", "gpt", "bert")
JUDGES = tuple(name for name in RECIPE_OF if name != "word2vec")
# each kind of task: its preset, and the class of its heads
TASKS = {
    "classification": ("finetune_pairs.yaml", AutoModelForSequenceClassification),
    "tagging": ("finetune_tagging.yaml", AutoModelForTokenClassification),
    "question_answering": ("finetune_question_answering.yaml", AutoModelForQuestionAnswering),
    "multiple_choice": ("finetune_multiple_choice.yaml", AutoModelForMultipleChoice),
}
# accuracy on BLiMP's 67 paradigms by words of text: MiniBERTas of Zhang et al. (2021), as Warstadt and Bowman give it
MINIBERTAS = {1e6: 0.586, 1e7: 0.72, 1e8: 0.78, 1e9: 0.82}
# accuracy on BLiMP's 44 public paradigms: Warstadt et al. (2020), raw results; BabyLM's winner of 2024 with 10 M words
PUBLISHED = {
    "5-gram, 3.1 billion words (published)": 0.584,
    "LSTM, 83 million words (published)": 0.682,
    "Transformer-XL, 103 million words (published)": 0.680,
    "GPT-BERT, 10 million words, many passes (published)": 0.783,
    "GPT-2 large, WebText (published)": 0.816,
}
NUM_PUBLIC_PARADIGMS = 44
ORDERS = {"unigram": 1, "Kneser-Ney, order 5": 5}
RANDOM = "random weights"
# what the presets are made for
PRESET_WORDS = 10_000_000
# the smallest batches: BERT scores few of its tokens, ELMo computes a vector for each word of a batch from its letters
LEAST_ROWS = {"bert": 8, "elmo": 64}
# rates of fine-tuning, chosen on validation: one vector per word wants a hundred times those of a Transformer
TASK_LEARNING_RATES = {"word2vec": (1e-2, 1e-1), "gpt": (3e-4, 1e-3), "bert": (3e-4, 1e-3)}
RECURRENT_TASK_LEARNING_RATES = (1e-3, 3e-3)


@dataclass
class BudgetArguments:
    """Which stations, on which text, measured by what."""

    corpus: str = field(metadata={"help": "A folder with <split> files or their shards, or a list of its shards."})
    output_dir: str = field(default="runs/budget", metadata={"help": "Folder for models, results and page."})
    tier: Literal["cpu", "gpu"] = field(
        default="cpu", metadata={"help": "Which presets: budget_cpu_… or budget_gpu_…"}
    )
    stations: list[str] = field(default_factory=lambda: [*RECIPE_OF], metadata={"help": "Stations; default: all."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Each seed trains every station."})
    words: list[int] | None = field(
        default=None, metadata={"help": "Learning curve: numbers of words, in whole documents; default: all."}
    )
    epochs: list[float] | None = field(
        default=None, metadata={"help": "Learning curve: passes over the text; default: the preset's."}
    )
    pairs: str | None = field(default=None, metadata={"help": "Minimal pairs: a .jsonl file or a folder of them."})
    limit_per_phenomenon: int | None = field(
        default=None, metadata={"help": "Pairs of each phenomenon; default: all."}
    )
    classification: list[str] | None = field(
        default=None, metadata={"help": "Folders, or Hub names, of labelled texts: SST-2, MRPC, …"}
    )
    tagging: list[str] | None = field(default=None, metadata={"help": "Folders, or Hub names, of tagged words."})
    tag_field: str = field(default="upos", metadata={"help": "Column with the tags."})
    question_answering: list[str] | None = field(
        default=None, metadata={"help": "Folders, or Hub names, of questions, texts and answers."}
    )
    multiple_choice: list[str] | None = field(default=None, metadata={"help": "Folders, or Hub names, of choices."})
    label_counts: list[int] | None = field(
        default=None, metadata={"help": "Numbers of labels for the curve over few labels; default: all labels."}
    )
    task_seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of each fine-tuning."})
    task_learning_rates: list[float] | None = field(
        default=None, metadata={"help": "Rates of each fine-tuning, chosen on validation; default: two by station."}
    )
    task_epochs: float | None = field(
        default=None,
        metadata={"help": "Passes of each fine-tuning; few labels want 10 or more; default: the preset's."},
    )
    task_transfer: Literal["full", "frozen", "features", "gradual"] = field(
        default="full",
        metadata={"help": "What of a station each task trains; features: a head on states that are computed once."},
    )
    probe_rows: int = field(default=2_000, metadata={"help": "Training rows of the layers' probes; 0: no probes."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Do all runs again."})

    def __post_init__(self):
        if unknown := sorted(set(self.stations) - set(RECIPE_OF)):
            raise ValueError(f"stations has unknown names {unknown}; there are {', '.join(RECIPE_OF)}")


ARGUMENTS = (BudgetArguments,)


def serves(station: str, kind: str) -> bool:
    """Whether the station has a head for this kind of task."""
    return CONFIG_MAPPING[f"lineage_{station}"] in TASKS[kind][1]._model_mapping


def preset(tier: str, station: str) -> Path:
    return CONFIGS / f"budget_{tier}_{station}.yaml"


def settings_of(tier: str, station: str) -> dict:
    """What a station's preset says."""
    return yaml.safe_load(preset(tier, station).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Budget:
    """One pre-training: which station, how many words of text, how many passes, which seed."""

    station: str
    words: int | None
    epochs: float | None
    seed: int

    @property
    def group(self) -> str:
        """Its name without the seed."""
        parts = [self.station]
        parts += [f"{self.words}w"] if self.words else []
        parts += [f"{self.epochs:g}e"] if self.epochs else []
        return "-".join(parts)

    @property
    def name(self) -> str:
        return f"{self.group}-seed{self.seed}"


class Bench:
    """The runs of one command: texts, tokenizers, models and what is measured on them."""

    def __init__(self, args: BudgetArguments, output_dir: Path):
        self.args, self.output_dir = args, output_dir
        self.runs = RecipeRuns(output_dir, RECIPES, anew=args.overwrite_output_dir)
        self.corpora = load_splits(args.corpus, sample_by="paragraph")
        tasks = (args.classification, args.tagging, args.question_answering, args.multiple_choice)
        files = [*([args.pairs] if args.pairs else []), *(place for places in tasks for place in places or ())]
        self.runs.check_data(files, corpus=dict(self.corpora))
        if args.overwrite_output_dir:
            # of the text before
            for folder in [*output_dir.glob("text-*"), *output_dir.glob("tokenizer*")]:
                shutil.rmtree(folder)

    def text(self, words: int | None) -> str:
        """The corpus, or a folder with its first documents of `words` words, a matching validation text, and its test.

        Each run reads the validation text ten times: a text of its own size would cost more than the training.
        """
        if words is None:
            return self.args.corpus
        folder = self.output_dir / f"text-{words}"
        if not (folder / "train.txt").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            # fewer words would not fill a batch of each station's
            held_out = max(words // 30, 10_000)
            for split, limit in {"validation": held_out, "test": None, "train": words}.items():
                texts = self.corpora[split]["text"]
                kept = texts if limit is None else first_documents(texts, limit)
                write_text(folder / f"{split}.txt", "\n\n".join(kept) + "\n")
        return str(folder)

    def tokenizer(self, words: int | None) -> Path:
        """The word pieces of a text, which all stations that read pieces share."""
        folder = self.output_dir / (f"tokenizer-{words}" if words else "tokenizer")
        if not (folder / "tokenizer.json").is_file():
            texts = self.corpora["train"]["text"]
            tokenizer = train_wordpiece(first_documents(texts, words) if words else texts, 8_000)
            with replaced_together(folder) as temporary:
                tokenizer.save_pretrained(temporary)
        return folder

    def pretrain(self, budget: Budget) -> dict:
        """A station's results.json."""
        options = [preset(self.args.tier, budget.station), "--corpus", self.text(budget.words), "--seed", budget.seed]
        if budget.station in READ_PIECES:
            options += ["--tokenizer_name", self.tokenizer(budget.words)]
        if budget.epochs is not None:
            options += ["--num_train_epochs", budget.epochs]
        if budget.station != "word2vec":
            options += ["--per_device_train_batch_size", self.rows(budget), *self.growth(budget)]
        return self.runs.run(budget.name, RECIPE_OF[budget.station], *options, continues=True)

    def passes(self, budget: Budget) -> float:
        """Passes over the text: the budget's, or its preset's."""
        return budget.epochs or float(settings_of(self.args.tier, budget.station)["num_train_epochs"])

    def rows(self, budget: Budget) -> int:
        """Rows of a batch, so that less text makes as many updates as the preset's, down to `LEAST_ROWS`."""
        settings = settings_of(self.args.tier, budget.station)
        full = PRESET_WORDS * settings["num_train_epochs"]
        read = min(budget.words or PRESET_WORDS, self.num_words) * self.passes(budget)
        rows = settings["per_device_train_batch_size"]
        return min(rows, max(LEAST_ROWS.get(budget.station, 2), round(rows * read / full)))

    @cached_property
    def num_words(self) -> int:
        """Words of the training text."""
        return sum(numbers_of_words(self.corpora["train"]["text"]))

    def growth(self, budget: Budget) -> list:
        """Options for batches that grow: the first one shrinks as the whole one does."""
        settings = settings_of(self.args.tier, budget.station)
        if "first_batch_size" not in settings:
            return []
        share = self.rows(budget) / settings["per_device_train_batch_size"]
        return ["--first_batch_size", max(1, round(settings["first_batch_size"] * share))]

    def score(self, budget: Budget) -> dict:
        """Everything that is measured on one pre-trained station."""
        found, args = self.pretrain(budget), self.args
        folder = self.output_dir / budget.name
        row = {"station": budget.station, "words": budget.words, "epochs": budget.epochs, "seed": budget.seed}
        row |= {name: found[name] for name in ("parameters", "train_seconds") if name in found}
        test = found.get("test", {})
        kept = ("bits_per_character", "masked_word_perplexity", "forward_perplexity", "backward_perplexity")
        row |= {name: test[name] for name in kept if name in test}
        if args.pairs and budget.station in JUDGES:
            for name, flags in {"pairs": [], "pairs_word_l2r": ["--word_l2r", "true"]}.items():
                if flags and budget.station != "bert":
                    continue
                options = ["--models", folder, "--pairs", args.pairs, *flags]
                if args.limit_per_phenomenon:
                    options += ["--limit_per_phenomenon", args.limit_per_phenomenon]
                judged = self.runs.run(f"{budget.name}-{name}", "evaluate_minimal_pairs.py", *options)[str(folder)]
                row |= {name: judged["accuracy"]}
                row |= {f"{name}_{way}": judged[way] for way in judged if way.endswith("_accuracy")}
        row["tasks"] = {
            task: self.finetune(budget, task, kind)
            for kind in TASKS
            for task in getattr(args, kind) or ()
            if serves(budget.station, kind)
        }
        if args.tagging and args.probe_rows and budget.station != "word2vec":
            options = ["--models", folder, "--dataset", args.tagging[0], "--tag_field", args.tag_field]
            options += ["--num_train", args.probe_rows]
            probed = self.runs.run(f"{budget.name}-layers", "probe_layers.py", *options)[str(folder)]
            row["layers"] = {layer: one["mean"] for layer, one in probed["accuracy"].items() if layer.isdigit()}
        return row

    def finetune(self, budget: Budget, task: str, kind: str) -> list[dict]:
        """The points over numbers of labels, each with its floors."""
        options = [CONFIGS / TASKS[kind][0], "--model_name_or_path", self.output_dir / budget.name, "--dataset", task]
        options += ["--random_weights_floor", "true", "--seeds", *self.args.task_seeds, "--eval_strategy", "no"]
        if kind == "tagging":
            options += ["--label_field", self.args.tag_field]
        if self.args.task_transfer != "full":
            options += ["--transfer", self.args.task_transfer]
        if self.args.task_transfer == "features" and budget.station == "gpt":
            # the loss of the language model needs the words, which features replace
            options += ["--config_overrides", '{"lm_loss_weight": 0}']
        if self.args.task_epochs is not None:
            options += ["--num_train_epochs", self.args.task_epochs]
        rates = TASK_LEARNING_RATES.get(budget.station, RECURRENT_TASK_LEARNING_RATES)
        options += ["--learning_rates", *(self.args.task_learning_rates or rates)]
        if self.args.label_counts:
            options += ["--label_counts", *self.args.label_counts]
        name = f"{budget.name}-task-{self.name_of(task)}"
        found = self.runs.run(name, f"finetune_{kind}.py", *options, continues=True, replaces=True)
        main, points = found["main_score"], []
        for point in found["points"]:
            scores = point["test" if "test" in point else "validation"]
            floors = {name: floor[main]["mean"] for name, floor in scores["floors"].items() if main in floor}
            points.append({"labels": point["train_rows"], "score": main, **scores[main], "floors": floors})
        return points

    def name_of(self, task: str) -> str:
        """The name of a task's folder; with the folder above it, if another task has the same name."""
        all_tasks = itertools.chain.from_iterable(getattr(self.args, kind) or () for kind in TASKS)
        names = [Path(other).name for other in all_tasks]
        parts = Path(task).parts[-2:] if names.count(Path(task).name) > 1 else Path(task).parts[-1:]
        return "-".join(part for part in parts if part != "/")

    def opponents(self, words: int | None) -> dict[str, dict]:
        """What counting the same text gives: unigrams, and Kneser-Ney."""
        tokenizer = open_tokenizer(self.tokenizer(words))
        corpora = load_splits(self.text(words), sample_by="paragraph")
        train, test = (encode_corpus(corpora[split], tokenizer) for split in ("train", "test"))
        found = {}
        for name, order in ORDERS.items():
            model = KneserNey(train.tokens, len(tokenizer), order)
            row = {
                "words": words,
                "bits_per_character": perplexity_of(model.log_probabilities(test.tokens), test)["bits_per_character"],
            }
            if self.args.pairs:
                row["pairs"] = judge_minimal_pairs(*self.counted(model, tokenizer, train))["accuracy"]
            found[name] = row
        return found

    def published(self) -> dict[str, dict]:
        """What other systems reach, if the pairs are BLiMP's public ones."""
        rows = read_minimal_pairs(self.args.pairs, limit=1) if self.args.pairs else []
        are_public = len(rows) == NUM_PUBLIC_PARADIGMS and any(row.get("UID") == "wh_island" for row in rows)
        return {name: {"pairs": accuracy} for name, accuracy in PUBLISHED.items()} if are_public else {}

    def counted(self, model: KneserNey, tokenizer, train: TokenStream) -> tuple[dict[str, float], list[dict]]:
        """The log-probability of each sentence of the pairs after an end mark, and the pairs."""
        rows = read_minimal_pairs(self.args.pairs, limit=self.args.limit_per_phenomenon)
        texts = sorted({row[name] for row in rows for name in ("sentence_good", "sentence_bad")})
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        # all in one pass: each sentence begins with an end mark, which is read but not scored
        stream = np.concatenate([[train.eos_token_id, *ids] for ids in encoded])
        log_p = np.concatenate([[0.0], model.log_probabilities(stream)])
        starts = np.cumsum([0, *(len(ids) + 1 for ids in encoded)])
        totals = [float(log_p[start + 1 : end].sum()) for start, end in itertools.pairwise(starts)]
        return dict(zip(texts, totals, strict=True)), rows


def first_documents(texts: Iterable[str], words: int) -> list[str]:
    """The first whole documents that together have `words` words (characters, where the text has no blanks)."""
    kept, number = [], 0
    for text in texts:
        kept.append(text)
        number += WordCount.of(text).words
        if number >= words:
            break
    return kept


def spread(values: Iterable[float]) -> str:
    """Mean, and the standard deviation of a sample where there is one."""
    values = list(values)
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def table(rows: Mapping[str, dict], opponents: Mapping[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row for each station and budget, over its seeds; the opponents first."""
    groups: dict[str, list[dict]] = {}
    for name, row in rows.items():
        groups.setdefault(name.rpartition("-seed")[0], []).append(row)
    # a station without a head for a task lacks it
    tasks = {
        (task, place): f"{Path(task).name}, {point['labels']:,} labels: {point['score']}"
        for row in rows.values()
        for task, points in row["tasks"].items()
        for place, point in enumerate(points)
    }
    names = {"bits_per_character": "bits per character", "pairs": "minimal pairs", "pairs_word_l2r": "word-l2r"}
    names = {
        key: name for key, name in names.items() if any(key in row for row in [*rows.values(), *opponents.values()])
    }
    header = ["model", "parameters", "minutes", *names.values()]
    for title in tasks.values():
        header += [title, RANDOM, "TF-IDF"]
    lines = []
    for name, row in opponents.items():
        lines.append([name, "", "", *(f"{row[key]:.3f}" if key in row else "" for key in names)])
        lines[-1] += [""] * (3 * len(tasks))
    for name, of_seeds in groups.items():
        first = of_seeds[0]
        cells = [name, f"{first['parameters']:,}", spread(row["train_seconds"] / 60 for row in of_seeds)]
        cells += [spread(row[key] for row in of_seeds) if key in first else "" for key in names]
        for task, place in tasks:
            points = [row["tasks"][task][place] for row in of_seeds if len(row["tasks"].get(task, ())) > place]
            if not points:
                cells += [""] * 3
                continue
            cells.append(spread(itertools.chain.from_iterable(point["values"] for point in points)))
            for floor in (RANDOM, "TF-IDF"):
                values = [point["floors"][key] for point in points for key in point["floors"] if floor in key]
                cells.append(spread(values[:1]) if values else "")
        lines.append(cells)
    return header, lines


def markdown(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def curves(rows: Mapping[str, dict], opponents: Mapping[str, dict]) -> Figure:
    """Words read, passes counted, against minimal pairs and bits per character; a line for each station."""
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2)
    stations = dict.fromkeys(row["station"] for row in rows.values())
    for axis, key, label in (
        (axes[0], "pairs", "accuracy on minimal pairs"),
        (axes[1], "bits_per_character", "bits per character"),
    ):
        for station in stations:
            points: dict[float, list[float]] = {}
            for row in rows.values():
                if row["station"] == station and key in row:
                    points.setdefault(row["words_read"], []).append(row[key])
            if points:
                places = sorted(points)
                axis.plot(places, [fmean(points[place]) for place in places], marker="o", label=station)
        for name, row in opponents.items():
            if key in row:
                axis.axhline(row[key], color="grey", linestyle=":" if name == "unigram" else "--", linewidth=1)
                axis.text(
                    0.99, row[key], name, fontsize=7, ha="right", va="bottom", transform=axis.get_yaxis_transform()
                )
        if key == "pairs":
            axis.plot([*MINIBERTAS][:2], [*MINIBERTAS.values()][:2], "k*", label="MiniBERTas, distinct words")
        axis.set(xscale="log", xlabel="words read", ylabel=label)
        axis.grid(alpha=0.3)
        # word2vec alone has no line
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    return figure


def main():
    # 1. arguments
    (args,) = parse(*ARGUMENTS, description=__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir, finished=())
    bench = Bench(args, output_dir)
    budgets = [
        Budget(station, words, epochs, seed)
        for words, epochs, station, seed in itertools.product(
            args.words or [None], args.epochs or [None], args.stations, args.seeds
        )
    ]

    # 2. the opponents count the largest text
    # a station that fails keeps the row that it had
    before = {} if args.overwrite_output_dir else read_results(output_dir).get("models", {})
    kept = {budget.name: before[budget.name] for budget in budgets if budget.name in before}
    results = Results(output_dir / "results.json", models=kept)
    results["opponents"] = bench.opponents(max(args.words) if args.words else None)

    # 3. every station under every budget
    failed = []
    for budget in budgets:
        try:
            row = bench.score(budget)
        except RuntimeError as error:
            print(f"{budget.name}: {error}")
            failed.append(budget.name)
            continue
        row["words_read"] = bench.passes(budget) * min(budget.words or bench.num_words, bench.num_words)
        results["models"] = {**results["models"], budget.name: row}
        shown = [f"{name} {row[name]:.3f}" for name in ("bits_per_character", "pairs") if name in row]
        print(f"{budget.name}: {', '.join(shown) or 'done'}", flush=True)
    if not results["models"]:
        sys.exit(f"failed: {', '.join(failed)}")

    # 4. table, plot and page
    header, lines = table(results["models"], {**results["opponents"], **bench.published()})
    write_text(output_dir / "budget.md", markdown(header, lines) + "\n")
    figure = curves(results["models"], results["opponents"])
    save_figure(figure, output_dir / "curves.png")
    sections = html_figure(
        png(figure), "two plots over words read", "Lines: stations. Dotted: unigrams. Dashed: Kneser-Ney, order 5."
    )
    note = (
        "Minimal pairs: the share in which the grammatical sentence has the higher score; ties are wrong. "
        "± is the standard deviation over seeds."
    )
    page = PAGE.format(
        title="The lineage under one budget",
        style=STYLE,
        summary=escape(f"{note} Text: {Path(args.corpus).name}, {bench.num_words:,} words."),
        sections=f'<div class="wide">{html_table(header, lines)}</div>\n{sections}',
    )
    write_text(output_dir / "report.html", page)
    score = f"{len(results['models'])} of {len(budgets)} models"
    print(last_lines(output_dir / "report.html", score, page_command(output_dir / "report.html")))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    run(main)
