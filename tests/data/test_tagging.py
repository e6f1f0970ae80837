"""Tags of words at the words' first tokens."""

import pytest

from hf_lineage.data import tagged_rows, tags_of_tokens


@pytest.mark.parametrize(
    ("word_ids", "expected"),
    [
        ([None, 0, 0, 1, 2, None], [-100, 7, -100, 8, 9, -100]),
        # a word without a token, padding on the left, no word at all
        ([None, None, 0, 2, 2], [-100, -100, 7, 9, -100]),
        ([None, None], [-100, -100]),
        ([], []),
    ],
)
def test_the_first_token_of_a_word_has_its_tag(word_ids, expected):
    assert tags_of_tokens(word_ids, [7, 8, 9]) == expected


def test_too_few_tags_are_refused():
    with pytest.raises(ValueError, match="at least 4 words, but 3 tags"):
        tags_of_tokens([0, 3], [7, 8, 9])


@pytest.mark.parametrize("of_last", [[7], [7, 8, 9], []])
def test_rows_need_a_tag_per_word(tiny_tokenizer, of_last):
    with pytest.raises(ValueError, match=f"text 1 has 2 words, but {len(of_last)} tags"):
        tagged_rows(tiny_tokenizer, [["Ada"], ["the", "lanterns"]], [[1], of_last])


def test_rows_of_long_texts_label_each_word_once(tiny_tokenizer):
    """Against the labels of the whole text in one row."""
    texts = [["Ada", "remembered", "the", "lanterns", "unquestionably"], ["the"], ["unquestionably"] * 3]
    tags = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]
    for continuing in (None, {tag: tag + 10 for tag in range(1, 10)}):
        rows = tagged_rows(tiny_tokenizer, texts, tags, 5, continuing)
        assert max(map(len, rows["input_ids"])) == 5
        for text, of_text in enumerate(texts):
            whole = tiny_tokenizer(of_text, is_split_into_words=True)
            labels = tags_of_tokens(whole.word_ids(), tags[text])
            word_ids, expected = whole.word_ids()[1:-1], labels[1:-1]
            if continuing:
                expected = [
                    continuing[tags[text][word]] if label == -100 else label
                    for word, label in zip(word_ids, expected, strict=True)
                ]
            chosen = [row for row, number in enumerate(rows["text"]) if number == text]
            # without the marks, which have no label
            found = [label for row in chosen for label in rows["labels"][row][1:-1]]
            assert found == expected
            assert all(rows["labels"][row][0] == rows["labels"][row][-1] == -100 for row in chosen)
            labelled = [word for word, label in zip(word_ids, expected, strict=True) if label != -100]
            assert [word for row in chosen for word in rows["words"][row]] == labelled
