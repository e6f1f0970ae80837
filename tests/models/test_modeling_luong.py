"""Luong's encoder-decoder: the common tests, the paper's equations in numpy, and its earlier checkpoints."""

import itertools
import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_lineage import (
    LuongConfig,
    LuongForConditionalGeneration,
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
)
from hf_lineage.models import plain_equations
from tests.models.attention_by_hand import AttentionalTests, Numbers, check_by_hand, sigmoid, softmax
from tests.models.common_seq2seq import HEAD
from tests.models.test_modeling_seq2seq import Variant


LUONG = {
    "vocab_size": 60,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "cell": "lstm",
    "initializer_range": 0.7,
    "dropout": 0.0,
}
ATTENTIONS = ["dot", "general", "concat", "location"]
WINDOWS = ["global", "local-m", "local-p"]


class LuongTests(AttentionalTests):
    config_class = LuongConfig


class TestLuong(LuongTests):
    """General score, global, with input feeding."""

    tiny = LUONG
    num_reference_models = 25


@pytest.mark.slow
class TestLuongAtOnce(Variant, LuongTests):
    """Without input feeding, over two directions and a bridge."""

    tiny = {
        **LUONG,
        "input_feeding": False,
        "bidirectional": True,
        "reverse_source": False,
        "bridge": "dense",
        "cell": "gru",
    }


@pytest.mark.slow
class TestLuongConcat(Variant, LuongTests):
    tiny = {
        **LUONG,
        "attention": "concat",
        "attention_bias": True,
        "coverage": True,
        "num_hidden_layers": 1,
        "attention_size": 10,
    }


@pytest.mark.slow
class TestLuongDotLocalM(Variant, LuongTests):
    tiny = {**LUONG, "attention": "dot", "attention_window": "local-m", "window_size": 2, "input_feeding": False}

    def test_attentions(self, head):
        pytest.skip("a window need not hold a word: test_luong_is_the_papers_equations")

    def test_logits_see_the_whole_source_and_no_padding(self, side):
        pytest.skip("only the window and the first state are seen")


@pytest.mark.slow
class TestLuongLocalP(Variant, LuongTests):
    tiny = {**LUONG, "attention_window": "local-p", "window_size": 2, "num_hidden_layers": 1}

    def test_attentions(self, head):
        pytest.skip("the Gaussian's weights do not add up to 1: test_luong_is_the_papers_equations")


@pytest.mark.slow
class TestLuongLocation(Variant, LuongTests):
    tiny = {**LUONG, "attention": "location", "max_source_length": 9, "num_hidden_layers": 1, "input_feeding": False}

    def test_longer_sources_are_named(self):
        model = self.model(HEAD)
        ids = torch.ones(2, 12).long()
        with pytest.raises(ValueError, match="9 .*max_source_length.* 12"):
            model(ids, labels=ids)
        mask = (torch.arange(12) < 9).long().expand(2, 12)
        assert_close(model(ids, mask, labels=ids).logits, model(ids[:, :9], labels=ids).logits)


def luong_by_hand(model, source, target):
    """Logits [T, V] and weights [T, S] of one sentence (sections 3.1 to 3.3; coverage: See et al., equation 11)."""
    p, config = Numbers(model), model.config
    E, N = p("model.encoder.embed_tokens.weight"), config.num_hidden_layers
    states, h_bar = [(np.zeros(16), np.zeros(16))] * N, []
    for word in source[::-1]:
        x = E[word]
        for i in range(N):
            states[i] = p.lstm(f"model.encoder.layers.{i}.cell", x, states[i])
            x = states[i][0]
        h_bar.append(x)
    h_bar, S, covered = h_bar[::-1], len(source), np.zeros(len(source))

    D, h_tilde, logits, weights = "model.decoder.", np.zeros(16), [], []
    for t, word in enumerate(target):
        x = p(f"{D}embed_tokens.weight")[word]
        if config.input_feeding:
            x = np.concatenate([x, h_tilde])
        for i in range(N):
            states[i] = p.lstm(f"{D}layers.{i}.cell", x, states[i])
            x = states[i][0]
        h_t, A = x, f"{D}alignment."
        if config.attention == "dot":
            score = [h_t @ h for h in h_bar]
        elif config.attention == "general":
            score = [h_t @ p(f"{A}weight_key") @ h for h in h_bar]
        elif config.attention == "concat":
            W = np.concatenate([p(f"{A}weight_query"), p(f"{A}weight_key")], axis=1)
            w_c = p(f"{A}weight_coverage") if config.coverage else np.zeros(len(W))
            b = p(f"{A}bias") if config.attention_bias else 0
            score = [
                p(f"{A}energy") @ np.tanh(W @ np.concatenate([h_t, h]) + b + w_c * n)
                for h, n in zip(h_bar, covered, strict=True)
            ]
        else:
            score = list((p(f"{A}weight_query") @ h_t)[:S])
        centre, inside, gauss = None, [True] * S, np.ones(S)
        if config.attention_window == "local-m":
            centre = t
        if config.attention_window == "local-p":
            centre = S * sigmoid(p(f"{A}energy_position") @ np.tanh(p(f"{A}weight_position") @ h_t))
            sigma = config.window_size / 2
            gauss = np.array([np.exp(-((s - centre) ** 2) / (2 * sigma**2)) for s in range(S)])
        if centre is not None:
            inside = [abs(s - centre) <= config.window_size for s in range(S)]
        alpha = np.zeros(S)
        if any(inside):
            alpha[inside] = softmax(np.array([a for a, i in zip(score, inside, strict=True) if i]))
        alpha = alpha * gauss
        covered = covered + alpha
        c_t = sum(a * h for a, h in zip(alpha, h_bar, strict=True))
        W_c = np.concatenate([p(f"{D}from_context.weight"), p(f"{D}from_state.weight")], axis=1)
        h_tilde = W_c @ np.concatenate([c_t, h_t]) + (p(f"{D}from_state.bias") if config.answer_bias else 0)
        h_tilde = h_tilde if config.answer_act == "linear" else np.tanh(h_tilde)
        logits.append(p("lm_head.weight") @ h_tilde)
        weights.append(alpha)
    return np.array(logits), np.array(weights)


@pytest.mark.parametrize(
    ("attention", "window", "feeding"),
    list(itertools.product(ATTENTIONS, WINDOWS, [False, True])),
)
def test_luong_is_the_papers_equations(attention, window, feeding):
    changes = {"attention": attention, "attention_window": window, "input_feeding": feeding, "window_size": 2}
    config = LuongConfig(**LUONG | changes)
    check_by_hand(LuongForConditionalGeneration(config).double(), luong_by_hand)


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_coverage_in_luongs_form_is_equation_11(window, feeding):
    changes = {"attention": "concat", "attention_window": window, "window_size": 2, "input_feeding": feeding}
    model = LuongForConditionalGeneration(LuongConfig(**LUONG | changes, coverage=True)).double()
    check_by_hand(model, luong_by_hand)
    # it is not too little to be seen
    source = torch.randint(60, (1, 6))
    with torch.no_grad():
        before = model(source, decoder_input_ids=source).logits
        model.model.decoder.alignment.weight_coverage.zero_()
        assert (model(source, decoder_input_ids=source).logits - before).abs().max() > 1e-3


@pytest.mark.parametrize("coverage", [False, True])
@pytest.mark.parametrize("feeding", [False, True])
def test_opennmts_additive_attention(feeding, coverage):
    """v·tanh(W [s; h] + b) and answers W [c; s] + b, by all paths."""
    changes = {"attention": "concat", "attention_bias": True, "answer_bias": True, "answer_act": "linear"}
    config = LuongConfig(**LUONG | changes, input_feeding=feeding, coverage=coverage)
    model = LuongForConditionalGeneration(config).double()
    check_by_hand(model, luong_by_hand)
    with plain_equations():
        check_by_hand(model, luong_by_hand)


def test_luong_has_the_papers_matrices():
    """Section 4.1: four layers of 1,000 cells, 50,000 words; the first decoder layer reads 2,000 numbers."""
    with torch.device("meta"):
        model = LuongForConditionalGeneration(LuongConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["model.decoder.layers.0.cell.weight_ih"] == (4_000, 2_000)
    assert shapes["model.decoder.alignment.weight_key"] == (1_000, 1_000)
    assert shapes["lm_head.weight"] == (50_000, 1_000)
    assert sum(".layers." in name and name.endswith("weight_hh") for name in shapes) == 8


def old_form(config) -> dict:
    """config.json of Luong's form before it had a configuration of its own."""
    return config.to_dict() | {
        "model_type": "lineage_rnnsearch",
        "architectures": ["RNNSearchForConditionalGeneration"],
    }


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_checkpoints_of_the_old_form_open(tmp_path, attention):
    """By the Auto classes and the old configuration; the old model class says what to use."""
    model = LuongForConditionalGeneration(LuongConfig(**LUONG | {"attention": attention})).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(old_form(model.config)), encoding="utf-8")
    opened = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(opened) is LuongForConditionalGeneration
    ids = torch.randint(60, (2, 5))
    assert_close(opened(ids, labels=ids).logits, model(ids, labels=ids).logits)
    config, unused = RNNSearchConfig.from_pretrained(tmp_path, vocab_size=50, other=1, return_unused_kwargs=True)
    assert (type(config), config.vocab_size, unused) == (LuongConfig, 50, {"other": 1})
    with pytest.raises(ValueError, match=r"LuongConfig.*AutoModelForSeq2SeqLM"):
        RNNSearchForConditionalGeneration.from_pretrained(tmp_path)


def test_what_the_old_form_left_out_has_its_old_value():
    config = RNNSearchConfig.from_dict(
        {"attention": "general", "readout_size": None, "bridge": "dense", "hidden_size": 8}
    )
    assert (config.cell, config.embedding_size, config.input_feeding, config.dropout) == ("gru", 620, False, 0.0)
    # what it did not leave out may be what RNNsearch has
    assert (
        RNNSearchConfig.from_dict({"attention": "additive", "window_size": 4}).to_dict() == RNNSearchConfig().to_dict()
    )


def test_the_old_name_of_the_configuration():
    with pytest.warns(DeprecationWarning, match="LuongConfig"):
        assert RNNSearchConfig.luong(hidden_size=8).to_dict() == LuongConfig(hidden_size=8).to_dict()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"readout_size": 9}, "readout_size is 9.*RNNSearchConfig"),
        ({"coverage": True}, 'coverage needs.*"general"'),
        ({"attention_bias": True}, 'attention_bias needs.*"general"'),
        ({"answer_act": "relu"}, "answer_act"),
        ({"attention": "dot", "bidirectional": True, "bridge": "dense"}, "32 and 16"),
        ({"attention": "additive"}, "attention"),
        ({"window_size": 0}, "window_size is 0"),
        ({"attention": "concat", "coverage_loss_weight": 0.5}, "coverage_loss_weight is 0.5.*coverage=True"),
    ],
)
def test_bad_settings_are_named(changes, named):
    with pytest.raises(StrictDataclassError, match=f"(?s){named}"):
        LuongConfig(**LUONG | changes)
