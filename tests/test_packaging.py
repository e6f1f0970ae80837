"""What a user downloads: the wheel, the commands of the README, and code that opens no unsafe file."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

import hf_lineage


ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "hf_lineage").rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").rglob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that `pip wheel .` builds, made from a copy, without network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("hf_lineage", "recipes"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(target)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [path] = target.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel):
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    recipes = [path for path in (ROOT / "recipes").rglob("*") if path.suffix in (".py", ".yaml", ".json", ".md")]
    expected = {path.relative_to(ROOT) for path in PACKAGE} | {Path("hf_lineage/py.typed")}
    # what the lab's page is made of
    expected |= {path.relative_to(ROOT) for path in (ROOT / "hf_lineage/lab/page").rglob("*.*")}
    expected |= {"hf_lineage" / path.relative_to(ROOT) for path in recipes}
    assert files == {path.as_posix() for path in expected}


def test_an_installed_package_trains_by_its_presets(wheel, tmp_path):
    """What has only the wheel: the recipe's own answer shows that the preset was read."""
    wheel.extractall(tmp_path)
    command = [sys.executable, "-m", "hf_lineage", "train", "pretrain_causal_lm", "lstm_tiny", "--corpus", "nowhere"]
    run = subprocess.run(
        [*command, "--output_dir", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2, run.stderr
    [line] = run.stderr.splitlines()
    assert line.startswith("pretrain_causal_lm.py: error: the corpus nowhere")


def test_version_is_that_of_the_package(metadata):
    assert metadata["Version"] == hf_lineage.__version__


def test_licence_and_description_are_in_the_wheel(metadata):
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_make_names_the_python_it_needs(tmp_path, metadata):
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old_python = tmp_path / "python3.9"
    old_python.write_text("#!/bin/sh\necho Python 3.9.1\nexit 1\n")
    old_python.chmod(0o755)
    run = subprocess.run(["make", "demo", f"PYTHON={old_python}"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert f"needs Python {metadata['Requires-Python'].replace('>=', '>= ')}" in run.stdout
    assert "Python 3.9.1" in run.stdout
    assert not (tmp_path / ".venv").exists()


def test_ruff_is_the_same_everywhere():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [required] = re.findall(r'^required-version = "(.+)"$', pyproject, flags=re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert f"ruff{required}" in setup["options.extras_require"]["dev"].split()
    assert {tuple(hook["additional_dependencies"]) for hook in hooks if "ruff" in hook["id"]} == {(f"ruff{required}",)}


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_continuous_integration_runs_the_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL))
    commands = {line.split("#")[0].strip() for line in fenced.splitlines()}
    assert "make test" in commands
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_NAMES = {
    *("torch.load", "torch.serialization.load", "torch.jit.load", "torch.hub.load", "pandas.read_pickle"),
    *(f"yaml.{kind}{number}" for kind in ("load", "full_load", "unsafe_load") for number in ("", "_all")),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("eval", "exec", "builtins.eval", "builtins.exec"),
}


def unsafe_uses(source):
    """Names in python source what could run code from a file: pickles, eval and their like."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names if alias.name.split(".")[0] in UNSAFE_MODULES}
            case ast.ImportFrom(module=str(module), names=names):
                imported = {f"{module}.{alias.name}" for alias in names}
                found |= imported & UNSAFE_NAMES
                found |= imported if module.split(".")[0] in UNSAFE_MODULES else set()
            case ast.Name() | ast.Attribute():
                found |= {ast.unparse(node)} & UNSAFE_NAMES
            case ast.keyword(arg="allow_pickle" | "shell" as name):
                found.add(name)
    return found


@pytest.mark.reliability("B11")
@pytest.mark.parametrize("path", PACKAGE + RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_opened_in_a_way_that_could_run_code(path):
    assert unsafe_uses(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import dill as serializer",
        "from pickle import loads",
        "from joblib.numpy_pickle import load",
        "from torch import load",
        "torch.load(path, weights_only=True)",
        "from torch.serialization import load",
        "torch.jit.load(path)",
        "pandas.read_pickle(path)",
        "settings = yaml.load(file, Loader=yaml.SafeLoader)",
        "rows = yaml.unsafe_load_all(file)",
        "os.system(command)",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "eval(text)",
        "builtins.exec(text)",
        "list(map(eval, lines))",
    ],
)
def test_unsafe_source_is_recognised(source):
    assert unsafe_uses(source)


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "yaml.safe_load(file)", "numpy.load(path)", "# pickle", "load_file(path)", "from . import x"],
)
def test_safe_source_is_let_through(source):
    assert not unsafe_uses(source)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_package_does_not_print(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert "print" not in {ast.unparse(function) for function in calls}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE}


def nodes_that_run(node):
    """All nodes below `node`, those in functions too, but not what is imported for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from nodes_that_run(child)


def modules_imported_by(name):
    """Modules of the package that a module's source names in its imports."""
    package = name if MODULES[name].stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in nodes_that_run(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                start = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                source = ".".join([*start, module] if module else start)
                targets = {f"{source}.{alias.name}" for alias in names}
                found |= {target if target in MODULES else source for target in targets}
    return found & MODULES.keys() - {name}


def test_each_module_has_a_name_of_its_own():
    """A reader who searches a name finds one file; sub-packages that run as a command share `command`."""
    names = Counter(path.stem for path in PACKAGE if path.stem not in ("__init__", "command"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_import_circle():
    """No module reaches itself through imports, whether at the top of a file or in a function."""
    imports = {name: modules_imported_by(name) for name in MODULES}
    assert "hf_lineage.models.inputs" in imports["hf_lineage.models"]
    circles = set()
    for name in MODULES:
        reached, waiting = set(), list(imports[name])
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += imports[module]
        circles |= {name} & reached
    assert circles == set()


def test_data_knows_no_model():
    imports = {name: modules_imported_by(name) for name in MODULES if name.startswith("hf_lineage.data")}
    assert imports
    for name, found in imports.items():
        assert not [module for module in found if module.startswith("hf_lineage.models")], name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_import_public_names_and_never_each_other(path):
    recipes = {each.stem for each in RECIPES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] not in {*recipes, "recipes"}
            if node.module.startswith("hf_lineage"):
                assert not [part.name for part in node.names if part.name.startswith("_")]


# folders that exist on the machine of one person or company only
PRIVATE_PATH = re.compile(r"(?<![\w.*/])/(?:home|Users|root|work|farm|mnt|opt/(?:wheels|pypi))/\w")


def text_files():
    folders = ("hf_lineage", "recipes", "benchmarks", "tests", "docs", ".ci")
    candidates = [*ROOT.iterdir(), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return sorted(path for path in candidates if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", text_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_names_a_path_of_one_machine(path):
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        pytest.skip("not a text file")
    assert PRIVATE_PATH.findall(text) == []


@pytest.mark.parametrize(
    ("text", "found"), [("see /" + "home/ada/x", True), ("a/home/b, https://x.org/work/y", False)]
)
def test_a_path_of_one_machine_is_recognised(text, found):
    assert bool(PRIVATE_PATH.search(text)) == found
