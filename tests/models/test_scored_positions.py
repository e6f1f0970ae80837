"""BERT's masked words gathered by index: what the search for them gives, and what transformers' BERT gives."""

import copy

import pytest
import torch
from torch.testing import assert_close
from transformers import DataCollatorForTokenClassification, default_data_collator

import hf_lineage
from hf_lineage import BERTForMaskedLM, BERTForPreTraining
from hf_lineage.data import PackingCollator, WithScoredPositions
from hf_lineage.models import fast_cross_entropy, fast_scored
from tests.models.common import gradients
from tests.models.test_bert_parity import batch, reference
from tests.models.test_modeling_bert import TestBERT as BERT


CLASSES = [BERTForPreTraining, BERTForMaskedLM]
# of four texts; the third has none
MASKED = [(3, [0, 2]), (5, [1]), (2, []), (6, [0, 1, 5])]


@pytest.fixture
def not_on_cpu(monkeypatch):
    """The way of a GPU, where Python may not look at values."""
    monkeypatch.setattr(fast_scored, "can_look", lambda x: False)
    monkeypatch.setattr(fast_cross_entropy, "fast_on_cpu", lambda x: False)


def masked_texts() -> list[dict]:
    torch.manual_seed(3)
    examples = []
    for length, masked in MASKED:
        ids, labels = torch.randint(20, (length,)), torch.full((length,), -100)
        labels[masked] = torch.randint(20, (len(masked),))
        examples.append({"input_ids": ids, "labels": labels, "next_sentence_label": length % 2})
    return examples


def padded(examples: list[dict]) -> dict:
    longest = max(len(example["input_ids"]) for example in examples)
    rows = []
    for example in examples:
        ids, labels = torch.zeros(longest, dtype=torch.long), torch.full((longest,), -100)
        ids[: len(example["input_ids"])], labels[: len(example["input_ids"])] = example["input_ids"], example["labels"]
        mask = (torch.arange(longest) < len(example["input_ids"])).long()
        rows.append({**example, "input_ids": ids, "labels": labels, "attention_mask": mask})
    return default_data_collator(rows)


COLLATORS = {"packed": PackingCollator(), "padded": padded}


def step(model, inputs: dict):
    model.zero_grad()
    outputs = model(**inputs)
    outputs.loss.backward()
    return outputs.loss.detach(), outputs.get("prediction_logits", outputs.get("logits")), gradients(model)


def case(model_class, collator: str):
    inputs = WithScoredPositions(COLLATORS[collator])(masked_texts())
    if model_class is BERTForMaskedLM:
        del inputs["next_sentence_label"]
    torch.manual_seed(0)
    return model_class(BERT().config()).train(), inputs


def test_the_collator_gives_the_columns_of_the_scored_labels():
    assert WithScoredPositions(padded)(masked_texts())["scored_positions"].tolist() == [
        [0, 2, -1],
        [1, -1, -1],
        [-1, -1, -1],
        [0, 1, 5],
    ]
    packed = WithScoredPositions(PackingCollator())(masked_texts())
    assert packed["scored_positions"].tolist() == [[0, 2, 4, 10, 11, 15]]
    assert packed["cu_seq_lens_q"].tolist() == [0, 3, 8, 10, 16]
    # classes of whole texts, numbers, and no labels
    for labels in (torch.tensor([0, 1]), torch.ones(2, 3), None):
        found = WithScoredPositions(lambda examples: {"labels": examples})(labels)
        assert "scored_positions" not in found
    nothing = WithScoredPositions(lambda examples: {"labels": torch.full((2, 3), -100)})([])
    assert nothing["scored_positions"].shape == (2, 0)


@pytest.mark.parametrize("num_items", [None, torch.tensor(9)], ids=["alone", "accumulated"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("collator", COLLATORS)
@pytest.mark.parametrize("model_class", CLASSES)
def test_a_gpu_gathers_what_the_search_finds(model_class, collator, smoothing, num_items, not_on_cpu):
    model, inputs = case(model_class, collator)
    inputs |= {"smoothing": smoothing, "num_items_in_batch": num_items}
    positions = inputs.pop("scored_positions")
    loss, logits, gradient = step(model, inputs)
    loss_by_index, logits_by_index, gradient_by_index = step(model, {**inputs, "scored_positions": positions})
    assert_close(loss_by_index, loss)
    assert_close(logits_by_index[positions.flatten() >= 0], logits)
    assert_close(gradient_by_index, gradient)


@pytest.mark.parametrize("collator", COLLATORS)
@pytest.mark.parametrize("model_class", CLASSES)
def test_a_cpu_answers_bit_by_bit_as_without_them(model_class, collator):
    model, inputs = case(model_class, collator)
    found = step(model, inputs)
    inputs.pop("scored_positions")
    assert_close(found, step(model, inputs), rtol=0, atol=0)


@pytest.mark.parametrize("head", ["ForPreTraining", "ForMaskedLM"])
def test_transformers_bert_gives_the_same_loss_and_gradient(head, tmp_path, not_on_cpu):
    theirs, inputs = reference(head), batch(head)
    theirs.save_pretrained(tmp_path)
    ours = getattr(hf_lineage, f"BERT{head}").from_pretrained(tmp_path).train()
    expected = theirs(**inputs)
    expected.loss.backward()
    loss, logits, found = step(ours, WithScoredPositions(lambda given: given)(inputs))
    assert_close(loss, expected.loss.detach())
    positions = WithScoredPositions(lambda given: given)(inputs)["scored_positions"]
    at_labels = expected.get("prediction_logits", expected.get("logits"))[inputs["labels"] != -100]
    assert_close(logits[positions.flatten() >= 0], at_labels, atol=1e-5, rtol=1e-5)
    renamed = {}
    for name, parameter in theirs.named_parameters():
        for renaming in hf_lineage.models.modeling_bert.RELEASED_NAMES:
            name, _ = renaming.rename_source_key(name)
        renamed[name] = parameter.grad
    for name, gradient in found.items():
        assert_close(gradient, renamed[name], atol=1e-5, rtol=1e-4)


def test_a_batch_without_a_masked_word_has_loss_0(not_on_cpu):
    model, inputs = case(BERTForMaskedLM, "padded")
    inputs["labels"].fill_(-100)
    inputs["scored_positions"] = inputs["scored_positions"][:, :0]
    loss, _, gradient = step(model, inputs)
    assert loss == 0
    assert all((each == 0).all() for each in gradient.values())


def test_wrong_positions_are_refused():
    model, inputs = case(BERTForMaskedLM, "padded")
    right = inputs["scored_positions"]
    for wrong in (right.flip(1), right[:, :2], right.where(right != 5, 4), right.roll(1, 0)):
        with pytest.raises(ValueError, match="scored_positions"):
            model(**{**inputs, "scored_positions": wrong})
    with pytest.raises(ValueError, match=r"scored_positions .* 4 rows .* \[1, 12\]"):
        model(**{**inputs, "scored_positions": right.view(1, -1)})


def test_rows_can_be_divided(not_on_cpu):
    """As DataParallel and accelerate divide a batch: along the first dimension."""
    model, inputs = case(BERTForPreTraining, "padded")
    inputs |= {"num_items_in_batch": torch.tensor(6), "num_pairs_in_batch": torch.tensor(4)}
    loss, _, _ = step(model, inputs)
    parts = [{n: v[k : k + 2] if v.dim() else v for n, v in inputs.items()} for k in (0, 2)]
    assert_close(sum(model(**part).loss for part in parts), loss[None].sum())


def test_any_collator_of_transformers_serves(tiny_tokenizer):
    examples = [{name: each[name] for name in ("input_ids", "labels")} for each in masked_texts()]
    examples = [{name: value.tolist() for name, value in each.items()} for each in examples]
    batch_of_tokenizer = WithScoredPositions(DataCollatorForTokenClassification(tiny_tokenizer))(examples)
    assert batch_of_tokenizer["scored_positions"].tolist()[3] == [0, 1, 5]
    assert copy.deepcopy(batch_of_tokenizer).keys() >= {"input_ids", "labels", "scored_positions"}
