"""What a trained model is asked at the end of its run: short texts from the held-out text of the run itself."""

from collections import Counter
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from hf_lineage.data.sentences import split_sentences


# tokens of a sentence that people like to look at
_SHORTEST, _LONGEST = 5, 20
# the most frequent words join others, and mean little
_FUNCTION_WORDS = 50
# words on each side of one that is shown
_REACH = 4


def short_sentences(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, number: int, language: str | None = None
) -> list[str]:
    """The first `number` different sentences of 5 to 20 tokens; if there are fewer, the shortest others, cut to 20."""
    sentences = list(dict.fromkeys(sentence for text in texts for sentence in split_sentences(text, language)))
    encoded = tokenizer(sentences, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    lengths = [0 if _SHORTEST <= len(places) <= _LONGEST else len(places) for places in offsets]
    chosen = sorted(range(len(sentences)), key=lengths.__getitem__)[:number]
    return [sentences[i][: offsets[i][:_LONGEST][-1][1]] if lengths[i] else sentences[i] for i in chosen]


def with_a_mask(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text with the mask token in place of its middle word, of those that are one known token; else at its end."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    pieces = Counter(encoded.word_ids())
    places = [
        (start, end)
        for (start, end), word, number in zip(
            encoded["offset_mapping"], encoded.word_ids(), encoded["input_ids"], strict=True
        )
        if pieces[word] == 1 and number != tokenizer.unk_token_id and text[start:end].isalnum()
    ]
    start, end = places[len(places) // 2] if places else (len(text), len(text))
    return f"{text[:start]}{tokenizer.mask_token}{text[end:]}"


def recurring_word(texts: Sequence[str]) -> tuple[str, list[str]] | None:
    """A word that stands in two of the texts, and what stands around it there; None if there is none.

    It is the most frequent one, but for the 50 that are more frequent still. Words stand between blanks.
    """
    rows = [text.split() for text in texts]
    counts = Counter(word for row in rows for word in dict.fromkeys(row) if word.isalpha())
    shared = [word for word, count in counts.most_common() if count > 1]
    for word in [*shared[_FUNCTION_WORDS:], *reversed(shared[:_FUNCTION_WORDS])]:
        places = [(row, row.index(word)) for row in rows if word in row]
        around = dict.fromkeys(" ".join(row[max(place - _REACH, 0) : place + _REACH + 1]) for row, place in places)
        if len(around) > 1:
            return word, list(around)[:2]
    return None
