"""BLEU is sacrebleu's; the alignment error rate is Och and Ney's formula."""

import numpy as np
import pytest
import sacrebleu
from transformers import EvalPrediction

from hf_lineage.metrics import BLEU, AlignmentErrorRate, bleu_of_generated, bleu_tokenizer, generated_texts
from hf_lineage.tokenization import train_word_level, translation_tokenizer


FOUND = ["The cat sat on the mat.", "A man is walking, slowly.", "He owes me a million."]
WANTED = ["The cat sat on a mat.", "a man walks slowly.", "He owes me 1 million."]


@pytest.mark.parametrize("settings", [{}, {"lowercase": True}, {"tokenize": "char"}, {"tokenize": "none"}])
def test_bleu_is_sacrebleus(settings):
    expected = sacrebleu.corpus_bleu(FOUND, [WANTED], **settings)
    result = BLEU().compute(predictions=FOUND, references=WANTED, **settings)
    assert result["bleu"] == pytest.approx(expected.score)
    assert result["brevity_penalty"] == pytest.approx(expected.bp)
    assert f"tok:{settings.get('tokenize', '13a')}" in result["signature"]


def test_chinese_is_cut_into_characters():
    found, wanted = ["我欠他100万。"], ["他欠我100万。"]
    result = BLEU().compute(predictions=found, references=wanted, tokenize="zh")
    assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, [wanted], tokenize="zh").score)


def test_bleu_of_generated_ids():
    texts = ["the cat sat on the mat", "a dog ran over the road"]
    tokenizer = translation_tokenizer(train_word_level(texts, show_progress=False))
    ids = [[tokenizer.bos_token_id, *tokenizer(text).input_ids] for text in texts]
    ids[1][2] = ids[0][2]
    predictions = np.array([[*ids[0], -100], [*ids[1], tokenizer.pad_token_id]])
    result = bleu_of_generated(tokenizer, texts)(EvalPrediction(predictions, None))
    expected = sacrebleu.corpus_bleu([texts[0], "a cat ran over the road"], [texts])
    assert result == {"bleu": pytest.approx(expected.score)}


def test_unknown_words_are_scored():
    """Dropping them would make a perfect answer of what the model did not know."""
    tokenizer = translation_tokenizer(train_word_level(["a man sees the dog"], show_progress=False))
    predictions = np.array([tokenizer("a man quickly sees the dog").input_ids])
    assert generated_texts(tokenizer, predictions) == ["a man ⁇ sees the dog"]
    reference = ["a man sees the dog"]
    score = bleu_of_generated(tokenizer, reference)(EvalPrediction(predictions, None))["bleu"]
    assert score == pytest.approx(sacrebleu.corpus_bleu(["a man xyz sees the dog"], [reference]).score)
    assert score < 60


@pytest.mark.parametrize(
    ("languages", "tokenizers"),
    [
        (("zh", "zh-CN", "zho_Hans", "yue"), {"zh"}),
        (("ja", "jpn_Jpan"), {"ja-mecab", "char"}),
        (("ko",), {"ko-mecab", "char"}),
        (("th",), {"char"}),
        (("en", "de", "fr", "zu"), {"13a"}),
    ],
)
def test_the_language_chooses_the_tokenizer(languages, tokenizers):
    for language in languages:
        assert bleu_tokenizer(language) in tokenizers
        # it is there
        assert BLEU().compute(predictions=["a"], references=["a"], tokenize=bleu_tokenizer(language))["bleu"] >= 0


def test_aer_is_the_formula():
    """Of 4 links found, 2 are sure and 1 possible; there are 3 sure ones: 1 − (2 + 3) / (4 + 3)."""
    result = AlignmentErrorRate().compute(predictions=["0-0 1-1", "0-1 2-2"], references=["0-0 1?1 2-2", "0-1 1?1"])
    assert result["aer"] == pytest.approx(1 - (2 + 3) / (4 + 3))
    assert result["precision"] == pytest.approx(3 / 4)
    assert result["recall"] == pytest.approx(2 / 3)
    perfect = AlignmentErrorRate().compute(predictions=["0-0 1-1"], references=["0-0 1?1"])
    assert perfect["aer"] == 0
    assert np.isnan(AlignmentErrorRate().compute(predictions=[""], references=[""])["aer"])


def test_bad_links_are_named():
    with pytest.raises(ValueError, match="'1:2' in '0-0 1:2' is not a link"):
        AlignmentErrorRate().compute(predictions=["0-0 1:2"], references=["0-0"])
