"""recipes/finetune_multiple_choice.py: stations choose among texts, whatever the columns are called."""

import json
import random
import runpy
from pathlib import Path

import pytest
from transformers import pipeline

from hf_lineage.data import read_choice_questions
from hf_lineage.files import CorpusError
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
    assert results["test"]["floors"]["chance"]["accuracy"] == pytest.approx(1 / 3)
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["one", "two"]}, "2 choices, but 3"),
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
