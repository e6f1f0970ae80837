"""What a run has measured is on disk at once, and an error says where."""

import json

import pytest

from hf_lineage.training import Results


def test_the_file_has_what_was_measured_at_any_time(tmp_path):
    path = tmp_path / "new" / "results.json"
    results = Results(path, seed=1)
    assert json.loads(path.read_text()) == {"seed": 1}
    results["test"] = {"loss": 0.5}
    assert json.loads(path.read_text()) == {"seed": 1, "test": {"loss": 0.5}} == results
    # as long as there is nothing to say, what an earlier run has said stays
    Results(path)
    assert json.loads(path.read_text()) == results
    # what cannot be written leaves the older file
    with pytest.raises(TypeError):
        results["plot"] = object()
    assert "plot" not in json.loads(path.read_text())
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_other_processes_hold_and_do_not_write(tmp_path):
    results = Results(tmp_path / "results.json", is_writer=False, seed=1)
    results["test"] = 2
    assert results == {"seed": 1, "test": 2}
    assert not list(tmp_path.iterdir())


def test_an_error_names_what_is_kept(tmp_path):
    results = Results(tmp_path / "results.json", seed=1)
    results["validation"] = 2
    with pytest.raises(ZeroDivisionError) as raised, results.kept_on_error():
        results["test"] = 1 / 0
    (note,) = raised.value.__notes__
    assert "seed, validation" in note
    assert str(tmp_path / "results.json") in note
    assert "model" not in note
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ZeroDivisionError) as raised, results.kept_on_error():
        raise ZeroDivisionError
    assert f"the model in {tmp_path}" in raised.value.__notes__[0]
