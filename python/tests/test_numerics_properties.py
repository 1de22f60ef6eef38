# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Properties of formats and rounding, sought to be broken by hypothesis.

The formats' values come from ml_dtypes and NumPy, not from the code under test.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mpt import numerics
from mpt.numerics import Draws

settings.register_profile("mpt", deadline=None, derandomize=True, database=None, max_examples=150)
settings.load_profile("mpt")

STORED = {
    "bf16": (np.uint16, ml_dtypes.bfloat16),
    "f8E4M3FN": (np.uint8, ml_dtypes.float8_e4m3fn),
    "f8E5M2": (np.uint8, ml_dtypes.float8_e5m2),
    "i8": (np.uint8, np.int8),
}


def codes_of(format: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of all finite values, and those values, in ascending order (one zero)."""
    storage, dtype = STORED[format]
    codes = np.arange(2 ** (8 * np.dtype(storage).itemsize)).astype(storage)
    with np.errstate(invalid="ignore"):
        values = codes.view(dtype).astype(np.float64)
    kept = np.isfinite(values) & ~(np.signbit(values) & (values == 0)) & (values != -128 if format == "i8" else True)
    order = np.argsort(values[kept])
    return codes[kept][order], values[kept][order]


VALUES = {format: codes_of(format) for format in STORED}
formats = st.sampled_from(list(STORED))
scaled = st.sampled_from(["f8E4M3FN", "f8E5M2", "i8"])
granularities = st.sampled_from(["per_tensor", "per_row", "per_column", "block128", "mx_row", "mx_column"])
roundings = st.sampled_from(["nearest", "stochastic"])
draws = st.builds(Draws, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))


def floats(limit: float | None = None) -> st.SearchStrategy[float]:
    """Return f32 numbers, within +-limit or all but NaN; drawn by value and by bit pattern."""
    bound = limit if limit is not None else 3.4028234663852886e38
    by_value = st.floats(-bound, bound, width=32)
    by_bits = st.integers(0, 2**32 - 1).map(lambda u: float(np.uint32(u).view(np.float32)))
    return by_value | by_bits.filter(lambda v: abs(v) <= bound)


def vectors(limit: float | None = None) -> st.SearchStrategy[np.ndarray]:
    """Return short vectors of such numbers."""
    return arrays.arrays(np.float32, st.integers(1, 40), elements=floats(limit))


def matrices() -> st.SearchStrategy[np.ndarray]:
    """Return matrices whose scales stay far from the ends of f32."""
    moderate = st.floats(2.0**-20, 2.0**20, width=32)
    elements = moderate | moderate.map(lambda v: -v) | st.just(0.0)
    return arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)), elements=elements)


def neighbours(format: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the greatest value of the format that is at most x, and the least that is at least x, saturating."""
    values = VALUES[format][1]
    below = np.clip(np.searchsorted(values, x, "right") - 1, 0, values.size - 1)
    above = np.clip(np.searchsorted(values, x, "left"), 0, values.size - 1)
    return values[below], values[above]


def held(x: np.ndarray, format: str, rounding: str = "nearest", drawn: Draws = Draws()) -> np.ndarray:
    """Return the values of x's codes, without a scale, as f64."""
    return numerics.round_trip(x, format, 1.0, "per_tensor", rounding, drawn).astype(np.float64)


@given(formats, st.integers(-40, 40))
def test_codes_survive(format: str, exponent: int) -> None:
    # encode(decode(c)) = c, under any power-of-two scale that keeps the values in f32's normal range.
    codes, values = VALUES[format]
    keep = (np.abs(values) < 2.0**80) & ((np.abs(values) > 2.0**-80) | (values == 0))
    codes, scale = codes[keep], 2.0**exponent
    x = numerics.decode(codes, format, scale)
    np.testing.assert_array_equal(x, values[keep] / scale)
    for rounding in ("nearest", "stochastic"):
        np.testing.assert_array_equal(numerics.encode(x, format, scale, rounding=rounding), codes)


@given(formats, vectors())
def test_monotonic(format: str, x: np.ndarray) -> None:
    y = held(np.sort(x), format)
    assert (y[1:] >= y[:-1]).all()  # their difference may be inf - inf


@given(formats, vectors(), roundings, draws)
def test_negation_mirrors(format: str, x: np.ndarray, rounding: str, drawn: Draws) -> None:
    np.testing.assert_array_equal(held(-x, format, rounding, drawn), -held(x, format, rounding, drawn))


@pytest.mark.parametrize("format", list(STORED))
@given(data=st.data())
def test_error_is_at_most_half_a_step(format: str, data: st.DataObject) -> None:
    x = data.draw(vectors(VALUES[format][1][-1]))
    below, above = neighbours(format, x.astype(np.float64))
    y = held(x, format)
    assert ((y == below) | (y == above)).all()
    assert (np.abs(y - x) <= (above - below) / 2).all()


@given(formats, vectors(), draws)
def test_stochastic_gives_a_neighbour(format: str, x: np.ndarray, drawn: Draws) -> None:
    y = held(x, format, "stochastic", drawn)
    below, above = neighbours(format, x.astype(np.float64))
    beyond = np.isinf(y) & (np.abs(x) > VALUES[format][1][-1])  # bf16 only
    assert ((y == below) | (y == above) | beyond).all()
    assert format == "bf16" or not beyond.any()


@given(scaled, granularities, matrices(), st.integers(-30, 30), roundings, draws)
def test_powers_of_two_carry_through(
    format: str, granularity: str, x: np.ndarray, exponent: int, rounding: str, drawn: Draws
) -> None:
    factor = np.float32(2.0**exponent)
    y = numerics.round_trip(x, format, None, granularity, rounding, drawn)
    np.testing.assert_array_equal(numerics.round_trip(x * factor, format, None, granularity, rounding, drawn), y * factor)


@given(scaled, matrices())
def test_columns_are_rows_of_the_transpose(format: str, x: np.ndarray) -> None:
    for across, along in (("per_column", "per_row"), ("mx_column", "mx_row"), ("block128", "block128")):
        y = numerics.round_trip(x, format, granularity=across)
        np.testing.assert_array_equal(y, numerics.round_trip(x.T, format, granularity=along).T)


@given(scaled, granularities, matrices(), st.integers(0, 3))
def test_nothing_saturates_under_its_own_scale(format: str, granularity: str, x: np.ndarray, margin: int) -> None:
    y = numerics.round_trip(x, format, None, granularity, margin=margin)
    # The largest element of a tile is off by at most half a step of the top binade; MX saturates by design,
    # by up to an eighth (E4M3, E5M2) of what lies between the largest value and the next power of two.
    relative = {"f8E4M3FN": 2.0**-4, "f8E5M2": 2.0**-3, "i8": 0.5 / 127}[format] * 2.0 ** (margin if format == "i8" else 0)
    if granularity.startswith("mx_"):
        relative = {"f8E4M3FN": 1 / 8, "f8E5M2": 1 / 8, "i8": 1 / 128}[format]
    largest = np.abs(x).max()
    assert abs(np.abs(y).max() - largest) <= 1.0001 * relative * largest
