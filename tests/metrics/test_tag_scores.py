"""Scores of taggers: words one by one, entities whole."""

import random

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import BILOU, IOB2, IOBES

from hf_lineage.metrics import score_tags


def test_entities_are_scored_whole():
    gold = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-PER"]]
    found = [["B-PER", "O", "O", "B-PER"], ["O", "B-PER"]]
    # three entities; of the three found one ends too early
    expected = {"accuracy": 5 / 6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    assert score_tags(gold, found) == pytest.approx(expected)


# first, inner and last word of an entity, one of a single word; how seqeval calls these, and its scheme
SCHEMES = {
    "IOB2": ("BIIB", "BIIB", IOB2),
    "IOBES": ("BIES", "BIES", IOBES),
    "BMES": ("BMES", "BIES", IOBES),
    "BILOU": ("BILU", "BILU", BILOU),
}


def in_scheme(spans, marks, length=12):
    tags = ["O"] * length
    for start, end, kind in spans:
        inner = [marks[1]] * (end - start - 2)
        tags[start:end] = [
            f"{mark}-{kind}" for mark in ([marks[3]] if end - start == 1 else [marks[0], *inner, marks[2]])
        ]
    return tags


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_has_entities(scheme):
    """The scores are those that seqeval gives the same entities in its strict mode for the scheme."""
    draw, texts = random.Random(0), []
    for _ in range(40):
        # right, of another length or kind, and neighbours
        gold = [(0, draw.choice([1, 2, 3]), "PER"), (3, 4, "LOC"), (4, draw.choice([6, 8]), "PER"), (9, 12, "LOC")]
        found = [(a, b - (b - a > 1 and draw.random() < 0.3), draw.choice([kind, kind, "PER"])) for a, b, kind in gold]
        texts.append((gold, found))
    marks, of_seqeval, name = SCHEMES[scheme]
    ours, theirs = (
        [[in_scheme(spans, each) for spans in of_split] for of_split in zip(*texts, strict=True)]
        for each in (marks, of_seqeval)
    )
    scores = score_tags(*ours)
    for title, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert scores[title] == pytest.approx(function(*theirs, mode="strict", scheme=name))
    assert 0.2 < scores["f1"] < 0.9
    assert scores["accuracy"] == score_tags(*theirs)["accuracy"]


def test_other_tags_have_no_entities():
    assert score_tags([["NOUN", "VERB"]], [["NOUN", "NOUN"]]) == {"accuracy": 0.5}
