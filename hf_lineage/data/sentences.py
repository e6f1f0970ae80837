"""Cutting documents of any script into sentences."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache


# first word of a character's Unicode name -> a language in that script; Latin and all others count as English
LANGUAGE_OF_SCRIPT = {
    "ARABIC": "ar",
    "ARMENIAN": "hy",
    "BENGALI": "bn",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "DEVANAGARI": "hi",
    "ETHIOPIC": "am",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "TAMIL": "ta",
    "TELUGU": "te",
}
# marks that end sentences and that sentencex does not know: Khmer, Thai, Hebrew, Balinese, Coptic, vertical forms
_KHAN, _TIBETAN = "\u17d4", "\u0f0d-\u0f12\u0f14"
_OTHER_ENDS = f"{_KHAN}\u17d5\u17da\u0e5a\u0e5b\u05c3\u1b4e\u1b4f\u1b7f\u2cf9-\u2cfb\ufe12\ufe15\ufe16{_TIBETAN}"
# characters of a text that decide its script
_TELLING = 1_000
# characters cut at a time: the segmenter's time grows with the square of the text's length
_WINDOW = 4_000
_CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_CLOSING = "」』”’）】》〉〕］｝"
_WHITE_SPACE = re.compile(r"\s")
# punctuation marks right after a sentence still belong to it
_STILL_BEFORE = re.compile(f"[{_CLOSING}…。．！？]+")
_ENDS_IN_ASCII = re.compile(r"[.!?][\"')\]]*$")
# places the segmenter leaves whole: dots between ideographs, and a closed bracket after an ideographic mark or …
_MORE_CUTS = re.compile(
    f"(?<=[{_CJK}])…+[{_CLOSING}]*(?=[{_CJK}「『“‘（《])|[。．！？][）)】］](?=[{_CJK}「『“‘（《])"
    # … after a Latin one and a blank, unless a lower-case letter follows
    r"|[.!?][)\]]\s+(?=[\"'“‘(]?(\w))"
)
# Thai's ๚ะ๛, the end of a text, is one mark
_OTHER_END = f"(?:\u0e5a\u0e30\u0e5b|[{_OTHER_ENDS}])"
# the marks behind a Tibetan text's head end nothing, nor does Khmer's ។ល។, "and so on"
_AT_OTHER_ENDS = re.compile(
    f"(?P<no_end>[\u0f01-\u0f0a][\\s{_TIBETAN}]*|{_KHAN}ល{_KHAN})"
    f"|{_OTHER_END}+(?:\\s*{_OTHER_END})*[\"'»{_CLOSING}]*\\s*"
)


def split_sentences(text: str, language: str | None = None) -> list[str]:
    """Cuts a document at line breaks and at the ends of sentences with sentencex, which knows about 300 languages.

    `language` is an ISO 639 code such as "de"; its abbreviations end no sentence. By default the script of the text
    decides, and Latin text counts as English. The sentences have no white space around them. Marks that sentencex does
    not know, such as those of Khmer and Tibetan, end sentences too; Thai has none but line breaks.
    """
    language = language or language_of(text)
    sentences = (sentence for line in text.split("\n") for sentence in _sentences(line, language))
    return [sentence for sentence in map(str.strip, sentences) if sentence]


def language_of(text: str) -> str:
    """A language in the script of most letters at the beginning of the text; "en" for Latin."""
    if text.isascii():
        return "en"
    scripts = Counter(map(_script, filter(str.isalpha, text[:_TELLING])))
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > scripts["CJK"] / 10:
        # enough kana for Japanese, whose texts hold many ideographs too
        scripts["HIRAGANA"] += scripts["CJK"] + scripts["KATAKANA"]
    return LANGUAGE_OF_SCRIPT.get(max(scripts, key=scripts.__getitem__, default=""), "en")


@lru_cache(maxsize=2**16)
def _script(letter):
    return unicodedata.name(letter, "").split(" ", 1)[0]


def _sentences(line, language) -> Iterator[str]:
    while len(line) > _WINDOW:
        *whole, rest = _with_marks(_segments(line[:_WINDOW], language))
        if not whole:
            # longer than any window: cut at the last blank, if there is one
            cut = rest.rstrip().rfind(" ") + 1 or len(rest)
            whole = [rest[:cut]]
        for sentence in whole:
            yield from _cut_more(sentence)
        line = line[sum(map(len, whole)) :]
    for sentence in _with_marks(_segments(line, language)):
        yield from _cut_more(sentence)


def _segments(text, language) -> Iterator[str]:
    # imported here, since only one station needs it
    from sentencex import segment

    start = 0
    # sentencex fails on other white space after an initial
    for piece in segment(language, _WHITE_SPACE.sub(" ", text)):
        yield from _cut_at_other_ends(text[start : start + len(piece)])
        start += len(piece)


def _cut_at_other_ends(text) -> Iterator[str]:
    start = 0
    for end in _AT_OTHER_ENDS.finditer(text):
        if end["no_end"] is None:
            yield text[start : end.end()]
            start = end.end()
    if start < len(text):
        yield text[start:]


def _with_marks(pieces) -> list[str]:
    """Moves closing marks to the end of the piece before them, and joins cuts inside names such as "Yahoo.Com"."""
    sentences = [""]
    for piece in pieces:
        before = sentences[-1]
        if before and not before[-1].isspace():
            marks = _STILL_BEFORE.match(piece)
            if marks:
                before, piece = before + marks.group(), piece[marks.end() :]
            elif _ENDS_IN_ASCII.search(before):
                before, piece = before + piece, ""
            sentences[-1] = before
        if piece:
            sentences.append(piece)
    return sentences[1:] if not sentences[0] else sentences


def _cut_more(sentence) -> Iterator[str]:
    start = 0
    for cut in _MORE_CUTS.finditer(sentence):
        if not (cut.group(1) or "").islower():
            yield sentence[start : cut.end()]
            start = cut.end()
    yield sentence[start:]
