"""The lab's page: it holds the views that the models can show, and opens offline, without errors."""

import json
import re
from pathlib import Path

import pytest

from hf_lineage.lab import Given, write_lab


CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
SHAPES = ((1400, "light"), (420, "dark"))


@pytest.fixture(scope="module")
def page(lab_models, lab_texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "lab.html"
    data = write_lab(path, list(lab_models.values()), Given(corpus=lab_texts))
    return path, data


def test_page_opens_offline(page):
    text = page[0].read_text(encoding="utf-8")
    assert len(text.encode()) <= 5_000_000
    assert not re.search(r"(src|href)=(?!\"#|\"data:)", text.replace('href="https', ""))
    print(len(text))
