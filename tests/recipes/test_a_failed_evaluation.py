"""Every recipe keeps what it has measured, and the model, when what comes after fails."""

import json
import runpy
from pathlib import Path

import pytest
from transformers import AutoModel, AutoTokenizer

from hf_lineage import BERTConfig, BERTModel, ELMoConfig, ELMoModel, LSTMConfig, LSTMForCausalLM
from hf_lineage.data import grammar_corpus
from hf_lineage.tokenization import causal_tokenizer, elmo_tokenizer
from hf_lineage.training import LineageTrainer, last_complete_checkpoint


ROOT = Path(__file__).resolve().parents[2]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1}
ATTENTION = SMALL | {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
ELMO = {"character_size": 4, "cnn_filters": [[1, 4]], "hidden_size": 8, "projection_size": 4}
TASK = {"task_size": 4, "word_vector_size": 3}
TRAINING = {"max_steps": 1, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no", "report_to": "none"}
TEXT = TRAINING | {"vocab_size": 200, "block_size": 8, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_corpus, tiny_tokenizer):
    """Texts, labelled texts, tagged words, sentence pairs, and saved models to start from."""
    folder = tmp_path_factory.mktemp("inputs")
    for kind in ("texts", "documents", "labels", "tags", "pairs", "choices", "questions"):
        (folder / kind).mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        sentences = tiny_corpus[number::3]
        (folder / "texts" / f"{split}.txt").write_text("\n".join(sentences))
        documents = ["\n".join(sentences[start : start + 6]) for start in range(0, len(sentences), 6)]
        (folder / "documents" / f"{split}.txt").write_text("\n\n".join(documents))
        rows = {
            "labels": [{"text": text, "label": len(text) % 2} for text in sentences[:12]],
            "tags": [{"tokens": t.split(), "upos": [len(w) % 2 for w in t.split()]} for t in sentences[:12]],
            "choices": [{"question": t, "choices": [t[:3], t[-3:]], "label": len(t) % 2} for t in sentences[:12]],
            "questions": [
                {"question": "who?", "context": t, "answers": {"text": [t.split()[0]], "answer_start": [0]}}
                for t in sentences[:12]
            ],
            "pairs": [{"zh": row["source"], "en": row["target"]} for row in grammar_corpus(split, 40)],
        }
        for kind, of_kind in rows.items():
            (folder / kind / f"{split}.jsonl").write_text("\n".join(map(json.dumps, of_kind)))
    pairs = [{"sentence_good": text, "sentence_bad": text[::-1], "UID": "x"} for text in tiny_corpus[:4]]
    (folder / "minimal.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "similarities.tsv").write_text("the\tevery\t1\nthe\tdog\t2\nour\tdog\t3\n")
    words = elmo_tokenizer(["<S>", "</S>", "<UNK>", "the"])
    causal = causal_tokenizer(tiny_tokenizer)
    models = {
        "elmo": (ELMoModel(ELMoConfig(vocab_size=len(words), **ELMO)), words),
        "bert": (BERTModel(BERTConfig(vocab_size=len(tiny_tokenizer), **ATTENTION)), tiny_tokenizer),
        "lstm": (LSTMForCausalLM(LSTMConfig(vocab_size=len(causal), **SMALL)), causal),
    }
    for name, parts in models.items():
        for part in parts:
            part.save_pretrained(folder / name)
    return folder


# recipe -> what fails, in which of its calls, its settings, what is kept
RECIPES = {
    "pretrain_causal_lm": (
        "measure_perplexity",
        2,
        TEXT | {"corpus": "texts", "model_type": "lineage_lstm", "config_overrides": json.dumps(SMALL)},
        {"train_curve", "validation"},
    ),
    "pretrain_bert": (
        "pipeline",
        1,
        TEXT
        | {"corpus": "documents", "model_type": "lineage_bert", "config_overrides": json.dumps(ATTENTION)}
        | {"block_size": 24, "sample_by": "paragraph", "duplicates": 1},
        {"train_curve", "validation", "test"},
    ),
    "pretrain_bilm": (
        "measure_bilm_perplexity",
        2,
        TEXT | {"corpus": "texts", "model_type": "lineage_elmo", "config_overrides": json.dumps(ELMO)},
        {"trained_tokens", "validation"},
    ),
    "pretrain_translation": (
        "plot_bleu_by_length",
        1,
        TRAINING
        | {"corpus": "pairs", "model_type": "lineage_seq2seq", "tokenizer_kind": "word_level", "min_frequency": 1}
        | {"config_overrides": json.dumps({"embedding_size": 8, "hidden_size": 8}), "tokens_per_update": 256}
        | {"eval_strategy": "no", "generation_max_length": 4, "generation_num_beams": 1},
        {"train_curve", "test", "bleu_by_length"},
    ),
    "pretrain_word2vec": (
        "measure_word_similarity",
        1,
        TRAINING
        | {"corpus": "texts", "model_type": "lineage_word2vec", "config_overrides": '{"hidden_size": 8}'}
        | {"similarities": "similarities.tsv", "backend": "torch", "min_count": 1},
        {"words", "losses"},
    ),
    "finetune_classification": (
        "score_classification",
        2,
        TRAINING | {"dataset": "labels", "model_name_or_path": "bert", "eval_strategy": "no"},
        {"seed", "validation"},
    ),
    "train_on_elmo": (
        "score_tags",
        2,
        TRAINING
        | {"dataset": "tags", "label_field": "upos", "model_name_or_path": "elmo", "eval_strategy": "no"}
        | {"config_overrides": json.dumps(TASK)},
        {"mixes", "validation"},
    ),
}
# these train nothing, or no model that is kept
WITHOUT_MODEL = {
    "probe_layers": ("plot", 1, {"models": "bert", "dataset": "tags", "seeds": "0"}, {"bert"}),
    "evaluate_minimal_pairs": ("plot", 1, {"models": "lstm", "pairs": "minimal.jsonl"}, {"lstm"}),
    "long_dependencies": (
        "recall",
        2,
        {"gaps": "2", "longest_gap": 4, "updates": 1, "hidden_size": 8, "seeds": 1},
        {"RNN"},
    ),
    "evaluate_language_model": (
        "perplexity_of",
        8,
        {"model_name_or_path": "lstm", "corpus": "texts", "ngram_order": 2},
        {"LSTMForCausalLM", "interpolated trigram"},
    ),
}


# the predictions of their second split fail
FINE_TUNING = {
    "finetune_tagging": {"dataset": "tags", "label_field": "upos"},
    "finetune_multiple_choice": {"dataset": "choices"},
    "finetune_question_answering": {"dataset": "questions", "max_length": 32, "stride": 8, "max_question_length": 4},
}
FLAGS_OF_ALL = {"probe_layers", "long_dependencies", "evaluate_language_model", *RECIPES, *FINE_TUNING}


class Broken(Exception):
    pass


def run(folder, recipe, settings, output_dir, monkeypatch, failing=None, call=1):
    """Calls the script in this process; `failing`, a name of its module, breaks at the given call."""
    script = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"))
    names = script["main"].__globals__
    if failing:
        function, calls = names[failing], []

        def broken(*args, **kwargs):
            calls.append(args)
            if len(calls) == call:
                raise Broken(failing)
            return function(*args, **kwargs)

        monkeypatch.setitem(names, failing, broken)
    settings = settings | {"output_dir": output_dir}
    if recipe in FLAGS_OF_ALL:
        settings |= {"disable_tqdm": True}
    paths = {path.name for path in folder.iterdir()}
    flags = [f"--{name}={folder / value if value in paths else value}" for name, value in settings.items()]
    monkeypatch.setattr("sys.argv", [f"{recipe}.py", *flags])
    script["main"]()


@pytest.mark.parametrize("recipe", [*RECIPES, *WITHOUT_MODEL])
def test_what_was_measured_is_kept(folder, tmp_path, monkeypatch, recipe):
    failing, call, settings, kept = (RECIPES | WITHOUT_MODEL)[recipe]
    with pytest.raises(Broken) as raised:
        run(folder, recipe, settings, tmp_path, monkeypatch, failing, call)
    file = tmp_path / ("evaluation.json" if recipe == "evaluate_language_model" else "results.json")
    results = json.loads(file.read_text())
    assert kept <= {Path(name).name for name in results}
    note = "\n".join(raised.value.__notes__)
    assert str(file) in note
    assert all(name in note for name in kept)
    if recipe in RECIPES:
        assert "test" not in results or failing in ("pipeline", "plot_bleu_by_length")
        assert f"the model in {tmp_path}" in note
        AutoModel.from_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("recipe", FINE_TUNING)
def test_what_fine_tuning_measured_is_kept(folder, tmp_path, monkeypatch, recipe):
    """The predictions of the second split, test, fail."""
    settings = TRAINING | FINE_TUNING[recipe] | {"model_name_or_path": "bert", "eval_strategy": "no"}
    predict, calls = LineageTrainer.predict, []

    def broken(self, *args, **kwargs):
        calls.append(kwargs)
        if len(calls) == 2:
            raise Broken
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(LineageTrainer, "predict", broken)
    with pytest.raises(Broken) as raised:
        run(folder, recipe, settings, tmp_path, monkeypatch)
    results = json.loads((tmp_path / "results.json").read_text())
    assert "validation" in results
    assert "test" not in results
    note = "\n".join(raised.value.__notes__)
    assert str(tmp_path / "results.json") in note
    assert f"the model in {tmp_path}" in note
    AutoModel.from_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path)


def test_the_lineage_s_numbers_are_kept(tmp_path, monkeypatch):
    """Its stations run in processes of their own; here only the page fails."""
    script = runpy.run_path(str(ROOT / "recipes" / "lineage.py"))
    names = script["main"].__globals__
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "train.txt").write_text("a b c\nd e f\ng h i\n")

    def broken(*args):
        raise Broken

    monkeypatch.setitem(names, "train", lambda name, args: 1.0)
    monkeypatch.setitem(names, "describe", lambda name, args: {"model": name, "result": "x"})
    monkeypatch.setitem(names, "tables_of", broken)
    flags = [f"--output_dir={tmp_path / 'out'}", f"--corpus={corpus}", "--vocab_size=30", "--stations", "nnlm"]
    monkeypatch.setattr("sys.argv", ["lineage.py", *flags])
    with pytest.raises(Broken):
        script["main"]()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["nnlm"]["model"] == "nnlm"


def test_an_evaluation_that_fails_in_training_leaves_a_checkpoint(folder, tmp_path, monkeypatch):
    """It holds the last update, which no other checkpoint has; the same command continues from it."""
    settings = TRAINING | {"dataset": "labels", "model_name_or_path": "bert", "eval_strategy": "epoch"}
    # 12 rows: an epoch ends with the last update
    settings |= {"per_device_train_batch_size": 12}
    with pytest.raises(Broken) as raised:
        run(folder, "finetune_classification", settings, tmp_path, monkeypatch, "score_classification", 1)
    checkpoint = last_complete_checkpoint(tmp_path)
    assert checkpoint in "\n".join(raised.value.__notes__)
    assert AutoModel.from_pretrained(checkpoint).config.model_type == "lineage_bert"
    monkeypatch.setattr(LineageTrainer, "training_step", None)
    run(folder, "finetune_classification", settings, tmp_path, monkeypatch)
    assert {"validation", "test"} <= set(json.loads((tmp_path / "results.json").read_text()))
