"""Models that travel through a Hub on this machine, with the real client: cards, digests and a network that fails."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import pytest
import transformers
from huggingface_hub import ModelCard

from hf_lineage.__main__ import main
from hf_lineage.hub.model_card import RunFacts, model_card
from hf_lineage.hub.publishing import pack
from tests.models.stations import HEADS, STATIONS, TABLES
from tests.training.test_trainers import contents


# on a card: with the package and without
CODE = re.compile(r"```python\n(.+?)\n```", re.S)
HUB = Path(__file__).resolve().parents[3] / "shared" / "tools" / "hub"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The server; clients are processes, since they read its address when they are imported."""
    if not HUB.is_dir():
        pytest.skip(f"needs the Hub for tests in {HUB}")
    sys.path.insert(0, str(HUB))
    try:
        from hub_server import HubServer
    finally:
        sys.path.remove(str(HUB))
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


def environment_of(hub, home: Path) -> dict[str, str]:
    """What a client reads when it is imported."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_me",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
    }


def run(hub, code: str, home: Path, **environment) -> subprocess.CompletedProcess:
    """A client of the Hub in a process with its own cache."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=home,
        timeout=1800,
        env=os.environ | environment_of(hub, home) | environment,
    )


PUSH_ALL = """
import sys
from transformers import AutoModel
import transformers
from tests.models.stations import HEADS, STATIONS, TABLES
from tests.training.test_trainers import contents
transformers.utils.logging.set_verbosity_error()
for station, head in HEADS:
    if station in STATIONS:
        TABLES[station].changed_model(head).push_to_hub(f"me/{station}-{head}")
print("pushed")
"""


@pytest.fixture(scope="module")
def pushed(hub, tmp_path_factory):
    """Every head of every station on the Hub."""
    home = tmp_path_factory.mktemp("pusher")
    root = str(Path(__file__).resolve().parents[2])
    result = run(hub, PUSH_ALL, home, PYTHONPATH=root)
    assert "pushed" in result.stdout, result.stderr[-2000:]
    return [(station, head) for station, head in HEADS if station in STATIONS]


@pytest.mark.slow
def test_cards_of_all_heads_are_complete_and_valid(hub, pushed, tmp_path):
    """By the Hub's own check of their heads; each names paper, idea, task, limits and code, and no draft remains."""
    names = [f"me/{station}-{head}" for station, head in pushed]
    code = f"""
import json
from huggingface_hub import ModelCard, model_info
for name in {names!r}:
    card = ModelCard.load(name)
    card.validate(repo_type="model")
    info = model_info(name)
    print(json.dumps([name, card.data.to_dict(), card.text, info.pipeline_tag, [s.rfilename for s in info.siblings]]))
"""
    result = run(hub, code, tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == names
    for (station, _), (name, head, text, tag, files) in zip(pushed, rows, strict=True):
        assert head["library_name"] == "transformers"
        assert head["pipeline_tag"] == tag
        assert {"hf_lineage", TABLES[station].config_class.model_type} <= set(head["tags"])
        assert "What is new in it" in text
        assert "## Limits" in text
        code, without = CODE.findall(text)
        assert ("import hf_lineage" in code, "hf_lineage" in without) == (True, False)
        assert f'"{name}"' in code
        assert f'"{name}", trust_remote_code=True' in without
        assert "automatically generated" not in text
        assert {"SHA256SUMS", "README.md", "model.safetensors", "config.json"} <= set(files)


@pytest.fixture(scope="module")
def one_on_the_hub(hub, tmp_path_factory):
    home = tmp_path_factory.mktemp("one")
    root = str(Path(__file__).resolve().parents[2])
    code = """
from tests.models.stations import TABLES
TABLES["GRU"].changed_model("AutoModelForCausalLM").push_to_hub("me/one")
"""
    result = run(hub, code, home, PYTHONPATH=root)
    assert result.returncode == 0, result.stderr[-2000:]
    return "me/one"


LOAD = """
import hf_lineage, transformers
model = transformers.AutoModelForCausalLM.from_pretrained("me/one")
print(float(sum(p.double().sum() for p in model.parameters())))
"""
ROOT = str(Path(__file__).resolve().parents[2])


@pytest.mark.slow
@pytest.mark.reliability("B3")
def test_a_byte_changed_on_the_way_is_found(hub, one_on_the_hub, tmp_path):
    good = tmp_path / "good"
    bad = tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    hub.faults[:] = [{"match": r"GET .*model\.safetensors", "corrupt": True, "times": -1}]
    try:
        result = run(hub, LOAD, bad, PYTHONPATH=ROOT)
    finally:
        hub.faults.clear()
    assert result.returncode != 0
    assert "model.safetensors" in result.stderr
    assert "has changed" in result.stderr
    assert "force_download=True" in result.stderr
    expected = run(hub, LOAD, good, PYTHONPATH=ROOT)
    assert expected.returncode == 0, expected.stderr[-2000:]
    again = run(hub, LOAD.replace('"me/one"', '"me/one", force_download=True'), bad, PYTHONPATH=ROOT)
    assert again.stdout == expected.stdout
    # a warm cache needs no network
    offline = run(hub, LOAD, good, PYTHONPATH=ROOT, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline.stdout == expected.stdout


FAULTS = {
    "503": {"status": 503},
    "dropped": {"drop": True},
    "cut": {"truncate": 300},
    "slow": {"delay": 0.5},
}


# opens the model in a copy of this process per line of input, which gives it a cache of its own; to import anew would
# take ten times as long
OPENER = """
import json, os, sys
import hf_lineage
for line in sys.stdin:
    name, cache, kept, log, model_class = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        for number, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{log}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        try:
            model_class = getattr(hf_lineage, model_class)
            model = model_class.from_pretrained(name, cache_dir=cache, local_files_only=kept)
            print(float(sum(p.double().sum() for p in model.parameters())), flush=True)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def opened(hub, one_on_the_hub, tmp_path_factory):
    """(cache, offline, name, class) -> exit status, what was printed, and the error of a client that opens a model."""
    home = tmp_path_factory.mktemp("opener")
    command = [sys.executable, "-c", OPENER]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    settings = environment_of(hub, home) | {"PYTHONPATH": ROOT}
    with subprocess.Popen(command, text=True, cwd=home, env=os.environ | settings, **streams) as server:

        def of(cache, offline=False, name="me/one", model_class="GRUForCausalLM"):
            server.stdin.write(json.dumps([name, str(cache), offline, str(home / "log"), model_class]) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            return status, *((home / f"log.{name}").read_text() for name in ("out", "err"))

        yield of
        server.stdin.close()


@pytest.fixture(scope="module")
def expected(opened, tmp_path_factory):
    """What a client prints whom nothing disturbs."""
    status, printed, error = opened(tmp_path_factory.mktemp("whole"))
    assert status == 0, error
    return printed


@pytest.mark.slow
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "SHA256SUMS", ""])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_fails_gives_the_model_or_an_error(fault, file, hub, opened, expected, tmp_path):
    """Once or always, in a file or in all: the whole model loads, or an error names it; the next attempt succeeds."""
    for times in (1, -1):
        hub.faults[:] = [{"match": rf"(GET|HEAD) .*{file}", "times": times, **FAULTS[fault]}]
        try:
            status, printed, error = opened(tmp_path / f"cache{times}")
        finally:
            hub.faults.clear()
        assert printed == (expected if status == 0 else "")
        # behind what the client logs of its attempts
        assert status == 0 or re.search(r"^\w+Error: .*me/one", error, re.M), error
        if file == "SHA256SUMS" and times == -1 and fault != "slow":
            # weights that cannot be compared are no model
            assert "SHA256SUMS of me/one cannot be fetched" in error
        status, printed, error = opened(tmp_path / f"cache{times}")
        assert printed == expected, error
        # a warm cache needs no network
        hub.faults[:] = [{"match": ".*", "times": -1, "drop": True}]
        try:
            assert opened(tmp_path / f"cache{times}", offline=True)[1] == expected
        finally:
            hub.faults.clear()


@pytest.mark.slow
@pytest.mark.parametrize("station", STATIONS)
def test_every_station_comes_whole_over_a_network_that_fails(station, hub, pushed, opened, tmp_path):
    head = TABLES[station].heads[-1]
    model = {"name": f"me/{station}-{head}", "model_class": type(TABLES[station].model(head)).__name__}
    status, expected, error = opened(tmp_path / "whole", **model)
    assert status == 0, error
    for fault, what in FAULTS.items():
        for file in ("config.json", "model.safetensors"):
            cache = tmp_path / f"{fault} {file}"
            hub.faults[:] = [{"match": rf"(GET|HEAD) .*{re.escape(file)}", "times": 1, **what}]
            try:
                status, printed, error = opened(cache, **model)
            finally:
                hub.faults.clear()
            assert printed == (expected if status == 0 else "")
            assert status == 0 or model["name"] in error, error
            assert opened(cache, **model)[1] == expected


@pytest.mark.parametrize("name", STATIONS)
def test_a_hub_out_of_reach_is_an_error_with_the_models_name(name):
    model_class = type(TABLES[name].model("AutoModel"))
    for opener in (model_class, TABLES[name].config_class):
        with pytest.raises(OSError, match="me/none cannot be fetched .*try again"):
            opener.from_pretrained("me/none")


@pytest.mark.slow
def test_a_repository_without_digests_opens(hub, opened, expected, tmp_path):
    """Even if the network fails later, without a word to the client that it is offline."""
    code = """
from huggingface_hub import HfApi, snapshot_download
folder = snapshot_download("me/one")
HfApi().create_repo("me/plain")
HfApi().upload_folder(repo_id="me/plain", folder_path=folder, ignore_patterns=["SHA256SUMS"])
"""
    result = run(hub, code, tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert opened(tmp_path / "cache", name="me/plain") == (0, expected, ANY)
    hub.faults[:] = [{"match": ".*", "times": -1, "status": 503}]
    try:
        assert opened(tmp_path / "cache", name="me/plain") == (0, expected, ANY)
    finally:
        hub.faults.clear()


@pytest.mark.slow
def test_push_of_a_folder(hub, tmp_path):
    folder = tmp_path / "model"
    TABLES["GRU"].changed_model("AutoModelForCausalLM").save_pretrained(folder)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    code = f"""
import sys
from hf_lineage.__main__ import main
sys.exit(main(["push", {str(folder)!r}, "me/pushed", *sys.argv[1:]]))
"""
    dry = run(hub, code.replace("*sys.argv[1:]", '"--dry_run"'), tmp_path, PYTHONPATH=ROOT)
    assert dry.returncode == 0, dry.stderr[-2000:]
    assert "nothing was sent" in dry.stdout
    assert "not sent: training_args.bin" in dry.stdout
    assert "license" in dry.stdout
    assert not any("/commit/" in request for request in hub.log if "me/pushed" in request)
    sent = run(hub, code, tmp_path, PYTHONPATH=ROOT)
    assert sent.returncode == 0, sent.stderr[-2000:]
    commits = [request for request in hub.log if "me/pushed/commit" in request]
    assert len(commits) == 1
    opened = run(hub, LOAD.replace("me/one", "me/pushed"), tmp_path, PYTHONPATH=ROOT)
    assert opened.returncode == 0, opened.stderr[-2000:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text('{"architectures": ["BertModel"]}'), "'BertModel'"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "model.safetensors is damaged"),
        (lambda folder: (folder / "README.md").write_text("---\na: [\n---\n"), "README.md is not valid"),
        (lambda folder: (folder / "README.md").write_bytes(b"\xff\xfe"), "README.md is damaged"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"architectures": [3]}'), "config.json is damaged"),
    ],
)
def test_a_folder_that_is_not_whole_is_not_pushed(damage, message, tmp_path, capsys):
    TABLES["GRU"].changed_model("AutoModelForCausalLM").save_pretrained(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(SystemExit) as stop:
        main(["push", str(tmp_path / "model"), "me/x", "--dry_run"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["me//x", "a/b/c", "me/x y", "../x", "me/--x"])
def test_a_name_that_no_repository_has_is_refused_before_anything_is_sent(name, tmp_path, capsys):
    TABLES["GRU"].model("AutoModel").save_pretrained(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["push", str(tmp_path), name, "--dry_run"])
    assert stop.value.code == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("station", STATIONS)
def test_a_dry_run_leaves_the_folder_as_it_is(station, tmp_path, capsys):
    TABLES[station].model("AutoModel").save_pretrained(tmp_path)
    (tmp_path / "notes [1].txt").write_text("mine")
    # as after a run without a card, whose configuration was edited
    (tmp_path / "README.md").unlink()
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + "\n")
    before = contents(tmp_path)
    main(["push", str(tmp_path), "me/x", "--dry_run", "--license", "mit"])
    assert contents(tmp_path) == before
    told = capsys.readouterr().out
    parcel = pack(tmp_path, "me/x", license="mit")
    assert parcel.files.keys() == before.keys() | {"README.md"}
    assert all(f"{size:,} {name}\n" in told for name, size in parcel.files.items())
    assert parcel.written["SHA256SUMS"] != before["SHA256SUMS"].decode()
    assert "config.json was edited" in told


def test_push_completes_the_head_of_the_card(tmp_path, capsys):
    TABLES["GRU"].changed_model("AutoModelForCausalLM").save_pretrained(tmp_path)
    main(["push", str(tmp_path), "me/x", "--dry_run"])
    assert "no license (give --license)" in capsys.readouterr().out

    def head(**given):
        parcel = pack(tmp_path, "me/x", **given)
        assert not any("license" in note for note in parcel.notes)
        (tmp_path / "README.md").write_text(parcel.written["README.md"])
        return ModelCard.load(tmp_path / "README.md").data

    found = head(license="mit", language=["zh", "en"])
    assert (found.license, found.language, found.pipeline_tag) == ("mit", ["zh", "en"], "text-generation")
    # what the card has stays
    found = head(license="apache-2.0")
    assert (found.license, found.language) == ("apache-2.0", ["zh", "en"])


@pytest.mark.parametrize("is_of_run", [True, False])
def test_the_code_on_a_pushed_card_opens_the_repository(is_of_run, tmp_path, monkeypatch):
    """What people have written into the card stays."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / 'my "gru"'
    model = TABLES["GRU"].changed_model("AutoModelForCausalLM")
    model.save_pretrained(folder)
    if is_of_run:
        facts = RunFacts("labels.csv", "The dog.", base_model="runs/base")
        card = model_card(model, None, facts, {"test": {"bleu": 0.5}}, name=folder.name, opened_as=str(folder))
        (folder / "README.md").write_text(str(card))
    before = (folder / "README.md").read_text()
    assert before.count(json.dumps(str(folder))) == 2
    (folder / "README.md").write_text(before.replace("## Data", "It reads poems.\n\n## Data"))
    for repository in ("me/one", "me/other"):
        parcel = pack(folder, repository)
        text = parcel.written["README.md"]
        code, without = CODE.findall(text)
        assert f'model="{repository}")' in code
        assert f'model="{repository}", trust_remote_code=True)' in without
        assert f"# {repository[3:]}\n" in text
        assert "It reads poems." in text
        assert ("continues runs/base" in text, "| test | bleu | 0.5 |" in text) == (is_of_run, is_of_run)
        (folder / "README.md").write_text(text)


def test_a_model_trained_further_keeps_the_language(tmp_path):
    (tmp_path / "base").mkdir()
    card = tmp_path / "base" / "README.md"
    model = TABLES["GRU"].model("AutoModelForSequenceClassification")

    def language(**given):
        facts = RunFacts("labels.csv", "The dog.", base_model=str(tmp_path / "base"), **given)
        written = model_card(model, None, facts, name="x", opened_as="x")
        return ModelCard(str(written)).data.language

    assert language() is None
    card.write_text("---\nlanguage: [zh, en]\n---\nA model.")
    assert language() == ["zh", "en"]
    assert language(language="de") == "de"
    card.write_text("---\na: [\n---\nEdited.")
    assert language() is None


@pytest.mark.parametrize("arguments", [[], ["folder"], ["folder", "me/x", "--dry"], ["a", "b", "c"]])
def test_push_names_its_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["push", *arguments])
    assert stop.value.code == 2
    assert re.search("FOLDER|REPOSITORY|unrecognized arguments", capsys.readouterr().err)


@pytest.mark.parametrize("name", [name for name in STATIONS if "input_ids" in TABLES[name].inputs("AutoModel")])
def test_the_code_on_the_card_of_a_base_model_runs(name, tmp_path, tiny_tokenizer, capsys, monkeypatch):
    """The other heads' code calls pipelines, which have tests of their own."""
    # the card names no path outside of the working directory
    monkeypatch.chdir(tmp_path.parent)
    tokens = {"vocab_size": len(tiny_tokenizer), "pad_token_id": tiny_tokenizer.pad_token_id}
    TABLES[name].model("AutoModel", **tokens).save_pretrained(tmp_path)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(tmp_path)
    code, _ = CODE.findall((tmp_path / "README.md").read_text(encoding="utf-8"))
    exec(code, {})
    assert capsys.readouterr().out


@pytest.mark.parametrize(("station", "head"), [(station, head) for station, head in HEADS if station in STATIONS])
def test_saved_models_have_a_card(station, head, tmp_path):
    model = TABLES[station].model(head)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert TABLES[station].config_class.model_type in card
    assert f"{model.num_parameters():,} parameters" in card
    (tmp_path / "README.md").write_text("my own words")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"
    assert transformers.AutoConfig.from_pretrained(tmp_path).model_type == model.config.model_type
    task = {
        "AutoModelForSeq2SeqLM": "translation",
        "AutoModelForQuestionAnswering": "question-answering",
        "AutoModelForMultipleChoice": "multiple-choice",
        "AutoModelForNextSentencePrediction": "next-sentence-prediction",
    }.get(head)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert [*saved.get("custom_pipelines", {})] == [task] * (task is not None)
    for entry in saved.get("custom_pipelines", {}).values():
        assert entry["pt"] == [head]
        assert (tmp_path / f"{entry['impl'].partition('.')[0]}.py").is_file()
