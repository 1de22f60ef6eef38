# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mpt.numerics: granularities, recipes and MX against the same computed with NumPy and ml_dtypes."""

from __future__ import annotations

import collections

import ml_dtypes
import numpy as np
import pytest

from mpt import numerics
from mpt.numerics import Draws

ML_DTYPE = {"f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2}
EMAX = {"f8E4M3FN": 8, "f8E5M2": 15, "i8": 6}
SCALED = list(EMAX)
TILES = {
    "per_tensor": (None, None),
    "per_row": (1, None),
    "per_column": (None, 1),
    "block128": (128, 128),
    "mx_row": (1, 32),
    "mx_column": (32, 1),
}
SHAPES = [(1, 1), (200, 300), (128, 256), (3, 1100)]


def tiles(shape: tuple[int, int], granularity: str) -> tuple[int, int]:
    """Return the tile's size for a matrix of this shape."""
    rows, columns = TILES[granularity]
    return rows or shape[0], columns or shape[1]


def amax_reference(x: np.ndarray, granularity: str) -> np.ndarray:
    """Return the amax of each tile, tile by tile."""
    rows, columns = tiles(x.shape, granularity)
    return np.array(
        [
            [np.abs(x[i : i + rows, j : j + columns]).max() for j in range(0, x.shape[1], columns)]
            for i in range(0, x.shape[0], rows)
        ]
    )


def spread(scales: np.ndarray, shape: tuple[int, int], granularity: str) -> np.ndarray:
    """Return the scale of each element."""
    rows, columns = tiles(shape, granularity)
    return scales.repeat(rows, 0).repeat(columns, 1)[: shape[0], : shape[1]]


def scale_reference(amax: np.ndarray, format: str, granularity: str) -> np.ndarray:
    """Return the scales by the contract, or by section 6.3 of OCP MX 1.0."""
    if granularity.startswith("mx_"):
        exponent = np.frexp(amax)[1] - 1 - EMAX[format]
        return np.where(amax > 0, np.exp2(-np.clip(exponent, -127, 127).astype(np.float64)), 1).astype(np.float32)
    largest = np.finfo(np.float32).max
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.minimum(np.float32(numerics.MAXIMA[format]) / amax, largest)
    return np.where((amax > 0) & np.isfinite(amax), ratio, np.float32(1))


def quantize(x: np.ndarray, format: str) -> np.ndarray:
    """Return the nearest value that the format holds, saturating."""
    limit = np.float32(numerics.MAXIMA[format])
    clipped = np.clip(x, -limit, limit)
    return np.rint(clipped) if format == "i8" else clipped.astype(ML_DTYPE[format]).astype(np.float32)


def sample(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return normal numbers over many binades, with zeros and outliers."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape) * np.exp2(random.integers(-20, 12, shape))
    x[random.random(shape) < 0.05] = 0
    x[:1, : shape[1] // 2] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("granularity", TILES)
@pytest.mark.parametrize("format", SCALED)
def test_round_trip_is_numpy(format: str, granularity: str) -> None:
    for shape in SHAPES:
        x = sample(shape)
        amax = numerics.amax(x, granularity)
        np.testing.assert_array_equal(amax, amax_reference(x, granularity))
        scales = numerics.scales_of(amax, format, granularity)
        np.testing.assert_array_equal(scales, scale_reference(amax, format, granularity))
        each = spread(scales, shape, granularity)
        expected = quantize(x * each, format) * (np.float32(1) / each)
        y = numerics.round_trip(x, format, granularity=granularity)
        np.testing.assert_array_equal(y, expected)
        codes = numerics.encode(x, format, scales, granularity)
        np.testing.assert_array_equal(numerics.decode(codes, format, scales, granularity), expected)
        if format in ML_DTYPE:
            np.testing.assert_array_equal(codes.view(ML_DTYPE[format]).astype(np.float32), quantize(x * each, format))


@pytest.mark.parametrize("format", SCALED)
def test_an_outlier_flushes_only_what_shares_its_scale(format: str) -> None:
    x = np.random.default_rng(3).uniform(1, 2, (256, 256)).astype(np.float32)
    x[7, 11] = 1e12
    flushed = {g: np.count_nonzero(numerics.round_trip(x, format, granularity=g) == 0) for g in TILES}
    shared = {"per_tensor": 256 * 256, "per_row": 256, "per_column": 256, "block128": 128**2}
    assert flushed == {g: n - 1 for g, n in (shared | {"mx_row": 32, "mx_column": 32}).items()}


def test_plain_formats_take_no_scale() -> None:
    x = sample((5, 70))
    np.testing.assert_array_equal(numerics.round_trip(x, "f32", granularity="none"), x)
    expected = x.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(numerics.encode(x, "bf16", granularity="none"), expected.view(np.uint16))
    np.testing.assert_array_equal(numerics.round_trip(x, "bf16"), expected.astype(np.float32))


@pytest.mark.parametrize("format", SCALED)
def test_extremes_of_amax(format: str) -> None:
    least, largest = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    amaxes = np.array([0, least, 1e-40, 1e-30, 1, largest, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(numerics.scales_of(amaxes, format), scale_reference(amaxes, format, "per_tensor"))
    for margin in (-60, -1, 1, 60):
        scales = numerics.scales_of(amaxes, format, margin=margin)
        inverse = np.float32(1) / scales
        assert ((scales > 0) & np.isfinite(scales) & (inverse > 0) & np.isfinite(inverse)).all()
    assert numerics.scales_of(4.0, format, margin=2) == numerics.MAXIMA[format] / 16
    x = np.array([[np.inf, -np.inf, np.nan, 1]], np.float32)
    y = numerics.round_trip(x, format)  # not finite: scale 1
    limit = numerics.MAXIMA[format]
    np.testing.assert_array_equal(y, [[limit, -limit, 0 if format == "i8" else np.nan, 1]])
    zero = numerics.round_trip(np.zeros((2, 40), np.float32), format, granularity="mx_row")
    np.testing.assert_array_equal(zero, 0)


@pytest.mark.parametrize("format", SCALED)
def test_mx_codes_are_e8m0(format: str) -> None:
    amaxes = np.exp2(np.arange(-149, 128, dtype=np.float64))
    amaxes = np.concatenate([amaxes, amaxes * 1.5]).astype(np.float32)
    codes = numerics.mx_codes(amaxes, format)
    decoded = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    expected = np.exp2(np.maximum(np.floor(np.log2(amaxes.astype(np.float64))) - EMAX[format], -127))
    np.testing.assert_array_equal(decoded, expected)
    np.testing.assert_array_equal(numerics.scales_of(amaxes, format, "mx_row") * decoded, 1)
    special = numerics.mx_codes(np.array([0, np.inf, np.nan], np.float32), format)
    np.testing.assert_array_equal(special.view(ml_dtypes.float8_e8m0fnu).astype(np.float32), [1, np.nan, np.nan])


def test_mx_int8_is_the_specifications() -> None:
    # MXINT8: two's complement with 6 bits after the point, times 2^floor(log2(amax)).
    x = sample((4, 64), 5)
    y = numerics.round_trip(x, "i8", granularity="mx_row")
    for i in range(4):
        for j in (0, 32):
            block = x[i, j : j + 32].astype(np.float64)
            if np.abs(block).max() > 0:
                shared = np.exp2(np.floor(np.log2(np.abs(block).max())))
                block = np.clip(np.rint(block / shared * 64), -127, 127) / 64 * shared
            np.testing.assert_array_equal(y[i, j : j + 32], block)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_delayed_is_a_sliding_maximum(length: int) -> None:
    random = np.random.default_rng(length)
    amaxes = np.exp2(random.uniform(-8, 8, 300)).astype(np.float32)
    amaxes[random.random(300) < 0.2] = 0
    amaxes[random.random(300) < 0.1] = np.inf
    amaxes[random.random(300) < 0.1] = np.nan
    delayed = numerics.DelayedScale("f8E4M3FN", length, margin=1, amax=2.0)
    window = collections.deque([np.float32(2)] * length, length)
    scale, skipped = np.float32(112), 0
    assert delayed.scale == scale
    for amax in amaxes:
        if np.isfinite(amax):
            window.append(amax)
        else:
            skipped += 1
        if max(window) > 0:
            scale = np.float32(224) / max(window)
        assert delayed.update(amax) == scale
        assert delayed.skipped == skipped
    assert sorted(delayed.history) == sorted(window)


def test_stochastic_draws_by_name_step_seed_and_element() -> None:
    x = sample((40, 50), 7)
    first = numerics.round_trip(x, "f8E5M2", rounding="stochastic", draws=Draws("w", 1, 2))
    again = numerics.round_trip(x, "f8E5M2", rounding="stochastic", draws=Draws("w", 1, 2))
    np.testing.assert_array_equal(first, again)
    for other in (Draws("v", 1, 2), Draws("w", 2, 2), Draws("w", 1, 3), Draws("w", 1, 2 + 2**32)):
        assert (numerics.round_trip(x, "f8E5M2", rounding="stochastic", draws=other) != first).any()
    scale = numerics.current_scales(x, "f8E5M2")
    whole = numerics.encode(x, "f8E5M2", scale, rounding="stochastic", draws=Draws("w", 1, 2))
    np.testing.assert_array_equal(numerics.decode(whole, "f8E5M2", scale), first)
    rows = numerics.encode(x, "f8E5M2", np.full(40, scale), "per_row", "stochastic", Draws("w", 1, 2))
    np.testing.assert_array_equal(rows, whole)  # an element's word does not depend on the tiles


def test_shapes() -> None:
    for shape in [(0,), (0, 5), (5, 0), (3,), (2, 3, 33), ()]:
        x = np.ones(shape, np.float32)
        for granularity in TILES:
            np.testing.assert_array_equal(numerics.round_trip(x, "f8E4M3FN", granularity=granularity), x)
    assert numerics.amax(np.ones((2, 3, 33)), "mx_row").shape == (6, 2)
    transposed = sample((30, 40)).T
    np.testing.assert_array_equal(numerics.amax(transposed, "per_row"), amax_reference(transposed, "per_row"))


def test_refusals_say_what_was_found_and_expected() -> None:
    x = np.ones((4, 4), np.float32)
    cases = [
        (lambda: numerics.encode(x, "f8E4M3"), "found 'f8E4M3', expected one of f32, bf16, f8E4M3FN"),
        (lambda: numerics.encode(x, "i8", granularity="row"), "found 'row', expected one of none, per_tensor"),
        (lambda: numerics.encode(x, "bf16", granularity="mx_row"), "mx_row takes f8E4M3FN, f8E5M2, i8, found 'bf16'"),
        (lambda: numerics.encode(x, "i8", rounding="up"), "found 'up', expected nearest or stochastic"),
        (lambda: numerics.encode(x, "i8", np.ones(3), "per_row"), r"found 3 for 4 x 4, expected 4 \(4 x 1 tiles"),
        (lambda: numerics.encode(x, "i8", 0.0), "found 0.0, expected finite numbers of at least 2"),
        (lambda: numerics.decode(x.astype(np.uint8), "i8", 2.0**-127), "expected finite numbers of at least 2"),
        (lambda: numerics.encode(x, "i8", np.nan), "found nan, expected finite numbers"),
        (lambda: numerics.encode(x.astype(np.int32), "i8"), "found int32, expected floating-point"),
        (lambda: numerics.decode(x, "i8"), "found float32, expected uint8 for i8"),
        (lambda: numerics.scales_of(1.0, "i8", margin=61), "found 61, expected -60 to 60"),
        (lambda: numerics.mx_codes(1.0, "bf16"), "found 'bf16', expected an element format of MX"),
        (lambda: numerics.DelayedScale("bf16"), "found 'bf16', expected one that takes a scale"),
        (lambda: numerics.DelayedScale("i8", 0), "found 0, expected 1 or more"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
