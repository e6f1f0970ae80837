"""Writing without blanks between words: Chinese characters, with Japan's own letters beside them."""

import re
from collections.abc import Sequence


# kana, ideographs with their extensions, and the compatible ones
CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# words have about two, sentences many more
MOST_CHARACTERS_OF_WORDS = 4


def numbers_of_words(texts: Sequence[str]) -> list[int]:
    """The words of each text between blanks; in a corpus written without blanks, each such character is a word.

    A corpus is taken to be so where what stands between two blanks has more than four such characters on average.
    """
    found = [len(CJK.findall(chunk)) for text in texts for chunk in text.split()]
    found = [characters for characters in found if characters]
    if sum(found) > MOST_CHARACTERS_OF_WORDS * len(found):
        texts = [CJK.sub(" x ", text) for text in texts]
    return [len(text.split()) for text in texts]
