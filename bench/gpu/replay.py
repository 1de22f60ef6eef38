# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Looking at a CUDA package launch by launch: dumping what each reads and writes, checking it elsewhere.

The dump is made in simulation, whose kernels have the CPU back end's bits
(python/tests/test_cuda_sim.py). On the GPU each launch is fed the dump's inputs, so that it is
checked alone: kernels must give the same bytes, products the same numbers within their rounding.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from mpt.cuda import CudaPackage

# Largest relative error (Frobenius norm) of a product's f32 result: f32 and bf16 differ by the
# order of f32 sums; Hopper keeps about 14 bits of the sums of FP8 products.
TOLERANCE = {"f32": 1e-5, "bf16": 1e-5, "fp8": 2e-3}
# Largest share of bytes that may differ where a product's result is rounded before it is written.
ROUNDED_BYTES = 0.02


class Host:
    """Device memory of the simulator, which is the host's."""

    def synchronize(self) -> None:
        pass

    def read(self, address: int, count: int) -> np.ndarray:
        return np.frombuffer(ctypes.string_at(address, count), np.uint8)

    def write(self, address: int, data: np.ndarray) -> None:
        ctypes.memmove(address, np.ascontiguousarray(data).ctypes.data, data.nbytes)


class Gpu:
    """Device memory, events and free memory of a GPU, by way of the driver that the package runs on."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self.driver.cuGetErrorName(code, ctypes.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown').decode()} ({code})")

    def synchronize(self) -> None:
        self.call("cuCtxSynchronize")

    def read(self, address: int, count: int) -> np.ndarray:
        data = np.empty(count, np.uint8)
        self.call("cuMemcpyDtoH_v2", ctypes.c_void_p(data.ctypes.data), ctypes.c_uint64(address), ctypes.c_size_t(count))
        return data

    def write(self, address: int, data: np.ndarray) -> None:
        data = np.ascontiguousarray(data)
        self.call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes))

    def event(self, stream: int) -> ctypes.c_void_p:
        """Record and return a new event."""
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), 0)
        self.call("cuEventRecord", event, ctypes.c_void_p(stream))
        return event

    def milliseconds(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """Time between two events, which are given back."""
        passed = ctypes.c_float()
        self.call("cuEventSynchronize", end)
        self.call("cuEventElapsedTime", ctypes.byref(passed), start, end)
        for event in (start, end):
            self.call("cuEventDestroy_v2", event)
        return passed.value

    def memory(self) -> tuple[int, int]:
        """Free and all bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value


class Launches:
    """Calls begin(i, launch, stream) and end(i, launch, stream) around every launch of the list while it is active.

    A launch of the list may be several kernels, which then bear its name; copies and fills are not seen.
    """

    def __init__(self, package: CudaPackage) -> None:
        self.package = package
        self.list = [
            (i, entry) for i, entry in enumerate(package.manifest["launches"]) if entry["op"] not in ("copy", "fill")
        ]
        self.errors: list[BaseException] = []
        hook = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
        self.hook = hook(self._call)
        self.at, self.stream = -1, 0

    def begin(self, index: int, launch: dict, stream: int) -> None:
        """Before a launch."""

    def end(self, index: int, launch: dict, stream: int) -> None:
        """Behind a launch."""

    def step(self) -> None:
        """Run one step, launch by launch. Raises what begin() and end() raised."""
        self.at = -1
        library = self.package._library
        library.mpt_cuda_set_hook(self.hook)
        try:
            self.package._check(library.mpt_cuda_step())
            self._finish()
            self.package._check(library.mpt_cuda_synchronize())
        finally:
            library.mpt_cuda_set_hook(None)
        if self.errors:
            raise self.errors[0]
        if self.at + 1 != len(self.list):
            raise RuntimeError(f"{self.at + 1} launches were seen, expected {len(self.list)}")

    def _finish(self) -> None:
        if 0 <= self.at and not self.errors:
            self._guard(self.end, *self.list[self.at])

    def _guard(self, call: Callable, index: int, launch: dict) -> None:
        try:
            call(index, launch, self.stream)
        except BaseException as error:  # noqa: BLE001 - a callback cannot raise
            self.errors.append(error)

    def _call(self, name: bytes, stream: int | None, after: int) -> None:
        if after or self.errors:
            return
        # A further kernel of the launch at hand, unless that is the next one's name too.
        text = name.decode()
        following = self.list[self.at + 1][1]["name"] if self.at + 1 < len(self.list) else None
        if self.at >= 0 and text == self.list[self.at][1]["name"] and following != text:
            return
        self._finish()
        self.stream = stream or 0
        self.at += 1
        if following != text:
            self.errors.append(RuntimeError(f"launch {self.at} is '{text}', expected '{following}'"))
            return
        self._guard(self.begin, *self.list[self.at])


def kind_of(launch: dict) -> str:
    """What a launch runs, without its place in the step: launches of one kind are checked once."""
    parts = [launch["op"], launch.get("symbol"), launch.get("kernel"), launch.get("epilogue")]
    parts += [launch.get(key) for key in ("role", "m", "n", "k", "batch", "lhs", "rhs", "rows", "columns")]
    parts += [launch.get(key) for key in ("batches", "sequence", "heads", "head_size", "keep_probability", "heads_views")]
    return json.dumps(parts)


class Memory:
    """What the accesses of a launch reach: each buffer from the access on."""

    def __init__(self, package: CudaPackage, device: Host | Gpu) -> None:
        self.base = package._library.mpt_cuda_memory()
        self.buffers = package.manifest["buffers"]
        self.device = device

    def place(self, access: list[int]) -> tuple[int, int]:
        buffer = self.buffers[access[0]]
        return self.base + buffer["offset"] + access[1], buffer["bytes"] - access[1]

    def read(self, access: list[int]) -> np.ndarray:
        return self.device.read(*self.place(access))


class Dump(Launches):
    """Keeps the first launch of each kind: all it touches before, and what it wrote."""

    def __init__(self, package: CudaPackage) -> None:
        super().__init__(package)
        self.memory, self.kinds, self.tensors = Memory(package, Host()), set(), {}

    def begin(self, index: int, launch: dict, stream: int) -> None:
        if kind_of(launch) not in self.kinds:
            for i, access in enumerate(launch["args"]):
                self.tensors[f"{index}.before.{i}"] = self.memory.read(access).copy()

    def end(self, index: int, launch: dict, stream: int) -> None:
        if kind_of(launch) in self.kinds:
            return
        self.kinds.add(kind_of(launch))
        count = len(launch["args"])
        for i in range(count - launch["written"], count):
            self.tensors[f"{index}.after.{i}"] = self.memory.read(launch["args"][i]).copy()

    def save(self, path: Path) -> None:
        save_file(self.tensors, path, metadata={"graph_hash": self.package.graph_hash})


class Check(Launches):
    """Feeds each dumped launch its inputs and compares what it writes; `failures` has a sentence for each that differs."""

    def __init__(self, package: CudaPackage, device: Host | Gpu, dump: Path) -> None:
        super().__init__(package)
        self.memory = Memory(package, device)
        self.failures: list[str] = []
        self.checked: dict[str, int] = {}
        self.largest: dict[str, float] = {}
        with safe_open(dump, framework="np") as file:
            if file.metadata()["graph_hash"] != package.graph_hash:
                raise RuntimeError(f"{dump}: is of another graph than the package; prepare both again")
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping

    def dumped(self, index: int, when: str, launch: dict) -> Iterator[tuple[list[int], np.ndarray]]:
        for i, access in enumerate(launch["args"]):
            if f"{index}.{when}.{i}" in self.tensors:
                yield access, self.tensors[f"{index}.{when}.{i}"]

    def begin(self, index: int, launch: dict, stream: int) -> None:
        self.memory.device.synchronize()
        for access, data in self.dumped(index, "before", launch):
            self.memory.device.write(self.memory.place(access)[0], data)

    def end(self, index: int, launch: dict, stream: int) -> None:
        self.memory.device.synchronize()
        for access, expected in self.dumped(index, "after", launch):
            found = self.memory.read(access)
            self.checked[launch["op"]] = self.checked.get(launch["op"], 0) + 1
            if wrong := self.compare(launch, found, expected):
                self.failures.append(f"'{launch['name']}' ({launch['op']}): {wrong}")

    def compare(self, launch: dict, found: np.ndarray, expected: np.ndarray) -> str:
        """Return how a result differs from the dump's, empty if it does not."""
        differ = np.count_nonzero(found != expected)
        if launch["op"] in ("kernel", "group", "scatter_add"):
            return f"{differ} of {found.size} bytes differ" if differ else ""
        if launch["op"] != "product" or launch.get("epilogue"):
            return f"{differ} of {found.size} bytes differ" if differ > ROUNDED_BYTES * found.size else ""
        kind = launch["lhs"]["dtype"] if launch["lhs"]["dtype"] in TOLERANCE else "fp8"
        ours, theirs = found.view(np.float32).astype(np.float64), expected.view(np.float32).astype(np.float64)
        norm = np.linalg.norm(theirs)
        error = float(np.linalg.norm(ours - theirs) / norm) if norm else float(np.abs(ours).max())
        self.largest[kind] = max(self.largest.get(kind, 0.0), error)
        return "" if error <= TOLERANCE[kind] else f"relative error {error:.2e}, expected at most {TOLERANCE[kind]:.0e}"
