# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Kernel functions compiled for both back ends: CUDA's run by the simulator, with the CPU's beside.

Outside products the bits are the same, so one is the reference of the other.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import ml_dtypes
import numpy as np
from mpt import cuda, stages

DTYPES = {
    "f32": np.dtype(np.float32),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "i1": np.dtype(np.uint8),
    "i8": np.dtype(np.int8),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f8E4M3FN": np.dtype(ml_dtypes.float8_e4m3fn),
    "f8E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


def random_tensor(rng: np.random.Generator, dtype: str, shape: list[int]) -> np.ndarray:
    """Return values for a kernel's argument; integers are small, as ids of a table are."""
    if dtype == "i1":
        return rng.integers(0, 2, shape, np.uint8)
    if dtype in ("i32", "i64"):
        return rng.integers(0, 2, shape).astype(DTYPES[dtype])
    if dtype == "i8":
        return rng.integers(-127, 128, shape).astype(np.int8)
    return rng.normal(size=shape).astype(np.float32).astype(DTYPES[dtype])


def device_copy(library: ctypes.CDLL, array: np.ndarray) -> np.ndarray:
    """Return a copy of `array` in the simulator's device memory, which lives as long as the process."""
    memory = library.mpt_cuda_allocate(ctypes.c_size_t(array.nbytes))
    copy = np.frombuffer((ctypes.c_char * array.nbytes).from_address(memory), array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class SimulatedKernels:
    """The kernel functions of a module, by symbol."""

    def __init__(self, source: Path, directory: Path) -> None:
        for name in ("cpu", "cuda"):
            stages.run_tool("mpt-build", [source, "--kernels-only", f"--target={name}", "-o", directory / name])
        kernels = json.loads((directory / "cpu" / "kernels.json").read_text())["kernels"]
        self.entries = {kernel["symbol"]: kernel for kernel in kernels}
        library = directory / "cuda" / "kernels.so"
        cuda.compile_simulated(directory / "cuda" / "kernels.cu", library)
        self.ours, self.theirs = ctypes.CDLL(str(library)), ctypes.CDLL(str(directory / "cpu" / "kernels.so"))
        self.ours.mpt_cuda_last_error.restype = ctypes.c_char_p
        self.ours.mpt_cuda_allocate.restype = ctypes.c_void_p

    def arguments(self, symbol: str) -> list[tuple[str, list[int]]]:
        """Return dtype and shape of each argument."""
        return [(entry["dtype"], entry["shape"]) for entry in self.entries[symbol]["arguments"]]

    def compare(self, symbol: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Run a kernel on both; the results, which must be the same bits (NaN for NaN)."""
        kernel = self.entries[symbol]
        results = []
        for library, tasks in ((self.ours, []), (self.theirs, [ctypes.c_int64(0), ctypes.c_int64(kernel["tasks"])])):
            outputs = [np.zeros(entry["shape"], DTYPES[entry["dtype"]]) for entry in kernel["results"]]
            arrays = [*inputs, *outputs]
            if library is self.ours:
                arrays = [device_copy(self.ours, array) for array in arrays]
                outputs = arrays[len(inputs) :]
            pointers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
            status = getattr(library, symbol)(pointers, *tasks)
            assert tasks or status == 0, self.ours.mpt_cuda_last_error()
            results.append(outputs)
        for i, (found, expected) in enumerate(zip(*results, strict=True)):
            numbers = found.astype(np.float64), expected.astype(np.float64)
            both_nan = np.isnan(numbers[0]) & np.isnan(numbers[1])
            same = found.view(f"u{found.itemsize}") == expected.view(f"u{expected.itemsize}")
            assert (same | both_nan).all(), f"{symbol} result {i}"
        return results[0]
