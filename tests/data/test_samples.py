"""What a trained model is asked: short texts of the run's own, in its own language."""

import pytest

from hf_lineage.data import recurring_word, short_sentences, with_a_mask
from hf_lineage.data.cjk import written_language
from hf_lineage.tokenization import train_wordpiece


CHINESE = ["我欠他一百万。小明在河边画画。", "小明今天去了学校。天气很好。"]


@pytest.fixture(scope="module")
def chinese():
    return train_wordpiece(CHINESE * 2, vocab_size=100, min_frequency=1, show_progress=False)


def test_sentences_are_short_and_different(tiny_tokenizer):
    long = " ".join(["the dog sees the river and"] * 10) + " sleeps."
    texts = [f"{long} The dog sees the river. Yes.", "The dog sees the river. Ada watches the old dog."]
    expected = ["The dog sees the river.", "Ada watches the old dog."]
    assert short_sentences(texts, tiny_tokenizer, 2) == expected
    # the shortest of the others, then the longest, whose end is cut
    *three, cut = short_sentences(texts, tiny_tokenizer, 9)
    assert three == [*expected, "Yes."]
    assert long.startswith(cut)
    assert len(tiny_tokenizer(cut, add_special_tokens=False)["input_ids"]) == 20


def test_one_known_word_is_masked(tiny_tokenizer, chinese):
    assert with_a_mask("The dog sees the river.", tiny_tokenizer).count("[MASK]") == 1
    masked = with_a_mask("小明今天去了学校。", chinese)
    assert len(masked) == len("小明今天去了学校。") - 1 + len("[MASK]")
    before, after = masked.split("[MASK]")
    assert "小明今天去了学校。".startswith(before)
    assert after.endswith("。")
    # all words unknown
    assert with_a_mask("Ω", tiny_tokenizer) == "Ω[MASK]"


def test_a_word_that_recurs_has_two_surroundings():
    texts = ["we sat on the bank of a wide old river", "the bank lent us the money", "the money"]
    # with fewer than fifty, the rarest
    assert recurring_word(texts[:2]) == ("bank", ["we sat on the bank of a wide old", "the bank lent us the money"])
    # the fifty most frequent ones say little
    frequent = [" ".join(a + b for b in "abcdefghij") for a in "abcde"]
    texts = [f"{first} {second}" for first in frequent for second in frequent] + ["a bank", "the bank", "rare", "rare"]
    assert recurring_word(texts) == ("bank", ["a bank", "the bank"])
    assert recurring_word(["one two", "one two"]) is None
    assert recurring_word(["alone", "apart", "no1 x", "no1 y"]) is None


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (CHINESE, "zh"),
        (["我 欠 他 100万 , he said"], None),
        (["繁體中文也是中文。"], "zh"),
        (["東京は日本の首都である。"], None),
        (["The dog sees the river."], None),
        (["他说 hello 。", "我们今天去学校，明天去河边。"], "zh"),
        (["123"], None),
        ([], None),
    ],
)
def test_only_chinese_is_certain(texts, language):
    assert written_language(texts) == language
