"""What each attention head attends to: one offline HTML file with selectors of layer and head."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from hf_lineage.files import write_text
from hf_lineage.tokenization import open_tokenizer


STYLE = """
.attention label { margin-right: 1.5em; }
.attention table { border-collapse: collapse; margin-top: 1em; }
.attention td { width: 1.7em; height: 1.7em; border: 1px solid #eee; padding: 0; }
.attention th { font-weight: normal; padding: 0 .4em; text-align: right; border: 0; }
.attention thead th { writing-mode: vertical-rl; text-align: right; padding: .4em 0; }
"""

SECTION = """<div class="attention">
<p>Each row is a token that attends; the darker a cell, the more it takes from the token of its column.
Point at a cell to see its weight.</p>
<label>layer <select class="layer"></select></label>
<label>head <select class="head"></select></label>
<table class="weights"></table>
<script>
{{
// the section that this script stands in: a page may hold several
const section = document.currentScript.parentElement;
const rows = {rows}, columns = {columns}, weights = {weights};
const [layer, head, table] = [".layer", ".head", ".weights"].map(name => section.querySelector(name));
function draw() {{
  const shown = head.value === "mean"
    ? rows.map((_, r) => columns.map((_, c) =>
        weights[layer.value].reduce((sum, one) => sum + one[r][c], 0) / weights[layer.value].length))
    : weights[layer.value][head.value];
  table.replaceChildren();
  const top = table.createTHead().insertRow();
  for (const token of ["", ...columns]) {{
    const cell = document.createElement("th"); cell.textContent = token; top.append(cell);
  }}
  const body = table.createTBody();
  rows.forEach((token, r) => {{
    const line = body.insertRow(), name = document.createElement("th");
    name.textContent = token; line.append(name);
    columns.forEach((other, c) => {{
      const cell = line.insertCell(), weight = shown[r][c];
      cell.style.background = `rgba(20, 80, 160, ${{weight}})`;
      cell.title = `${{token}} → ${{other}}: ${{weight.toFixed(3)}}`;
    }});
  }});
}}
weights.forEach((_, l) => layer.add(new Option(l + 1, l)));
head.add(new Option("mean of all", "mean"));
weights[0].forEach((_, h) => head.add(new Option(h + 1, h)));
layer.onchange = head.onchange = draw; draw();
}}
</script>
</div>
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }}
{style}</style></head><body>
<h1>{title}</h1>
{section}
</body></html>
"""


@dataclass(frozen=True)
class AttentionMap:
    """One kind of attention of a model: the weights of each layer, [H, rows, columns], between two lists of tokens."""

    name: str
    rows: list[str]
    columns: list[str]
    weights: list[Tensor]


@torch.no_grad()
def record_attention(model_name: str | Path, text: str, target: str | None = None) -> list[AttentionMap]:
    """What a saved model attends to: a map of self-attention, [H, T, T] per layer.

    An encoder-decoder reads `text` [S] and writes `target` [T], or its own output. It gives the maps it has: encoder
    self-attention [H, S, S], decoder self-attention [H, T, T] and cross-attention [H, T, S]. A row of the decoder is
    the predicted token; the columns of its self-attention are the tokens read, from the start mark on. Attention
    without heads counts as one head. Texts longer than the tokenizer's model_max_length are cut.

    Raises:
        ValueError: the model records no attention, `target` is given to a model without a decoder, or the
            target or the model's output is empty.
    """
    tokenizer = open_tokenizer(model_name)
    translates = AutoConfig.from_pretrained(model_name).is_encoder_decoder
    if target is not None and not translates:
        raise ValueError(f"target={target!r}: {model_name} is not an encoder-decoder; leave target out")
    kind = AutoModelForSeq2SeqLM if translates else AutoModel
    model = kind.from_pretrained(model_name, attn_implementation="eager").eval()
    inputs = {
        name: value
        for name, value in tokenizer(text, truncation=True, return_tensors="pt").items()
        if not translates or name in ("input_ids", "attention_mask")
    }
    source = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    if translates:
        inputs["labels"] = _target_ids(model, tokenizer, inputs, target)
        written = tokenizer.convert_ids_to_tokens(inputs["labels"][0].tolist())
        read = [tokenizer.convert_ids_to_tokens(model.config.decoder_start_token_id), *written[:-1]]
        sides = {
            "encoder_attentions": ("Encoder self-attention", source, source),
            "decoder_attentions": ("Decoder self-attention", written, read),
            "cross_attentions": ("Cross-attention", written, source),
        }
    else:
        sides = {"attentions": ("Self-attention", source, source)}
    outputs = model(**inputs, output_attentions=True)
    maps = []
    for field, names in sides.items():
        layers = getattr(outputs, field, None)
        if layers is not None and len(layers):
            weights = [layer[0] if layer.dim() == 4 else layer for layer in layers]
            maps.append(AttentionMap(*names, weights))
    if not maps:
        raise ValueError(
            f"model_name={model_name}: {type(model).__name__} has no attention to record; name a model with attention"
        )
    return maps


def _target_ids(model, tokenizer, inputs: dict[str, Tensor], target: str | None) -> Tensor:
    """The tokens [1, T] of `target`, or of what the model generates, without the start mark."""
    if target is None:
        ids = model.generate(**inputs)[:, 1:]
    else:
        ids = tokenizer(target, truncation=True, return_tensors="pt").input_ids
    if ids.shape[1] == 0:
        raise ValueError(f"target={target!r} has no tokens; give a target text of one word or more")
    return ids


def attention_section(shown: AttentionMap, decimals: int = 4) -> str:
    """HTML with selectors of layer and head, for a page with `STYLE`.

    Raises:
        ValueError: a tensor of `shown.weights` does not fit the tokens.
    """
    for number, layer in enumerate(shown.weights):
        if tuple(layer.shape[1:]) != (len(shown.rows), len(shown.columns)):
            raise ValueError(
                f"weights[{number}] has shape {list(layer.shape)}; for these tokens it must be "
                f"[heads, {len(shown.rows)}, {len(shown.columns)}]"
            )
    rounded = [
        [[[round(w, decimals) for w in row] for row in head] for head in layer.tolist()] for layer in shown.weights
    ]
    data = {"rows": shown.rows, "columns": shown.columns, "weights": rounded}
    # the "<" of a token such as </script> would end the script
    return SECTION.format(**{name: json.dumps(value).replace("<", "\\u003c") for name, value in data.items()})


def write_attention_report(path: Path, maps: Sequence[AttentionMap], title: str = "Attention"):
    """Writes a page with an `attention_section` per map to `path`, in one piece.

    Raises:
        ValueError: a tensor does not fit its map's tokens.
    """
    sections = "\n".join(f"<h2>{escape(shown.name)}</h2>\n{attention_section(shown)}" for shown in maps)
    write_text(path, PAGE.format(title=escape(title), style=STYLE, section=sections))
