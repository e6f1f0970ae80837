"""Alignments of generate()'s outputs: which source word the model attended to for each word of the answer."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerFast

from hf_lineage.data.cjk import WITHOUT_BLANKS


def generated_alignments(outputs, eos_token_id: int | list[int] | None = None, layer: int = -1) -> Tensor:
    """Attention of generate()'s answers to the source [B·n, T, S], one row per generated token, mean over heads.

    `outputs` come from `generate(..., return_dict_in_generate=True, output_attentions=True)`. For a beam search, each
    answer is followed back through its beams. Rows after an answer's end are zero; without beams the end is the first
    `eos_token_id`, if given.

    Raises:
        ValueError: the outputs hold no attention to the source.
    """
    if not outputs.get("cross_attentions") or not outputs.cross_attentions[0]:
        raise ValueError(
            "these outputs hold no attention to the source: call generate() with return_dict_in_generate=True and "
            "output_attentions=True, on a model that attends to its source (eager attention, where it can choose)"
        )
    steps = []
    for layers in outputs.cross_attentions:
        weights = layers[layer].float()
        weights = weights.mean(1) if weights.dim() == 4 else weights  # [B·beams, T of the step, S]
        steps.append(weights[:, -1])
    weights = torch.stack(steps, dim=1)  # [B·beams, T, S]
    beam_indices = outputs.get("beam_indices")
    if beam_indices is None:
        if eos_token_id is None:
            return weights
        ends = torch.isin(outputs.sequences[:, -weights.shape[1] :], torch.tensor(eos_token_id, device=weights.device))
        return weights * (ends.cumsum(1) - ends.int() == 0)[..., None]
    steps = torch.arange(beam_indices.shape[1], device=weights.device)
    followed = weights[beam_indices.long().clamp(min=0), steps]
    return followed * (beam_indices >= 0)[..., None]


def replace_unknown_words(
    tokenizer: PreTrainedTokenizerFast,
    sources: Sequence[str],
    sequences: Tensor,
    alignments: Tensor,
    lexicon: Mapping[str, str] | None = None,
) -> list[str]:
    """The texts of generate()'s answers, with each unknown word replaced by the source word aligned with it.

    The source word is looked up in `lexicon`, or copied if it is not there: names and numbers are often the same. If
    the source is cut into pieces, the whole word of the piece is used; in writing without blanks, only the piece.
    (Luong et al., 2015, "Addressing the rare word problem in neural machine translation"; Jean et al., 2015)

    Args:
        tokenizer: the tokenizer that read the sources; it must have an `unk_token`.
        sources: B texts, as given to the tokenizer.
        sequences: generate()'s ids [B·n, 1 + T].
        alignments: weights [B·n, T, S] over the sources' tokens, from `generated_alignments`.
        lexicon: translations of source words.

    Raises:
        ValueError: the numbers of sources, answers and alignments do not fit, or the tokenizer has no unk_token.
    """
    if tokenizer.unk_token_id is None:
        raise ValueError("the tokenizer has no unk_token: no word of an answer can be unknown")
    if len(sequences) != len(alignments) or not sources or len(sequences) % len(sources):
        raise ValueError(
            f"{len(sources)} sources, {len(sequences)} answers and {len(alignments)} alignments do not fit: each "
            "answer has one alignment, and each source the same number of answers"
        )
    length = alignments.shape[2]
    encoded = tokenizer(
        list(sources), padding="max_length", max_length=length, truncation=True, return_offsets_mapping=True
    )
    spans = torch.tensor(encoded["offset_mapping"])  # [B, S, 2]
    is_text = (spans[..., 1] > spans[..., 0]).to(alignments.device)
    answers = len(sequences) // len(sources)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    texts = []
    for answer, (ids, weights) in enumerate(zip(sequences[:, 1:].tolist(), alignments, strict=True)):
        row = answer // answers
        # special tokens and padding have no text to copy
        read = weights.masked_fill(~is_text[row], -1).argmax(1)
        words = []
        for position, token in enumerate(ids):
            if token == tokenizer.unk_token_id and position < len(read) and is_text[row].any():
                word = source_word(encoded, sources[row], row, int(read[position]))
                words.append((lexicon or {}).get(word, word))
            elif token not in special:
                words.append(tokenizer.convert_ids_to_tokens(token))
        texts.append(tokenizer.convert_tokens_to_string(words))
    return texts


def source_word(encoded: BatchEncoding, text: str, row: int, token: int) -> str:
    """The word of `text`, row `row` of `encoded`, that a token is a piece of."""
    start, end = encoded.word_to_chars(row, encoded.token_to_word(row, token))
    if WITHOUT_BLANKS.search(text, start, end):
        # a "word" would be everything between two blanks
        start, end = encoded.token_to_chars(row, token)
    return text[start:end].strip()
