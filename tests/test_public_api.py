"""What `import hf_lineage` gives and what it leaves for later; names of before that still work."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import hf_lineage
from hf_lineage import converters, models
from hf_lineage.models import LINEAGE
from hf_lineage.moved import MOVED


# every sub-package of the folder, and two modules
PACKAGES = {path.parent.name for path in Path(hf_lineage.__file__).parent.glob("*/__init__.py")}
ON_DEMAND = PACKAGES - {"models"} | {"arguments", "pipelines"}


def classes_of(config_class):
    references = [*config_class.auto_classes.values(), *filter(None, [config_class.auto_tokenizer])]
    return {config_class.__name__, *(reference.split(".")[1] for reference in references)}


@pytest.mark.parametrize("module", [hf_lineage, models])
def test_every_class_of_the_stations_is_written_out(module):
    stations = set().union(*map(classes_of, LINEAGE))
    assert set(module.__all__) - {"__version__", "LINEAGE", "plain_equations"} == stations
    assert all(getattr(module, name).__name__ == name for name in stations)


def test_completion_shows_stations_and_sub_packages_and_nothing_private():
    shown = dir(hf_lineage)
    packages = set(shown) - set(hf_lineage.__all__)
    assert packages == ON_DEMAND | {"models"}
    assert [name for name in shown if name.startswith("_")] == ["__version__"]
    for name in packages:
        assert getattr(hf_lineage, name) is importlib.import_module(f"hf_lineage.{name}")
    with pytest.raises(AttributeError, match="'hf_lineage' has no attribute 'dat'"):
        _ = hf_lineage.dat


TASKS = """
from transformers.pipelines import PIPELINE_REGISTRY
tasks = set(PIPELINE_REGISTRY.get_supported_tasks())
assert {"translation", "question-answering", "multiple-choice", "word-analogy", "word-similarity"} <= tasks
"""


@pytest.mark.slow
def test_sub_packages_and_tasks_come_on_demand():
    script = f"""
import sys, hf_lineage
assert not {{f"hf_lineage.{{name}}" for name in {sorted(ON_DEMAND)}}} & set(sys.modules)
# with their processors of images and sound, and a thousand compiled patterns
assert "transformers.pipelines" not in sys.modules
assert sys.modules["transformers.conversion_mapping"]._checkpoint_conversion_mapping_cache is None
assert hf_lineage.data.TokenStream
{TASKS}"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_tasks_are_registered_where_pipelines_came_first():
    subprocess.run([sys.executable, "-c", f"import transformers.pipelines, hf_lineage{TASKS}"], check=True)


@pytest.mark.parametrize("old", MOVED)
def test_old_name_of_a_module_gives_the_new_module(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    importer = compile(f"\n\nimport {old} as found", "importer.py", "exec")
    names = {}
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to {MOVED[old]}") as caught:
        exec(importer, names)
    assert names["found"] is importlib.import_module(MOVED[old])
    # the line that imports, and under its own name still
    assert (caught[0].filename, caught[0].lineno) == ("importer.py", 3)
    assert names["found"].__spec__.name == names["found"].__name__ == MOVED[old]


def test_names_can_be_imported_from_an_old_module(monkeypatch):
    monkeypatch.delitem(sys.modules, "hf_lineage.data.translation", raising=False)
    with pytest.warns(DeprecationWarning, match=r"hf_lineage.data.translation has moved") as caught:
        from hf_lineage.data.translation import TranslationPairs
    assert TranslationPairs is hf_lineage.data.TranslationPairs
    assert caught[0].filename == __file__


@pytest.mark.parametrize("old", converters.RENAMED)
def test_old_name_of_a_converter_still_works(old):
    new = converters.RENAMED[old][0]
    with pytest.warns(DeprecationWarning, match=f"converters.{old} has been renamed to {new}") as caught:
        function = getattr(converters, old)
    assert caught[0].filename == __file__
    if not old.endswith("word_vectors"):
        assert function is getattr(converters, new)


def test_converters_are_named_from_and_to():
    assert {name.split("_")[0] for name in converters.__all__} == {"from", "to"}


def test_word_vectors_by_their_old_converters(tmp_path):
    vectors = hf_lineage.word_vectors.WordVectors(["a", "b"], [[1.0, 2.0], [3.0, 4.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        converters.write_word_vectors(tmp_path / "v.txt", vectors)
        back = converters.read_word_vectors(tmp_path / "v.txt")
    assert back.words == vectors.words
    assert (back.vectors == vectors.vectors).all()
