"""The paper's input transformations, token by token, and that GPT can be fine-tuned on each of them."""

import datasets
import pytest
import torch
from transformers import AutoTokenizer, Trainer, TrainingArguments

from hf_lineage import GPTConfig, GPTForCausalLM, GPTForMultipleChoice, GPTForSequenceClassification
from hf_lineage.data import TaskCollator, TaskInputs, task_tokenizer
from hf_lineage.tokenization import train_word_level


ROW = {"a": "the dog barks", "b": "cats sleep", "q": "who", "answers": ["cats", "the dog", "sleep"], "label": 1}


@pytest.fixture(scope="module")
def tokenizer():
    special = {"unk_token": "<unk>", "eos_token": "<eos>"}
    return task_tokenizer(train_word_level([" ".join(map(str, ROW.values()))], special_tokens=special))


def tokens(tokenizer, ids):
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize(
    ("task", "columns", "expected"),
    [
        ("classification", ["a"], "_start_ the dog barks _classify_"),
        ("entailment", ["a", "b"], "_start_ the dog barks _delimiter_ cats sleep _classify_"),
        (
            "similarity",
            ["a", "b"],
            [
                "_start_ the dog barks _delimiter_ cats sleep _classify_",
                "_start_ cats sleep _delimiter_ the dog barks _classify_",
            ],
        ),
        (
            "multiple_choice",
            ["a", "q", "answers"],
            [
                "_start_ the dog barks who _delimiter_ cats _classify_",
                "_start_ the dog barks who _delimiter_ the dog _classify_",
                "_start_ the dog barks who _delimiter_ sleep _classify_",
            ],
        ),
    ],
)
def test_transformations_of_figure_1(tokenizer, task, columns, expected):
    row = TaskInputs(tokenizer, task, columns)(ROW)
    if isinstance(expected, str):
        assert tokens(tokenizer, row["input_ids"]) == expected
        assert row["attention_mask"] == [1] * len(row["input_ids"])
    else:
        assert [tokens(tokenizer, ids) for ids in row["input_ids"]] == expected


def test_long_texts_keep_the_marks(tokenizer):
    inputs = TaskInputs(tokenizer, "entailment", ["a", "b"], max_length=6)
    assert tokens(tokenizer, inputs({"a": "the dog barks", "b": "cats"})["input_ids"]) == (
        "_start_ the dog _delimiter_ cats _classify_"
    )


def test_new_tokens_stand_after_the_vocabulary_and_survive_saving(tokenizer, tmp_path):
    plain = train_word_level(["a b"], special_tokens={"unk_token": "<unk>", "eos_token": "<eos>"})
    with_marks = task_tokenizer(plain)
    assert with_marks.convert_tokens_to_ids(["_start_", "_delimiter_", "_classify_"]) == [4, 5, 6]
    assert len(plain) == 4
    assert (with_marks.pad_token, with_marks.eos_token) == ("_start_", "<eos>")
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("the dog", "cats")["input_ids"] == tokenizer("the dog", "cats")["input_ids"]
    assert TaskInputs(loaded, "classification", ["a"]).tokenizer is loaded
    assert tokenizer.decode(tokenizer("the dog", "cats")["input_ids"], skip_special_tokens=True) == "the dog cats"


def test_batches(tokenizer):
    collate = TaskCollator(tokenizer)
    rows = [
        {**TaskInputs(tokenizer, "classification", ["a"])({"a": text}), "label": 2} for text in ("cats", "the dog")
    ]
    batch = collate(rows)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["input_ids"][0, -1] == tokenizer.pad_token_id
    assert batch["labels"].tolist() == [2, 2]
    choices = TaskInputs(tokenizer, "multiple_choice", ["a", "answers"])
    batch = collate([choices(ROW), choices({**ROW, "a": "cats"})])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 3, 8)
    with pytest.raises(ValueError, match=r"\[2, 3\] texts each"):
        collate([choices(ROW), choices({**ROW, "answers": ["cats", "sleep"]})])


@pytest.mark.parametrize(
    ("task", "columns", "row", "message"),
    [
        ("parsing", ["a"], {}, "task is 'parsing'.*classification, entailment, similarity, multiple_choice"),
        ("entailment", ["a"], {}, r"columns is \['a'\]; entailment reads 2 columns"),
        ("classification", "a", {}, "columns is 'a'; classification reads 1 columns, in a list"),
        ("classification", ["a"], {"a": None}, r"None \(NoneType\) in columns"),
        ("multiple_choice", ["a", "b"], ROW, "column b holds 'cats sleep', not a list"),
        ("multiple_choice", ["a", "b"], {"a": "x", "b": []}, r"column b holds \[\], not a list"),
    ],
)
def test_mistakes_are_named(tokenizer, task, columns, row, message):
    with pytest.raises(ValueError, match=message):
        TaskInputs(tokenizer, task, columns)(row)


@pytest.mark.parametrize(
    ("task", "columns", "head"),
    [
        ("classification", ["a"], GPTForSequenceClassification),
        ("entailment", ["a", "b"], GPTForSequenceClassification),
        ("similarity", ["a", "b"], GPTForSequenceClassification),
        ("multiple_choice", ["a", "choices"], GPTForMultipleChoice),
    ],
)
def test_a_pretrained_gpt_learns_each_task(tokenizer, task, columns, head, tmp_path):
    """Which text has a dog in it: one that the vector at the extract token can only know by looking back."""
    texts = [("the dog sleep", "cats barks", 1), ("cats sleep", "cats barks", 0)] * 8
    rows = [{"a": a, "b": b, "choices": ["who", "sleep"], "label": label} for a, b, label in texts]
    model = GPTForCausalLM(
        GPTConfig(
            vocab_size=len(tokenizer) - 3,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            initializer_range=0.2,
        )
    )
    model.save_pretrained(tmp_path)
    model = head.from_pretrained(tmp_path)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    inputs = TaskInputs(tokenizer, task, columns)
    data = datasets.Dataset.from_list(rows).map(inputs, remove_columns=["a", "b", "choices"])
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=60,
        learning_rate=0.02,
        logging_steps=10,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=data, data_collator=TaskCollator(tokenizer))
    trainer.train()
    logits = torch.tensor(trainer.predict(data).predictions)
    assert (logits.argmax(1) == torch.tensor(data["label"])).all()
