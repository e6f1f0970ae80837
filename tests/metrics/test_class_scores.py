"""Scores of classifiers, by hand."""

import numpy as np
import pytest

from hf_lineage.metrics import score_classification


def test_two_classes():
    logits = np.array([[1, 0], [0, 1], [0, 1], [3, 2], [0, 5]], dtype=float)
    scores = score_classification(logits, np.array([0, 1, 0, 1, 1]))
    assert scores["accuracy"] == 3 / 5
    # two of three found, two of three right
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["matthews_correlation"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))


def test_many_classes_and_numbers():
    scores = score_classification(np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 1]))
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    scores = score_classification(np.array([[1.0], [2.0], [9.0]]), np.array([1.0, 3.0, 4.0]))
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] == pytest.approx(np.corrcoef([1, 2, 9], [1, 3, 4])[0, 1])


def test_several_classes_per_row():
    scores = np.array([[2.0, -1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, 1.0, -2.0]])
    labels = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    found = score_classification(scores, labels)
    assert found["accuracy"] == pytest.approx(2 / 3)
    # 3 of 4 found are right, and 3 of the 4 true ones are found
    assert found["micro_f1"] == pytest.approx(3 / 4)
    assert found["macro_f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)


@pytest.mark.parametrize("labels", [[1.0], [2.0, 2.0]])
def test_numbers_that_do_not_correlate(labels):
    found = score_classification(np.arange(len(labels))[:, None], np.array(labels))
    assert np.isnan([found["pearson"], found["spearman"]]).all()
