"""Floors beside classifiers: the most frequent class, and words alone; a table that names scores below them."""

import random

import numpy as np
import pytest

from hf_lineage.data import ChoiceQuestion
from hf_lineage.metrics import choice_floors, classification_floors, majority_tags, score_table


def texts(number, words=("good", "bad", "dull"), blank=" "):
    """The class is one of the words, which stands among others."""
    draw, rows = random.Random(0), []
    for _ in range(number):
        label = draw.choice([0, 0, 1, 2])
        rows.append((blank.join([draw.choice("xyz"), words[label], draw.choice("xyz")]), label))
    return [[text for text, _ in rows]], [label for _, label in rows]


# a word is a character where there are no blanks
@pytest.mark.parametrize("options", [{}, {"words": "好坏闷", "blank": "的"}], ids=["words", "characters"])
def test_words_alone_tell_the_class(options):
    train, test = texts(80, **options), texts(40, **options)
    floors = classification_floors(*train, *test, "single_label_classification")
    assert floors["TF-IDF"]["accuracy"] == 1
    assert floors["majority"]["accuracy"] == test[1].count(0) / 40


def test_a_class_may_be_missing_in_training():
    (train,), labels = texts(80)
    kept = [n for n, label in enumerate(labels) if label != 1]
    floors = classification_floors(
        [[train[n] for n in kept]], [labels[n] for n in kept], [train], labels, "single_label_classification"
    )
    assert floors["TF-IDF"]["accuracy"] == pytest.approx(1 - labels.count(1) / 80)


def test_without_classes_or_words_there_is_no_tf_idf():
    train, test = texts(80), texts(40)
    for given in (([train[0], [0] * 80]), ([[" "] * 80], train[1])):
        floors = classification_floors(*given, *test, "single_label_classification")
        assert floors == {"majority": {**floors["majority"], "accuracy": test[1].count(0) / 40}}
    # of a pair, the column with words tells the class
    pairs = [[*train[0], [" "] * 80], [*test[0], [" "] * 40]]
    floors = classification_floors(pairs[0], train[1], pairs[1], test[1], "single_label_classification")
    assert floors["TF-IDF"]["accuracy"] == 1
    assert classification_floors([[" "] * 2], [0.0, 1.0], [["a"]], [0.5], "regression") == {}
    bits = [[float(label == 0), 1.0] for label in train[1]]
    floors = classification_floors([[" "] * 80], bits, train[0], bits, "multi_label_classification")
    assert floors.keys() == {"majority"}


def test_floors_of_pairs_and_of_several_labels():
    (first,), labels = texts(80)
    bits = [[float(label == n) for n in range(3)] for label in labels]
    # each column has its own words
    floors = classification_floors([["x"] * 80, first], bits, [["x"] * 80, first], bits, "multi_label_classification")
    assert floors["TF-IDF"]["micro_f1"] == 1
    counts = np.mean(bits, axis=0)
    assert floors["majority"]["accuracy"] == (labels.count(0) / 80 if counts[0] > 0.5 else 0)


def test_numbers_have_one_floor():
    train, labels = texts(80)
    floors = classification_floors(train, [float(n) for n in labels], train, [float(n) for n in labels], "regression")
    assert floors.keys() == {"TF-IDF"}
    assert floors["TF-IDF"]["pearson"] > 0.9


def test_equally_frequent_tags_are_taken_by_name():
    overall, by_word = majority_tags([["a", "b"], ["a", "b"]], [["Y", "Z"], ["X", "Z"]])
    assert (overall, by_word) == ("Z", {"a": "X", "b": "Z"})


def test_scores_below_a_floor_are_named():
    table = score_table(
        {"loss": 1.0, "accuracy": 0.5, "f1": 0.7},
        {"majority": {"accuracy": 0.6, "f1": 0.1}, "TF-IDF": {"accuracy": 0.5, "f1": 0.8}},
    )
    head, *rows = table.splitlines()
    assert head.split() == ["accuracy", "f1"]
    assert [row.split()[0] for row in rows[:3]] == ["model", "majority", "TF-IDF"]
    below = [line for line in rows if "below its floor" in line]
    assert [("accuracy 0.5000" in line, "majority" in line) for line in below] == [(True, True), (False, False)]
    assert [("f1 0.7000" in line, "TF-IDF" in line) for line in below] == [(False, False), (True, True)]


def test_a_loss_misses_its_floor_when_it_is_higher():
    def said(loss):
        table = score_table({"loss": loss, "f1": 0.5}, {"random weights": {"loss": 0.9, "f1": 0.5}})
        return [line for line in table.splitlines() if "its floor" in line]

    assert said(0.8) == said(0.9) == []
    assert said(1.1) == ["loss 1.1000 is above its floor: random weights has 0.9000"]


def choice_questions(number, seed):
    """The right choice shares a word with the text; its number tells nothing."""
    draw, questions = random.Random(seed), []
    for _ in range(number):
        label, word = draw.randrange(3), draw.choice(["river", "tower", "garden", "market"])
        others = [other for other in ("river", "tower", "garden", "market") if other != word]
        choices = [f"the {draw.choice(others)} again" for _ in range(3)]
        choices[label] = f"the {word} again"
        questions.append(ChoiceQuestion(f"the quiet {word}", tuple(choices), label))
    return questions


def test_words_that_choices_share_with_the_text_count():
    train, test = choice_questions(60, 0), choice_questions(40, 1)
    floors = choice_floors(train, test)
    assert floors["TF-IDF"]["accuracy"] == 1
    assert floors["chance"]["accuracy"] == pytest.approx(1 / 3)
    frequent = max(range(3), key=[question.label for question in train].count)
    assert floors["majority"]["accuracy"] == sum(question.label == frequent for question in test) / 40
