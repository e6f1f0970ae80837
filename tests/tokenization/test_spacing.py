"""Decoding gives texts back: exactly from byte pairs, and blanks around marks as the training text has them."""

import gzip
import hashlib
import json
import subprocess
import sys

import pytest
from sacrebleu.metrics import BLEU
from transformers import AutoTokenizer

from hf_lineage.metrics import bleu_tokenizer, generated_texts, is_lowercasing
from hf_lineage.tokenization import (
    causal_tokenizer,
    train_byte_pairs,
    train_characters,
    train_word_level,
    train_wordpiece,
    translation_tokenizer,
)
from tests.tokenization.test_tokenization import TIES


ODD_TEXTS = [
    "",
    "a",
    "  two  blanks ",
    "\n\tlines\u00a0and\u2028more",
    "我欠他100万。Tom说：“好”",
    "東京タワーへ行く",
    "I'm (not) 'quoted', p.m. -- «x» \"y\" 1,000.5",
    "می‌خواهم ශ්‍රී co\u00adoperate col·legi ❤️ 👩‍👩‍👧 \x00",
    "<0x41> ##x [UN Ḁ",
]
PRINTED = [
    'He said: "I\'m well-known, aren\'t I?" (At 5, or 1,000.) "No!" - she left',
    "l'été, c'est \"l'heure\" de J-P.",
    "我知道。他说：“好！”",
]


def quiet(train, texts, vocab_size=None, **options):
    return train(texts, vocab_size, show_progress=False, **options)


def round_trip(tokenizer, text):
    return tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)


@pytest.mark.parametrize("lowercase", [False, True])
def test_byte_pairs_give_every_text_back(tmp_path, tiny_corpus, lowercase):
    tokenizer = translation_tokenizer(quiet(train_byte_pairs, tiny_corpus, 600, lowercase=lowercase))
    tokenizer.save_pretrained(tmp_path)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        for text in ODD_TEXTS + tiny_corpus[:20]:
            assert round_trip(loaded, text) == (text.lower() if lowercase else text)
            assert tokenizer.unk_token_id not in loaded(text).input_ids
    assert is_lowercasing(tokenizer) == lowercase


def test_byte_pairs_merge_the_most_frequent_pair():
    """After Sennrich et al. (2016): ab 60 times, then abc 25, xy 10."""
    texts = ["ab"] * 35 + ["abc"] * 25 + ["xy"] * 10
    tokenizer = quiet(train_byte_pairs, texts, 1_000, special_tokens={"unk_token": "<unk>"})
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tokens[:2] == ["<unk>", "<0x00>"]
    assert tokens[257:] == [*"abcxy▁", "ab", "▁ab", "▁abc", "xy", "▁xy"]


@pytest.mark.reliability("A16")
def test_byte_pairs_have_the_same_bytes_on_every_run():
    script = (
        "import sys; from hf_lineage.tokenization import train_byte_pairs\n"
        "texts = sys.stdin.read().splitlines()\n"
        "print(train_byte_pairs(texts, 320, show_progress=False).backend_tokenizer.to_str())"
    )
    # whose sets have another order
    run = subprocess.run([sys.executable, "-c", script], input="\n".join(TIES), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    here = (quiet(train_byte_pairs, texts, 320).backend_tokenizer.to_str() for texts in (TIES, TIES[::-1]))
    digests = [hashlib.sha256(text.strip().encode()).digest() for text in (run.stdout, *here)]
    assert len(set(digests)) == 1


def test_offsets_of_byte_pairs_are_the_texts(tiny_corpus):
    tokenizer = quiet(train_byte_pairs, tiny_corpus, 500)
    text = "the  dog, Ḁ 我欠他"
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    pieces = [text[start:end] for start, end in encoded.offset_mapping]
    for token, piece in zip(encoded.tokens(), pieces, strict=True):
        assert token.startswith("<0x") or token.replace("▁", "") == piece.strip()


def test_a_vocabulary_without_room_for_bytes_is_named():
    with pytest.raises(ValueError, match="vocab_size=200 .* 256 bytes .* 26[0-9]"):
        quiet(train_byte_pairs, ["abc"], 200)


@pytest.mark.parametrize("train", [train_wordpiece, train_word_level])
@pytest.mark.parametrize("text", PRINTED)
def test_blanks_stand_as_in_the_texts(tmp_path, train, text):
    options = {"split_punctuation": True} if train is train_word_level else {"lowercase": False, "min_frequency": 1}
    if train is train_word_level and "我" in text:
        pytest.skip("its tokenizer cuts no ideographs")
    plain = quiet(train, PRINTED * 3, 300, **options)
    tokenizer = translation_tokenizer(plain, PRINTED[:2] * 3 if "我" not in text else PRINTED[2:] * 3)
    tokenizer.save_pretrained(tmp_path)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert round_trip(loaded, text) == text
    # text ids are the same
    ids = plain(text, add_special_tokens=False).input_ids
    assert tokenizer(text, add_special_tokens=False).input_ids == ids


@pytest.mark.parametrize("lowercase", [False, True])
def test_characters_give_a_perfect_translation_back(tiny_corpus, lowercase):
    texts = [*tiny_corpus[:20], "I'm  here, world.", "我欠他100元。"]
    characters = train_characters(texts, lowercase=lowercase, show_progress=False)
    expected = [text.lower() if lowercase else text for text in texts]
    for others in (None, texts):
        tokenizer = translation_tokenizer(characters, others)
        found = generated_texts(tokenizer, tokenizer(texts, padding=True, return_tensors="np").input_ids)
        assert found == expected
        assert BLEU().corpus_score(found, [expected]).score == pytest.approx(100)


def test_texts_that_were_tokenized_stay_so():
    texts = ['he said : " i \'m here , " .', "a . b"]
    tokenizer = translation_tokenizer(quiet(train_wordpiece, texts * 3, 100, lowercase=False), texts)
    assert [round_trip(tokenizer, text) for text in texts] == texts


@pytest.mark.parametrize("text", ['I\'m sure, said he: "well-known (or not)?" At 1,000.5!', "我知道，他说：“好！”"])
def test_causal_models_write_as_it_is_printed(text):
    wordpiece = quiet(train_wordpiece, [text] * 3, 100, lowercase=False)
    for causal in (causal_tokenizer(wordpiece), causal_tokenizer(wordpiece, [text] * 2)):
        # words begin with a blank, so that they can follow others; ideographs have none
        assert round_trip(causal, text).removeprefix("" if text[0] == "我" else " ") == text
    causal = causal_tokenizer(quiet(train_byte_pairs, [text] * 3, 400))
    ids = causal(text).input_ids[1:]
    assert causal.decode(ids) == f" {text}"
    for cut in range(1, len(ids)):
        assert causal.decode(ids[:cut]) + causal.decode(ids[cut:]) == f" {text}"


def pairs(folder, split):
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row.get("translation", row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split", "source", "target", "least"),
    [
        ("mt_multi30k", "test_2016_flickr", "de", "en", 100),
        ("mt_multi30k", "test_2016_flickr", "en", "de", 99.9),
        ("mt_multi30k", "test_2016_flickr", "en", "fr", 100),
        ("mt_tatoeba_zh_en", "test", "zh", "en", 99.8),
        ("mt_tatoeba_zh_en", "test", "en", "zh", 99),
    ],
)
@pytest.mark.parametrize("lowercase", [False, True])
def test_a_perfect_translation_has_bleu_100(shared_data, name, split, source, target, least, lowercase):
    """Byte pairs exactly; word pieces but for what their rules leave open and for characters never seen."""
    train = pairs(shared_data / name, "train")
    references = [row[target] for row in pairs(shared_data / name, split)]
    both = [row[language] for row in train for language in (source, target)]
    for trained, wanted in (
        (quiet(train_byte_pairs, both, 8_000, lowercase=lowercase), 100),
        (quiet(train_wordpiece, both, 8_000, lowercase=lowercase, strip_accents=False), least),
    ):
        tokenizer = translation_tokenizer(trained, (row[target] for row in train))
        ids = tokenizer(references, padding=True, return_tensors="np").input_ids
        score = BLEU(tokenize=bleu_tokenizer(target), lowercase=lowercase)
        assert score.corpus_score(generated_texts(tokenizer, ids), [references]).score >= wanted - 1e-9
