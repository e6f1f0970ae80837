"""Texts without blanks: told apart, cut into words, and said so."""

import importlib.util

import pytest

from hf_lineage.data import load_splits, segment_words, segmented
from hf_lineage.data.segmentation import segmented_by
from hf_lineage.tokenization import (
    is_word_level,
    refuse_texts_without_blanks,
    train_byte_pairs,
    train_characters,
    train_word_level,
)


CHINESE = ["我来到北京清华大学", "他欠小明一百万", "今天天气很好我们去公园", "中文没有空格", "学习语言模型很有意思"]
JAPANESE = ["これはペンです", "私は学校に行きます", "今日はいい天気ですね", "東京へ行きたいです"]
THAI = ["ฉันไปโรงเรียน", "วันนี้อากาศดี", "เขาชอบอ่านหนังสือ", "ภาษาไทยไม่มีช่องว่าง"]
ENGLISH = ["The word 北京 means Beijing", "There is no 中文 text", "Words stand apart", "All of them do"]


def train_of(tmp_path, texts):
    (tmp_path / "a.txt").write_text("\n".join(texts * 1), encoding="utf-8")
    return load_splits(tmp_path / "a.txt")


def pretend(monkeypatch, installed):
    """rjieba is installed, or not."""
    find_spec, found = importlib.util.find_spec, True if installed else None
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: found if name == "rjieba" else find_spec(name, *rest)
    )


def without_blanks(text):
    return "".join(text.split())


@pytest.mark.parametrize("text", [*CHINESE, *JAPANESE, *ENGLISH, " 我们 b", "我们\n他们 "])
def test_characters_are_words_and_the_rest_stays(text):
    found = segmented(text, "characters")
    assert without_blanks(found) == without_blanks(text)
    for word in found.split():
        assert len(word) == 1 or word.isascii()
    assert segmented("plain  text \n", "characters") == "plain  text \n"


def test_clusters_are_words_of_thai():
    assert segmented("ไทย ที่นี่ a", "characters") == "ไ ท ย ที่ นี่ a"


def test_rjieba_cuts_words():
    pytest.importorskip("rjieba")
    # jieba's own documentation
    assert segmented("我来到北京清华大学", "rjieba") == "我 来到 北京 清华大学"
    assert segmented("see 北京, 3.14", "rjieba") == "see 北京 , 3.14"


def test_text_with_blanks_stays(tmp_path, capsys):
    corpora = train_of(tmp_path, ENGLISH)
    capsys.readouterr()
    assert segment_words(corpora) is corpora
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("texts", "installed", "way"),
    [
        (CHINESE, True, "rjieba"),
        (CHINESE, False, "characters"),
        (JAPANESE, True, "characters"),
        (THAI, True, "characters"),
    ],
)
def test_a_line_says_how_it_is_cut(tmp_path, monkeypatch, capsys, texts, installed, way):
    if way == "rjieba":
        pytest.importorskip("rjieba")
    pretend(monkeypatch, installed)
    corpora = train_of(tmp_path, texts)
    capsys.readouterr()
    found = [row["text"] for corpus in segment_words(corpora).values() for row in corpus]
    assert sorted(found) == sorted(segmented(text, way) for text in texts)
    line = capsys.readouterr().out
    assert f"word_segmentation {way}" in line
    assert ("hf_lineage[zh]" in line) == (not installed)


def test_a_segmenter_that_is_not_installed_is_named(tmp_path, monkeypatch):
    pretend(monkeypatch, False)
    with pytest.raises(ValueError, match=r"word_segmentation is rjieba.*hf_lineage\[zh\]"):
        segment_words(train_of(tmp_path, CHINESE), "rjieba")
    corpora = train_of(tmp_path, CHINESE)
    assert segment_words(corpora, "none") is corpora


def test_tokenizers_that_read_words():
    texts = ["one two three", "你 好"] * 3
    assert is_word_level(train_word_level(texts, show_progress=False))
    assert is_word_level(train_word_level(texts, split_punctuation=True, show_progress=False))
    assert not is_word_level(train_characters(texts, show_progress=False))
    assert not is_word_level(train_byte_pairs(texts, 300, show_progress=False))


@pytest.mark.parametrize(
    "text", [*CHINESE, *JAPANESE, *THAI, *ENGLISH, "a你b 3.14米。", "မြန်မာစာ ဘာသာ", "ไทย ที่นี่ a", "𠀀𠀁"]
)
def test_a_tokenizer_of_characters_cuts_as_the_corpus_is_cut(text):
    corpus = [*CHINESE, *JAPANESE, *THAI, *ENGLISH, text]
    tokenizer = train_word_level(corpus, split_characters=True, show_progress=False)
    assert tokenizer.tokenize(text) == segmented(text, "characters").split()
    assert not is_word_level(tokenizer)


def test_a_tokenizer_of_words_refuses_text_without_blanks():
    words = train_word_level(["你 好"], show_progress=False)
    with pytest.raises(ValueError, match=r"我来到北京清华大学.*--word_segmentation characters"):
        refuse_texts_without_blanks(words, CHINESE)
    refuse_texts_without_blanks(words, [segmented(text, "characters") for text in CHINESE])
    refuse_texts_without_blanks(words, ENGLISH)
    refuse_texts_without_blanks(train_word_level(CHINESE, split_characters=True, show_progress=False), CHINESE)
    refuse_texts_without_blanks(train_characters(CHINESE, show_progress=False), CHINESE)


def test_stretches_are_cut_into_the_words_of_a_vocabulary():
    words = {"他", "他们", "欠", "小明", "100万", "owes"}
    assert segmented_by("他们欠小明100万", words) == "他们 欠 小明 100万"
    # few unknown characters first, then few words; these characters stay together
    assert segmented_by("他们你好欠", words) == "他们 你好 欠"
    assert segmented_by("他 欠 小明", words) == "他 欠 小明"
    assert segmented_by("he owes 他欠", words) == "he owes 他 欠"
    assert segmented_by("他欠", set()) == "他欠"
