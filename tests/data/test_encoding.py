"""Encoding chunk by chunk gives the ids of the whole text, for every tokenizer and every text."""

import gzip
import json
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from hf_lineage.data import TextEncoder
from hf_lineage.tokenization import causal_tokenizer, train_byte_pairs, train_word_level, train_wordpiece


# blanks of all kinds, marks, accents, composed and not, Chinese, control characters, special tokens, a long word
ODD_TEXTS = [
    "",
    "   ",
    "\n\t \r\n",
    "The  dog\tsaw\nthe dogs\r\n.",
    "Élan e\u0301lan \u0301alone o\u0308 ÖL İstanbul Σίσυφος ΣΑΣ.",
    "天地玄黃,dog天dog 宇宙",
    "a\u00a0b\u2003c\u3000d\u200be\u2028f\x0bg\x0ch\x1ci\x85j",
    "nul\x00inside \x00 \ufffd soft\u00adhyphen zero\u200dwidth",
    "[MASK] the[SEP]dog [MASK]. [mask] [CLS]",
    "dog's don't 3.14 1,000 U.S. -- ... ?!",
    "x" * 101 + " dog",
    "the dog " * 300,
]


def whole(tokenizer, texts):
    return tokenizer(texts, add_special_tokens=False, truncation=False, padding=False)["input_ids"]


def check(tokenizer, texts, **settings):
    encoder = TextEncoder(tokenizer, **settings)
    expected = whole(tokenizer, texts)
    for _ in range(2):
        found = encoder(texts)
        assert all(ids.dtype == np.int32 for ids in found)
        assert [ids.tolist() for ids in found] == expected
    return encoder


@pytest.fixture(scope="module")
def wordpieces(tiny_corpus):
    texts = [*tiny_corpus, *ODD_TEXTS]
    return {
        "wordpiece": train_wordpiece(texts, 400, show_progress=False),
        "cased": train_wordpiece(texts, 400, lowercase=False, handle_chinese_chars=False, show_progress=False),
        "accents": train_wordpiece(texts, 400, strip_accents=False, show_progress=False),
        "causal": causal_tokenizer(train_wordpiece(texts, 400, show_progress=False)),
        "words": train_word_level(texts, show_progress=False),
        "lower-cased words": train_word_level(texts, 60, lowercase=True, show_progress=False),
        "BertTokenizer": BertTokenizer(train_wordpiece(texts, 400, show_progress=False).get_vocab()),
    }


@pytest.mark.reliability("C1")
@pytest.mark.parametrize(
    "name", ["wordpiece", "cased", "accents", "causal", "words", "lower-cased words", "BertTokenizer"]
)
def test_chunks_give_the_ids_of_the_text(wordpieces, tiny_corpus, name):
    tokenizer = wordpieces[name]
    assert check(tokenizer, [*tiny_corpus, *ODD_TEXTS]).by_chunk
    assert tokenizer.mask_token_id in TextEncoder(tokenizer)(["see [MASK]"])[0]


def test_added_tokens_in_the_text(wordpieces):
    tokenizer = pickle.loads(pickle.dumps(wordpieces["wordpiece"]))
    tokenizer.add_tokens(
        [
            "dogs",
            AddedToken("ver", single_word=True),
            AddedToken("<x>", lstrip=True, rstrip=True),
            AddedToken("Élan", normalized=True),
        ]
    )
    texts = [*ODD_TEXTS, "two dogs, hotdogs over ver river ver. <x> a <x>b élan ELAN  <x>  "]
    assert check(tokenizer, texts).by_chunk
    tokenizer.add_tokens("the dog")
    assert not check(tokenizer, texts).by_chunk


def test_added_tokens_across_the_marks_of_a_chunk(wordpieces):
    tokenizer = pickle.loads(pickle.dumps(wordpieces["wordpiece"]))
    texts = ["(dog)", "dog's", "dogs'", "the(dog).cat,dog's", "g's.g's,dog.the", "dog.dog,[MASK].dog"]
    words_of = TextEncoder(tokenizer).words_of
    assert words_of(["(dog).", "Élan", "[x", "x"]) == {"(dog).": ["(", "dog", ")", "."], "x": ["x"]}
    assert words_of(["Élan"]) == words_of([]) == {}
    check(tokenizer, texts)
    tokenizer.add_tokens(["g's", ".dog"])
    assert check(tokenizer, texts).words_of(["(dog)."]) == {}
    tokenizer.add_tokens(["dog"])
    assert check(tokenizer, texts).words_of is None


def test_settings_of_the_tokenizer(wordpieces):
    tokenizer = pickle.loads(pickle.dumps(wordpieces["wordpiece"]))
    tokenizer(["the dog", "dogs and cats"], truncation=True, max_length=2, padding="max_length")
    check(tokenizer, ODD_TEXTS)
    tokenizer.split_special_tokens = True
    check(tokenizer, ODD_TEXTS)
    assert tokenizer.mask_token_id not in TextEncoder(tokenizer)(["see [MASK]"])[0]


def test_tokenizers_that_look_beyond_a_chunk(wordpieces):
    byte_level = Tokenizer(models.BPE(unk_token="?"))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator(ODD_TEXTS)
    composing = Tokenizer.from_str(wordpieces["wordpiece"].backend_tokenizer.to_str())
    composing.normalizer = normalizers.Sequence([normalizers.Replace("  ", "_"), normalizers.Lowercase()])
    unsplit = Tokenizer.from_str(wordpieces["wordpiece"].backend_tokenizer.to_str())
    unsplit.pre_tokenizer = pre_tokenizers.Sequence([])
    for backend in (byte_level, composing, unsplit):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
        assert not check(tokenizer, ODD_TEXTS).by_chunk


@pytest.mark.parametrize("kind", ["byte pairs", "byte level", "words"])
def test_long_texts_are_encoded_in_parts(tiny_corpus, kind):
    """The ids are those of the whole text, and no call of the tokenizer sees more than some parts of it."""
    if kind == "byte level":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(tiny_corpus, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    else:
        train = train_byte_pairs if kind == "byte pairs" else train_word_level
        tokenizer = train(tiny_corpus, 600, show_progress=False)
    text = "  ".join(tiny_corpus * 20) + "\n我欠他 " + " ".join(tiny_corpus * 20)
    assert len(text) > 50_000
    expected = whole(tokenizer, [text, "a", ""])
    encoder, seen = TextEncoder(tokenizer), []
    encode = encoder._encode
    encoder._encode = lambda texts: seen.extend(map(len, texts)) or encode(texts)
    assert [ids.tolist() for ids in encoder([text, "a", ""])] == expected
    assert max(seen) < 20_000


class LetterTokenizer(PreTrainedTokenizer):
    """A tokenizer in python: its tokens are letters."""

    def get_vocab(self):
        return {letter: number for number, letter in enumerate("?abc")}

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.get_vocab().get(token, 0)


def test_tokenizers_in_python():
    encoder = TextEncoder(LetterTokenizer(unk_token="?"))
    assert [ids.tolist() for ids in encoder(["ab", "", "cx"])] == [[1, 2], [], [3, 0]]
    assert encoder([]) == []


def test_memory_is_bounded(wordpieces):
    texts = [f"dog{number} the{number}" for number in range(500)]
    encoder = TextEncoder(wordpieces["wordpiece"], max_characters=200)
    for start in range(0, 500, 10):
        batch = texts[start : start + 10]
        assert [ids.tolist() for ids in encoder(batch)] == whole(wordpieces["wordpiece"], batch)
        assert sum(map(len, encoder.ids)) <= 200
    with pytest.raises(ValueError, match="max_characters is 0"):
        TextEncoder(wordpieces["wordpiece"], max_characters=0)


def test_what_was_learnt_stays_behind(wordpieces):
    fresh = TextEncoder(wordpieces["wordpiece"])
    before = pickle.dumps(fresh)
    fresh(ODD_TEXTS)
    assert pickle.dumps(fresh) == before
    copied = pickle.loads(before)
    assert [ids.tolist() for ids in copied(ODD_TEXTS)] == whole(wordpieces["wordpiece"], ODD_TEXTS)


def test_many_new_words_at_once(wordpieces):
    # more than are encoded together; unknown ones among them, and one that is a piece's mark
    words = [f"dog{number}s" for number in range(1_200)] + ["x" * 101, "##", "#s", "0" * 120, "[UNK]"]
    for name in ("wordpiece", "cased", "words"):
        check(wordpieces[name], [" ".join(words), *words])


def texts_within(value) -> Iterator[str]:
    """The texts in JSON, however deep in lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_within(part)


@pytest.mark.slow
def test_every_line_of_real_corpora(shared_data):
    paths = sorted(shared_data.glob("lm_*/*.txt.gz")) + sorted(shared_data.glob("*/*.jsonl.gz"))
    train = gzip.open(shared_data / "lm_wikitext2" / "train.txt.gz", "rt", encoding="utf-8").read().split("\n")
    encoders = [
        TextEncoder(train_wordpiece(train, 20_000, lowercase=lowercase, show_progress=False))
        for lowercase in (True, False)
    ]
    lines = 0
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts = list(file)
        if ".jsonl" in path.name:
            texts = list(texts_within([json.loads(text) for text in texts]))
            assert texts, path
        lines += len(texts)
        for encoder in encoders:
            for start in range(0, len(texts), 1_000):
                batch = texts[start : start + 1_000]
                expected = encoder.tokenizer.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                assert [ids.tolist() for ids in encoder(batch)] == [encoding.ids for encoding in expected], path
    assert lines > 500_000
