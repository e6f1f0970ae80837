"""Tokenizers: the same bytes each time, the stock trainer's vocabulary, BERT's normalisation, and what loads back."""

import gzip
import hashlib
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer

from hf_lineage.data import CorpusError, read_documents
from hf_lineage.tokenization import (
    causal_tokenizer,
    extend_word_level,
    train_characters,
    train_word_level,
    train_wordpiece,
    translation_tokenizer,
    word_counts,
    word_normalizer,
)


# every pair of letters as often as every other: a corpus of ties
TIES = [" ".join(a + b + c for c in "abcdefgh") for a in "abcdefgh" for b in "abcdefgh"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

TRAIN_OFTEN = """
import hashlib, sys
from hf_lineage.tokenization import train_wordpiece
texts = sys.stdin.read().splitlines()
for _ in range(5):
    tokenizer = train_wordpiece(texts, 90, limit_alphabet=7, show_progress=False)
    print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


def quiet_wordpiece(texts, vocab_size=200, **options):
    return train_wordpiece(texts, vocab_size, show_progress=False, **options)


def quiet_words(texts, vocab_size=None, **options):
    return train_word_level(texts, vocab_size, show_progress=False, **options)


def quiet_characters(texts, vocab_size=None, **options):
    return train_characters(texts, vocab_size, show_progress=False, **options)


def stock_vocabulary(texts, vocab_size):
    """The vocabulary that the trainer of `tokenizers` makes by itself."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


@pytest.mark.slow
@pytest.mark.reliability("A16")
def test_twenty_trainings_give_the_same_bytes():
    digests = []
    for threads, hash_seed in ((1, 0), (2, 1), (4, 2), (2, 3)):
        settings = {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed, "TOKENIZERS_PARALLELISM": "true"}
        result = subprocess.run(
            [sys.executable, "-c", TRAIN_OFTEN],
            input="\n".join(TIES),
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {name: str(value) for name, value in settings.items()},
        )
        digests += result.stdout.split()
    assert len(digests) == 20
    assert len(set(digests)) == 1


def test_chunks_counted_in_stretches_give_the_same(monkeypatch, tiny_corpus):
    expected = quiet_wordpiece(tiny_corpus).backend_tokenizer.to_str()
    monkeypatch.setattr(word_counts, "MAX_CHUNKS_IN_MEMORY", 3)
    assert quiet_wordpiece(tiny_corpus).backend_tokenizer.to_str() == expected


def test_order_of_the_texts_does_not_matter():
    forwards, backwards = (quiet_wordpiece(texts, 90).backend_tokenizer.to_str() for texts in (TIES, TIES[::-1]))
    assert forwards == backwards


def test_without_ties_the_vocabulary_is_the_stock_trainers():
    # pairs merged one after the other: a##b 35, ab##c 25, x##y 10, abc##d 5, xy##z 3
    texts = ["ab " * 10 + "abc " * 20 + "abcd " * 5 + "xy " * 7 + "xyz " * 3]
    for vocab_size in range(17, 23):
        assert set(quiet_wordpiece(texts, vocab_size).get_vocab()) == set(stock_vocabulary(texts, vocab_size))
    assert quiet_wordpiece(texts, 20).convert_ids_to_tokens([17, 18, 19]) == ["ab", "abc", "xy"]


def test_real_text_is_encoded_as_short_as_with_the_stock_trainer(shared_data):
    text = gzip.open(shared_data / "lm_tinyshakespeare" / "train.txt.gz", "rt", encoding="utf-8").read()[:300_000]
    lines = text.splitlines()
    ours = quiet_wordpiece(lines, 2_000)
    stock = BertTokenizer(vocab=stock_vocabulary(lines, 2_000))
    lengths = [sum(map(len, tokenizer(lines)["input_ids"])) for tokenizer in (ours, stock)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.005)


def test_ids_are_in_order(tiny_corpus):
    tokens = quiet_wordpiece(tiny_corpus).convert_ids_to_tokens(range(200))
    assert tokens[:5] == SPECIAL
    characters = [token for token in tokens[5:] if len(token) == 1]
    continuing = [token for token in tokens[5:] if len(token) == 3 and token.startswith("##")]
    assert tokens[5 : 5 + len(characters)] == sorted(characters)
    assert tokens[5 + len(characters) :][: len(continuing)] == sorted(continuing)
    assert len(tokens) == 200


def test_normalisation_is_berts():
    texts = [
        "Café NAÏVE coöperate, déjà-vu!",
        "中文和English混排",
        "İstanbul ßtraße ﬁn",
        "tab\tand\u00a0blank\u2028line",
    ]
    ours = quiet_wordpiece(texts * 2, 400)
    bert = BertTokenizer(vocab=ours.get_vocab())
    for text in texts:
        assert ours.tokenize(text) == bert.tokenize(text)
    assert ours.tokenize("中文") == ["中", "文"]
    assert "café" in quiet_wordpiece(["Café café"] * 3, 40, strip_accents=False).get_vocab()
    assert "Café" in quiet_wordpiece(["Café Café"] * 3, 40, lowercase=False).get_vocab()


def test_pairs_have_berts_template(tiny_tokenizer):
    first, second = tiny_tokenizer.tokenize("the dog"), tiny_tokenizer.tokenize("every river")
    encoded = tiny_tokenizer("the dog", "every river")
    assert tiny_tokenizer.convert_ids_to_tokens(encoded.input_ids) == ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
    assert encoded.token_type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert encoded.attention_mask == [1] * len(encoded.input_ids)


def test_rare_characters_and_long_words_are_unknown():
    tokenizer = quiet_wordpiece(["aaab aab ab z"] * 3, 40, limit_alphabet=2)
    assert tokenizer.tokenize("ab z") == ["ab", "[UNK]"]
    assert tokenizer.tokenize("a" * 101) == ["[UNK]"]


def test_decoding(tiny_tokenizer):
    ids = tiny_tokenizer("the dog remembered our lantern.").input_ids
    assert tiny_tokenizer.decode(ids, skip_special_tokens=True) == "the dog remembered our lantern."


def test_loads_with_and_without_the_package(tmp_path, tiny_corpus):
    text, expected = ("the dog near the mill", "every river"), []
    for train in (quiet_wordpiece, quiet_words, quiet_characters):
        tokenizer = train(tiny_corpus, 150, model_max_length=64)
        tokenizer.save_pretrained(tmp_path / train.__name__)
        again = AutoTokenizer.from_pretrained(tmp_path / train.__name__)
        assert again(*text) == tokenizer(*text)
        assert again.model_max_length == 64
        assert again.special_tokens_map == tokenizer.special_tokens_map
        expected.append((train.__name__, str(dict(tokenizer(*text)))))
    script = (
        "import sys; sys.modules['hf_lineage'] = None\n"
        "from transformers import AutoTokenizer\n"
        "for folder in sys.argv[3:]: print(folder, dict(AutoTokenizer.from_pretrained(folder)(*sys.argv[1:3])))"
    )
    names = [name for name, _ in expected]
    command = [sys.executable, "-c", script, *text, *names]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.splitlines() == [f"{name} {ids}" for name, ids in expected]


def test_word_level_counts_words():
    tokenizer = quiet_words(["b a b c c c", "b d"])
    assert tokenizer.convert_ids_to_tokens(range(9)) == [*SPECIAL, "b", "c", "a", "d"]
    assert quiet_words(["b a b c c c", "b d"], 7).convert_ids_to_tokens(range(5, 7)) == ["b", "c"]
    assert len(quiet_words(["b a b c c c", "b d"], min_frequency=2)) == 7
    assert quiet_words(["B b"], lowercase=True).tokenize("B x") == ["b", "[UNK]"]


def test_special_tokens_in_the_text_are_not_words():
    roles = {"unk_token": "<unk>", "eos_token": "<eos>"}
    tokenizer = quiet_words(["<UNK> a<eos>b <unk> a"], lowercase=True, special_tokens=roles)
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == ["<unk>", "<eos>", "a", "b"]
    assert tokenizer("A<eos>b <UNK> c").input_ids == [2, 1, 3, 0, 0]
    # without cls and sep there is no template, and there are no segments to tell apart
    assert set(tokenizer("a", "b")) == {"input_ids", "attention_mask"}
    assert tokenizer.special_tokens_map == roles


def test_special_tokens_of_one_character():
    tokenizer = quiet_wordpiece(["a_b ab ab cd"] * 3, 11, special_tokens={"unk_token": "_", "pad_token": "c"})
    vocab = tokenizer.get_vocab()
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == ["_", "c", "a", "b", "d"]
    assert tokenizer("ab _ x").input_ids == [vocab["ab"], 0, 0]


def test_roles():
    names = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    tokenizer = quiet_wordpiece(["a b"], 20)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[CLS]", "[SEP]"]
    assert [getattr(tokenizer, f"{name}_token") for name in names] == tokens
    without = quiet_wordpiece(["a b"], 20, special_tokens={"unk_token": "?", "sep_token": "|", "eos_token": None})
    assert without.special_tokens_map == {"unk_token": "?", "sep_token": "|"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(tiny_tokenizer, side):
    batch = tiny_tokenizer(["the dog near the mill", "the dog"], padding=True, padding_side=side)
    length = sum(batch.attention_mask[1])
    kept = slice(-length, None) if side == "left" else slice(length)
    assert batch.input_ids[1][kept] == tiny_tokenizer("the dog").input_ids
    assert batch.input_ids[1].count(tiny_tokenizer.pad_token_id) == len(batch.input_ids[0]) - length


def test_penn_treebank_has_ten_thousand_words(shared_data):
    texts = list(read_documents(shared_data / "lm_ptb" / "train.txt.gz"))
    tokenizer = quiet_words(texts, special_tokens={"unk_token": "<unk>", "eos_token": "<eos>"})
    assert len(tokenizer) == 10_000
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<unk>", "<eos>", "the"]
    assert tokenizer.unk_token_id == 0
    assert tokenizer("the <unk> zzz").input_ids == [2, 0, 0]


def test_files_lists_and_batches_give_the_same(tmp_path, tiny_corpus):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(tiny_corpus), encoding="utf-8")
    expected = quiet_wordpiece(tiny_corpus).backend_tokenizer.to_str()
    batches = (tiny_corpus[start : start + 50] for start in range(0, 200, 50))
    for source in (path, str(path), [path], [str(path)], iter(tiny_corpus), batches):
        assert quiet_wordpiece(source).backend_tokenizer.to_str() == expected


def test_causal_tokenizer_leaves_the_original_alone(tiny_tokenizer):
    before = hashlib.sha256(tiny_tokenizer.backend_tokenizer.to_str().encode()).digest()
    causal = causal_tokenizer(tiny_tokenizer)
    ids = causal("the dog").input_ids
    assert causal.convert_ids_to_tokens(ids) == ["[SEP]", *tiny_tokenizer.tokenize("the dog")]
    assert causal.bos_token_id == causal.eos_token_id == tiny_tokenizer.sep_token_id
    assert set(causal("the dog")) == {"input_ids", "attention_mask"}
    padded = causal(["the dog", "the"], padding=True)
    assert padded.attention_mask[1][0] == 0
    assert hashlib.sha256(tiny_tokenizer.backend_tokenizer.to_str().encode()).digest() == before


def test_causal_tokenizers_load_back(tmp_path, tiny_tokenizer):
    texts = ["the dog", "every quiet river"]
    # transformers rebuilds a BertTokenizer with BERT's template, whatever stands in tokenizer.json
    for original in (tiny_tokenizer, BertTokenizer(vocab=tiny_tokenizer.get_vocab(), eos_token="[SEP]")):
        causal = causal_tokenizer(original)
        causal.save_pretrained(tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path)
        assert again(texts, padding=True) == causal(texts, padding=True)
        assert again("the dog").input_ids == [original.sep_token_id, *original("the dog").input_ids[1:-1]]


def test_causal_tokenizers_need_an_end_mark():
    with pytest.raises(ValueError, match="no eos_token"):
        causal_tokenizer(quiet_words(["a"], special_tokens={"unk_token": "<unk>"}))


def test_continuations_can_be_appended(tiny_tokenizer):
    causal = causal_tokenizer(tiny_tokenizer)
    text = "the dog remembered the lantern slowly."
    ids = causal(text).input_ids[1:]
    for cut in range(1, len(ids)):
        assert (causal.decode(ids[:cut]) + causal.decode(ids[cut:])).strip() == text


@pytest.mark.parametrize("train", [quiet_wordpiece, quiet_words, quiet_characters])
@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([], {}, CorpusError, "no text"),
        (["", " \n"], {}, CorpusError, "no text"),
        (["a", None], {}, CorpusError, r"text 1 of the corpus is None \(NoneType\)"),
        (["a", float("nan")], {}, CorpusError, r"text 1 .* nan \(float\)"),
        ([["a", "b"], ["c", b"d"]], {}, CorpusError, r"text 3 .* b'd' \(bytes\)"),
        ([{"text": "a"}], {}, CorpusError, r"text 0 .*\(dict\).*only the column"),
        (["a", "a \ud800"], {}, CorpusError, r"text 1 .* \(str\) .*character 2, half of a surrogate pair"),
        (5, {}, ValueError, "texts_or_files is 5"),
        (["a"], {"vocab_size": 0}, ValueError, "vocab_size is 0"),
        (["a"], {"vocab_size": True}, ValueError, "vocab_size is True"),
        (["a"], {"min_frequency": "2"}, ValueError, "min_frequency is '2'"),
        (["a"], {"lowercase": "no"}, ValueError, "lowercase is 'no'"),
        (["a"], {"model_max_length": 0}, ValueError, "model_max_length is 0"),
        (["a"], {"special_tokens": "[UNK]"}, ValueError, r"special_tokens is '\[UNK\]'; it must map"),
        (["a"], {"special_tokens": {"pad_token": "[PAD]"}}, ValueError, "no unk_token"),
        (["a"], {"special_tokens": {"unk": "?"}}, ValueError, r"unknown roles \['unk'\]"),
        (["a"], {"special_tokens": {"unk_token": "a b"}}, ValueError, "without white space"),
        (Path("nowhere.txt"), {}, FileNotFoundError, "nowhere.txt"),
        ("nowhere.txt", {}, FileNotFoundError, "nowhere.txt"),
        # not a corpus of two file names
        ([__file__, "nowhere.txt"], {}, FileNotFoundError, "nowhere.txt"),
    ],
)
def test_bad_input_is_named(train, texts, options, error, message):
    with pytest.raises(error, match=message):
        train(texts, **({"vocab_size": 50} | options))


@pytest.mark.parametrize("option", ["limit_alphabet", "strip_accents", "handle_chinese_chars"])
def test_bad_wordpiece_options_are_named(option):
    with pytest.raises(ValueError, match=f"{option} is 'x'"):
        quiet_wordpiece(["a"], 50, **{option: "x"})


def test_corpora_without_usable_words_are_named(tmp_path):
    with pytest.raises(CorpusError, match="no text in words of at most 100"):
        quiet_wordpiece(["a" * 101])
    with pytest.raises(ValueError, match="min_frequency=3 leaves no word.*'a', occurs 2 times"):
        quiet_words(["a b a"], min_frequency=3)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(CorpusError, match="empty.txt has no text"):
        quiet_wordpiece(tmp_path / "empty.txt")


def test_too_small_vocabularies_are_named():
    with pytest.raises(ValueError, match="vocab_size=8 is too small.*raise vocab_size to at least 12"):
        quiet_wordpiece(["abcd"], 8)
    with pytest.raises(ValueError, match="vocab_size=5 leaves no room"):
        quiet_words(["a"], 5)


def test_invalid_utf8_names_file_line_and_byte(tmp_path):
    path = tmp_path / "broken.txt"
    path.write_bytes(b"fine\nbro\xffken\n")
    with pytest.raises(CorpusError, match=r"broken.txt, line 2, byte 8"):
        quiet_wordpiece(path)


def test_extended_vocabulary_keeps_its_ids():
    specials = {"unk_token": "<unk>", "pad_token": "<pad>"}
    options = {"special_tokens": specials, "lowercase": True, "show_progress": False}
    tokenizer = train_word_level(["a a b", "C c c"], **options)
    before = dict(tokenizer.get_vocab())
    new = extend_word_level(tokenizer, ["d d E e e a <unk> once"], min_frequency=2, show_progress=False)
    assert tokenizer.get_vocab() == before
    assert new.get_vocab() == before | {"e": len(before), "d": len(before) + 1}
    assert new("E b once d", add_special_tokens=False).input_ids == [len(before), before["b"], 0, len(before) + 1]
    assert new.special_tokens_map == tokenizer.special_tokens_map
    with pytest.raises(ValueError, match="WordPiece; only WordLevel"):
        extend_word_level(train_wordpiece(["a b"], 30, show_progress=False), ["c"], show_progress=False)


def test_words_without_punctuation(tmp_path):
    text = "\"The end.\" — (it's well-known!) 'Quoted', new_york; naïve 中文，好。 <unk> ''"
    options = {"special_tokens": {"unk_token": "<unk>"}, "show_progress": False}
    tokenizer = train_word_level([text], lowercase=True, strip_punctuation=True, **options)
    words = ["the", "end", "it's", "well-known", "quoted", "new_york", "naïve", "中文", "好"]
    assert set(tokenizer.get_vocab()) == {*words, "<unk>"}
    tokenizer.save_pretrained(tmp_path)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded.tokenize(text) == [*words, "<unk>"]


def test_translation_tokenizer_ends_texts_and_pads_on_the_right(tiny_tokenizer):
    tokenizer = translation_tokenizer(tiny_tokenizer)
    plain = tiny_tokenizer("the dog", add_special_tokens=False).input_ids
    assert tokenizer("the dog").input_ids == [*plain, tokenizer.eos_token_id]
    assert tokenizer(text_target="the dog").input_ids == [*plain, tokenizer.eos_token_id]
    batch = tokenizer(["the dog", "dog"], padding=True)
    assert batch.keys() == {"input_ids", "attention_mask"}
    assert batch.attention_mask[1][0] == 1
    assert batch.input_ids[1][-1] == tokenizer.pad_token_id
    assert tokenizer.decode(tokenizer("the dog").input_ids, skip_special_tokens=True) == "the dog"
    # the given one is left alone
    assert tiny_tokenizer("the dog").input_ids == [tiny_tokenizer.cls_token_id, *plain, tiny_tokenizer.sep_token_id]


@pytest.mark.parametrize("role", ["eos_token", "bos_token", "pad_token"])
def test_translation_tokenizer_needs_its_roles(role, tiny_corpus):
    roles = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = train_word_level(tiny_corpus, special_tokens=roles | {role: None}, show_progress=False)
    with pytest.raises(ValueError, match=f"no {role}, which translation needs"):
        translation_tokenizer(tokenizer)


def test_word_level_splits_punctuation_on_request():
    texts = ['He said: "Python."', "Python, said he!"]
    tokenizer = train_word_level(texts, split_punctuation=True, special_tokens={"unk_token": "<unk>"})
    assert tokenizer.tokenize(texts[0]) == ["He", "said", ":", '"', "Python", ".", '"']
    assert "Python." not in tokenizer.get_vocab()
    with pytest.raises(ValueError, match="strip_punctuation leaves no punctuation"):
        train_word_level(texts, strip_punctuation=True, split_punctuation=True)


CHARACTERS = ["A  b\tc.\n", "don't — “naïve” 東京 🙂\u200d", " [SEP] e\u0301 ", "ﬁ .\r\n!"]


def test_characters_are_counted_and_decoded_exactly(tmp_path):
    tokenizer = quiet_characters(CHARACTERS)
    counts = Counter("".join(CHARACTERS).replace("[SEP]", ""))
    expected = sorted(counts, key=lambda character: (-counts[character], character))
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == SPECIAL + expected
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path), causal_tokenizer(tokenizer)):
        for text in CHARACTERS:
            ids = each(text, add_special_tokens=False).input_ids
            assert each.decode(ids) == text
            tokens = [token for token in each.convert_ids_to_tokens(ids) if token != "[SEP]"]
            assert tokens == list(text.replace("[SEP]", ""))
    assert tokenizer("A").input_ids == tokenizer.convert_tokens_to_ids(["[CLS]", "A", "[SEP]"])
    assert tokenizer.decode(tokenizer("Ж", add_special_tokens=False).input_ids) == "[UNK]"


def test_order_of_the_texts_does_not_matter_to_characters():
    digests = [quiet_characters(texts).backend_tokenizer.to_str() for texts in (CHARACTERS, CHARACTERS[::-1])]
    assert digests[0] == digests[1]


def test_rare_characters_are_unknown():
    tokenizer = quiet_characters(["aaab bbc", "A"], 8, lowercase=True)
    assert tokenizer.convert_ids_to_tokens(range(8)) == [*SPECIAL, "a", "b", " "]
    tokenizer = quiet_characters(["aaab bbc"], min_frequency=3)
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [*SPECIAL, "a", "b"]


def test_characters_of_translations_and_continuations_are_exact():
    tokenizer = translation_tokenizer(quiet_characters(CHARACTERS))
    ids = tokenizer("b c.").input_ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "b c."
    causal = causal_tokenizer(quiet_characters(CHARACTERS))
    ids = causal("A  b\tc.").input_ids
    assert ids[0] == causal.eos_token_id
    for cut in range(1, len(ids)):
        assert causal.decode(ids[1:cut]) + causal.decode(ids[cut:]) == "A  b\tc."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # joiners, soft hyphens and word joiners belong to their word (UAX 29, WB4)
        ("می\u200cخواهم.", ["می\u200cخواهم"]),
        ("ශ්\u200dරී", ["ශ්\u200dරී"]),
        ("co\u00adoperate, a\u2060b", ["co\u00adoperate", "a\u2060b"]),
        # marks of what is no word go with it
        ("I ❤\ufe0f 👩\u200d👧 you", ["I", "you"]),
        ("a\u200bb", ["a", "b"]),
        # MidLetter, MidNum and MidNumLet (WB6, WB7, WB7b, WB11)
        ('col·legi צה״ל צה"ל k:a', ["col·legi", "צה״ל", 'צה"ל', "k:a"]),
        ("3.14 1,000.5 U.S. end. (5, 6)", ["3.14", "1,000.5", "U.S", "end", "5", "6"]),
        ("他说：好，3：4", ["他说", "好", "3", "4"]),
        # no word boundary of Unicode's, but the package's: hyphens between letters
        ("well-known a--b -x x_1 it’s 'q'", ["well-known", "a", "b", "x", "x_1", "it’s", "q"]),
    ],
)
def test_words_end_where_unicode_has_boundaries(tmp_path, text, words):
    tokenizer = quiet_words([text], strip_punctuation=True)
    tokenizer.save_pretrained(tmp_path)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded.tokenize(text) == words
    assert not {"", "\ufe0f"} & set(tokenizer.get_vocab())


@pytest.mark.parametrize("text", ["ΟΔΟΣ ΣΑΣ Σ ΣΟΦΟΣ.", "ΟΔΟ\u0301Σ Α’Σ ΣΣ", "İSTANBUL ẞ Ǆ ÀÉ ΑΣ2 ΑΣ\u0301Α"])
@pytest.mark.parametrize("strip_punctuation", [False, True])
def test_lower_case_is_strs(text, strip_punctuation):
    """Σ is ς at the end of a word."""
    normalizer = word_normalizer(True, strip_punctuation)
    assert normalizer.normalize_str(text).strip(" .") == text.lower().strip(" .")


def test_chinese_has_its_characters(shared_data):
    """An alphabet of 1,000 would leave 8 % unknown."""
    with gzip.open(shared_data / "lm_zh_novels" / "train.txt.gz", "rt", encoding="utf-8") as file:
        texts = file.read().splitlines()
    train, held_out = texts[:1_500], texts[1_500:1_800]
    tokenizer = quiet_wordpiece(train, 8_000)
    ids = [id for row in tokenizer(held_out, add_special_tokens=False).input_ids for id in row]
    assert 3_000 < len(tokenizer) <= 8_000
    assert ids.count(tokenizer.unk_token_id) < 0.002 * len(ids)
    with pytest.warns(UserWarning, match=r"[5-9]\.\d\d% of the words are unknown.* rarest characters.*limit_alphabet"):
        assert len(quiet_wordpiece(train, 8_000, limit_alphabet=1_000)) < 1_100


@pytest.mark.reliability("C5")
def test_small_vocabularies_hold_what_fits():
    texts = ["的" * 30 + "是" * 20 + "我" * 10 + "你"]
    with pytest.warns(UserWarning, match="1.64% of the words are unknown.*'你'"):
        assert quiet_wordpiece(texts, 8).convert_ids_to_tokens(range(8)) == [*SPECIAL, "我", "是", "的"]
    with pytest.raises(ValueError, match="vocab_size=7 .* at least 9"):
        quiet_wordpiece(texts, 7)
    with pytest.warns(UserWarning, match="9 tokens of the vocab_size=50"):
        quiet_wordpiece(texts, 50)


def test_words_too_long_for_wordpiece_are_named():
    """Thai has no blanks between words: whole phrases are unknown."""
    phrase, words = "ผมชอบอ่านหนังสือ" * 8, "ผมชอบอ่านหนังสือ " * 2
    assert (len(phrase), len(words.replace(" ", ""))) == (128, 32)
    with pytest.warns(UserWarning, match=r"80\.00% of the .*more than 100 characters.*train_byte_pairs"):
        tokenizer = quiet_wordpiece([phrase, words], 60)
    assert tokenizer.tokenize(phrase) == [tokenizer.unk_token]
    # blanks between words, and a long address in much text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_wordpiece([words * 30, "a" * 101 + " word" * 30_000], 40)
