# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The numerics of every back end, on NumPy arrays: formats, rounding, scales.

What is computed here is what a package computes: both run the headers in
include/mpt/Numerics, this module through the C interface in NumericsC.h.

An array is seen as a matrix whose columns are its last axis; scales are a matrix with one entry
per tile that shares one (`granularity`):

  per_tensor  one                    per_row   one for each row     per_column  one for each column
  block128    one per 128 x 128      mx_row    one per 1 x 32       mx_column   one per 32 x 1
  none        none (f32 and bf16)

A scale multiplies before rounding, its inverse after decoding. mx_row and mx_column are OCP MX's
shared powers of two, for studies only.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, Structure, byref, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import NamedTuple

import numpy as np

from . import _runtime

# By value of MptNumFormat, under the names that #mpt.format uses.
FORMATS = {"f32": 0, "bf16": 1, "f8E4M3FN": 2, "f8E5M2": 3, "i8": 4}
GRANULARITIES = ("none", "per_tensor", "per_row", "per_column", "block128", "mx_row", "mx_column")
MAXIMA = {"f32": 3.4028234663852886e38, "bf16": 3.3895313892515355e38, "f8E4M3FN": 448.0, "f8E5M2": 57344.0, "i8": 127.0}
_CODES = {"f32": np.float32, "bf16": np.uint16, "f8E4M3FN": np.uint8, "f8E5M2": np.uint8, "i8": np.uint8}
_SCALED = ("f8E4M3FN", "f8E5M2", "i8")


class _Matrix(Structure):
    """MptNumMatrix."""

    _fields_ = [("format", c_int), ("granularity", c_int), ("rows", c_size_t), ("columns", c_size_t)]


class _Stream(Structure):
    """MptNumStream."""

    _fields_ = [("id", c_uint32), ("step", c_uint32), ("seed", c_uint64)]


class _Delayed(Structure):
    """MptNumDelayed."""

    _fields_ = [
        ("history", c_void_p),
        ("length", c_uint32),
        ("next", c_uint32),
        ("skipped", c_uint32),
        ("scale", c_float),
    ]


_FUNCTIONS = {
    "mpt_num_name_id": (c_uint32, [ctypes.c_char_p]),
    "mpt_num_tiles": (c_int, [c_int, c_size_t, c_size_t, POINTER(c_size_t)]),
    "mpt_num_matrix_amax": (c_int, [c_int, c_void_p, c_size_t, c_size_t, c_void_p]),
    "mpt_num_current_scales": (c_int, [c_int, c_int, c_int, c_void_p, c_size_t, c_void_p]),
    "mpt_num_mx_codes": (c_int, [c_int, c_void_p, c_size_t, c_void_p]),
    "mpt_num_encode": (c_int, [c_int, c_void_p, c_size_t, c_float, c_void_p]),
    "mpt_num_decode": (c_int, [c_int, c_void_p, c_size_t, c_float, c_void_p]),
    "mpt_num_encode_stochastic": (
        c_int,
        [c_int, c_void_p, c_size_t, c_float, c_uint64, c_uint32, c_uint32, c_uint64, c_void_p],
    ),
    "mpt_num_matrix_encode": (c_int, [POINTER(_Matrix), c_void_p, c_void_p, POINTER(_Stream), c_void_p]),
    "mpt_num_matrix_decode": (c_int, [POINTER(_Matrix), c_void_p, c_void_p, c_void_p]),
    "mpt_num_matrix_round_trip": (c_int, [POINTER(_Matrix), c_void_p, c_void_p, POINTER(_Stream), c_void_p]),
    "mpt_num_delayed_start": (c_int, [c_int, c_int, c_float, POINTER(_Delayed)]),
    "mpt_num_delayed_update": (c_int, [c_int, c_int, c_float, POINTER(_Delayed)]),
}


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    return _runtime.declare(_runtime.load(), _FUNCTIONS)


class Draws(NamedTuple):
    """What stochastic rounding's random words depend on besides an element's index.

    `name` is hashed as a graph's value names are (an int is taken as the hash itself).
    """

    name: str | int = ""
    step: int = 0
    seed: int = 0

    def _stream(self) -> _Stream:
        name = self.name
        identifier = _library().mpt_num_name_id(name.encode()) if isinstance(name, str) else name
        return _Stream(identifier, self.step, self.seed)


def amax(x: np.ndarray, granularity: str = "per_tensor") -> np.ndarray:
    """Return the largest magnitude of each tile, NaN where it holds one, as a matrix of tiles.

    Raises ValueError for an unknown granularity.
    """
    x, rows, columns = _matrix(x)
    result = np.empty(_grid(granularity, rows, columns), np.float32)
    code = _granularity(granularity)
    _check(_library().mpt_num_matrix_amax(code, _data(x), rows, columns, _data(result)))
    return result


def scales_of(amaxes: np.ndarray | float, format: str, granularity: str = "per_tensor", margin: int = 0) -> np.ndarray:
    """Return the scales of the recipe `current` for these amaxes, in their shape.

    MAXIMA[format] / 2**margin / amax, kept within finite f32; 1 where amax is 0 or not finite, and
    for f32 and bf16. For MX the inverse of 2**(floor(log2(amax)) - emax) (OCP MX 1.0, section 6.3),
    1 where amax is 0 and NaN where it is not finite.
    """
    _require_fit(format, granularity)
    if abs(margin) > 60:
        raise ValueError(f"margin: found {margin}, expected -60 to 60")
    amaxes = np.ascontiguousarray(amaxes, np.float32)
    result = np.empty_like(amaxes)
    codes = (_format(format), _granularity(granularity))
    _check(_library().mpt_num_current_scales(*codes, margin, _data(amaxes), amaxes.size, _data(result)))
    return result


def current_scales(x: np.ndarray, format: str, granularity: str = "per_tensor", margin: int = 0) -> np.ndarray:
    """Return the scales of the recipe `current` for x, as a matrix of tiles."""
    return scales_of(amax(x, granularity), format, granularity, margin)


def mx_codes(amaxes: np.ndarray | float, format: str) -> np.ndarray:
    """Return the E8M0 codes (uint8) of MX's shared scales: 127 for amax 0, 255 (NaN) where it is not finite."""
    if format not in _SCALED:
        raise ValueError(f"format: found '{format}', expected an element format of MX: {', '.join(_SCALED)}")
    amaxes = np.ascontiguousarray(amaxes, np.float32)
    result = np.empty(amaxes.shape, np.uint8)
    _check(_library().mpt_num_mx_codes(_format(format), _data(amaxes), amaxes.size, _data(result)))
    return result


def encode(
    x: np.ndarray,
    format: str,
    scale: np.ndarray | float = 1.0,
    granularity: str = "per_tensor",
    rounding: str = "nearest",
    draws: Draws = Draws(),
) -> np.ndarray:
    """Return the codes of x * scale, in x's shape: float32 for f32, uint16 for bf16, else uint8.

    scale: one number for per_tensor, else one per tile (`current_scales` gives them).
    rounding: "nearest" (ties to even) or "stochastic", which draws by `draws` and by the element's
    index in x. FP8 and INT8 saturate; NaN stays NaN, in INT8 it becomes 0.
    """
    _require_fit(format, granularity)
    x, rows, columns = _matrix(x)
    codes = np.empty(x.shape, _CODES[format])
    stream = _rounding(rounding, draws)
    if granularity in ("none", "per_tensor"):  # the same bits, without the pieces that tiles need
        factor = float(_scales(scale, granularity, rows, columns)[0]) if x.size else 1.0
        _encode_whole(x, format, factor, stream, codes)
        return codes
    matrix = _Matrix(_format(format), _granularity(granularity), rows, columns)
    scales = _scales(scale, granularity, rows, columns)
    _check(_library().mpt_num_matrix_encode(byref(matrix), _data(x), _data(scales), stream, _data(codes)))
    return codes


def decode(
    codes: np.ndarray, format: str, scale: np.ndarray | float = 1.0, granularity: str = "per_tensor"
) -> np.ndarray:
    """Return decode(codes) * (1 / scale) as float32; the inverse is rounded to f32 first.

    codes: of the type that `encode` returns; others raise ValueError, as do scales that do not fit.
    """
    _require_fit(format, granularity)
    codes = np.asarray(codes)
    if codes.dtype != _CODES[format]:
        raise ValueError(f"codes: found {codes.dtype}, expected {np.dtype(_CODES[format])} for {format}")
    codes, rows, columns = _matrix(codes, codes.dtype)
    x = np.empty(codes.shape, np.float32)
    matrix = _Matrix(_format(format), _granularity(granularity), rows, columns)
    scales = _scales(scale, granularity, rows, columns)
    _check(_library().mpt_num_matrix_decode(byref(matrix), _data(codes), _data(scales), _data(x)))
    return x


def round_trip(
    x: np.ndarray,
    format: str,
    scale: np.ndarray | float | None = None,
    granularity: str = "per_tensor",
    rounding: str = "nearest",
    draws: Draws = Draws(),
    margin: int = 0,
) -> np.ndarray:
    """Return what x becomes when it is held in the format: decode(encode(x)), float32.

    scale: None takes the recipe `current` (with `margin`), else as in `encode`.
    """
    _require_fit(format, granularity)
    if scale is None:
        scale = current_scales(x, format, granularity, margin)
    x, rows, columns = _matrix(x)
    y = np.empty_like(x)
    matrix = _Matrix(_format(format), _granularity(granularity), rows, columns)
    scales = _scales(scale, granularity, rows, columns)
    stream = _rounding(rounding, draws)
    _check(_library().mpt_num_matrix_round_trip(byref(matrix), _data(x), _data(scales), stream, _data(y)))
    return y


class DelayedScale:
    """The recipe `delayed`: a scale from the largest of the last `length` amaxes.

    An amax that is not finite is left out and counted in `skipped`: neither the history nor the
    scale changes. While the history is all 0, the scale stays what it was. It starts from `amax`,
    a profile's say; from scale 1 if that is 0.
    """

    def __init__(self, format: str, length: int = 1024, margin: int = 0, amax: float = 0.0) -> None:
        if format not in _SCALED:
            raise ValueError(f"format: found '{format}', expected one that takes a scale: {', '.join(_SCALED)}")
        if not 1 <= length < 2**31:
            raise ValueError(f"length of the history: found {length}, expected 1 or more")
        if abs(margin) > 60:
            raise ValueError(f"margin: found {margin}, expected -60 to 60")
        self.format, self.margin = format, margin
        self.history = np.zeros(length, np.float32)
        self._state = _Delayed(self.history.ctypes.data, length, 0, 0, 1.0)
        _check(_library().mpt_num_delayed_start(_format(format), margin, amax, byref(self._state)))

    @property
    def scale(self) -> float:
        """The scale for the next tensor."""
        return self._state.scale

    @property
    def skipped(self) -> int:
        """How many amaxes were not finite."""
        return self._state.skipped

    def update(self, amax: float) -> float:
        """Take up the amax of the tensor that `scale` was used for; return the next scale."""
        _check(_library().mpt_num_delayed_update(_format(self.format), self.margin, amax, byref(self._state)))
        return self.scale


def _check(result: int) -> None:
    if result != 0:
        raise ValueError("libmpt_runtime refused the arguments of a numeric function")


def _data(array: np.ndarray) -> c_void_p:
    return c_void_p(array.ctypes.data)


def _format(name: str) -> int:
    if name not in FORMATS:
        raise ValueError(f"format: found '{name}', expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _granularity(name: str) -> int:
    if name not in GRANULARITIES:
        raise ValueError(f"granularity: found '{name}', expected one of {', '.join(GRANULARITIES)}")
    return GRANULARITIES.index(name)


def _require_fit(format: str, granularity: str) -> None:
    """Raise ValueError unless both are known and MX is asked of 8-bit elements only."""
    _format(format), _granularity(granularity)
    if granularity.startswith("mx_") and format not in _SCALED:
        raise ValueError(f"granularity: {granularity} takes {', '.join(_SCALED)}, found '{format}'")


def _matrix(x: np.ndarray, dtype: np.dtype | type = np.float32) -> tuple[np.ndarray, int, int]:
    """Return x contiguous, and its rows and columns."""
    x = np.asarray(x)
    if x.dtype != dtype and not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"array: found {x.dtype}, expected floating-point numbers")
    x = np.asarray(x, dtype, order="C")
    if x.ndim == 0:
        return x, 1, 1
    columns = x.shape[-1]
    return x, (x.size // columns if columns else 0), columns


def _grid(granularity: str, rows: int, columns: int) -> tuple[int, int]:
    """Return how many tiles lie below and beside one another."""
    library, code = _library(), _granularity(granularity)
    tiles, beside = c_size_t(), c_size_t()
    _check(library.mpt_num_tiles(code, rows, columns, byref(tiles)))
    if not tiles.value:
        return 0, 0
    _check(library.mpt_num_tiles(code, 1, columns, byref(beside)))
    return tiles.value // beside.value, beside.value


def _scales(scale: np.ndarray | float, granularity: str, rows: int, columns: int) -> np.ndarray:
    """Return scales, one per tile; ValueError names what was found where they do not fit."""
    grid = _grid(granularity, rows, columns)
    scales = np.ascontiguousarray(scale, np.float32).reshape(-1)
    if scales.size != grid[0] * grid[1]:
        if rows * columns == 0:
            return np.ones(0, np.float32)
        found = f"{scales.size} for {rows} x {columns}"
        raise ValueError(f"scale: found {found}, expected {grid[0] * grid[1]} ({grid[0]} x {grid[1]} tiles, {granularity})")
    good = (scales >= 2.0**-126) & np.isfinite(scales)  # below, the inverse may be infinite
    if not granularity.startswith("mx_") and not good.all():
        raise ValueError(f"scale: found {scales[~good][0]}, expected finite numbers of at least 2**-126")
    return scales


def _rounding(rounding: str, draws: Draws) -> _Stream | None:
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"rounding: found '{rounding}', expected nearest or stochastic")
    return draws._stream() if rounding == "stochastic" else None


def _encode_whole(x: np.ndarray, format: str, scale: float, stream: _Stream | None, codes: np.ndarray) -> None:
    library, code = _library(), _format(format)
    if stream is None:
        _check(library.mpt_num_encode(code, _data(x), x.size, scale, _data(codes)))
        return
    key = (0, stream.id, stream.step, stream.seed)
    _check(library.mpt_num_encode_stochastic(code, _data(x), x.size, scale, *key, _data(codes)))
