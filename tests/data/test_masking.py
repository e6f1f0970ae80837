"""Masked words: how many, which ones, and what stands in their place."""

import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_lineage.data import Masking
from hf_lineage.data.word_starts import word_starts
from hf_lineage.tokenization import train_byte_pairs, train_wordpiece


CLS, SEP, MASK, VOCABULARY = 0, 1, 2, 1_000


def masking(**settings):
    return Masking(MASK, VOCABULARY, (CLS, SEP), **settings)


def text(length, seed=0):
    words = np.random.default_rng(seed).integers(3, VOCABULARY, size=length - 2)
    return np.array([CLS, *words, SEP])


def draws(number, seed=1):
    return (np.random.default_rng([seed, index]) for index in range(number))


def within(count, trials, probability, sigmas=4.5):
    return abs(count - trials * probability) <= sigmas * np.sqrt(trials * probability * (1 - probability))


@pytest.mark.parametrize(
    ("length", "expected"), [(4, 1), (6, 1), (10, 2), (30, 4), (100, 15), (128, 19), (133, 20), (512, 20)]
)
def test_fifteen_percent_at_least_one_at_most_twenty(length, expected):
    for draw in draws(20):
        _, labels = masking()(text(length), draw)
        assert (labels != -100).sum() == expected
    _, labels = masking(max_predictions=None)(text(length), next(draws(1)))
    assert (labels != -100).sum() == max(1, round(0.15 * length))


def test_eighty_ten_ten():
    fates, ids = Counter(), text(100)
    for draw in draws(2_000):
        masked, labels = masking()(ids, draw)
        chosen = labels != -100
        assert (masked[~chosen] == ids[~chosen]).all()
        assert (labels[chosen] == ids[chosen]).all()
        fates["mask"] += (masked[chosen] == MASK).sum()
        fates["kept"] += (masked[chosen] == ids[chosen]).sum()
        fates["all"] += chosen.sum()
    trials = fates["all"]
    assert trials == 2_000 * 15
    # a random token is the mask, or the word itself, once in a vocabulary
    assert within(fates["mask"], trials, 0.8 + 0.1 / VOCABULARY)
    assert within(fates["kept"], trials, 0.1 + 0.1 / VOCABULARY)


def test_random_words_come_from_the_whole_vocabulary():
    always_random = masking(mask_share=0.0, random_share=1.0, probability=1.0, max_predictions=None)
    found = Counter()
    for draw in draws(300):
        masked, labels = always_random(text(102), draw)
        found.update(masked[labels != -100].tolist())
    counts = np.array([found[token] for token in range(VOCABULARY)])
    assert counts.sum() == 300 * 100
    # chi-square of 999 degrees of freedom: mean 999, spread 45
    assert ((counts - 30) ** 2 / 30).sum() < 999 + 5 * 45
    assert found[CLS]
    assert found[MASK]


def test_special_tokens_are_never_chosen_and_all_others_alike():
    ids, chosen = text(20), np.zeros(20)
    for draw in draws(4_000):
        chosen += masking()(ids, draw)[1] != -100
    assert chosen[0] == chosen[-1] == 0
    assert chosen.sum() == 4_000 * 3
    assert all(within(count, 4_000, 3 / 18) for count in chosen[1:-1])


def test_my_dog_is_hairy():
    """Section 3.1's example: hairy becomes [MASK] 80 % of the time, another word 10 %, and stays 10 %."""
    tokenizer = train_wordpiece(["my dog is hairy", "an apple"] * 3, 60, show_progress=False)
    sentence = tokenizer("my dog is hairy").input_ids
    assert tokenizer.convert_ids_to_tokens(sentence) == ["[CLS]", "my", "dog", "is", "hairy", "[SEP]"]
    apple = tokenizer.convert_tokens_to_ids("apple")
    seen, chosen = Counter(), Counter()
    mask = Masking.of(tokenizer)
    for draw in draws(6_000):
        masked, labels = mask(np.array(sentence), draw)
        [place] = np.flatnonzero(labels != -100)
        chosen[place] += 1
        if place == 4:
            assert labels[4] == sentence[4]
            seen[int(masked[4])] += 1
    assert sorted(chosen) == [1, 2, 3, 4]
    assert all(within(count, 6_000, 0.25) for count in chosen.values())
    trials, chance = chosen[4], 0.1 / len(tokenizer)
    assert within(seen[tokenizer.mask_token_id], trials, 0.8 + chance)
    assert within(seen[sentence[4]], trials, 0.1 + chance)
    assert within(seen[apple], trials, chance)


def test_whole_words():
    tokenizer = train_wordpiece(["unbelievable", "able", "un", "believe"] * 2, 25, show_progress=False)
    ids = np.array(tokenizer("unbelievable able un un believe able un").input_ids)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    starts = [place for place, token in enumerate(tokens[:-1]) if place and not token.startswith("##")]
    words = [range(start, end) for start, end in pairwise([*starts, len(tokens) - 1])]
    assert max(map(len, words)) > 2
    mask = Masking.of(tokenizer, whole_words=True, probability=0.3)
    number = round(0.3 * len(ids))
    counts = Counter()
    for draw in draws(300):
        chosen = set(np.flatnonzero(mask(ids, draw)[1] != -100))
        whole = [word for word in words if chosen.issuperset(word)]
        assert chosen == {place for word in whole for place in word}
        assert len(chosen) <= number
        # nothing that would still fit was passed over
        assert all(len(word) > number - len(chosen) for word in words if word not in whole)
        counts.update(whole)
    assert set(counts) >= {word for word in words if len(word) <= number}


def byte_level(texts):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    settings = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=280, **settings))
    return backend


def metaspace(texts):
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend


def with_mark(**mark):
    def train(texts):
        backend = Tokenizer(models.BPE(unk_token="<unk>", **mark))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=70, show_progress=False, **mark))
        return backend

    return train


KINDS = {
    "byte level": byte_level,
    "metaspace": metaspace,
    "@@": with_mark(continuing_subword_prefix="@@"),
    "</w>": with_mark(end_of_word_suffix="</w>"),
    "byte pairs": lambda texts: train_byte_pairs(texts, 310, show_progress=False).backend_tokenizer,
    "wordpiece": lambda texts: train_wordpiece(texts, 70, show_progress=False).backend_tokenizer,
}
SENTENCES = ["unbelievable, isn't it? naïve lanterns near 1,234 rivers", "the (un)believable  dog's lantern 我欠他 zz"]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_words_are_the_tokenizers_words(kind):
    """The reference is what `word_ids` says where the text is there."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=KINDS[kind](SENTENCES * 3),
        **{"unk_token": "<unk>", "mask_token": "<mask>", "cls_token": "<cls>", "sep_token": "<sep>"},
    )
    mask, parts = Masking.of(tokenizer, whole_words=True, probability=0.4), 0
    for text in SENTENCES:
        encoded = tokenizer(text, add_special_tokens=False)
        ids = np.array([tokenizer.cls_token_id, *encoded.input_ids, tokenizer.sep_token_id])
        words = {}
        for place, (word, (start, _)) in enumerate(zip(encoded.word_ids(), encoded[0].offsets, strict=True), start=1):
            # a Chinese character is a word, whatever the tokenizer cuts
            words.setdefault((word, start if text[start] in "我欠他" else None), set()).add(place)
        parts += sum(len(word) > 1 for word in words.values())
        for draw in draws(50):
            chosen = set(np.flatnonzero(mask(ids, draw)[1] != -100))
            assert chosen == set().union(*(word for word in words.values() if word <= chosen))
    assert parts > 8


def test_the_rest_of_a_word_is_by_itself():
    """A span that begins within a word, behind a special token or not: its rest does not join a neighbour."""
    tokenizer = train_wordpiece(["unbelievable", "able", "un", "believe"] * 2, 25, show_progress=False)
    rest = tokenizer("unbelievable", add_special_tokens=False).input_ids[1:]
    word = tokenizer("able", add_special_tokens=False).input_ids
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids = np.array([cls, *rest, *word, sep, *rest, *word, sep])
    lengths = [len(rest), len(word)] * 2
    starts = np.cumsum([1, *lengths]) + [0, 0, 1, 1, 1]
    whole = [set(range(start, start + length)) for start, length in zip(starts, lengths, strict=False)]
    mask = Masking.of(tokenizer, whole_words=True, probability=0.3)
    seen = set()
    for draw in draws(200):
        chosen = set(np.flatnonzero(mask(ids, draw)[1] != -100))
        assert chosen == set().union(*(each for each in whole if each <= chosen))
        seen.update(index for index, each in enumerate(whole) if each <= chosen)
    assert seen == {0, 1, 2, 3}


def test_pieces_of_subword_nmt_go_on():
    """`un@@ believ@@ able dog`, as subword-nmt writes it."""
    names = ["<unk>", "<mask>", "<cls>", "<sep>", "un@@", "believ@@", "able", "dog"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")),
        **{"unk_token": "<unk>", "mask_token": "<mask>", "cls_token": "<cls>", "sep_token": "<sep>"},
    )
    starts = Masking.of(tokenizer, whole_words=True).word_starts(np.array([4, 5, 6, 7, 4, 6]))
    assert starts.tolist() == [True, False, False, True, True, False]


THAI, JAPANESE = "กานีตูมาเรโลปาซี", "ありあとうあとうあり"


@pytest.mark.parametrize("kind", ["wordpiece", "byte pairs", "metaspace", "</w>"])
@pytest.mark.parametrize("text", [THAI, JAPANESE])
def test_phrases_without_blanks_are_many_words(kind, text):
    """A phrase is one word to the tokenizer, of more pieces than are masked: each of them is masked in some draw."""
    tokenizer = PreTrainedTokenizerFast(
        # the text once, its pieces more often: no piece is the whole phrase
        tokenizer_object=KINDS[kind]([*SENTENCES, text, *[text[:2], text[2:4]] * 3]),
        **{"unk_token": "<unk>", "mask_token": "<mask>", "cls_token": "<cls>", "sep_token": "<sep>"},
    )
    encoded = tokenizer(text, add_special_tokens=False)
    ids = np.array([tokenizer.cls_token_id, *encoded.input_ids, tokenizer.sep_token_id])
    assert len(set(encoded.word_ids())) == 1
    assert len(encoded.input_ids) > 3
    mask, masked = Masking.of(tokenizer, whole_words=True, probability=0.34), set()
    for draw in draws(60):
        masked.update(np.flatnonzero(mask(ids, draw)[1] != -100).tolist())
    assert masked == set(range(1, len(ids) - 1))


def unigram(pre_tokenizer):
    def train(texts):
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizer
        settings = {"special_tokens": ["<unk>"], "unk_token": "<unk>", "show_progress": False, "max_piece_length": 4}
        backend.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=120, **settings))
        return backend

    return train


def gemma(texts):
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    settings = {"special_tokens": ["<unk>"], "show_progress": False, "max_token_length": 4}
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=150, **settings))
    return backend


def marked(pre_tokenizer, **mark):
    def train(texts):
        backend = Tokenizer(models.BPE(unk_token="<unk>", **mark))
        backend.pre_tokenizer = pre_tokenizer
        settings = {"special_tokens": ["<unk>"], "max_token_length": 4, "show_progress": False}
        backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=150, **settings, **mark))
        return backend

    return train


TIBETAN = "བོད་ཡིག་གསལ་བཤད་མི་རིགས་དབུ་མེད་ལྷ་ས་"
MIXED = [*SENTENCES, "私はiPhoneを買った 我欠他100元", "北京abc大学 dog", TIBETAN]
MIXED_KINDS = {
    "metaspace": unigram(pre_tokenizers.Metaspace()),
    # XLM-R and T5
    "after white space": unigram(
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    ),
    # Llama
    "not split": unigram(pre_tokenizers.Metaspace(split=False)),
    "gemma": gemma,
    "punctuation": unigram(pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])),
    "</w>": marked(pre_tokenizers.WhitespaceSplit(), end_of_word_suffix="</w>"),
}
UNKNOWN = ["☃ ☃ dog", "☃lantern near the dog", "near lantern☃ the dog☃"]


def writing(character):
    """The script, as the Unicode name begins."""
    name = unicodedata.name(character, "").split()[0]
    return {"HIRAGANA": "CJK", "KATAKANA": "CJK", "DIGIT": "LATIN"}.get(name, name)


def words_of(text):
    """Per character the number of its word: cut at blanks, at other writing, at CJK characters, and at dots."""
    word, words = 0, []
    for place, character in enumerate(text):
        before = text[place - 1] if place else " "
        apart = writing(character) != writing(before) and {character, before} & set(SYLLABIC)
        if character == " " or before == "་" or writing(character) == "CJK" or (apart and before != " "):
            word += 1
        words.append(word)
    return words


SYLLABIC = {character for text in MIXED for character in text if writing(character) in ("CJK", "TIBETAN")}


@pytest.mark.parametrize("kind", MIXED_KINDS)
def test_words_of_every_writing(kind):
    """The reference is `word_ids`, further cut by the scripts of the characters."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=MIXED_KINDS[kind](MIXED * 3), unk_token="<unk>", mask_token="<mask>", cls_token="<cls>"
    )
    starts, parts = word_starts(tokenizer), 0
    # an unknown piece at the end of a word ends it with </w>, one at the beginning does not
    for text in [*MIXED, UNKNOWN[2]] if kind == "</w>" else [*MIXED, *UNKNOWN]:
        encoded, by_writing = tokenizer(text, add_special_tokens=False), words_of(text)
        # ▁ before the text has the place of the first character, and is apart only before other writing
        places = [start for start, _ in encoded[0].offsets]
        tokens = encoded.tokens()
        keys = [
            (word, -1 if token == "▁" and not place and text[0] in SYLLABIC else by_writing[place])
            for word, place, token in zip(encoded.word_ids(), places, tokens, strict=True)
        ]
        expected = [index == 0 or key != keys[index - 1] for index, key in enumerate(keys)]
        found = starts(np.array(encoded.input_ids)).tolist()
        assert found == expected, list(zip(tokens, found, expected, strict=True))
        parts += len(expected) - sum(expected)
    assert parts > 20


def test_an_unknown_piece_hides_where_its_word_begins():
    """With a mark of what continues it begins a word, which goes on behind it; `word_ids` says the rest."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=marked(pre_tokenizers.BertPreTokenizer(), continuing_subword_prefix="@@")(SENTENCES * 3),
        unk_token="<unk>",
    )
    starts = word_starts(tokenizer)
    for text in ["☃lantern dog", "near ☃ lanterns", "near lan☃tern dog☃"]:
        encoded = tokenizer(text, add_special_tokens=False)
        words = encoded.word_ids()
        expected = [
            token == "<unk>" or index == 0 or words[index] != words[index - 1]
            for index, token in enumerate(encoded.tokens())
        ]
        assert starts(np.array(encoded.input_ids)).tolist() == expected


def test_pieces_without_words_are_refused():
    backend = Tokenizer(models.BPE({"a": 0, "<m>": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<m>", cls_token="<m>", sep_token="<m>")
    with pytest.raises(ValueError, match="BPE.* no mark of where words begin"):
        Masking.of(tokenizer, whole_words=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probability": 1.5}, r"probability is 1\.5"),
        ({"mask_share": 0.8, "random_share": 0.3}, r"0\.8.*0\.3.*more than 1"),
        ({"max_predictions": 0}, "max_predictions is 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        masking(**settings)


def test_a_tokenizer_without_masks_is_refused(tiny_corpus):
    tokenizer = train_wordpiece(tiny_corpus, 100, special_tokens={"unk_token": "[UNK]"}, show_progress=False)
    with pytest.raises(ValueError, match="mask_token, cls_token, sep_token"):
        Masking.of(tokenizer)
