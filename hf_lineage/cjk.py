"""Writing without blanks between words: Chinese characters, with Japan's own letters beside them."""

import re


# kana, ideographs with their extensions, and the compatible ones
CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def number_of_words(text: str) -> int:
    """Words between blanks, each Chinese or Japanese character being one: "我欠他100万" has five."""
    return len(CJK.sub(" x ", text).split())
