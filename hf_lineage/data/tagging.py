"""Tags of words as labels of tokens."""

from collections.abc import Mapping, Sequence

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


def tagged_rows(
    tokenizer,
    texts: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    max_length: int | None = None,
    continuing: Mapping[int, int] | None = None,
) -> dict[str, list]:
    """Texts, lists of words with a tag per word, as rows for a tagger: the tokenizer's fields, and labels [T].

    A text of more than `max_length` tokens, marks included, becomes several rows, so that no word is lost. Each word's
    first token has its tag, all other tokens and marks have −100; with `continuing`, a word's later tokens have
    continuing[tag]. Also gives, per row, "text", the number of its text, and "words" [L], the number of the word of
    each token that has a label.

    Raises:
        ValueError: a text has more or fewer tags than words.
    """
    for text, (words, of_text) in enumerate(zip(texts, tags, strict=True)):
        if len(words) != len(of_text):
            raise ValueError(
                f"text {text} has {len(words)} words, but {len(of_text)} tags; there must be one per word"
            )
    options = {} if max_length is None else {"truncation": True, "max_length": max_length}
    encoded = tokenizer(
        list(texts), is_split_into_words=True, return_overflowing_tokens=max_length is not None, **options
    )
    numbers = encoded.pop("overflow_to_sample_mapping", range(len(texts)))
    rows = {**encoded, "text": list(numbers), "labels": [], "words": []}
    last_text, last_word = None, None
    for row, text in enumerate(numbers):
        word_ids = encoded.word_ids(row)
        labels = tags_of_tokens(word_ids, tags[text])
        places = [place for place, word in enumerate(word_ids) if word is not None]
        if text == last_text:
            # what continues the last word of the row before does not begin it
            for place in places:
                if word_ids[place] != last_word:
                    break
                labels[place] = IGNORED
        if continuing is not None:
            for place in places:
                if labels[place] == IGNORED and tags[text][word_ids[place]] != IGNORED:
                    labels[place] = continuing[tags[text][word_ids[place]]]
        rows["labels"].append(labels)
        rows["words"].append([word_ids[place] for place in places if labels[place] != IGNORED])
        last_text, last_word = text, word_ids[places[-1]] if places else last_word
    return rows
