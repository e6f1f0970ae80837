"""The end of a run: a card from the run itself, three lines whose command works, and a folder that stays."""

import ast
import contextlib
import io
import json
import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from transformers import pipeline

from hf_lineage.data import grammar_corpus
from hf_lineage.hub.papers import PAPERS
from hf_lineage.models import LINEAGE, name_and_idea
from tests.recipes.test_a_failed_evaluation import (
    FINE_TUNING,
    RECIPES,
    TRAINING,
    WITHOUT_MODEL,
    folder,  # noqa: F401 - a fixture
    run,
)


TASKS = {
    "pretrain_causal_lm": "text-generation",
    "pretrain_bert": "fill-mask",
    "pretrain_bilm": "feature-extraction",
    "pretrain_translation": "translation",
    "pretrain_word2vec": "feature-extraction",
    "finetune_classification": "text-classification",
    "finetune_tagging": "token-classification",
    "finetune_question_answering": "question-answering",
    "finetune_multiple_choice": "multiple-choice",
    "train_on_elmo": "token-classification",
}
TUNED = {recipe: TRAINING | settings | {"model_name_or_path": "bert"} for recipe, settings in FINE_TUNING.items()}


def finished(inputs, recipe, output_dir, monkeypatch, **flags):
    settings = TUNED[recipe] if recipe in TUNED else (RECIPES | WITHOUT_MODEL)[recipe][2]
    run(inputs, recipe, settings | flags, output_dir, monkeypatch)


def ask(code, tmp_path):
    """What the code prints."""
    script, printed = tmp_path / "asked.py", io.StringIO()
    script.write_text(code, encoding="utf-8")
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(script))
    return printed.getvalue()


@pytest.mark.recipe
@pytest.mark.parametrize("recipe", [*RECIPES, *TUNED])
def test_a_run_leaves_a_card_and_a_command(folder, tmp_path, monkeypatch, capsys, load_reports, recipe):  # noqa: F811
    finished(folder, recipe, tmp_path, monkeypatch, model_license="apache-2.0", model_language="en")
    *before, place, score, command = capsys.readouterr().out.splitlines()
    assert place == f"result: {tmp_path}"
    assert any(character.isdigit() for character in score.removeprefix("score:  "))
    assert not any(line.lstrip().startswith(("{", '"')) for line in before)
    assert "LOAD REPORT" not in "\n".join(before)
    python, flag, code = shlex.split(command.removeprefix("next:   "))
    assert (python, flag) == ("python", "-c")
    load_reports.clear()
    answer = ask(code, tmp_path)
    assert answer.strip()
    assert "tensor(" not in answer

    card = ModelCard.load(tmp_path / "README.md")
    results = json.loads((tmp_path / "results.json").read_text())
    model_type = json.loads((tmp_path / "config.json").read_text())["model_type"]
    [station] = [one for one in LINEAGE if one.model_type == model_type]
    title, idea = name_and_idea(station)
    assert str(folder) not in card.text
    assert str(tmp_path) not in card.text
    for part in (title, PAPERS[model_type], idea, f"{recipe}.py", "transformers 5", "parameters", "## Limits"):
        assert part in card.text
    data = card.data
    assert (data.library_name, data.license, data.language) == ("transformers", "apache-2.0", "en")
    assert data.pipeline_tag == TASKS[recipe]
    for result in data.eval_results:
        assert results[result.dataset_split][result.metric_type] == pytest.approx(result.metric_value)
    measured = {result.dataset_split for result in data.eval_results}
    assert measured == ({"similarities"} if recipe == "pretrain_word2vec" else measured & {"validation", "test"})
    code, _ = [block.partition("```")[0] for block in card.text.split("```python\n")[1:]]
    # by the name of its folder
    monkeypatch.chdir(tmp_path.parent)
    again = ask(code, tmp_path)
    assert again.strip()
    if recipe.startswith("finetune"):
        assert again == answer
        check_prediction(recipe, answer, tmp_path)
    # weights that a head leaves off, such as BERT's pooler, are not reported
    assert {*load_reports} == {None}


def check_prediction(recipe, printed, output_dir):
    """The printed answer is that of the first line of predictions.jsonl, the validation text's first row."""
    line = json.loads((output_dir / "predictions.jsonl").read_text().splitlines()[0])
    # numbers of numpy are no literals
    found = ast.literal_eval(re.sub(r"np\.float\d+\(([^)]*)\)", r"\1", printed))
    if recipe == "finetune_classification":
        [found] = found
        assert (found["label"], found["score"]) == (line["answer"], pytest.approx(line["probability"], abs=1e-4))
    elif recipe == "finetune_multiple_choice":
        assert found[0]["index"] == line["answer"]
        assert found[0]["score"] == pytest.approx(max(line["probabilities"]), abs=1e-4)
    elif recipe == "finetune_question_answering":
        # SQuAD's scores take single spans, pipelines add up those of the same words
        assert found["answer"] in line["context"]
        options = {"align_to_words": False, "max_answer_len": 30, "max_seq_len": 32, "doc_stride": 8}
        found = pipeline("question-answering", model=str(output_dir))(
            question=line["question"], context=line["context"], **options
        )
        assert found["answer"] == line["answer"]
    else:
        [found] = found
        starts = []
        for number in range(len(line["tokens"])):
            starts.append(len(" ".join(line["tokens"][:number])) + (number > 0))
        of_words = {one["start"]: one for one in found if one["start"] in starts}
        assert [of_words[start]["entity"] for start in starts] == line["answer"]
        assert [of_words[start]["score"] for start in starts] == pytest.approx(line["probabilities"], abs=1e-4)


CHINESE = ("pretrain_causal_lm", "pretrain_bert", "pretrain_bilm", "pretrain_word2vec")


@pytest.mark.recipe
@pytest.mark.parametrize("recipe", CHINESE)
def test_a_chinese_run_asks_in_chinese_and_says_so(folder, tmp_path, monkeypatch, capsys, recipe):  # noqa: F811
    texts = ["".join(row["source"].split()) + "。" for row in grammar_corpus("train", 300)]
    (tmp_path / "texts").mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        (tmp_path / "texts" / f"{split}.txt").write_text("\n".join(texts[number::3]), encoding="utf-8")
    settings = {"corpus": tmp_path / "texts", "vocab_size": 1_000}
    if recipe == "pretrain_word2vec":
        settings["similarities"] = ""
    finished(folder, recipe, tmp_path / "run", monkeypatch, **settings)
    *_, command = capsys.readouterr().out.splitlines()
    _, _, code = shlex.split(command.removeprefix("next:   "))
    assert not re.search(r"\b(He|The|cat)\b", code)
    assert re.search("[\u4e00-\u9fff]", code)
    assert ask(code, tmp_path).strip()
    assert ModelCard.load(tmp_path / "run" / "README.md").data.language == "zh"


@pytest.mark.recipe
@pytest.mark.parametrize("recipe", ["pretrain_causal_lm", "long_dependencies"])
def test_a_finished_folder_is_not_replaced(folder, tmp_path, monkeypatch, recipe):  # noqa: F811
    finished(folder, recipe, tmp_path, monkeypatch)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=f"{tmp_path}.*--overwrite_output_dir"):
        finished(folder, recipe, tmp_path, monkeypatch)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    marker = tmp_path / "results.json"
    marker.write_text("old")
    finished(folder, recipe, tmp_path, monkeypatch, overwrite_output_dir="true")
    assert marker.read_text() != "old"


@pytest.mark.recipe
def test_the_hub_gets_the_card_of_the_run(folder, tmp_path, monkeypatch):  # noqa: F811
    """Trainer writes its own draft before each push; here it writes ours, with the name on the Hub."""
    pushed = []

    class Hub:
        def create_repo(self, name, **_):
            return SimpleNamespace(repo_id=name)

        def upload_folder(self, *, folder_path, **_):
            pushed.append((Path(folder_path) / "README.md").read_text())

    monkeypatch.setattr("transformers.trainer.hf_api", Hub)
    finished(folder, "pretrain_causal_lm", tmp_path, monkeypatch, push_to_hub="true", hub_model_id="me/lstm")
    card = ModelCard(pushed[-1])
    assert card.data.model_name == "lstm"
    assert 'model="me/lstm"' in card.text
    assert {result.dataset_split for result in card.data.eval_results} == {"validation", "test"}
    assert "generated from" not in card.text
