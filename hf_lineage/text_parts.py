"""Long texts in parts, so that a text of one line, such as text8, needs no more memory than one of many lines."""

from collections.abc import Callable, Iterable, Iterator, Sequence


# characters (bytes, while reading): some thousands of words
LONGEST = 2**14
# cuts are made after these, which are white space in all tokenizers
BLANKS = " \t\n"
# characters on both sides of a cut that show whether it changes what is encoded
_NEAR = 64


class Part(str):
    """A part of a text that continues in the next string; the last part of a text is a plain str."""

    __slots__ = ()


def in_parts(texts: Iterable[str], longest: int = LONGEST) -> Iterator[str]:
    """The texts; those of more than `longest` characters come as several `Part`s, each cut after a blank.

    Joined, the parts are the text. A longer word stays whole.
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
        # the last piece of a Part is also a Part
        yield text if start == 0 else type(text)(text[start:])


def parts_by_text(texts: Iterable[str]) -> Iterator[Iterator[str]]:
    """The parts of each text; read them before those of the next text."""
    texts = iter(texts)
    for first in texts:
        yield _with_the_rest(first, texts)


def _with_the_rest(part, texts):
    yield part
    while isinstance(part, Part):
        part = next(texts, "")
        yield part


def whole_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts with their parts joined."""
    return map("".join, parts_by_text(texts))


def encodable_parts(texts: Iterable[str], encode: Callable[[list[str]], list[Sequence[int]]]) -> Iterator[str]:
    """The texts in parts whose ids, joined, are those of the text: a cut that would change the ids is removed.

    Each cut is tested on the characters next to it.
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
