"""recipes/train_tokenizer.py: the commands of its docstring leave a folder that AutoTokenizer opens."""

import pytest
from transformers import AutoTokenizer

from hf_lineage.__main__ import main
from hf_lineage.data import load_splits
from hf_lineage.tokenization import train_characters, train_word_level, train_wordpiece
from tests.recipes.here import call


RECIPE = "recipes/train_tokenizer.py"
WORDS = '{"unk_token": "<unk>", "eos_token": "<eos>"}'


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--vocab_size", 150], lambda texts: train_wordpiece(texts, 150, show_progress=False)),
        (
            ["--kind", "word_level", "--special_tokens", WORDS],
            lambda texts: train_word_level(
                texts, special_tokens={"unk_token": "<unk>", "eos_token": "<eos>"}, show_progress=False
            ),
        ),
        (["--kind", "character"], lambda texts: train_characters(texts, show_progress=False)),
    ],
    ids=["wordpiece", "word_level", "character"],
)
def test_the_recipe_trains_what_the_function_trains(tmp_path, tiny_corpus, flags, expected):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(tiny_corpus), encoding="utf-8")
    result = call(RECIPE, "--corpus", corpus, "--output_dir", tmp_path / "out", *flags)
    assert result.returncode == 0, result.stderr
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert f"{len(tokenizer)} tokens" in result.stdout
    # the held-out parts, which other recipes cut from the same file, teach it nothing
    read = list(load_splits(corpus)["train"]["text"])
    assert len(read) == 180
    assert tokenizer.backend_tokenizer.to_str() == expected(read).backend_tokenizer.to_str()


def test_counts_make_the_tokenizer_of_the_text(tmp_path, tiny_corpus):
    pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'hf_lineage[scale]'")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(tiny_corpus), encoding="utf-8")
    assert main(["scale", "words", str(corpus), str(tmp_path / "counts")]) == 0
    counts = tmp_path / "counts" / "counts.parquet"
    flags = ["--word_counts", counts, "--output_dir"]
    result = call(RECIPE, *flags, tmp_path / "out", "--vocab_size", 150)
    assert result.returncode == 0, result.stderr
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    expected = train_wordpiece(tiny_corpus, 150, show_progress=False)
    assert found.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    refused = call(RECIPE, *flags, tmp_path / "no", "--lowercase", "false")
    assert refused.returncode == 2
    assert "counts" in refused.stderr.splitlines()[-1]


@pytest.mark.reliability("C4")
def test_an_empty_corpus_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "empty.txt").touch()
    at_exit = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    result = call(RECIPE, "--corpus", tmp_path / "empty.txt", "--output_dir", tmp_path / "out")
    assert result.returncode != 0
    assert "empty.txt has no text" in result.stderr
    for function in at_exit:
        function()
    assert not (tmp_path / "out").exists()
