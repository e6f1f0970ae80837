"""What the files of models/ may contain, and who uses them: CONTRIBUTING's rules, kept by tests."""

import ast
import re
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

import hf_lineage


MODELS = Path(hf_lineage.__file__).parent / "models"
FILES = {path.stem: path for path in sorted(MODELS.glob("*.py")) if path.stem != "__init__"}
STATIONS = [name.removeprefix("modeling_") for name in FILES if name.startswith("modeling_")]
# of torch, what asks where a tensor is or who runs the code, or calls a kernel by name
FAST_ONLY = re.compile(r"torch\.ops|is_compiling|device\.type|is_cuda|mkldnn|\b_VF\b")


def siblings(path: Path) -> set[str]:
    """The files that a file imports."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1}


def files_of(station: str) -> set[str]:
    """What a checkpoint of the station carries."""
    path = FILES[f"modeling_{station}"]
    return {path.stem, *(Path(name).stem for name in get_relative_import_files(path))}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("fast_") and name != "inputs"])
def test_devices_compilers_and_kernels_are_for_fast_paths(name):
    assert FAST_ONLY.findall(FILES[name].read_text(encoding="utf-8")) == []


def test_cells_hold_no_fast_path():
    """Beside the equations: the classes' forward, loops over time in one direction or both, steps and DropConnect."""
    tree = ast.parse(FILES["recurrent_cells"].read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert functions == {"step_by_step", "run_both_ways", "one_step", "step_on", "with_fewer_weights"}
    for name in ("RNNCell", "GRUCell"):
        assert {node.name for node in classes[name].body if isinstance(node, ast.FunctionDef)} == {"__init__", "step"}


PARTS = [name for name in FILES if name.split("_")[0] not in ("configuration", "modeling", "tokenization", "fast")]
USERS = {name: [station for station in STATIONS if name in files_of(station)] for name in PARTS}
BRICKS = [name for name in PARTS if USERS[name] != [name.split("_")[0]]]


@pytest.mark.parametrize("name", BRICKS)
def test_a_brick_serves_two_stations(name):
    """By itself or through another brick; what serves one station is named after it, and no brick."""
    assert len(USERS[name]) >= 2


@pytest.mark.parametrize("name", [name for name in BRICKS if name != "scheduled_sampling"])
def test_a_brick_has_two_users(name):
    """Two files import it; scheduled sampling is a paper of its own, which `encoder_decoder` gives to its stations."""
    assert len([user for user, path in FILES.items() if name in siblings(path)]) >= 2


def test_an_nnlm_carries_little_code():
    lines = [len(FILES[name].read_text(encoding="utf-8").splitlines()) for name in files_of("nnlm")]
    # 95 of them are the loss that all heads share, 33 its check, 29 what continuous batching needs, 14 adapters
    assert sum(lines) <= 950
