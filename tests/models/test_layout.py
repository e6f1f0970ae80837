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
    """Nothing but the cells' constructors and equations; what they share and loops over time are in other files."""
    tree = ast.parse(FILES["recurrent_cells"].read_text(encoding="utf-8"))
    assert {type(node) for node in tree.body} == {ast.Expr, ast.Import, ast.ImportFrom, ast.ClassDef}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert classes.keys() == {"RNNCell", "LSTMCell", "GRUCell"}
    parts_of_lstm = {"bias_of_forget_gate", "seen_through_peepholes"}
    for name, node in classes.items():
        methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        assert methods == {"__init__", "step"} | (parts_of_lstm if name == "LSTMCell" else set())


KINDS = ("configuration", "modeling", "tokenization", "fast", "pipeline")
# a pipeline and its helpers travel with the heads that it answers for
OF_PIPELINES = set().union(*(siblings(path) for name, path in FILES.items() if name.startswith("pipeline_")))
PARTS = [name for name in FILES if name.split("_")[0] not in KINDS and name not in OF_PIPELINES]
USERS = {name: [station for station in STATIONS if name in files_of(station)] for name in PARTS}
BRICKS = [name for name in PARTS if USERS[name] != [name.split("_")[0]]]


def reads_of(node: ast.AST, name: str) -> tuple[set[str], bool]:
    """The attributes that a class or function reads of an argument, and whether it also hands on the argument."""
    attributes = [part for part in ast.walk(node) if isinstance(part, ast.Attribute)]
    of_argument = [part for part in attributes if isinstance(part.value, ast.Name) and part.value.id == name]
    loads = [part for part in ast.walk(node) if isinstance(part, ast.Name) and part.id == name]
    return {part.attr for part in of_argument}, len(loads) > len(of_argument)


@pytest.mark.parametrize("name", BRICKS)
def test_a_module_takes_a_configuration_for_four_fields(name):
    """Or to hand it on; for less it has plain arguments."""
    for node in ast.parse(FILES[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    takes = "config" in [argument.arg for argument in method.args.args]
                    fields, hands_on = reads_of(method, "config")
                    assert not takes or hands_on or len(fields) >= 4 or not fields, f"{node.name}: {fields}"


@pytest.mark.parametrize("name", FILES)
def test_stations_import_bricks_and_never_another_station(name):
    kind, _, station = name.partition("_")
    found = siblings(FILES[name])
    if kind == "configuration":
        shared = {"configuration_lineage", "configuration_recurrent_seq2seq"}
        assert {each for each in found if each.startswith(("configuration_", "modeling_"))} <= shared
    else:
        own = {f"configuration_{station}"} if kind == "modeling" else set()
        assert {each for each in found if each.startswith(("configuration_", "modeling_"))} <= own


@pytest.mark.parametrize("name", ["attentional_decoder", "modeling_luong"])
def test_each_score_of_attention_is_a_class_of_four_lines(name):
    """A class per score: none asks which score it is."""
    nodes = ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8")))
    scores = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "scores"]
    assert len(scores) >= 2
    for function in scores:
        assert function.end_lineno - function.body[0].lineno < 4
        assert not [part for part in ast.walk(function) if isinstance(part, ast.If | ast.IfExp)]


@pytest.mark.parametrize("name", BRICKS)
def test_a_brick_serves_two_stations(name):
    """By itself or through another brick; what serves one station is named after it, and no brick."""
    assert len(USERS[name]) >= 2


@pytest.mark.parametrize("name", [name for name in BRICKS if name != "scheduled_sampling"])
def test_a_brick_has_two_users(name):
    """Two files import it; scheduled sampling is a paper of its own, which `encoder_decoder` gives to its stations."""
    assert len([user for user, path in FILES.items() if name in siblings(path)]) >= 2
