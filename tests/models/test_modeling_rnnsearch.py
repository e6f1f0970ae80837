"""RNNsearch: the common tests, and the paper's equations written out in numpy."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close

from hf_lineage import RNNSearchConfig, RNNSearchForConditionalGeneration
from tests.models.attention_by_hand import AttentionalTests, Numbers, check_by_hand, softmax
from tests.models.common_seq2seq import HEAD
from tests.models.test_modeling_seq2seq import Variant


BAHDANAU = {
    "vocab_size": 60,
    "embedding_size": 12,
    "hidden_size": 16,
    "attention_size": 10,
    "readout_size": 14,
    "initializer_range": 0.7,
}


class RNNSearchTests(AttentionalTests):
    config_class = RNNSearchConfig


class TestBahdanau(RNNSearchTests):
    tiny = BAHDANAU
    no_tying = "a readout of another length than the embeddings"
    num_reference_models = 25


@pytest.mark.slow
class TestBahdanauWithCoverage(Variant, RNNSearchTests):
    """Coverage, its loss, and matrices of low rank."""

    tiny = {
        **BAHDANAU,
        "num_hidden_layers": 2,
        "coverage": True,
        "coverage_loss_weight": 0.5,
        "output_rank": 12,
        "cell": "lstm",
        "initialization": "uniform",
    }

    def test_padded_targets_change_nothing(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        ids, labels = inputs["input_ids"], inputs["decoder_input_ids"]
        padded = torch.cat([labels, torch.full((4, 3), -100)], dim=1)
        assert_close(model(ids, labels=padded).loss, model(ids, labels=labels).loss)


def bahdanau_by_hand(model, source, target, coverage=False, bias=False):
    """Logits [T, V] and weights [T, S] of one sentence (appendix A; with OpenNMT-py's bias)."""
    p = Numbers(model)
    E = p("model.encoder.embed_tokens.weight")
    forwards, backwards = [np.zeros(16)], [np.zeros(16)]
    for word in source:
        forwards.append(p.gru("model.encoder.layers.0.cell", E[word], forwards[-1]))
    for word in source[::-1]:
        backwards.append(p.gru("model.encoder.layers.0.backward_cell", E[word], backwards[-1]))
    h = [np.concatenate([f, b]) for f, b in zip(forwards[1:], backwards[:0:-1], strict=True)]

    D = "model.decoder."
    s = np.tanh(p(f"{D}bridge.dense.weight") @ backwards[-1] + p(f"{D}bridge.dense.bias"))
    W_a, U_a, v_a = (p(f"{D}alignment.{name}") for name in ("weight_query", "weight_key", "energy"))
    covered = np.zeros(len(source))
    logits, weights = [], []
    for word in target:
        y = p(f"{D}embed_tokens.weight")[word]
        w_c = p(f"{D}alignment.weight_coverage") if coverage else 0
        b_a = p(f"{D}alignment.bias") if bias else 0
        alpha = softmax(
            np.array([v_a @ np.tanh(W_a @ s + U_a @ h_j + b_a + w_c * n) for h_j, n in zip(h, covered, strict=True)])
        )
        covered = covered + alpha
        c = sum(a * h_j for a, h_j in zip(alpha, h, strict=True))
        t = p(f"{D}readout.from_state.weight") @ s + p(f"{D}readout.from_state.bias")
        t = t + p(f"{D}readout.from_word.weight") @ y + p(f"{D}readout.from_context.weight") @ c
        t = np.array([max(t[2 * k], t[2 * k + 1]) for k in range(len(t) // 2)])
        logits.append(p("lm_head.weight") @ t)
        weights.append(alpha)
        s = p.gru(f"{D}layers.0.cell", np.concatenate([y, c]), s)
    return np.array(logits), np.array(weights)


@pytest.mark.parametrize(("coverage", "bias"), [(False, False), (True, False), (False, True)])
def test_bahdanau_is_the_papers_equations(coverage, bias):
    config = RNNSearchConfig(**BAHDANAU, coverage=coverage, attention_bias=bias)
    model = RNNSearchForConditionalGeneration(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    check_by_hand(model, lambda *arguments: bahdanau_by_hand(*arguments, coverage=coverage, bias=bias))


def test_coverage_loss_is_equation_12():
    """λ · Σ_t Σ_s min(a_t(s), Σ_{t' < t} a_t'(s)), a mean over the scored tokens like the rest of the loss."""
    config = RNNSearchConfig(**BAHDANAU, coverage=True, coverage_loss_weight=0.5)
    model = RNNSearchForConditionalGeneration(config)
    ids, labels = torch.randint(60, (3, 6)), torch.randint(60, (3, 5))
    labels[1, 3:] = -100
    outputs = model(ids, labels=labels, output_attentions=True)
    plain = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    expected, weights = 0.0, outputs.cross_attentions[0]
    for row in range(3):
        covered = torch.zeros(6)
        for t in range(5):
            if labels[row, t] != -100:
                expected += torch.minimum(weights[row, t], covered).sum().item()
            covered = covered + weights[row, t]
    assert outputs.loss.item() == pytest.approx(plain.item() + 0.5 * expected / 13, abs=1e-5)
    part = model(ids, labels=labels, num_items_in_batch=26).loss
    assert_close(part, outputs.loss / 2)
    assert model(ids, labels=labels).cross_attentions is None
    model.config.output_attentions = True
    assert_close(model(ids, labels=labels).cross_attentions[0], weights)
    assert model(ids, labels=labels, output_attentions=False).cross_attentions is None
    # evaluation gives the likelihood alone
    outputs = model.eval()(ids, labels=labels)
    assert outputs.loss.item() == pytest.approx(plain.item(), abs=1e-6)
    assert_close(outputs.cross_attentions[0], weights)


def test_coverage_of_steps_that_are_padding_is_none():
    model = RNNSearchForConditionalGeneration(RNNSearchConfig(**BAHDANAU, coverage=True, coverage_loss_weight=0.5))
    ids, labels = torch.randint(60, (2, 6)), torch.randint(60, (2, 5))
    decoder_ids = model.prepare_decoder_input_ids_from_labels(labels)
    expected = model(ids, labels=labels).loss
    labels, decoder_ids, mask = (
        torch.cat([torch.full((2, 2), value), part], dim=1)
        for value, part in ((-100, labels), (0, decoder_ids), (0, torch.ones(2, 5, dtype=torch.long)))
    )
    found = model(ids, decoder_input_ids=decoder_ids, decoder_attention_mask=mask, labels=labels).loss
    assert_close(found, expected)


def test_bahdanau_has_the_papers_matrices():
    """Appendix A.2.3 and B.1: n = 1000, m = 620, n' = 1000, l = 500, 30,000 words."""
    with torch.device("meta"):
        model = RNNSearchForConditionalGeneration(RNNSearchConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["model.encoder.embed_tokens.weight"] == (30_000, 620)
    assert shapes["model.encoder.layers.0.backward_cell.weight_hh"] == (3_000, 1_000)
    assert shapes["model.decoder.alignment.weight_key"] == (1_000, 2_000)
    assert shapes["model.decoder.layers.0.cell.weight_ih"] == (3_000, 620 + 2_000)
    assert shapes["model.decoder.readout.from_context.weight"] == (2 * 500, 2_000)
    assert shapes["lm_head.weight"] == (30_000, 500)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"readout_size": None}, "readout_size.*None"),
        ({"decoder_layers": 2}, "decoder layer.* 2"),
        ({"attention": "dot"}, "attention.*LuongConfig"),
        ({"input_feeding": True}, "input_feeding.*LuongConfig"),
        ({"attention_window": "local-m"}, "attention_window.*LuongConfig"),
        ({"attention_size": 0}, "attention_size is 0"),
        ({"coverage_loss_weight": 0.5}, "coverage_loss_weight is 0.5.*coverage=True"),
    ],
)
def test_bad_settings_are_named(changes, named):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){named}"):
        RNNSearchConfig(**BAHDANAU | changes)
