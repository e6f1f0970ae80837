"""The pieces of the lineage run's page."""

import re

import torch

from hf_lineage.reports import AttentionMap, attention_section, words_in_context_section, write_lineage_report


def test_page_has_a_row_a_station_and_a_link_a_section(tmp_path):
    stations = [
        ("A & B (2003)", "words <have> vectors", 12.5, "perplexity 3.0"),
        ("C", "none", None, "failed: see log"),
    ]
    sections = [("What <it> knows", "<p>body</p>"), ("More", "<p>more</p>")]
    write_lineage_report(tmp_path / "report.html", "T", "S", stations, sections)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for cell in ("A &amp; B (2003)", "words &lt;have&gt; vectors", "12.50", "–", "failed: see log"):
        assert f"<td>{cell}</td>" in page
    targets = re.findall(r'href="#(\w+)"', page)
    assert len(targets) == 3
    assert all(f'id="{target}"' in page for target in targets)
    assert '<h2 id="section1">What &lt;it&gt; knows</h2>\n<p>body</p>' in page
    assert page.index("<p>body</p>") < page.index("<p>more</p>")


def test_words_in_context_are_rows_of_equal_length():
    sentences = {"Python": ("Bit by <Python>.", "Python is nice.")}
    html = words_in_context_section(sentences, {"Python": {"W": [1.0], "E": [1.0, 0.25, 0.5], "B": None}})
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert cells == [
        ["word", "model", "layer 0", "layer 1", "layer 2"],
        ["Python", "W", "1.000", "–", "–"],
        ["Python", "E", "1.000", "0.250", "0.500"],
        ["Python", "B", "–", "–", "–"],
    ]
    assert "Bit by &lt;Python&gt;." in html


def test_two_attention_pictures_share_a_page():
    one = attention_section(AttentionMap("Self-attention", ["a"], ["a"], [torch.ones(2, 1, 1)]))
    # no ids, which would have to be different, and names of a script's own block
    assert not re.search(r"\bid=", one)
    assert re.search(r"<script>\s*\{", one)
    assert re.search(r"\}\s*</script>", one)
