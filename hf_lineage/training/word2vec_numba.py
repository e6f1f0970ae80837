"""The hot loops of word2vec, compiled by numba (extra `fast`): they change both matrices in place.

`skip_gram` takes L centre words at a time. It copies the words around them, the centres and N shared negatives into
small arrays that stay in the cache, and scores all negatives by one matrix product. Each negative counts k · pairs / N
times, so that a pair has k negatives on average (after Ji et al., 2016, arXiv:1604.04661, who also share them).
`word_by_word` is the authors' loop, for hierarchical softmax and CBOW.

Shapes: embedding [V, D] and context [V, D] float32; ids, low, high int32 [n], where centre i has the neighbours
low[i] ... high[i] − 1 without i; negatives int32 [chunks, N]. Both loops release the interpreter's lock and return
(loss in nats, measured pairs). They measure only one chunk in `loss_interval`: a logarithm per pair would cost as much
as the training.
"""

import math

import numpy as np
from numba import njit


HALF, ONE = np.float32(0.5), np.float32(1.0)


# the loops vectorise because sums may have any order, inner functions are inlined, and each row is looked up before
# the loop over its numbers (in the loop, the compiler must assume that a store changes the index)
compiled = njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
inlined = njit(fastmath=True, error_model="numpy", inline="always")


@inlined
def sigmoid(x):
    """σ(x) = ½ + ½ tanh(x/2) by Lambert's continued fraction of tanh, within 3e-5; without a call, it vectorises."""
    y = min(max(HALF * x, np.float32(-4.97)), np.float32(4.97))
    q = y * y
    upper = np.float32(135135) + q * (np.float32(17325) + q * (np.float32(378) + q))
    lower = np.float32(135135) + q * (np.float32(62370) + q * (np.float32(3150) + q * np.float32(28)))
    return HALF + HALF * y * upper / lower


@compiled
def minus_log_sigmoid(x):
    return max(-x, np.float32(0)) + math.log1p(math.exp(-abs(x)))


@inlined
def gather(target, matrix, rows):
    for r in range(rows.shape[0]):
        row = rows[r]
        for d in range(matrix.shape[1]):
            target[r, d] = matrix[row, d]


@inlined
def scatter_add(matrix, rows, change):
    for r in range(rows.shape[0]):
        row = rows[r]
        for d in range(matrix.shape[1]):
            matrix[row, d] += change[r, d]


@compiled
def skip_gram(embedding, context, ids, low, high, negatives, length, num_negatives, rate, loss_interval):
    """Negative sampling, `length` centres at a time."""
    size, shared = embedding.shape[1], negatives.shape[1]
    widest = length
    for a in range(0, len(ids), length):
        b = min(a + length, len(ids))
        widest = max(widest, high[a:b].max() - low[a:b].min())
    x, dx = np.empty((widest, size), np.float32), np.empty((widest, size), np.float32)
    y, dy = np.empty((length, size), np.float32), np.empty((length, size), np.float32)
    z, dz = np.empty((shared, size), np.float32), np.empty((shared, size), np.float32)
    all_scores, all_weights = np.empty(widest * shared, np.float32), np.empty(widest * shared, np.float32)
    pairs, share = np.empty(widest, np.float32), np.float32(num_negatives) / np.float32(shared)
    loss, measured = 0.0, 0

    for a in range(0, len(ids), length):
        b = min(a + length, len(ids))
        first, last = low[a:b].min(), high[a:b].max()
        rows, noise = ids[first:last], negatives[a // length]
        n = last - first
        gather(x, embedding, rows)
        gather(y, context, ids[a:b])
        gather(z, context, noise)
        dy[:] = np.float32(0)
        measure = (a // length) % loss_interval == 0

        # pairs of each row of x with each negative; a pair's centre is not its negative
        pairs[:n] = np.float32(0)
        for i in range(a, b):
            for p in range(low[i], high[i]):
                pairs[p - first] += ONE
            pairs[i - first] -= ONE
        weights = all_weights[: n * shared].reshape(n, shared)
        for r in range(n):
            for j in range(shared):
                weights[r, j] = share * pairs[r]
        for i in range(a, b):
            for j in range(shared):
                if noise[j] == ids[i]:
                    for p in range(low[i], high[i]):
                        if p != i:
                            weights[p - first, j] -= share

        # negatives: all rows of x against all rows of z
        scores = all_scores[: n * shared].reshape(n, shared)
        np.dot(x[:n], z.T, scores)
        if measure:
            for r in range(n):
                for j in range(shared):
                    loss += weights[r, j] * minus_log_sigmoid(-scores[r, j])
        for r in range(n):
            for j in range(shared):
                scores[r, j] = -rate * weights[r, j] * sigmoid(scores[r, j])
        np.dot(scores, z, dx[:n])
        np.dot(scores.T, x[:n], dz)

        # positives: each centre against its neighbours only
        for i in range(a, b):
            for p in range(low[i], high[i]):
                if p == i:
                    continue
                r, score = p - first, np.float32(0)
                for d in range(size):
                    score += x[r, d] * y[i - a, d]
                if measure:
                    loss += minus_log_sigmoid(score)
                    measured += 1
                gradient = rate * sigmoid(-score)
                for d in range(size):
                    dx[r, d] += gradient * y[i - a, d]
                    dy[i - a, d] += gradient * x[r, d]

        scatter_add(embedding, rows, dx)
        scatter_add(context, ids[a:b], dy)
        scatter_add(context, noise, dz)
    return loss, measured


@inlined
def learn(h, error, context, rows, signs, count, rate, measure):
    """Trains one vector h against `count` rows of context with labels ±1; adds h's gradient to `error`."""
    loss = 0.0
    for j in range(count):
        row, sign, score = rows[j], signs[j], np.float32(0)
        for d in range(h.shape[0]):
            score += h[d] * context[row, d]
        if measure:
            loss += minus_log_sigmoid(sign * score)
        gradient = rate * sign * sigmoid(-sign * score)
        for d in range(h.shape[0]):
            error[d] += gradient * context[row, d]
            context[row, d] += gradient * h[d]
    return loss


@compiled
def word_by_word(embedding, context, ids, low, high, negatives, nodes, signs, cbow, mean, divide, rate, loss_interval):
    """Trains centre by centre, each against its negatives [n, k] or, without negatives, along its Huffman path.

    nodes and signs [V, depth] belong to the tree (`HuffmanTree`). In CBOW, `mean` averages the neighbours and `divide`
    divides the gradient among them.
    """
    size, use_tree = embedding.shape[1], negatives.shape[1] == 0
    h, error = np.empty(size, np.float32), np.empty(size, np.float32)
    rows = np.empty(max(negatives.shape[1] + 1, nodes.shape[1]), np.int64)
    labels = np.empty(rows.shape[0], np.float32)
    loss, measured = 0.0, 0
    for i in range(len(ids)):
        neighbours = high[i] - low[i] - 1
        if neighbours <= 0:
            continue
        measure, count = i % loss_interval == 0, 0
        if use_tree:
            while count < nodes.shape[1] and signs[ids[i], count] != 0:
                rows[count], labels[count] = nodes[ids[i], count], signs[ids[i], count]
                count += 1
        else:
            rows[0], labels[0], count = ids[i], ONE, 1
            for j in range(negatives.shape[1]):
                if negatives[i, j] != ids[i]:
                    rows[count], labels[count] = negatives[i, j], -ONE
                    count += 1

        if cbow:
            forward = ONE / np.float32(neighbours) if mean else ONE
            backward = ONE / np.float32(neighbours) if divide else ONE
            for d in range(size):
                h[d] = error[d] = np.float32(0)
            for p in range(low[i], high[i]):
                if p != i:
                    word = ids[p]
                    for d in range(size):
                        h[d] += embedding[word, d]
            for d in range(size):
                h[d] *= forward
            loss += learn(h, error, context, rows, labels, count, rate, measure)
            measured += measure
            for d in range(size):
                error[d] *= backward
            for p in range(low[i], high[i]):
                if p != i:
                    word = ids[p]
                    for d in range(size):
                        embedding[word, d] += error[d]
        else:
            for p in range(low[i], high[i]):
                if p == i:
                    continue
                word = ids[p]
                for d in range(size):
                    h[d], error[d] = embedding[word, d], np.float32(0)
                loss += learn(h, error, context, rows, labels, count, rate, measure)
                measured += measure
                for d in range(size):
                    embedding[word, d] += error[d]
    return loss, measured
