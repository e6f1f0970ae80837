"""The pages of docs/ as a site: every station has its page, what pages name exists, the build has no broken link."""

import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from hf_lineage import LINEAGE, converters
from hf_lineage import models as all_models
from hf_lineage.hub.papers import PAPERS
from tests.reliability.table import ROWS


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
STATIONS = [config.model_type.removeprefix("lineage_") for config in LINEAGE]


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def pages_in(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in pages_in(item)]


def test_every_page_is_in_the_navigation():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(pages_in(nav)) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


@pytest.mark.parametrize("name", STATIONS)
def test_page_of_a_station(name):
    page = text_of(f"stations/{name}.md")
    assert PAPERS[f"lineage_{name}"] in page
    assert f"({name}.svg)" in page
    headings = re.findall(r"^## (.*)$", page, re.M)
    assert headings == ["The code that is the idea", "Train it", "Expected", "What differs from the paper", "More"]
    assert f"recipes/configs/{name}_tiny.yaml" in page
    sections = re.findall(r'^--8<-- "(.*):(\w+)"$', page, re.M)
    assert sections
    for path, section in sections:
        code = (ROOT / path).read_text(encoding="utf-8")
        for end in ("start", "end"):
            assert code.count(f"# --8<-- [{end}:{section}]\n") == 1


@pytest.mark.parametrize("name", STATIONS)
def test_expected_numbers_are_measured_ones(name):
    """They stand in the results or the benchmarks."""
    [expected] = re.findall(r"^## Expected\n(.*?)^## ", text_of(f"stations/{name}.md"), re.M | re.S)
    measured = text_of("results.md") + text_of("benchmarks.md")
    numbers = re.findall(r"\d*\.\d+", re.sub(r"gensim 4\.4", "", expected))
    assert numbers
    assert [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", measured)] == []


def test_converters_and_fields_of_the_migration_exist():
    page = text_of("migration.md")
    functions = set(re.findall(r"`((?:from|to)_\w+)", page)) - {"from_pretrained"}
    assert functions == set(converters.__all__) - {"from_elmo_token_vectors"}
    for listed, owner in re.findall(r"\| fields ([^|]*?) of `(\w+)`", page):
        config = getattr(all_models, owner)
        assert is_dataclass(config)
        named = set(re.findall(r"`(\w+)", listed))
        assert named <= {field.name for field in fields(config)}, owner


def test_promises_are_those_of_make_reliability():
    rows = [f"| {row} | {promise} | {elsewhere} |" for row, (promise, elsewhere) in ROWS.items()]
    assert re.findall(r"^\| [ABC]\d+ \|.*", text_of("reliability.md"), re.M) == rows


def build(folder: Path, site: Path) -> subprocess.CompletedProcess:
    """Not quietly: what is not logged does not fail a strict build."""
    # a request would fail
    variables = {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", str(site)],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("link", ["missing.md", "index.md#missing", "../outside.md", "/index.md"])
def test_a_broken_link_fails_the_build(tmp_path, link):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra docs)")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    kept = {name: settings[name] for name in ("site_name", "use_directory_urls", "strict", "validation")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(kept))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    page.write_text("# Start\n\n[here](index.md#start)\n")
    assert build(tmp_path, tmp_path / "site").returncode == 0
    page.write_text(f"# Start\n\n[here]({link})\n")
    run = build(tmp_path, tmp_path / "site")
    assert run.returncode == 1
    assert f"'{link}'" in run.stderr


def test_the_site_builds_and_asks_no_server(tmp_path):
    """Strictly: a link, an anchor, a file or a name of the API that is missing fails the build."""
    pytest.importorskip("material", reason="mkdocs-material is not installed (extra docs)")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings-python is not installed (extra docs)")
    site = tmp_path / "site"
    run = build(ROOT, site)
    assert run.returncode == 0, run.stdout + run.stderr
    for path in site.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', page) == []
        assert re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|preload)"[^>]+href="(?:https?:)?//', page) == []
        assert "--8&lt;--" not in page
    api = (site / "api.html").read_text(encoding="utf-8")
    for config in LINEAGE:
        assert f'id="hf_lineage.models.{config.__name__}"' in api
    for name in ("converters.from_marian", "word_vectors.WordVectors", "inference.align", "training.LineageTrainer"):
        assert f'id="hf_lineage.{name}"' in api
