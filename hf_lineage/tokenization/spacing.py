"""Decoding that undoes BERT's cuts: it learns from texts where blanks stand.

BERT's pre-tokenizer makes a word of each punctuation mark and each Chinese character, and forgets which of them had no
blank before it: "I'm" is decoded as "I ' m". Whether a gap has a blank depends mostly on the two characters around it
and their neighbours, so a few dozen rules learnt from texts restore nearly all blanks. The rules are regular
expressions in the decoder of tokenizer.json, and work wherever that file is opened.

texts -> gaps between words, with a blank or without -> rules -> decoder
"""

import copy
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models


VISIBLE_BLANK = "▁"
# what generated texts show instead of an unknown word
UNKNOWN = "⁇"
# rules hardly change with more characters
MOST_CHARACTERS = 3_000_000
TEXTS_AT_ONCE = 1_000
# stands left of the first word and right of the last one
START, END = "start", "end"
OPENING, CLOSING = "opening quote", "closing quote"
LETTER, DIGIT, IDEOGRAPH, KANA = "letter", "digit", "ideograph", "kana"
IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
ASCII_SYMBOLS = "$+<=>^`|~"
# private characters for decided gaps (a blank, none) and closing quotes, while one rule after the other is applied
KNOWN_BLANK, KNOWN_JOINED, CLOSING_MARK = "\ue000", "\ue001", "\ue002"
# the second, fourth, … straight quotation mark of a text, which closes a quotation
EVEN_QUOTE = r'\G[^"]*"[^"]*\K"'
ANY_GAP = f"[ {KNOWN_BLANK}{KNOWN_JOINED}]"
PATTERNS = {
    START: r"\A",
    END: r"\z",
    OPENING: '"',
    CLOSING: CLOSING_MARK,
    IDEOGRAPH: f"[{IDEOGRAPHS}]",
    KANA: r"[\p{Hiragana}\p{Katakana}ー]",
    DIGIT: r"\p{N}",
    LETTER: rf"[^\p{{P}}\p{{N}}\p{{Hiragana}}\p{{Katakana}}ー{re.escape(ASCII_SYMBOLS)}{IDEOGRAPHS} \ue000-\ue002]",
}
# without texts: English, and the unambiguous marks of other languages
WIDE = (IDEOGRAPH, KANA, *"、。，；：！？")
OPENING_MARKS = "([{“‘«"
PLAIN_RULES: list[dict] = [
    {(None, left, None, None): True for left in (*OPENING_MARKS, *WIDE, *"¿¡「『（【《", OPENING)},
    {(None, None, right, None): True for right in (*".,;:!?)%]}”’…»」』）】》", *WIDE, CLOSING)}
    | {(None, None, right, None): False for right in (*OPENING_MARKS, OPENING)},
    {(None, left, right, None): True for left in WIDE for right in (*OPENING_MARKS, OPENING)},
    {(beyond, mark, right, None): True for mark in "'’-" for beyond in (LETTER, DIGIT) for right in (LETTER, DIGIT)}
    | {(None, left, mark, beyond): True for mark in "'’-" for left in (LETTER, DIGIT) for beyond in (LETTER, DIGIT)}
    | {(DIGIT, mark, DIGIT, None): True for mark in ".,"},
]


def spacing_decoder(backend: Tokenizer, texts: Iterable[str] | None, at_start: bool) -> decoders.Decoder:
    """The decoder of word pieces, or of words, that puts blanks where `texts` have them.

    It reads the first 3 million characters of the texts; without texts, it sets blanks as in English. With `at_start`
    a decoded text begins with the blank before its first word, so that a continuation can be appended to its prompt.
    """
    rules: list[dict] = []
    if cuts_marks_off(backend):
        rules = PLAIN_RULES if texts is None else _learn(backend, texts)
    return _decoder(backend.model, rules, at_start)


def blanks_decoder(at_start: bool) -> decoders.Decoder:
    """The decoder of pieces in which ▁ is a blank; the blank before the text stays only with `at_start`."""
    steps = [decoders.Replace(VISIBLE_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps if at_start else [*steps, decoders.Strip(" ", 1, 0)])


def cuts_marks_off(backend: Tokenizer) -> bool:
    """Whether decoding has to guess where blanks stood."""
    if not isinstance(backend.model, models.WordPiece | models.WordLevel) or backend.pre_tokenizer is None:
        return False
    normalize = backend.normalizer.normalize_str if backend.normalizer else str
    words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normalize("a.一一 b"))]
    # a tokenizer of characters keeps blanks
    return len(words) > 2 and not any(map(str.isspace, words))


def _decoder(model: models.Model, rules: list[dict], at_start: bool) -> decoders.Decoder:
    prefix = re.escape(model.continuing_subword_prefix) if isinstance(model, models.WordPiece) else ""
    pieces = [decoders.Replace(Regex(f"^(?!{prefix})" if prefix else "^"), " ")]
    if prefix:
        pieces.append(decoders.Replace(Regex(f"^{prefix}"), ""))
    steps: list[decoders.Decoder] = [decoders.Replace(Regex(EVEN_QUOTE), CLOSING_MARK)] if rules else []
    # rules with the most context decide first
    for level in reversed(rules):
        for decision, mark in ((False, KNOWN_BLANK), (True, KNOWN_JOINED)):
            patterns = sorted(_pattern(*context) for context, joined in level.items() if joined == decision)
            if patterns:
                steps.append(decoders.Replace(Regex(" (?:" + "|".join(patterns) + ")"), mark))
    if rules:
        back = {KNOWN_JOINED: "", KNOWN_BLANK: " ", CLOSING_MARK: '"'}
        steps += [decoders.Replace(mark, text) for mark, text in back.items()]
    if not at_start:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence([*pieces, decoders.Fuse(), *steps])


def _learn(backend: Tokenizer, texts: Iterable[str]) -> list[dict]:
    """Rules of four levels, each {context: joined}; a context decides if no higher level knows the gap."""
    counts = [defaultdict(lambda: [0, 0]) for _ in range(4)]
    for words, joined in _words(backend, texts):
        for contexts, is_joined in zip(_contexts(words), joined, strict=True):
            for table, context in zip(counts, contexts, strict=False):
                if context is not None:
                    table[context][is_joined] += 1
    rules = [{}, {}, {}, {}]
    for level, table in enumerate(counts):
        for context, (apart, together) in table.items():
            # contexts beyond the marks need two more cases for a rule than against it
            if abs(together - apart) < (2 if level == 3 else 1):
                continue
            if (together > apart) is not _decision(rules[:level], context):
                rules[level][context] = together > apart
    return rules


def _decision(rules: list[dict], context: tuple) -> bool | None:
    """What the rules of lower levels decide for a context."""
    _, left, right, _ = context
    lower = [(None, left, None, None), (None, None, right, None), (None, left, right, None)]
    known = [level[key] for level, key in zip(rules, lower, strict=False) if key in level]
    return known[-1] if known else None


def _words(backend: Tokenizer, texts: Iterable[str]) -> Iterator[tuple[list[str], list[bool]]]:
    """The decoded words of each text, and for each but the first whether it follows without a blank."""
    backend = copy.deepcopy(backend)
    backend.no_truncation()
    backend.no_padding()
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    for batch in _batches(texts):
        for text, encoding in zip(batch, backend.encode_batch(batch, add_special_tokens=False), strict=True):
            words, spans, last = [], [], None
            for token, (start, end), word in zip(encoding.tokens, encoding.offsets, encoding.word_ids, strict=True):
                if word is not None and word == last:
                    words[-1] += token.removeprefix(prefix)
                    spans[-1] = (spans[-1][0], end)
                else:
                    words.append(UNKNOWN if token == backend.model.unk_token else token)
                    spans.append((start, end))
                last = word
            pairs = zip(spans, spans[1:], strict=False)
            yield words, [not any(map(str.isspace, text[left[1] : right[0]])) for left, right in pairs]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, read = [], 0
    for text in texts:
        batch.append(text[: MOST_CHARACTERS - read])
        read += len(batch[-1])
        if len(batch) == TEXTS_AT_ONCE or read == MOST_CHARACTERS:
            yield batch
            batch = []
        if read == MOST_CHARACTERS:
            return
    yield batch


def _contexts(words: list[str]) -> Iterator[list[tuple | None]]:
    """The contexts of each gap, (beyond left, left, right, beyond right), at four levels of detail.

    The levels are: the mark on the left; the mark on the right; both characters; these and their neighbours. A gap
    between letters or digits has no contexts, since BERT cuts there only at white space.
    """
    classes, quotes = [], 0
    for word in words:
        if word == '"':
            quotes += 1
            classes.append((OPENING if quotes % 2 else CLOSING,) * 2)
        else:
            classes.append((_class(word[0]), _class(word[-1])))
    plain = (LETTER, DIGIT)
    for place in range(len(words) - 1):
        left, right = classes[place][1], classes[place + 1][0]
        if left in plain and right in plain and UNKNOWN not in words[place : place + 2]:
            yield []
            continue
        beyond_left = beyond_right = None
        if left not in plain:
            beyond_left = classes[place - 1][1] if place else START
        if right not in plain:
            beyond_right = classes[place + 2][0] if place + 2 < len(words) else END
        yield [
            None if left in plain else (None, left, None, None),
            None if right in plain else (None, None, right, None),
            (None, left, right, None),
            (beyond_left, left, right, beyond_right),
        ]


@cache
def _class(character: str) -> str:
    if unicodedata.category(character).startswith("P") or character in ASCII_SYMBOLS:
        return character
    if re.match(f"[{IDEOGRAPHS}]", character):
        return IDEOGRAPH
    if unicodedata.name(character, "").startswith(("HIRAGANA", "KATAKANA")):
        return KANA
    return DIGIT if unicodedata.category(character).startswith("N") else LETTER


def _pattern(beyond_left, left, right, beyond_right) -> str:
    """The pattern around the blank of a gap; the blank itself is already matched."""
    behind = "" if left is None else f"{_of(left)} "
    ahead = "" if right is None else _of(right)
    if beyond_left is not None:
        behind = _of(beyond_left) + ANY_GAP + behind
    if beyond_right is not None:
        ahead += ("" if beyond_right == END else ANY_GAP) + _of(beyond_right)
    return (f"(?<={behind})" if behind else "") + (f"(?={ahead})" if ahead else "")


def _of(name: str) -> str:
    return PATTERNS.get(name) or re.escape(name)
