"""Files are whole or as they were."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hf_lineage.files import replacing, write_json


def test_json_is_written_in_one_piece(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"words": ["猫", "é"]})
    assert "猫" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == {"words": ["猫", "é"]}
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"words": {"a set"}})
    assert json.loads(path.read_text(encoding="utf-8")) == {"words": ["猫", "é"]}
    assert os.listdir(tmp_path) == ["results.json"]


def test_the_older_file_stays_when_the_writer_fails(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text("half")
            raise KeyError("a word")

    with pytest.raises(KeyError, match="a word"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["vectors.txt"]


def test_the_older_file_stays_when_the_writer_is_killed(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("old")
    program = (
        "import os, signal, sys\nfrom hf_lineage.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_what_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "missing" / "results.json"
    with pytest.raises(FileNotFoundError, match=r"No such file or directory; not written: '.*results\.json'"):
        write_json(path, {})
    # a file that is read on the way is another
    with pytest.raises(FileNotFoundError, match=r"corpus\.txt"), replacing(tmp_path / "ids.bin"):
        open(tmp_path / "corpus.txt")
