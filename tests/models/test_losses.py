"""Losses: smoothing against transformers' LabelSmoother, what padding hides, and what is not scored at all."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.testing import assert_close
from transformers.trainer_pt_utils import LabelSmoother

import hf_lineage
from hf_lineage.models.classification import classification_loss
from hf_lineage.models.losses import mean_cross_entropy
from tests.models.common import gradients


SIZES = {"vocab_size": 30, "hidden_size": 16, "num_labels": 3}
ATTENTION = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "initializer_range": 0.5,
}
CONFIGS = {
    "NNLM": {},
    "RNN": {},
    "LSTM": {},
    "GRU": {},
    "GPT": ATTENTION | {"lm_loss_weight": 0.5},
    "BERT": ATTENTION,
    "Word2Vec": {},
    "ELMo": {"token_layer": "words", "hidden_size": 8, "projection_size": 4, "output_layer": "softmax"},
}
CAUSAL = ("NNLM", "RNN", "LSTM", "GRU", "GPT")
CLASSIFIERS = ("Word2Vec", "RNN", "LSTM", "GRU", "ELMo", "GPT", "BERT")
TAGGERS = ("RNN", "LSTM", "GRU", "ELMo", "GPT", "BERT")


def head(station, name, **changes):
    torch.manual_seed(0)
    config = getattr(hf_lineage, f"{station}Config")(**SIZES | CONFIGS[station] | changes)
    config.attention_dropout = config.dropout = 0.0
    return getattr(hf_lineage, f"{station}For{name}")(config).eval()


def ids(*shape):
    return torch.randint(3, 30, shape)


@pytest.mark.parametrize("station", CAUSAL)
def test_smoothed_next_tokens_are_those_of_transformers(station):
    model, x = head(station, "CausalLM"), ids(3, 7)
    labels = x.clone()
    labels[0, 4:] = -100
    outputs = model(x, labels=labels, smoothing=0.1)
    assert_close(outputs.loss, LabelSmoother(0.1)({"logits": outputs.logits}, labels, shift_labels=True))
    assert not torch.isclose(outputs.loss, model(x, labels=labels).loss)


@pytest.mark.parametrize("station", TAGGERS)
def test_smoothed_tags_are_those_of_transformers(station):
    model, x, labels = head(station, "TokenClassification"), ids(3, 7), torch.randint(3, (3, 7))
    labels[1, 2:] = -100
    outputs = model(x, labels=labels, smoothing=0.2)
    assert_close(outputs.loss, LabelSmoother(0.2)({"logits": outputs.logits}, labels))


@pytest.mark.parametrize("station", CLASSIFIERS)
def test_smoothed_classes_keep_the_other_terms(station):
    model, x, labels = head(station, "SequenceClassification"), ids(4, 7), torch.randint(3, (4,))
    plain, smoothed = model(x, labels=labels), model(x, labels=labels, smoothing=0.2)
    change = cross_entropy(plain.logits, labels, label_smoothing=0.2) - cross_entropy(plain.logits, labels)
    assert_close(smoothed.loss - plain.loss, change)
    if station == "GPT":
        # λ · L1 has stayed
        assert smoothed.loss - cross_entropy(plain.logits, labels, label_smoothing=0.2) > 1


@pytest.mark.parametrize(
    ("station", "name", "weight"),
    [
        ("GPT", "SequenceClassification", {"lm_loss_weight": 0.5}),
        ("LSTM", "CausalLM", {"activation_penalty": 2.0}),
        ("ELMo", "SequenceClassification", {"mix_l2": 0.1}),
    ],
)
def test_a_term_that_trainer_would_lose_is_refused(station, name, weight):
    # Trainer takes the labels out to smooth them, and gives their number
    [(field, value)] = weight.items()
    with pytest.raises(ValueError, match=f"{field} is {value}.*LineageTrainer"):
        head(station, name, **weight)(ids(2, 5), num_items_in_batch=torch.tensor(2))


@pytest.mark.parametrize("station", CAUSAL)
def test_nothing_is_predicted_from_padding(station):
    model, lengths = head(station, "CausalLM"), (7, 4, 2)
    texts = [ids(1, length) for length in lengths]
    total = sum(model(text, labels=text).loss * (text.shape[1] - 1) for text in texts)
    x, mask = torch.zeros(3, 7, dtype=torch.long), torch.zeros(3, 7, dtype=torch.long)
    for row, text in enumerate(texts):
        x[row, 7 - text.shape[1] :], mask[row, 7 - text.shape[1] :] = text, 1
    labels = x.masked_fill(mask == 0, -100)
    number = sum(length - 1 for length in lengths)
    assert_close(model(x, mask, labels=labels).loss, total / number)
    # what Trainer counts, one label for each text's first token more, stays this batch's share
    counted = labels[:, 1:].ne(-100).sum()
    assert counted == number + 2
    assert_close(model(x, mask, labels=labels, num_items_in_batch=2 * counted).loss, total / number / 2)


HEADS = [
    *((station, "CausalLM") for station in CAUSAL),
    *((station, "TokenClassification") for station in TAGGERS),
    *((station, "SequenceClassification") for station in CLASSIFIERS),
    ("BERT", "MaskedLM"),
]


@pytest.mark.parametrize(("station", "name"), HEADS)
def test_no_scored_label_means_no_loss_and_no_gradient(station, name):
    changes = {"lm_loss_weight": 0.0} if station == "GPT" else {}
    model, x = head(station, name, **changes).train(), ids(2, 5)
    labels = torch.full((2,) if name == "SequenceClassification" else (2, 5), -100)
    loss = model(x, labels=labels).loss
    loss.backward()
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients(model).values())


@pytest.mark.parametrize("station", ["BERT", "ELMo"])
def test_answers_outside_of_the_text_are_not_scored(station):
    model, x = head(station, "QuestionAnswering"), ids(4, 6)
    starts, ends = torch.tensor([0, -1, 2, 9]), torch.tensor([1, -1, 6, 9])
    outputs = model(x, start_positions=starts, end_positions=ends)
    of_starts = cross_entropy(outputs.start_logits[[0, 2]], starts[[0, 2]])
    of_ends = cross_entropy(outputs.end_logits[:1], ends[:1])
    assert_close(outputs.loss - model_penalty(model), (of_starts + of_ends) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("station", ["BERT", "ELMo", "GPT", "LSTM"])
def test_padding_is_no_answer(station, smoothing):
    """The mean of the texts alone; the last text's answer is cut off, and its place is padding."""
    model, x = head(station, "QuestionAnswering"), ids(3, 6)
    starts, ends = torch.tensor([0, 3, 4]), torch.tensor([2, 3, 5])
    lengths, losses = (6, 4, 3), []
    for row, length in enumerate(lengths[:2]):
        outputs = model(x[row : row + 1, :length])
        for logits, position in ((outputs.start_logits, starts[row]), (outputs.end_logits, ends[row])):
            losses.append(cross_entropy(logits, position[None], label_smoothing=smoothing))
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
    outputs = model(x, mask, start_positions=starts, end_positions=ends, smoothing=smoothing)
    assert_close(outputs.loss - model_penalty(model), sum(losses) / 4, rtol=1e-5, atol=1e-6)


def model_penalty(model):
    return model.base_model.mix_penalty() if hasattr(model.base_model, "mix_penalty") else 0


def test_a_mean_counts_what_is_scored_or_what_it_is_told():
    logits, labels = torch.randn(3, 5, 11), torch.randint(11, (3, 5)).masked_fill(torch.rand(3, 5) < 0.4, -100)
    mean = cross_entropy(logits.transpose(1, 2), labels)
    assert_close(mean_cross_entropy(logits, labels), mean)
    assert_close(mean_cross_entropy(logits, labels, 4 * labels.ne(-100).sum()), mean / 4)
    assert mean_cross_entropy(logits, torch.full_like(labels, -100)) == 0


@pytest.mark.parametrize("num_labels", [1, 3])
def test_numbers_are_compared_by_their_squared_error(num_labels):
    config = hf_lineage.BERTConfig(num_labels=num_labels)
    logits, labels = torch.randn(4, num_labels), torch.randn(4, num_labels)
    config.problem_type = "regression"
    assert_close(classification_loss(logits, labels, config), mse_loss(logits, labels))
    # −100 is a number like any other, though Trainer counts it for nothing
    labels[0, 0] = -100.0
    counted = labels.ne(-100).sum()
    assert_close(classification_loss(logits, labels, config, counted), mse_loss(logits, labels))
    with pytest.raises(ValueError, match=r"label_smoothing_factor is 0.1.*regression"):
        classification_loss(logits, labels, config, smoothing=0.1)


def test_several_labels_at_once_are_scored_one_by_one():
    config = hf_lineage.BERTConfig(num_labels=3)
    logits, labels = torch.randn(4, 3), torch.randint(2, (4, 3)).float()
    loss = classification_loss(logits, labels, config)
    assert config.problem_type == "multi_label_classification"
    assert_close(loss, binary_cross_entropy_with_logits(logits, labels))
    with pytest.raises(ValueError, match=r"labels have shape \[4\].*\[4, 3\]"):
        classification_loss(logits, labels[:, 0], config)


def test_a_class_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"labels has 3.*between 0 and 2"):
        head("BERT", "SequenceClassification")(ids(2, 5), labels=torch.tensor([0, 3]))
