"""Phrases against gensim's and the authors' word2phrase, and by hand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_lineage.data import MappedTexts, Phrases, load_corpus


def original_score(worda_count, wordb_count, bigram_count, len_vocab, min_count, corpus_word_count):
    # gensim's own scorer multiplies by the size of the vocabulary instead of the number of words
    return (bigram_count - min_count) / worda_count / wordb_count * corpus_word_count


@pytest.fixture(scope="module")
def real_text():
    """Lower-case words of the embedded corpus, a paragraph a line."""
    pytest.importorskip("gensim")
    return [" ".join(text.lower().split()) for text in load_corpus(None, "validation")["text"]]


def test_two_passes_are_gensims(real_text):
    gensim = pytest.importorskip("gensim.models.phrases")
    sentences = [text.split() for text in real_text]
    found = Phrases.learn(real_text, (20.0, 10.0), min_count=3, show_progress=False)
    for number, threshold in enumerate((20.0, 10.0)):
        model = gensim.Phrases(
            sentences, min_count=3, threshold=threshold, scoring=original_score, connector_words=frozenset()
        )
        expected = {tuple(pair.split("_")): score for pair, score in model.find_phrases(sentences).items()}
        if number == 0:
            # gensim lists what it joins somewhere; a pair that always overlaps another before it is not among them
            assert expected.items() <= {k: pytest.approx(v) for k, v in found.passes[0].items()}.items()
            assert len(expected) > 50
        sentences = [model[sentence] for sentence in sentences]
        partial = Phrases(found.passes[: number + 1])
        assert [partial.split(text) for text in real_text] == sentences
    assert any(word.count("_") > 1 for sentence in sentences for word in sentence)


def test_joined_text_is_the_authors_tools(real_text, tmp_path):
    tool = shutil.which("word2phrase") or Path(sys.prefix) / "bin" / "word2phrase"
    if not Path(tool).is_file():
        pytest.skip("needs the original program: pip install --no-build-isolation word2vec==0.10.6")
    (tmp_path / "text").write_text("\n".join(real_text) + "\n", encoding="utf-8")
    # names of files are cut at 60 bytes
    command = "-train text -output out -min-count 3 -threshold 20"
    subprocess.run([tool, *command.split()], check=True, capture_output=True, cwd=tmp_path)
    phrases = Phrases.learn(real_text, [20.0], min_count=3, show_progress=False)
    theirs = [line.split() for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines()]
    assert [phrases.split(text) for text in real_text] == theirs


def test_score_by_hand():
    # 16 words: a 4, b 4, "a b" 4 times -> (4 - 1) / 4 / 4 * 16 = 3
    texts = ["a b c d", "a b d c", "a b c c", "a b d d"]
    assert Phrases.learn(texts, [2.9], min_count=1, show_progress=False).passes == [{("a", "b"): 3.0}]
    assert Phrases.learn(texts, [3.0], min_count=1, show_progress=False).passes == [{}]
    # in the second pass of 12 words: "a_b c" 2 times, a_b 4, c 4 -> (2 - 1) / 4 / 4 * 12 = 0.75
    two = Phrases.learn(texts, [2.9, 0.7], min_count=1, show_progress=False)
    assert two.passes[1][("a_b", "c")] == pytest.approx(0.75)
    assert two.join("a b c a b") == "a_b_c a_b"


def test_a_joined_word_begins_no_other_pair():
    phrases = Phrases([{("a", "b"): 1.0, ("b", "c"): 1.0, ("c", "d"): 1.0}], delimiter="+")
    assert phrases.join("a b c d") == "a+b c+d"
    assert phrases.join("x b  c\td") == "x b+c d"
    assert phrases.join("") == ""
    texts = MappedTexts(["a b", "b c"], phrases.join)
    assert list(texts) == list(texts) == ["a+b", "b+c"]


def test_saved_and_loaded(tmp_path):
    phrases = Phrases([{("új", "york"): 2.5}, {("új+york", "times"): 1.0}], delimiter="+")
    phrases.save(tmp_path / "phrases.json")
    assert Phrases.load(tmp_path / "phrases.json") == phrases
    assert [path.name for path in tmp_path.iterdir()] == ["phrases.json"]
    for content in ("[]", "{", json.dumps({"delimiter": "_", "passes": [[["a", "b"]]]})):
        (tmp_path / "broken.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"broken\.json is not a file of phrases"):
            Phrases.load(tmp_path / "broken.json")


def test_few_counts_keep_the_frequent_pairs():
    texts = ["a b x"] * 50 + [f"r{i} s{i}" for i in range(500)]
    phrases = Phrases.learn(texts, [1.0], min_count=1, max_counts=40, show_progress=False)
    assert ("a", "b") in phrases.passes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": []}, r"thresholds is \[\]"),
        ({"thresholds": [10, 0]}, r"thresholds is \[10, 0\]"),
        ({"min_count": 0}, "min_count is 0"),
        ({"max_counts": 0}, "max_counts is 0"),
        ({"delimiter": " "}, "delimiter is ' '"),
        ({"texts": iter(["a b"])}, "read only once"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Phrases.learn(**{"texts": ["a b"], "show_progress": False} | arguments)
