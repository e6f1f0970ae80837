"""recipes/finetune_multiple_choice.py: stations choose among texts, whatever the columns are called."""

import json
import random
import runpy
from pathlib import Path

import pytest
from transformers import pipeline

from hf_lineage.data import read_choice_questions
from hf_lineage.files import CorpusError
from tests.data.test_questions import write_rows
from tests.recipes.here import call
from tests.recipes.test_finetune_classification import saved


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Calls the script in this process and gives results.json."""

    def call(**settings):
        settings = {"learning_rate": 1e-2, "output_dir": tmp_path / "out", "save_strategy": "no"} | settings
        settings |= {"disable_tqdm": True, "report_to": "none", "per_device_train_batch_size": 8}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        monkeypatch.setattr("sys.argv", ["finetune_multiple_choice.py", *flags])
        runpy.run_path(str(ROOT / "recipes" / "finetune_multiple_choice.py"))["main"]()
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return call


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    for split, part in (("train", rows[:-32]), ("validation", rows[-32:-16]), ("test", rows[-16:])):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    return folder


def rows(number):
    """COPA's columns; the right one of three choices is the one with a quiet river."""
    draw, found = random.Random(0), []
    for _ in range(number):
        label = draw.randrange(3)
        choices = [f"The {draw.choice(['brave dog', 'old letter', 'bright garden'])} again." for _ in range(3)]
        choices[label] = "The quiet river again."
        found.append({"premise": "Ada paints.", "question": "effect", "choices": choices, "label": label})
    return found


@pytest.mark.parametrize("station", ["Word2Vec", "BERT"])
def test_choices_are_learned(run, tmp_path, tiny_tokenizer, station):
    data, model = write(tmp_path / "copa", rows(96)), saved(tmp_path / "model", station, tiny_tokenizer)
    rate = {"Word2Vec": 5e-2, "BERT": 5e-3}[station]
    results = run(model_name_or_path=model, dataset=data, num_train_epochs=6, learning_rate=rate)
    assert results["test"]["accuracy"] > 0.9
    assert results["test"]["floors"]["chance"]["accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    test = [line for line in lines if line["split"] == "test"]
    assert [line["gold"] for line in test] == [row["label"] for row in rows(96)[-16:]]
    right = sum(line["gold"] == line["answer"] for line in test)
    assert results["test"]["accuracy"] == pytest.approx(right / 16, abs=1e-4)
    # the saved model gives these answers
    pipe = pipeline("multiple-choice", model=str(tmp_path / "out"), device="cpu")
    found = pipe({"text": test[0]["text"], "choices": test[0]["choices"]})
    assert found[0]["index"] == test[0]["answer"]
    assert found[0]["score"] == pytest.approx(max(test[0]["probabilities"]), abs=1e-3)


def test_columns_of_the_usual_data_sets(tmp_path):
    swag = {"sent1": "A dog", "sent2": "It", **{f"ending{n}": f"runs {n}." for n in range(4)}, "label": 2}
    commonsense = {"question": "Where?", "choices": {"label": ["A", "B"], "text": ["here", "there"]}, "label": 1}
    for row, text, choices in ((swag, "A dog It", 4), (commonsense, "Where?", 2)):
        (tmp_path / "train.jsonl").write_text(json.dumps(row))
        (tmp_path / "test.jsonl").write_text(json.dumps({**row, "label": -1}))
        splits = read_choice_questions(tmp_path)
        [question] = splits["train"]
        assert (question.text, len(question.choices), question.label) == (text, choices, row["label"])
        assert splits["test"][0].label is None


COMMONSENSE = {
    "id": "1",
    "question": "Where?",
    "question_concept": "place",
    "choices": {"label": ["A", "B", "C"], "text": ["here", "there", "nowhere"]},
    "answerKey": "C",
}


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_commonsenseqa_has_letters(tmp_path, ending, capsys):
    write_rows(tmp_path, ending, [COMMONSENSE, {**COMMONSENSE, "answerKey": "A"}])
    # as its public test set
    write_rows(tmp_path, ending, [{**COMMONSENSE, "answerKey": ""}], "test")
    splits = read_choice_questions(tmp_path)
    assert [question.label for question in splits["train"]] == [2, 0]
    assert splits["train"][0].choices == ("here", "there", "nowhere")
    assert splits["train"][0].text == "Where?"
    assert splits["test"][0].label is None
    assert "The split test has no labels and is not scored: its column 'answerKey'" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_has_lists_of_choices(tmp_path, ending):
    found = rows(4)
    write_rows(tmp_path, ending, found)
    questions = read_choice_questions(tmp_path)["train"]
    assert [(list(one.choices), one.label) for one in questions] == [(row["choices"], row["label"]) for row in found]


def test_numbers_may_be_letters(tmp_path):
    """ARC names its choices so."""
    row = {**COMMONSENSE, "choices": {"label": ["1", "2", "3"], "text": ["a", "b", "c"]}, "answerKey": "1"}
    write_rows(tmp_path, "jsonl", [row])
    assert read_choice_questions(tmp_path)["train"][0].label == 0


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([{"label": 1}, {"label": -1}], r"test\.jsonl, line 2: label is -1, a secret label"),
        ([{"label": 1}, {"label": None}], r"test\.jsonl, line 2: label is None"),
        ([{"label": 1}, {"label": "x"}], r"test\.jsonl, line 2: label is 'x'.*0 and 2"),
    ],
)
def test_a_partly_secret_test_split_is_named(tmp_path, test, message):
    first, second = rows(2)
    write_rows(tmp_path, "jsonl", [first, second])
    write_rows(tmp_path, "jsonl", [{**first, **test[0]}, {**second, **test[1]}], "test")
    with pytest.raises(CorpusError, match=message):
        read_choice_questions(tmp_path)


@pytest.mark.parametrize("label", [-1, "-1", None, ""])
def test_a_secret_test_split_is_left_out_and_said(tmp_path, tiny_tokenizer, label):
    data, model = write(tmp_path / "copa", rows(48)), saved(tmp_path / "model", "Word2Vec", tiny_tokenizer)
    write_rows(data, "jsonl", [{**row, "label": label} for row in rows(4)], "test")
    flags = ["--model_name_or_path", model, "--dataset", data, "--output_dir", tmp_path / "out", "--max_steps", 1]
    result = call("recipes/finetune_multiple_choice.py", *flags, "--save_strategy", "no", "--report_to", "none")
    assert result.returncode == 0, result.stderr
    assert "The split test has no labels and is not scored" in result.stdout
    assert "test" not in json.loads((tmp_path / "out" / "results.json").read_text())


def test_a_test_split_without_the_column_says_which_it_has(tmp_path, capsys):
    (row,) = rows(1)
    write_rows(tmp_path, "jsonl", [row])
    other = {name: cell for name, cell in row.items() if name != "label"}
    write_rows(tmp_path, "jsonl", [{**other, "Label": 1}], "test")
    assert read_choice_questions(tmp_path)["test"][0].label is None
    assert "there is no column 'label'; it has premise, question, choices, Label" in capsys.readouterr().out
    write_rows(tmp_path, "jsonl", [other], "dev")
    with pytest.raises(CorpusError, match=r"dev\.jsonl, line 1: .*'label' \(label_field\).*set label_field"):
        read_choice_questions(tmp_path)


def test_columns_are_different(tmp_path):
    write_rows(tmp_path, "jsonl", rows(1))
    with pytest.raises(CorpusError, match="text_fields is label, choice_fields choices, and label_field label"):
        read_choice_questions(tmp_path, ["label"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["one", "two"]}, "2 choices, but 3 .*give every row 3"),
        ({"choices": ["one", "", "two"]}, "choices has ''"),
        ({"choices": "one"}, "choices is 'one'"),
        ({"label": 3}, "label is 3.*0 and 2"),
        ({"label": -1}, "label is -1.*0 and 2"),
        ({"premise": None}, "premise has None"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    first, second = rows(2)
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, [first, {**second, **change}])))
    with pytest.raises(CorpusError, match=rf"train\.jsonl, line 2: .*{message}"):
        read_choice_questions(tmp_path)


def test_unknown_columns_are_listed(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"stem": "Where?", "options": ["a", "b"], "label": 0}))
    with pytest.raises(CorpusError, match="stem, options, label: set text_fields"):
        read_choice_questions(tmp_path)
