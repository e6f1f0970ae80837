"""The first view of a page that follows a training run: what each station cost, how its loss fell, what it writes."""

from collections.abc import Sequence

from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """`given.training`: stations, tables, curves and samples (see `Given`)."""
    return given.training


VIEW = View(
    "training",
    "Training",
    "What was trained, and how well",
    "One row per station with its new idea, in the order of history, and the loss of the models that write as they "
    "read more tokens. All numbers are of this run, on text that no model has seen.",
    "each station's own, linked in the table of models",
    compute,
)
