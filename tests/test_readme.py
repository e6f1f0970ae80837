"""The README is true: its table is current, its example runs, the commands it shows exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_lineage.__main__ import lineage_table, main


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


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md", "CONTRIBUTING.md"])
def test_files_named_in_the_docs_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"\b(?:recipes|hf_lineage|benchmarks|tests)/[\w./-]+\.(?:py|yaml|md)\b", text)
    examples = {"configuration_x.py", "modeling_x.py", "test_modeling_x.py", "x_tiny.yaml"}
    assert [name for name in named if Path(name).name not in examples and not (ROOT / name).exists()] == []
