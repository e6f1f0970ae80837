"""Tags of words at the words' first tokens."""

import pytest

from hf_lineage.data import tags_of_tokens


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
