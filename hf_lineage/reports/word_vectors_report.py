"""A report section on word vectors: a map of groups of words, their neighbours, and analogies."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hf_lineage.reports.pages import html_figure, html_table, png
from hf_lineage.word_vectors import WordVectors


def project(vectors: np.ndarray) -> np.ndarray:
    """vectors [n, D] -> the two principal components of their directions [n, 2]."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centred = units - units.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(vectors), 2))
    # fewer than three words, or one dimension, span no plane
    found = centred @ axes[:2].T
    plane[:, : found.shape[1]] = found
    return plane


def known_groups(vectors: WordVectors, groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The words of each group that have a vector; groups with fewer than two such words are left out."""
    known = {name: [word for word in words if word in vectors] for name, words in groups.items()}
    return {name: words for name, words in known.items() if len(words) > 1}


def projection_plot(vectors: WordVectors, groups: Mapping[str, Sequence[str]]) -> bytes:
    """PNG of words in the plane of their two principal components, one colour per group.

    Raises:
        ValueError: no group has two words with a vector.
    """
    groups = known_groups(vectors, groups)
    if not groups:
        raise ValueError("no group has two words that have a vector: give groups of words of the vocabulary")
    words = [word for group in groups.values() for word in group]
    positions = dict(zip(words, project(vectors.vectors[vectors.ids(*words)]), strict=True))
    figure = Figure(figsize=(9, 6.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, group in groups.items():
        x, y = np.array([positions[word] for word in group]).T
        points = axes.scatter(x, y, s=18, label=name)
        for word in group:
            axes.annotate(word, positions[word], (3, 2), textcoords="offset points", fontsize=8, alpha=0.85)
        points.set_alpha(0.9)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    axes.grid(alpha=0.3)
    axes.legend()
    return png(figure)


def analogy_rows(vectors: WordVectors, questions: Sequence[tuple[str, str, str, str]], n: int = 3) -> list[list[str]]:
    """One row per question (a, b, c, expected) whose words all have a vector: question, expected, n best answers."""
    rows = []
    for a, b, c, expected in questions:
        if all(word in vectors for word in (a, b, c, expected)):
            best = ", ".join(f"{word} {score:.2f}" for word, score in vectors.analogy(a, b, c, n))
            rows.append([f"{a} : {b} = {c} : ?", expected, best])
    return rows


def word_vectors_section(
    vectors: WordVectors,
    groups: Mapping[str, Sequence[str]],
    questions: Sequence[tuple[str, str, str, str]],
) -> str:
    """HTML for a section of `write_lineage_report`: the map of `groups`, nearest words, and a table of analogies.

    Analogies with an unknown word are left out; without any analogy, so is the table.
    """
    firsts = [words[0] for words in known_groups(vectors, groups).values()]
    neighbours = [[word, ", ".join(other for other, _ in vectors.nearest(word, 8))] for word in firsts]
    answers = analogy_rows(vectors, questions)
    return (
        html_figure(
            projection_plot(vectors, groups),
            "map of words",
            "Words in the plane of the two principal components of their vectors.",
        )
        + html_table(["word", "nearest"], neighbours)
        + (html_table(["question", "expected", "best answers, with cosine"], answers) if answers else "")
    )
