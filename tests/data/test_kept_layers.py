"""ELMo's layers from a file: what the model gives, computed once, enough for every head."""

import datasets
import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_lineage import ELMoConfig, ELMoForSequenceClassification, ELMoForTokenClassification, ELMoModel
from hf_lineage.data import KeptLayers
from hf_lineage.tokenization import elmo_tokenizer, train_word_level


SIZES = {
    "character_size": 4,
    "cnn_filters": [[1, 8]],
    "hidden_size": 8,
    "projection_size": 4,
    "task_size": 4,
    "elmo_dropout": 0.0,
    "word_vector_size": 3,
}
TEXTS = ["a b c", "an unknown word", "c"]


@pytest.fixture
def tokenizer():
    marks = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>", "pad_token": "<pad>"}
    return elmo_tokenizer(train_word_level(TEXTS[:1], special_tokens=marks, show_progress=False))


@pytest.fixture
def config(tokenizer):
    return ELMoConfig(vocab_size=len(tokenizer), **SIZES)


@pytest.fixture
def data():
    return datasets.Dataset.from_dict({"text": TEXTS, "labels": [0, 1, 1]})


def counted(model):
    """How often the language model was run."""
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_layers_are_the_model_s_and_computed_once(config, tokenizer, data, tmp_path):
    model = ELMoModel(config).train()
    calls = counted(model)
    kept = KeptLayers(data, model, tokenizer, tmp_path, batch_size=2)
    assert len(calls) == 2
    assert model.training
    for text, label, row in zip(TEXTS, [0, 1, 1], kept, strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            expected = torch.stack(model.eval()(**encoded).hidden_states, dim=2)[0]
        torch.testing.assert_close(row["elmo_layers"], expected)
        assert torch.equal(row["input_ids"], encoded["input_ids"][0])
        assert row["labels"] == label
    calls.clear()
    # the same rows, whichever way they came about
    for same in (data, data.map(lambda row: {"labels": row["labels"]}), datasets.Dataset.from_list(data.to_list())):
        again = KeptLayers(same, model, tokenizer, tmp_path, batch_size=1)
        assert not calls
    assert torch.equal(again[1]["elmo_layers"], kept[1]["elmo_layers"])


def test_a_batch_is_its_rows(config, tokenizer, tmp_path):
    data = datasets.Dataset.from_dict(
        {
            "text": TEXTS,
            "labels": [[-100, 0, 1, 0, -100], [-100, 1, 1, 0, -100], [-100, 1, -100]],
            "score": [0.5, 1.0, 2.0],
        }
    )
    kept = KeptLayers(data, ELMoModel(config), tokenizer, tmp_path)
    for positions in ([2, 0, 1], [0, 1], [1]):
        for position, row in zip(positions, kept.__getitems__(positions), strict=True):
            torch.testing.assert_close(row, kept[position], rtol=0, atol=0)


def test_what_the_layers_depend_on_is_computed_anew(config, tokenizer, data, tmp_path):
    model = ELMoModel(config)
    calls = counted(model)
    KeptLayers(data, model, tokenizer, tmp_path)
    KeptLayers(data.select([0, 2]), model, tokenizer, tmp_path)
    assert len(calls) == 2
    with torch.no_grad():
        model.mixes[0].gamma += 1  # the task's
    KeptLayers(data, model, tokenizer, tmp_path)
    assert len(calls) == 2
    with torch.no_grad():
        model.forward_layers[1].cell.bias += 1
    KeptLayers(data, model, tokenizer, tmp_path)
    assert len(calls) == 3


def test_head_answers_as_over_the_model(config, tokenizer, data, tmp_path):
    head = ELMoForSequenceClassification(config).eval()
    kept = KeptLayers(data, head.model, tokenizer, tmp_path)
    batch = kept.collate([kept[i] for i in range(3)])
    expected = head(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(head(**{k: v for k, v in batch.items() if k != "labels"}).logits, expected)


def test_words_with_labels_train_a_head(config, tokenizer, tmp_path):
    words = [text.split() for text in TEXTS]
    labels = [[-100, *(len(word) % 2 for word in row), -100] for row in words]
    data = datasets.Dataset.from_dict({"words": words, "labels": labels})
    model = ELMoForTokenClassification(config)
    kept = KeptLayers(data, model.model, tokenizer, tmp_path, text_column="words")
    batch = kept.collate([kept[0], kept[2]])
    assert batch["labels"].tolist() == [labels[0], [*labels[2], -100, -100]]
    assert batch["elmo_layers"].shape == (2, 5, 3, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    Trainer(model, arguments, train_dataset=kept, data_collator=kept.collate).train()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any("task_layer" in name for name in changed)
    assert any("mixes" in name for name in changed)
    assert not any("forward_layers" in name or "token_layer" in name for name in changed)


@pytest.fixture
def cutting_tokenizer():
    """Cuts words at punctuation."""
    marks = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>", "pad_token": "<pad>"}
    words = train_word_level(["a U.S. dog"], special_tokens=marks, split_punctuation=True, show_progress=False)
    return elmo_tokenizer(words)


def test_tags_stand_at_the_first_token_of_their_word(cutting_tokenizer, tmp_path):
    config = ELMoConfig(vocab_size=len(cutting_tokenizer), **SIZES)
    rows = {"words": [["a", "U.S.", "dog"], ["dog"], ["e.g."]], "tags": [[1, 2, 3], [3], [4]], "row": [7, 8, 9]}
    data = datasets.Dataset.from_dict(rows | {"classes": [[1.0, 0.0]] * 3})
    kept = KeptLayers(
        data, ELMoModel(config), cutting_tokenizer, tmp_path, text_column="words", tag_columns=["tags"], batch_size=2
    )
    batch = kept.collate([kept[0], kept[1], kept[2]])
    no = -100
    assert batch["tags"].tolist() == [
        [no, 1, 2, no, no, no, 3, no],
        [no, 3, no, no, no, no, no, no],
        [no, 4, no, no, no, no, no, no],
    ]
    # what belongs to the text is not padded
    assert batch["row"].tolist() == [7, 8, 9]
    assert batch["classes"].tolist() == [[1, 0]] * 3


def test_numbers_that_do_not_fit_the_text_are_named(cutting_tokenizer, tmp_path):
    model = ELMoModel(ELMoConfig(vocab_size=len(cutting_tokenizer), **SIZES))

    def keep(words, tags, **options):
        data = datasets.Dataset.from_dict({"words": words, "tags": tags})
        KeptLayers(data, model, cutting_tokenizer, tmp_path, text_column="words", **options)

    with pytest.raises(ValueError, match="row 1: .* 2 words.*tags.* 1 "):
        keep([["a"], ["a", "dog"]], [[1], [1]], tag_columns=["tags"])
    # one per word with marks is too few where words are cut
    with pytest.raises(ValueError, match="row 0: .* 6 tokens.*tags.* 3 "):
        keep([["U.S."]], [[-100, 1, -100]])
    with pytest.raises(ValueError, match="tag_columns is .*words has texts"):
        keep(["U.S."], [[1]], tag_columns=["tags"])
