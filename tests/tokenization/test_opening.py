"""open_tokenizer: AutoTokenizer, with errors that name the damaged file."""

import pytest
from transformers import AutoTokenizer, pipeline

from hf_lineage import GPTConfig, GPTForCausalLM
from hf_lineage.tokenization import open_tokenizer, train_wordpiece
from tests.recipes.here import call


@pytest.fixture
def folder(tmp_path, tiny_tokenizer):
    tiny_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_it_is_the_saved_tokenizer(folder):
    text = "the cat sat"
    assert open_tokenizer(folder)(text).input_ids == AutoTokenizer.from_pretrained(folder)(text).input_ids


@pytest.mark.reliability("B14")
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: text[1:]])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=rf"{name} is damaged \(.*save the tokenizer again"):
        open_tokenizer(folder)


@pytest.mark.reliability("B14")
def test_json_that_is_no_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged \(Model missing"):
        open_tokenizer(folder)


def test_no_tokenizer_stays_the_error_of_transformers(tmp_path):
    with pytest.raises((OSError, ValueError), match="tokenizer"):
        open_tokenizer(tmp_path)


@pytest.mark.reliability("B14")
@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("evaluate_language_model.py", ["--model_name_or_path"]),
        ("pretrain_causal_lm.py", ["--model_type", "lstm", "--tokenizer_name"]),
    ],
)
def test_a_recipe_names_it_in_one_line(tmp_path, tiny_tokenizer, recipe, flags):
    GPTForCausalLM(
        GPTConfig(vocab_size=200, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "trunc')
    (tmp_path / "train.txt").write_text("the cat sat\n")
    result = call(f"recipes/{recipe}", *flags, tmp_path, "--corpus", tmp_path, "--output_dir", tmp_path / "run")
    assert result.returncode == 2
    assert "tokenizer.json is damaged" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.reliability("B14")
@pytest.mark.parametrize("task", ["text-generation", "feature-extraction"])
def test_a_tokenizer_larger_than_the_model_is_named(tmp_path, task):
    tokenizer = train_wordpiece(["the cat sat on the mat"] * 5, 40, show_progress=False)
    model = GPTForCausalLM(
        GPTConfig(vocab_size=6, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    with pytest.raises(ValueError, match=r"ids must lie between 0 and 5 \(vocab_size 6\): does the tokenizer belong"):
        pipeline(task, model=model, tokenizer=tokenizer)("the cat")
