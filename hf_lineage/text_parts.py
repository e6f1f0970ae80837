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

    Each cut is tested on the characters next to it: after a blank; with the blank in no part, as tokenizers need that
    put one before each text; and before the blank, as byte-level pieces need.
    """
    held: list[str] = []
    for text in in_parts(texts):
        if held and (ends := _ends_at_cut(held[-1], text, encode)) is not None:
            dropped, moved = ends
            held[-1] = held[-1].removesuffix(dropped + moved)
            yield Part("".join(held))
            held = [moved] if moved else []
        held.append(text)
        if not isinstance(text, Part):
            yield "".join(held)
            held.clear()


def _ends_at_cut(before, after, encode) -> tuple[str, str] | None:
    """The end of the part before a cut that is dropped, and the one that moves behind it; None if any changes ids."""
    before, after = str(before[-_NEAR:]), str(after[:_NEAR])
    one = list(encode([before + after])[0])
    for dropped, moved in (("", ""), (before[-1:], ""), ("", before[-1:])):
        first, second = encode([before.removesuffix(dropped + moved), moved + after])
        if one == [*first, *second]:
            return dropped, moved
    return None
