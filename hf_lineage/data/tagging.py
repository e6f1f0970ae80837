"""Tags of words as labels of tokens."""

from collections.abc import Sequence

from hf_lineage.data.blocks import IGNORED


def tags_of_tokens(word_ids: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """Tags of words [W] -> labels [T]: the first token of each word has the word's tag, all other tokens have −100.

    `word_ids` [T] come from a fast tokenizer called on a list of words: the word of each token, None for special
    tokens. A word without a token has no label.

    Raises:
        ValueError: there are fewer tags than words.
    """
    words = [word for word in word_ids if word is not None]
    if words and max(words) >= len(tags):
        raise ValueError(
            f"the text has at least {max(words) + 1} words, but {len(tags)} tags; there must be one per word"
        )
    first = [word is not None and (place == 0 or word != word_ids[place - 1]) for place, word in enumerate(word_ids)]
    return [
        IGNORED if word is None or not begins else tags[word] for word, begins in zip(word_ids, first, strict=True)
    ]
