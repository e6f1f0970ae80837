"""word2vec's updates without autograd: the same rule in torch (any device) and in numba (CPU, extra `fast`).

`update` changes both matrices of a `Word2VecForPreTraining` in place. Skip-gram with negative sampling takes `chunk`
centres at a time, which share their negatives; word2vec_numba.py is fastest. torch takes several chunks at once,
computes their changes from the same state of the matrices, and sums them.

A word that is repeated in a step gets the sum of its changes. With few words, one dominant word, or a high learning
rate, the step would overshoot, and the matrices would grow without bound. `passes` then divides the step: the block is
read several times, with shorter steps of the same total length.
"""

import math
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch.nn.functional import embedding as rows_of
from torch.nn.functional import logsigmoid, pad

from hf_lineage.models import Word2VecConfig, Word2VecForPreTraining


# the loss is measured on one step in 16: a logarithm per pair would cost as much as the training
LOSS_INTERVAL = 16
# longest step, in units of `step_length`: for many centres at once, and for one by one. Measured on 2 to 5,000 words,
# uniform and by Zipf's law, the matrices grow without bound from 2.5 times the first limit and 1.2 times the second on
MAX_SHARED_STEP, MAX_STEP = 2.0, 0.9
# enough words to estimate how often two of a block are the same
SAMPLED_WORDS = 1024


@dataclass(frozen=True)
class FastPath:
    """How the updates are computed: `backend` "numba" or "torch", `chunk` centres, `negatives_per_chunk`.

    In torch, `chunk` · `chunks_at_once` centres do not see each other's changes; beyond 512 quality suffers.
    """

    backend: str
    chunk: int
    negatives_per_chunk: int
    chunks_at_once: int = 1

    @classmethod
    def of(cls, config: Word2VecConfig, backend: str | None = None, device: torch.device | str = "cpu") -> "FastPath":
        """The settings that measured best; `backend` None means numba on a CPU, if it is installed.

        Raises:
            ValueError: another backend, or numba without the package, for a full softmax or for another `device`.
        """
        on_cpu = torch.device(device).type == "cpu"
        if backend is None:
            backend = "numba" if on_cpu and find_spec("numba") and config.objective != "softmax" else "torch"
        if backend not in ("numba", "torch"):
            raise ValueError(f"backend is {backend!r}; it must be 'numba' or 'torch'")
        if backend == "numba" and not find_spec("numba"):
            raise ValueError("backend is 'numba', which is not installed: pip install 'hf_lineage[fast]'")
        if backend == "numba" and not on_cpu:
            raise ValueError(f"backend is 'numba', which needs a CPU, not {device}: use 'torch', or --use_cpu")
        if backend == "numba" and config.objective == "softmax":
            raise ValueError("backend is 'numba', which has no full softmax: use 'torch'")
        # frequent words in one step would move too far, so a small vocabulary has fewer centres
        at_once = max(1, min(512, config.vocab_size // 20))
        if config.objective != "negative_sampling":
            return cls(backend, 1, 0, min(64, at_once) if backend == "torch" else 1)
        if backend == "torch":
            return cls(backend, 32, 32, max(1, at_once // 32))
        return cls(backend, 16, 16) if config.architecture == "skip_gram" else cls(backend, 1, config.num_negatives)


def update(
    model: Word2VecForPreTraining, block: dict[str, np.ndarray], path: FastPath, rate: float
) -> tuple[float, int]:
    """Trains on a block (`WordWindows`) at learning rate `rate` -> (summed loss in nats, number of measured pairs)."""
    matrices = model.model.embed_tokens.weight.detach(), model.context_embeddings.detach()
    learn, count = (_numba if path.backend == "numba" else _torch), passes(model, block, path, rate)
    sums = [learn(model, *matrices, block, path, rate / count) for _ in range(count)]
    loss, pairs = (sum(column) for column in zip(*sums, strict=True))
    return loss / count, pairs // count


def passes(model: Word2VecForPreTraining, block: dict[str, np.ndarray], path: FastPath, rate: float) -> int:
    """Number of passes over a block, each at `rate` divided by this number, so that no step overshoots; usually 1."""
    longest = MAX_SHARED_STEP if path.chunk * path.chunks_at_once > 1 else MAX_STEP
    return max(1, math.ceil(rate * step_length(model, block, path) / longest))


def step_length(model: Word2VecForPreTraining, block: dict[str, np.ndarray], path: FastPath) -> float:
    """How much vectors move each other in one step at learning rate 1: the norm of their summed pair weights.

    The estimate assumes that words and negatives are drawn independently. If two positions hold the same word with
    probability q, the word counts of m positions have the norm √(m (1 + m q)).
    """
    config = model.config
    # the mean number: each word draws 1 … window neighbours on each side
    neighbours = config.window + 1
    same_word = _same(block["ids"])
    if config.architecture == "skip_gram" or not config.cbow_mean:
        weight = neighbours
    else:
        # a mean moves by 1 / neighbours of each neighbour's change, which is the undivided error in the authors' code
        weight = 1 if config.cbow_grad == "corrected" else math.sqrt(neighbours)
    if path.chunk > 1:
        positions, same_noise = path.chunk + config.window, _same(block["negatives"])
        words = math.sqrt(positions * (1 + positions * same_word))
        noise = math.sqrt(1 / path.negatives_per_chunk + same_noise)
        # chunks processed at once add up only for their common words and negatives
        others = (path.chunks_at_once - 1) * positions * math.sqrt(same_word * same_noise)
        return weight * config.num_negatives * (words * noise + others)
    # numba takes skip-gram's pairs one by one
    one_pair = path.backend == "numba" and config.architecture == "skip_gram"
    pairs = 1 if one_pair else path.chunks_at_once * neighbours
    words = weight / neighbours * math.sqrt(pairs * (1 + pairs * same_word))
    if config.objective == "negative_sampling":
        return words * math.sqrt((1 + config.num_negatives) * (1 + config.num_negatives * _same(block["negatives"])))
    # the nodes of one path, or the few at the root that many paths share; a full softmax counts as two nodes
    depth = math.log2(config.vocab_size) if config.objective == "hierarchical_softmax" else 2
    return max(words * math.sqrt(2), math.sqrt(depth))


def _same(ids: np.ndarray) -> float:
    """The probability that two of `ids` [...] are equal, estimated on a sample."""
    ids = ids.reshape(-1)[:: ids.size // SAMPLED_WORDS + 1]
    counts = np.unique(ids, return_counts=True)[1]
    # the sum of n (n - 1) pairs, without each word's pair with itself
    return float(counts @ (counts - 1)) / max(len(ids) * (len(ids) - 1), 1)


def _numba(model, embedding, context, block, path, rate):
    from hf_lineage.training import word2vec_numba  # numba is an extra

    config = model.config
    matrices = embedding.numpy(), context.numpy()
    block = [block[name] for name in ("ids", "low", "high", "negatives")]
    rate = np.float32(rate)
    if config.architecture == "skip_gram" and config.objective == "negative_sampling":
        return word2vec_numba.skip_gram(*matrices, *block, path.chunk, config.num_negatives, rate, LOSS_INTERVAL)
    nodes, signs = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
    if config.objective == "hierarchical_softmax":
        tree = model.huffman_tree()
        nodes, signs = tree.nodes.int().numpy(), tree.signs.float().numpy()
    options = config.architecture == "cbow", config.cbow_mean, config.cbow_mean and config.cbow_grad == "corrected"
    return word2vec_numba.word_by_word(*matrices, *block, nodes, signs, *options, rate, LOSS_INTERVAL)


def _torch(model, embedding, context, block, path, rate):
    end, batch = len(block["ids"]), {name: torch.from_numpy(values) for name, values in block.items()}
    batch = _padded({name: tensor.to(embedding.device) for name, tensor in batch.items()}, path, model.config.window)
    learn = _blocks if model.config.objective == "negative_sampling" else _vectors
    loss, pairs, step = torch.zeros((), device=embedding.device), 0, path.chunk * path.chunks_at_once
    for start in range(0, end, step):
        group_loss, group_pairs = learn(
            model,
            embedding,
            context,
            batch,
            path,
            rate,
            start,
            min(start + step, end),
            start // step % LOSS_INTERVAL == 0,
        )
        loss, pairs = loss + group_loss, pairs + group_pairs
    return float(loss), int(pairs)


def _padded(batch, path, window):
    """The block, padded by a window of words on both sides and to full chunks; neighbours as distances from centres.

    The padding has no neighbours, so nothing is learned from it. Indices are int64: int32 is half as fast.
    """
    ragged = -len(batch["ids"]) % path.chunk
    position = torch.arange(len(batch["ids"]), device=batch["ids"].device)
    return {
        "ids": pad(batch["ids"].long(), (window, window + ragged)),
        "before": pad(position - batch["low"], (0, ragged)),
        "after": pad(batch["high"] - 1 - position, (0, ragged)),
        "negatives": batch["negatives"].long(),
    }


def _bands(batch, path, window, start, stop):
    """Per chunk of L centres: the R words around it [G, R], the centres [G, L], their neighbours as bool [G, L, R]."""
    chunks, length, width = -(-(stop - start) // path.chunk), path.chunk, path.chunk + 2 * window
    stop = start + chunks * length
    inputs = batch["ids"][start : stop + 2 * window].unfold(0, width, length)
    targets = batch["ids"][start + window : stop + window].view(chunks, length)
    before, after = (batch[name][start:stop].view(chunks, length, 1) for name in ("before", "after"))
    offset = torch.arange(-window, window + 1, device=inputs.device)
    near = (offset >= -before) & (offset <= after) & (offset != 0)  # [G, L, 2 window + 1]
    band = near.new_zeros(chunks, length, width)
    # the neighbours of the next centre are in the next row, shifted by one column
    band.as_strided(near.shape, (length * width, width + 1, 1)).copy_(near)
    return inputs, targets, band


def _blocks(model, embedding, context, batch, path, rate, start, stop, measure):
    """Negative sampling on chunks: G chunks of L centres, R words around them, N negatives shared in each.

    The P predicting vectors h are the R words or, for CBOW, the L means of neighbours. Each is scored against all
    K = L + N centres and negatives; `weights` [G, P, K] counts the pairs per score.
    """
    config = model.config
    inputs, targets, band = _bands(batch, path, config.window, start, stop)
    noise = batch["negatives"][start // path.chunk : start // path.chunk + len(targets)]  # [G, N]
    outputs = torch.cat([targets, noise], 1)  # [G, K]
    x, y = rows_of(inputs, embedding), rows_of(outputs, context)
    band = band.to(x.dtype)  # [G, L, R]

    if config.architecture == "skip_gram":
        h, pairs = x, band.transpose(1, 2)  # [G, R, L]
    else:
        count = band.sum(2, keepdim=True)  # [G, L, 1]
        divisor = count.clamp(min=1) if config.cbow_mean else torch.ones_like(count)
        h, pairs = band @ x / divisor, (count > 0) * torch.eye(path.chunk, dtype=x.dtype, device=x.device)
    # a pair's centre is not its negative
    is_noise = (targets[..., None] != noise[:, None]).to(x.dtype)  # [G, L, N]
    share = config.num_negatives / path.negatives_per_chunk
    weights = torch.cat([pairs, share * (pairs @ is_noise)], 2)
    labels = (torch.arange(weights.shape[2], device=x.device) < path.chunk).to(x.dtype)

    scores = h @ y.transpose(1, 2)  # [G, P, K]
    gradient = (labels - scores.sigmoid()).mul_(weights).mul_(rate)
    dx, dy = gradient @ y, gradient.transpose(1, 2) @ h
    if config.architecture == "cbow":
        dx = band.transpose(1, 2) @ (dx / divisor if config.cbow_grad == "corrected" else dx)
    embedding.index_add_(0, inputs.flatten(), dx.flatten(0, 1))
    context.index_add_(0, outputs.flatten(), dy.flatten(0, 1))
    if not measure:
        return 0, 0
    return -(weights * logsigmoid((2 * labels - 1) * scores)).sum(), pairs.sum()


def _vectors(model, embedding, context, batch, path, rate, start, stop, measure):
    """Hierarchical and full softmax: scores P vectors h against the nodes of the centre's path, or all words."""
    config = model.config
    inputs, targets, band = _bands(batch, path, config.window, start, stop)
    band, targets = band[:, 0], targets[:, 0]  # [G, R] and [G] with one centre per chunk
    if config.architecture == "skip_gram":
        rows, columns = band.nonzero(as_tuple=True)
        h, targets = embedding[inputs[rows, columns]], targets[rows]
    else:
        rows = band.any(1).nonzero()[:, 0]
        inputs, band, targets = inputs[rows], band[rows].to(embedding.dtype), targets[rows]
        divisor = band.sum(1, keepdim=True) if config.cbow_mean else torch.ones_like(band[:, :1])
        h = (band[:, None] @ embedding[inputs])[:, 0] / divisor

    if config.objective == "softmax":
        logs = (h @ context.T).log_softmax(1)
        loss = -logs.gather(1, targets[:, None]).sum()
        gradient = -rate * logs.exp()  # [P, V]
        gradient[torch.arange(len(h)), targets] += rate
        error, change = gradient @ context, gradient.T @ h
        context += change
    else:
        tree = model.huffman_tree()
        nodes, signs = (t.to(h.device)[targets] for t in (tree.nodes, tree.signs.to(h.dtype)))  # [P, depth]
        scores = signs * torch.einsum("pnd,pd->pn", context[nodes], h)
        loss = -(signs.abs() * logsigmoid(scores)).sum()
        gradient = rate * signs * (-scores).sigmoid()
        error = torch.einsum("pn,pnd->pd", gradient, context[nodes])
        context.index_add_(0, nodes.flatten(), (gradient[..., None] * h[:, None]).flatten(0, 1))

    if config.architecture == "skip_gram":
        embedding.index_add_(0, inputs[rows, columns], error)
    else:
        error = error / divisor if config.cbow_grad == "corrected" else error
        embedding.index_add_(0, inputs.flatten(), (band[..., None] * error[:, None]).flatten(0, 1))
    return (loss, len(h)) if measure else (0, 0)
