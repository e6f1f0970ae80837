"""Every recipe as a newcomer meets it: its help, and its answers to mistakes, in the process of the test."""

import json
import re
from pathlib import Path

import pytest

import hf_lineage
from hf_lineage.arguments import run
from tests.recipes.here import call


ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_help_begins_with_what_the_script_does_and_two_commands(path):
    without, asked = call(path), call(path, "-h")
    assert (without.returncode, without.stderr) == (2, "")
    assert (asked.returncode, asked.stdout) == (0, without.stdout)
    description, _, flags = asked.stdout.partition("\noptions:")
    sentence = re.match(r'r?"""(.*)', path.read_text(encoding="utf-8"))[1]
    assert description.splitlines()[2] == sentence
    assert len(re.findall(rf"^    (?:python|accelerate launch) .*{path.name}", description, re.M)) >= 2
    # a continued line stays one that a shell can read
    assert not re.search(r"^    .*\S {4,}", description, re.M)
    inherited = flags.partition("\nTrainingArguments:")[2]
    for name in ("output_dir", "corpus", "model_type", "tokens_per_update", "flat_epochs", "prompts"):
        assert f"  --{name}" not in inherited
    assert bool(inherited) == ("TrainingArguments" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_wrong_flag_is_one_line(path):
    line = error_of(path.name, "--output_dirr", "x")
    assert "unknown arguments: --output_dirr x (did you mean --output_dir?)" in line


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("flags", [["--max_stps", "3"], ["--max_stps=3"]], ids=["two words", "one word"])
def test_a_mistyped_flag_is_said_before_a_missing_one(path, flags):
    takes_steps = "TrainingArguments" in path.read_text(encoding="utf-8")
    line = error_of(path.name, *flags)
    assert f"unknown arguments: {' '.join(flags)} (" in line
    assert ("did you mean --max_steps?" in line) == takes_steps
    assert "YAML" not in line


def error_of(recipe, *flags):
    """The one line on stderr with which the recipe ends."""
    result = call(f"recipes/{recipe}", *flags)
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith(f"{recipe}: error: ")
    return line


NEW = {
    "pretrain_causal_lm.py": "lstm",
    "pretrain_bert.py": "bert",
    "pretrain_bilm.py": "elmo",
    "pretrain_word2vec.py": "word2vec",
    "pretrain_translation.py": "seq2seq",
}
TASKS = ("classification", "tagging", "question_answering", "multiple_choice")
SAVED = {
    "finetune_classification.py": ["--dataset", "x"],
    "train_on_elmo.py": ["--dataset", "x"],
    "evaluate_language_model.py": [],
}


@pytest.mark.parametrize("recipe", NEW)
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model_type", "gru2"], "did you mean lineage_gru?"),
        (["--model_type", "NEW", "--config_overrides", '{"vocabsize": 3}'], "vocabsize (did you mean vocab_size?)"),
        (["--model_name_or_path", "nowhere"], "model_name_or_path is nowhere"),
        (["--model_type", "NEW", "--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--model_type", "NEW", "--corpus", "FOLDER", "--text_field", "body"], "set text_field to one of text"),
        (["--model_type", "NEW", "--corpus", "FOLDER", "--validation_split", "dev"], "dev"),
        (["--model_type", "NEW", "--learning_rate", "fast"], "'fast'"),
        (["--model_type", "NEW", "--eval_strategy", "never"], "never"),
        (["nowhere.yaml"], "nowhere.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line(recipe, flags, named, tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"text": "a b c", "zh": "a", "en": "b"}\n')
    if recipe == "pretrain_translation.py":
        if "--text_field" in flags:
            flags, named = ["--model_type", "NEW", "--corpus", "FOLDER", "--source_language", "fr"], "'fr'"
    elif recipe == "pretrain_word2vec.py" and "--validation_split" in flags:
        pytest.skip("word2vec reads no validation text")
    flags = [{"NEW": NEW[recipe], "FOLDER": tmp_path}.get(flag, flag) for flag in flags]
    flags += ["--output_dir", tmp_path / "out"]
    assert named in error_of(recipe, *flags)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("recipe", NEW)
def test_a_run_without_a_folder_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "required: --output_dir" in error_of(recipe, "--model_type", NEW[recipe], "--max_steps", "1")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("recipe", SAVED)
def test_a_model_that_is_not_there_is_one_line(recipe, tmp_path):
    flags = ["--model_name_or_path", "nowhere", *SAVED[recipe], "--output_dir", tmp_path]
    assert "model_name_or_path is nowhere" in error_of(recipe, *flags)


@pytest.mark.parametrize("recipe", ["train_on_elmo.py", *(f"finetune_{task}.py" for task in TASKS)])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"claasifier_dropout": 0.1, "mix_l3": 0.1}, "config_overrides has fields"),
        ({"num_mixes": 0}, "num_mixes is 0"),
    ],
)
def test_a_wrong_field_of_a_saved_model_is_one_line(recipe, fields, named, tmp_path):
    """transformers would keep a field that no model reads, and train as if it were not there."""
    hf_lineage.ELMoConfig().save_pretrained(tmp_path / "model")
    flags = ["--model_name_or_path", tmp_path / "model", "--dataset", "x", "--config_overrides", json.dumps(fields)]
    error = error_of(recipe, *flags, "--output_dir", tmp_path / "out")
    assert named in error
    assert all(name in error for name in fields)


def test_a_bug_keeps_its_traceback():
    def main():
        int("x")

    with pytest.raises(ValueError, match="'x'"):
        run(main)


def test_an_error_after_training_keeps_its_traceback():
    def main():
        error = OSError("no space")
        error.add_note("Kept from before this error: test")
        raise error

    with pytest.raises(OSError, match="no space"):
        run(main)
