"""The synthetic grammar: pure, split without overlap, translated word by word as its links say."""

import functools
import re

import pytest

from hf_lineage.data import TranslationGrammar, grammar_corpus
from hf_lineage.data.translation_grammar import PRONOUNS, rule, word


@functools.cache
def pairs(split="train", count=400, seed=0):
    grammar = TranslationGrammar(split, seed)
    return [grammar.pair(index) for index in range(count)]


def test_a_pair_is_a_function_of_seed_and_index():
    first = pairs()
    assert first == pairs.__wrapped__()
    assert TranslationGrammar("train", 0).pair(399) == first[399]
    other = pairs(seed=1)
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 10
    assert len({pair.source for pair in first}) > 350


def test_no_sentence_is_in_two_splits():
    sentences = [{pair.source for pair in pairs(split)} for split in ("train", "validation", "test")]
    assert not sentences[0] & sentences[1]
    assert not sentences[0] & sentences[2]
    assert not sentences[1] & sentences[2]
    with pytest.raises(ValueError, match="'dev'.*train, validation, test"):
        TranslationGrammar("dev")


def test_a_rule_reorders_and_links():
    pair = rule(
        "{who} 在/1 {place} 看见/2 了/2? {what}",
        "{who} saw/2 {what} in/1 {place}",
        who=word("我", "I"),
        place=word("公园", "the park"),
        what=word("猫", "a cat"),
    )
    assert pair.source == ("我", "在", "公园", "看见", "了", "猫")
    assert pair.target == ("I", "saw", "a", "cat", "in", "the", "park")
    assert pair.alignment == "0-0 1-4 2?5 2-6 3-1 4?1 5?2 5-3"


def test_every_target_word_comes_from_somewhere():
    for pair in pairs():
        assert {j for _, j in pair.possible} == set(range(len(pair.target)))
        assert pair.sure <= pair.possible
        assert {i for i, _ in pair.possible} <= set(range(len(pair.source)))


def test_links_hold_word_for_word():
    """A source word that is linked surely always means one of few words, whatever sentence it stands in."""
    meanings = {}
    for pair in pairs(count=2_000):
        for i, j in pair.sure:
            meanings.setdefault(pair.source[i], set()).add(pair.target[j])
    assert meanings["公园"] == {"park"}
    assert meanings["100万"] == {"1", "million"}
    assert meanings["欠"] == {"owe", "owes"}
    assert meanings["昨天"] == {"yesterday"}
    assert meanings["会"] == {"will"}
    for chinese, subject, object_, possessive, _, _ in PRONOUNS:
        assert meanings[chinese] == {subject, object_, possessive}
    assert max(map(len, meanings.values())) <= 4


def test_who_owes_whom_is_said_by_the_order_alone():
    owing = [pair for pair in pairs(count=2_000) if pair.source[1] == "欠"]
    assert len(owing) > 100
    names = {chinese: subject for chinese, subject, *_ in PRONOUNS}
    for pair in owing:
        if pair.source[0] in names:
            assert pair.target[0] == names[pair.source[0]]


def test_english_agrees():
    text = "\n".join(" ".join(pair.target) for pair in pairs(count=2_000))
    assert re.search(r"^(he|she|Ming) owes ", text, re.MULTILINE)
    assert not re.search(r"^(he|she|Ming|Hong|David|Mary|John) (owe|buy|like) ", text, re.MULTILINE)
    assert not re.search(r"^(I|you|we|they) (owes|buys|likes|does) ", text, re.MULTILINE)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\b(two|three|these|those) \w*(book|cat|ticket)\b", text)


def test_rows():
    corpus = grammar_corpus("test", 5)
    assert corpus.column_names == ["source", "target", "alignment"]
    pair = TranslationGrammar("test").pair(3)
    assert corpus[3] == {
        "source": " ".join(pair.source),
        "target": " ".join(pair.target),
        "alignment": pair.alignment,
    }
