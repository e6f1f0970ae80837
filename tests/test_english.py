"""Words that readers of the text stumbled over stay out of it."""

import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("hf_lineage", "recipes", "benchmarks", "docs")
TEXTS = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".js")]
TEXTS += [path for path in ROOT.glob("*.md") if path.name != "README.zh.md"]
# say instead: whose or "one of them", a number, continues, is given, "per line"
STUMBLED_OVER = re.compile(r"\b(?:of which|so many|go(?:es)? on|comes? along|in small|one an? \w+)\b", re.IGNORECASE)


@pytest.mark.parametrize("path", sorted(TEXTS), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_that_readers_stumbled_over(path):
    assert STUMBLED_OVER.findall(path.read_text(encoding="utf-8")) == []
