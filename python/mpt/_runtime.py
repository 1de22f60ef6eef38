# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""ctypes declarations of include/mpt/Runtime/mpt.h, and where its library is.

Enumerations and structs repeat the header in its order; `load` finds the library
once for the process.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

MAX_RANK = 8
LIBRARY = "libmpt_runtime.so"

# By value of mpt_dtype and mpt_kind.
DTYPES = ("f32", "bf16", "f8E4M3FN", "f8E5M2", "i8", "i32", "i64", "i1")
KINDS = (
    "parameter",
    "optimizer_state",
    "scale_state",
    "derived",
    "input",
    "label",
    "rng",
    "hyper",
    "result",
)
STATE_KINDS = ("parameter", "optimizer_state", "scale_state")


class TensorInfo(ctypes.Structure):
    """mpt_tensor_info."""

    _fields_ = [
        ("name", c_char_p),
        ("kind", c_int32),
        ("dtype", c_int32),
        ("rank", c_int32),
        ("has_range", c_int32),
        ("shape", c_int64 * MAX_RANK),
        ("range_low", c_int64),
        ("range_high", c_int64),
        ("has_ignore_index", c_int32),
        ("reserved", c_int32),
        ("ignore_index", c_int64),
        ("bytes", c_size_t),
    ]


class MatrixView(ctypes.Structure):
    """mpt_matrix_view; strides are in elements."""

    _fields_ = [
        ("data", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("batch", c_int64 * 2),
    ]


class ProductView(ctypes.Structure):
    """mpt_product_view."""

    _fields_ = [
        ("name", c_char_p),
        ("role", c_char_p),
        ("launch", c_int64),
        ("m", c_int64),
        ("n", c_int64),
        ("k", c_int64),
        ("batch", c_int64 * 2),
        ("lhs", MatrixView),
        ("rhs", MatrixView),
        ("result", MatrixView),
    ]


class LaunchInfo(ctypes.Structure):
    """mpt_launch_info."""

    _fields_ = [
        ("op", c_char_p),
        ("name", c_char_p),
        ("role", c_char_p),
        ("symbol", c_char_p),
        ("seconds", c_double),
        ("calls", c_int64),
    ]


Observer = ctypes.CFUNCTYPE(c_int, POINTER(ProductView), c_void_p)

# Function: result type, argument types. mpt_package is a void pointer here.
_FUNCTIONS = {
    "mpt_last_error": (c_char_p, []),
    "mpt_package_open": (c_int, [c_char_p, c_int, POINTER(c_void_p)]),
    "mpt_close": (None, [c_void_p]),
    "mpt_package_graph_hash": (c_char_p, [c_void_p]),
    "mpt_engine": (c_char_p, [c_void_p]),
    "mpt_thread_count": (c_int, [c_void_p]),
    "mpt_arena_bytes": (c_size_t, [c_void_p]),
    "mpt_state_bytes": (c_size_t, [c_void_p]),
    "mpt_argument_count": (c_int, [c_void_p]),
    "mpt_result_count": (c_int, [c_void_p]),
    "mpt_argument_info": (c_int, [c_void_p, c_int, POINTER(TensorInfo)]),
    "mpt_result_info": (c_int, [c_void_p, c_int, POINTER(TensorInfo)]),
    "mpt_set_argument": (
        c_int,
        [c_void_p, c_char_p, c_void_p, c_int, c_int, POINTER(c_int64)],
    ),
    "mpt_argument_data": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "mpt_argument_read": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "mpt_step": (c_int, [c_void_p]),
    "mpt_result": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "mpt_step_number": (c_int64, [c_void_p]),
    "mpt_run_gradient": (c_int, [c_void_p, c_int64]),
    "mpt_gradient_count": (c_int, [c_void_p]),
    "mpt_gradient_info": (c_int, [c_void_p, c_int, POINTER(TensorInfo)]),
    "mpt_gradient": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "mpt_save_checkpoint": (c_int, [c_void_p, c_char_p]),
    "mpt_load_checkpoint": (c_int, [c_void_p, c_char_p]),
    "mpt_load_parameters": (c_int, [c_void_p, c_char_p]),
    "mpt_export_weights": (c_int, [c_void_p, c_char_p]),
    "mpt_set_observer": (c_int, [c_void_p, Observer, c_void_p]),
    "mpt_profile_launches": (c_int, [c_void_p, c_int]),
    "mpt_launch_count": (c_int, [c_void_p]),
    "mpt_get_launch_info": (c_int, [c_void_p, c_int, POINTER(LaunchInfo)]),
}


def find_library() -> Path:
    """Path of libmpt_runtime.so: $MPT_RUNTIME_LIB, beside this file, or in build/lib."""
    named = os.environ.get("MPT_RUNTIME_LIB")
    if named:
        return Path(named)
    here = Path(__file__).resolve().parent
    places = [here, here / "lib", here.parents[1] / "build" / "lib"]
    for place in places:
        if (place / LIBRARY).is_file():
            return place / LIBRARY
    searched = ", ".join(str(place) for place in places)
    raise OSError(f"no {LIBRARY} in {searched}; build it or set MPT_RUNTIME_LIB")


def declare(library: ctypes.CDLL, functions: dict[str, tuple]) -> ctypes.CDLL:
    """Give functions of the library, by name, their (result type, argument types)."""
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


@functools.lru_cache(maxsize=None)
def load() -> ctypes.CDLL:
    """The library with the functions above declared; raises OSError if there is none."""
    return declare(ctypes.CDLL(str(find_library())), _FUNCTIONS)
