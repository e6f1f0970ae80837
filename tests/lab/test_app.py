"""The app: each tab answers in a browser, also in Chinese; bad input gives one message; nothing leaves the machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification, AutoTokenizer, set_seed

from hf_lineage.__main__ import main
from hf_lineage.inference import align
from hf_lineage.lab import open_models
from hf_lineage.word_vectors import WordVectors


pytest.importorskip("gradio", reason="needs the extra app")
pytest.importorskip("playwright", reason="needs playwright")

from playwright.sync_api import expect

from hf_lineage.lab import app


# a busy machine answers slowly
expect.set_options(timeout=60_000)
LOCAL = {"127.0.0.1", "localhost", "0.0.0.0", None}
SENTENCE = "The old king of France was born in the city and lived there for many years."
CHINESE = "我欠他100万"


@pytest.fixture(scope="module")
def folders(lab_folders, tmp_path_factory):
    """The lab's models, with a tagger and a model that answers questions."""
    root = tmp_path_factory.mktemp("app")
    tokenizer = AutoTokenizer.from_pretrained(lab_folders["bert"])
    made = {name: lab_folders[name] for name in ("gpt", "lstm", "bert", "seq2seq", "rnnsearch", "word2vec")}
    labels = {"id2label": {0: "NOUN", 1: "VERB"}, "label2id": {"NOUN": 0, "VERB": 1}}
    heads = {
        "tagger": (AutoModelForTokenClassification, labels),
        "answerer": (AutoModelForQuestionAnswering, {}),
    }
    for name, (head, settings) in heads.items():
        set_seed(5)
        model = head.from_pretrained(lab_folders["bert"], **settings)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3) if parameter.dim() > 1 else None
            if name == "answerer":
                # one answer is far better than the next
                model.qa_outputs.weight.mul_(20)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        made[name] = root / name
    return made


@pytest.fixture(scope="module")
def models(folders):
    return {model.name: model for model in open_models(folders.values())}


@pytest.fixture(scope="module")
def served(models):
    """The address of the app, and the machines that its process asked for."""
    hosts, find, connect = set(), socket.getaddrinfo, socket.socket.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            socket, "getaddrinfo", lambda host, *args, **kwargs: hosts.add(host) or find(host, *args, **kwargs)
        )
        patch.setattr(socket.socket, "connect", lambda self, to: hosts.add(to[0]) or connect(self, to))
        page = app.build(list(models.values()))
        yield app.launch(page), hosts
        page.close(verbose=False)


class User:
    """Somebody with the app in a browser."""

    def __init__(self, browser, address, width=1400, scheme="light"):
        self.page, self.faults = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        self.page.on("request", lambda request: self.check_request(request.url, address))
        self.page.goto(address)
        self.page.get_by_role("tab", name="Write").wait_for()

    def check_request(self, url, address):
        if not url.startswith((address, "data:", "blob:")):
            self.faults.append(url)

    def open(self, tab, model=None):
        self.page.get_by_role("tab", name=tab, exact=True).click()
        if model:
            self.panel.get_by_label("Model").click()
            self.page.get_by_role("option", name=model, exact=True).click()

    @property
    def panel(self):
        return self.page.locator("[role=tabpanel]:visible")

    def ask(self, verb, **texts):
        """Fills in the boxes, whose labels have these names in them, and presses the button."""
        for label, text in texts.items():
            self.panel.get_by_label(label.replace("_", " ")).first.fill(text)
        self.panel.get_by_role("button", name=verb, exact=True).click()


@pytest.fixture(scope="module")
def one_user(browser, served):
    user = User(browser, served[0])
    yield user
    user.page.close()


@pytest.fixture
def user(one_user, served):
    yield one_user
    assert one_user.faults == []
    assert served[1] <= LOCAL


def test_tabs_are_those_of_the_models(user):
    tabs = [tab.inner_text() for tab in user.page.get_by_role("tab").all()]
    assert tabs == ["Write", "Fill in", "Translate", "Analogies", "Tag", "Answer"]


def greedy(tokens):
    return {"number_input_for_New_tokens": str(tokens), "number_input_for_Temperature": "0"}


@torch.no_grad()
def continued(model, text, tokens):
    """The text with the likeliest tokens after it, one by one."""
    encoded = ids = model.tokenizer(text, return_tensors="pt").input_ids
    for _ in range(tokens):
        ids = torch.cat([ids, model.model(ids).logits[:, -1:].argmax(2)], 1)
        if ids[0, -1] == model.tokenizer.eos_token_id:
            break
    # the text stays as it was written
    read, whole = (model.tokenizer.decode(row, skip_special_tokens=True) for row in (encoded[0], ids[0]))
    return text + whole.removeprefix(read)


@pytest.mark.parametrize("text", ["The old king", CHINESE])
def test_write(user, models, text):
    user.open("Write", "GPT")
    user.ask("Write", Beginning_of_the_text=text, **greedy(5))
    answer = user.panel.get_by_label("Text", exact=True)
    # versions of transformers differ in the blank before the first new word
    letters = "".join(continued(models["GPT"], text, 5).split())
    expect(answer).to_have_value(re.compile("^" + r"\s*".join(map(re.escape, letters)) + "$"))


@pytest.mark.parametrize("text", ["The city of [MASK] is the [MASK] of France.", "我[MASK]他100万"])
def test_fill(user, models, text):
    model = models["BERT (bert)"] if "BERT (bert)" in models else models["BERT"]
    user.open("Fill in")
    user.ask("Fill in", Text_with=text)
    encoded = model.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        scores = model.masked_lm(**encoded).logits[encoded.input_ids == model.tokenizer.mask_token_id].softmax(1)
    best = scores.topk(5)
    words = [
        f"mask {number}: {model.tokenizer.decode([token])}"
        for number, tokens in enumerate(best.indices.tolist(), 1)
        for token in tokens
    ]
    expect(user.panel.locator("tbody th")).to_have_text(words)
    shares = [float(cell) for cell in user.panel.locator("tbody td").all_inner_texts()]
    assert shares == pytest.approx((100 * best.values).flatten().tolist(), abs=0.051)


@pytest.mark.parametrize("text", ["The king saw the man", "中国 日本 美国"])
def test_translate_with_alignment(user, models, text):
    model = models["RNNsearch"]
    user.open("Translate", "RNNsearch")
    user.ask("Translate", Source=text)
    expect(user.panel.locator("thead th")).to_have_text(text.split())
    translation = user.panel.get_by_label("Translation", exact=True).input_value()
    assert translation
    [expected] = align(model.model, model.tokenizer, [text], [translation])
    assert expected.source == text.split()
    assert user.panel.locator("tbody th").all_inner_texts() == expected.target == translation.split()
    cells = [int(cell) for cell in user.panel.locator("tbody td").all_inner_texts()]
    assert cells == pytest.approx((100 * expected.weights).ravel().tolist(), abs=0.51)


def test_words_of_chinese_need_no_blanks(user):
    user.open("Translate", "RNNsearch")
    user.ask("Translate", Source="欠他100万")
    expect(user.panel.locator("thead th")).to_have_text(["欠", "他", "100万"])


def test_model_without_attention_has_no_alignment(user):
    user.open("Translate", "Seq2Seq")
    user.ask("Translate", Source="The king saw the man")
    expect(user.panel).to_contain_text("Seq2Seq has no attention")
    assert user.panel.get_by_label("Translation", exact=True).input_value()


@pytest.mark.parametrize("words", [("germany", "france", "italy"), ("中国", "日本", "法国")])
def test_analogies(user, models, words):
    model = models["word2vec"]
    user.open("Analogies")
    user.ask("Complete", **dict(zip(("Word_a", "Word_b", "Word_c"), words, strict=True)))
    expected = WordVectors.from_model(model.model, model.tokenizer).analogy(*words, 10)
    expect(user.panel.locator("li")).to_have_text([f"{word} ({score:.3f})" for word, score in expected])


@pytest.mark.parametrize("text", ["The king saw the man", CHINESE])
def test_tag(user, models, folders, text):
    [model] = [one for one in models.values() if one.folder == str(folders["tagger"])]
    user.open("Tag")
    user.ask("Tag", Text=text)
    encoded = model.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0, 1:-1].tolist()
    tags = model.model(**encoded).logits[0, 1:-1].argmax(1).tolist()
    # neighbours with one tag are one stretch
    stretches = []
    for (start, end), tag in zip(offsets, tags, strict=True):
        if stretches and stretches[-1][2] == tag:
            stretches[-1][1] = end
        else:
            stretches.append([start, end, tag])
    expected = [[text[start:end], model.config.id2label[tag]] for start, end, tag in stretches]
    expect(user.panel.locator("mark")).to_have_text(["".join(one) for one in expected])


@pytest.mark.parametrize(
    ("question", "text"), [("Where was the king born?", SENTENCE), ("我欠他100万", "他欠我100万")]
)
def test_answer(user, models, folders, question, text):
    [model] = [one for one in models.values() if one.folder == str(folders["answerer"])]
    user.open("Answer")
    user.ask("Answer", Question=question, Text=text)
    # the best pair of a first and a last token, of all that may be an answer
    encoded = model.tokenizer(question, text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    outputs = model.model(**encoded)
    start, end = outputs.start_logits[0], outputs.end_logits[0]
    allowed = [place for place, side in enumerate(encoded.sequence_ids(0)) if side == 1]
    pairs = [(a, b) for a in allowed for b in allowed if a <= b < a + 15]
    shares: dict[str, float] = {}
    for a, b in pairs:
        part = text[slice(*spread(text, offsets[a][0], offsets[b][1]))]
        shares[part] = shares.get(part, 0) + (start[a] + end[b]).exp().item()
    expected = max(shares, key=shares.get)
    answer = user.panel.get_by_label("Answer (score)", exact=True)
    expect(answer).to_have_value(re.compile(rf"^{re.escape(expected)} \(\d+%\)$"))
    expect(user.panel.locator("mark")).to_have_text([f"{expected}answer"])


def test_long_text_is_read_in_windows(models, folders):
    [model] = [one for one in models.values() if one.folder == str(folders["answerer"])]
    text = " ".join([SENTENCE] * 12)
    assert len(model.tokenizer(text).input_ids) > model.longest
    answer, shown = app.find_answer(model, "Where was the king born?", text)
    assert answer.rpartition(" (")[0] in text
    assert shown.count("<mark>") == 1


def spread(text, start, end):
    """The stretch, up to the ends of its words."""
    while start > 0 and text[start - 1].isalnum() and text[start].isascii() and text[start - 1].isascii():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end].isascii() and text[end - 1].isascii():
        end += 1
    return start, end


@pytest.mark.parametrize(
    ("tab", "verb", "texts", "message"),
    [
        ("Write", "Write", {"Beginning_of_the_text": "  "}, "must be a text that is not empty"),
        ("Write", "Write", {"Beginning_of_the_text": "ψωλ ψωλ"}, "knows no word of the text"),
        ("Fill in", "Fill in", {"Text_with": "no mask <b>here</b>"}, "the text has no [MASK]"),
        ("Fill in", "Fill in", {"Text_with": "[MASK] " + "king " * 200}, "reads at most 64"),
        ("Fill in", "Fill in", {"Text_with": "ψωλ [MASK]"}, "knows no word of the text"),
        ("Translate", "Translate", {"Source": "你好吗"}, "knows no word of the text"),
        ("Analogies", "Complete", {"Word_a": "king <img src=x>"}, "is not a word of the model's vocabulary"),
        ("Tag", "Tag", {"Text": ""}, "must be a text that is not empty"),
        ("Tag", "Tag", {"Text": "king " * 200}, "reads at most 64"),
        ("Answer", "Answer", {"Question": "", "Text": "The king"}, "the question is ''"),
    ],
)
def test_wrong_input_gives_one_message(user, tab, verb, texts, message, capfd):
    user.open(tab)
    user.ask(verb, **texts)
    messages = user.panel.locator(".lineage-message")
    expect(messages).to_have_count(1)
    expect(messages).to_contain_text(message)
    assert messages.inner_text().startswith("Not answered: ")
    assert not messages.locator("b, img").count()
    assert not user.page.locator(".toast-body").count()
    assert "Traceback" not in "".join(capfd.readouterr())
    # nothing of an earlier answer is left
    assert user.panel.locator("tbody, mark, li").count() == 0
    answers = {"Write": "Text", "Translate": "Translation", "Answer": "Answer (score)"}
    if tab in answers:
        expect(user.panel.get_by_label(answers[tab], exact=True)).to_have_value("")


def test_message_goes_with_the_next_answer(user):
    user.open("Fill in")
    user.ask("Fill in", Text_with="no mask")
    expect(user.panel.locator(".lineage-message")).to_have_count(1)
    user.ask("Fill in", Text_with="The [MASK] of France.")
    expect(user.panel.locator("tbody th").first).to_be_visible()
    assert not user.panel.locator(".lineage-message").count()


def test_two_users_at_once(browser, served, models):
    users = [User(browser, served[0]), User(browser, served[0], width=420, scheme="dark")]
    texts = ["The king saw the man", "The city is very old"]
    for user, text in zip(users, texts, strict=True):
        user.open("Write", "GPT")
        user.ask(
            "Write", Beginning_of_the_text=text, number_input_for_New_tokens="40", number_input_for_Temperature="0"
        )
    for user, text in zip(users, texts, strict=True):
        expect(user.panel.get_by_label("Text", exact=True)).to_have_value(continued(models["GPT"], text, 40))
        user.page.close()
        assert user.faults == []
    assert served[1] <= LOCAL


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_app_has_no_serious_fault_of_accessibility(browser, served, serious_faults, width, scheme):
    user = User(browser, served[0], width, scheme)
    faults = []
    for tab, verb in (("Write", "Write"), ("Fill in", "Fill in"), ("Translate", "Translate"), ("Tag", "Tag")):
        user.open(tab)
        user.ask(verb)
        # an answer on its way is pale for a moment
        for _ in range(20):
            if not (found := serious_faults(user.page)):
                break
            user.page.wait_for_timeout(500)
        faults += found
    user.page.close()
    assert faults == []


def test_models_without_a_task_are_refused(lab_folders, tmp_path):
    model = open_models([lab_folders["elmo"]])
    with pytest.raises(ValueError, match=r"elmo.*name models that write"):
        app.build(model)


def test_command_needs_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, message in ((["nowhere"], "MODEL is nowhere"), ([], "MODEL is missing, and .*make demo")):
        with pytest.raises(SystemExit) as exit:
            main(["app", *arguments])
        assert exit.value.code == 2
        assert re.search(message, capsys.readouterr().err)


def test_file_is_a_space(browser, folders, tmp_path):
    """As a Space runs it: the file alone in a folder, named app.py, with its models in a variable."""
    shutil.copy(app.__file__, tmp_path / "app.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"LINEAGE_MODELS": str(folders["word2vec"]), "GRADIO_SERVER_PORT": str(port)}
    variables |= {"PYTHONPATH": str(Path(app.__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=tmp_path, env=os.environ | variables, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert f"open http://127.0.0.1:{port}/ in a browser" in line
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.get_by_role("tab")).to_have_text(["Analogies"])
        page.close()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_space_without_models_says_so(tmp_path):
    shutil.copy(app.__file__, tmp_path / "app.py")
    variables = os.environ | {"LINEAGE_MODELS": " ", "PYTHONPATH": str(Path(app.__file__).parents[2])}
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"^app.py: error: MODEL is missing: .* LINEAGE_MODELS$", done.stderr, re.M)
    assert "Traceback" not in done.stderr
