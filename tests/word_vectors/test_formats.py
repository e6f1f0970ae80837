"""Files of word vectors: both ways against gensim, from the authors' C tool, and broken in every way."""

import gzip
import importlib.util
import pickle
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hf_lineage.converters import from_gensim, to_gensim
from hf_lineage.word_vectors import WordVectors


FIXTURES = Path(__file__).parent / "fixtures"
# what the authors' tool was trained on to write the fixtures: -size 5 -min-count 1 -iter 3 -negative 2 -threads 1
CORPUS = """the miller grinds the corn and the baker bakes the bread
the baker sells the bread and the miller eats the bread
der müller mahlt das korn und der bäcker bäckt das brot
the miller knows the baker and der müller kennt den bäcker
"""


@pytest.fixture
def vectors():
    """Words of several scripts; numbers from the smallest of float32 to 1e12."""
    words = ["</s>", "the", "Straße", "磨坊主", "no\u00a0break", "-1.5", "🍞", "a,b"]
    rng = np.random.default_rng(0)
    return WordVectors(words, rng.normal(size=(8, 5)) * 10.0 ** rng.integers(-40, 11, (8, 5)))


def written(folder, content, name="vectors.txt"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt", "vectors.vec"])
def test_written_and_read_again_exactly(vectors, tmp_path, name):
    vectors.save(tmp_path / name)
    back = WordVectors.load(tmp_path / name, show_progress=False)
    assert back.words == vectors.words
    assert back.vectors.tobytes() == vectors.vectors.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt"])
def test_gensim_reads_what_we_write(vectors, tmp_path, name):
    keyed_vectors = pytest.importorskip("gensim.models").KeyedVectors
    vectors.save(tmp_path / name)
    keyed = keyed_vectors.load_word2vec_format(str(tmp_path / name), binary=name.endswith("bin"))
    assert keyed.index_to_key == vectors.words
    assert keyed.vectors.tobytes() == vectors.vectors.tobytes()


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt"])
def test_we_read_what_gensim_writes(vectors, tmp_path, name):
    pytest.importorskip("gensim")
    keyed = to_gensim(vectors)
    keyed.save_word2vec_format(str(tmp_path / name), binary=name.endswith("bin"))
    back = WordVectors.load(tmp_path / name, show_progress=False)
    assert back.words == keyed.index_to_key
    np.testing.assert_allclose(back.vectors, keyed.vectors, rtol=1e-6)


def test_objects_of_gensim_both_ways(vectors):
    pytest.importorskip("gensim")
    back = from_gensim(to_gensim(vectors))
    assert back.words == vectors.words
    assert (back.vectors == vectors.vectors).all()


def test_reads_what_the_authors_tool_wrote(tmp_path):
    binary = WordVectors.load(FIXTURES / "c_tool.bin", show_progress=False)
    text = WordVectors.load(FIXTURES / "c_tool.txt", show_progress=False)
    assert binary.words == text.words
    counts = Counter(CORPUS.replace("\n", " </s> ").split())
    assert sorted(binary.words[1:]) == sorted(counts.keys() - {"</s>"})
    assert binary.words[0] == "</s>"
    falling = [counts[word] for word in binary.words[1:]]
    assert falling == sorted(falling, reverse=True)
    assert text.vector("the").tolist() == pytest.approx([0.060567, 0.018834, 0.004079, -0.072019, 0.044408])
    # text has six decimals
    np.testing.assert_allclose(binary.vectors, text.vectors, atol=6e-7)
    binary.save(tmp_path / "ours.bin")
    assert (tmp_path / "ours.bin").read_bytes() == (FIXTURES / "c_tool.bin").read_bytes()


def test_reads_what_the_authors_tool_writes_now(tmp_path):
    tool = shutil.which("word2vec") or Path(sys.prefix) / "bin" / "word2vec"
    if not shutil.which("word2vec") and not importlib.util.find_spec("word2vec"):
        pytest.skip("needs the original program: pip install --no-build-isolation word2vec==0.10.6")
    corpus = written(tmp_path, CORPUS * 30, "corpus")
    for name, is_binary in {"v.bin": "1", "v.txt": "0"}.items():
        command = f"-train {corpus} -output {tmp_path / name} -size 7 -threads 1 -binary {is_binary}"
        subprocess.run([tool, *command.split()], check=True, capture_output=True)
    binary, text = (WordVectors.load(tmp_path / name, show_progress=False) for name in ("v.bin", "v.txt"))
    assert sorted(binary.words) == sorted(text.words)
    assert set(binary.words) == {*CORPUS.split(), "</s>"}
    np.testing.assert_allclose(binary.vectors, text.vectors, atol=6e-7)


def test_the_authors_tool_reads_what_we_write(tmp_path):
    tool = shutil.which("word2vec-distance") or Path(sys.prefix) / "bin" / "word2vec-distance"
    if not Path(tool).is_file():
        pytest.skip("needs the original program: pip install --no-build-isolation word2vec==0.10.6")
    vectors = WordVectors([f"w{i}" for i in range(60)], np.random.default_rng(0).normal(size=(60, 12)))
    vectors.save(tmp_path / "v.bin")
    question = {"input": "w7\nEXIT\n", "capture_output": True, "text": True, "cwd": tmp_path}
    answer = subprocess.run([tool, "v.bin"], **question).stdout
    rows = [line.split() for line in answer.splitlines() if line.lstrip().startswith("w")]
    expected = vectors.nearest("w7", 40)
    assert [word for word, _ in rows] == [word for word, _ in expected]
    np.testing.assert_allclose([float(cosine) for _, cosine in rows], [cosine for _, cosine in expected], atol=2e-6)


def test_first_rows_only(vectors, tmp_path):
    for name in ("vectors.bin", "vectors.txt"):
        vectors.save(tmp_path / name)
        part = WordVectors.load(tmp_path / name, limit=3, show_progress=False)
        assert part.words == vectors.words[:3]
        assert (part.vectors == vectors.vectors[:3]).all()
        assert len(WordVectors.load(tmp_path / name, limit=100, show_progress=False)) == 8


@pytest.mark.reliability("B16", "B17")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"vectors.txt, line 1: b'' is not a header"),
        ("\n", r"line 1: b'\\n' is not a header"),
        ("-2 3\na 1 2 3\n", "line 1: b'-2 3.n' is not a header"),
        ("2 0\na\nb\n", "line 1: .* is not a header"),
        ("2.0 3\na 1 2 3\n", "line 1: .* is not a header"),
        ("the 0.1\nof 0.3\n", "line 1: .* is not a header.*GloVe"),
        ("the 0.1 0.2\nof 0.3\n", "line 2: 1 numbers after b'of'; the first line has 2"),
        ("the 0.1 0.2\nof 0.3 0.4 0.5\n", "line 2: 3 numbers after b'of'; the first line has 2"),
        ("the 0.1 0.2\nof 0.3 x\n", "line 2: not all fields after b'of' are numbers"),
        ("2 2\na 1 2\nb\0 3 4\n", r"line 3: 'b.x00' holds a control character"),
        ("the 0.1 0.2\nof\x7f 0.3 0.4\n", r"line 2: 'of.x7f' holds a control character"),
        ("2 2\na 1 2e20\nb 3 4\n", "line 2: .* 2e.20, beyond .*max_value"),
        ("a 1 2\nb 3 -4e12\n", "line 2: .* -4e.12, beyond .*max_value"),
        ("3 2\na 1 2\nb 3 4\n", "line 1: 3 words of 2 dimensions take at least 17 bytes, but 12 follow"),
        ("3 2\na 1.0000 2\nb 3 4.000\n", "line 3: the file ends, before line 4"),
        ("2 3\na 1 2 3\nb 44 55\n", "line 3: 2 numbers after b'b'; the header says 3"),
        ("2 3\na 1 2 3\nb 4 5 6 7\n", "line 3: 4 numbers after b'b'; the header says 3"),
        ("2 2\na 1 2\nb c 3 4\n", "line 3: "),
        ("2 2\na 1 2\n\nb 3 4\n", "line 3: 0 numbers after b''"),
        ("2 2\na 1 x2\nb 3 4\n", "line 2: "),
        ("2 2\na 1 2x\nb 3 4\n", "line 2: "),
        ("2 2\na 1 2,5\nb 3 4\n", "line 2: "),
        ("2 2\na 1 1_0\nb 3 4\n", "line 2: "),
        ("2 2\na 1 2\nb 3 nan\n", "vectors.txt: the vector of word 1 .*'b', holds nan"),
        ("2 2\na inf 2\nb 3 4\n", "vectors.txt: the vector of word 0 .*'a', holds nan, inf"),
        ("2 2\na 1 2\na 3 4\n", "line 3: 'a' is already at .*line 2"),
        ("2 2\n 1 2\nb 3 4\n", "line 2: '' is empty or has white space"),
        ("2 2\na 1 2\nb 3 4\nc 5 6\n", r"vectors\.txt.*more.* 2 words"),
        (b"2 2\na 1 2\n\xffb 3 4\n", r"line 3: b'\\xffb' is not UTF-8"),
        (b"\x80\x04\x95\x00\x00", "is not a header"),
    ],
)
def test_broken_text_is_named_with_file_and_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        WordVectors.load(written(tmp_path, content), show_progress=False)


# the last of two numbers becomes the next word, if it looks like one
LETTERS = [0.5, np.frombuffer(b"abcd", "<f4")[0]]


def binary_file(*rows, header=b"2 2\n", end=b"\n"):
    return header + b"".join(word + b" " + np.array(numbers, "<f4").tobytes() + end for word, numbers in rows)


@pytest.mark.reliability("B16", "B17")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (binary_file((b"a", [1, 2]), (b"a", [3, 4])), "word 2: 'a' is already at .*word 1"),
        (binary_file((b"a", [1, 2]), (b"\xff", [3, 4])), r"word 2: b'\\xff' is not UTF-8"),
        (binary_file((b"a", [1, 2]), (b"b", [3, np.nan])), "vectors.bin: .*word 1 .*'b', holds nan"),
        (binary_file((b"a", [1, 2]), (b"b", [3, 4]), (b"c", [5, 6])), "there is more after the 2 words"),
        (binary_file((b"a", [1, 2]), (b"b" * 20_000, [3, 4])), r"word 2: b'\\nb+' is not followed by a blank"),
        (binary_file((b"a", [1, 2, 3]), (b"b", [3, 4])), "word 2: .* holds a control character"),
        # the word before the one that cannot be is the one with a blank
        (binary_file((b"new york", [1, 0]), (b"paris", [0, 1])), "word 1: the vector holds 2.*e.26.*a blank"),
        (binary_file((b"NEW YORK", [1, 0]), (b"paris", [0, 1])), "word 2: .* holds a control character.*a blank"),
        # three letters and the blank after them are one number, and the rest of the file is read in order
        (binary_file((b"new yor", LETTERS), (b"a", [3, 4]), end=b""), "word 1: .* 2.*e-19, which the letters b'yor'"),
        (binary_file((b"a", [1, 2]), header=b"-1 2\n"), "is not a header"),
        (binary_file((b"aaaaaaaaaaa", [1, 2])), "word 2: .* 2 numbers before byte"),
    ],
)
def test_broken_binary_is_named_with_file_and_word(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        WordVectors.load(written(tmp_path, content, "vectors.bin"), show_progress=False)


@pytest.mark.parametrize("word", [b"new y", b"new york", b"new yor"])
def test_a_blank_in_the_last_word_that_is_read_is_refused(tmp_path, word):
    path = written(tmp_path, binary_file((word, [0.3, 0.7]), (b"b", [3, 4])), "vectors.bin")
    with pytest.raises(ValueError, match="a blank"):
        WordVectors.load(path, limit=1, show_progress=False)


def test_small_numbers_are_read(tmp_path):
    smallest = np.array([[1e-12, -1e-19], [0, 1e-30]], np.float32)
    WordVectors(["a", "b"], smallest).save(tmp_path / "v.bin")
    assert np.array_equal(WordVectors.load(tmp_path / "v.bin", show_progress=False).vectors, smallest)


@pytest.mark.parametrize("name", ["V.TXT.GZ", "V.Bin", "V.VEC", "v.bin.GZ"])
def test_endings_in_capitals(tmp_path, vectors, name):
    vectors.save(tmp_path / name)
    vectors.save(tmp_path / name.lower())
    assert (tmp_path / name).read_bytes() == (tmp_path / name.lower()).read_bytes()
    assert WordVectors.load(tmp_path / name, show_progress=False).words == vectors.words


@pytest.mark.parametrize("end", [b"\n", b""])
def test_binary_cut_anywhere_is_refused(tmp_path, end):
    content = binary_file((b"one", [1, 2]), (b"two", [3, 4]), end=end)
    for length in range(len(content) - len(end)):
        with pytest.raises(ValueError, match=r"vectors\.bin"):
            WordVectors.load(written(tmp_path, content[:length], "vectors.bin"), show_progress=False)
    assert WordVectors.load(written(tmp_path, content, "vectors.bin"), show_progress=False).words == ["one", "two"]


def test_windows_lines_and_blanks_at_the_end_are_read(tmp_path):
    path = written(tmp_path, "2 2\r\na 1 2 \r\nb -3e-1 4\r\n\n")
    assert WordVectors.load(path, show_progress=False).vectors.tolist() == [[1, 2], [np.float32(-0.3), 4]]


@pytest.mark.reliability("B17")
@pytest.mark.parametrize(("rule", "kept"), [("first", [1, 2]), ("last", [7, 8])])
def test_one_of_repeated_words_is_kept_on_request(tmp_path, rule, kept):
    path = written(tmp_path, "4 2\na 1 2\na 3 4\nb 5 6\na 7 8\n")
    with pytest.warns(UserWarning, match=rf"of 2 repeated words the {rule} vector was kept: \['a', 'a'\]"):
        vectors = WordVectors.load(path, on_duplicate=rule, show_progress=False)
    assert vectors.words == ["a", "b"]
    assert vectors.vectors.tolist() == [kept, [5, 6]]


@pytest.mark.reliability("C1")
@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.txt.gz", "v.bin"])
def test_byte_order_mark_is_no_part_of_the_header_or_the_first_word(tmp_path, name):
    header = b"\xef\xbb\xbf2 2\n"
    content = binary_file((b"a", [1, 2]), (b"b", [3, 4]), header=header)
    if not name.endswith(".bin"):
        content = header + b"a 1 2\nb 3 4\n"
    vectors = WordVectors.load(written(tmp_path, packed(content, name), name), show_progress=False)
    assert vectors.words == ["a", "b"]
    assert vectors.vectors.tolist() == [[1, 2], [3, 4]]
    without_header = WordVectors.load(written(tmp_path, b"\xef\xbb\xbfa 1 2\nb 3 4\n"), show_progress=False)
    assert without_header.words == ["a", "b"]


def packed(content, name):
    return gzip.compress(content) if name.endswith(".gz") else content


@pytest.mark.parametrize("name", ["v.bin.gz", "v.txt.gz", "v.vec.gz"])
def test_packed_files_are_read_and_written_as_gensim_does(vectors, tmp_path, name):
    keyed_vectors = pytest.importorskip("gensim.models").KeyedVectors
    binary = ".bin" in name
    vectors.save(tmp_path / name)
    ours = (tmp_path / name).read_bytes()
    keyed = keyed_vectors.load_word2vec_format(str(tmp_path / name), binary=binary)
    assert keyed.index_to_key == vectors.words
    assert keyed.vectors.tobytes() == vectors.vectors.tobytes()
    keyed.save_word2vec_format(str(tmp_path / name), binary=binary)
    back = WordVectors.load(tmp_path / name, show_progress=False)
    assert back.words == vectors.words
    np.testing.assert_allclose(back.vectors, vectors.vectors, rtol=1e-6)
    vectors.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == ours


@pytest.mark.parametrize("name", ["v.bin.gz", "v.txt.gz"])
def test_damaged_packed_files_are_named(vectors, tmp_path, name):
    vectors.save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for damaged in (content[:-9], content[: len(content) // 2], b"1 1\na 1\n"):
        with pytest.raises(ValueError, match=rf"{name} is not a whole gzip file"):
            WordVectors.load(written(tmp_path, damaged, name), show_progress=False)


@pytest.mark.parametrize("options", [{}, {"format": "glove"}, {"format": "glove", "limit": 2}])
@pytest.mark.parametrize("name", ["glove.txt", "glove.txt.gz"])
def test_files_without_header_are_read_as_gensim_reads_them(vectors, tmp_path, name, options):
    keyed_vectors = pytest.importorskip("gensim.models").KeyedVectors
    vectors.save(tmp_path / name, format="glove")
    back = WordVectors.load(tmp_path / name, show_progress=False, **options)
    keyed = keyed_vectors.load_word2vec_format(
        str(tmp_path / name), binary=False, no_header=True, limit=options.get("limit")
    )
    assert back.words == keyed.index_to_key == vectors.words[: options.get("limit")]
    assert back.vectors.tobytes() == keyed.vectors.tobytes()


def test_words_with_blanks_of_gloves_own_vectors(tmp_path):
    path = written(tmp_path, "the .1 .2 .3\n. . . .4 .5 .6\nat name@domain.com 1 2 3\n", "glove.txt")
    vectors = WordVectors.load(path, show_progress=False)
    assert vectors.words == ["the", ". . .", "at name@domain.com"]
    assert vectors.vector(". . .").tolist() == pytest.approx([0.4, 0.5, 0.6])
    one_number = written(tmp_path, "the 1\nof 2\n", "one.txt")
    assert WordVectors.load(one_number, format="glove", show_progress=False).vectors.tolist() == [[1], [2]]


@pytest.mark.parametrize("errors", ["ignore", "replace"])
@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_words_cut_within_a_character_are_read_on_request_as_gensim_reads_them(tmp_path, name, errors):
    keyed_vectors = pytest.importorskip("gensim.models").KeyedVectors
    cut = "東京".encode()[:5]
    content = binary_file((cut, [1, 2]), (b"b", [3, 4]))
    path = written(tmp_path, content if name == "v.bin" else b"2 2\n" + cut + b" 1 2\nb 3 4\n", name)
    with pytest.raises(ValueError, match="(word 1|line 2): .* is not UTF-8.*unicode_errors"):
        WordVectors.load(path, show_progress=False)
    vectors = WordVectors.load(path, unicode_errors=errors, show_progress=False)
    keyed = keyed_vectors.load_word2vec_format(str(path), binary=name == "v.bin", unicode_errors=errors)
    assert vectors.words == keyed.index_to_key == ["東" + "\ufffd" * (errors == "replace"), "b"]
    assert vectors.vectors.tolist() == [[1, 2], [3, 4]]


def test_large_numbers_are_read_on_request(tmp_path):
    path = written(tmp_path, "1 2\na 1e37 2\n")
    assert WordVectors.load(path, max_value=None, show_progress=False).vector("a")[0] == np.float32(1e37)


def test_small_files_of_users(shared_data):
    folder = shared_data.parent / "cases" / "vectors"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    assert WordVectors.load(folder / "bom.vec", show_progress=False).words == ["a", "b"]
    assert ". . ." in WordVectors.load(folder / "glove.txt", show_progress=False)
    assert len(WordVectors.load(folder / "u.txt.gz", show_progress=False)) > 1
    assert len(WordVectors.load(folder / "cut.bin", unicode_errors="ignore", show_progress=False)) == 2
    with pytest.raises(ValueError, match="word 1: .*a blank"):
        WordVectors.load(folder / "sp.bin", show_progress=False)


@pytest.mark.reliability("B15")
def test_header_that_lies_costs_no_memory(tmp_path):
    paths = [str(written(tmp_path, "1000000000 300\nthe 0.1 0.2 0.3", name)) for name in ("bomb.txt", "bomb.bin")]
    script = f"""
import resource
from hf_lineage.word_vectors import WordVectors
for path in {paths!r}:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        WordVectors.load(path)
    except ValueError as error:
        print(error)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used * 1024 < 50e6, used
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("1000000000 words of 300 dimensions take at least") == 2


@pytest.mark.reliability("B18")
@pytest.mark.parametrize("name", ["v.kv", "v.pkl", "v.model", "v.npy", "v.bin", "v.txt"])
def test_nothing_in_a_file_is_run(tmp_path, name):
    mark = tmp_path / "was_run"

    class Trap:
        def __reduce__(self):
            return Path.touch, (mark,)

    path = written(tmp_path, pickle.dumps(Trap()), name)
    with pytest.raises(ValueError, match="save_word2vec_format|is not a header"):
        WordVectors.load(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.mark.parametrize("word", ["two words", "line\nbreak", "tab\t", "\r", "nul\0", "\x7f"])
def test_word_that_the_format_cannot_hold_leaves_the_old_file(tmp_path, word):
    path = written(tmp_path, b"old", "v.bin")
    with pytest.raises(ValueError, match="has white space"):
        WordVectors(["a", word], np.ones((2, 2))).save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_file(tmp_path):
    path = written(tmp_path, b"old", "v.bin")
    vectors = WordVectors([f"w{i}" for i in range(100)], np.ones((100, 100)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"not written.*v\.bin"):
            vectors.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("v.gz", {}, "format is None"),
        ("v.txt", {"format": "fasttext"}, "format is 'fasttext'"),
        ("v.txt", {"limit": 0}, "limit is 0"),
        ("v.txt", {"max_value": 0}, "max_value is 0"),
        ("v.txt", {"on_duplicate": "mean"}, "on_duplicate is 'mean'"),
        ("v.txt", {"unicode_errors": "keep"}, "unicode_errors is 'keep'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        WordVectors.load(written(tmp_path, "1 1\na 1\n", name), **options)


def test_missing_file_and_folder_are_named(tmp_path, vectors):
    with pytest.raises(FileNotFoundError, match="absent.txt"):
        WordVectors.load(tmp_path / "absent.txt")
    with pytest.raises(FileNotFoundError, match="absent"):
        vectors.save(tmp_path / "absent" / "v.txt")
