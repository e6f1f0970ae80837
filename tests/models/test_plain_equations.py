"""The switch that runs the papers' equations alone: the same numbers as by the fast paths, line by line."""

import pytest
import torch
import transformers
from torch.testing import assert_close

import hf_lineage
from hf_lineage.inference.fast_decoding import fast_decoding
from hf_lineage.models import plain_equations, transformer_layers
from hf_lineage.models.fast_cross_entropy import SummedCrossEntropy
from hf_lineage.models.fast_dropout import Dropout
from hf_lineage.models.inputs import SWITCH, fast_paths_allowed
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell, RNNCell
from hf_lineage.models.recurrent_layers import step_by_step
from tests.models.test_remote_code import tiny_config


STATIONS = {config_class.model_type: config_class for config_class in hf_lineage.LINEAGE}
# what the tiny configuration of a station leaves out of its fast paths
VARIANTS = {
    "lineage_nnlm": [{"objective": "sampled_softmax"}],
    "lineage_lstm": [{"peephole": "full"}, {"coupled_gates": "input", "weight_dropout": 0.5}, {"bidirectional": True}],
    "lineage_gru": [{"reset_mode": "before"}, {"bidirectional": True}],
    "lineage_rnn": [{"hidden_act": "sigmoid"}],
    "lineage_seq2seq": [{"cell": "gru"}],
    "lineage_rnnsearch": [{"cell": "lstm"}, {"coverage": True}],
    "lineage_luong": [{"cell": "gru"}, {"attention": "concat", "coverage": True, "input_feeding": False}],
    "lineage_elmo": [{"output_layer": "sampled"}],
}
CASES = [
    (model_type, head, variant)
    for model_type, config_class in STATIONS.items()
    for variant in ({}, *VARIANTS.get(model_type, []))
    for head in config_class.auto_classes
    if not (variant.get("bidirectional") and head == "AutoModelForCausalLM")
]
GENERATORS = [case for case in CASES if case[1] in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")]
names = pytest.mark.parametrize(
    ("model_type", "head", "variant"), CASES, ids=lambda value: str(value).replace("AutoModel", "") or "Model"
)


def new_model(model_type, head, variant):
    config = tiny_config(STATIONS[model_type], **variant)
    for name in vars(config):
        # other numbers are drawn for it; DropConnect draws the same
        if name.endswith(("dropout", "dropout_prob")) and name not in variant:
            setattr(config, name, 0.0)
    config.num_labels = 3
    transformers.set_seed(0)
    return getattr(transformers, head).from_config(config).double().train()


def new_inputs(model, head):
    """A batch with padding on both sides, and what the head scores."""
    transformers.set_seed(1)
    ids = torch.randint(1, 60, (3, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    # what padding says of a text's first token depends on the kind of attention
    labels = ids.masked_fill((mask == 0) | (mask.roll(1, dims=1) == 0), -100)
    if model.config.model_type == "lineage_word2vec" and head == "AutoModelForPreTraining":
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([1, 2, 3])}
    if head == "AutoModelForMultipleChoice":
        return {"input_ids": ids[None], "attention_mask": mask[None], "labels": torch.tensor([1])}
    inputs = {"input_ids": ids, "attention_mask": mask}
    if head == "AutoModelForNextSentencePrediction":
        return {**inputs, "labels": torch.tensor([0, 1, 0])}
    if head == "AutoModelForSequenceClassification":
        return {**inputs, "labels": torch.tensor([0, 1, 2])}
    if head == "AutoModelForTokenClassification":
        return {**inputs, "labels": labels.clamp(max=2)}
    if head == "AutoModelForQuestionAnswering":
        # every token is a possible answer, and what padding before a text says depends on the kind of attention
        inputs["attention_mask"] = mask.sort(dim=1, descending=True).values
        return {**inputs, "start_positions": torch.tensor([1, 2, 0]), "end_positions": torch.tensor([2, 3, 2])}
    if head == "AutoModel":
        return {**inputs, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})}
    if "sampled" in (getattr(model.config, "objective", ""), getattr(model.config, "output_layer", "")):
        inputs["negative_ids"] = torch.randint(60, (20,))
    return {**inputs, "labels": labels}


def loss_and_gradients(model, inputs):
    transformers.set_seed(2)
    model.zero_grad()
    outputs = model(**inputs)
    # a base model has no loss
    loss = outputs.loss if "loss" in outputs else (outputs[0].square() * inputs["attention_mask"][..., None]).sum()
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **found}


@names
def test_plain_and_fast_give_the_same(model_type, head, variant):
    model = new_model(model_type, head, variant)
    inputs = new_inputs(model, head)
    fast = loss_and_gradients(model, inputs)
    with plain_equations():
        plain = loss_and_gradients(model, inputs)
    assert plain.keys() == fast.keys()
    assert_close(plain, fast, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("model_type", "head", "variant"), GENERATORS, ids=str)
def test_plain_and_fast_generate_the_same(model_type, head, variant):
    model = new_model(model_type, head, variant).eval()
    prompt = torch.tensor([[5, 6, 7]])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    fast = model.generate(prompt, **options)
    with plain_equations():
        assert torch.equal(model.generate(prompt, **options), fast)
        assert torch.equal(model.generate(prompt, custom_generate=fast_decoding, **options), fast)


def counted(monkeypatch, owner, name):
    """The calls of owner.name from now on."""
    calls, function = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: calls.append(name) or function(*args, **kwargs))
    return calls


@pytest.mark.parametrize(
    "model_type",
    ["lineage_rnn", "lineage_lstm", "lineage_gru", "lineage_seq2seq", "lineage_rnnsearch", "lineage_elmo"],
)
def test_plain_runs_every_step_of_the_cell(monkeypatch, model_type):
    model = new_model(model_type, "AutoModel", {})
    inputs = new_inputs(model, "AutoModel")
    cells = [module for module in model.modules() if isinstance(module, RNNCell | LSTMCell | GRUCell)]
    calls = counted(monkeypatch, type(cells[0]), "step")
    loss_and_gradients(model, inputs)
    assert not calls
    with plain_equations():
        loss_and_gradients(model, inputs)
    assert len(calls) == len(cells) * inputs["input_ids"].shape[1]


@pytest.mark.parametrize(
    ("model_type", "layers"), [("lineage_gpt", 2), ("lineage_bert", 2), ("lineage_transformer", 6)]
)
def test_plain_runs_the_written_out_attention(monkeypatch, model_type, layers):
    model = new_model(model_type, "AutoModel", {})
    inputs = new_inputs(model, "AutoModel")
    calls = counted(monkeypatch, transformer_layers, "eager_attention_forward")
    loss_and_gradients(model, inputs)
    assert not calls
    with plain_equations():
        loss_and_gradients(model, inputs)
        assert model.config._attn_implementation == "eager"
    assert len(calls) == layers
    assert model.config._attn_implementation == "sdpa"


def test_plain_runs_packed_texts_written_out(monkeypatch):
    """In training with dropout, where the fast path computes all of them by one function."""
    model = new_model("lineage_gpt", "AutoModel", {"attention_dropout": 0.5})
    ids, bounds = torch.randint(1, 60, (1, 9)), torch.tensor([0, 4, 9], dtype=torch.int32)
    calls = counted(monkeypatch, transformer_layers, "eager_attention_forward")
    model(input_ids=ids, cu_seq_lens_q=bounds)
    assert not calls
    with plain_equations():
        model(input_ids=ids, cu_seq_lens_q=bounds)
    # 2 layers, 2 texts
    assert len(calls) == 4


def test_plain_runs_torchs_cross_entropy_and_dropout(monkeypatch):
    model = new_model("lineage_bert", "AutoModelForMaskedLM", {})
    inputs = new_inputs(model, "AutoModelForMaskedLM")
    calls = counted(monkeypatch, SummedCrossEntropy, "apply")
    loss_and_gradients(model, inputs)
    assert len(calls) == 1
    with plain_equations():
        loss_and_gradients(model, inputs)
        assert len(calls) == 1

        x = torch.ones(1_000)
        torch.manual_seed(0)
        found = Dropout(0.5)(x)
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(x, 0.5))


class OtherLSTM(LSTMCell):
    """A cell of a user's own, with twice the state."""

    def step(self, projected, state):
        return tuple(2 * s for s in super().step(projected, state))


def test_a_cell_with_another_equation_has_no_fast_path():
    cell, x = OtherLSTM(5, 4), torch.randn(2, 6, 5)
    for parameter in cell.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    assert_close(cell(x), step_by_step(cell, x, cell.initial_state(x), None), rtol=0, atol=0)


@pytest.mark.parametrize(("value", "allowed"), [(None, True), ("", True), ("0", True), ("1", False), ("yes", False)])
def test_the_environment_is_the_switch(monkeypatch, value, allowed):
    if value is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, value)
    assert fast_paths_allowed() == allowed
    with plain_equations():
        assert not fast_paths_allowed()
    assert fast_paths_allowed() == allowed
