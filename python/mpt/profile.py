# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Profiling: train in FP32, and at some points measure every product (docs/metrics.md).

    with mpt.Package("build/fp32") as package:
        batches = load_data("batches.safetensors", package)
        profile(package, batches, "metrics.json", Plan(batches=4, at_steps=(0, 100)))

A point at step s stops training there: batches s to s + batches - 1 run forward and backward
at the same parameters, then training goes on from step s with the same batches, and with the
same bits as without a profile.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_uint64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mpt import _runtime
from mpt.console import bar, errors
from mpt.metrics import layer_of
from mpt.runtime import Error, Package, _numpy_dtype
from mpt.train import Schedule

# In units of a plain step, for the bar's time left: a measured batch, and a probe.
MEASURED_COST, PROBE_COST = 5, 1.5
ROLES = ("fprop", "dgrad", "wgrad")
# The second format is the gradient's; without a gradient operand, both operands take the first.
PROBE_CANDIDATES = "i8*i8,i8*i8[stochastic],f8E4M3FN*f8E4M3FN,f8E4M3FN*f8E5M2"


class _Options(ctypes.Structure):
    """mpt_profiler_options."""

    _fields_ = [
        ("rows", c_int64),
        ("columns", c_int64),
        ("seed", c_uint64),
        ("threads", c_int32),
        ("stop_on_nonfinite", c_int32),
        ("batches", c_int64),
        ("sketch", c_int64),
        ("candidates", c_char_p),
        ("probes", c_char_p),
    ]


# include/mpt/Metrics/MetricsC.h; function: result type, argument types.
_FUNCTIONS = {
    "mpt_profiler_create": (c_int, [c_void_p, POINTER(_Options), POINTER(c_void_p)]),
    "mpt_profiler_destroy": (None, [c_void_p]),
    "mpt_profiler_begin_point": (c_int, [c_void_p, c_int64]),
    "mpt_profiler_measure": (c_int, [c_void_p, c_int64]),
    "mpt_profiler_probe_count": (c_int64, [c_void_p]),
    "mpt_profiler_probe": (c_int, [c_void_p, c_int64, c_int64]),
    "mpt_profiler_end_batch": (c_int, [c_void_p]),
    "mpt_profiler_discard_batch": (c_int, [c_void_p]),
    "mpt_profiler_end_point": (c_int, [c_void_p]),
    "mpt_profiler_write": (c_int, [c_void_p, c_char_p, c_int]),
}


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    """The runtime library with the profiler's functions declared."""
    return _runtime.declare(_runtime.load(), _FUNCTIONS)


def _check(status: int) -> None:
    if status != 0:
        raise Error(_library().mpt_last_error().decode(errors="replace"))


@dataclass(frozen=True)
class Sampling:
    """What is computed of each product: rows x columns of its result; 0 is all.

    `candidates` replaces the default pairs of formats: "bf16*bf16,f8E4M3FN*f8E5M2"; where an
    operand is a gradient the second format is its. `sketch`: coordinates that are kept of each
    gradient and of each error; 0 lets memory decide (docs/metrics.md).
    """

    rows: int = 256
    columns: int = 256
    seed: int = 0
    candidates: str | None = None
    sketch: int = 0


@dataclass(frozen=True)
class Probes:
    """Which groups of products are rounded for the whole gradient's error.

    by: "none"; "role": each role, and all products at once; "layer": each role in each layer
    besides. candidates: each is tried on each group.
    """

    by: str = "none"
    candidates: str = PROBE_CANDIDATES

    def text(self, package: Package) -> str | None:
        """As mpt_profiler_options takes them; None for none."""
        if self.by not in ("none", "role", "layer"):
            raise Error(f"probes by '{self.by}': expected none, role or layer")
        if self.by == "none":
            return None
        products = [launch for launch in package.launch_times() if launch["op"] == "product"]
        groups = [role for role in ROLES if any(product["role"] == role for product in products)] + ["whole"]
        if self.by == "layer":
            found = {(layer_of(product["name"]), product["role"]) for product in products}
            layered = sorted((layer, ROLES.index(role)) for layer, role in found if layer is not None)
            groups += [f"{ROLES[role]}@{layer}" for layer, role in layered]
        return ";".join(f"{group} {text}" for text in _split(self.candidates) for group in groups)


def _split(candidates: str) -> list[str]:
    """The candidates of a list, whose formats may have commas in brackets."""
    return re.split(r",(?![^\[]*\])", candidates)


class Profiler:
    """mpt_profiler over an open package; a context manager."""

    def __init__(self, package: Package, sampling: Sampling = Sampling(), stop_on_nonfinite: bool = True,
                 batches: int = 1, probes: Probes = Probes()):  # fmt: skip
        self._package = package
        self._handle = c_void_p()
        text = probes.text(package)
        options = _Options(
            *(sampling.rows, sampling.columns, sampling.seed, package.threads, stop_on_nonfinite),
            *(batches, sampling.sketch),
            None if sampling.candidates is None else sampling.candidates.encode(),
            None if text is None else text.encode(),
        )
        _check(_library().mpt_profiler_create(package._open(), ctypes.byref(options), ctypes.byref(self._handle)))

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        _library().mpt_profiler_destroy(self._handle)
        self._handle = c_void_p()

    @property
    def probes(self) -> int:
        """How many probes a batch has."""
        return _library().mpt_profiler_probe_count(self._handle)

    def begin_point(self) -> None:
        """Open a point at the package's step."""
        _check(_library().mpt_profiler_begin_point(self._handle, self._package.step_number))

    def end_point(self) -> None:
        """Make the metrics that take all batches of the point."""
        _check(_library().mpt_profiler_end_point(self._handle))

    def batch(self, batch: Mapping[str, Any], rng_step: int, seed: int = 0,
              advance: Callable[[float], None] = lambda cost: None) -> None:  # fmt: skip
        """Measure a batch and run its probes; `advance` is told the cost of each part."""
        with self._package._lock:
            self._package._set_batch(batch, seed)
            _check(_library().mpt_profiler_measure(self._handle, rng_step))
            advance(MEASURED_COST)
            for index in range(self.probes):
                _check(_library().mpt_profiler_probe(self._handle, index, rng_step))
                advance(PROBE_COST)
            _check(_library().mpt_profiler_end_batch(self._handle))

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
    """What is measured: `batches` batches at each of `at_steps`, training in between."""

    batches: int
    at_steps: Sequence[int] = (0,)
    schedule: Schedule = field(default_factory=lambda: Schedule(1e-3))
    sampling: Sampling = Sampling()
    seed: int = 0  # of dropout
    stop_on_nonfinite: bool = True
    probes: Probes = Probes()

    def check(self, first: int) -> None:
        """Raise Error unless the points follow one another from step `first` on."""
        if self.batches < 1:
            raise Error(f"batches is {self.batches}, expected at least 1")
        if not self.at_steps:
            raise Error("no step to profile at")
        if self.at_steps[0] < first:
            raise Error(f"point at step {self.at_steps[0]}: expected at least {first} (training is at step {first})")
        for before, step in zip(self.at_steps, self.at_steps[1:]):
            if step <= before:
                raise Error(f"point at step {step}: expected one after step {before}")


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
    done = 0
    options = (plan.sampling, plan.stop_on_nonfinite, plan.batches, plan.probes)
    with Profiler(package, *options) as profiler, bar(time_left=True) as display:
        each = MEASURED_COST + PROBE_COST * profiler.probes
        units = plan.at_steps[-1] - first + each * len(plan.at_steps) * plan.batches
        task = display.add_task("profile", total=units, note="")

        def note(text: str, cost: float = 0) -> None:
            display.update(task, advance=cost, note=f"step {package.step_number} {text}")

        try:
            for point in plan.at_steps:
                while (number := package.step_number) < point:
                    loss = package.step(batches[number], lr=plan.schedule(number), seed=plan.seed)["loss"]
                    note(f"loss {loss:.4f}", 1)
                check_parameters(package, plan.stop_on_nonfinite)
                profiler.begin_point()
                for index in range(plan.batches):
                    text = f"batch {index + 1}/{plan.batches}"
                    profiler.batch(batches[point + index], point + index, plan.seed, lambda cost: note(text, cost))
                    done += 1
                profiler.end_point()
        except KeyboardInterrupt:
            profiler.discard()
            profiler.end_point()
            if done:
                profiler.write(out, complete=False)
            raise
        profiler.write(out)
    return done


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], beside: str | os.PathLike[str], threads: int) -> Iterator[Package]:
    """Open a package directory, or build one of a .mlir file for as long as it is needed.

    The file is a forward graph, which is differentiated, or a training step. The package is
    built for the CPU in a hidden directory beside `beside`, which is removed afterwards.
    """
    from mpt import stages

    source = Path(path)
    if source.is_dir():
        with Package(str(source), threads=threads) as package:
            yield package
        return
    if not source.is_file():
        raise Error(f"{source}: no such package or graph")
    function = _function_of(source)
    beside = Path(beside)
    if not beside.parent.is_dir():
        raise Error(f"{beside}: directory {beside.parent} does not exist")
    staging = beside.parent / f".{beside.name}.{os.getpid()}.package"
    staging.mkdir()
    try:
        step = source
        if function == "forward":
            step = staging / "step.mlir"
            stages.differentiate(source, step)
        stages.build(step, staging / "package", "cpu")
        with Package(str(staging / "package"), threads=threads) as package:
            yield package
    finally:
        shutil.rmtree(staging)


def _function_of(path: Path) -> str:
    """"forward" or "step": what the module in `path` holds."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if found := re.match(r"\s*func\.func @(forward|step)\(", line):
                    return found[1]
    except UnicodeDecodeError as error:
        raise Error(f"{path}: neither a package nor a graph (.mlir): {error}") from error
    raise Error(f"{path}: neither a package nor a graph (.mlir) with a function @forward or @step")
