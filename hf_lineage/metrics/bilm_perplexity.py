"""Perplexity of a bidirectional language model, per direction."""

import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import DynamicCache

from hf_lineage.data.bilm_streams import BiLMStream, bilm_inputs
from hf_lineage.metrics.perplexity import exponential


@torch.no_grad()
def measure_bilm_perplexity(
    model, stream: BiLMStream, *, block_size: int = 128, show_progress: bool = True
) -> dict[str, float]:
    """Scores every word and end mark of `stream` once in each direction, by the full softmax, with states carried on.

    Returns forward_perplexity, backward_perplexity, their geometric mean `perplexity` (from the mean loss), and the
    counts num_predictions (per direction) and num_unknown (words scored as the unknown word, which lowers perplexity).
    """
    was_training = model.training
    model.eval()
    cache = DynamicCache(config=model.config)
    characters = model.config.token_layer == "characters"
    nll = {"forward": 0.0, "backward": 0.0}
    with tqdm(total=stream.num_predictions, desc="Perplexity", unit="tok", disable=not show_progress) as progress:
        for start in range(0, stream.num_predictions, block_size):
            end = min(start + block_size, stream.num_predictions)
            inputs = bilm_inputs(stream, start, end, characters)
            inputs = {name: tensor[None].to(model.device) for name, tensor in inputs.items()}
            targets = inputs.pop("shift_labels"), inputs.pop("backward_shift_labels")
            outputs = model(**inputs, cache=cache, use_cache=True)
            for name, logits, target in zip(nll, (outputs.logits, outputs.backward_logits), targets, strict=True):
                nll[name] += cross_entropy(logits[0].float(), target[0], reduction="sum").item()
            progress.update(end - start)
    model.train(was_training)
    count = stream.num_predictions
    return {
        "forward_perplexity": exponential(nll["forward"] / count),
        "backward_perplexity": exponential(nll["backward"] / count),
        "perplexity": exponential(sum(nll.values()) / (2 * count)),
        "num_predictions": count,
        "num_unknown": stream.num_unknown,
    }
