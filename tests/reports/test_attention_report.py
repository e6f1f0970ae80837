"""The attention picture: what it holds, and that it opens offline."""

import json
import re

import pytest
import torch
from torch.testing import assert_close

import hf_lineage
from hf_lineage.reports import AttentionMap, attention_section, record_attention, write_attention_report
from hf_lineage.tokenization import train_word_level, translation_tokenizer
from tests.models.test_modeling_bert import TestBERT as BERT
from tests.models.test_modeling_gpt import TestGPT as GPT
from tests.models.test_modeling_luong import TestLuong as Luong
from tests.models.test_modeling_rnnsearch import TestBahdanau as Bahdanau
from tests.models.test_modeling_transformer import TestTransformer as Transformer


SOURCE = "The dog visits Ada ."
TARGET = "Ada sees the dog"


def save(station, folder, tokenizer):
    config = station.config_class(**{**station.tiny, "vocab_size": len(tokenizer)})
    classes = config.auto_classes
    name = classes.get("AutoModelForSeq2SeqLM", classes["AutoModel"])
    model = getattr(hf_lineage, name.split(".")[1])(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return type(model).from_pretrained(folder, attn_implementation="eager").eval()


def check_page(folder, maps):
    write_attention_report(folder / "page.html", maps, title="a < b")
    page = (folder / "page.html").read_text()
    shown = re.findall(r"const rows = (.*), columns = (.*), weights = (.*);\n", page)
    for one, texts in zip(maps, shown, strict=True):
        rows, columns, numbers = map(json.loads, texts)
        assert (rows, columns) == (one.rows, one.columns)
        numbers = torch.tensor(numbers)
        assert_close(numbers, torch.stack(one.weights), atol=6e-5, rtol=0)
        assert_close(numbers.sum(3), torch.ones(numbers.shape[:3]), atol=1e-2, rtol=0)
        assert f"<h2>{one.name}</h2>" in page
    assert page.count('class="head"') == len(maps)
    assert "a &lt; b" in page
    assert not re.search(r"(src|href)=", page)


@pytest.mark.parametrize("station", [BERT, GPT])
def test_page_shows_the_weights_of_a_saved_model(station, tmp_path, tiny_tokenizer):
    model = save(station, tmp_path, tiny_tokenizer)
    inputs = tiny_tokenizer(SOURCE, return_tensors="pt")
    (shown,) = maps = record_attention(tmp_path, SOURCE)
    assert shown.rows == shown.columns == tiny_tokenizer.convert_ids_to_tokens(inputs.input_ids[0].tolist())
    with torch.no_grad():
        expected = model(**inputs, output_attentions=True).attentions
    assert_close(torch.stack(shown.weights), torch.cat(expected))
    check_page(tmp_path, maps)
    with pytest.raises(ValueError, match="target='Ada'.*leave target out"):
        record_attention(tmp_path, SOURCE, "Ada")


@pytest.mark.parametrize("target", [TARGET, None], ids=["given", "generated"])
@pytest.mark.parametrize("station", [Transformer, Bahdanau, Luong])
def test_page_shows_the_weights_of_an_encoder_decoder(station, target, tmp_path):
    tokenizer = translation_tokenizer(train_word_level([SOURCE, TARGET], show_progress=False))
    model = save(station, tmp_path, tokenizer)
    source = tokenizer(SOURCE, return_tensors="pt").input_ids
    with torch.no_grad():
        labels = tokenizer(TARGET, return_tensors="pt").input_ids if target else model.generate(source)[:, 1:]
        outputs = model(source, labels=labels, output_attentions=True)
    read, written = (tokenizer.convert_ids_to_tokens(ids[0].tolist()) for ids in (source, labels))
    maps = {one.name: one for one in record_attention(tmp_path, SOURCE, target)}
    cross = maps["Cross-attention"]
    assert (cross.rows, cross.columns) == (written, read)
    fields = {"Cross-attention": outputs.cross_attentions}
    if station is Transformer:
        fields |= {
            "Encoder self-attention": outputs.encoder_attentions,
            "Decoder self-attention": outputs.decoder_attentions,
        }
        assert maps["Decoder self-attention"].columns[1:] == written[:-1]
        assert maps["Encoder self-attention"].rows == read
    assert maps.keys() == fields.keys()
    for name, layers in fields.items():
        for found, layer in zip(maps[name].weights, layers, strict=True):
            assert_close(found, layer.reshape(found.shape))
    check_page(tmp_path, [*maps.values()])


def test_a_token_cannot_end_the_script(tmp_path):
    shown = AttentionMap("Cross-attention", ["</script>"], ["a", "b"], [torch.ones(1, 1, 2)])
    write_attention_report(tmp_path / "page.html", [shown])
    assert (tmp_path / "page.html").read_text().count("</script>") == 1


def test_weights_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"weights\[0\] has shape \[1, 2, 2\].*\[heads, 1, 1\]"):
        write_attention_report(tmp_path / "page.html", [AttentionMap("a", ["a"], ["a"], [torch.ones(1, 2, 2)])])
    assert not list(tmp_path.iterdir())


def test_models_without_attention_are_refused(tmp_path, tiny_tokenizer):
    hf_lineage.LSTMModel(hf_lineage.LSTMConfig(vocab_size=len(tiny_tokenizer), hidden_size=8)).save_pretrained(
        tmp_path
    )
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="LSTMModel.*no attention"):
        record_attention(tmp_path, "The dog")


def test_two_attention_pictures_share_a_page():
    one = attention_section(AttentionMap("Self-attention", ["a"], ["a"], [torch.ones(2, 1, 1)]))
    # no ids, which would have to be different, and names of a script's own block
    assert not re.search(r"\bid=", one)
    assert re.search(r"<script>\s*\{", one)
    assert re.search(r"\}\s*</script>", one)
