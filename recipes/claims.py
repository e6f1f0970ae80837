r"""Measure what the papers of the lineage claim, each on small models, and say what holds at this scale.

    python recipes/claims.py --output_dir runs/claims --tags UD_ENGLISH_EWT --senses WIC
    python recipes/claims.py --output_dir runs/claims --claims long_dependencies attention --models runs/lineage

Each claim is a few runs of other recipes, a rule and a plot. The rule looks at the measured numbers and says whether
the claim holds; a difference within the noise of seeds or of the test set does not count. The claims:

long_dependencies  an LSTM or a GRU remembers over gaps that an RNN does not bridge, the GRU no less than the LSTM
senses             a word's static vector cannot tell its senses; its vectors in context can
positions          models tell word order by their position vectors
elmo_syntax        ELMo's first layer knows word classes better than its second
attention          attention keeps its quality on long sentences; a fixed state does not
masking            80/10/10 masks give better features than 100 % masks
pretraining        a pre-trained model tags better than the same one untrained

Runs that are finished are not repeated, so a killed command continues where it stopped. With --models runs/lineage the
claims use the models of `make demo`, which learned for less time, except for translation. Writes results.json,
claims.md and a plot for each claim. Needs the extras finetune and demo.
"""

import math
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from tqdm.auto import tqdm
from transformers.utils import logging

from hf_lineage.arguments import parse, run
from hf_lineage.data import load_splits, read_labelled, split_sentences
from hf_lineage.files import json_text, save_figure, write_text
from hf_lineage.hub.model_card import read_results
from hf_lineage.lab import open_models
from hf_lineage.lab.word_order import bits, shuffles, without_positions
from hf_lineage.training import RecipeRuns, Results, last_lines, page_command, prepare_output_dir


RECIPES = Path(__file__).parent
# longer ones take BERT, which masks each token in turn, too long
SHORTEST, LONGEST = 6, 16


@dataclass
class ClaimsArguments:
    """Which claims, on which data."""

    output_dir: str = field(default="runs/claims", metadata={"help": "Folder for models, results and plots."})
    claims: list[str] | None = field(default=None, metadata={"help": "Claims to measure; default: all."})
    tags: str | None = field(
        default=None,
        metadata={"help": "Tagged words: a folder, or owner/name (elmo_syntax, masking, pretraining)."},
    )
    tag_field: str = field(default="upos", metadata={"help": "Column with the tags."})
    senses: str | None = field(default=None, metadata={"help": "WiC's pairs: a folder, or owner/name (senses)."})
    models: str | None = field(
        default=None, metadata={"help": "The folder of a finished lineage run, whose models are used."}
    )
    sentences: int = field(default=60, metadata={"help": "Sentences of the claim about positions."})
    probe_rows: int = field(default=500, metadata={"help": "Training rows of each probe and of each tagger."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of probes and taggers."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Do all runs again."})

    def __post_init__(self):
        if len(self.seeds) < 2:
            raise ValueError(f"seeds is {self.seeds}; a claim needs at least 2, to tell a difference from noise")
        if unknown := sorted(set(self.claims or []) - set(CLAIMS)):
            raise ValueError(f"claims has unknown names {unknown}; there are {', '.join(CLAIMS)}")
        for name in self.claims or CLAIMS:
            if (needed := CLAIMS[name].data) and getattr(self, needed) is None:
                raise ValueError(f"{needed} is missing, which the claim {name} needs: name data, or other claims")


ARGUMENTS = (ClaimsArguments,)


class Runs(RecipeRuns):
    """The runs of other recipes, and the models that they share."""

    def __init__(self, args: ClaimsArguments, output_dir: Path):
        super().__init__(output_dir, RECIPES, anew=args.overwrite_output_dir)
        self.args = args

    def model(self, name: str) -> Path:
        """The folder of a trained model."""
        recipe, *options = MODELS[name]
        # the lineage run's translators learn too little for long sentences
        stands = recipe != "pretrain_translation.py"
        if stands and self.args.models and (Path(self.args.models) / name / "config.json").is_file():
            return Path(self.args.models) / name
        if name == "bert_all_masked":
            # the same words as the model that it is compared with
            options += ["--tokenizer_name", self.model("bert")]
        self.run(name, recipe, RECIPES / "configs" / options[0], *options[1:])
        return self.output_dir / name


NO_EVALUATION = ["--eval_strategy", "no"]
# the lineage run's models can stand for all but the translators
MODELS = {
    "word2vec": ["pretrain_word2vec.py", "word2vec_tiny.yaml", "--num_train_epochs", 20, "--learning_rate", 0.05]
    + ["--subsample", 1e-4],
    "elmo": ["pretrain_bilm.py", "elmo_tiny.yaml", "--split_punctuation", "true", *NO_EVALUATION],
    "gpt": ["pretrain_causal_lm.py", "gpt_tiny.yaml", "--train_tokens", 1_200_000],
    "bert": ["pretrain_bert.py", "bert_tiny.yaml", *NO_EVALUATION],
    "bert_all_masked": ["pretrain_bert.py", "bert_tiny.yaml", *NO_EVALUATION]
    + ["--mask_share", 1.0, "--random_share", 0.0],
    "seq2seq": ["pretrain_translation.py", "seq2seq_tiny.yaml", "--num_train_epochs", 3, *NO_EVALUATION]
    + ["--save_strategy", "no", "--generation_num_beams", 1],
    "rnnsearch": ["pretrain_translation.py", "rnnsearch_tiny.yaml", "--num_train_epochs", 3, *NO_EVALUATION]
    + ["--save_strategy", "no", "--generation_num_beams", 1],
}


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: `measure` gives its numbers, `judge` a verdict on them, and `plot` draws them on axes.

    `expected` are the numbers of docs/claims.md, `minutes` about the CPU-minutes on one core with its models.
    """

    says: str
    source: str
    expected: str
    minutes: int
    measure: Callable[[Runs], dict]
    judge: Callable[[dict], tuple[bool, str]]
    plot: Callable[[dict, pyplot.Axes], None]
    data: str | None = None


# long dependencies


def measure_long_dependencies(runs: Runs) -> dict:
    return {"recall": runs.run("long_dependencies", "long_dependencies.py")}


def judge_long_dependencies(numbers: dict) -> tuple[bool, str]:
    gap = max(numbers["recall"]["RNN"], key=int)
    rnn, lstm, gru = (numbers["recall"][name][gap] for name in ("RNN", "LSTM", "GRU"))
    # recall is measured on 256 texts per seed
    margin = 2 * math.sqrt(0.25 / 256)
    return (
        rnn + margin < lstm <= gru + margin and lstm > 0.5,
        f"recall over {gap} symbols: RNN {rnn:.3f}, LSTM {lstm:.3f}, GRU {gru:.3f}",
    )


def plot_long_dependencies(numbers: dict, axes):
    lines(axes, {name: {int(gap): y for gap, y in row.items()} for name, row in numbers["recall"].items()})
    axes.set(xscale="log", xlabel="gap in symbols", ylabel="recall of one of 8 symbols", ylim=(0, 1.03))


# senses


def measure_senses(runs: Runs) -> dict:
    """Areas under the ROC curve per model and layer, on the pairs that have the word in one form."""
    folder, counts = runs.output_dir / "same_form", {}
    folder.mkdir(exist_ok=True)
    for split, rows in read_labelled(runs.args.senses).items():
        if split in ("train", "test"):
            kept = pairs_of_one_form(rows)
            counts[split] = [sum(row["label"] == label for row in kept) for label in (0, 1)]
            write_text(folder / f"{split}.jsonl", "".join(json_text(row) + "\n" for row in kept))
    names = ["word2vec", "elmo", "gpt", "bert"]
    models = [runs.model(name) for name in names]
    options = ["--dataset", folder, "--models", *models, "--num_train", runs.args.probe_rows]
    found = runs.run("senses", "probe_layers.py", *options, "--seeds", *runs.args.seeds)
    areas = {
        name: {layer: area["mean"] for layer, area in found[str(model)]["roc_auc"].items()}
        for name, model in zip(names, models, strict=True)
    }
    return {"areas": areas, "test_pairs": counts["test"]}


def pairs_of_one_form(rows) -> list[dict]:
    """The pairs in which the word is spelled in one way, so that a static vector cannot differ."""
    columns = {name: rows.texts(name) for name in ("sentence1", "sentence2")}
    columns |= {name: rows.whole_numbers(name) for name in ("index1", "index2", "label")}
    pairs = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [row for row in pairs if len({row[f"sentence{i}"].split()[row[f"index{i}"]].lower() for i in (1, 2)}) == 1]


def error_of_area(area: float, negative: int, positive: int) -> float:
    """The standard error of an area under the ROC curve (Hanley and McNeil, 1982)."""
    both, twice = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (both - area**2) + (negative - 1) * (twice - area**2)
    return math.sqrt(variance / (negative * positive))


def judge_senses(numbers: dict) -> tuple[bool, str]:
    holds, parts = True, []
    for name, areas in numbers["areas"].items():
        first, *contextual = areas.values()
        best = max(contextual, default=first)
        margin = 1.96 * error_of_area(best, *numbers["test_pairs"])
        above_chance = best - margin > 0.5
        # layer 0 knows a word and its place, but no other word
        tells = above_chance and (not contextual or best - margin > first)
        holds &= tells == (name != "word2vec")
        note = "" if tells else " (no better than layer 0)" if above_chance else " (chance)"
        parts.append(f"{name} {best:.3f}{note}")
    return bool(holds), f"area under the ROC curve, best layer in context: {', '.join(parts)}"


def plot_senses(numbers: dict, axes):
    lines(axes, {name: {int(layer): y for layer, y in row.items()} for name, row in numbers["areas"].items()})
    axes.axhline(0.5, color="grey", linestyle=":")
    axes.set(xlabel="layer (0: token vectors)", ylabel="area under the ROC curve")
    axes.xaxis.get_major_locator().set_params(integer=True)


# positions


def measure_positions(runs: Runs) -> dict:
    """Per model, with and without position vectors: bits per token of true and of other orders, [sentence][order]."""
    if "positions" not in runs.finished or runs.finished["positions"]["sentences"] != runs.args.sentences:
        models = {name: open_models([runs.model(name)])[0] for name in ("gpt", "bert")}
        texts = (text for document in load_splits(None)["test"]["text"] for text in split_sentences(document, "en"))
        texts = [text for text in texts if SHORTEST <= len(text.split()) <= LONGEST]
        texts = [text for text in dict.fromkeys(texts) if all(model.knows(text) for model in models.values())]
        if len(texts) < runs.args.sentences:
            raise ValueError(f"sentences is {runs.args.sentences}; the test text has {len(texts)} for both models")
        found = {name: {"with": [], "without": []} for name in models}
        for text in tqdm(texts[: runs.args.sentences], desc="Orders", disable=not sys.stderr.isatty()):
            orders = [text, *shuffles(text)[:4]]
            for name, model in models.items():
                found[name]["with"].append(bits(model, orders))
                with without_positions(model):
                    found[name]["without"].append(bits(model, orders))
        runs.finished["positions"] = {"sentences": runs.args.sentences, "bits": found}
    return {"bits": runs.finished["positions"]["bits"]}


def preference(orders: Sequence[Sequence[float]]) -> float:
    """How often the true order, the first, has fewer bits than another one; a tie counts half."""
    differences = np.array([[other - true for other in others] for true, *others in orders])
    return float(np.where(abs(differences) <= 0.002, 0.5, differences > 0).mean())


def judge_positions(numbers: dict) -> tuple[bool, str]:
    parts, holds = [], True
    for name, found in numbers["bits"].items():
        shares = {key: preference(orders) for key, orders in found.items()}
        # sentences are independent, the orders of one are not
        margin = 2 * math.sqrt(0.5 / len(found["with"]))
        holds &= shares["with"] - shares["without"] > margin
        parts.append(f"{name} prefers the true order in {shares['with']:.0%} with, {shares['without']:.0%} without")
    return bool(holds), "; ".join(parts)


def plot_positions(numbers: dict, axes):
    bars(axes, {n: {key: preference(orders) for key, orders in row.items()} for n, row in numbers["bits"].items()})
    axes.axhline(0.5, color="grey", linestyle=":")
    axes.set(ylim=(0, 1), ylabel="share of pairs whose true order is likelier")
    axes.legend(title="position vectors")


# layers and features


def probe_of_tags(runs: Runs, name: str, models: Sequence[str]) -> dict[str, dict]:
    """Per model the accuracies of each layer's probe, {layer: {"mean", "std", …}}."""
    folders = {model: runs.model(model) for model in models}
    options = ["--dataset", runs.args.tags, "--tag_field", runs.args.tag_field, "--models", *folders.values()]
    options += ["--num_train", runs.args.probe_rows, "--seeds", *runs.args.seeds]
    found = runs.run(name, "probe_layers.py", *options)
    accuracies = {model: found[str(folder)]["accuracy"] for model, folder in folders.items()}
    return {
        model: {layer: score for layer, score in row.items() if layer.isdigit()} for model, row in accuracies.items()
    }


def above(first: dict, second: dict) -> bool:
    """Whether one mean over seeds is above another by more than twice the standard error of their difference."""
    error = math.sqrt(sum(np.var(one["seeds"], ddof=1) / len(one["seeds"]) for one in (first, second)))
    return first["mean"] - second["mean"] > 2 * error


def measure_elmo_syntax(runs: Runs) -> dict:
    return {"accuracy": probe_of_tags(runs, "elmo_syntax", ["elmo"])}


def judge_elmo_syntax(numbers: dict) -> tuple[bool, str]:
    layers = numbers["accuracy"]["elmo"]
    told = ", ".join(f"{layer}: {score['mean']:.3f} ± {score['std']:.3f}" for layer, score in layers.items())
    return above(layers["1"], layers["2"]) and above(layers["1"], layers["0"]), f"accuracy of layer {told}"


def measure_masking(runs: Runs) -> dict:
    return {"accuracy": probe_of_tags(runs, "masking", ["bert", "bert_all_masked"])}


def judge_masking(numbers: dict) -> tuple[bool, str]:
    mixed, masked = (row[max(row, key=int)] for row in numbers["accuracy"].values())
    told = f"80/10/10 {mixed['mean']:.3f} ± {mixed['std']:.3f}, 100 % masks {masked['mean']:.3f} ± {masked['std']:.3f}"
    return above(mixed, masked), f"accuracy of the last layer's features: {told}"


def plot_layers(numbers: dict, axes):
    rows = numbers["accuracy"].items()
    lines(axes, {name: {int(layer): score["mean"] for layer, score in row.items()} for name, row in rows})
    axes.set(xlabel="layer (0: token vectors)", ylabel="accuracy of word classes")
    axes.xaxis.get_major_locator().set_params(integer=True)


# attention


def measure_attention(runs: Runs) -> dict:
    folders = {"attention": runs.model("rnnsearch"), "fixed state": runs.model("seq2seq")}
    return {"bleu": {name: read_results(folder)["bleu_by_length"] for name, folder in folders.items()}}


def judge_attention(numbers: dict) -> tuple[bool, str]:
    attention, fixed = ([row["bleu"] for row in rows] for rows in numbers["bleu"].values())
    better = all(one > other for one, other in zip(attention, fixed, strict=True))
    kept = [scores[-1] / max(scores[0], 1e-9) for scores in (attention, fixed)]
    longest = numbers["bleu"]["attention"][-1]["longer_than"]
    told = ", ".join(
        f"{name} {scores[0]:.1f} → {scores[-1]:.1f}"
        for name, scores in zip(numbers["bleu"], (attention, fixed), strict=True)
    )
    return better and kept[0] >= 0.9 > kept[
        1
    ], f"BLEU of the shortest → of sources longer than {longest} words: {told}"


def plot_attention(numbers: dict, axes):
    lines(axes, {name: {row["words"]: row["bleu"] for row in rows} for name, rows in numbers["bleu"].items()})
    axes.set(xlabel="words of the source", ylabel="BLEU", ylim=(0, 103))


# pre-training


def measure_pretraining(runs: Runs) -> dict:
    model, rows = runs.model("gpt"), runs.args.probe_rows
    options = [RECIPES / "configs" / "finetune_tagging.yaml", "--model_name_or_path", model, *NO_EVALUATION]
    options += ["--dataset", runs.args.tags, "--label_field", runs.args.tag_field]
    # each with the rate that is better for it on the validation text
    options += ["--label_counts", rows, "--seeds", *runs.args.seeds, "--learning_rates", 0.003, 0.01]
    scores = {}
    for name, untrained in {"pre-trained": "false", "untrained": "true"}.items():
        found = runs.run(f"{name}_tagger", "finetune_tagging.py", *options, "--random_weights", untrained)
        score = found["points"][-1]["test"][found["main_score"]]
        scores[name] = {"mean": score["mean"], "std": score["std"], "seeds": score["values"]}
    return {"scores": scores}


def judge_pretraining(numbers: dict) -> tuple[bool, str]:
    told = ", ".join(f"{name} {score['mean']:.3f} ± {score['std']:.3f}" for name, score in numbers["scores"].items())
    return above(numbers["scores"]["pre-trained"], numbers["scores"]["untrained"]), f"accuracy of word classes: {told}"


def plot_pretraining(numbers: dict, axes):
    bars(axes, {name: {"": score["mean"]} for name, score in numbers["scores"].items()})
    axes.set(ylabel="accuracy of word classes", ylim=(0, 1))


# plots


def plot(claim: Claim, result: Mapping, path: Path):
    """Draws a claim's numbers as a PNG that says whether it holds."""
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    claim.plot(result["numbers"], axes)
    verdict = "Holds here." if result["holds"] else "Does not hold at this scale."
    axes.set_title(f"{textwrap.fill(claim.says, 70)}\n{verdict}", fontsize=9)
    save_figure(figure, path, dpi=110)
    pyplot.close(figure)


def lines(axes, curves: Mapping[str, Mapping[float, float]]):
    for name, points in curves.items():
        axes.plot(list(points), list(points.values()), marker="o", label=name)
    axes.legend()


def bars(axes, groups: Mapping[str, Mapping[str, float]]):
    names = list(next(iter(groups.values())))
    for number, name in enumerate(names):
        places = np.arange(len(groups)) + 0.8 * (number - (len(names) - 1) / 2) / len(names)
        axes.bar(places, [row[name] for row in groups.values()], 0.8 / len(names), label=name)
    axes.set_xticks(range(len(groups)), labels=list(groups))


CLAIMS = {
    "long_dependencies": Claim(
        "An LSTM or a GRU remembers over gaps that an RNN does not bridge, the GRU no less than the LSTM.",
        "Hochreiter and Schmidhuber (1997), section 5; Chung et al. (2014)",
        "recall over 400 symbols: RNN near .125 (chance), LSTM and GRU near 1",
        2,
        measure_long_dependencies,
        judge_long_dependencies,
        plot_long_dependencies,
    ),
    "senses": Claim(
        "A static vector cannot tell the senses of a word; vectors in context can.",
        "Peters et al. (2018), sections 1 and 5.3",
        "area under the ROC curve: word2vec .500, ELMo and GPT .57; BERT .55, no better than its layer 0",
        11,
        measure_senses,
        judge_senses,
        plot_senses,
        "senses",
    ),
    "positions": Claim(
        "Models tell word order by their position vectors.",
        "Vaswani et al. (2017), section 3.5",
        "BERT: 90 % with, 50 % without, where all orders are alike; GPT: 99 % and 98 %, as its mask tells order too",
        7,
        measure_positions,
        judge_positions,
        plot_positions,
    ),
    "elmo_syntax": Claim(
        "ELMo's first layer knows word classes better than its second.",
        "Peters et al. (2018), section 5.3 and table 6",
        "layer 1 half a point to a point above layer 2",
        5,
        measure_elmo_syntax,
        judge_elmo_syntax,
        plot_layers,
        "tags",
    ),
    "attention": Claim(
        "Attention keeps its quality on long sentences; a fixed state does not.",
        "Bahdanau et al. (2015), section 5.1 and figure 2",
        "BLEU of the longest: above 90 with attention, below 10 without",
        4,
        measure_attention,
        judge_attention,
        plot_attention,
    ),
    "masking": Claim(
        "80/10/10 masks give better features than 100 % masks.",
        "Devlin et al. (2019), appendix C.2 and table 8",
        "80/10/10 about seven points above",
        7,
        measure_masking,
        judge_masking,
        plot_layers,
        "tags",
    ),
    "pretraining": Claim(
        "A pre-trained model tags better than the same one untrained.",
        "Radford et al. (2018), section 5 and table 5",
        "pre-trained about six points above untrained",
        6,
        measure_pretraining,
        judge_pretraining,
        plot_pretraining,
        "tags",
    ),
}


def table(results: Mapping[str, Mapping]) -> str:
    """A row per claim, in Markdown."""
    rows = ["| claim | source | expected | minutes | measured | holds here |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        claim = CLAIMS[name]
        verdict = "yes" if result["holds"] else "**no**"
        cells = [claim.says, claim.source, claim.expected, str(claim.minutes), result["measured"], verdict]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main():
    (args,) = parse(*ARGUMENTS, description=__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # an older run's results are continued
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir, finished=())
    runs, path = Runs(args, output_dir), output_dir / "results.json"
    results = Results(path, **({} if args.overwrite_output_dir else read_results(output_dir)))
    failed = []
    for name in args.claims or CLAIMS:
        try:
            numbers = CLAIMS[name].measure(runs)
        except RuntimeError as error:
            print(f"{name}: {error}")
            failed.append(name)
            continue
        holds, measured = CLAIMS[name].judge(numbers)
        results[name] = {"holds": holds, "measured": measured, "numbers": numbers}
        print(f"{name}: {'holds' if holds else 'does not hold at this scale'}; {measured}", flush=True)
        with results.kept_on_error():
            plot(CLAIMS[name], results[name], output_dir / f"{name}.png")
    measured = {name: results[name] for name in CLAIMS if name in results}
    write_text(output_dir / "claims.md", table(measured) + "\n")
    score = f"{sum(result['holds'] for result in measured.values())} of {len(measured)} claims hold"
    print(last_lines(output_dir / "claims.md", score, page_command(output_dir / "claims.md")))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    run(main)
