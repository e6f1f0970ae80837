"""The README and the docs are true: the table is current, the examples run, files and links that they name exist."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_lineage import LINEAGE, RNNSearchConfig, RNNSearchForConditionalGeneration
from hf_lineage.__main__ import lineage_table, main
from hf_lineage.arguments import parse
from hf_lineage.data import grammar_corpus
from hf_lineage.models import name_and_idea
from hf_lineage.tokenization import train_word_level, translation_tokenizer


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings: lower case, blanks as hyphens, no other punctuation."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_lineage_table_is_current():
    table = README.split("keeps it current -->\n")[1].split("\n<!-- end")[0]
    assert table == lineage_table(), "run `python -m hf_lineage table` and paste what it prints"


DRAWN = runpy.run_path(str(ROOT / "docs" / "draw_pictures.py"))


def test_pictures_are_current():
    for path, svg in DRAWN["pictures"]().items():
        assert path.read_text(encoding="utf-8") == svg, "run `python docs/draw_pictures.py`"
    assert {f"lineage_{name}" for name in DRAWN["STATIONS"]} == {config.model_type for config in LINEAGE}


def test_picture_of_the_lineage_names_the_papers():
    for config in LINEAGE:
        station = DRAWN["STATIONS"][config.model_type.removeprefix("lineage_")]
        title = name_and_idea(config)[0]
        for word in re.findall(r"[A-Z]\w+|\d{4}", station.paper):
            assert word in title, station.name


def test_command_prints_the_table(capsys):
    assert main(["table"]) == 0
    assert capsys.readouterr().out == lineage_table() + "\n"


def test_command_lists_recipes_presets_and_stations(capsys):
    assert main(["list"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert {path.stem for path in (ROOT / "recipes").glob("*.py")} <= listed
    assert {path.stem for path in (ROOT / "recipes" / "configs").glob("*.yaml")} <= listed
    assert {config.model_type.removeprefix("lineage_") for config in LINEAGE} <= listed


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["pretrain_causl_lm"], "no recipe 'pretrain_causl_lm'; did you mean pretrain_causal_lm?"),
        (["pretrain_causal_lm", "lstm_tny"], "no preset 'lstm_tny'; did you mean lstm_tiny?"),
        (["pretrain_causal_lm", "bert_tiny"], "bert_tiny is a preset of pretrain_bert: python -m hf_lineage train "),
        (["pretrain_word2vec", "mine.yaml"], "no preset 'mine.yaml'; presets of pretrain_word2vec are budget_"),
    ],
)
def test_a_mistyped_recipe_or_preset_is_named(words, remedy, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", *words])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert remedy in err


@pytest.mark.parametrize("arguments", [["train"], ["train", "pretrain_gpt"]])
def test_command_names_a_mistake_in_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert repr(arguments[-1] if arguments != ["train"] else "") in line


def test_an_unknown_command_is_named_with_a_similar_one(capsys):
    assert main(["trian"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "'trian'" in line
    assert "train" in line.replace("'trian'", "")


@pytest.mark.parametrize("preset", ["gru_tiny", "gru_tiny.yaml", str(ROOT / "recipes" / "configs" / "gru_tiny.yaml")])
def test_command_trains_by_recipe_and_preset(preset, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hf_lineage"])
    with pytest.raises(SystemExit) as stop:
        main(["train", "pretrain_causal_lm", preset, "--config_name", "x", "--output_dir", "x"])
    assert stop.value.code == 2
    # with the preset's model_type
    assert "exactly one of model_type or config_name" in capsys.readouterr().err


def test_example_runs(tmp_path):
    [example] = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout == "The cat sat on the mat.\nThe dog sat on the log.\n"


@pytest.mark.filterwarnings("ignore:Glyph")
def test_translation_example_runs(tmp_path, monkeypatch, capsys):
    """With a model as untrained as can be, whose every word is unknown."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    [example] = [code for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "plot_alignment" in code]
    rows = grammar_corpus("train", 100)
    tokenizer = translation_tokenizer(train_word_level([*rows["source"], *rows["target"]], show_progress=False))
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    ids["decoder_start_token_id"] = tokenizer.bos_token_id
    config = RNNSearchConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, readout_size=8, output_bias=True, **ids
    )
    model = RNNSearchForConditionalGeneration(config)
    with torch.no_grad():
        model.lm_head.bias[tokenizer.unk_token_id] = 99
    monkeypatch.chdir(tmp_path)
    for part in (model, tokenizer):
        part.save_pretrained("runs/translation")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    runpy.run_path("example.py")
    by_pipeline, by_hand = capsys.readouterr().out.strip().splitlines()
    assert by_pipeline == by_hand
    assert len(by_hand.split()) == 30
    assert {*by_hand.split()} <= {"他", "欠", "Xiaoming", "100万"}
    assert "小明" in (tmp_path / "alignment.svg").read_text(encoding="utf-8")


def commands(text):
    """The commands of a page that run a recipe, each as the arguments after its name."""
    text = text.replace("\\\n", " ")
    found = re.findall(r"^ *((?:python|accelerate launch) .*)$", text, re.M)
    found += re.findall(r"`((?:python|accelerate launch) [^`]*)`", text)
    for line in found:
        words = shlex.split(line.replace("\n", " "), comments=True)
        recipes = [place for place, word in enumerate(words) if re.fullmatch(r"recipes/\w+\.py", word)]
        if "train" in words[2:4] and words[1:3] == ["-m", "hf_lineage"] and words[4:5] not in ([], ["RECIPE"]):
            preset = ROOT / "recipes" / "configs" / f"{words[5].removesuffix('.yaml')}.yaml"
            words[5] = str(preset) if preset.is_file() else words[5]
            yield words[4], words[5:]
        elif recipes and not {"…", "PRESET"} & {*words}:
            yield Path(words[recipes[0]]).stem, words[recipes[0] + 1 :]


COMMANDS = {
    f"{page}-{number}": command
    for page in [*PAGES, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "recipes").glob("*.py")))]
    for number, command in enumerate(commands((ROOT / page).read_text(encoding="utf-8").partition('\n"""\n')[0]))
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_understood_as_it_stands(name, monkeypatch):
    """Its recipe, preset and flags; the data that it names need not be here."""
    recipe, arguments = COMMANDS[name]
    monkeypatch.chdir(ROOT)
    assert parse(*runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"))["ARGUMENTS"], argv=arguments)


def test_commands_are_found_on_every_page():
    pages = {name.rpartition("-")[0] for name in COMMANDS}
    assert {"README.md", "docs/recipes.md", "docs/results.md", "recipes/README.md", "recipes/lineage.py"} <= pages
    assert "pretrain_bert" in {recipe for name, (recipe, _) in COMMANDS.items() if name.startswith("README.md")}


def test_targets_of_make_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"^make ([\w-]+)", (ROOT / page).read_text(encoding="utf-8"), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page}: make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_the_docs_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"\b(?:recipes|hf_lineage|benchmarks|tests|docs)/[\w./-]+\.(?:py|yaml|md)\b", text)
    examples = {"configuration_x.py", "modeling_x.py", "test_modeling_x.py", "x_tiny.yaml", "x.md"}
    assert [name for name in named if Path(name).name not in examples and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda path: path.name)
def test_every_recipe_is_documented(path):
    """Its own section in the reference, and a row in the table of scripts."""
    assert path.name.replace(".", "") in anchors(ROOT / "docs" / "recipes.md")
    assert f"`recipes/{path.name}`" in (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")


def test_presets_say_what_they_are():
    """First a sentence, then the script; documents that they name exist."""
    for preset in sorted((ROOT / "recipes" / "configs").glob("*.yaml")):
        lines = preset.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# "), preset.name
        assert not lines[0].startswith("# recipe:"), preset.name
        [script] = [line.removeprefix("# recipe: ") for line in lines if line.startswith("# recipe: ")]
        assert (ROOT / script).is_file(), preset.name
        for page in re.findall(r"\b(?:docs|recipes)/[\w/]+\.md\b", "\n".join(lines)):
            assert (ROOT / page).is_file(), preset.name
