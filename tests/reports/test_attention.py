"""The attention picture: what it holds, and that it opens offline."""

import json
import re

import pytest
import torch
from torch.testing import assert_close

import hf_lineage
from hf_lineage.reports import record_attention, write_attention_report
from tests.models.test_modeling_bert import TestBERT as BERT
from tests.models.test_modeling_gpt import TestGPT as GPT


@pytest.mark.parametrize("station", [BERT, GPT])
def test_page_shows_the_weights_of_a_saved_model(station, tmp_path, tiny_tokenizer):
    config = station.config_class(**{**station.tiny, "vocab_size": len(tiny_tokenizer)})
    model = getattr(hf_lineage, config.auto_classes["AutoModel"].split(".")[1])(config).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    tokens, weights = record_attention(tmp_path, "The dog visits Ada.")
    assert tokens == tiny_tokenizer.convert_ids_to_tokens(tiny_tokenizer("The dog visits Ada.").input_ids)
    write_attention_report(tmp_path / "page.html", tokens, weights, title="a < b")
    page = (tmp_path / "page.html").read_text()
    shown = re.search(r"const rows = (.*), columns = (.*), weights = (.*);\n", page)
    rows, columns, numbers = (json.loads(shown.group(place)) for place in (1, 2, 3))
    assert rows == columns == tokens
    assert_close(torch.tensor(numbers), torch.stack(weights), atol=6e-5, rtol=0)
    assert_close(torch.tensor(numbers).sum(3), torch.ones(2, 2, len(tokens)), atol=1e-2, rtol=0)
    assert "a &lt; b" in page
    assert not re.search(r"(src|href)=", page)


def test_a_token_cannot_end_the_script(tmp_path):
    write_attention_report(tmp_path / "page.html", ["</script>"], [torch.ones(1, 1, 2)], columns=["a", "b"])
    assert (tmp_path / "page.html").read_text().count("</script>") == 1


def test_weights_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"weights\[0\] has shape \[1, 2, 2\].*\[heads, 1, 1\]"):
        write_attention_report(tmp_path / "page.html", ["a"], [torch.ones(1, 2, 2)])
    assert not list(tmp_path.iterdir())


def test_models_without_attention_are_refused(tmp_path, tiny_tokenizer):
    hf_lineage.LSTMModel(hf_lineage.LSTMConfig(vocab_size=len(tiny_tokenizer), hidden_size=8)).save_pretrained(
        tmp_path
    )
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="LSTMModel.*no attention"):
        record_attention(tmp_path, "The dog")
