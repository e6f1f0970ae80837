"""Which source word a model looked at for each word it wrote: alignments of generate()'s answers, and their use."""

import torch
from torch import Tensor


def generated_alignments(outputs, eos_token_id: int | list[int] | None = None, layer: int = -1) -> Tensor:
    """Attention to the source of generate()'s answers [B·n, T, S], one row a token written, all heads averaged.

    `outputs` come from `generate(..., return_dict_in_generate=True, output_attentions=True)`. Each answer of a beam
    search is followed through the beams that it passed. Rows after an answer's end are zero; without beams that end is
    the first `eos_token_id`, if given.

    Raises:
        ValueError: they hold no attention to the source.
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
