"""Probe a model's layers: a linear probe for word classes, the cosine of one word in two sentences for senses.

    python recipes/probe_layers.py --models runs/elmo runs/bert --dataset UD_ENGLISH_EWT --output_dir runs/probe_tags
    python recipes/probe_layers.py --models runs/elmo runs/bert --dataset WIC --output_dir runs/probe_senses

Peters et al. (2018), section 5.3: ELMo's first layer knows word classes best, its second layer word senses. The data
set is a folder with train and test files (.jsonl, .json, .csv, .tsv, also .gz; .parquet) or a name on the Hub. Its
columns decide the question:

tokens, upos (--tag_field)                        logistic regression on each layer's vectors predicts each word's tag
sentence1, index1, sentence2, index2, label (WiC) a cosine above a learned threshold means the same sense

Any model that `AutoModel` opens and that has hidden_states will do. A word's vector is the mean of its pieces'
vectors. Each seed draws its own training rows. Writes results.json and layers.png. Needs the extras finetune and demo.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch
from matplotlib import pyplot
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm
from transformers import AutoModel

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import parse, run, saved_config, tokenizer_of_model
from hf_lineage.data import LabelledRows, draw_rows, read_labelled
from hf_lineage.files import save_figure
from hf_lineage.training import Results, last_lines, page_command, prepare_output_dir


PAIR_COLUMNS = ["sentence1", "index1", "sentence2", "index2", "label"]
Sentences = list[list[str]]


@dataclass
class ProbeArguments:
    """Which models, which rows."""

    models: list[str] = field(metadata={"help": "Saved models with their tokenizers (folders or Hub names)."})
    dataset: str = field(metadata={"help": "A folder with train and test files, or owner/name[:configuration]."})
    output_dir: str = field(metadata={"help": "Folder for results.json and layers.png."})
    tag_field: str = field(default="upos", metadata={"help": "Column with the tags of the column tokens."})
    num_train: int = field(default=2_000, metadata={"help": "Training rows that each seed draws."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds; each trains one probe."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the results of an older run."})
    batch_size: int = field(default=32, metadata={"help": "Sentences per batch."})
    device: str = field(default="cpu", metadata={"help": "Device of the models, such as cuda."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})


ARGUMENTS = (ProbeArguments,)


def main():
    # 1. arguments
    (args,) = parse(*ARGUMENTS, description=__doc__)
    for name in args.models:
        saved_config(name, "models")
    tokenizers = {name: tokenizer_of_model(name, "models") for name in args.models}
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir)

    # 2. data: the columns decide the question
    data = read_labelled(args.dataset)
    if missing := {"train", "test"} - set(data):
        raise ValueError(f"dataset is {args.dataset}, which has no {' and no '.join(sorted(missing))} split")
    columns = set(data["train"].column_names)
    if set(PAIR_COLUMNS) <= columns:
        probe, read = probe_senses, read_pairs
    elif {"tokens", args.tag_field} <= columns:
        probe, read = probe_tags, lambda rows: read_tags(rows, args.tag_field)
    else:
        raise ValueError(
            f"dataset is {args.dataset} with the columns {sorted(columns)}; it needs tokens and {args.tag_field} (set "
            f"tag_field), or {', '.join(PAIR_COLUMNS)}"
        )
    train, test = read(data["train"]), read(data["test"])
    if probe is probe_tags:
        check_tags(train, data["test"], test, args.tag_field)
    if args.num_train > len(train):
        print(f"num_train is {args.num_train}, but there are only {len(train)} training rows: all are taken")
    draws = [draw_rows(train, args.num_train, seed) for seed in args.seeds]

    # 3. models
    results = Results(output_dir / "results.json")
    with results.kept_on_error():
        for name in args.models:
            tokenizer, model = tokenizers[name], AutoModel.from_pretrained(name)
            model.eval().to(args.device)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token

            def vectors(sentences: Sentences, model=model, tokenizer=tokenizer) -> list[np.ndarray]:
                return vectors_of_words(model, tokenizer, sentences, args)

            scores = probe(vectors, draws, test, args)
            results[name] = {"model_type": model.config.model_type, "parameters": model.num_parameters(), **scores}
            print(f"\n{name} ({model.config.model_type})\n{table(scores)}")

        # 4. plot
        plot(results, output_dir / "layers.png")
    best, layer = max(
        ((name, layer) for name in results for layer in results[name]["accuracy"] if layer.isdigit()),
        key=lambda one: results[one[0]]["accuracy"][one[1]]["mean"],
    )
    score = f"accuracy {results[best]['accuracy'][layer]['mean']:.4f} (layer {layer} of {best})"
    print(last_lines(output_dir, score, page_command(output_dir / "layers.png")))


def read_tags(rows: LabelledRows, tag_field: str) -> datasets.Dataset:
    """Columns tokens and tags, one tag per token."""
    words, tags = rows.texts("tokens"), rows.column(tag_field)
    for row, (of_words, of_tags) in enumerate(zip(words, tags, strict=True)):
        if not isinstance(of_words, list) or not isinstance(of_tags, list) or None in of_tags:
            raise ValueError(f"{rows.place(row)}: tokens and {tag_field} must be lists, and no tag null")
        if len(of_words) != len(of_tags):
            raise ValueError(f"{rows.place(row)}: {len(of_words)} tokens, but {len(of_tags)} tags in {tag_field}")
    return datasets.Dataset.from_dict({"tokens": words, "tags": tags})


def check_tags(train: datasets.Dataset, rows: LabelledRows, test: datasets.Dataset, tag_field: str):
    """Refuses a tag of the test text that no training row has: no probe could give it."""
    known = {tag for tags in train["tags"] for tag in tags}
    for row, (words, tags) in enumerate(zip(test["tokens"], test["tags"], strict=True)):
        for word, tag in zip(words, tags, strict=True):
            if tag not in known:
                raise ValueError(
                    f"{rows.place(row)}: {tag_field} of {word!r} is {tag!r}, which no training row has; there are "
                    f"{', '.join(sorted(map(str, known)))}: correct it, or give training rows with it"
                )


def read_pairs(rows: LabelledRows) -> datasets.Dataset:
    """WiC's columns: two sentences, the index of a word in each, and 1 if it has the same sense in both."""
    columns = {name: rows.texts(name) for name in ("sentence1", "sentence2")}
    columns |= {name: rows.whole_numbers(name) for name in ("index1", "index2", "label")}
    for row, label in enumerate(columns["label"]):
        for side in "12":
            place, words = columns[f"index{side}"][row], len(columns[f"sentence{side}"][row].split())
            if not 0 <= place < words:
                raise ValueError(f"{rows.place(row)}: index{side} is {place}, but sentence{side} has {words} words")
        if label not in (0, 1):
            raise ValueError(f"{rows.place(row)}: label is {label}; it must be 0 or 1")
    return datasets.Dataset.from_dict(columns)


@torch.no_grad()
def vectors_of_words(model, tokenizer, sentences: Sentences, args: ProbeArguments) -> list[np.ndarray]:
    """Every layer's vectors of all words, sentence after sentence, float32 [W, D] per layer.

    Words that the tokenizer drops, or that lie beyond the model's last position, are NaN.
    """
    limit = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 10**6))
    starts = np.cumsum([0, *map(len, sentences)])
    by_length = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    layers = None
    for first in tqdm(range(0, len(by_length), args.batch_size), desc="Layers", disable=args.disable_tqdm):
        batch = by_length[first : first + args.batch_size]
        encoded = tokenizer(
            [sentences[index] for index in batch],
            is_split_into_words=True,
            padding=True,
            truncation=limit < 10**6,
            max_length=limit if limit < 10**6 else None,
            return_tensors="pt",
        )
        outputs = model(**encoded.to(args.device), output_hidden_states=True)
        if getattr(outputs, "hidden_states", None) is None:
            raise ValueError(f"{model.config.model_type} has no hidden_states: there are no layers to compare")
        if layers is None:
            sizes = [states.shape[2] for states in outputs.hidden_states]
            layers = [np.full((starts[-1], size), np.nan, dtype=np.float32) for size in sizes]
        for row, index in enumerate(batch):
            words = encoded.word_ids(row)
            places = [place for place, word in enumerate(words) if word is not None]
            if not places:
                continue
            owners = torch.tensor([words[place] for place in places])
            counts = owners.bincount(minlength=len(sentences[index]))[:, None]
            for layer, states in zip(layers, outputs.hidden_states, strict=True):
                pieces = states[row, places].float().cpu()
                sums = pieces.new_zeros(len(counts), pieces.shape[1]).index_add(0, owners, pieces)
                # 0 / 0 is NaN
                layer[starts[index] : starts[index + 1]] = sums / counts
    return layers


def probe_tags(vectors: Callable, draws: list[datasets.Dataset], test: datasets.Dataset, args: ProbeArguments) -> dict:
    """Accuracy of logistic regression on each layer, and of each word's most frequent tag."""

    def words_and_tags(rows):
        return [word for row in rows["tokens"] for word in row], np.array([t for r in rows["tags"] for t in r])

    test_words, test_tags = words_and_tags(test)
    test_layers = vectors(list(test["tokens"]))
    is_test = ~np.isnan(test_layers[0][:, 0])
    accuracies, by_word = defaultdict(list), []
    for rows in draws:
        train_words, train_tags = words_and_tags(rows)
        for number, layer in enumerate(vectors(list(rows["tokens"]))):
            is_train = ~np.isnan(layer[:, 0])
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
            classifier.fit(layer[is_train], train_tags[is_train])
            hits = classifier.predict(test_layers[number][is_test]) == test_tags[is_test]
            accuracies[str(number)].append(float(hits.mean()))
        counts = defaultdict(Counter)
        for word, tag in zip(train_words, train_tags, strict=True):
            counts[word][tag] += 1
        frequent = Counter(train_tags).most_common(1)[0][0]
        guesses = [counts[word].most_common(1)[0][0] if word in counts else frequent for word in test_words]
        by_word.append(float((np.array(guesses) == test_tags)[is_test].mean()))
    return {
        "accuracy": summary({**accuracies, "most frequent tag of the word": by_word}),
        "test_words": len(test_tags),
        "test_words_without_vector": int((~is_test).sum()),
    }


def probe_senses(
    vectors: Callable, draws: list[datasets.Dataset], test: datasets.Dataset, args: ProbeArguments
) -> dict:
    """Per layer: accuracy of a cosine threshold, and the area under the ROC curve, which needs no threshold."""

    def cosines(rows) -> tuple[list[np.ndarray], np.ndarray]:
        """Cosine of each pair per layer, and the labels; pairs without a vector are left out."""
        sides = []
        for side in "12":
            sentences = [text.split() for text in rows[f"sentence{side}"]]
            places = np.cumsum([0, *map(len, sentences)])[:-1] + np.array(rows[f"index{side}"])
            sides.append([layer[places] for layer in vectors(sentences)])
        # rounded: the cosine of a vector with itself is 1
        layers = [
            np.round(
                (one * other).sum(1) / np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1), 1e-9), 5
            )
            for one, other in zip(*sides, strict=True)
        ]
        known = ~np.isnan(layers[0])
        return [layer[known] for layer in layers], np.array(rows["label"])[known]

    test_layers, test_labels = cosines(test)
    accuracies = defaultdict(list)
    for rows in draws:
        layers, labels = cosines(rows)
        for number, layer in enumerate(layers):
            false, true, thresholds = roc_curve(labels, layer)
            threshold = thresholds[np.argmax(true * labels.sum() - false * (1 - labels).sum())]
            accuracies[str(number)].append(float(((test_layers[number] >= threshold) == test_labels).mean()))
    areas = {str(number): [float(roc_auc_score(test_labels, layer))] for number, layer in enumerate(test_layers)}
    return {
        "accuracy": summary(accuracies),
        "roc_auc": summary(areas),
        "test_pairs": len(test),
        "test_pairs_without_vector": len(test) - len(test_labels),
    }


def summary(values: dict[str, list[float]]) -> dict:
    """Mean, standard deviation and values per layer."""
    return {
        layer: {"mean": float(np.mean(of_seeds)), "std": float(np.std(of_seeds)), "seeds": of_seeds}
        for layer, of_seeds in values.items()
    }


def table(scores: dict) -> str:
    """A row per layer, in Markdown."""
    names = [name for name, value in scores.items() if isinstance(value, dict)]
    lines = [f"| layer | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for layer in scores["accuracy"]:
        cells = (f"{scores[name][layer]['mean']:.4f} ± {scores[name][layer]['std']:.4f}" for name in names)
        lines.append(f"| {layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: dict, path: Path):
    """Plots accuracy by layer, a line per model."""
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, result in results.items():
        layers = {layer: score for layer, score in result["accuracy"].items() if layer.isdigit()}
        axes.errorbar(
            [int(layer) for layer in layers],
            [score["mean"] for score in layers.values()],
            [score["std"] for score in layers.values()],
            marker="o",
            capsize=3,
            label=name,
        )
    axes.set(xlabel="layer (0: token vectors)", ylabel="accuracy")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small")
    save_figure(figure, path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    run(main)
