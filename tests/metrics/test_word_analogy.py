"""Analogies against gensim's evaluation, on the published questions and vectors that answer some of them."""

import gzip
import math
from itertools import chain

import numpy as np
import pytest

import hf_lineage.word_vectors.analogy as module
from hf_lineage.converters import to_gensim
from hf_lineage.metrics import WordAnalogy, answer_analogies, load_analogies, measure_word_analogy
from hf_lineage.metrics.word_analogy import Analogy
from hf_lineage.word_vectors import Spellings, WordPair, WordVectors, pair_similarities


QUESTIONS = """: capitals
Athens Greece Oslo Norway
Oslo Norway athens greece
: plural
cat cats dog dogs
cat cats mouse mice
"""


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(QUESTIONS, encoding="utf-8")
    return path


@pytest.fixture
def vectors():
    """Answers to three of the four questions; `mice` is unknown."""
    words = ["Athens", "Greece", "Oslo", "Norway", "athens", "cat", "cats", "dog", "dogs", "mouse"]
    array = [[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0.1, 0], [-1, 0, 0], [-1, 0, -1], [0, -1, 0], [0, -1, -1]]
    return WordVectors(words, [*array, [1, 1, -1]])


def vectors_of(words, seed=0, spread=0.8):
    """Vectors in which the second of two neighbouring words is the first, moved by about the same everywhere."""
    rng = np.random.default_rng(seed)
    array = rng.normal(size=(len(words), 20)).astype(np.float32)
    array[1::2] = array[:-1:2][: len(array[1::2])] + 1.5 + spread * array[1::2]
    return WordVectors(words, array)


def of_gensim(vectors, path, **options):
    models = pytest.importorskip("gensim.models")
    keyed = models.KeyedVectors(vectors.vectors.shape[1])
    keyed.add_vectors(vectors.words, vectors.vectors)
    return keyed.evaluate_word_analogies(str(path), **options)


def assert_same_as_gensim(vectors, path, **options):
    accuracy, sections = of_gensim(vectors, path, **options)
    result = measure_word_analogy(vectors, load_analogies(path), **options)
    assert result["correct"] == len(sections[-1]["correct"])
    assert result["total"] == len(sections[-1]["correct"]) + len(sections[-1]["incorrect"])
    assert result["accuracy"] == pytest.approx(accuracy)
    found = {name: (counts["correct"], counts["total"]) for name, counts in result["sections"].items()}
    assert found == {s["section"]: (len(s["correct"]), len(s["correct"]) + len(s["incorrect"])) for s in sections[:-1]}
    return result


def thinned(source, target, step):
    lines = source.read_text(encoding="utf-8").splitlines()
    kept = [line for i, line in enumerate(lines) if line.startswith(":") or i % step == 0]
    target.write_text("\n".join(kept), encoding="utf-8")
    return target


@pytest.mark.parametrize("case_insensitive", [True, False])
@pytest.mark.parametrize("dummy4unknown", [True, False])
def test_english_questions_as_gensim_counts_them(shared_data, tmp_path, case_insensitive, dummy4unknown):
    path = thinned(shared_data / "words_analogy_en" / "questions-words.txt", tmp_path / "en.txt", 20)
    words = list(dict.fromkeys(chain.from_iterable(q[1:] for q in load_analogies(path))))
    # some pairs are unknown, others are spelled otherwise; of two spellings gensim takes the first, not the very word
    words = [word for i, word in enumerate(words) if i % 50 > 1]
    words = list(dict.fromkeys([*map(str.upper, words[:60]), *words[60:]]))
    if not case_insensitive:
        words = list(dict.fromkeys([*words, *map(str.upper, words[100:200])]))
    options = {"case_insensitive": case_insensitive, "dummy4unknown": dummy4unknown}
    for limit in (300_000, 400):
        result = assert_same_as_gensim(vectors_of(words), path, restrict_vocab=limit, **options)
        assert result["out_of_vocabulary"] > 10
        assert 10 < result["correct"] < result["total"] - 10


@pytest.mark.parametrize("name", ["ca8_semantic.txt", "ca_translated.txt"])
def test_chinese_questions_as_gensim_counts_them(shared_data, tmp_path, name):
    path = thinned(shared_data / "words_analogy_zh" / name, tmp_path / name, 10)
    words = list(dict.fromkeys(chain.from_iterable(q[1:] for q in load_analogies(path))))
    result = assert_same_as_gensim(vectors_of(words[:-20]), path)
    assert result["correct"] > 5


def test_multiplied_cosines_as_gensim_multiplies_them():
    pytest.importorskip("gensim")
    vectors = vectors_of([f"w{i}" for i in range(90)])
    keyed = to_gensim(vectors)
    rng = np.random.default_rng(1)
    analogies = [Analogy("", *(vectors.words[i] for i in rng.permutation(90)[:4])) for _ in range(50)]
    expected = [keyed.most_similar_cosmul([q.b, q.c], [q.a], topn=1)[0][0] for q in analogies]
    assert answer_analogies(vectors, analogies, method="3CosMul") == expected


@pytest.mark.parametrize("method", ["3CosAdd", "3CosMul"])
def test_blocks_change_nothing(monkeypatch, method):
    vectors = vectors_of([f"w{i}" for i in range(200)])
    rng = np.random.default_rng(2)
    analogies = [Analogy("", *(vectors.words[i] for i in rng.permutation(200)[:4])) for _ in range(70)]
    expected = answer_analogies(vectors, analogies, method=method)
    assert expected == [vectors.analogy(q.a, q.b, q.c, 1, method)[0][0] for q in analogies]
    monkeypatch.setattr(module, "COSINES_PER_BLOCK", 1_500)
    monkeypatch.setattr(module, "SCORES_PER_BLOCK", 100)
    assert answer_analogies(vectors, analogies, method=method) == expected


def test_counts_by_hand(vectors, questions):
    analogies = load_analogies(questions)
    # Athens and athens are one word, so that its other spelling is no answer either
    assert answer_analogies(vectors, analogies) == ["Norway", "Greece", "dogs", ""]
    assert answer_analogies(vectors, analogies, case_insensitive=False) == ["Norway", "", "dogs", ""]
    result = measure_word_analogy(vectors, analogies)
    capitals = {"accuracy": 1.0, "correct": 2, "total": 2, "out_of_vocabulary": 0}
    plural = {"accuracy": 1.0, "correct": 1, "total": 1, "out_of_vocabulary": 1}
    total = {"accuracy": 1.0, "correct": 3, "total": 3, "out_of_vocabulary": 1}
    assert result == total | {"sections": {"capitals": capitals, "plural": plural}}
    assert measure_word_analogy(vectors, analogies, dummy4unknown=True)["accuracy"] == 0.75


@pytest.mark.parametrize(
    ("words", "looked_up", "found"),
    [
        # different words, which gensim's upper case takes for one
        (["Masse", "Maße"], "Maße", "Maße"),
        (["Masse", "Maße"], "maße", "Maße"),
        (["Masse", "Maße"], "MASSE", "Masse"),
        (["ilik", "ılık"], "ılık", "ılık"),
        (["ilik", "ılık"], "Ilik", "ilik"),
        # the very word comes before a more frequent one of another case
        (["Polish", "polish"], "polish", "polish"),
        (["Polish", "polish"], "POLISH", "Polish"),
        # found where nothing nearer is there
        (["Straße"], "STRASSE", "Straße"),
        (["ısı"], "ISI", "ısı"),
        (["istanbul"], "İstanbul", "istanbul"),
        (["İSTANBUL"], "istanbul", "İSTANBUL"),
        (["ΟΔΌΣ"], "οδός", "ΟΔΌΣ"),
        (["Masse"], "Maß", None),
    ],
)
def test_words_are_found_in_any_case_and_not_taken_for_others(words, looked_up, found):
    spellings = Spellings(words, case_insensitive=True)
    assert spellings.find(looked_up) == (None if found is None else words.index(found))
    exact = Spellings(words, case_insensitive=False).find(looked_up)
    assert exact == (words.index(looked_up) if looked_up in words else None)


def test_ss_and_dotted_i_are_answers_beside_their_doubles(tmp_path):
    # a : b as Maß : Maße, with Masse the nearest but for Maße, the answer; upper case merges both with MASSE
    words = ["a", "b", "Masse", "Maße", "ilik", "ılık"]
    vectors = WordVectors(words, [[1, 0, 0], [0, 1, 0], [0, 0.2, 1], [0, 1, 1], [0, 0, 1], [0, 0.9, 1]])
    questions = [Analogy("s", "a", "b", "Masse", "Maße"), Analogy("s", "a", "b", "ilik", "ılık")]
    assert answer_analogies(vectors, questions[:1]) == ["Maße"]
    assert WordAnalogy().compute(predictions=["Masse", "ilik"], references=["Maße", "ılık"])["correct"] == 0
    pairs = pair_similarities(vectors, [WordPair("Maße", "Masse", 1), WordPair("ılık", "ilik", 1)])
    assert pairs == [
        pytest.approx(vectors.similarity("Maße", "Masse")),
        pytest.approx(vectors.similarity("ılık", "ilik")),
    ]
    path = tmp_path / "questions.txt"
    path.write_text(": s\na b Masse Maße\n", encoding="utf-8")
    assert measure_word_analogy(vectors, load_analogies(path))["correct"] == 1
    # gensim takes the answer for a word of the question
    assert of_gensim(vectors, path)[1][-1]["correct"] == []


def test_metric_of_evaluate_gives_the_same(vectors, questions):
    analogies = load_analogies(questions)
    answers, sections = answer_analogies(vectors, analogies), [q.section for q in analogies]
    metric = WordAnalogy()
    for options in ({}, {"dummy4unknown": True}):
        for answer, question in zip(answers, analogies, strict=True):
            metric.add(prediction=answer, reference=question.answer)
        expected = measure_word_analogy(vectors, analogies, **options)
        assert metric.compute(sections=sections, **options) == expected
    result = WordAnalogy().compute(predictions=["cats", "NORWAY"], references=["cat", "Norway"])
    assert result["accuracy"] == 0.5
    with pytest.raises(ValueError, match="sections has 1 names for 2 questions"):
        metric.compute(predictions=["a", "b"], references=["a", "b"], sections=["s"])


def test_nothing_known_has_no_accuracy(questions):
    result = measure_word_analogy(WordVectors(["x"], [[1.0]]), load_analogies(questions))
    assert math.isnan(result["accuracy"])
    assert result["out_of_vocabulary"] == 4


def test_a_mark_before_the_first_word_is_dropped(tmp_path, questions):
    marked = tmp_path / "marked.txt"
    marked.write_bytes("\ufeff".encode() + questions.read_bytes().replace(b"\n", b"\r\n"))
    assert load_analogies(marked) == load_analogies(questions)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(marked.read_bytes()))
    assert load_analogies(tmp_path / "packed.txt.gz") == load_analogies(questions)
    marked.write_bytes(b"a b c d\na b c \xff\n")
    with pytest.raises(ValueError, match="marked.txt, line 2, byte 14"):
        load_analogies(marked)


@pytest.mark.parametrize(
    ("content", "message"),
    [(": s\na b c\n", "line 2: 'a b c' has 3 words"), ("a b c d e\n", "line 1"), (": s\n\n", "no question")],
)
def test_broken_questions_are_named(tmp_path, content, message):
    path = tmp_path / "questions.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"questions.txt.*{message}"):
        load_analogies(path)


def test_bad_arguments_are_named(vectors, questions):
    with pytest.raises(ValueError, match="method is 'cos'"):
        measure_word_analogy(vectors, load_analogies(questions), method="cos")
    with pytest.raises(ValueError, match="restrict_vocab is 0"):
        measure_word_analogy(vectors, load_analogies(questions), restrict_vocab=0)
