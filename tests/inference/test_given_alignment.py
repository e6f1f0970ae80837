"""Attention between words, and the pictures of it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, pipeline

from hf_lineage import (
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
    Seq2SeqConfig,
    Seq2SeqForConditionalGeneration,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from hf_lineage.data import TranslationGrammar, grammar_corpus
from hf_lineage.inference.given_alignment import Alignment, NoAttentionError, align
from hf_lineage.metrics import AlignmentErrorRate
from hf_lineage.metrics.alignment_error_rate import parse_links
from hf_lineage.reports import plot_alignment, write_alignment_report
from hf_lineage.tokenization import train_byte_pairs, train_word_level, train_wordpiece, translation_tokenizer


CORPUS = grammar_corpus("train", 200)
TEXTS = [*CORPUS["source"], *CORPUS["target"]]
SOURCES, TARGETS = CORPUS["source"][:5], CORPUS["target"][:5]


def tokenizer_of(kind):
    if kind == "words":
        return translation_tokenizer(train_word_level(TEXTS, show_progress=False))
    return translation_tokenizer(train_wordpiece(TEXTS, 600, lowercase=False, show_progress=False))


def new_model(station, size):
    torch.manual_seed(0)
    if station == "transformer":
        return TransformerForConditionalGeneration(
            TransformerConfig(
                vocab_size=size, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
            )
        )
    sizes = {"embedding_size": 16, "hidden_size": 16, "attention_size": 16, "readout_size": 16}
    return RNNSearchForConditionalGeneration(RNNSearchConfig(vocab_size=size, initializer_range=0.5, **sizes))


@pytest.mark.parametrize("station", ["transformer", "rnnsearch"])
def test_weights_are_the_models_attention(station):
    tokenizer = tokenizer_of("words")
    model = new_model(station, len(tokenizer)).eval()
    implementation = model.config._attn_implementation
    found = align(model, tokenizer, SOURCES, TARGETS, batch_size=2)
    # every word is a token: the same as one sentence at a time, with the end marks cut off
    if station == "transformer":
        model.set_attn_implementation("eager")
    for alignment, source, target in zip(found, SOURCES, TARGETS, strict=True):
        ids, labels = (tokenizer(text, return_tensors="pt").input_ids for text in (source, target))
        layers = model(ids, labels=labels, output_attentions=True).cross_attentions
        weights = layers[2].mean(1)[0] if station == "transformer" else layers[0][0]
        expected = weights.reshape(weights.shape[-2:])[:-1, :-1].detach().numpy()
        np.testing.assert_allclose(alignment.weights, expected, atol=1e-5)
        assert (alignment.source, alignment.target) == (source.split(), target.split())
    if station == "transformer":
        model.set_attn_implementation(implementation)
        others = align(model, tokenizer, SOURCES, TARGETS, layer=1)
        assert not np.allclose(others[0].weights, found[0].weights)
    assert model.config._attn_implementation == implementation


def test_pieces_of_a_word_are_taken_together():
    tokenizer = tokenizer_of("pieces")
    model = new_model("transformer", len(tokenizer)).eval()
    (found,) = align(model, tokenizer, SOURCES[:1], TARGETS[:1])
    model.set_attn_implementation("eager")
    read, written = tokenizer(SOURCES[0]), tokenizer(TARGETS[0])
    outputs = model(torch.tensor([read.input_ids]), labels=torch.tensor([written.input_ids]), output_attentions=True)
    weights = outputs.cross_attentions[2].mean(1)[0].detach().numpy()

    def words(text, encoding):
        """Tokens of each word, found by the blanks before them."""
        groups = [[] for _ in text.split()]
        for token in range(len(encoding.input_ids) - 1):
            start, _ = encoding.token_to_chars(token)
            groups[text[:start].count(" ")].append(token)
        return groups

    groups = words(SOURCES[0], read), words(TARGETS[0], written)
    assert max(len(group) for group in groups[0] + groups[1]) > 1
    for j, rows in enumerate(groups[1]):
        for i, columns in enumerate(groups[0]):
            expected = weights[np.ix_(rows, columns)].sum(1).mean()
            assert found.weights[j, i] == pytest.approx(expected, abs=1e-5)


def test_tokens_stand_for_themselves_where_there_are_no_blanks():
    tokenizer = tokenizer_of("pieces")
    model = new_model("transformer", len(tokenizer)).eval()
    sources, targets = [text.replace(" ", "") for text in SOURCES], TARGETS
    found = align(model, tokenizer, sources, targets, by_token=True)
    for alignment, source, target in zip(found, sources, targets, strict=True):
        assert alignment.source == tokenizer.tokenize(source)
        assert alignment.target == tokenizer.tokenize(target)
        assert alignment.weights.shape == (len(alignment.target), len(alignment.source))
        assert (alignment.weights.sum(1) < 1).all()
        assert (alignment.weights > 0).all()
    # the same words, cut apart by blanks
    words = align(model, tokenizer, [" ".join(found[0].source)], [TARGETS[0]])
    assert words[0].source == found[0].source


def test_a_model_without_attention_is_refused():
    tokenizer = tokenizer_of("words")
    model = Seq2SeqForConditionalGeneration(Seq2SeqConfig(vocab_size=len(tokenizer), hidden_size=16))
    with pytest.raises(NoAttentionError, match="gives no cross_attentions"):
        align(model, tokenizer, SOURCES, TARGETS)


def test_links_of_a_perfect_attention_have_no_error():
    pairs = [TranslationGrammar("test").pair(index) for index in range(50)]
    alignments = []
    for pair in pairs:
        weights = np.zeros((len(pair.target), len(pair.source)))
        for i, j in sorted(pair.possible, key=lambda link: link in pair.sure):
            weights[j] = 0.0
            weights[j, i] = 1.0
        alignments.append(Alignment(list(pair.source), list(pair.target), weights))
    links = [alignment.links() for alignment in alignments]
    gold = [pair.alignment for pair in pairs]
    assert AlignmentErrorRate().compute(predictions=links, references=gold)["aer"] == pytest.approx(0, abs=1e-9)
    assert Alignment([], [], np.zeros((0, 0))).links() == ""


ALIGNMENT = Alignment(["我", "欠", "<他>"], ["I", "owe", "him"], np.array([[0.9, 0.1, 0], [0.2, 0.7, 0], [0, 0, 1.0]]))


def test_picture_as_svg_keeps_the_words(tmp_path):
    plot_alignment(ALIGNMENT, tmp_path / "picture.svg")
    texts = [element.text for element in ElementTree.parse(tmp_path / "picture.svg").iter() if element.text]
    assert {"我", "<他>", "owe"} <= {text.strip() for text in texts}
    assert [path.name for path in tmp_path.iterdir()] == ["picture.svg"]


def test_picture_as_png(tmp_path):
    plot_alignment(Alignment(["a", "b"], ["x", "y"], np.eye(2)), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_page_shows_each_weight_and_needs_no_network(tmp_path):
    path = tmp_path / "page.html"
    write_alignment_report(path, "A & B", [ALIGNMENT], summary="1 < 2", gold=[parse_links("0-0 1?1")])
    page = path.read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in page
    assert "1 &lt; 2" in page
    assert "&lt;他&gt;" in page
    assert "<他>" not in page
    assert 'class="gold" title="I ← 我: 0.900"' in page
    assert 'class="maybe" title="owe ← 欠: 0.700"' in page
    assert len(re.findall("<td ", page)) == 9
    assert not re.search(r"https?://|src=|@import|<script", page)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_byte_pairs_of_a_word_are_taken_together():
    """The bytes of a rare character belong to their word, a ▁ that is a token to the word behind it."""
    tokenizer = translation_tokenizer(train_byte_pairs(TEXTS, 700, show_progress=False))
    source, target = "他 欠 Ḁḁ 100万", "he  owes Ḁḁ, well."
    model = new_model("transformer", len(tokenizer)).eval()
    (found,) = align(model, tokenizer, [source], [target])
    assert (found.source, found.target) == (source.split(), target.split())
    model.set_attn_implementation("eager")
    read, written = (tokenizer(text, return_tensors="pt", return_offsets_mapping=True) for text in (source, target))
    outputs = model(read.input_ids, labels=written.input_ids, output_attentions=True)
    weights = outputs.cross_attentions[2].mean(1)[0].detach().numpy()

    def tokens_of(encoded, text, word):
        end = text.index(word) + len(word)
        start = len(text[: text.index(word)].rstrip())
        spans = encoded.offset_mapping[0].tolist()
        return [i for i, (a, b) in enumerate(spans) if start <= a < b <= end]

    for j, word in enumerate(target.split()):
        for i, other in enumerate(source.split()):
            rows, columns = tokens_of(written, target, word), tokens_of(read, source, other)
            expected = weights[np.ix_(rows, columns)].sum(1).mean()
            assert found.weights[j, i] == pytest.approx(expected, abs=1e-5)


def test_byte_pairs_translate_in_the_pipeline(tmp_path):
    tokenizer = translation_tokenizer(train_byte_pairs(TEXTS, 700, show_progress=False))
    model = new_model("rnnsearch", len(tokenizer))
    for name in ("pad", "bos", "eos"):
        setattr(model.config, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
    model.config.decoder_start_token_id = tokenizer.bos_token_id
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    translate = pipeline("translation", model=str(tmp_path), device="cpu")
    ids = model.eval().generate(**tokenizer("他 欠 我", return_tensors="pt"), max_new_tokens=8)
    for options in ({}, {"replace_unknown": True}):
        [answer] = translate("他 欠 我", max_new_tokens=8, **options)
        assert answer["translation_text"] == tokenizer.decode(ids[0], skip_special_tokens=True)
