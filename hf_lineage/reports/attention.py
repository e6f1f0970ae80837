"""Where each attention head looks: one HTML file, offline, with a selector of layer and head."""

import json
from html import escape
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from .pages import write_page


STYLE = """
.attention label { margin-right: 1.5em; }
.attention table { border-collapse: collapse; margin-top: 1em; }
.attention td { width: 1.7em; height: 1.7em; border: 1px solid #eee; padding: 0; }
.attention th { font-weight: normal; padding: 0 .4em; text-align: right; border: 0; }
.attention thead th { writing-mode: vertical-rl; text-align: right; padding: .4em 0; }
"""

SECTION = """<div class="attention">
<p>Each row is a token that looks; the darker a cell, the more it takes from the token of the column.
Point at a cell for its weight.</p>
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


def record_attention(model_name: str | Path, text: str) -> tuple[list[str], list[torch.Tensor]]:
    """The tokens of `text` and the attention weights of each layer, [heads, T, T], of a saved model with attention.

    A text longer than the tokenizer's model_max_length is cut.

    Raises:
        ValueError: the model records no attention.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    model = AutoModel.from_pretrained(model_name, attn_implementation="eager").eval()
    inputs = tokenizer(text, truncation=True, return_tensors="pt")
    with torch.no_grad():
        attentions = getattr(model(**inputs, output_attentions=True), "attentions", None)
    if not attentions:
        raise ValueError(f"{type(model).__name__} of {model_name} has no attention to record")
    return tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()), [layer[0] for layer in attentions]


def attention_section(
    tokens: list[str], weights: list[torch.Tensor], columns: list[str] | None = None, decimals: int = 4
) -> str:
    """HTML with selectors of layer and head, for a page that holds `STYLE`.

    `weights` has a tensor [heads, rows, columns] a layer; the rows are `tokens`, and so are the columns unless
    `columns` names others (the source of a translation).

    Raises:
        ValueError: a tensor does not fit the tokens.
    """
    columns = tokens if columns is None else columns
    for number, layer in enumerate(weights):
        if tuple(layer.shape[1:]) != (len(tokens), len(columns)):
            raise ValueError(
                f"weights[{number}] has shape {list(layer.shape)}; for these tokens it must be "
                f"[heads, {len(tokens)}, {len(columns)}]"
            )
    rounded = [[[[round(w, decimals) for w in row] for row in head] for head in layer.tolist()] for layer in weights]
    data = {"rows": tokens, "columns": columns, "weights": rounded}
    # "<" would end the script where a token is a tag
    return SECTION.format(**{name: json.dumps(value).replace("<", "\\u003c") for name, value in data.items()})


def write_attention_report(
    path: Path,
    tokens: list[str],
    weights: list[torch.Tensor],
    columns: list[str] | None = None,
    title: str = "Attention",
):
    """Writes a page with one `attention_section` to `path` in one piece.

    Raises:
        ValueError: a tensor does not fit the tokens.
    """
    section = attention_section(tokens, weights, columns)
    write_page(path, PAGE.format(title=escape(title), style=STYLE, section=section))
