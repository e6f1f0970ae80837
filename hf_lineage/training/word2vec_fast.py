"""word2vec's updates without autograd, the same rule in torch (anywhere) and in numba (on a CPU, extra `fast`).

`update` changes both matrices of a `Word2VecForPreTraining` in place. Skip-gram with negative sampling takes `chunk`
centres at a time, which share their negatives; see word2vec_numba.py, which is fastest. torch takes several chunks at
once, all from the same state of the matrices, and sums their changes.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch.nn.functional import embedding as rows_of
from torch.nn.functional import logsigmoid, pad

from hf_lineage.models import Word2VecConfig, Word2VecForPreTraining


# one step in so many measures the loss: a logarithm a pair would cost as much as the training
LOSS_INTERVAL = 16


@dataclass(frozen=True)
class FastPath:
    """How the updates are computed: `backend` "numba" or "torch", `chunk` centres, `negatives_per_chunk`.

    In torch, `chunk` · `chunks_at_once` centres see none of each other's changes: beyond 512 quality suffers.
    """

    backend: str
    chunk: int
    negatives_per_chunk: int
    chunks_at_once: int = 1

    @classmethod
    def of(cls, config: Word2VecConfig, backend: str | None = None) -> "FastPath":
        """The measured best settings; `backend` None is numba if it is installed.

        Raises:
            ValueError: another backend, or numba without the package or for a full softmax.
        """
        if backend is None:
            backend = "numba" if find_spec("numba") and config.objective != "softmax" else "torch"
        if backend not in ("numba", "torch"):
            raise ValueError(f"backend is {backend!r}; it must be 'numba' or 'torch'")
        if backend == "numba" and not find_spec("numba"):
            raise ValueError("backend is 'numba', which is not installed: pip install 'hf_lineage[fast]'")
        if backend == "numba" and config.objective == "softmax":
            raise ValueError("backend is 'numba', which has no full softmax: use 'torch'")
        # words that come often in one step would be moved too far: fewer centres for a small vocabulary
        at_once = max(1, min(512, config.vocab_size // 20))
        if config.objective != "negative_sampling":
            return cls(backend, 1, 0, min(64, at_once))
        if backend == "torch":
            return cls(backend, 32, 32, max(1, at_once // 32))
        return cls(backend, 16, 16) if config.architecture == "skip_gram" else cls(backend, 1, config.num_negatives)


def update(
    model: Word2VecForPreTraining, block: dict[str, np.ndarray], path: FastPath, rate: float
) -> tuple[float, int]:
    """One pass over a block (`WordWindows`) at learning rate `rate` -> (summed loss in nats, pairs it counts)."""
    matrices = model.model.embed_tokens.weight.detach(), model.context_embeddings.detach()
    return (_numba if path.backend == "numba" else _torch)(model, *matrices, block, path, rate)


def _numba(model, embedding, context, block, path, rate):
    from hf_lineage.training import word2vec_numba  # numba is an extra

    config = model.config
    matrices = embedding.numpy(), context.numpy()
    block = [block[name] for name in ("ids", "low", "high", "negatives")]
    rate = np.float32(rate)
    if config.architecture == "skip_gram" and config.objective == "negative_sampling":
        return word2vec_numba.skip_gram(*matrices, *block, path.chunk, config.num_negatives, rate)
    nodes, signs = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
    if config.objective == "hierarchical_softmax":
        tree = model.huffman_tree()
        nodes, signs = tree.nodes.int().numpy(), tree.signs.float().numpy()
    options = config.architecture == "cbow", config.cbow_mean, config.cbow_mean and config.cbow_grad == "corrected"
    return word2vec_numba.word_by_word(*matrices, *block, nodes, signs, *options, rate)


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
    """The block with a window of words before and after it, full chunks, and neighbours counted from each centre.

    The words added have no neighbours, so that nothing is learned from them. Rows are taken by int64: by int32 they
    are taken and added at half the speed.
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
    """For chunks of L centres: words around each [G, R], the centres [G, L], their neighbours as bool [G, L, R]."""
    chunks, length, width = -(-(stop - start) // path.chunk), path.chunk, path.chunk + 2 * window
    stop = start + chunks * length
    inputs = batch["ids"][start : stop + 2 * window].unfold(0, width, length)
    targets = batch["ids"][start + window : stop + window].view(chunks, length)
    before, after = (batch[name][start:stop].view(chunks, length, 1) for name in ("before", "after"))
    offset = torch.arange(-window, window + 1, device=inputs.device)
    near = (offset >= -before) & (offset <= after) & (offset != 0)  # [G, L, 2 window + 1]
    band = near.new_zeros(chunks, length, width)
    # the neighbours of the next centre stand in the next row, one column further
    band.as_strided(near.shape, (length * width, width + 1, 1)).copy_(near)
    return inputs, targets, band


def _blocks(model, embedding, context, batch, path, rate, start, stop, measure):
    """Negative sampling on chunks: G chunks of L centres, R words around them, N negatives shared in each.

    The P vectors h that predict are the R words themselves or, for CBOW, the L means of neighbours. Each is scored
    against the K = L + N centres and negatives at once; `weights` [G, P, K] says how many pairs a score stands for.
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
    # a pair's own centre is no negative of it
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
    """Hierarchical and full softmax: P vectors h, each against the nodes of its centre's path or all words."""
    config = model.config
    inputs, targets, band = _bands(batch, path, config.window, start, stop)
    band, targets = band[:, 0], targets[:, 0]  # [G, R] and [G] with one centre a chunk
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
