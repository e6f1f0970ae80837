"""Sealed checkpoints: what is whole, what is skipped, and which run may go on."""

import logging

import pytest

from hf_lineage.training.checkpoints import check_same_run, last_complete_checkpoint, seal


@pytest.fixture
def two_checkpoints(tmp_path):
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights" * step)
        (folder / "trainer_state.json").write_text("{}")
        seal(folder, {"seed": 1}, 0.0)
    return tmp_path


def test_the_newest_is_taken_by_number(two_checkpoints):
    assert last_complete_checkpoint(two_checkpoints) == str(two_checkpoints / "checkpoint-10")
    assert last_complete_checkpoint(two_checkpoints / "nowhere") is None


@pytest.mark.reliability("A8")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors has changed"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"Weights" * 10), "model.safetensors has changed"),
        (lambda folder: (folder / "seal.json").unlink(), "seal.json is missing"),
        (lambda folder: (folder / "seal.json").write_text('{"files"'), "seal.json is not a seal"),
        *(
            (lambda folder, text=text: (folder / "seal.json").write_text(text), "seal.json is not a seal")
            for text in ("[]", "3", '{"files": []}', '{"files": {}}', '{"files": {"x": 3}, "run": {}}', "[" * 100_000)
        ),
    ],
)
def test_a_damaged_one_is_skipped_with_a_warning(two_checkpoints, damage, reason, caplog):
    damage(two_checkpoints / "checkpoint-10")
    with caplog.at_level(logging.WARNING, "hf_lineage"):
        assert last_complete_checkpoint(two_checkpoints) == str(two_checkpoints / "checkpoint-9")
    assert "checkpoint-10" in caplog.text
    assert reason in caplog.text


@pytest.mark.reliability("A11")
def test_another_run_is_refused_by_name(two_checkpoints):
    check_same_run(two_checkpoints / "checkpoint-10", {"seed": 1, "new": 2})
    with pytest.raises(ValueError, match="checkpoint-10 .*seed=1.* 2"):
        check_same_run(two_checkpoints / "checkpoint-10", {"seed": 2})
