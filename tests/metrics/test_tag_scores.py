"""Scores of taggers: words one by one, entities whole."""

import pytest

from hf_lineage.metrics import score_tags


def test_entities_are_scored_whole():
    gold = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-PER"]]
    found = [["B-PER", "O", "O", "B-PER"], ["O", "B-PER"]]
    # three entities; of the three found one ends too early
    expected = {"accuracy": 5 / 6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    assert score_tags(gold, found) == pytest.approx(expected)


def test_other_tags_have_no_entities():
    assert score_tags([["NOUN", "VERB"]], [["NOUN", "NOUN"]]) == {"accuracy": 0.5}
