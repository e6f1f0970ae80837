"""Scores of candidate answers to a word analogy, for arrays and tensors.

The file is sent to the Hub with the pipeline that uses it, so it needs nothing from this package.
"""

ANALOGY_METHODS = ("3CosAdd", "3CosMul")


def analogy_scores(a, b, c, method: str):
    """Cosines of candidates with a, b and c -> scores of the candidates as d in "a is to b as c is to d".

    Cosines and scores are arrays or tensors.

    3CosAdd: cos b − cos a + cos c. 3CosMul: cos b · cos c / (cos a + 1e-6), each cosine first moved to [0, 1]
    (Levy and Goldberg, 2014, eq. 4 and its footnote).

    Raises:
        ValueError: the method is unknown.
    """
    if method not in ANALOGY_METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(ANALOGY_METHODS)}")
    if method == "3CosAdd":
        return b - a + c
    return (1 + b) / 2 * (1 + c) / 2 / ((1 + a) / 2 + 1e-6)
