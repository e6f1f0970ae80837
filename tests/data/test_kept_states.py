"""What a frozen body gives, from a file: every head answers and learns as over the body itself."""

import datasets
import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, BertForMultipleChoice, BertForSequenceClassification

import hf_lineage
from hf_lineage.data import KeptStates, TaskCollator
from hf_lineage.tokenization import elmo_tokenizer
from hf_lineage.training import Transfer


SMALL = {"hidden_size": 8, "num_hidden_layers": 2}
ATTENTION = {**SMALL, "num_attention_heads": 2, "intermediate_size": 16}
SIZES = {
    "Word2Vec": {"hidden_size": 8},
    "RNN": SMALL,
    "LSTM": {**SMALL, "projection_size": 4},
    "GRU": {**SMALL, "bidirectional": True},
    "ELMo": {
        "character_size": 4,
        "cnn_filters": [[1, 8]],
        "hidden_size": 8,
        "projection_size": 4,
        "task_size": 4,
        "word_vector_size": 3,
        "num_mixes": 2,
    },
    "GPT": {**ATTENTION, "lm_loss_weight": 0.0},
    "BERT": ATTENTION,
}
HEADS = ("SequenceClassification", "TokenClassification", "MultipleChoice", "QuestionAnswering")
TEXTS = ["the dog", "a brave dog paints the old letter", "again", "the the river"]


def head_of(station: str, head: str, vocab_size: int):
    config = getattr(hf_lineage, f"{station}Config")(vocab_size=vocab_size, num_labels=3, **SIZES[station])
    return getattr(hf_lineage, f"{station}For{head}")(config)


def rows_of(head: str, tokenizer) -> datasets.Dataset:
    encoded = [tokenizer(text) for text in TEXTS]
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids", "char_ids") if name in encoded[0]]
    rows = []
    for number, one in enumerate(encoded):
        row = {name: one[name] for name in names}
        size = len(one["input_ids"])
        if head == "MultipleChoice":
            other = encoded[(number + 1) % len(encoded)]
            row = {name: [one[name], other[name]] for name in names} | {"labels": number % 2}
        elif head == "TokenClassification":
            row["labels"] = [-100, *[place % 3 for place in range(size - 1)]]
        elif head == "QuestionAnswering":
            row |= {"start_positions": 0, "end_positions": size - 1}
        else:
            row["labels"] = number % 3
        rows.append(row)
    return datasets.Dataset.from_list(rows)


def collator_of(tokenizer):
    """TaskCollator, which pads labels [B, T] too."""
    collate = TaskCollator(tokenizer)

    def padded(rows):
        rows = [dict(row) for row in rows]
        if isinstance(rows[0].get("labels"), list):
            longest = max(len(row["labels"]) for row in rows)
            for row in rows:
                row["labels"] = row["labels"] + [-100] * (longest - len(row["labels"]))
        return collate(rows)

    return padded


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("station", SIZES)
def test_heads_learn_from_states_as_over_the_body(station, head, tiny_tokenizer, tmp_path):
    if (station, head) == ("Word2Vec", "QuestionAnswering"):
        pytest.skip("word2vec answers no questions")
    words = {word for text in TEXTS for word in text.split()}
    tokenizer = elmo_tokenizer(["<S>", "</S>", "<UNK>", *sorted(words)]) if station == "ELMo" else tiny_tokenizer
    model, rows = head_of(station, head, len(tokenizer)), rows_of(head, tokenizer)
    collator = collator_of(tokenizer)
    transfer = Transfer(model, [], "features")
    # nothing is dropped, so that both ways are comparable
    model.eval()

    def learned():
        model.zero_grad()
        outputs.loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    outputs = model(**collator(rows))
    expected, gradients = outputs, learned()
    [kept] = transfer.keep_states({"train": rows}, collator, tmp_path, batch_size=3).values()
    runs = []
    model.base_model.register_forward_hook(lambda *_: runs.append(1))
    outputs = model(**kept.collate(kept.__getitems__([0, 1, 2, 3])))
    assert_close(outputs.loss, expected.loss)
    found = learned()
    assert found.keys() == gradients.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, gradient in gradients.items():
        assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    # and texts again
    transfer.reads_texts()
    assert_close(model(**collator(rows)).loss, expected.loss)


def test_states_are_computed_once_whatever_the_head(tiny_tokenizer, tmp_path):
    """A pooler is the task's: another one changes no state."""
    rows, calls = rows_of("SequenceClassification", tiny_tokenizer), []
    for seed in range(2):
        torch.manual_seed(seed)
        model = head_of("BERT", "SequenceClassification", len(tiny_tokenizer))
        body = model.base_model
        if seed == 0:
            saved = {name: value.clone() for name, value in body.state_dict().items() if "pooler" not in name}
        body.load_state_dict(saved, strict=False)
        body.register_forward_hook(lambda *_: calls.append(1))
        new = [f"bert.{name}" for name in body.state_dict() if "pooler" in name] + ["classifier.weight"]
        transfer = Transfer(model, new, "features")
        [kept] = transfer.keep_states({"train": rows}, TaskCollator(tiny_tokenizer), tmp_path).values()
        assert len(calls) == 1
        assert kept[0]["inputs_embeds"].shape == (len(rows[0]["input_ids"]), 8)
    with torch.no_grad():
        body.embeddings.LayerNorm.bias += 1
    transfer.reads_texts()
    KeptStates(rows, body, TaskCollator(tiny_tokenizer), tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForMultipleChoice])
def test_heads_of_transformers(head, tiny_tokenizer, tmp_path):
    config = BertConfig(vocab_size=len(tiny_tokenizer), num_labels=3, **ATTENTION)
    model = head(config).eval()
    kind = "MultipleChoice" if head is BertForMultipleChoice else "SequenceClassification"
    rows, collator = rows_of(kind, tiny_tokenizer), TaskCollator(tiny_tokenizer)
    expected = model(**collator(list(rows))).loss
    transfer = Transfer(model, [], "features")
    [kept] = transfer.keep_states({"train": rows}, collator, tmp_path).values()
    assert_close(model(**kept.collate(kept.__getitems__([0, 1, 2, 3]))).loss, expected)


@pytest.mark.parametrize(
    ("mode", "new", "fields", "message"),
    [
        ("frozen", [], {}, "transfer is 'frozen'"),
        ("features", ["model.embed_tokens.weight"], {}, "embed_tokens.weight of the body is not pretrained"),
        ("features", [], {"lm_loss_weight": 0.5}, "lm_loss_weight is 0.5"),
    ],
)
def test_what_needs_the_texts_is_refused(mode, new, fields, message, tiny_tokenizer, tmp_path):
    config = hf_lineage.GPTConfig(vocab_size=len(tiny_tokenizer), **{**SIZES["GPT"], **fields})
    transfer = Transfer(hf_lineage.GPTForSequenceClassification(config), new, mode)
    rows = rows_of("SequenceClassification", tiny_tokenizer)
    with pytest.raises(ValueError, match=message):
        transfer.keep_states({"train": rows}, TaskCollator(tiny_tokenizer), tmp_path)


@pytest.mark.parametrize("kind", ["TokenClassification", "QuestionAnswering"])
def test_a_gpt_head_without_a_language_model_needs_no_texts(kind, tiny_tokenizer, tmp_path):
    config = hf_lineage.GPTConfig(vocab_size=len(tiny_tokenizer), **{**SIZES["GPT"], "lm_loss_weight": 0.5})
    transfer = Transfer(getattr(hf_lineage, f"GPTFor{kind}")(config), [], "features")
    rows = rows_of("SequenceClassification", tiny_tokenizer)
    assert transfer.keep_states({"train": rows}, TaskCollator(tiny_tokenizer), tmp_path)
