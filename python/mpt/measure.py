# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Measuring one product by itself (docs/metrics.md), and computing it with rounded operands.

    found = measure_product(lhs, rhs, "i8*i8,i8[per_vector]*i8[per_vector]")
    found["candidates"][0]["be_median"]

A candidate is two formats, such as "f8E4M3FN*f8E5M2". A format is bf16, f32, f8E4M3FN, f8E5M2
or i8, with options in brackets: per_tensor (default), per_vector (along the contraction), block128
or mx; nearest (default) or stochastic; current (default), delayed=HISTORY or fixed=SCALE; margin=N.
"""

from __future__ import annotations

import ctypes
import functools
import json
import math
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpt import _runtime
from mpt.runtime import Error

# Which operand of a product is a gradient: by value of mpt_gradient_side.
SIDES = {"none": 0, "lhs": 1, "rhs": 2}
_NUMBERS = ("be_median", "be_p99", "be_max", "sqnr_db", "cosine", "rel_var", "loss_mse", "loss_shift")


class _Options(ctypes.Structure):
    """mpt_measure_options."""

    _fields_ = [
        ("rows", c_int64),
        ("columns", c_int64),
        ("seed", c_uint64),
        ("threads", c_int32),
        ("gradient_side", c_int32),
        ("candidates", c_char_p),
        ("product", c_uint32),
        ("step", c_uint32),
        ("batch", c_uint32),
        ("round", c_uint32),
        ("sketch", c_int64),
        ("lhs_history", POINTER(c_float)),
        ("rhs_history", POINTER(c_float)),
        ("lhs_history_count", c_int64),
        ("rhs_history_count", c_int64),
    ]


# include/mpt/Metrics/MeasureC.h; function: result type, argument types.
_FUNCTIONS = {
    "mpt_measure_product": (
        c_int,
        [POINTER(_runtime.ProductView), POINTER(_runtime.MatrixView), POINTER(_Options), POINTER(c_void_p)],
    ),
    "mpt_measure_free": (None, [c_void_p]),
    "mpt_rounded_product": (c_int, [POINTER(_runtime.ProductView), POINTER(_Options), c_int64]),
}


@dataclass(frozen=True)
class Draw:
    """Names the sample and the random words of stochastic rounding (docs/metrics.md)."""

    product: int = 0
    step: int = 0
    batch: int = 0
    round: int = 0


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    """The runtime library with these functions declared."""
    return _runtime.declare(_runtime.load(), _FUNCTIONS)


def _check(status: int) -> None:
    if status:
        raise Error(_library().mpt_last_error().decode(errors="replace"))


def _fill(view: _runtime.MatrixView, name: str, array: np.ndarray) -> None:
    """Point a view at an array of float32, any strides."""
    if array.dtype != np.float32 or not 2 <= array.ndim <= 4:
        raise Error(f"{name} is {array.dtype} {list(array.shape)}, expected float32 of rank 2 to 4")
    if any(stride % 4 for stride in array.strides):
        raise Error(f"{name} has strides of {list(array.strides)} bytes, expected multiples of 4")
    strides = (0, 0, *(stride // 4 for stride in array.strides))[-4:]
    view.data = array.ctypes.data
    view.batch = (c_int64 * 2)(*strides[:2])
    view.rows, view.columns = strides[2:]


def _view(lhs: np.ndarray, rhs: np.ndarray) -> _runtime.ProductView:
    view = _runtime.ProductView()
    _fill(view.lhs, "lhs", lhs)
    _fill(view.rhs, "rhs", rhs)
    if lhs.shape[:-2] != rhs.shape[:-2] or lhs.shape[-1] != rhs.shape[-2]:
        raise Error(f"lhs {list(lhs.shape)} and rhs {list(rhs.shape)} do not make a product")
    view.name, view.role = b"product", b""
    view.m, view.n, view.k = lhs.shape[-2], rhs.shape[-1], lhs.shape[-1]
    view.batch = (c_int64 * 2)(*(1, 1, *lhs.shape[:-2])[-2:])
    return view


def _histories(options: _Options, histories: tuple[Sequence[float], Sequence[float]]) -> None:
    lhs, rhs = histories
    options.lhs_history = (c_float * len(lhs))(*lhs)
    options.rhs_history = (c_float * len(rhs))(*rhs)
    options.lhs_history_count, options.rhs_history_count = len(lhs), len(rhs)


def _options(
    candidates: str | None,
    gradient: str,
    threads: int,
    draw: Draw,
    histories: tuple[Sequence[float], Sequence[float]],
) -> _Options:
    if gradient not in SIDES:
        raise Error(f"gradient is {gradient!r}, expected one of {', '.join(SIDES)}")
    options = _Options(threads=threads, gradient_side=SIDES[gradient])
    options.candidates = None if candidates is None else candidates.encode()
    options.product, options.step, options.batch, options.round = draw.product, draw.step, draw.batch, draw.round
    _histories(options, histories)
    return options


def measure_product(
    lhs: np.ndarray,
    rhs: np.ndarray,
    candidates: str | None = None,
    *,
    gradient: str = "none",
    loss_gradient: np.ndarray | None = None,
    rows: int = 0,
    columns: int = 0,
    seed: int = 0,
    threads: int = 1,
    draw: Draw = Draw(),
    sketch: int = 0,
    histories: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> dict[str, Any]:
    """Measure lhs [.., m, k] times rhs [.., k, n] (float32, any strides, at most two batch axes).

    `candidates` is text such as "bf16*bf16,i8[per_vector]*i8[per_vector,stochastic]", by default
    the set of a product whose operand `gradient` ("none", "lhs", "rhs") is a gradient; the second
    format is the gradient's. `loss_gradient` [.., m, n] is d loss / d result, for loss_mse and
    loss_shift. `rows` x `columns` elements of the result are looked at; 0: all. `sketch` asks for
    `error` of each candidate and `result`, of at most so many coordinates. `histories` are the
    amax of earlier batches of lhs and rhs, the latest last, for delayed scales.

    Returns m, n, k, batch, the statistics of `lhs` and `rhs`, `excluded`, and `candidates`, each
    with its formats `lhs` and `rhs` as text and its metrics by name; NaN where there is no value.
    Raises Error on arrays that make no product and on candidates that it cannot read.
    """
    library = _library()
    view = _view(lhs, rhs)
    options = _options(candidates, gradient, threads, draw, histories)
    options.rows, options.columns, options.seed, options.sketch = rows, columns, seed, sketch
    loss_view = None
    if loss_gradient is not None:
        if loss_gradient.shape != (*lhs.shape[:-1], rhs.shape[-1]):
            raise Error(
                f"loss_gradient is {list(loss_gradient.shape)}, expected {[*lhs.shape[:-1], rhs.shape[-1]]} of the result"
            )
        loss_view = _runtime.MatrixView()
        _fill(loss_view, "loss_gradient", loss_gradient)
    text = c_void_p()
    pointer = None if loss_view is None else ctypes.byref(loss_view)
    _check(library.mpt_measure_product(ctypes.byref(view), pointer, ctypes.byref(options), ctypes.byref(text)))
    try:
        found = json.loads(ctypes.string_at(text.value))
    finally:
        library.mpt_measure_free(text)
    for candidate in found["candidates"]:
        for name in _NUMBERS:
            if candidate[name] is None:
                candidate[name] = math.nan
    for side in ("lhs", "rhs"):
        if found[side]["kurtosis"] is None:
            found[side]["kurtosis"] = math.nan
    return found


def rounded_product(
    lhs: np.ndarray,
    rhs: np.ndarray,
    candidate: str,
    *,
    gradient: str = "none",
    threads: int = 1,
    draw: Draw = Draw(),
    histories: tuple[Sequence[float], Sequence[float]] = ((), ()),
    workspace: int = 0,
) -> np.ndarray:
    """The product of the operands rounded to one candidate's formats, one f32 fma a term.

    Arguments are those of `measure_product`; random words are those of its seed 0. Copies of the
    operands take at most about `workspace` bytes (0: 64 MiB).
    """
    view = _view(lhs, rhs)
    result = np.empty((*lhs.shape[:-1], rhs.shape[-1]), np.float32)
    _fill(view.result, "result", result)
    options = _options(candidate, gradient, threads, draw, histories)
    _check(_library().mpt_rounded_product(ctypes.byref(view), ctypes.byref(options), workspace))
    return result
