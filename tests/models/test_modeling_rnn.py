"""RNN, LSTM and GRU: the common tests, in one direction and in both, and what only recurrent models have."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache

from hf_lineage import GRUConfig, LSTMConfig, RNNConfig
from hf_lineage.models.cache_argument import cache_of
from tests.models.common import ModelTests, assert_same_state, main_output, uniform
from tests.models.common_generation import HEAD, CausalLMTests


SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_labels": 3,
    "initializer_range": 0.7,
}


class RecurrentTests(CausalLMTests):
    """What the three families share."""

    tiny = SIZES
    no_attention = "recurrent models have no attention"

    def initialization(self, name, config):
        return uniform(config.initializer_range)

    def test_outputs_over_padding_are_zero(self, side):
        inputs, _ = self.padded(self.inputs("AutoModel"), [7, 5, 2, 0], side)
        output = main_output(self.model("AutoModel")(**inputs))
        assert output[inputs["attention_mask"] == 0].abs().sum() == 0

    def test_dropout_acts_between_the_layers_and_not_on_the_state(self):
        model, inputs = self.model("AutoModel", dropout=0.5).train(), self.inputs("AutoModel", batch=50)
        read, given = [], []
        for layer in model.layers:
            layer.register_forward_pre_hook(lambda layer, args: read.append(args[0]))
            layer.register_forward_hook(lambda layer, args, output: given.append(output[0]))
        last = model(**inputs).last_hidden_state
        sources = [model.embed_tokens(inputs["input_ids"]), *given]
        for source, dropped in zip(sources, [*read, last], strict=True):
            kept = (dropped != 0)[source != 0]
            assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)
            torch.testing.assert_close(dropped[dropped != 0], 2 * source[dropped != 0])
        # given its input, a layer is the same in training and without
        expected = list(given)
        for layer, layer_input, output in zip(model.eval().layers, list(read), expected, strict=True):
            torch.testing.assert_close(layer(layer_input)[0], output)

    def test_embeddings_of_another_length(self):
        model = self.model(HEAD, embedding_size=12)
        assert model.get_input_embeddings().weight.shape == (60, 12)
        assert model(**self.inputs(HEAD)).logits.shape == (4, 7, 60)
        with pytest.raises(StrictDataclassError, match=r"tie_word_embeddings[\s\S]*12 and 16"):
            self.config(embedding_size=12, tie_word_embeddings=True)

    def test_cache_of_another_batch_is_named(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        cache = cache_of(model(**inputs, use_cache=True))
        with pytest.raises(ValueError, match=r"cache.*\b4\b.*\b2\b"):
            model(inputs["input_ids"][:2], cache=cache)

    def test_cache_of_another_kind_is_named(self):
        with pytest.raises(ValueError, match=r"DynamicCache\(config=model\.config\)"):
            self.model(HEAD)(**self.inputs(HEAD), cache=DynamicCache())

    @pytest.mark.parametrize("length", [1, 7])
    def test_mask_of_each_query_is_refused(self, length):
        mask = torch.ones(4, 1, length, 7, dtype=torch.bool).tril(7 - length)
        for head in self.heads:
            with pytest.raises(
                ValueError, match=rf"attention_mask must have shape \[[48], 7\].*\[4, 1, {length}, 7\]"
            ):
                self.model(head)(**self.inputs(head), attention_mask=mask)

    @pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"prefill_chunk_size": 3}], ids=str)
    def test_generation_with_a_static_cache(self, options):
        model, prompts = self.model(HEAD), self.prompts()
        for length in (8, 3, 12):
            options = {**options, "max_new_tokens": length}
            expected = self.generate(model, prompts, **options)
            assert torch.equal(self.generate(model, prompts, cache_implementation="static", **options), expected)

    def test_assistant_is_refused(self):
        # guesses that turn out wrong cannot be taken back from a state
        model = self.model(HEAD)
        with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
            self.generate(model, self.inputs(HEAD, batch=1), assistant_model=self.model(HEAD, seed=1))


class TestRNN(RecurrentTests):
    config_class = RNNConfig


@pytest.mark.slow
class TestReLURNN(RecurrentTests):
    config_class = RNNConfig
    tiny = {**SIZES, "hidden_act": "relu", "initializer_range": 0.4}
    only_heads = [HEAD]


@pytest.mark.slow
class TestSigmoidRNN(RecurrentTests):
    """Mikolov's activation, which has no fused kernel."""

    config_class = RNNConfig
    tiny = {**SIZES, "hidden_act": "sigmoid"}
    only_heads = [HEAD]


class TestLSTM(RecurrentTests):
    config_class = LSTMConfig


class TestPeepholeLSTM(RecurrentTests):
    config_class = LSTMConfig
    tiny = {**SIZES, "peephole": "diagonal"}
    only_heads = [HEAD]


class TestProjectedLSTM(RecurrentTests):
    """States of two lengths, clips within reach, and the other variants on top."""

    config_class = LSTMConfig
    tiny = {
        **SIZES,
        "hidden_size": 20,
        "projection_size": 16,
        "cell_clip": 1.5,
        "projection_clip": 2.0,
        "peephole": "full",
        "coupled_gates": "input",
    }
    only_heads = [HEAD]

    def test_states_have_lengths_of_their_own(self):
        cache = cache_of(self.model(HEAD)(**self.inputs(HEAD), use_cache=True))
        assert [[tuple(s.shape) for s in layer.state()] for layer in cache.layers] == [[(4, 16), (4, 20)]] * 2


class TestAWDLSTM(RecurrentTests):
    """Merity et al. (2017): tied embeddings shorter than the layers, and everything that regularises."""

    config_class = LSTMConfig
    tiny = {
        **SIZES,
        "hidden_size": 24,
        "last_hidden_size": 16,
        "dropout_mask": "locked",
        "activation_penalty": 0.02,
        "change_penalty": 0.01,
    }
    only_heads = [HEAD]

    def test_dropout_acts_between_the_layers_and_not_on_the_state(self):
        pytest.skip("see test_locked_dropout_keeps_its_mask_over_time")

    def test_accumulated_gradients_are_those_of_the_whole_batch(self, trained_head, tmp_path):
        # every token scored: the penalties are means over tokens, whose weight in a part is its scored ones
        inputs = self.inputs(trained_head, batch=16)
        data = {**inputs, **self.labels(trained_head, inputs)}
        self.check_accumulation(lambda: self.model(trained_head), data, tmp_path)


class TestGRU(RecurrentTests):
    config_class = GRUConfig


class TestPublishedGRU(RecurrentTests):
    """The reset gate before the product, as in the paper and its code, which no kernel does."""

    config_class = GRUConfig
    tiny = {**SIZES, "reset_mode": "before", "update_convention": "replace"}
    only_heads = [HEAD]


class BidirectionalTests(ModelTests):
    """Both directions: no causal head, and nothing to carry over."""

    tiny = {**SIZES, "bidirectional": True}
    only_heads = ["AutoModel"]
    no_attention = RecurrentTests.no_attention
    initialization = RecurrentTests.initialization

    def expected_shape(self, head, config, batch, length):
        return (batch, length, 32) if head == "AutoModel" else super().expected_shape(head, config, batch, length)

    def test_causal_head_is_refused(self):
        with pytest.raises(ValueError, match="bidirectional=False"):
            AutoModelForCausalLM.from_config(self.config())

    def test_cache_is_refused(self):
        model, inputs = self.model("AutoModel"), self.inputs("AutoModel")
        with pytest.raises(ValueError, match="cache.*bidirectional"):
            model(**inputs, cache=DynamicCache(config=model.config))
        assert cache_of(model(**inputs, use_cache=True)) is None


@pytest.mark.slow
class TestBidirectionalRNN(BidirectionalTests):
    config_class = RNNConfig


class TestBidirectionalLSTM(BidirectionalTests):
    config_class = LSTMConfig
    only_heads = ["AutoModel", "AutoModelForSequenceClassification", "AutoModelForTokenClassification"]


@pytest.mark.slow
class TestBidirectionalProjectedLSTM(BidirectionalTests):
    config_class = LSTMConfig
    tiny = {**SIZES, "bidirectional": True, "projection_size": 16, "cell_clip": 2.0}
    only_heads = ["AutoModelForSequenceClassification"]


@pytest.mark.slow
class TestBidirectionalGRU(BidirectionalTests):
    config_class = GRUConfig


@pytest.mark.parametrize(
    ("fields", "gate", "sign"),
    [({}, 1, 1), ({"coupled_gates": "forget"}, 0, 1), ({"coupled_gates": "input"}, 0, -1)],
)
def test_forget_gate_bias(fields, gate, sign):
    """Jozefowicz et al. (2015): the forget gate starts open, and no other; a coupled input gate is its opposite."""
    model = AutoModelForCausalLM.from_config(LSTMConfig(**SIZES, forget_gate_bias=1.5, **fields))
    for layer in model.model.layers:
        gates = layer.cell.bias.view(-1, 16)
        assert torch.equal(gates[gate], torch.full((16,), sign * 1.5))
        assert gates.abs().sum() == 16 * 1.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"projection_size": 17}, r"projection_size is 17.*between 1 and hidden_size 16"),
        ({"projection_size": 0}, r"projection_size is 0"),
        ({"last_hidden_size": 4, "projection_size": 8}, r"projection_size is 8.*between 1 and last_hidden_size 4"),
        ({"projection_clip": 3.0}, r"projection_clip is 3.0.*projection_size"),
        ({"cell_clip": 0}, r"cell_clip is 0.*above 0"),
        ({"projection_size": 8, "projection_clip": -1.0}, r"projection_clip is -1.0"),
        ({"peephole": "half"}, r"peephole[\s\S]*half"),
        ({"coupled_gates": "output"}, r"coupled_gates[\s\S]*output"),
    ],
)
def test_impossible_variants_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        LSTMConfig(**SIZES, **fields)


@pytest.mark.parametrize("config_class", [RNNConfig, GRUConfig])
@pytest.mark.parametrize(
    ("name", "value"), [("peephole", "full"), ("coupled_gates", "input"), ("forget_gate_bias", 0), ("cell_clip", 3.0)]
)
def test_what_only_an_lstm_has_is_refused_elsewhere(config_class, name, value):
    with pytest.raises(ValueError, match=f"{name} is .*{config_class.__name__} has none: see LSTMConfig"):
        config_class(**SIZES, **{name: value})
    config_class(**SIZES, **{name: None})


@pytest.mark.parametrize("field", ["reset_mode", "update_convention"])
def test_unknown_gru_modes_are_refused(field):
    with pytest.raises(StrictDataclassError, match=rf"{field}[\s\S]*sideways"):
        GRUConfig(**SIZES, **{field: "sideways"})


@pytest.mark.parametrize(
    ("config_class", "fields", "parameters"),
    [
        # per layer of n inputs and h units: 4(nh + h² + h), 3h for peepholes, a gate less with coupled ones
        (LSTMConfig, {"peephole": "diagonal"}, 2 * (4 * (200 * 400 + 200) + 3 * 200)),
        (LSTMConfig, {"peephole": "full"}, 2 * (4 * (200 * 400 + 200) + 3 * 200 * 200)),
        (LSTMConfig, {"coupled_gates": "input", "peephole": "diagonal"}, 2 * (3 * (200 * 400 + 200) + 2 * 200)),
        (LSTMConfig, {"projection_size": 50}, 2 * (4 * 200 * (50 + 50) + 4 * 200 + 50 * 200)),
        (GRUConfig, {"reset_mode": "before"}, 2 * 3 * (200 * 400 + 200)),
    ],
)
def test_variants_have_the_papers_number_of_parameters(config_class, fields, parameters):
    model = AutoModel.from_config(config_class(**fields))
    assert sum(parameter.numel() for parameter in model.layers.parameters()) == parameters


@pytest.mark.parametrize("config_class", [LSTMConfig, GRUConfig])
def test_checkpoints_from_before_the_variants_open(config_class, tmp_path):
    model = AutoModelForCausalLM.from_config(config_class(**SIZES))
    model.save_pretrained(tmp_path)
    variants = {"peephole", "coupled_gates", "projection_size", "cell_clip", "projection_clip"}
    variants |= {"reset_mode", "update_convention"}
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if k not in variants}))
    names = ["weight_ih", "weight_hh", "bias"] + (["bias_hn"] if config_class is GRUConfig else [])
    assert {name for name in model.state_dict() if "layers.1" in name} == {
        f"model.layers.1.cell.{name}" for name in names
    }
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert_same_state(loaded, model)


def awd_lstm(**fields):
    torch.manual_seed(0)
    fields = {**SIZES, "hidden_size": 24, "last_hidden_size": 16, "dropout_mask": "locked", **fields}
    return AutoModelForCausalLM.from_config(LSTMConfig(**fields)).train()


def test_awd_lstm_has_the_papers_size():
    """Merity et al. (2017): 24 million parameters on the Penn Treebank."""
    config = LSTMConfig(hidden_size=1150, last_hidden_size=400, num_hidden_layers=3, tie_word_embeddings=True)
    assert config.embedding_size == 400
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers = [4 * (1150 * (n + 1150) + 1150) for n in (400, 1150)] + [4 * (400 * (1150 + 400) + 400)]
    assert model.num_parameters() == 10_000 * 400 + sum(layers) + 10_000
    # torch's second biases, which the paper counts
    assert round((model.num_parameters() + 4 * (1150 + 1150 + 400)) / 1e6) == 24


def test_locked_dropout_keeps_its_mask_over_time():
    model = awd_lstm(input_dropout=0.2, hidden_dropout=0.5, dropout=0.4)
    read, given = [], []
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda layer, args: read.append(args[0]))
        layer.register_forward_hook(lambda layer, args, output: given.append(output[0]))
    ids = torch.randint(60, (60, 5))
    last = model.model(ids).last_hidden_state
    sources = [model.model.embed_tokens(ids), *given]
    for source, dropped, probability in zip(sources, [*read, last], [0.2, 0.5, 0.4], strict=True):
        kept = dropped != 0
        assert torch.equal(kept, kept[:, :1].expand_as(kept))
        assert not torch.equal(kept[0], kept[1])
        assert kept[:, 0].float().mean().item() == pytest.approx(1 - probability, abs=0.06)
        torch.testing.assert_close(dropped[kept], source[kept] / (1 - probability))


def test_embedding_dropout_drops_whole_words_wherever_they_stand():
    model = awd_lstm(embedding_dropout=0.3)
    read = []
    model.model.layers[0].register_forward_pre_hook(lambda layer, args: read.append(args[0]))
    ids = torch.arange(60).repeat(4, 1)
    model(ids)
    kept = (read[0] != 0).any(2)
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert kept[0].float().mean().item() == pytest.approx(0.7, abs=0.2)
    torch.testing.assert_close(read[0][kept], model.model.embed_tokens(ids)[kept] / 0.7)
    model.eval()(ids)
    assert (read[1] != 0).any(2).all()


def test_penalties_are_those_of_the_paper():
    """α · mean of m ⊙ h squared plus β · mean of (h_t − h_{t+1}) squared (section 4.6)."""
    model, plain = awd_lstm(dropout=0.5, activation_penalty=2.0, change_penalty=1.0), awd_lstm(dropout=0.5)
    ids, outputs = torch.randint(60, (3, 6)), []
    model.model.layers[-1].register_forward_hook(lambda layer, args, output: outputs.append(output[0]))
    torch.manual_seed(1)
    loss = model(ids, labels=ids).loss
    torch.manual_seed(1)
    expected = plain(ids, labels=ids).loss
    torch.manual_seed(1)
    dropped = plain.model(ids).last_hidden_state
    h = outputs[0]
    activation = sum(dropped[b, t, d] ** 2 for b in range(3) for t in range(6) for d in range(16)) / (3 * 6 * 16)
    change = sum((h[b, t] - h[b, t + 1]).square().sum() for b in range(3) for t in range(5)) / (3 * 5 * 16)
    torch.testing.assert_close(loss, expected + 2 * activation + change)
    assert model.eval()(ids, labels=ids).loss == plain.eval()(ids, labels=ids).loss


def test_penalties_do_not_see_padding():
    model = awd_lstm(activation_penalty=2.0, change_penalty=1.0)
    ids, mask = torch.randint(60, (2, 6)), torch.tensor([[1, 1, 1, 1, 0, 0]] * 2)
    padded, whole = model.model(ids, attention_mask=mask), model.model(ids[:, :4])
    torch.testing.assert_close(padded.penalty, whole.penalty)


@pytest.mark.parametrize("name", ["activation_penalty", "change_penalty"])
def test_rewards_are_refused(name):
    with pytest.raises(StrictDataclassError, match=rf"{name} is -1.0.*at least 0"):
        LSTMConfig(**SIZES, **{name: -1.0})
