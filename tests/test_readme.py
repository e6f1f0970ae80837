"""The README is true: its table is current, its example runs, the commands it shows exist."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_lineage import RNNSearchConfig, RNNSearchForConditionalGeneration
from hf_lineage.__main__ import lineage_table, main
from hf_lineage.data import grammar_corpus
from hf_lineage.tokenization import train_word_level, translation_tokenizer


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_lineage_table_is_current():
    table = README.split("keeps it current -->\n")[1].split("\n<!-- end")[0]
    assert table == lineage_table(), "run `python -m hf_lineage table` and paste what it prints"


def test_command_prints_the_table(capsys):
    assert main(["table"]) == 0
    assert capsys.readouterr().out == lineage_table() + "\n"
    assert main([]) == 2


def test_example_runs(tmp_path):
    [example] = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    beams, greedy = result.stdout.strip().splitlines()
    assert "cat sat on the mat" in beams
    assert greedy.startswith("The dog sat on the")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_translation_example_runs(tmp_path, monkeypatch, capsys):
    """With a model as untrained as can be, whose every word is unknown."""
    page = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    [example] = [code for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "plot_alignment" in code]
    rows = grammar_corpus("train", 100)
    tokenizer = translation_tokenizer(train_word_level([*rows["source"], *rows["target"]], show_progress=False))
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    ids["decoder_start_token_id"] = tokenizer.bos_token_id
    config = RNNSearchConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, readout_size=8, output_bias=True, **ids
    )
    model = RNNSearchForConditionalGeneration(config)
    with torch.no_grad():
        model.lm_head.bias[tokenizer.unk_token_id] = 99
    monkeypatch.chdir(tmp_path)
    for part in (model, tokenizer):
        part.save_pretrained("runs/translation")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    runpy.run_path("example.py")
    by_pipeline, by_hand = capsys.readouterr().out.strip().splitlines()
    assert by_pipeline == by_hand
    assert len(by_hand.split()) == 30
    assert {*by_hand.split()} <= {"他", "欠", "Xiaoming", "100万"}
    assert "小明" in (tmp_path / "alignment.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md", "CONTRIBUTING.md"])
def test_files_named_in_the_docs_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"\b(?:recipes|hf_lineage|benchmarks|tests)/[\w./-]+\.(?:py|yaml|md)\b", text)
    examples = {"configuration_x.py", "modeling_x.py", "test_modeling_x.py", "x_tiny.yaml"}
    assert [name for name in named if Path(name).name not in examples and not (ROOT / name).exists()] == []
