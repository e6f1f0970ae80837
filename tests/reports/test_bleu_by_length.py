"""BLEU by source length: each bucket scored by sacrebleu alone, and the plot's curves."""

import pytest
import regex
import sacrebleu
from matplotlib.figure import Figure

from hf_lineage.data import grammar_corpus
from hf_lineage.data.cjk import numbers_of_words
from hf_lineage.reports import bleu_by_length, plot_bleu_by_length


FOUND = ["a cat", "The dog sat on the mat.", "He owes me a million pounds.", "The dog ran on the long road."]
WANTED = ["a cat", "the dog sat on a mat.", "He owes me 1 million pounds.", "A dog ran on the long road."]
LENGTHS = [2, 5, 6, 9]


def test_each_bucket_is_sacrebleus():
    rows = bleu_by_length(FOUND, WANTED, LENGTHS, [5, 7, 8], lowercase=True)
    assert [(row["longer_than"], row["up_to"], row["pairs"], row["words"]) for row in rows] == [
        (0, 5, 2, 3.5),
        (5, 7, 1, 6.0),
        # no pair has 8 words
        (8, None, 1, 9.0),
    ]
    for row, kept in zip(rows, ([0, 1], [2], [3]), strict=True):
        found, wanted = ([texts[i] for i in kept] for texts in (FOUND, WANTED))
        assert row["bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, [wanted], lowercase=True).score)


@pytest.mark.parametrize("bounds", [[0, 5], [7, 5], [5, 5]])
def test_bounds_that_do_not_rise_are_refused(bounds):
    with pytest.raises(ValueError, match="must be above 0 and rise"):
        bleu_by_length(FOUND, WANTED, LENGTHS, bounds)


def test_one_of_each_a_pair():
    with pytest.raises(ValueError, match="4 translations, 4 references and 3 lengths"):
        bleu_by_length(FOUND, WANTED, LENGTHS[:3], [5])


def test_a_curve_for_each_model(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)))
    rows = bleu_by_length(FOUND, WANTED, LENGTHS, [5, 7])
    plot_bleu_by_length({"with attention": rows, "without": rows[:2]}, tmp_path / "bleu.png")
    (axes,) = drawn[0].axes
    assert [line.get_label() for line in axes.lines] == ["with attention", "without"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[3.5, 6.0, 9.0], [3.5, 6.0]]
    assert list(axes.lines[0].get_ydata()) == [row["bleu"] for row in rows]
    assert (tmp_path / "bleu.png").read_bytes().startswith(b"\x89PNG")


def test_characters_of_writing_without_blanks_are_words():
    assert numbers_of_words(["我欠他100万", "東京タワーへ行く", "", "a man"]) == [5, 8, 0, 2]
    assert numbers_of_words(["a man, walking", "Zürich", ""]) == [3, 1, 0]
    # half-width kana, bopomofo
    assert numbers_of_words(["ﾜﾀｼﾊﾃﾞｷﾏｽ", "ㄅㄆㄇㄈㄉㄊ"]) == [9, 6]
    # blanks of no width are blanks
    assert numbers_of_words(["ខ្ញុំ\u200bស្រឡាញ់\u200bសៀវភៅ"]) == [3]
    # 100万 is one token there
    segmented = grammar_corpus("train", 50)["source"][:]
    assert numbers_of_words(segmented) == [len(text.split()) for text in segmented]
    assert numbers_of_words([text.replace(" ", "") for text in segmented[:1]])[0] > len(segmented[0].split())


WITHOUT_BLANKS = {
    "thai": "ผมชอบอ่านหนังสือ น้ำตกแห่งนี้สวยมาก",
    "lao": "ຂ້ອຍມັກອ່ານປຶ້ມ ນ້ຳຕົກງາມຫຼາຍ",
    "burmese": "ကျွန်တော်စာအုပ်ဖတ်သည် သူမကျောင်းသွားသည်",
    "tibetan": "ང་ལ་དཔེ་ཆ་ཡོད། ཁྱེད་ཀྱིས་བོད་ཡིག་ཤེས་སམ། བོད་ཡིག་གི་དཔེ་ཆ་མང་པོ་འདུག།",
}


@pytest.mark.parametrize("text", WITHOUT_BLANKS.values(), ids=WITHOUT_BLANKS)
def test_clusters_of_other_scripts_are_unicodes_words(text):
    """UAX 29's default boundaries, by the package regex; the dot between Tibetan syllables is no word."""
    found = [word for word in regex.split(r"(?w)\b", text) if word.strip(" ་")]
    # sara am is a mark in all but its category
    found = [word for word in found if word not in "ำຳ"]
    assert numbers_of_words([text]) == [len(found)]


def test_stacked_letters_are_one_cluster():
    """Unicode's grapheme clusters hold a Khmer letter and the one below it together."""
    text = "ខ្ញុំស្រឡាញ់សៀវភៅនេះណាស់"
    assert numbers_of_words([text]) == [len(regex.findall(r"\X", text))]


def test_segmented_texts_keep_their_words():
    """Words of about three clusters between blanks, and texts with a few foreign words."""
    thai = "ผม ชอบ อ่าน หนังสือ ประเทศไทย มาก"
    assert numbers_of_words([thai, thai]) == [6, 6]
    english = "The word หนังสือ means book, and ประเทศไทยสวยมาก is a phrase."
    assert numbers_of_words([english, "It has blanks."])[1] == 3
