"""NNLM: the common tests, the paper's equation and sizes, its window, and the cheaper objectives."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close
from transformers import DynamicCache

from hf_lineage import NNLMConfig, NNLMForCausalLM, NNLMModel
from hf_lineage.data.randomness import generator, log_uniform
from hf_lineage.models.cache_argument import cache_of
from tests.models.common import constant, uniform
from tests.models.common_generation import HEAD, CausalLMTests


ROOT = Path(__file__).resolve().parents[2]
SMALL = {"vocab_size": 30, "embedding_size": 4, "hidden_size": 5, "context_size": 3}


class NNLMTests(CausalLMTests):
    config_class = NNLMConfig
    # the window holds the longest text of the common tests, but not what generate() adds to it
    tiny = {
        "vocab_size": 60,
        "embedding_size": 8,
        "hidden_size": 16,
        "context_size": 7,
        "initializer_range": 0.5,
        "num_labels": 3,
    }
    no_attention = "NNLM has no attention"
    no_gradient_checkpointing = "one hidden layer has nothing to compute again"
    no_tying = "the output layer reads other vectors than one word's"

    def initialization(self, name, config):
        return constant(0.0) if name.endswith("bias") else uniform(config.initializer_range)

    def expected_shape(self, head, config, batch, length):
        if head == "AutoModel":
            return (batch, length, config.output_size)
        return super().expected_shape(head, config, batch, length)

    def test_hidden_states(self, head):
        # no stack of layers: the words' vectors, and what the output layer reads
        model, inputs = self.model(head), self.inputs(head)
        vectors, last = model(**inputs, output_hidden_states=True).hidden_states
        assert torch.equal(vectors, model.get_input_embeddings()(inputs["input_ids"]))
        assert torch.equal(last, model.base_model(**inputs).last_hidden_state)


class TestNNLM(NNLMTests):
    @pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"prefill_chunk_size": 3}], ids=str)
    def test_generation_with_a_static_cache(self, options):
        model, prompts = self.model(HEAD), self.prompts()
        expected = self.generate(model, prompts, **options)
        assert torch.equal(self.generate(model, prompts, cache_implementation="static", **options), expected)

    def test_assistant_is_refused(self):
        # guesses that turn out wrong cannot be taken back: what left the window is gone
        model = self.model(HEAD)
        with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
            self.generate(model, self.inputs(HEAD, batch=1), assistant_model=self.model(HEAD, seed=1))

    def test_caches_of_another_kind_or_batch_and_masks_of_each_query_are_refused(self, head):
        model, inputs = self.model(head), self.inputs(head)
        with pytest.raises(ValueError, match=r"DynamicCache\(config=model\.config\)"):
            model(**inputs, cache=DynamicCache())
        cache = cache_of(model(**inputs, use_cache=True))
        with pytest.raises(ValueError, match=r"cache.*\b4\b.*\b2\b"):
            model(inputs["input_ids"][:2], cache=cache)
        with pytest.raises(ValueError, match=r"attention_mask must have shape \[4, 7\]"):
            model(**inputs, attention_mask=torch.ones(4, 1, 7, 7).tril())


@pytest.mark.slow
class TestWithoutDirectConnections(NNLMTests):
    tiny = {**NNLMTests.tiny, "direct_connections": False}
    only_heads = [HEAD]


@pytest.mark.slow
class TestWithoutHiddenLayer(NNLMTests):
    """MLP3 of the paper: h = 0."""

    tiny = {**NNLMTests.tiny, "hidden_size": 0}
    only_heads = [HEAD]


@pytest.mark.slow
class TestBigram(NNLMTests):
    """A window of one word, with nothing to carry over."""

    tiny = {**NNLMTests.tiny, "context_size": 1}
    only_heads = [HEAD]
    # it cannot tell texts apart that have a word in common
    test_logits_see_the_past_and_not_the_future = test_learns_one_batch_by_heart = None


class TestAdaptiveSoftmax(NNLMTests):
    tiny = {**NNLMTests.tiny, "objective": "adaptive_softmax", "cutoffs": [20, 40]}
    only_heads = [HEAD]
    no_resizing = "the clusters are cut to the vocabulary"

    def test_resizing_is_refused(self):
        with pytest.raises(ValueError, match="adaptive softmax cannot be resized"):
            self.model(HEAD).resize_token_embeddings(70)


class SampledTests(NNLMTests):
    only_heads = [HEAD]

    def inputs(self, head, batch=4, length=7):
        negatives = torch.stack([negative_ids(row) for row in range(batch)])
        return {**super().inputs(head, batch, length), "negative_ids": negatives}

    def generate(self, model, inputs, **options):
        inputs = {name: value for name, value in inputs.items() if name != "negative_ids"}
        return super().generate(model, inputs, **options)

    def test_learns_one_batch_by_heart(self):
        # with negatives drawn anew each time; judged by the exact softmax
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(300):
            inputs["negative_ids"] = torch.stack([negative_ids(4 * step + row) for row in range(4)])
            loss = model.train()(**inputs, labels=inputs["input_ids"]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert model.eval()(**inputs, labels=inputs["input_ids"]).loss < 0.1


def negative_ids(index: int) -> torch.Tensor:
    return torch.from_numpy(log_uniform(generator(0, 0, index), 30, 60))


class TestSampledSoftmax(SampledTests):
    tiny = {**NNLMTests.tiny, "objective": "sampled_softmax"}


@pytest.mark.slow
class TestNCE(SampledTests):
    tiny = {**NNLMTests.tiny, "objective": "nce"}

    def initialization(self, name, config):
        if name == "lm_head.bias":
            return constant(-math.log(60))
        return super().initialization(name, config)


def reference(model, ids):
    """The paper's equation, word by word: y = b + W x + U tanh(d + H x), most recent word first, zeros before."""
    config, weights = model.config, {name: value.double() for name, value in model.state_dict().items()}
    vectors = [weights["model.embed_tokens.weight"][word] for word in ids]
    logits = []
    for t in range(len(ids)):
        window = [vectors[t - k] if t >= k else torch.zeros(config.embedding_size) for k in range(config.context_size)]
        x = torch.cat(window).double()
        y = weights["lm_head.bias"].clone()
        read = weights["lm_head.weight"]
        if config.hidden_size:
            y += read[:, : config.hidden_size] @ torch.tanh(
                weights["model.hidden.bias"] + weights["model.hidden.weight"] @ x
            )
        if config.direct_connections:
            y += read[:, config.hidden_size :] @ x
        logits.append(y)
    return torch.stack(logits)


@pytest.mark.parametrize(
    "sizes", [{}, {"direct_connections": False}, {"hidden_size": 0}, {"context_size": 1}, {"context_size": 9}], ids=str
)
def test_equation_1(sizes):
    model = NNLMForCausalLM(NNLMConfig(**SMALL | sizes)).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    ids = torch.randint(30, (6,))
    assert_close(model(ids[None]).logits[0].double(), reference(model, ids), rtol=1e-5, atol=1e-5)


# Bengio et al. (2003), table 1: n, h, m, direct connections; MLP2, 4, ... 10 are these mixed with a trigram
TABLE_1 = {
    "mlp1": (5, 50, 60, True),
    "mlp3": (5, 0, 60, True),
    "mlp5": (5, 50, 30, True),
    "mlp7": (3, 50, 30, True),
    "mlp9": (5, 100, 30, False),
}


@pytest.mark.parametrize("name", TABLE_1)
def test_parameters_of_the_papers_networks(name):
    n, h, m, direct = TABLE_1[name]
    vocab = 16_383
    config = NNLMConfig(
        vocab_size=vocab, context_size=n - 1, hidden_size=h, embedding_size=m, direct_connections=direct
    )
    with torch.device("meta"):
        parameters = NNLMForCausalLM(config).num_parameters()
    # section 2: |V| (1 + n m + h) + h (1 + (n - 1) m), and without direct connections |V| (1 + m + h) + ...
    assert parameters == vocab * (1 + (n if direct else 1) * m + h) + h * (1 + (n - 1) * m)
    assert parameters == {"mlp1": 5_762_483, "mlp9": 2_158_273}.get(name, parameters)


@pytest.mark.parametrize("name", TABLE_1)
def test_presets_are_the_papers_networks(name):
    settings = yaml.safe_load((ROOT / "recipes" / "configs" / f"brown_{name}.yaml").read_text(encoding="utf-8"))
    config = NNLMConfig(**settings["config_overrides"])
    found = (config.context_size + 1, config.hidden_size, config.embedding_size, config.direct_connections)
    assert found == TABLE_1[name]


def test_only_the_last_words_count():
    model = NNLMForCausalLM(NNLMConfig(**SMALL)).eval()
    ids = torch.randint(30, (2, 12))
    ids[1, -3:] = ids[0, -3:]
    logits = model(ids).logits
    assert torch.equal(logits[0, -1], logits[1, -1])
    assert not torch.equal(logits[0, -2], logits[1, -2])


def test_cache_holds_the_window_alone():
    model = NNLMModel(NNLMConfig(**SMALL)).eval()
    ids = torch.randint(30, (2, 12))
    (layer,) = cache_of(model(ids, use_cache=True)).layers
    assert_close(layer.keys.view(2, 2, 4), model.embed_tokens(ids[:, -2:]))
    assert layer.get_seq_length() == 12


def test_bad_networks_are_named():
    with pytest.raises(StrictDataclassError, match="hidden_size is 0.*direct_connections=True"):
        NNLMConfig(hidden_size=0, direct_connections=False)
    with pytest.raises(StrictDataclassError, match="tie_word_embeddings is True"):
        NNLMConfig(tie_word_embeddings=True)
    with pytest.raises(StrictDataclassError, match="context_size is 0"):
        NNLMConfig(context_size=0)
    for cutoffs in (None, [], [5, 5], [20, 10], [0, 5], [30]):
        with pytest.raises(StrictDataclassError, match=r"cutoffs is[\s\S]*rise from 1 to below vocab_size 30"):
            NNLMConfig(**SMALL, objective="adaptive_softmax", cutoffs=cutoffs)
    with pytest.raises(StrictDataclassError, match="num_negatives is 0"):
        NNLMConfig(objective="nce", num_negatives=0)
