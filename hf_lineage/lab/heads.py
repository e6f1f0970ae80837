"""View e: where every attention head looks, between the words of a sentence."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from hf_lineage.data.translation_grammar import TranslationGrammar
from hf_lineage.lab.examples import ATTENDED, TO_TRANSLATE
from hf_lineage.lab.opened import LabModel, Reading, membership
from hf_lineage.lab.view import Given, View, first_known, packed


# tokens of a translation, which a model that was trained too little might never end
LONGEST = 32


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per model with heads its maps: words of rows and columns, and weights [N, H, rows, columns]."""
    shown = []
    for model in models:
        examples = [*given.texts, *sources(model), *ATTENDED]
        text = first_known(model, examples) if getattr(model.config, "num_attention_heads", 0) else None
        if text is not None:
            shown.append({"name": model.name, "maps": maps(model, text)})
    return {"models": shown} if shown else None


def sources(model: LabModel) -> list[str]:
    """What a translation model may know."""
    return [*grammar_sources(), *TO_TRANSLATE] if model.translates else []


@cache
def grammar_sources() -> list[str]:
    """Two sentences of the grammar that the small translation models learn, of about eleven words."""
    grammar = TranslationGrammar("test")
    texts = [" ".join(grammar.pair(index).source) for index in range(200)]
    return sorted(texts, key=lambda text: abs(len(text.split()) - 11))[:2]


@torch.no_grad()
def maps(model: LabModel, text: str) -> list[dict]:
    """The attention maps of one text; an encoder-decoder writes its own translation."""
    reading = model.read(text)
    if not model.translates:
        layers = model.model.base_model(**inputs_of(model, reading), output_attentions=True).attentions
        labels, groups = reading.groups()
        return [_map("Self-attention", labels, labels, layers, groups, groups)]
    written = model.model.generate(**inputs_of(model, reading), num_beams=1, max_new_tokens=LONGEST)
    outputs = model.model(**inputs_of(model, reading), decoder_input_ids=written[:, :-1], output_attentions=True)
    source, sources_ = reading.groups()
    ids = written[0].tolist()
    rows, row_groups = target_words(model, ids[1:])
    columns, column_groups = target_words(model, ids[:-1])
    return [
        _map("Encoder: source looks at source", source, source, outputs.encoder_attentions, sources_, sources_),
        _map(
            "Decoder: translation looks at itself",
            rows,
            columns,
            outputs.decoder_attentions,
            row_groups,
            column_groups,
        ),
        _map("Translation looks at source", rows, source, outputs.cross_attentions, row_groups, sources_),
    ]


def target_words(model: LabModel, ids: list[int]) -> tuple[list[str], Tensor]:
    """Generated tokens joined to words, and 1 where a token [column] is part of a word [row]."""
    labels, rows = [], []
    begins = model.starts(torch.tensor(ids).numpy())
    for place, token in enumerate(ids):
        special = token in model.tokenizer.all_special_ids
        if special or begins[place] or not labels:
            name = model.tokenizer.convert_ids_to_tokens(token)
            labels.append(name if special else model.tokenizer.decode([token]).strip() or name)
            rows.append([place])
        else:
            labels[-1] += model.continuation(ids[place - 1], token)["text"]
            rows[-1].append(place)
    return labels, membership(rows, len(ids))


def inputs_of(model: LabModel, reading: Reading) -> dict:
    """What the base model reads; a translation model reads no segments."""
    if not model.translates:
        return reading.inputs
    return {name: reading.inputs[name] for name in ("input_ids", "attention_mask") if name in reading.inputs}


def _map(title: str, rows: list[str], columns: list[str], layers, row_groups: Tensor, column_groups: Tensor) -> dict:
    weights = torch.stack([between_words(layer[0], row_groups, column_groups) for layer in layers])
    return {"title": title, "rows": rows, "columns": columns, "weights": packed(weights)}


def between_words(weights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Weights [H, T, S] between tokens -> [H, rows, columns] between words.

    A word takes the mean of what its tokens take; what it gets is the sum over its tokens, so that rows still add up
    to 1.
    """
    return rows @ weights.float() @ columns.T / rows.sum(1, keepdim=True)


VIEW = View(
    "heads",
    "Heads",
    "Where every head looks",
    "Each small square is one attention head of one layer: choose one to see which word looks at which, as a matrix "
    "and as lines. Look for heads that follow the previous word, the next one, the end mark, or a word's partner.",
    "Vaswani et al. (2017), section 3.2 and figures 3 to 5; Radford et al. (2018), section 3.1; Devlin et al. (2019), "
    "section 3",
    compute,
)
