"""Seq2Seq in both forms: the common tests, torch.nn's LSTMs, the papers' equations and sizes."""

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.testing import assert_close

from hf_lineage import Seq2SeqConfig, Seq2SeqForConditionalGeneration, Seq2SeqModel
from tests.models.common import Distribution, constant, gradients, normal, uniform
from tests.models.common_seq2seq import HEAD, Seq2SeqTests
from tests.models.reference_decoder import next_log_probabilities


SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "initializer_range": 0.7,
}


class RecurrentSeq2SeqTests(Seq2SeqTests):
    """What Seq2Seq and RNNsearch share."""

    no_attention = "recurrent models have one way to attend"

    def initialization(self, name, config):
        if config.initialization == "uniform":
            return uniform(config.initializer_range)
        if "bias" in name:
            return constant(0.0)
        # an orthogonal 16 x 16 matrix has entries of mean square 1/16
        return Distribution(0.0, 0.25, 1.0) if name.endswith("weight_hh") else normal(config.initializer_range)

    def output_size(self, config):
        return config.output_size

    def target_embeddings(self, model):
        return model.base_model.decoder.embed_tokens

    def test_vectors_over_padding_are_zero(self, side):
        source = self.source(side)
        vectors = self.model("AutoModel").encoder(**source).last_hidden_state
        assert vectors[source["attention_mask"] == 0].abs().sum() == 0

    def test_vocabularies_of_two_sizes(self):
        model = self.model(HEAD, decoder_vocab_size=40)
        assert model(torch.tensor([[59]]), labels=torch.tensor([[39]])).logits.shape == (1, 1, 40)
        with pytest.raises(ValueError, match="60 and 40"):
            model.resize_token_embeddings(50)

    def test_no_own_words_is_teacher_forcing(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        coins = torch.zeros_like(inputs["decoder_input_ids"], dtype=torch.bool)
        labels = self.labels(HEAD, inputs)
        expected, found = model(**inputs, **labels), model(**inputs, **labels, own_words=coins)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.loss, expected.loss)

    @pytest.mark.parametrize("share", [0.5, 1.0])
    def test_own_words_are_those_of_the_slow_reference(self, share):
        """One sentence and one word at a time; then the words read, given as the target, have the same gradient."""
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        target = inputs.pop("decoder_input_ids")
        coins = torch.rand(target.shape) < share
        coins[:, 0] = False
        read = target.clone()
        for row in range(len(target)):
            for t in range(1, target.shape[1]):
                if coins[row, t]:
                    source = inputs["input_ids"][row][None]
                    with torch.no_grad():
                        before = next_log_probabilities(model, source, read[row, :t].tolist())
                    read[row, t] = before.argmax()
        assert not torch.equal(read, target)
        found = model(**inputs, decoder_input_ids=target, labels=target, own_words=coins)
        found.loss.backward()
        found_gradients = gradients(model)
        model.zero_grad()
        expected = model(**inputs, decoder_input_ids=read, labels=target)
        assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-4)
        expected.loss.backward()
        assert_close(found_gradients, gradients(model), atol=1e-5, rtol=1e-4)

    def test_own_words_are_the_same_under_gradient_checkpointing(self):
        model, inputs = self.model(HEAD, **self.dropouts(0.2)).train(), self.inputs(HEAD)
        coins = torch.rand(4, 7) < 0.5
        coins[:, 0] = False
        results = []
        for checkpointing in (False, True):
            if checkpointing:
                model.activation_checkpointing_enable()
            model.zero_grad()
            transformers.set_seed(3)
            outputs = model(**inputs, **self.labels(HEAD, inputs), own_words=coins)
            outputs.loss.backward()
            results.append({"logits": outputs.logits.detach(), **gradients(model)})
        assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)
        # the coins do matter
        transformers.set_seed(3)
        assert not torch.equal(model(**inputs).logits, results[1]["logits"])

    def test_gradient_checkpointing_runs_the_decoder_again(self):
        model, inputs = self.model(HEAD).train(), self.inputs(HEAD)
        calls, kept = [], [0]

        def counted(run):
            # with `run`, a cell's forward is the entrance to its step or to its weights
            return lambda *args, **options: (not options and calls.append(run)) or run(*args, **options)

        def keep(tensor):
            kept[0] += tensor.numel()
            return tensor

        for layer in model.model.decoder.layers:
            layer.cell.step, layer.cell.forward = counted(layer.cell.step), counted(layer.cell.forward)
        found = []
        for checkpointing in (False, True):
            if checkpointing:
                model.activation_checkpointing_enable()
            calls.clear()
            kept[0] = 0
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = model(**inputs, **self.labels(HEAD, inputs)).loss
            forwards = len(calls)
            loss.backward()
            found.append((forwards, len(calls), kept[0]))
        (once, after_backward, all_kept), (forwards, twice, few_kept) = found
        assert once == after_backward == forwards >= len(model.model.decoder.layers)
        assert twice == 2 * once
        assert few_kept < all_kept

    def test_reentrant_checkpointing_is_refused(self):
        model = self.model(HEAD)
        with pytest.raises(ValueError, match="use_reentrant=True"):
            model.activation_checkpointing_enable({"use_reentrant": True})
        assert not model.is_activation_checkpointing
        model.activation_checkpointing_enable({"use_reentrant": False})
        assert model.is_activation_checkpointing

    @pytest.mark.parametrize(
        ("coins", "message"), [((4, 6), r"own_words is \[4, 6\]"), ((4, 7), r"own_words\[:, 0\] is True")]
    )
    def test_bad_own_words_are_refused(self, coins, message):
        with pytest.raises(ValueError, match=message):
            self.model(HEAD)(**self.inputs(HEAD), own_words=torch.ones(coins, dtype=torch.bool))

    def test_assistant_is_refused(self):
        model = self.model(HEAD)
        with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
            self.generate(model, {"input_ids": torch.ones(1, 3).long()}, assistant_model=self.model(HEAD, seed=1))


class TestSutskever(RecurrentSeq2SeqTests):
    config_class = Seq2SeqConfig
    tiny = SIZES
    no_cross_attention = "the source is one state"
    num_reference_models = 25


class Variant:
    """One head, and what may differ from the station's main form: outputs, gradients, padding, cache, generation."""

    only_heads = [HEAD]
    test_compiled_is_eager = test_compiled_is_eager_on_padding = test_compiled_by_inductor_is_eager = None
    test_configuration_survives_dictionaries_and_files = test_bad_configuration_is_refused_at_once = None
    test_bad_ids_are_named = test_ids_must_be_a_tensor = test_ids_or_embeds_but_not_both = None
    test_mask_of_wrong_length_is_named = test_mask_of_another_batch_is_named = None
    test_every_head_opens_every_checkpoint = test_head_over_base_checkpoint_starts_as_configured = None
    test_seed_decides_initialization = test_tuple_is_dictionary = test_bfloat16 = test_pipeline = None
    test_accumulated_gradients_are_those_of_the_whole_batch = test_label_smoothing_of_the_trainer = None
    test_accumulated_gradients_of_other_classification_losses = test_eager_is_sdpa = None
    test_gnmt_length_penalty_is_saved_and_can_be_overridden = test_two_length_penalties_are_refused = None
    test_length_limits = test_assistant_is_refused = test_no_cache_unless_asked = None
    test_vocabularies_of_two_sizes = test_source_is_read_once = None


@pytest.mark.slow
class TestRNNForwards(Variant, TestSutskever):
    """Another cell, and the source from its front."""

    tiny = {**SIZES, "cell": "rnn", "reverse_source": False, "num_hidden_layers": 1}


@pytest.mark.slow
class TestBidirectional(Variant, TestSutskever):
    """Both directions, handed over side by side (as OpenNMT-py's)."""

    tiny = {**SIZES, "cell": "gru", "bidirectional": True, "encoder_hidden_size": 8}


@pytest.mark.slow
class TestDenseBridge(Variant, TestSutskever):
    """Both directions of full size through a bridge, and stacks of unequal depth."""

    tiny = {**SIZES, "bidirectional": True, "bridge": "dense", "decoder_layers": 1, "embedding_size": 12}
    no_tying = "embeddings of another length than the output"


class TestCho(RecurrentSeq2SeqTests):
    config_class = Seq2SeqConfig
    tiny = {
        **SIZES,
        "num_hidden_layers": 1,
        "embedding_size": 12,
        "cell": "gru",
        "reset_mode": "before",
        "reverse_source": False,
        "bridge": "dense",
        "feed_context": True,
        "readout_size": 14,
        "output_rank": 12,
        # normal: with the deviation that the others, uniform, have
        "initializer_range": 0.4,
        "initialization": "orthogonal",
    }
    no_cross_attention = "the source is one vector"
    num_reference_models = 25


def test_sutskever_is_two_stacks_of_torchs_lstm():
    """Encoder over the reversed source, decoder from its states, layer by layer; gradients included."""
    model = Seq2SeqModel(Seq2SeqConfig(**SIZES, embedding_size=12)).double()
    stacks = []
    for ours in (model.encoder, model.decoder):
        theirs = nn.LSTM(12, 16, 2, batch_first=True).double()
        with torch.no_grad():
            for i, layer in enumerate(ours.layers):
                getattr(theirs, f"weight_ih_l{i}").copy_(layer.cell.weight_ih)
                getattr(theirs, f"weight_hh_l{i}").copy_(layer.cell.weight_hh)
                getattr(theirs, f"bias_ih_l{i}").copy_(layer.cell.bias)
                getattr(theirs, f"bias_hh_l{i}").zero_()
        stacks.append(theirs)
    source, target = torch.randint(60, (3, 6)), torch.randint(60, (3, 5))
    lengths = [6, 4, 1]
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
    found = model(source, mask, target).last_hidden_state
    rows = []
    for row, length in enumerate(lengths):
        _, state = stacks[0](model.encoder.embed_tokens(source[row, None, :length].flip(1)))
        rows.append(stacks[1](model.decoder.embed_tokens(target[row, None]), state)[0])
    expected = torch.cat(rows)
    assert_close(found, expected)
    probe = torch.randn_like(found)
    (found * probe).sum().backward()
    ours = [layer.cell.weight_hh.grad for part in (model.encoder, model.decoder) for layer in part.layers]
    (expected * probe).sum().backward()
    theirs = [getattr(stack, f"weight_hh_l{i}").grad for stack in stacks for i in range(2)]
    assert_close(ours, theirs)


def test_cho_is_the_papers_equations():
    """Step by step: c = tanh(V h), s_0 = tanh(V' c), the decoder reads [e(y); c], maxout over pairs, the rank."""
    model = Seq2SeqForConditionalGeneration(Seq2SeqConfig(**TestCho.tiny)).double()
    source, target = torch.randint(60, (1, 6)), torch.randint(60, (1, 5))
    logits = model(source, decoder_input_ids=target).logits[0]
    encoder, decoder = model.model.encoder, model.model.decoder
    h = torch.zeros(1, 16).double()
    cell = encoder.layers[0].cell
    for token in source[0]:
        (h,) = cell.step((cell.weight_ih @ encoder.embed_tokens.weight[token] + cell.bias)[None], (h,))
    c = torch.tanh(decoder.summary(h))
    s = torch.tanh(decoder.bridge.dense(c))
    cell, readout = decoder.layers[0].cell, decoder.readout
    for t, token in enumerate(target[0]):
        word = decoder.embed_tokens.weight[token]
        (s,) = cell.step((cell.weight_ih @ torch.cat([word, c[0]]) + cell.bias)[None], (s,))
        pairs = readout.from_state(s[0]) + readout.from_word(word) + readout.from_context(c[0])
        maxout = torch.stack([max(pairs[2 * i], pairs[2 * i + 1]) for i in range(14)])
        assert_close(logits[t], model.lm_head.weight @ (readout.down_proj.weight @ maxout) + model.lm_head.bias)


def test_sutskever_has_the_papers_size():
    """Section 3.4: 384 million parameters, 64 million of them recurrent."""
    with torch.device("meta"):
        model = Seq2SeqForConditionalGeneration(Seq2SeqConfig.sutskever())
    assert model.num_parameters() / 1e6 == pytest.approx(384, abs=0.5)
    recurrent = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name)
    assert recurrent / 1e6 == pytest.approx(64, abs=0.5)
    # and each layer's state is handed over: 8,000 numbers represent a sentence
    assert model.config.num_hidden_layers * 2 * model.config.hidden_size == 8_000


def test_cho_has_the_papers_matrices():
    with torch.device("meta"):
        model = Seq2SeqForConditionalGeneration(Seq2SeqConfig.cho())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["model.encoder.embed_tokens.weight"] == shapes["lm_head.weight"] == (15_000, 100)
    assert shapes["model.decoder.readout.down_proj.weight"] == (100, 500)
    assert shapes["model.decoder.layers.0.cell.weight_ih"] == (3_000, 1_100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bidirectional": True}, "copy.*32 units.*2 decoder layers of 16"),
        ({"decoder_layers": 1}, "hands over 2 states.*1 decoder layers"),
        ({"bridge": "backward"}, "bidirectional=True"),
        ({"feed_context": True}, "readout_size and bridge"),
        ({"readout_size": 8}, "only feed_context"),
        ({"decoder_vocab_size": 0}, "decoder_vocab_size is 0"),
        ({"cell": "transformer"}, "cell"),
        ({"tie_word_embeddings": True, "embedding_size": 12}, "tie_word_embeddings.*12 and.*16"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(StrictDataclassError, match=f"(?s){message}"):
        Seq2SeqConfig(**SIZES | changes)
