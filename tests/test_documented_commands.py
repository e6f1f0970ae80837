"""The commands and the Python of the README and the docs, run as they stand, on small models and texts made here.

Commands that train take minutes and are slow tests. Those of docs/results.md take hours, and those of the stations'
pages are what `make demo` runs: here they end after two updates.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel, set_seed

from hf_lineage import (
    LINEAGE,
    BERTConfig,
    BERTForPreTraining,
    BERTForQuestionAnswering,
    ELMoConfig,
    ELMoForPreTraining,
    GPTConfig,
    GPTForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
    Word2VecConfig,
    Word2VecForPreTraining,
)
from hf_lineage.__main__ import main
from hf_lineage.converters import from_opennmt
from hf_lineage.data import grammar_corpus
from hf_lineage.tokenization import (
    causal_tokenizer,
    elmo_tokenizer,
    train_word_level,
    train_wordpiece,
    translation_tokenizer,
)
from hf_lineage.word_vectors import WordVectors
from tests.converters.test_recurrent_nmt import opennmt
from tests.converters.test_transformer_layouts import fairseq_state, fsmt, marian


ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "README.zh.md", "recipes/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def lines_of(page: str) -> list[str]:
    """The commands of a page that stand in code, without placeholders."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^((?:python|accelerate launch) .*)$", text, re.M)
    found += re.findall(r"`((?:python|accelerate launch) [^`]*)`", text)
    found = [" ".join(line.split()) for line in found]
    return [
        line
        for line in found
        if not re.search(r"…|\b(PRESET|RECIPE|STATION|MORE|FILE|FOLDER)\b|benchmarks/|main\.py", line)
    ]


COMMANDS = [(page, line) for page in PAGES for line in lines_of(page)]
TRAINING = [one for one in COMMANDS if "recipes/" in one[1] or re.search(r"hf_lineage train .", one[1])]
# command -> what its output has
LOOKING = {
    "python -m hf_lineage": r"gpt .*Radford",
    "python -m hf_lineage table": r"\| `lineage_bert` \|",
    "python -m hf_lineage list": r"pretrain_bert .*(\n.*)*lstm_tiny",
    # named without what they take
    "python -m hf_lineage train": None,
    "python -m hf_lineage align": None,
    # tests/lab runs them
    "python -m hf_lineage lab": None,
    "python -m hf_lineage lab runs/lstm": None,
    "python -m hf_lineage lab runs/lstm runs/gpt": None,
    'python -m hf_lineage lab runs/lstm runs/rnnsearch --text "我 欠 小明 100万" --output lab.html': None,
    # a model of the Hub
    "python -m hf_lineage lab sentence-transformers/all-MiniLM-L6-v2": None,
    "python -m hf_lineage app": None,
    "python -m hf_lineage app runs/lstm runs/gpt": None,
    "python -m hf_lineage app runs/rnnsearch": None,
    "python -m hf_lineage lab runs/lstm runs/gpt runs/bert "
    '--text "The old king lived in France." --output lab.html': None,
    "python -m hf_lineage neighbours": None,
    "python -m hf_lineage --help": r"neighbours",
    "python -m hf_lineage show runs/lstm": r"LSTMForCausalLM",
    "python -m hf_lineage vectors runs/lstm vectors.txt": r"16 numbers each",
    "python -m hf_lineage neighbours vectors.txt dog letter": r"^letter\n +-?\d\.\d{3}  \w",
    'python -m hf_lineage align runs/translation "他 欠 小明 100万"': r"^ +他 +欠 +小明 +100万$",
    "python -m hf_lineage convert openai-gpt openai_gpt/ runs/openai_gpt": r"GPTForCausalLM",
    "python -m hf_lineage convert marian opus-mt-de-en runs/de_en": r"TransformerForConditionalGeneration",
    "python -m hf_lineage convert fairseq wmt.safetensors runs/wmt --fields '{\"num_attention_heads\": 8}'": (
        r"TransformerForConditionalGeneration"
    ),
    "python -m hf_lineage convert opennmt runs/luong luong.safetensors": r"LuongForConditionalGeneration",
    "python -m hf_lineage neighbours runs/word2vec war": r"^war\n +-?\d\.\d{3}  \w",
    'python -m hf_lineage align runs/rnnsearch "他 欠 小明 100万"': r"^ +他 +欠 +小明 +100万$",
}
# the result of each job, which can run again
SCALE = {
    "python -m hf_lineage scale words my_texts/ runs/counts": r"misses at most 0$",
    "python -m hf_lineage scale words my_texts/ runs/word2vec_counts --kind word2vec": r"misses at most 0$",
    "python -m hf_lineage scale phrases my_texts/ runs/phrases": r"^phrases per pass: \d+, \d+$",
    "python -m hf_lineage scale encode my_texts/ runs/ids --tokenizer runs/tokenizer": r"^1 files, ",
    "python -m hf_lineage scale sentences my_texts/ runs/sentences --tokenizer runs/tokenizer": r"^1 files, ",
}
LOOKING |= SCALE | {"python -m hf_lineage scale": None}
LOOKING |= {f"python -m hf_lineage show {config.model_type.removeprefix('lineage_')}": "paper: " for config in LINEAGE}


def save(folder: Path, *parts):
    for part in parts:
        part.save_pretrained(folder)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_corpus):
    """A folder with what the commands name: texts, labelled data and models that have learned nothing."""
    set_seed(0)
    folder = tmp_path_factory.mktemp("documented")
    runs = folder / "runs"
    words = train_wordpiece(tiny_corpus, vocab_size=200, min_frequency=1, show_progress=False)
    causal = causal_tokenizer(train_wordpiece(tiny_corpus, vocab_size=200, min_frequency=1, show_progress=False))
    sizes = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1}
    attention = {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 512}
    save(runs / "tokenizer", words)
    save(runs / "lstm", LSTMForCausalLM(LSTMConfig(**sizes)), causal)
    save(runs / "gpt", GPTForCausalLM(GPTConfig(**sizes, **attention)), causal)
    save(runs / "bert", BERTForPreTraining(BERTConfig(**sizes, **attention)), words)
    save(runs / "bert_squad", BERTForQuestionAnswering(BERTConfig(**sizes, **attention)), words)
    known = sorted({word for line in tiny_corpus for word in line.split()})
    characters = elmo_tokenizer(["<S>", "</S>", "<UNK>", *known])
    elmo = {"hidden_size": 16, "projection_size": 8, "num_hidden_layers": 2, "cnn_filters": [[1, 8]]}
    for name in ("bilm", "bilm_zh"):
        save(runs / name, ELMoForPreTraining(ELMoConfig(vocab_size=len(characters), **elmo)), characters)
    pairs = grammar_corpus("train", 60)
    both = translation_tokenizer(train_word_level([*pairs["source"], *pairs["target"]], show_progress=False))
    ids = {name: getattr(both, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = RNNSearchConfig(
        vocab_size=len(both), embedding_size=8, hidden_size=8, readout_size=8, output_bias=True, **ids
    )
    config.decoder_start_token_id = both.bos_token_id
    translator = RNNSearchForConditionalGeneration(config)
    # answers no word, so that it ends at its limit
    with torch.no_grad():
        translator.lm_head.bias[both.unk_token_id] = 99
    for name in ("translation", "rnnsearch"):
        save(runs / name, translator, both)
    war = train_word_level(["war and peace"], show_progress=False)
    save(runs / "word2vec", Word2VecForPreTraining(Word2VecConfig(vocab_size=len(war), hidden_size=4)), war)
    save(folder / "opus-mt-de-en", marian())
    state = {name: weight.clone() for name, weight in fairseq_state(fsmt()).items()}
    save_file(state, folder / "wmt.safetensors")
    save(runs / "luong", from_opennmt(opennmt("lstm", True, "general")[0]))
    theirs = OpenAIGPTConfig(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    save(folder / "openai_gpt", OpenAIGPTLMHeadModel(theirs))
    write_data(folder, tiny_corpus, pairs)
    return folder


def write_data(folder: Path, sentences: list[str], pairs):
    (folder / "my_texts").mkdir()
    for path in (folder / "my_text.txt", folder / "my_texts" / "one.txt"):
        path.write_text("\n".join(f"{first} {second}" for first in sentences for second in sentences[:2]))
    tagged = [line.rstrip(".").split() for line in sentences[:40]]
    names = {"ZH": None, "MULTI30K": [], "SST2": [], "WEIBO": [], "en_ewt": [], "squad": [], "copa": []}
    for number, line in enumerate(sentences[:40]):
        tokens, last = tagged[number], line.rstrip(".").split()[-1]
        names["SST2"].append({"sentence": line, "label": number % 2})
        names["WEIBO"].append({"tokens": tokens, "ner": ["B-PER"] + ["O"] * (len(tokens) - 1)})
        names["en_ewt"].append({"tokens": tokens, "upos": ["NOUN" if token[0].isupper() else "X" for token in tokens]})
        answer = {"text": [last], "answer_start": [line.rindex(last)]}
        names["squad"].append({"id": str(number), "question": "Who?", "context": line, "answers": answer})
        copa = {"premise": line, "choice1": "Yes.", "choice2": "No.", "question": "cause", "label": number % 2}
        names["copa"].append(copa)
        names["MULTI30K"].append({"de": pairs["source"][number], "en": pairs["target"][number]})
    for name, rows in names.items():
        (folder / name).mkdir()
        for split in ("train", "validation", "test_2016_flickr" if name == "MULTI30K" else "test"):
            if rows is None:
                text = "\n".join(" ".join(sentence.replace(" ", "")) for sentence in sentences)
                (folder / name / f"{split}.txt").write_text(text)
            else:
                (folder / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_every_command_that_looks_is_known():
    found = {line.partition(" #")[0].strip() for one in COMMANDS if one not in TRAINING for line in one[1:]}
    assert found <= {*LOOKING}


@pytest.mark.parametrize("command", [command for command, expected in LOOKING.items() if expected])
def test_commands_that_look(command, workspace, monkeypatch, capsys):
    if command in SCALE:
        pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'hf_lineage[scale]'")
    if "neighbours" in command:
        WordVectors(["dog", "letter", "sea"], torch.eye(3).numpy()).save(workspace / "vectors.txt")
    monkeypatch.chdir(workspace)
    assert main(shlex.split(command)[3:]) == 0
    assert re.search(LOOKING[command], capsys.readouterr().out, re.M)


def python_of(page: str, word: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    [code] = [code for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if word in code]
    return code


# peft asks for what transformers renamed
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_adapters_of_the_docs(workspace, monkeypatch):
    pytest.importorskip("peft", reason="peft is not installed")
    monkeypatch.chdir(workspace)
    names: dict = {}
    exec(python_of("docs/recipes.md", "LoraConfig"), names)
    learning = [name for name, weight in names["model"].named_parameters() if weight.requires_grad]
    assert learning
    assert all("lora" in name for name in learning)


def test_answers_of_the_docs(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    code = python_of("docs/recipes.md", '"question-answering"')
    names: dict = {}
    exec(f"import hf_lineage\nfrom transformers import pipeline\n{code}", names)
    found = names["answer"]({"question": "Who paints?", "context": "Ada paints near the harbour."})
    assert found["answer"] == "Ada paints near the harbour."[found["start"] : found["end"]]


def test_vectors_of_a_vocabulary_of_the_docs(workspace, tiny_corpus):
    """The kept vectors give what the characters give, for known and unknown words."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workspace / "runs" / "bilm")
    model = AutoModel.from_pretrained(workspace / "runs" / "bilm").eval()
    names = {"torch": torch, "tokenizer": tokenizer, "model": model, "texts": [tiny_corpus[0], "Quokkas paint"]}
    exec(python_of("docs/recipes.md", "vocabulary_characters"), names)
    batch = names["batch"]
    expected = model(char_ids=batch["char_ids"], attention_mask=batch["attention_mask"])
    torch.testing.assert_close(names["outputs"].last_hidden_state, expected.last_hidden_state)


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.parametrize(("page", "command"), TRAINING, ids=[f"{page}-{i}" for i, (page, _) in enumerate(TRAINING)])
def test_commands_that_train(page, command, workspace, monkeypatch):
    """They leave a model and scores, and the command that they end in works as printed."""
    if "encoded_corpus" in command:
        pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'hf_lineage[scale]'")
        monkeypatch.chdir(workspace)
        for job in SCALE:
            assert main(shlex.split(job)[3:]) == 0
    words = shlex.split(command, comments=True)
    output = workspace / words[words.index("--output_dir") + 1]
    words = [str(ROOT / word) if word.startswith("recipes/") else word for word in words]
    if page in ("docs/results.md", "docs/scale.md") or page.startswith("docs/stations/"):
        words += ["--max_steps", "2", "--eval_strategy", "no"]
    start = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "accelerate.commands.launch"]
    words = [*start, *words[1 if words[0] == "python" else 2 :], "--overwrite_output_dir"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(words, cwd=workspace, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    ends = [line for line in run.stdout.splitlines() if re.match("(result|score|next):", line)]
    without_end = re.search(r"finetune_(tagging|question_answering|multiple_choice)", command)
    if without_end and not ends:
        pytest.xfail(f"{without_end[0]}.py does not end in the three lines that docs/recipes.md promises")
    place, score, following = ends[-3:]
    assert place.split() == ["result:", str(output.relative_to(workspace))]
    assert re.search(r"score: .*\d", score)
    assert (output / "config.json").is_file()
    assert json.loads((output / "results.json").read_text(encoding="utf-8"))
    asked = subprocess.run(
        [sys.executable, *shlex.split(following.removeprefix("next:"))[1:]],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr[-3000:]
    assert asked.stdout.strip()
