"""The lab's page: it has the views that its models can show, opens offline, and draws without an error."""

import ast
import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import hf_lineage
from hf_lineage import LSTMConfig, LSTMForCausalLM
from hf_lineage.__main__ import main
from hf_lineage.lab import Given, gates, open_models, write_lab
from hf_lineage.lab.page import VIEWS, page_of
from hf_lineage.tokenization import train_word_level


TRAINING = {
    "stations": [
        ("Long short-term memory", "a cell", 12, "perplexity 9.0"),
        ("GPT", "attention", None, "failed: see log"),
    ],
    "tables": [{"title": "Scores", "note": "", "columns": ["model", "BLEU"], "rows": [["A", 1.5], ["B", None]]}],
    "curves": [{"name": "LSTM", "train": [(1_000, 5.0), (20_000, 3.0)]}],
    "samples": [{"name": "LSTM", "texts": [("The first", " <b>one</b>")]}],
}
RECALL = {"RNN": {"10": 0.2, "400": 0.12}, "LSTM": {"10": 1.0, "400": 0.99}, "GRU": {"10": 1.0, "400": 1.0}}


@pytest.fixture(scope="module")
def page(lab_models, lab_texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "lab.html"
    given = Given(corpus=lab_texts, training=TRAINING, recall=RECALL)
    data = write_lab(path, list(lab_models.values()), given, note="Eleven models.")
    return path, data


def open_page(browser, path, width, scheme):
    """The page, and what went wrong: messages of the console, errors, and requests to anything but the file."""
    tab, faults = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    tab.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else faults.append(request.url)
    )
    tab.goto(path.as_uri())
    return tab, faults


def test_page_loads_nothing_and_is_small(page):
    text = page[0].read_text(encoding="utf-8")
    assert len(text.encode()) <= 5_000_000
    # addresses of papers are links to click, and stand only in the data
    page_without_data = re.sub(r'(?s)<script type="application/json" id="data">.*?</script>', "", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page_without_data)
    assert not re.search(r"<(img|iframe|link(?! rel=\"icon\" href=\"data:,\")|script src)|@import|url\(|fetch\(", text)


def test_page_has_every_view_and_names_its_models(page, lab_models):
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', page[0].read_text(encoding="utf-8"))[1])
    assert [view["key"] for view in data["views"]] == [view.key for view in VIEWS]
    assert {model["name"] for model in data["models"]} == {model.name for model in lab_models.values()}
    # the order of history
    names = [model["name"] for model in data["models"]]
    assert (
        names.index("NNLM") < names.index("word2vec") < names.index("LSTM") < names.index("GPT") < names.index("BERT")
    )
    for view in data["views"]:
        assert view["source"]
        assert len(re.findall(r"[.?](?:\s|$)", view["see"])) == 2, view["see"]


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), pytest.param(420, "dark", marks=pytest.mark.slow)])
def test_page_draws_without_error_or_request(browser, page, width, scheme):
    tab, faults = open_page(browser, page[0], width, scheme)
    assert tab.locator("section").count() == len(VIEWS)
    # only tables and pictures scroll sideways, in boxes of their own
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # all controls
    for number in range(tab.locator("main input[type=range]").count()):
        slider = tab.locator("main input[type=range]").nth(number)
        if slider.is_visible():
            slider.focus()
            slider.press("Home")
            slider.press("ArrowRight")
    for key in ("gates", "alignments", "heads", "senses", "word_order", "minimal_pairs"):
        for choice in tab.locator(f"#{key} .controls input[type=radio]").all():
            if choice.is_visible():
                # not by the mouse: the page may still move while views are drawn
                choice.evaluate("one => one.click()")
    tab.locator("#heads .thumbs button").first.click()
    tab.locator("#gates .word").nth(3).click()
    tab.locator("#gates .word").nth(5).click()
    tab.locator("#theme").click()
    assert faults == []
    # every picture says what it shows
    assert tab.evaluate("[...document.querySelectorAll('svg')].every(one => one.ariaLabel || one.ariaHidden)")
    assert tab.evaluate("[...document.querySelectorAll('input, select')].every(one => one.labels.length)")
    tab.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_page_has_no_serious_fault_of_accessibility(browser, page, serious_faults, width, scheme):
    tab, _ = open_page(browser, page[0], width, scheme)
    assert serious_faults(tab) == []
    tab.close()


def test_chosen_word_is_read_out(browser, page):
    tab, faults = open_page(browser, page[0], 1400, "light")
    view = next(view["data"] for view in page[1]["views"] if view["key"] == "next_words")
    picture = tab.locator("#next_words svg.grid").first
    picture.focus()
    picture.press("ArrowRight")
    picture.press("ArrowRight")
    word = view["words"][2]
    assert tab.locator("#next_words h3").first.inner_text() == f"What each model expected in place of “{word}”"
    bits = view["rows"][0]["words"][2]["bits"]
    assert f"“{word}” takes {bits:.1f} bits" in tab.locator("#next_words .readout").first.inner_text()
    assert tab.locator("#next_words .card").count() == len(view["rows"]) + len(view["translations"])
    tab.close()
    assert not faults


def test_recall_stands_beside_the_gradients(browser, page):
    tab, faults = open_page(browser, page[0], 1400, "light")
    picture = tab.locator("#gradients svg[aria-label='Recall by gap for RNN, LSTM, GRU.']")
    assert picture.locator("path.series").count() == len(RECALL)
    assert "Not the models of this page" in tab.locator("#gradients").inner_text()
    tab.close()
    assert not faults


def test_translations_have_their_own_words(browser, page):
    tab, faults = open_page(browser, page[0], 1400, "light")
    view = next(view["data"] for view in page[1]["views"] if view["key"] == "next_words")
    assert [shown["name"] for shown in view["translations"]] == ["Seq2Seq", "RNNsearch", "Transformer"]
    text = tab.locator("#next_words").inner_text()
    for shown in view["translations"]:
        assert f"{shown['name']} translates “{shown['source']}”" in text
        word = shown["words"][min(3, len(shown["words"]) - 1)]
        assert f"What {shown['name']} expected in place of “{word}”" in text
    tab.close()
    assert not faults


def test_training_is_shown_as_text(browser, page):
    tab, _ = open_page(browser, page[0], 1400, "light")
    text = tab.locator("#training").inner_text()
    for part in ("a cell", "failed: see log", "Scores", "1.50", "–", "The first <b>one</b>"):
        assert part in text
    assert tab.locator("#training path.series").count() == 1
    tab.close()


def test_map_is_the_principal_plane(browser, page):
    points = np.random.default_rng(0).normal(size=(9, 4))
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    centred = units - units.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    tab, _ = open_page(browser, page[0], 1400, "light")
    found = np.array(tab.evaluate("cosines => lab.plane(cosines)", (units @ units.T).tolist()))
    tab.close()
    # the sign of an axis is free
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_neighbours_are_those_of_word_vectors(browser, page, lab_models):
    from hf_lineage.word_vectors import WordVectors

    model = lab_models["word2vec"]
    vectors = WordVectors.from_model(model.model, model.tokenizer)
    tab, _ = open_page(browser, page[0], 1400, "light")
    tab.locator("#word_vectors input").first.fill("France")
    shown = tab.locator("#word_vectors ol.bars").first.locator("li").all_inner_texts()
    expected = vectors.nearest("france", 10)
    assert [line.split()[0] for line in shown] == [word for word, _ in expected]
    assert [float(line.split()[1]) for line in shown] == pytest.approx([cosine for _, cosine in expected], abs=0.006)
    boxes = tab.locator("#word_vectors .controls input")
    for number, word in enumerate(("france", "paris", "england")):
        boxes.nth(number).fill(word)
    answer = tab.locator("#word_vectors ol.bars").nth(1).locator("li").first.inner_text().split()[0]
    assert answer == vectors.analogy("france", "paris", "england", 1)[0][0]
    tab.close()


def test_text_of_a_model_cannot_end_the_script():
    data = {"models": [{"name": "</script><b>"}], "views": [], "absent": []}
    assert page_of(data).count("</script>") == 2
    assert "a &amp; b" in page_of(data, title="a & b")


def test_too_large_a_page_is_refused():
    with pytest.raises(ValueError, match="5,000,000.*fewer models"):
        page_of({"models": ["x" * 5_000_000], "views": [], "absent": []})


def test_command_writes_the_page(lab_folders, tmp_path, capsys):
    output = tmp_path / "page.html"
    sentence = "The king of the islands was old."
    (tmp_path / "results.json").write_text(json.dumps(RECALL))
    given = ["--text", sentence, "--recall", str(tmp_path), "--output", str(output)]
    assert main(["lab", str(lab_folders["nnlm"]), *given]) == 0
    assert f"result: {output}" in capsys.readouterr().out
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', output.read_text(encoding="utf-8"))[1])
    views = {view["key"]: view["data"] for view in data["views"]}
    assert views["next_words"]["text"] == sentence
    assert views["gradients"]["recall"] == RECALL
    assert "heads" not in views
    assert "heads" in [view["key"] for view in data["absent"]]


def test_the_demos_page_has_the_demos_recall(lab_folders, tmp_path, monkeypatch):
    demo = tmp_path / "runs" / "lineage"
    shutil.copytree(lab_folders["nnlm"], demo / "nnlm")
    (demo / "long_dependencies").mkdir()
    (demo / "long_dependencies" / "results.json").write_text(json.dumps(RECALL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hf_lineage.lab.command.load_splits", lambda source: {"train": {"text": ["The king."]}})
    assert main(["lab"]) == 0
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', (tmp_path / "lab.html").read_text("utf-8"))[1])
    assert {view["key"]: view["data"] for view in data["views"]}["gradients"]["recall"] == RECALL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "MODEL is nowhere"),
        ([], "MODEL is missing, and .*make demo"),
        (["nowhere", "--recall", "here"], "--recall is here, which has no results.json"),
    ],
)
def test_models_that_are_not_there_are_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(["lab", *arguments])
    assert exit.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_models_of_one_kind_and_folder_name_are_told_apart(lab_folders, tmp_path):
    for parent in ("a", "b"):
        shutil.copytree(lab_folders["gpt"], tmp_path / parent / "gpt")
    models = open_models([tmp_path / "a" / "gpt", tmp_path / "b" / "gpt"])
    assert [model.name for model in models] == [f"GPT ({tmp_path / parent / 'gpt'})" for parent in ("a", "b")]


def test_what_the_app_imports_from_the_package_exists():
    """The app itself needs the extra `app`, which the default tests lack."""
    source = (Path(hf_lineage.__file__).parent / "lab" / "app.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_lineage"):
            for name in node.names:
                assert hasattr(importlib.import_module(node.module), name.name), (node.module, name.name)


def test_a_model_that_knows_only_the_users_text_is_shown_with_it(tmp_path):
    text = "我 欠 小明 的 苹果 。 老师 欠 国王 的 书 。 学生 帮助 她 的 朋友 。"
    tokenizer = train_word_level([text] * 3, show_progress=False)
    tokenizer.save_pretrained(tmp_path / "zh")
    LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8)).save_pretrained(tmp_path / "zh")
    models = open_models([tmp_path / "zh"])
    assert gates.compute(models, Given()) is None
    [shown] = gates.compute(models, Given([text]))["models"]
    assert str(shown["tokens"]).count("欠") == 2


def test_an_empty_sentence_is_refused(lab_folders, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["lab", str(lab_folders["gpt"]), "--text", " ", "--output", str(tmp_path / "lab.html")])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert "--text has a sentence without words" in line
