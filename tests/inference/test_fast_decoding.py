"""fast_decoding gives generate()'s own tokens, whatever is asked for, and is really used where it says so."""

import pytest
import torch
import transformers
from transformers import DynamicCache, MaxTimeCriteria, StoppingCriteriaList

from hf_lineage import (
    GPTConfig,
    GPTForCausalLM,
    GRUConfig,
    GRUForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
    NNLMConfig,
    NNLMForCausalLM,
    RNNConfig,
    RNNForCausalLM,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from hf_lineage.inference.fast_decoding import PreparedDecoding, RecurrentSteps, Steps, fast_decoding
from hf_lineage.models.cache_argument import CACHE_FIELD


def new_model(seed, **changes):
    transformers.set_seed(seed)
    settings = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
    }
    return GPTForCausalLM(GPTConfig(**settings | changes)).eval()


def prompts(batch=4, length=7):
    """Prompts padded on the left."""
    lengths = torch.tensor([length, length - 2, 2, 1])[:batch, None]
    mask = (torch.arange(length) >= length - lengths).long()
    return {"input_ids": torch.randint(60, (batch, length)), "attention_mask": mask}


def tokens(model, inputs, **options):
    transformers.set_seed(7)
    return model.generate(**inputs, **{"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0} | options)


@pytest.fixture
def steps(monkeypatch):
    """The number of tokens that were decoded fast."""
    counted = []

    def counting(original):
        return lambda self, ids: counted.append(len(ids)) or original(self, ids)

    for kind in (Steps, RecurrentSteps):
        monkeypatch.setattr(kind, "__call__", counting(kind.__call__))
    return counted


WAYS = {
    "greedy": {},
    "one end mark": {"eos_token_id": 50},
    "end marks": {"eos_token_id": [48, 49, 50, 51, 52, 53]},
    "one token": {"max_new_tokens": 1},
    "max_length": {"max_length": 15, "max_new_tokens": None},
    "processors": {
        "repetition_penalty": 1.5,
        "no_repeat_ngram_size": 2,
        "eos_token_id": [50, 51],
        "min_new_tokens": 6,
    },
    "sampling": {"do_sample": True, "top_k": 20, "temperature": 0.7, "num_return_sequences": 3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch", [1, 4])
def test_tokens_are_those_of_generate(way, batch, steps):
    found = set()
    for seed in range(10):
        model, inputs = new_model(seed, hidden_act=("gelu_new", "gelu", "relu")[seed % 3]), prompts(batch)
        if batch == 1:
            inputs.pop("attention_mask")
        options = {name: value for name, value in WAYS[way].items() if value is not None}
        options |= {"max_new_tokens": None} if "max_length" in options else {}
        expected = tokens(model, inputs, **options)
        assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding, **options), expected)
        found.update(expected[:, 7:].flatten().tolist())
    assert bool(steps) == (way != "one token")
    # models that repeat themselves would prove nothing
    assert way == "one token" or len(found) > 20


def test_stops_when_generate_does(steps):
    model, inputs = new_model(0), prompts()
    expected = tokens(model, inputs)
    stop = StoppingCriteriaList([MaxTimeCriteria(0.0)])
    assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding, stopping_criteria=stop), expected[:, :8])
    assert not steps


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "num_return_sequences": 2},
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"prompt_lookup_num_tokens": 2},
    ],
    ids=str,
)
def test_everything_else_is_left_to_generate(options, steps):
    for seed in range(3):
        model, inputs = new_model(seed), prompts(1 if "prompt_lookup_num_tokens" in options else 4)
        expected = tokens(model, inputs, **options)
        assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding, **options), expected)
    assert not steps


def test_scores_and_caches_are_left_to_generate(steps):
    model, inputs = new_model(0), prompts()
    options = {"return_dict_in_generate": True, "output_scores": True}
    expected, found = tokens(model, inputs, **options), tokens(model, inputs, custom_generate=fast_decoding, **options)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.scores, expected.scores)
    results = []
    for way in ({}, {"custom_generate": fast_decoding}):
        cache = DynamicCache(config=model.config)
        model(inputs["input_ids"][:, :4], inputs["attention_mask"][:, :4], cache=cache, use_cache=True)
        results.append(tokens(model, inputs, **{CACHE_FIELD: cache}, **way))
    assert torch.equal(*results)
    assert not steps


SIZES = {"vocab_size": 60, "hidden_size": 16, "embedding_size": 12, "num_hidden_layers": 2, "initializer_range": 1.0}
RECURRENT = {
    "RNN": lambda: RNNForCausalLM(RNNConfig(**SIZES)),
    "LSTM": lambda: LSTMForCausalLM(LSTMConfig(**SIZES)),
    "peephole": lambda: LSTMForCausalLM(LSTMConfig(**SIZES, peephole="full", coupled_gates="input")),
    "projected": lambda: LSTMForCausalLM(LSTMConfig(**SIZES, projection_size=9, cell_clip=1.0)),
    "GRU": lambda: GRUForCausalLM(GRUConfig(**SIZES)),
    "GRU, reset before": lambda: GRUForCausalLM(GRUConfig(**SIZES, reset_mode="before")),
}


@pytest.mark.parametrize("way", ["greedy", "end marks", "sampling", "beams"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_models_tokens_are_those_of_generate(kind, way, steps):
    found = set()
    for seed in range(3):
        transformers.set_seed(seed)
        model, inputs = RECURRENT[kind]().eval(), prompts()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        options = {**WAYS, "beams": {"num_beams": 3}}[way]
        expected = tokens(model, inputs, **options)
        assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding, **options), expected)
        assert torch.equal(tokens(model, inputs, custom_generate=PreparedDecoding(model), **options), expected)
        assert all(
            tensor.is_contiguous() and tensor.equal(before[name]) for name, tensor in model.state_dict().items()
        )
        found.update(expected[:, 7:].flatten().tolist())
    assert bool(steps) == (way != "beams")
    assert len(found) > 5


def test_stations_without_a_fast_path_decode_as_ever():
    transformers.set_seed(0)
    config = NNLMConfig(vocab_size=60, hidden_size=16, embedding_size=16, context_size=3, initializer_range=0.5)
    model, inputs = NNLMForCausalLM(config).eval(), {"input_ids": prompts()["input_ids"]}
    assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding), tokens(model, inputs))


def test_answers_end_at_the_last_position(steps):
    model, inputs = new_model(0), prompts(1)
    expected = tokens(model, inputs, max_new_tokens=30)
    # the last token is not read
    assert expected.shape[1] == model.config.max_position_embeddings + 1
    assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding, max_new_tokens=30), expected)
    assert steps


@pytest.mark.parametrize("way", ["greedy", "end marks", "processors", "sampling", "beams"])
@pytest.mark.parametrize("layout", ["interleaved", "concatenated", "tensor2tensor"])
def test_translations_are_those_of_generate(way, layout, steps):
    found = set()
    for seed in range(5):
        transformers.set_seed(seed)
        settings = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = TransformerForConditionalGeneration(
            TransformerConfig(
                **settings,
                decoder_layers=3,
                intermediate_size=32,
                position_layout=layout,
                position_offset=seed % 3,
                output_bias=bool(seed % 2),
                tie_word_embeddings=False,
                eos_token_id=None,
            )
        ).eval()
        with torch.no_grad():
            model.lm_head.weight *= 4
            if model.lm_head.bias is not None:
                model.lm_head.bias += torch.randn(60)
        inputs, options = prompts(), {**WAYS, "beams": {"num_beams": 3}}[way]
        expected = tokens(model, inputs, **options)
        assert torch.equal(tokens(model, inputs, custom_generate=fast_decoding, **options), expected)
        assert torch.equal(tokens(model, inputs, custom_generate=PreparedDecoding(model), **options), expected)
        found.update(expected.flatten().tolist())
    assert bool(steps) == (way != "beams")
    assert len(found) > 10


def test_prepared_decoding_belongs_to_a_model(steps):
    model, inputs = new_model(0), prompts()
    fast = PreparedDecoding(model)
    for length in (5, 12):
        options = {"max_new_tokens": length}
        assert torch.equal(tokens(model, inputs, custom_generate=fast, **options), tokens(model, inputs, **options))
    assert len(steps) == 4 + 11
    with pytest.raises(ValueError, match="another model"):
        tokens(new_model(1), inputs, custom_generate=fast)
    with pytest.raises(ValueError, match="NNLMForCausalLM has no fast path.*lineage_gpt"):
        PreparedDecoding(NNLMForCausalLM(NNLMConfig(vocab_size=60, hidden_size=16, embedding_size=16)))
