"""The notebooks: one per station, without outputs; each runs as it stands, and quickly."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_lineage import LINEAGE


NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
STATIONS = [config.model_type.removeprefix("lineage_") for config in LINEAGE]


def cells(name: str) -> list[dict]:
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_every_station_has_its_notebook():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(STATIONS)


@pytest.mark.parametrize("name", STATIONS)
def test_notebooks_have_no_outputs_and_say_what_to_see(name):
    first, *_ = cells(name)
    assert f"(../stations/{name}.md)" in "".join(first["source"])
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    # what a notebook claims it also checks, or shows
    shown = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert shown or any("What to see" in "".join(cell["source"]) for cell in cells(name))


@pytest.mark.parametrize("name", STATIONS)
def test_first_cell_installs_the_package_only_where_it_is_missing(name, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda *call, **options: calls.append((call, options)))
    first, *others = ["".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "code"]
    exec(first, {})
    assert calls == []
    # Colab has transformers, but not this package
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == "hf_lineage" else package)
    exec(first, {})
    [([command], options)] = calls
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-1] == "hf_lineage[demo]"
    assert options["check"]
    assert "hf_lineage" in others[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", STATIONS)
def test_notebooks_run_as_they_stand(name, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra docs)")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (extra docs)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra docs)")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    run = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = [output for cell in run.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in said if output.output_type == "error"] == []
    assert said
