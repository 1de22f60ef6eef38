# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Profiling: train in FP32, and measure every product of some steps (docs/metrics.md).

    with mpt.Package("build/fp32") as package:
        batches = load_data("batches.safetensors", package)
        profile(package, batches, "metrics.json", Plan(batches=4, at_steps=(0, 100)))

The measured steps are ordinary training steps: a point at step s measures steps s to
s + batches - 1, and training goes on from there, with the same bits as without a profiler.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_uint64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mpt import _runtime
from mpt.console import bar, errors
from mpt.runtime import Error, Package, _numpy_dtype
from mpt.train import Schedule

# A measured step in units of a plain one, for the bar's time left.
MEASURED_COST = 5


class _Options(ctypes.Structure):
    """mpt_profiler_options."""

    _fields_ = [
        ("rows", c_int64),
        ("columns", c_int64),
        ("seed", c_uint64),
        ("threads", c_int32),
        ("stop_on_nonfinite", c_int32),
        ("candidates", c_char_p),
    ]


# include/mpt/Metrics/MetricsC.h; function: result type, argument types.
_FUNCTIONS = {
    "mpt_profiler_create": (c_int, [c_void_p, POINTER(_Options), POINTER(c_void_p)]),
    "mpt_profiler_destroy": (None, [c_void_p]),
    "mpt_profiler_begin_point": (c_int, [c_void_p, c_int64]),
    "mpt_profiler_end_batch": (c_int, [c_void_p]),
    "mpt_profiler_discard_batch": (c_int, [c_void_p]),
    "mpt_profiler_end_point": (c_int, [c_void_p]),
    "mpt_profiler_failure": (c_char_p, [c_void_p]),
    "mpt_profiler_write": (c_int, [c_void_p, c_char_p, c_int]),
    "mpt_metrics_product": (
        c_int,
        [POINTER(_runtime.ProductView), POINTER(_Options), POINTER(c_void_p)],
    ),
    "mpt_metrics_free": (None, [c_void_p]),
}


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    """The runtime library with the profiler's functions declared."""
    library = _runtime.load()
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def _check(status: int) -> None:
    if status != 0:
        raise Error(_library().mpt_last_error().decode(errors="replace"))


@dataclass(frozen=True)
class Sampling:
    """What is computed of each product: rows x columns of its result; 0 is all.

    `candidates` replaces the default pairs of formats: "bf16*bf16,f8E4M3FN*f8E5M2".
    """

    rows: int = 256
    columns: int = 256
    seed: int = 0
    candidates: str | None = None

    def options(self, threads: int, stop_on_nonfinite: bool) -> _Options:
        candidates = self.candidates.encode() if self.candidates is not None else None
        return _Options(self.rows, self.columns, self.seed, threads, stop_on_nonfinite, candidates)


def measure_product(
    lhs: np.ndarray, rhs: np.ndarray, role: str = "fprop", sampling: Sampling = Sampling(0, 0), threads: int = 1
) -> dict[str, Any]:
    """Measure lhs [.., m, k] times rhs [.., k, n] (float32, any strides, at most two batch axes).

    Returns the product's entry of metrics.json, with one point of one batch.
    """
    library = _library()
    for name, array in (("lhs", lhs), ("rhs", rhs)):
        if array.dtype != np.float32 or not 2 <= array.ndim <= 4:
            raise Error(f"{name} is {array.dtype} {list(array.shape)}, expected float32 of rank 2 to 4")
    if lhs.shape[:-2] != rhs.shape[:-2] or lhs.shape[-1] != rhs.shape[-2]:
        raise Error(f"lhs {list(lhs.shape)} and rhs {list(rhs.shape)} do not make a product")
    batch = (1, 1, *lhs.shape[:-2])[-2:]
    view = _runtime.ProductView()
    view.name, view.role = b"product", role.encode()
    view.m, view.n, view.k = lhs.shape[-2], rhs.shape[-1], lhs.shape[-1]
    view.batch = (c_int64 * 2)(*batch)
    for side, array in ((view.lhs, lhs), (view.rhs, rhs)):
        strides = (0, 0, *(stride // 4 for stride in array.strides))[-4:]
        side.data = array.ctypes.data
        side.batch = (c_int64 * 2)(*strides[:2])
        side.rows, side.columns = strides[2:]
    text = c_void_p()
    options = sampling.options(threads, False)
    _check(library.mpt_metrics_product(ctypes.byref(view), ctypes.byref(options), ctypes.byref(text)))
    try:
        return json.loads(ctypes.string_at(text.value))
    finally:
        library.mpt_metrics_free(text)


class Profiler:
    """mpt_profiler over an open package; a context manager."""

    def __init__(self, package: Package, sampling: Sampling = Sampling(), stop_on_nonfinite: bool = True):
        self._package = package
        self._handle = c_void_p()
        options = sampling.options(package.threads, stop_on_nonfinite)
        _check(_library().mpt_profiler_create(package._open(), ctypes.byref(options), ctypes.byref(self._handle)))

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_point()
        _library().mpt_profiler_destroy(self._handle)
        self._handle = c_void_p()

    def begin_point(self) -> None:
        """Watch the steps from here on."""
        _check(_library().mpt_profiler_begin_point(self._handle, self._package.step_number))

    def end_point(self) -> None:
        """Stop watching."""
        _check(_library().mpt_profiler_end_point(self._handle))

    def step(self, batch: Mapping[str, Any], lr: float, seed: int = 0) -> dict[str, Any]:
        """Take a training step and keep what was measured in it."""
        try:
            results = self._package.step(batch, lr=lr, seed=seed)
        except Error as error:
            self.discard()
            reason = _library().mpt_profiler_failure(self._handle).decode(errors="replace")
            if not reason:
                raise
            raise Error(reason) from error
        _check(_library().mpt_profiler_end_batch(self._handle))
        return results

    def discard(self) -> None:
        """Forget a batch that was interrupted."""
        _check(_library().mpt_profiler_discard_batch(self._handle))

    def write(self, path: str | os.PathLike[str], complete: bool = True) -> None:
        """Write metrics.json: beside `path`, then renamed."""
        _check(_library().mpt_profiler_write(self._handle, os.fsencode(path), complete))


@dataclass(frozen=True)
class Data:
    """Batches that fit a package: arrays [N, *shape] by input."""

    tensors: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return batch `index`, modulo the number of batches."""
        return {name: values[index % len(self)] for name, values in self.tensors.items()}


def load_data(path: str | os.PathLike[str], package: Package) -> Data:
    """Read every input and label of `package` from a safetensors file of [N, *shape] tensors.

    Raises Error naming the tensor that is missing or is not what the package takes. Values
    are checked by the package, before each step.
    """
    if not Path(path).is_file():
        raise Error(f"{path}: no such batches file")
    wanted = [entry for entry in package.arguments if entry["kind"] in ("input", "label")]
    tensors: dict[str, np.ndarray] = {}
    try:
        with safe_open(str(path), framework="numpy") as file:
            names = sorted(file.keys())
            for entry in wanted:
                if entry["name"] not in names:
                    found = ", ".join(names) or "no tensor"
                    raise Error(f"{path}: lacks {entry['kind']} '{entry['name']}' of the package, has {found}")
                tensors[entry["name"]] = file.get_tensor(entry["name"])
    except SafetensorError as error:
        raise Error(f"{path}: not a safetensors file: {error}") from error
    if not tensors:
        raise Error(f"{path}: the package takes no input")
    for entry in wanted:
        _check_tensor(tensors[entry["name"]], entry, path)
    counts = {name: len(values) for name, values in tensors.items()}
    if len(set(counts.values())) > 1:
        raise Error(f"{path}: numbers of batches differ: {counts}")
    if not all(counts.values()):
        raise Error(f"{path}: holds no batches")
    return Data(tensors)


def _check_tensor(values: np.ndarray, entry: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    dtype, shape = _numpy_dtype(entry["dtype"]), entry["shape"]
    if values.dtype != dtype or values.shape[1:] != shape or values.ndim != len(shape) + 1:
        expected = ", ".join(["N", *map(str, shape)])
        raise Error(
            f"{path}: {entry['kind']} '{entry['name']}' is {values.dtype} {list(values.shape)}, "
            f"the package takes {dtype} [{expected}]"
        )


@dataclass(frozen=True)
class Plan:
    """What is measured: `batches` steps from each of `at_steps`, while training."""

    batches: int
    at_steps: Sequence[int] = (0,)
    schedule: Schedule = field(default_factory=lambda: Schedule(1e-3))
    sampling: Sampling = Sampling()
    seed: int = 0  # of dropout
    stop_on_nonfinite: bool = True

    def check(self, first: int) -> None:
        """Raise Error unless the points follow one another from step `first` on."""
        if self.batches < 1:
            raise Error(f"batches is {self.batches}, expected at least 1")
        if not self.at_steps:
            raise Error("no step to profile at")
        free = first
        for step in self.at_steps:
            if step < free:
                reason = f"{self.batches} batches a point" if free > first else f"training is at step {first}"
                raise Error(f"point at step {step}: expected at least {free} ({reason})")
            free = step + self.batches


def check_parameters(package: Package, stop: bool) -> None:
    """Name the parameters with NaN or infinity: as an Error, or as warnings."""
    for name, values in package.parameters(copy=False).items():
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            text = f"parameter '{name}': {bad} of {values.size} values are not finite, at step {package.step_number}"
            if stop:
                raise Error(text)
            errors.print(f"warning: {text}", markup=False, highlight=False)


def profile(package: Package, batches: Data, out: str | os.PathLike[str], plan: Plan) -> int:
    """Train and measure as `plan` says, write `out`, and return how many batches were measured.

    Interrupted (Ctrl-C), it writes the batches that are done, marked incomplete, and raises
    KeyboardInterrupt. A failure leaves no file.
    """
    first = package.step_number
    plan.check(first)
    if not Path(out).parent.is_dir():
        raise Error(f"{out}: directory {Path(out).parent} does not exist")
    total = plan.at_steps[-1] - first + plan.batches
    measured = len(plan.at_steps) * plan.batches
    done = 0
    with Profiler(package, plan.sampling, plan.stop_on_nonfinite) as profiler, bar(time_left=True) as display:
        units = total - measured + MEASURED_COST * measured
        task = display.add_task("profile", total=units, note="")

        def step(take: Any, cost: int, what: str) -> None:
            number = package.step_number
            loss = take(batches[number], lr=plan.schedule(number), seed=plan.seed)["loss"]
            display.update(task, advance=cost, note=f"step {number + 1}: {what}, loss {loss:.4f}")

        try:
            for point in plan.at_steps:
                while package.step_number < point:
                    step(package.step, 1, "training")
                check_parameters(package, plan.stop_on_nonfinite)
                profiler.begin_point()
                for index in range(plan.batches):
                    step(profiler.step, MEASURED_COST, f"measured batch {index + 1} of {plan.batches}")
                    done += 1
                profiler.end_point()
        except KeyboardInterrupt:
            profiler.discard()
            if done:
                profiler.write(out, complete=False)
            raise
        profiler.write(out)
    return done
