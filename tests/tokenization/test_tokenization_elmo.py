"""ELMo's characters: the published ids, and a tokenizer that every tool of transformers takes."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, DataCollatorForTokenClassification, DataCollatorWithPadding, pipeline, set_seed
from transformers.trainer_utils import RemoveColumnsCollator

from hf_lineage import ELMoConfig, ELMoForSequenceClassification, ELMoForTokenClassification, ELMoTokenizer
from hf_lineage.tokenization import elmo_tokenizer, train_word_level


MARKS = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>", "pad_token": "<pad>"}
TEXTS = ["The cat sat .", "An öl-lamp glows"]
BOS, EOS = ([259, mark, 260, *[261] * 47] for mark in (257, 258))


def characters(word):
    """By the published rule: bytes + 1 between the marks of a word, filled up to 50."""
    letters = [byte + 1 for byte in word.encode()][:48]
    return [259, *letters, 260, *[261] * (48 - len(letters))]


def expected(text):
    return [BOS, *map(characters, text.split()), EOS]


@pytest.fixture
def tokenizer():
    return elmo_tokenizer(train_word_level(["the cat sat sat . the the"], special_tokens=MARKS, show_progress=False))


def test_published_ids():
    assert characters("ab") == [259, 98, 99, 260] + [261] * 46
    tokenizer = elmo_tokenizer(["<S>", "</S>", "<UNK>"])
    assert tokenizer.characters_of("ab") == characters("ab")
    long = "é" * 100
    assert tokenizer.characters_of(long) == [259, *[196, 170] * 24, 260]


@pytest.mark.parametrize("text", [*TEXTS, "", "  spaced \n out ", "日本語 🙂", "x" * 60])
def test_words_keep_their_letters(tokenizer, text):
    encoded = tokenizer(text)
    assert encoded["char_ids"] == expected(text)
    assert len(encoded["input_ids"]) == len(encoded["char_ids"]) == len(encoded["attention_mask"])
    known = {"the", "cat", "sat", "."}
    unknown = [index == tokenizer.unk_token_id for index in encoded["input_ids"]]
    assert unknown == [False, *(word not in known for word in text.split()), False]


def test_batch(tokenizer):
    encoded = tokenizer(TEXTS)
    assert encoded["char_ids"] == [expected(text) for text in TEXTS]
    assert encoded.word_ids(1) == [None, 0, 1, 2, None]


def test_padded_tensors(tokenizer):
    for side in ("right", "left"):
        encoded = tokenizer(["the cat", *TEXTS], padding=True, padding_side=side, return_tensors="pt")
        assert encoded["char_ids"].shape == (3, 6, 50)
        for row, text in enumerate(["the cat", *TEXTS]):
            mask = encoded["attention_mask"][row].bool()
            assert encoded["char_ids"][row][mask].tolist() == expected(text)
            assert encoded["char_ids"][row][~mask].sum() == 0
    assert tokenizer("the cat", return_tensors="pt")["char_ids"].tolist() == [expected("the cat")]


def test_words_given_one_by_one(tokenizer):
    words = [text.split() for text in TEXTS]
    assert tokenizer(words, is_split_into_words=True)["char_ids"] == [expected(text) for text in TEXTS]
    assert tokenizer(words[0], is_split_into_words=True)["char_ids"] == expected(TEXTS[0])


def test_pairs(tokenizer):
    both = [*expected(TEXTS[0]), *expected(TEXTS[1])]
    assert tokenizer(*TEXTS)["char_ids"] == both
    assert tokenizer([TEXTS[0]], [TEXTS[1]])["char_ids"] == [both]
    assert tokenizer([tuple(TEXTS)])["char_ids"] == [both]


def test_truncation_and_overflow(tokenizer):
    text = "one two three four five"
    assert tokenizer(text, truncation=True, max_length=4)["char_ids"] == expected("one two")
    pieces = tokenizer(
        [text, "six"], truncation=True, max_length=4, return_overflowing_tokens=True, return_offsets_mapping=True
    )
    assert pieces["char_ids"] == [expected(part) for part in ("one two", "three four", "five", "six")]
    one = tokenizer(text, truncation=True, max_length=4, return_overflowing_tokens=True)
    assert one["char_ids"] == [expected(part) for part in ("one two", "three four", "five")]


def test_normalisation_is_for_the_ids_only():
    lowercased = elmo_tokenizer(
        train_word_level(["the cat"], special_tokens=MARKS, lowercase=True, show_progress=False)
    )
    encoded = lowercased("The CAT")
    assert encoded["input_ids"] == lowercased("the cat")["input_ids"]
    assert encoded["char_ids"] == expected("The CAT")


def test_marks_in_the_text_are_marks(tokenizer):
    assert tokenizer("the </S>", add_special_tokens=False)["char_ids"] == [characters("the"), EOS]


def test_vocabulary_characters(tokenizer):
    rows = tokenizer.vocabulary_characters()
    assert len(rows) == len(tokenizer)
    assert rows[tokenizer.bos_token_id] == BOS
    assert rows[tokenizer.convert_tokens_to_ids("cat")] == characters("cat")


@pytest.mark.parametrize("length", [50, 12])
def test_auto_tokenizer_opens_it(length, tmp_path):
    words = train_word_level(["the cat"], special_tokens=MARKS, show_progress=False)
    tokenizer = elmo_tokenizer(words, max_characters_per_token=length)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is ELMoTokenizer
    assert loaded(TEXTS).data == tokenizer(TEXTS).data
    assert len(loaded(TEXTS)["char_ids"][0][0]) == length


def test_it_opens_without_the_package(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    script = (
        "import json, sys; sys.modules['hf_lineage'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)\n"
        "print(json.dumps(tokenizer(json.loads(sys.argv[1]), padding=True).data))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout) == tokenizer(TEXTS, padding=True).data


def test_collators_pad_characters(tokenizer):
    examples = [dict(tokenizer(text)) for text in ("the cat", *TEXTS)]
    batch = DataCollatorWithPadding(tokenizer)(examples)
    assert batch["char_ids"].shape == (3, 6, 50)
    assert torch.equal(
        batch["char_ids"], tokenizer(["the cat", *TEXTS], padding=True, return_tensors="pt")["char_ids"]
    )
    labelled = [example | {"labels": [-100] * len(example["input_ids"])} for example in examples]
    batch = DataCollatorForTokenClassification(tokenizer)(labelled)
    assert batch["char_ids"].shape == (3, 6, 50)
    assert batch["labels"].shape == (3, 6)


def test_trainer_keeps_characters(tokenizer, tmp_path):
    from transformers import Trainer, TrainingArguments

    set_seed(0)
    config = ELMoConfig(
        vocab_size=len(tokenizer),
        character_size=4,
        cnn_filters=[[1, 8]],
        hidden_size=8,
        projection_size=4,
        task_size=4,
    )
    model = ELMoForTokenClassification(config)
    examples = [dict(tokenizer(text)) | {"labels": [-100, 0, 1, -100], "words": text} for text in ("a b", "c d")]
    arguments = TrainingArguments(output_dir=str(tmp_path), max_steps=1, use_cpu=True, save_strategy="no")
    trainer = Trainer(
        model, arguments, train_dataset=examples, data_collator=DataCollatorForTokenClassification(tokenizer)
    )
    collator = trainer._get_collator_with_removed_columns(trainer.data_collator)
    assert isinstance(collator, RemoveColumnsCollator)
    assert set(collator(examples)) == {"input_ids", "char_ids", "attention_mask", "labels"}
    trainer.train()


def test_what_is_no_vocabulary_is_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match=r"WordPiece.*train_word_level"):
        elmo_tokenizer(tiny_tokenizer)
    with pytest.raises(ValueError, match="bos_token, eos_token"):
        elmo_tokenizer(train_word_level(["a"], special_tokens={"unk_token": "<UNK>"}, show_progress=False))
    with pytest.raises(ValueError, match="'a' is in the vocabulary twice"):
        elmo_tokenizer(["<S>", "a", "</S>", "<UNK>", "a"])
    with pytest.raises(ValueError, match="lacks </S>"):
        elmo_tokenizer(["<S>", "<UNK>"])
    with pytest.raises(ValueError, match="max_characters_per_token is 2"):
        elmo_tokenizer(["<S>", "</S>", "<UNK>"], max_characters_per_token=2)


@pytest.mark.parametrize("kind", [tuple, list])
def test_pairs_in_a_batch(tokenizer, kind):
    pairs = [kind(TEXTS), kind(reversed(TEXTS))]
    assert tokenizer(pairs)["char_ids"] == [[row for text in pair for row in expected(text)] for pair in pairs]


@pytest.mark.parametrize("kind", [tuple, list])
def test_two_words_are_no_pair(tokenizer, kind):
    texts = [kind(["the", "cat"]), kind(["sat", "."])]
    assert tokenizer(texts, is_split_into_words=True)["char_ids"] == [expected(" ".join(text)) for text in texts]


@pytest.mark.parametrize("size", [1, 2])
def test_pairs_in_the_zero_shot_pipeline(tokenizer, size):
    """It gives pairs as lists."""
    classes = {"id2label": dict(enumerate(["entailment", "neutral", "contradiction"]))}
    classes["label2id"] = {name: index for index, name in classes["id2label"].items()}
    sizes = {"hidden_size": 8, "projection_size": 4, "character_size": 4, "cnn_filters": [[1, 4], [3, 6]]}
    model = ELMoForSequenceClassification(ELMoConfig(vocab_size=len(tokenizer), **classes, **sizes)).eval()
    pipe = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
    labels = ["sat", "the old lamp"]
    for text, answer in zip(TEXTS, pipe(TEXTS, labels, batch_size=size), strict=True):
        scores = {}
        for label in labels:
            [encoded] = tokenizer([text], [f"This example is {label}."])["char_ids"]
            scores[label] = model(char_ids=torch.tensor([encoded])).logits[0, 0]
        shares = torch.stack(list(scores.values())).softmax(0).tolist()
        found = dict(zip(answer["labels"], answer["scores"], strict=True))
        assert found == pytest.approx(dict(zip(labels, shares, strict=True)), abs=1e-5)
