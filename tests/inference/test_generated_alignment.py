"""Unknown words replaced by what they were aligned with; alignments followed through beams."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.generation.utils import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput

from hf_lineage.inference.generated_alignment import generated_alignments, replace_unknown_words
from hf_lineage.tokenization import train_wordpiece, translation_tokenizer


UNK, BOS, EOS, ME, SAW = range(1, 6)
NAMES = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "i", "saw", "ich", "sah"]


@pytest.fixture
def tokenizer():
    """Words, each text followed by the end mark; names are unknown."""
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(NAMES)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]"
    )


SOURCES = ["ich sah Grete", "Grete"]
# "i saw [UNK]" twice for the first, "[UNK] saw [UNK]" twice for the second
ANSWERS = torch.tensor([[BOS, ME, SAW, UNK, EOS]] * 2 + [[BOS, UNK, SAW, UNK, EOS]] * 2)
WEIGHTS = torch.zeros(4, 4, 4)
WEIGHTS[:2, range(4), [0, 1, 2, 3]] = 1
# the second answer's unknown word looks at the end mark most, and next at "sah"
WEIGHTS[1, 2] = torch.tensor([0.1, 0.3, 0.0, 0.6])
WEIGHTS[2:, :, 0] = 1


def test_unknown_words_are_copied_or_looked_up(tokenizer):
    found = replace_unknown_words(tokenizer, SOURCES, ANSWERS, WEIGHTS)
    assert found == ["i saw Grete", "i saw sah", "Grete saw Grete", "Grete saw Grete"]
    found = replace_unknown_words(tokenizer, SOURCES, ANSWERS, WEIGHTS, {"Grete": "Gretel"})
    assert found == ["i saw Gretel", "i saw sah", "Gretel saw Gretel", "Gretel saw Gretel"]


def test_the_whole_word_of_a_piece_is_copied():
    texts = ["the theory, there thereby", "疏影 theme"]
    tokenizer = translation_tokenizer(train_wordpiece(texts, 30, lowercase=True, show_progress=False))
    source = "Thereby, 疏影 theme"
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(source).input_ids)
    assert pieces.index(",") > 1
    assert tokenizer.unk_token not in pieces
    answer = torch.tensor([[tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id]])
    weights, found = torch.eye(len(pieces)), []
    for place in range(len(pieces) - 1):
        found += replace_unknown_words(tokenizer, [source], answer, weights[place].expand(1, 2, -1))
    comma = pieces.index(",")
    assert found[:comma] == ["Thereby"] * comma
    assert found[comma : comma + 3] == [",", "疏", "影"]
    assert set(found[comma + 3 :]) == {"theme"}


def test_without_blanks_the_piece_is_copied():
    """Pieces of whole sentences, as of sentencepiece, where "words" lie between blanks."""
    pieces = {"▁": -2.0, "<unk>": -9.0, "▁我": -1.0, "欠": -1.0, "他": -1.0, "▁Gre": -1.0, "te": -1.0}
    backend = Tokenizer(models.Unigram(list(pieces.items()), unk_id=1))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="▁")
    source = "我欠他 Grete"
    assert tokenizer.tokenize(source) == ["▁我", "欠", "他", "▁Gre", "te"]
    answer = torch.tensor([[0, 1, 1, 1, 1, 1]])
    (found,) = replace_unknown_words(tokenizer, [source], answer, torch.eye(5)[None])
    assert found.split() == ["我", "欠", "他", "Grete", "Grete"]


def test_without_source_text_the_mark_stays(tokenizer):
    found = replace_unknown_words(tokenizer, [""], ANSWERS[:1], torch.ones(1, 4, 1))
    assert found == ["i saw [UNK]"]


def test_numbers_that_do_not_fit_are_named(tokenizer):
    with pytest.raises(ValueError, match="2 sources, 3 answers and 4 alignments"):
        replace_unknown_words(tokenizer, SOURCES, ANSWERS[:3], WEIGHTS)
    with pytest.raises(ValueError, match="no unk_token"):
        replace_unknown_words(
            PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}))), [], 0, 0
        )


def test_answers_are_followed_through_their_beams():
    # the weight names the step and the row: step 0 rows 0 and 1, and so on
    steps = tuple(((torch.arange(4.0).view(4, 1, 1) + 10 * step).expand(4, 1, 3) / 100,) for step in range(3))
    outputs = GenerateBeamEncoderDecoderOutput(
        sequences=torch.zeros(2, 4).long(),
        cross_attentions=steps,
        beam_indices=torch.tensor([[0, 1, 0], [2, 3, -1]]),
    )
    found = generated_alignments(outputs)
    assert (100 * found[..., 0]).round().int().tolist() == [[0, 11, 20], [2, 13, 0]]


def test_heads_are_averaged_and_the_end_is_the_last():
    heads = torch.rand(2, 5, 1, 3)
    outputs = GenerateEncoderDecoderOutput(
        sequences=torch.tensor([[2, 7, 3, 0], [2, 7, 7, 7]]), cross_attentions=((heads,),) * 3
    )
    found = generated_alignments(outputs, eos_token_id=3)
    torch.testing.assert_close(found[0, :2], heads[0].mean(0).expand(2, 3))
    assert found[0, 2].abs().sum() == 0
    torch.testing.assert_close(found[1], heads[1].mean(0).expand(3, 3))
    assert generated_alignments(outputs)[0, 2].sum() > 0


def test_no_attention_is_named():
    outputs = GenerateEncoderDecoderOutput(sequences=torch.zeros(1, 2), cross_attentions=None)
    with pytest.raises(ValueError, match="output_attentions=True"):
        generated_alignments(outputs)
