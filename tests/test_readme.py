"""The README and the docs are true: the table is current, the examples run, files and links that they name exist."""

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
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings: lower case, blanks as hyphens, no other punctuation."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_the_docs_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"\b(?:recipes|hf_lineage|benchmarks|tests|docs)/[\w./-]+\.(?:py|yaml|md)\b", text)
    examples = {"configuration_x.py", "modeling_x.py", "test_modeling_x.py", "x_tiny.yaml"}
    assert [name for name in named if Path(name).name not in examples and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda path: path.name)
def test_every_recipe_is_documented(path):
    """Its own section in the reference, and a row in the table of scripts."""
    assert path.name.replace(".", "") in anchors(ROOT / "docs" / "recipes.md")
    assert f"`recipes/{path.name}`" in (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")


def test_presets_say_what_they_are():
    """First a sentence, then the script; documents that they name exist."""
    for preset in sorted((ROOT / "recipes" / "configs").glob("*.yaml")):
        lines = preset.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# "), preset.name
        assert not lines[0].startswith("# recipe:"), preset.name
        [script] = [line.removeprefix("# recipe: ") for line in lines if line.startswith("# recipe: ")]
        assert (ROOT / script).is_file(), preset.name
        for page in re.findall(r"\b(?:docs|recipes)/[\w/]+\.md\b", "\n".join(lines)):
            assert (ROOT / page).is_file(), preset.name
