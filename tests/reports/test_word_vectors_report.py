"""The report's section on word vectors: the map against scikit-learn's PCA, and what the tables say."""

import base64
import re

import numpy as np
import pytest

from hf_lineage.reports import known_groups, word_vectors_section, write_lineage_report
from hf_lineage.reports.word_vectors_report import analogy_rows, project, projection_plot
from hf_lineage.word_vectors import WordVectors


@pytest.fixture
def vectors():
    """king − man + woman of unit vectors has cosine 0.959 with queen; <b> must be escaped."""
    words = ["man", "woman", "king", "queen", "apple", "<b>"]
    return WordVectors(
        words, [[1, 0, 0, 0.1], [0, 1, 0, 0.1], [1, 0, 1, 0.1], [0, 1, 1, 0.1], [0, 0, 0, 1], [0, 0, -1, 0]]
    )


def test_map_is_the_principal_plane():
    decomposition = pytest.importorskip("sklearn.decomposition")
    points = np.random.default_rng(0).normal(size=(30, 6))
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    expected = decomposition.PCA(2).fit_transform(units)
    found = project(points)
    for axis in range(2):
        # the sign of an axis is free
        sign = np.sign(found[:, axis] @ expected[:, axis])
        np.testing.assert_allclose(sign * found[:, axis], expected[:, axis], atol=1e-8)


def test_map_of_too_little_is_flat():
    assert project(np.ones((2, 1))).tolist() == [[0, 0], [0, 0]]


def test_only_known_words_are_shown(vectors):
    groups = {"people": ["king", "queen", "prince"], "fruit": ["apple", "pear"]}
    assert known_groups(vectors, groups) == {"people": ["king", "queen"]}
    with pytest.raises(ValueError, match="no group"):
        projection_plot(vectors, {"fruit": ["apple", "pear"]})
    rows = analogy_rows(vectors, [("man", "king", "woman", "queen"), ("man", "king", "girl", "princess")], n=1)
    assert rows == [["man : king = woman : ?", "queen", "queen 0.96"]]


def test_section_is_part_of_an_offline_page(vectors, tmp_path):
    groups = {"royal & others": ["king", "queen", "<b>"], "people": ["man", "woman"]}
    section = word_vectors_section(vectors, groups, [("man", "king", "woman", "queen")])
    write_lineage_report(tmp_path / "report.html", "T", "S", [], [("Words <1>", section)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert section in page
    assert "Words &lt;1&gt;" in page
    assert "&lt;b&gt;" in page
    assert "<td>queen</td><td>queen 0.96" in page
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 1
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert not re.search(r"(src|href)=(?!\"data:|\"#)", page)


def test_no_empty_table_of_analogies(vectors):
    section = word_vectors_section(vectors, {"people": ["man", "woman"]}, [("man", "king", "woman", "unheard")])
    assert "nearest" in section
    assert "question" not in section
