"""recipes/finetune_classification.py: pairs and single texts, tuned and frozen, of different stations."""

import ast
import gzip
import json
import random
import re
import runpy
import shlex
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import hf_lineage
from hf_lineage.tokenization import causal_tokenizer, elmo_tokenizer
from tests.models.test_modeling_bert import TestBERT as BERT
from tests.models.test_modeling_gpt import TestGPT as GPT
from tests.recipes.here import call


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def labelled(tmp_path, tiny_corpus):
    """Pairs of sentences; the label says whether both are the same."""
    draw, folder = random.Random(0), tmp_path / "pairs"
    folder.mkdir()
    for split, size in (("train", 64), ("validation", 16), ("test", 16)):
        with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
            for number in range(size):
                first = draw.choice(tiny_corpus)
                second = first if number % 2 else draw.choice(tiny_corpus)
                row = {"sentence1": first, "sentence2": second, "label": number % 2, "score": float(number % 3)}
                file.write(json.dumps(row) + "\n")
    return folder


def saved(folder, model_name, tokenizer):
    config_class = getattr(hf_lineage, f"{model_name}Config")
    sizes = {"BERT": BERT.tiny, "GPT": GPT.tiny}.get(model_name, {"hidden_size": 16})
    config = config_class(**{**sizes, "vocab_size": len(tokenizer)})
    getattr(hf_lineage, f"{model_name}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run_here(monkeypatch):
    """Calls the script in this process, which costs less than a new one."""

    def call(output_dir, **settings):
        settings = {"learning_rate": 1e-2, "output_dir": output_dir} | settings
        settings |= {"disable_tqdm": True, "save_strategy": "no", "report_to": "none"}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        monkeypatch.setattr("sys.argv", ["finetune_classification.py", *flags])
        runpy.run_path(str(ROOT / "recipes" / "finetune_classification.py"))["main"]()
        return json.loads((output_dir / "results.json").read_text())

    return call


@pytest.fixture
def run(run_here):
    """`run_here` on the folder of pairs."""

    def call(labelled, model, output_dir, **settings):
        settings = {"model_name_or_path": model, "dataset": labelled, "per_device_train_batch_size": 8, **settings}
        return run_here(output_dir, **settings)

    return call


def test_pairs_on_bert(run, labelled, tmp_path, tiny_tokenizer):
    model = saved(tmp_path / "bert", "BERT", tiny_tokenizer)
    results = run(labelled, model, tmp_path / "tuned", max_steps=6)
    assert {"accuracy", "f1", "matthews_correlation", "loss"} <= set(results["test"])
    # half of the pairs are the same
    assert results["test"]["floors"]["majority"]["accuracy"] == 0.5
    assert 0 <= results["test"]["floors"]["TF-IDF"]["accuracy"] <= 1
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned")
    assert results["parameters"]["learning"] == tuned.num_parameters()
    answer = pipeline("text-classification", model=str(tmp_path / "tuned"), device="cpu")(
        {"text": "The dog.", "text_pair": "The dog."}
    )
    assert answer["label"] in ("0", "1")

    settings = {"label_field": "score", "problem_type": "regression"}
    results = run(labelled, model, tmp_path / "frozen", max_steps=2, transfer="frozen", **settings)
    assert set(results["test"]) >= {"pearson", "spearman"}
    assert results["parameters"]["learning"] == 16 + 1
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "frozen" / "model.safetensors")
    assert all(after[f"bert.{name}"].equal(tensor) for name, tensor in before.items())


@pytest.mark.slow
@pytest.mark.parametrize(("model_name", "packing"), [("BERT", False), ("LSTM", True)])
def test_other_stations_and_untrained_ones(run, labelled, tmp_path, tiny_tokenizer, model_name, packing):
    model = saved(tmp_path / "model", model_name, tiny_tokenizer)
    results = run(labelled, model, tmp_path / "out", max_steps=2, packing=packing, random_weights=True)
    assert 0 <= results["validation"]["accuracy"] <= 1


def write_rows(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(("model_name", "rate"), [("BERT", 1e-2), ("LSTM", 5e-2)])
def test_several_classes_per_text(run_here, tmp_path, tiny_tokenizer, model_name, rate):
    """The words are the classes; every text has as many tokens as there are classes, which no batch takes for tags."""
    words, draw = sorted(word for word in tiny_tokenizer.vocab if word.isalpha() and len(word) > 3), random.Random(0)
    rows = []
    for _ in range(96):
        chosen = [draw.choice(words[:5]) for _ in range(2)]
        rows.append({"text": " ".join(chosen), "label": sorted(set(chosen) - {words[4]})})
    assert {len(tiny_tokenizer(row["text"])["input_ids"]) for row in rows} == {4}
    files = {f"{split}_file": write_rows(tmp_path / f"{split}.jsonl", rows) for split in ("train", "validation")}
    model = saved(tmp_path / "model", model_name, tiny_tokenizer)
    settings = {"num_train_epochs": 20, "per_device_train_batch_size": 16, "learning_rate": rate}
    results = run_here(tmp_path / "out", model_name_or_path=model, **files, **settings)
    assert results["problem_type"] == "multi_label_classification"
    assert results["validation"]["accuracy"] > 0.8
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert tuned.config.problem_type == "multi_label_classification"
    assert tuned.config.id2label == dict(enumerate(words[:4]))
    # the scores by their definitions
    found = tuned(**tiny_tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")).logits > 0
    exact = [
        {tuned.config.id2label[n] for n in range(4) if bits[n]} == set(row["label"])
        for bits, row in zip(found, rows, strict=True)
    ]
    assert results["validation"]["accuracy"] == pytest.approx(sum(exact) / len(exact), abs=1e-4)


def test_a_model_of_three_classes_learns_two_and_says_so(run_here, tmp_path, tiny_tokenizer, capsys):
    config = hf_lineage.LSTMConfig(vocab_size=len(tiny_tokenizer), hidden_size=16, num_labels=3)
    hf_lineage.LSTMForSequenceClassification(config).save_pretrained(tmp_path / "three")
    tiny_tokenizer.save_pretrained(tmp_path / "three")
    # semicolons, white space, and numbers with a point
    for split in ("train", "validation"):
        text = "text;label\n" + "".join(f"The dog{', the river' * n};{n % 2}.0 \n" for n in range(16))
        (tmp_path / f"{split}.csv").write_text(text)
    settings = {"model_name_or_path": tmp_path / "three", "dataset": tmp_path, "max_steps": 1}
    results = run_here(tmp_path / "out", **settings)
    out = capsys.readouterr().out
    assert "Weights that start anew: classifier.bias, classifier.weight\n" in out
    assert "label: 2 classes (0, 1) from the column's numbers, which are all whole" in out
    assert "accuracy" in results["validation"]
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.num_labels == 2
    results = run_here(tmp_path / "numbers", problem_type="regression", **settings)
    assert results["problem_type"] == "regression"
    assert "pearson" in results["validation"]
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "numbers").config.problem_type == "regression"


def test_files_and_data_set_exclude_each_other(run_here, tmp_path, capsys):
    file = write_rows(tmp_path / "x.csv", [])
    with pytest.raises(SystemExit):
        run_here(tmp_path, model_name_or_path="x", train_file=file, dataset="y")
    message = capsys.readouterr().err
    assert all(name in message for name in ("dataset", "train_file", "both"))
    with pytest.raises(ValueError, match="train_file is .*x.csv, but .* validation_file, or folds"):
        run_here(tmp_path, model_name_or_path="x", train_file=file)
    with pytest.raises(ValueError, match="validation_file is .*y.csv, but there is no such file"):
        run_here(tmp_path, model_name_or_path="x", train_file=file, validation_file=tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["sentence1", "sentence2", "score"], "text_fields is sentence1 sentence2 score; give one or two"),
        (["sentence1", "label"], "text_fields is sentence1 label, and label_field is label"),
        (["sentence1", "sentence1"], "text_fields is sentence1 sentence1"),
        (["sentence1", "sentence"], "text_fields is sentence1 sentence, .*no column sentence; it has sentence1, "),
    ],
)
def test_columns_of_texts_are_checked(labelled, tmp_path, tiny_tokenizer, fields, message):
    model = saved(tmp_path / "model", "LSTM", tiny_tokenizer)
    flags = ["--model_name_or_path", model, "--dataset", labelled, "--text_fields", *fields]
    result = call("recipes/finetune_classification.py", *flags, "--output_dir", tmp_path / "out")
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert re.search(message, line)


def test_both_orders_are_for_gpt_and_pairs(run_here, labelled, tmp_path, tiny_tokenizer):
    settings = {"dataset": labelled, "both_orders": True, "max_steps": 1}
    with pytest.raises(ValueError, match="both_orders is for GPT.* not lineage_bert"):
        run_here(tmp_path / "out", model_name_or_path=saved(tmp_path / "bert", "BERT", tiny_tokenizer), **settings)
    model = saved(tmp_path / "gpt", "GPT", tiny_tokenizer)
    with pytest.raises(ValueError, match=r"both_orders reads pairs, but text_fields is \['sentence1'\]"):
        run_here(tmp_path / "out", model_name_or_path=model, text_fields="sentence1", **settings)


@pytest.mark.parametrize("both_orders", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gpt_reads_its_marks(run, labelled, tmp_path, tiny_tokenizer, both_orders):
    tokenizer = causal_tokenizer(tiny_tokenizer)
    model = saved(tmp_path / "gpt", "GPT", tokenizer)
    settings = {"max_steps": 2, "max_length": 16, "both_orders": both_orders}
    # parsed as in the file: JSON
    results = run(labelled, model, tmp_path / "out", config_overrides='{"lm_loss_weight": 0.25}', **settings)
    assert 0 <= results["test"]["accuracy"] <= 1
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert tuned.config.lm_loss_weight == 0.25
    marks = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(marks) == tuned.config.vocab_size == len(tokenizer) + 3
    ids = marks("The dog.", "The cat.")["input_ids"]
    assert [ids[0], ids[-1]] == marks.convert_tokens_to_ids(["_start_", "_classify_"])


@pytest.mark.parametrize(
    "settings", [{}, {"label_field": "score", "problem_type": "regression"}], ids=["classes", "regression"]
)
def test_a_model_of_both_orders_is_asked_in_both_orders(run, labelled, tmp_path, tiny_tokenizer, capsys, settings):
    """The printed command and the card's code give what predictions.jsonl has."""
    model = saved(tmp_path / "gpt", "GPT", causal_tokenizer(tiny_tokenizer))
    run(labelled, model, tmp_path / "out", max_steps=4, both_orders=True, **settings)
    *_, command = capsys.readouterr().out.splitlines()
    code = shlex.split(command.removeprefix("next:   "))[2]
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    expected = line["answer"] if settings else line["probabilities"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A pipeline reads one order." in card
    for part in (code, re.findall(r"```python\n(.+?)\n```", card, re.S)[0]):
        exec(part.replace('"out"', json.dumps(str(tmp_path / "out"))), {})
        assert ast.literal_eval(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)
    # the first text of the pair has its place, too: the orders are not the same
    tuned, marks = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out"), tmp_path / "out"
    marks = AutoTokenizer.from_pretrained(marks)
    pair = marks(*line["texts"], return_tensors="pt", truncation=True, max_length=32)
    one = tuned(pair.input_ids).logits[0]
    of_one_order = one.item() if settings else dict(zip(expected, one.softmax(0).tolist(), strict=True))
    assert of_one_order != pytest.approx(expected, abs=1e-4)


def test_splits_and_classes_by_the_names_of_a_data_set(run, tmp_path, tiny_tokenizer):
    """Those of GLUE's MNLI: two validation splits, named classes, and a test split whose labels are secret."""
    classes = ["entailment", "neutral", "contradiction"]
    features = Features(premise=Value("string"), hypothesis=Value("string"), label=ClassLabel(names=classes))
    (tmp_path / "mnli" / "data").mkdir(parents=True)
    splits = {"train": [0, 1, 2, 2] * 2, "validation_matched": [2, 0], "validation_mismatched": [1], "test": [-1]}
    for split, labels in splits.items():
        texts = ["The dog."] * len(labels)
        rows = Dataset.from_dict({"premise": texts, "hypothesis": texts, "label": labels}, features)
        rows.to_parquet(tmp_path / "mnli" / "data" / f"{split}-00000-of-00001.parquet")
    model, output_dir = saved(tmp_path / "lstm", "LSTM", tiny_tokenizer), tmp_path / "out"
    results = run(tmp_path / "mnli", model, output_dir, max_steps=1, validation_split="validation_matched")
    assert "accuracy" in results["validation"]
    assert "test" not in results
    tuned = AutoModelForSequenceClassification.from_pretrained(output_dir)
    assert tuned.config.id2label == dict(enumerate(classes))


def test_elmo_of_characters_with_more_words_than_characters(run, labelled, tmp_path, tiny_corpus):
    words = {word for text in tiny_corpus for word in text.split()} | {f"word{number}" for number in range(300)}
    tokenizer = elmo_tokenizer(["<S>", "</S>", "<UNK>", *sorted(words)])
    sizes = {"character_size": 4, "cnn_filters": [[1, 8]], "hidden_size": 8, "projection_size": 4, "task_size": 4}
    config = hf_lineage.ELMoConfig(vocab_size=len(tokenizer), **sizes)
    assert config.vocab_size > config.num_characters
    hf_lineage.ELMoForPreTraining(config).save_pretrained(tmp_path / "elmo")
    tokenizer.save_pretrained(tmp_path / "elmo")

    results = run(labelled, tmp_path / "elmo", tmp_path / "frozen", max_steps=2, transfer="frozen")
    assert 0 <= results["test"]["accuracy"] <= 1
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("elmo", "frozen"))
    changed = {name for name in before if name in after and not before[name].equal(after[name])}
    assert changed == {"model.mixes.0.weights", "model.mixes.0.gamma"}
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "frozen")
    assert results["parameters"]["learning"] == sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert tuned.config.vocab_size == len(tokenizer)
