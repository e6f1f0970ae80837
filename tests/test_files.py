"""Files are whole or as they were."""

import gzip
import json
import os
import signal
import subprocess
import sys

import pytest
from transformers import TrainingArguments

from hf_lineage.arguments import parse
from hf_lineage.files import CorpusError, read_lines, read_text, replacing, write_json
from hf_lineage.word_vectors.phrases import Phrases


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


@pytest.mark.reliability("C1")
def test_lines_of_marked_and_packed_files(tmp_path):
    content = "\ufeffa é\r\nb\n\n猫".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.de.gz").write_bytes(gzip.compress(content))
    for name in ("a.txt", "a.de.gz"):
        assert list(read_lines(tmp_path / name)) == ["a é", "b", "", "猫"]
    assert read_text(tmp_path / "a.txt") == "a é\nb\n\n猫"
    (tmp_path / "cut.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(CorpusError, match=r"cut\.gz.*gzip"):
        list(read_lines(tmp_path / "cut.gz"))


@pytest.mark.reliability("C1", "C3")
@pytest.mark.parametrize(
    ("content", "place"), [(b"\xef\xbb\xbfa\nb\xe9", "line 2, byte 6.*0xe9"), (b"a\n\0", "line 2, byte 2.*NUL")]
)
def test_what_is_no_text_is_named(tmp_path, content, place):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match=f"a.txt, {place}"):
        list(read_lines(tmp_path / "a.txt"))
    assert "".join(read_lines(tmp_path / "a.txt", "replace")) in ("ab\ufffd", "a\ufffd")


def test_recipes_and_phrases_may_begin_with_a_mark(tmp_path):
    phrases = Phrases([{("new", "york"): 3.0}])
    phrases.save(tmp_path / "phrases.json")
    marked = "\ufeff" + (tmp_path / "phrases.json").read_text(encoding="utf-8")
    (tmp_path / "phrases.json").write_text(marked, encoding="utf-8")
    assert Phrases.load(tmp_path / "phrases.json") == phrases
    (tmp_path / "recipe.yaml").write_text("\ufeffoutput_dir: runs\nseed: 3\n", encoding="utf-8")
    (settings,) = parse(TrainingArguments, argv=[str(tmp_path / "recipe.yaml")])
    assert settings.seed == 3
