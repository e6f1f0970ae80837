"""A table of scores in text, in which a score below a floor says so."""

from collections.abc import Mapping


def score_table(model: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]) -> str:
    """One row for the model and one per floor; columns are the scores that a floor has too, higher being better.

    Floors are what needs no model, such as the most frequent class. Below the table stands each score of the model
    that does not reach one of them.
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
        f"{name} {model[name]:.4f} is below its floor: {title} has {scores[name]:.4f}"
        for title, scores in floors.items()
        for name in names
        if name in scores and model[name] < scores[name]
    ]
    return "\n".join(lines)
