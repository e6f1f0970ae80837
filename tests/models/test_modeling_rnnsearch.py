"""RNNsearch and Luong's family: the common tests, and the papers' equations written out in numpy."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_lineage import RNNSearchConfig, RNNSearchForConditionalGeneration, Seq2SeqConfig
from hf_lineage.models.cache_argument import CACHE_FIELD, cache_of
from tests.models.common import Distribution, normal
from tests.models.common_seq2seq import HEAD
from tests.models.test_modeling_seq2seq import RecurrentSeq2SeqTests, Variant


CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"
BAHDANAU = {
    "vocab_size": 60,
    "embedding_size": 12,
    "hidden_size": 16,
    "attention_size": 10,
    "readout_size": 14,
    "initializer_range": 0.7,
}
LUONG = {
    "vocab_size": 60,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "cell": "lstm",
    "bidirectional": False,
    "reverse_source": True,
    "bridge": "copy",
    "readout_size": None,
    "initialization": "uniform",
    "initializer_range": 0.7,
    "attention": "general",
    "input_feeding": True,
}
ATTENTIONS = ["dot", "general", "concat", "location"]
WINDOWS = ["global", "local-m", "local-p"]


class RNNSearchTests(RecurrentSeq2SeqTests):
    config_class = RNNSearchConfig

    def initialization(self, name, config):
        if config.initialization == "orthogonal" and ".alignment." in name:
            # the paper's B.1: v is zero, W and U a tenth of the others
            return Distribution(0.0, 0.0, 0.0) if "energy" in name else normal(config.initializer_range / 10)
        return super().initialization(name, config)


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


class TestLuong(RNNSearchTests):
    """General score, global, with input feeding."""

    tiny = LUONG
    num_reference_models = 25


@pytest.mark.slow
class TestLuongAtOnce(Variant, RNNSearchTests):
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
class TestLuongConcat(Variant, RNNSearchTests):
    tiny = {**LUONG, "attention": "concat", "coverage": True, "num_hidden_layers": 1, "attention_size": 10}


@pytest.mark.slow
class TestLuongDotLocalM(Variant, RNNSearchTests):
    tiny = {**LUONG, "attention": "dot", "attention_window": "local-m", "window_size": 2, "input_feeding": False}

    def test_attentions(self, head):
        pytest.skip("a window need not hold a word: test_luong_is_the_papers_equations")

    def test_logits_see_the_whole_source_and_no_padding(self, side):
        pytest.skip("only the window and the first state are seen")


@pytest.mark.slow
class TestLuongLocalP(Variant, RNNSearchTests):
    tiny = {**LUONG, "attention_window": "local-p", "window_size": 2, "num_hidden_layers": 1}

    def test_attentions(self, head):
        pytest.skip("the Gaussian's weights do not add up to 1: test_luong_is_the_papers_equations")


@pytest.mark.slow
class TestLuongLocation(Variant, RNNSearchTests):
    tiny = {**LUONG, "attention": "location", "max_source_length": 9, "num_hidden_layers": 1, "input_feeding": False}

    def test_longer_sources_are_named(self):
        model = self.model(HEAD)
        ids = torch.ones(2, 12).long()
        with pytest.raises(ValueError, match=r"9 source words \(max_source_length\), not for 12"):
            model(ids, labels=ids)
        mask = (torch.arange(12) < 9).long().expand(2, 12)
        assert_close(model(ids, mask, labels=ids).logits, model(ids[:, :9], labels=ids).logits)


# the papers' equations, in numpy and double precision


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


class Numbers:
    """A model's parameters by name, as float64 arrays."""

    def __init__(self, model):
        self.arrays = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}

    def __call__(self, name):
        return self.arrays[name]

    def gru(self, cell, x, h):
        """h_t = (1 − z) ⊙ h_{t−1} + z ⊙ h̃ with the reset gate before the product (Bahdanau et al., A.1.1)."""
        W, U, b = (np.split(self(f"{cell}.{name}"), 3) for name in ("weight_ih", "weight_hh", "bias"))
        r, z = (sigmoid(W[i] @ x + U[i] @ h + b[i]) for i in range(2))
        candidate = np.tanh(W[2] @ x + U[2] @ (r * h) + b[2])
        return (1 - z) * h + z * candidate

    def lstm(self, cell, x, state):
        h, c = state
        gates = self(f"{cell}.weight_ih") @ x + self(f"{cell}.weight_hh") @ h + self(f"{cell}.bias")
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c


def bahdanau_by_hand(model, source, target, coverage=False):
    """Logits [T, V] and weights [T, S] of one sentence (appendix A)."""
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
        alpha = softmax(
            np.array([v_a @ np.tanh(W_a @ s + U_a @ h_j + w_c * n) for h_j, n in zip(h, covered, strict=True)])
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
            score = [
                p(f"{A}energy") @ np.tanh(W @ np.concatenate([h_t, h]) + w_c * n)
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
        h_tilde = np.tanh(W_c @ np.concatenate([c_t, h_t]))
        logits.append(p("lm_head.weight") @ h_tilde)
        weights.append(alpha)
    return np.array(logits), np.array(weights)


@torch.no_grad()
def check_by_hand(model, by_hand):
    """The model on batches padded on either side, at once and word by word, against each sentence by hand."""
    source, target, lengths = torch.randint(60, (3, 6)), torch.randint(60, (3, 8)), torch.tensor([[6], [3], [1]])
    for mask in (torch.arange(6) < lengths, torch.arange(6) >= 6 - lengths):
        inputs = {"attention_mask": mask.long(), "output_attentions": True}
        whole = model(source, decoder_input_ids=target, use_cache=False, **inputs)
        found = {"at once": (whole.logits, whole.cross_attentions[0])}
        steps, cache = [], None
        for word in target.split(1, dim=1):
            step = model(source, decoder_input_ids=word, use_cache=True, **{CACHE_FIELD: cache}, **inputs)
            cache = cache_of(step)
            steps.append((step.logits, step.cross_attentions[0]))
        found["word by word"] = tuple(torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        for row, is_word in enumerate(mask):
            logits, weights = by_hand(model, source[row, is_word].tolist(), target[row].tolist())
            for found_logits, found_weights in found.values():
                assert_close(found_logits[row], torch.tensor(logits), rtol=1e-9, atol=1e-9)
                assert_close(found_weights[row][:, is_word], torch.tensor(weights), rtol=1e-9, atol=1e-9)
                assert (found_weights[row][:, ~is_word] == 0).all()


@pytest.mark.parametrize("coverage", [False, True])
def test_bahdanau_is_the_papers_equations(coverage):
    config = RNNSearchConfig(**BAHDANAU, coverage=coverage)
    model = RNNSearchForConditionalGeneration(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    check_by_hand(model, lambda *arguments: bahdanau_by_hand(*arguments, coverage=coverage))


@pytest.mark.parametrize(
    ("attention", "window", "feeding"),
    list(itertools.product(ATTENTIONS, WINDOWS, [False, True])),
)
def test_luong_is_the_papers_equations(attention, window, feeding):
    changes = {"attention": attention, "attention_window": window, "input_feeding": feeding, "window_size": 2}
    config = RNNSearchConfig(**LUONG | changes)
    check_by_hand(RNNSearchForConditionalGeneration(config).double(), luong_by_hand)


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_coverage_in_luongs_form_is_equation_11(window, feeding):
    changes = {"attention": "concat", "attention_window": window, "window_size": 2, "input_feeding": feeding}
    model = RNNSearchForConditionalGeneration(RNNSearchConfig(**LUONG | changes, coverage=True)).double()
    check_by_hand(model, luong_by_hand)
    # it is not too little to be seen
    source = torch.randint(60, (1, 6))
    with torch.no_grad():
        before = model(source, decoder_input_ids=source).logits
        model.model.decoder.alignment.weight_coverage.zero_()
        assert (model(source, decoder_input_ids=source).logits - before).abs().max() > 1e-3


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


def test_luong_has_the_papers_matrices():
    """Section 4.1: four layers of 1,000 cells, 50,000 words; the first decoder layer reads 2,000 numbers."""
    with torch.device("meta"):
        model = RNNSearchForConditionalGeneration(RNNSearchConfig.luong())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["model.decoder.layers.0.cell.weight_ih"] == (4_000, 2_000)
    assert shapes["model.decoder.alignment.weight_key"] == (1_000, 1_000)
    assert shapes["lm_head.weight"] == (50_000, 1_000)
    assert sum(".layers." in name and name.endswith("weight_hh") for name in shapes) == 8


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("sutskever2014", Seq2SeqConfig.sutskever(decoder_vocab_size=160_000)),
        ("cho2014", Seq2SeqConfig.cho()),
        ("bahdanau2015", RNNSearchConfig()),
        ("luong2015", RNNSearchConfig.luong()),
    ],
)
def test_presets_are_the_papers(preset, expected):
    """The recipe's one vocabulary aside, which serves both languages."""
    settings = yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text(encoding="utf-8"))
    sizes = {"vocab_size": settings["vocab_size"], **settings["config_overrides"]}
    assert AutoConfig.for_model(settings["model_type"], **sizes).to_dict() == expected.to_dict()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_of_recurrent_encoder_decoders_fit(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if settings.get("model_type") not in (Seq2SeqConfig.model_type, RNNSearchConfig.model_type):
        pytest.skip("another station's")
    config = AutoConfig.for_model(settings["model_type"], vocab_size=50, **settings["config_overrides"])
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)
    # misspelt fields would only become attributes
    assert set(settings["config_overrides"]) <= {field.name for field in dataclasses.fields(config)}
    assert model.config.is_encoder_decoder


@pytest.mark.parametrize(
    ("sizes", "changes", "message"),
    [
        (BAHDANAU, {"readout_size": None}, "readout_size and one decoder layer.*not None"),
        (BAHDANAU, {"decoder_layers": 2}, "one decoder layer.*not 14 and 2"),
        (BAHDANAU, {"input_feeding": True}, "without input feeding"),
        (BAHDANAU, {"attention_window": "local-m"}, 'not "local-m"'),
        (BAHDANAU, {"coverage_loss_weight": 0.5}, "coverage_loss_weight is 0.5.*coverage=True"),
        (LUONG, {"readout_size": 9}, 'readout_size 9.*attention="general"'),
        (LUONG, {"coverage": True}, 'coverage needs.*not "general"'),
        (LUONG, {"attention": "dot", "bidirectional": True, "bridge": "dense"}, "not 32 and 16"),
        (LUONG, {"window_size": 0}, "window_size is 0"),
    ],
)
def test_bad_settings_are_named(sizes, changes, message):
    with pytest.raises(StrictDataclassError, match=f"(?s){message}"):
        RNNSearchConfig(**sizes | changes)
