"""The pooling as a Triton kernel, one program an image: what `plugins/gsp_pooling` does in CUDA.

The output `weights` serves as the place for the log-masses until the weights are known, so it is
always there, in float32. Products are in float32 throughout.
"""

# ruff: noqa: N803 - compile-time arguments of kernels are in capitals
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _scores(
    embeddings, prototypes, m, n, locations,
    GAMMA: tl.constexpr, DIM: tl.constexpr, PROTOTYPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return -gamma c of a tile, `(m, n)`, by one matrix product; -inf beyond the prototypes."""
    product = tl.zeros((m.shape[0], n.shape[0]), tl.float32)
    square = tl.zeros((n.shape[0],), tl.float32)
    length = tl.zeros((m.shape[0],), tl.float32)
    for start in range(0, DIM, BLOCK):
        d = start + tl.arange(0, BLOCK)
        in_p = (m < PROTOTYPES)[:, None] & (d < DIM)[None, :]
        p = tl.load(prototypes + m[:, None] * DIM + d[None, :], mask=in_p, other=0.0)
        in_f = (d < DIM)[:, None] & (n < locations)[None, :]
        f = tl.load(embeddings + d[:, None] * locations + n[None, :], mask=in_f, other=0.0)
        f = f.to(tl.float32)
        product += tl.dot(p, f, input_precision="ieee")
        length += tl.sum(p * p, 1)
        square += tl.sum(f * f, 0)
    product = product * (-2.0 / tl.sqrt(tl.maximum(square, 1.0)))[None, :]
    squared = length[:, None] + tl.minimum(square, 1.0)[None, :] + product
    scores = -GAMMA * tl.sqrt(tl.maximum(squared, 0.0))
    return tl.where((m < PROTOTYPES)[:, None], scores, -float("inf"))


@triton.jit
def _log_mass(
    embeddings, prototypes, n, locations,
    GAMMA: tl.constexpr, DIM: tl.constexpr, PROTOTYPES: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_PROTOTYPES: tl.constexpr,
):  # fmt: skip
    """Return logsumexp over the prototypes of a tile of locations, `(n,)`."""
    peak = tl.full((n.shape[0],), -float("inf"), tl.float32)
    total = tl.zeros((n.shape[0],), tl.float32)
    for start in range(0, PROTOTYPES, BLOCK_PROTOTYPES):
        m = start + tl.arange(0, BLOCK_PROTOTYPES)
        scores = _scores(embeddings, prototypes, m, n, locations, GAMMA, DIM, PROTOTYPES, BLOCK)
        higher = tl.maximum(peak, tl.max(scores, 0))
        total = total * tl.exp(peak - higher) + tl.sum(tl.exp(scores - higher[None, :]), 0)
        peak = higher
    return peak + tl.log(total)


@triton.jit
def _newton(log_mass, inside, locations, RATIO: tl.constexpr, LOGIT: tl.constexpr,
            STEPS: tl.constexpr, SLOPE: tl.constexpr):  # fmt: skip
    """Return beta for log-masses whose largest is 0: see `layers.transport`."""
    low = LOGIT * 1.0
    high = LOGIT - tl.min(tl.where(inside, log_mass, float("inf")), 0)
    beta = LOGIT - tl.sum(tl.where(inside, log_mass, 0.0), 0) / locations
    low = low + 0.0 * beta  # of beta's type
    for _ in range(STEPS):
        kept = tl.where(inside, tl.sigmoid(beta + log_mass), 0.0)
        mean = tl.sum(kept, 0) / locations
        slope = tl.maximum(mean - tl.sum(kept * kept, 0) / locations, SLOPE)
        excess = mean - RATIO
        step = beta - excess / slope
        low = tl.where(excess > 0, low, beta)
        high = tl.where(excess > 0, beta, high)
        middle = 0.5 * (low + high)
        beta = tl.where(excess > 0, tl.maximum(step, middle), tl.minimum(step, middle))
    return beta


@triton.jit
def _fixed_point(log_mass, inside, locations, start, LOG_RATIO: tl.constexpr, STEPS: tl.constexpr):
    """Return beta for log-masses whose largest is 0, `start` being log t(0) plus what that was."""
    share = tl.exp(log_mass) / (1.0 + tl.exp(start + log_mass))
    beta = LOG_RATIO - tl.log(tl.sum(tl.where(inside, share, 0.0), 0) / locations)
    for _ in range(STEPS - 1):
        kept = tl.where(inside, tl.sigmoid(beta + log_mass), 0.0)
        beta = beta + LOG_RATIO - tl.log(tl.sum(kept, 0) / locations)
    return beta


@triton.jit
def _weighted(source, weights, c, n, locations, CHANNELS: tl.constexpr):
    """Return w x of a tile, `(c, n)`, and where it is inside the image; 0 elsewhere."""
    w = tl.load(weights + n, mask=n < locations, other=0.0)
    within = (c < CHANNELS)[:, None] & (n < locations)[None, :]
    x = tl.load(source + c[:, None] * locations + n[None, :], mask=within, other=0.0)
    return x.to(tl.float32) * w[None, :], within


@triton.jit
def _extreme(
    source, weights, c, locations,
    POOLING: tl.constexpr, POWER: tl.constexpr, CHANNELS: tl.constexpr, FLOOR: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Return the largest w x of each channel, `(c,)`.

    With gem it is what powers are taken relative to, so that they stay in float32's range: not
    below the floor, and the smallest where the power is below 0.
    """
    found = tl.full((c.shape[0],), -float("inf"), tl.float32)
    for start in range(0, locations, BLOCK):
        x, within = _weighted(source, weights, c, start + tl.arange(0, BLOCK), locations, CHANNELS)
        if POOLING == "gem":
            x = tl.maximum(x, FLOOR)
            if POWER < 0:
                x = -x
        found = tl.maximum(found, tl.max(tl.where(within, x, -float("inf")), 1))
    if POOLING == "gem":
        found = tl.where(c < CHANNELS, found, 1.0)
        if POWER < 0:
            found = -found
    return found


@triton.jit
def pool_images(
    embeddings, prototypes, features, locations, pooled, weights, attributes,
    POOLING: tl.constexpr, SOLVER: tl.constexpr, STEPS: tl.constexpr,
    RATIO: tl.constexpr, LOG_RATIO: tl.constexpr, LOGIT: tl.constexpr, LOG_START: tl.constexpr,
    GAMMA: tl.constexpr, POWER: tl.constexpr, NORMALIZE: tl.constexpr,
    DIM: tl.constexpr, PROTOTYPES: tl.constexpr, CHANNELS: tl.constexpr,
    SLOPE: tl.constexpr, FLOOR: tl.constexpr, LEAST_NORM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_ALL: tl.constexpr,
):  # fmt: skip
    """Pool image `program_id(0)`. Inputs, the one scalar, outputs: TensorRT's order of arguments.

    embeddings (B, DIM, N), prototypes (PROTOTYPES, DIM), features (B, CHANNELS, N) or None,
    pooled (B, DIM or CHANNELS), weights (B, N), attributes (B, PROTOTYPES) or None.
    """
    image = tl.program_id(0).to(tl.int64)
    embeddings += image * DIM * locations
    weights += image * locations

    for start in range(0, locations, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        found = _log_mass(embeddings, prototypes, n, locations, GAMMA, DIM, PROTOTYPES,
                          BLOCK_C, BLOCK_M)  # fmt: skip
        tl.store(weights + n, found, mask=n < locations)
    tl.debug_barrier()

    i = tl.arange(0, BLOCK_ALL)
    inside = i < locations
    log_mass = tl.load(weights + i, mask=inside, other=-float("inf"))
    peak = tl.max(log_mass, 0)
    log_mass = log_mass - peak
    if SOLVER == "newton":
        beta = _newton(log_mass, inside, locations, RATIO, LOGIT, STEPS, SLOPE)
    else:
        beta = _fixed_point(log_mass, inside, locations, LOG_START + peak, LOG_RATIO, STEPS)
    found = tl.sigmoid(beta + log_mass) / RATIO
    kept_mass = tl.sum(tl.where(inside, found, 0.0), 0)
    tl.debug_barrier()
    tl.store(weights + i, found, mask=inside)
    tl.debug_barrier()

    source = embeddings
    if POOLING != "gap":
        source = features + image * CHANNELS * locations
    pooled += image * CHANNELS
    length = 0.0 * beta
    for first in range(0, CHANNELS, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        result = tl.zeros((BLOCK_C,), tl.float32)
        if POOLING != "gap":
            largest = _extreme(source, weights, c, locations, POOLING, POWER, CHANNELS, FLOOR,
                               BLOCK_N)  # fmt: skip
        if POOLING == "gmp":
            result = largest
        for start in range(0, locations, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)
            x, within = _weighted(source, weights, c, n, locations, CHANNELS)
            if POOLING == "gap":
                result += tl.sum(x, 1)
            elif POOLING == "gem":
                ratio = tl.maximum(x, FLOOR) / largest[:, None]
                result += tl.sum(tl.where(within, tl.exp2(POWER * tl.log2(ratio)), 0.0), 1)
        if POOLING == "gap":
            result = result / locations
        elif POOLING == "gem":
            result = largest * tl.exp2(tl.log2(result / locations) / POWER)
        if NORMALIZE:
            length += tl.sum(tl.where(c < CHANNELS, result * result, 0.0), 0)
        tl.store(pooled + c, result, mask=c < CHANNELS)
    if NORMALIZE:
        tl.debug_barrier()
        norm = tl.maximum(tl.sqrt(length), LEAST_NORM)
        for first in range(0, CHANNELS, BLOCK_C):
            c = first + tl.arange(0, BLOCK_C)
            result = tl.load(pooled + c, mask=c < CHANNELS, other=0.0)
            tl.store(pooled + c, result / norm, mask=c < CHANNELS)

    if attributes is not None:
        attributes += image * PROTOTYPES
        for start in range(0, locations, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)
            w = tl.load(weights + n, mask=n < locations, other=0.0) / kept_mass
            mass = _log_mass(embeddings, prototypes, n, locations, GAMMA, DIM, PROTOTYPES,
                             BLOCK_C, BLOCK_M)  # fmt: skip
            for first in range(0, PROTOTYPES, BLOCK_M):
                m = first + tl.arange(0, BLOCK_M)
                scores = _scores(embeddings, prototypes, m, n, locations, GAMMA, DIM, PROTOTYPES,
                                 BLOCK_C)  # fmt: skip
                shares = tl.sum(tl.exp(scores - mass[None, :]) * w[None, :], 1)
                before = tl.load(attributes + m, mask=(m < PROTOTYPES) & (start > 0), other=0.0)
                tl.store(attributes + m, before + shares, mask=m < PROTOTYPES)
            tl.debug_barrier()
