"""A table of scores in text, in which a score below a floor says so."""

from collections.abc import Mapping


def misses_floor(name: str, score: float, floor: float) -> bool:
    """Whether a score is worse than its floor: lower, or higher if it is a loss."""
    return score > floor if name == "loss" else score < floor


def side_of_floor(name: str) -> str:
    """Where a score that misses its floor lies."""
    return "above" if name == "loss" else "below"


def score_table(model: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]) -> str:
    """One row for the model and one per floor; columns are the scores that a floor has too.

    Floors are what needs no pretrained model, such as the most frequent class. Below the table stands each score of
    the model that does not reach one of them.
    """
    names = [name for name in model if any(name in scores for scores in floors.values())] or list(model)
    rows = {"model": model, **floors}
    width = max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{name:>{max(9, len(name))}}" for name in names)])]
    for title, scores in rows.items():
        cells = (f"{scores[name]:.4f}" if name in scores else "-" for name in names)
        lines.append(
            " ".join([f"{title:<{width}}", *(f"{c:>{max(9, len(n))}}" for c, n in zip(cells, names, strict=True))])
        )
    lines += [
        f"{name} {model[name]:.4f} is {side_of_floor(name)} its floor: {title} has {scores[name]:.4f}"
        for title, scores in floors.items()
        for name in names
        if name in scores and misses_floor(name, model[name], scores[name])
    ]
    return "\n".join(lines)
