"""Tiny models of all stations, saved with their tokenizers as a user would have them."""

import shutil

import numpy as np
import pytest
import torch
from transformers import set_seed

import hf_lineage
from hf_lineage.lab import open_models
from hf_lineage.tokenization import (
    causal_tokenizer,
    elmo_tokenizer,
    train_word_level,
    train_wordpiece,
    translation_tokenizer,
)


SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


@pytest.fixture(scope="session")
def lab_texts(tiny_corpus):
    from hf_lineage.lab import examples

    sentences = [text for senses in examples.SENSES["bank"].values() for text in senses]
    pairs = [text for pairs in examples.MINIMAL_PAIRS.values() for pair in pairs for text in pair]
    groups = [" ".join(words) for words in examples.WORD_GROUPS.values()]
    orders = [text for pair in examples.WORD_ORDERS for text in pair]
    return [*tiny_corpus, examples.SENTENCES[0], examples.PASSAGES[0], examples.ATTENDED[0], *sentences, *pairs] + [
        *groups,
        *orders,
        examples.MASKED[0],
    ]


@pytest.fixture(scope="session")
def lab_folders(lab_texts, tmp_path_factory):
    """Station -> folder."""
    root = tmp_path_factory.mktemp("lab")
    pieces = train_wordpiece(lab_texts, vocab_size=400, min_frequency=1, show_progress=False)
    causal = causal_tokenizer(pieces, lab_texts)
    spaced = [text.replace(".", " .").replace(",", " ,") for text in lab_texts]
    words = train_word_level(spaced, show_progress=False, lowercase=True)
    marked = train_word_level(spaced, show_progress=False, special_tokens=SPECIAL)
    pairs = translation_tokenizer(train_word_level(spaced, show_progress=False))
    ids = {
        "bos_token_id": causal.bos_token_id,
        "eos_token_id": causal.eos_token_id,
        "pad_token_id": causal.pad_token_id,
    }
    of_pieces = {"vocab_size": len(causal), **ids}
    small = {"hidden_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "intermediate_size": 32}
    target = {
        "vocab_size": len(pairs),
        "decoder_start_token_id": pairs.bos_token_id,
        "bos_token_id": pairs.bos_token_id,
        "eos_token_id": pairs.eos_token_id,
        "pad_token_id": pairs.pad_token_id,
    }
    made = {
        "nnlm": (
            "NNLM",
            "ForCausalLM",
            {"embedding_size": 8, "hidden_size": 16, "context_size": 4, **of_pieces},
            causal,
        ),
        "word2vec": ("Word2Vec", "ForPreTraining", {"vocab_size": len(words), "hidden_size": 12}, words),
        "rnn": ("RNN", "ForCausalLM", {"embedding_size": 8, **small, **of_pieces}, causal),
        "lstm": ("LSTM", "ForCausalLM", {"embedding_size": 8, **small, **of_pieces}, causal),
        "gru": ("GRU", "ForCausalLM", {"embedding_size": 8, **small, **of_pieces}, causal),
        "seq2seq": ("Seq2Seq", "ForConditionalGeneration", {"embedding_size": 8, "hidden_size": 16, **target}, pairs),
        "rnnsearch": (
            "RNNSearch",
            "ForConditionalGeneration",
            {"embedding_size": 8, "hidden_size": 16, **target},
            pairs,
        ),
        "transformer": ("Transformer", "ForConditionalGeneration", {**small, **heads, **target}, pairs),
        "elmo": (
            "ELMo",
            "ForPreTraining",
            {"vocab_size": len(marked), "character_size": 4, "cnn_filters": [[1, 4], [2, 8]], "num_highway_layers": 1}
            | {"hidden_size": 16, "projection_size": 8, "output_layer": "softmax"},
            elmo_tokenizer(marked),
        ),
        "gpt": ("GPT", "ForCausalLM", {**small, **heads, "max_position_embeddings": 64, **of_pieces}, causal),
        "bert": (
            "BERT",
            "ForPreTraining",
            {**small, **heads, "max_position_embeddings": 64, "vocab_size": len(pieces)},
            pieces,
        ),
    }
    for name, (family, head, settings, tokenizer) in made.items():
        set_seed(3)
        config = getattr(hf_lineage, f"{family}Config")(**settings)
        model = getattr(hf_lineage, f"{family}{head}")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # sharper than at the start of training, so that numbers differ
                parameter.mul_(3) if parameter.dim() > 1 else None
        if name == "word2vec":
            model.set_word_counts(torch.from_numpy(np.arange(1, len(words) + 1)[::-1].copy()))
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {name: root / name for name in made}


@pytest.fixture(scope="session")
def lab_models(lab_folders):
    """Station -> opened model, with the names of the page."""
    models = open_models(lab_folders.values())
    return {model.config.model_type.removeprefix("lineage_"): model for model in models}


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium: that of playwright, or the system's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as running:
        try:
            opened = running.chromium.launch(executable_path=system, args=["--no-sandbox"] if system else [])
        except playwright.Error as error:
            pytest.skip(f"needs Chromium: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def serious_faults():
    """A function: page -> what axe finds serious or critical for readers by keyboard or by ear."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

    def faults(page) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        return [
            f"{one['id']}: {node['html']:.200} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    return faults
