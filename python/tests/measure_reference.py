# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""An independent NumPy + ml_dtypes computation of the metrics of one product.

Written from docs/metrics.md; it shares no code with the profiler but for the random words of
Philox, which are mpt_num_draw's.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from mpt import _runtime

DTYPES = {
    "bf16": ml_dtypes.bfloat16,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E5M2": ml_dtypes.float8_e5m2,
}
MAXIMUM = {"f8E4M3FN": 448.0, "f8E5M2": 57344.0, "i8": 127.0}
HALF_STEP = {"f8E4M3FN": 16.0, "f8E5M2": 4096.0, "i8": 0.5}  # above the maximum
MX_EMAX = {"f8E4M3FN": 8, "f8E5M2": 15, "i8": 6}


@dataclass(frozen=True)
class Format:
    """One operand's format."""

    storage: str
    scale: str = "per_tensor"
    stochastic: bool = False
    fixed: float | None = None
    delayed: int | None = None
    margin: int = 0

    @property
    def scaled(self) -> bool:
        return self.storage in MAXIMUM

    @property
    def text(self) -> str:
        options = [self.scale] if self.scale != "per_tensor" else []
        options += [f"delayed={self.delayed}"] if self.delayed else []
        options += [f"fixed={self.fixed:g}"] if self.fixed else []
        options += [f"margin={self.margin}"] if self.margin else []
        options += ["stochastic"] if self.stochastic else []
        return self.storage + (f"[{','.join(options)}]" if options else "")


@dataclass(frozen=True)
class Names:
    """What a stochastic rounding draws by."""

    product: int = 0
    step: int = 0
    round: int = 0
    seed: int = 0


def fnv(text, value):
    """FNV-1a of `text`, continued from `value`."""
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def words(count, fmt, side, names):
    """The random words of an operand's elements, in their logical order."""
    result = np.empty(count, np.uint32)
    stream = fnv(fmt.text, fnv(side, names.product))
    seed = names.seed ^ (names.round << 32)
    draw = _runtime.load().mpt_num_draw
    draw.argtypes = [ctypes.c_uint64, ctypes.c_size_t, *[ctypes.c_uint32] * 2, ctypes.c_uint64, ctypes.c_void_p]
    assert draw(0, count, stream, names.step, seed, result.ctypes.data) == 0
    return result


def scale_of(amax, fmt):
    """The scale of a group with this amax."""
    if not np.isfinite(amax) or amax == 0:
        return np.float32(1)
    if fmt.scale == "mx":
        shared = np.clip(np.floor(np.log2(np.float64(amax))) - MX_EMAX[fmt.storage], -127, 127)
        return np.float32(2.0**-shared)
    largest = np.float32(MAXIMUM[fmt.storage] * 2.0**-fmt.margin)
    return np.minimum(largest / np.float32(amax), np.finfo(np.float32).max)


def group(fmt, count, k):
    """Elements of a group across and along the contraction."""
    return {"per_tensor": (count, k), "per_vector": (1, k), "block128": (128, 128), "mx": (1, 32)}[fmt.scale]


def scales(x, fmt, history=()):
    """The scale of each element of x [.., count, k]."""
    result = np.ones(x.shape, np.float32)
    if fmt.fixed:
        result[...] = fmt.fixed
        return result
    magnitudes = np.abs(x)
    if fmt.scale == "per_tensor":
        recent = [h for h in history if np.isfinite(h)][-fmt.delayed :] if fmt.delayed else []
        amax = max(recent, default=0) or magnitudes.max()
        result[...] = scale_of(amax, fmt)
        return result
    count, k = x.shape[-2:]
    rows, along = group(fmt, count, k)
    for b in np.ndindex(x.shape[:-2]):
        for i in range(0, count, rows):
            for p in range(0, k, along):
                part = (*b, slice(i, i + rows), slice(p, p + along))
                result[part] = scale_of(magnitudes[part].max(), fmt)
    return result


def nearest(scaled, storage):
    if storage == "bf16":
        return scaled.astype(ml_dtypes.bfloat16).astype(np.float32)
    clipped = np.clip(scaled, -MAXIMUM[storage], MAXIMUM[storage])
    if storage == "i8":
        return np.nan_to_num(np.rint(clipped))
    return clipped.astype(DTYPES[storage]).astype(np.float32)


def stochastic(scaled, storage, random):
    """Up where the fraction and the word, as parts of 1, come to 1 together."""
    if storage == "bf16":
        low = (scaled.view(np.uint32) & 0xFFFF0000).view(np.float32)
        high = ((scaled.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32)
        fraction = (scaled.view(np.uint32) & 0xFFFF) / 65536
        return np.where(np.rint(fraction * 2**32) + random >= 2**32, high, low)
    if storage == "i8":
        grid = np.arange(128.0)
    else:
        codes = np.arange(128, dtype=np.uint8).view(DTYPES[storage]).astype(np.float64)
        grid = codes[np.isfinite(codes)]
    magnitude = np.minimum(np.abs(scaled.astype(np.float64)), grid[-1])
    index = np.searchsorted(grid, magnitude, side="right") - 1
    low, high = grid[index], grid[np.minimum(index + 1, len(grid) - 1)]
    fraction = (magnitude - low) / np.where(high > low, high - low, 1)
    up = np.rint(fraction * 2**32) + random >= 2**32
    return np.copysign(np.where(up, high, low), scaled).astype(np.float32)


@dataclass(frozen=True)
class Rounded:
    """An operand's values under a format, and what was lost."""

    values: np.ndarray
    flushed: float
    saturated: float


def quantize(x, fmt, side="lhs", names=Names(), history=()):
    """Round x [.., count, k], vectors along the last axis, as `side` of a product."""
    scale = scales(x, fmt, history) if fmt.scaled else np.ones(x.shape, np.float32)
    scaled = x * scale
    if fmt.stochastic:
        codes = stochastic(scaled, fmt.storage, words(x.size, fmt, side, names).reshape(x.shape))
    else:
        codes = nearest(scaled, fmt.storage) if fmt.storage != "f32" else scaled
    counted = np.isfinite(x) & (x != 0)
    most = MAXIMUM[fmt.storage] + HALF_STEP[fmt.storage] if fmt.scaled else np.inf
    # A tie goes to the maximum in E4M3, whose maximum is even, and beyond it in the others.
    beyond = np.abs(scaled) > most if fmt.storage == "f8E4M3FN" else np.abs(scaled) >= most
    population = max(counted.sum(), 1)
    return Rounded(
        codes * (np.float32(1) / scale),
        (counted & (codes == 0)).sum() / population,
        (counted & beyond).sum() / population,
    )


def product_f32(lhs, rhs):
    """One f32 fma a term, k ascending."""
    result = np.zeros(lhs.shape[:-1] + rhs.shape[-1:], np.float32)
    for k in range(lhs.shape[-1]):
        term = lhs[..., :, k, None].astype(np.float64) * rhs[..., None, k, :].astype(np.float64)
        result = (result.astype(np.float64) + term).astype(np.float32)
    return result


def transposed(x):
    return np.swapaxes(x, -1, -2)


def reference(lhs, rhs, left, right, loss_gradient=None, names=Names(), histories=((), ()), part=None):
    """Metrics of one candidate over the elements of the result that the index `part` takes, or all."""
    l64, r64 = lhs.astype(np.float64), rhs.astype(np.float64)
    rounded_lhs = quantize(lhs, left, "lhs", names, histories[0])
    rounded_rhs = quantize(transposed(rhs), right, "rhs", names, histories[1])
    exact, bound = l64 @ r64, np.abs(l64) @ np.abs(r64)
    rounded = product_f32(rounded_lhs.values, transposed(rounded_rhs.values)).astype(np.float64)
    gradient = np.zeros(exact.shape) if loss_gradient is None else loss_gradient.astype(np.float64)
    population = exact.size
    if part is not None:
        exact, bound, rounded, gradient = (x[part] for x in (exact, bound, rounded, gradient))
    included = (bound > 0) & np.isfinite(bound)
    effect = np.where(included, gradient * np.where(included, rounded - exact, 0), 0)
    y, z = exact[included], rounded[included]
    be = np.abs(y - z) / bound[included]
    signal, noise = (y**2).sum(), ((y - z) ** 2).sum()
    return {
        "be_median": np.median(be),
        "be_p99": np.percentile(be, 99),
        "be_max": be.max(),
        "sqnr_db": 10 * np.log10(signal / noise),
        "cosine": (y * z).sum() / np.sqrt(signal * (z**2).sum()),
        "rel_var": noise / signal,
        "loss_mse": population / exact.size * (effect**2).sum(),
        "loss_shift": effect.sum(),
        "flushed": [rounded_lhs.flushed, rounded_rhs.flushed],
        "saturated": [rounded_lhs.saturated, rounded_rhs.saturated],
    }


def histogram(x):
    """Binary exponent -> count, of the nonzero elements; subnormals at -127."""
    _, exponents = np.frexp(np.abs(x[np.isfinite(x) & (x != 0)]))
    values, counts = np.unique(np.maximum(exponents - 1, -127), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def spread(amaxes):
    nonzero = amaxes[amaxes > 0]
    return [nonzero.min(), np.median(nonzero), nonzero.max()] if nonzero.size else [0, 0, 0]


def statistics(x):
    """Statistics of x [.., count, k]."""
    finite = x[np.isfinite(x)].astype(np.float64)
    magnitudes = np.where(np.isfinite(x), np.abs(x), 0)
    central = finite - finite.mean()
    variance = (central**2).mean()
    nonzero = np.abs(finite[finite != 0])
    return {
        "elements": x.size,
        "zeros": (x == 0).sum(),
        "nans": np.isnan(x).sum(),
        "infinities": np.isinf(x).sum(),
        "amax": magnitudes.max(),
        "min_nonzero": nonzero.min() if nonzero.size else 0,
        "mean": finite.mean(),
        "variance": variance,
        "kurtosis": (central**4).mean() / variance**2 if variance else np.nan,
        "along": spread(magnitudes.max(axis=-1)),
        "across": spread(magnitudes.max(axis=-2)),
    }
