"""Sentences of many scripts: where they end, and that no character is lost."""

import random

import pytest

from hf_lineage.data.sentences import language_of, split_sentences


@pytest.mark.parametrize(
    ("text", "language", "sentences"),
    [
        ("Mr. Smith left at 5 p.m. on Jan. 5th. “Why?” (Nobody knew.) It was 3.5 miles.", "en", 4),
        ("the cat sat. it slept! did it dream? yes.", "en", 4),
        ("One.  Two blanks.\tA tab.\u00a0None.", "en", 4),
        ("他说：“你好。”然后走了。「是吗？」她问。『真的！』……后来他走了…好吧。（真的。）好！", "zh", 9),
        ("π是3.14。他来了！！！她走了？！", "zh", 3),
        ("今日は。「元気ですか？」はい！", "ja", 3),
        ("Привет. Как дела? «Да.» В 1990 г. он родился. А. С. Пушкин.", "ru", 5),
        ("Er kam. Über alles. Am 3. Oktober war z.B. Dr. Müller da.", "de", 3),
        ("مرحبا. كيف حالك؟ أنا بخير!", "ar", 3),
        ("नमस्ते। आप कैसे हैं? मैं ठीक हूँ।", "hi", 3),
        ("Γεια σου. Τι κάνεις; Καλά.", "el", 3),
        ("Բարեւ։ Ինչպե՞ս ես։", "hy", 2),
        ("안녕하세요. 잘 지내요? 네!", "ko", 3),
        ("ሰላም። እንዴት ነህ?", "am", 2),
        ("မင်္ဂလာပါ။ နေကောင်းလား။", "my", 2),
        ("သူသွားသည်။သူမလာသည်။", "my", 2),
        ("እኔ አነባለሁ። እንዴት ነህ፧ ደህና ነኝ።", "am", 3),
        ("میں کتاب پڑھتا ہوں۔ آپ کیسے ہیں؟ ٹھیک ہوں۔", "ar", 3),
    ],
)
def test_sentences_of_many_scripts(text, language, sentences):
    found = split_sentences(text, language)
    assert len(found) == sentences, found
    if language != "de":
        # German is written in the script of English
        assert language_of(text) == language
        assert split_sentences(text) == found


@pytest.mark.parametrize(
    "sentences",
    [
        # with blanks before marks, quotes, "and so on", and the mark that ends a text
        ["ខ្ញុំស្រឡាញ់សៀវភៅ។", "«អ្នកស្រឡាញ់ខ្ញុំ។»", "តើសុខទេ?", "គោ ក្របី ។ល។ នៅទីនេះ ។", "ចប់៕"],
        # the marks of a text's head, of verse, and after a letter that takes only the second one
        ["༄༅། །ང་ལ་དཔེ་ཆ་ཡོད།", "ཁྱེད་ཀྱིས་བོད་ཡིག་ཤེས་སམ། །", "དེ་ནས་བྱས་སོ༎", "བོད་ཡིག །", "རྫོགས་སོ།། །།"],
        ["ผมชอบหนังสือ ๚", "จบแล้ว ๛"],
        ["בראשית ברא אלהים׃", "והארץ היתה תהו׃"],
    ],
    ids=["khmer", "tibetan", "thai", "hebrew"],
)
@pytest.mark.parametrize("repeated", [1, 300])
def test_sentences_whose_marks_sentencex_does_not_know(sentences, repeated):
    sentences = sentences * repeated
    assert split_sentences(" ".join(sentences)) == sentences


def test_the_mark_at_the_end_of_thai_texts_is_whole():
    assert split_sentences("จบบริบูรณ์ ๚ะ๛ เริ่มใหม่") == ["จบบริบูรณ์ ๚ะ๛", "เริ่มใหม่"]


def test_closing_marks_stay_with_their_sentence():
    found = split_sentences("『真的！』……后来他走了。」“好。”他说。")
    assert found == ["『真的！』……", "后来他走了。」", "“好。”", "他说。"]


def test_words_are_not_cut():
    assert split_sentences("See Node.Js and Yahoo.Com. Then e.g. this.") == [
        "See Node.Js and Yahoo.Com.",
        "Then e.g. this.",
    ]


def test_the_language_has_its_abbreviations():
    text = "Er kam am 3. Oktober."
    assert split_sentences(text, "de") == [text]
    assert len(split_sentences(text)) == 2


@pytest.mark.parametrize("language", [None, "en", "zh", "de", "ru", "xx"])
def test_no_character_is_lost(language):
    draw = random.Random(0)
    marks = " !?.\"'”’“‘«»」。！…（）)([।؟—។៕།༎༄\n\r\t\u3000\u00a0\u2028\u200b"
    pieces = [*"aBé1好Üдπ😀", *marks, *marks, "Mr.", "U.S.", "...", "   ", "[1]"]
    for _ in range(3_000):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 40)))
        assert "".join("".join(split_sentences(text, language)).split()) == "".join(text.split())


@pytest.mark.parametrize("unit", ["the dog ran and ate ", "The dog ran. It ate. ", "犬", "他走了。"])
def test_long_lines_are_cut_in_time_that_grows_with_their_length(unit):
    # a minute and more if it grew with the square of the length
    text = unit * (400_000 // len(unit))
    found = split_sentences(text)
    assert max(map(len, found)) <= 4_000
    # words stay whole
    if " " in unit:
        assert " ".join(found) == text.strip()
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
