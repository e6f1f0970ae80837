"""Long texts in parts, so that a text of one line, such as text8, takes no more memory than one of many lines."""

from collections.abc import Callable, Iterable, Iterator, Sequence


# characters (bytes, while reading): some thousands of words
LONGEST = 2**14
# the places of cuts: white space to all tokenizers
BLANKS = " \t\n"
# characters on both sides of a cut that show whether it changes what is encoded
_NEAR = 64


class Part(str):
    """A part of a text that the next string goes on with; the last part of a text is a plain str."""

    __slots__ = ()


def in_parts(texts: Iterable[str], longest: int = LONGEST) -> Iterator[str]:
    """The texts, those of more than `longest` characters as several `Part`s, each cut behind a blank.

    Put end to end, the parts are the text. A word that is longer stays whole.
    """
    for text in texts:
        start = 0
        while len(text) - start > longest:
            cut = max(text.rfind(blank, start, start + longest) for blank in BLANKS) + 1
            if not cut:
                later = [place for blank in BLANKS if (place := text.find(blank, start + longest)) >= 0]
                cut = min(later, default=-1) + 1
            if not cut or cut == len(text):
                break
            yield Part(text[start:cut])
            start = cut
        # of a part, the last one is a part too
        yield text if start == 0 else type(text)(text[start:])


def parts_by_text(texts: Iterable[str]) -> Iterator[Iterator[str]]:
    """The parts of each text, to be read before the next text's."""
    texts = iter(texts)
    for first in texts:
        yield _with_the_rest(first, texts)


def _with_the_rest(part, texts):
    yield part
    while isinstance(part, Part):
        part = next(texts, "")
        yield part


def whole_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts with their parts put together again."""
    return map("".join, parts_by_text(texts))


def encodable_parts(texts: Iterable[str], encode: Callable[[list[str]], list[Sequence[int]]]) -> Iterator[str]:
    """The texts in parts whose ids, end to end, are those of the text: where `encode` looks across a cut, it goes.

    Each cut is tried out on the characters next to it.
    """
    held = []
    for text in in_parts(texts):
        if held and _is_cut_harmless(held[-1], text, encode):
            yield Part("".join(held))
            held.clear()
        held.append(text)
        if not isinstance(text, Part):
            yield "".join(held)
            held.clear()


def _is_cut_harmless(before, after, encode):
    before, after = str(before[-_NEAR:]), str(after[:_NEAR])
    one, first, second = encode([before + after, before, after])
    return list(one) == [*first, *second]
