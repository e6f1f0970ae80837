"""The lab's page: one HTML file that opens without a server and asks none for anything."""

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from hf_lineage.files import json_text, write_text
from hf_lineage.lab import (
    alignments,
    gates,
    gradients,
    heads,
    judged_sentences,
    masked_words,
    neighbours,
    next_sentences,
    next_words,
    senses,
    training_curves,
    word_order,
)
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View


VIEWS: list[View] = [
    training_curves.VIEW,
    next_words.VIEW,
    gates.VIEW,
    gradients.VIEW,
    alignments.VIEW,
    heads.VIEW,
    senses.VIEW,
    masked_words.VIEW,
    next_sentences.VIEW,
    word_order.VIEW,
    neighbours.VIEW,
    judged_sentences.VIEW,
]
MOST_BYTES = 5_000_000


def lab_data(models: Sequence[LabModel], given: Given | None = None) -> dict:
    """The numbers of all views that the models can show: {"models", "views", "absent"}.

    Each view takes those of the given texts that a model knows before its own examples.
    """
    given = given or Given()
    views, absent = [], []
    for view in VIEWS:
        data = view.compute(models, given)
        about = {"key": view.key, "short": view.short, "title": view.title, "see": view.see, "source": view.source}
        if data is not None:
            views.append(about | {"data": data})
        elif view is not training_curves.VIEW:
            absent.append(about)
    return {"models": [model.card() for model in models], "views": views, "absent": absent}


def page_of(data: dict, title: str = "The lineage lab", note: str = "") -> str:
    """The page as HTML; `data` comes from `lab_data`, `note` is a sentence below the title.

    Raises:
        ValueError: the page would have more than 5 MB.
    """
    folder = resources.files("hf_lineage.lab") / "page"
    shown = [view["key"] for view in data["views"]]
    scripts = [folder / "core.js", folder / "charts.js", *(folder / "views" / f"{key}.js" for key in shown)]
    page = (folder / "lab.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(title),
        "note": escape(note),
        "style": (folder / "lab.css").read_text(encoding="utf-8"),
        # the "<" of a token such as </script> would end the script
        "data": json_text(data).replace("<", "\\u003c"),
        "scripts": "\n".join(script.read_text(encoding="utf-8") for script in scripts),
    }
    page = re.sub(r"<!-- (\w+) -->", lambda match: parts[match[1]], page)
    size = len(page.encode())
    if size > MOST_BYTES:
        raise ValueError(f"the page would have {size:,} bytes, more than {MOST_BYTES:,}: name fewer models")
    return page


def write_lab(path: str | Path, models: Sequence[LabModel], given: Given | None = None, **options) -> dict:
    """Writes the page of `models` (`open_models`) in one piece, and returns its data; options as in `page_of`.

    Raises:
        ValueError: no view can be shown for these models, or the page would have more than 5 MB.
    """
    data = lab_data(models, given)
    if not data["views"]:
        names = ", ".join(f"{model.folder} ({type(model.model).__name__})" for model in models)
        raise ValueError(f"no view can be shown for {names}: name language models, or give --text that they know")
    write_text(path, page_of(data, **options))
    return data
