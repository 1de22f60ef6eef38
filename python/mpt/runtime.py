# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Training steps compiled by mpt, from Python.

    with mpt.Package("build/bert") as package:
        for batch in batches:
            print(package.step(batch, lr=1e-4)["loss"])
        package.save("checkpoint.safetensors")

Arrays go in as NumPy arrays or anything with DLPack (CPU tensors of PyTorch), and
come out as NumPy arrays, which offer DLPack themselves.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from typing import Any, Callable, Mapping

import numpy as np

from mpt import _runtime

__all__ = ["Error", "Package", "Product"]


class Error(RuntimeError):
    """A refusal of the runtime; the message names the thing, found and expected."""


def _numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of one of the manifest's dtypes."""
    plain = {"f32": np.float32, "i8": np.int8, "i32": np.int32, "i64": np.int64, "i1": np.bool_}
    if name in plain:
        return np.dtype(plain[name])
    import ml_dtypes

    extended = {"bf16": "bfloat16", "f8E4M3FN": "float8_e4m3fn", "f8E5M2": "float8_e5m2"}
    return np.dtype(getattr(ml_dtypes, extended[name]))


def _as_array(value: Any) -> np.ndarray:
    """`value` as a NumPy array, without a copy where DLPack allows it."""
    if isinstance(value, (np.ndarray, np.generic, int, float, list, tuple)):
        return np.asarray(value)
    if hasattr(value, "detach"):
        value = value.detach()
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError):
            pass
    return np.asarray(value)


@dataclass(frozen=True)
class Product:
    """A product that has just run; the arrays are views, valid during the callback.

    `lhs`, `rhs` and `result` are [batch0, batch1, m, k], [.., k, n] and [.., m, n].
    """

    name: str
    role: str
    launch: int
    m: int
    n: int
    k: int
    batch: tuple[int, int]
    lhs: np.ndarray
    rhs: np.ndarray
    result: np.ndarray


def _view_array(view: _runtime.MatrixView, shape: tuple[int, ...]) -> np.ndarray:
    """The operand as a strided, read-only array over the package's memory."""
    strides = [view.batch[0], view.batch[1], view.rows, view.columns]
    last = sum((extent - 1) * stride for extent, stride in zip(shape, strides))
    memory = (ctypes.c_float * (last + 1)).from_address(view.data)
    flat = np.frombuffer(memory, dtype=np.float32)
    return np.lib.stride_tricks.as_strided(
        flat, shape, [4 * stride for stride in strides], writeable=False
    )


def _product(view: _runtime.ProductView) -> Product:
    b0, b1 = view.batch[0], view.batch[1]
    return Product(
        name=view.name.decode(),
        role=view.role.decode(),
        launch=view.launch,
        m=view.m,
        n=view.n,
        k=view.k,
        batch=(b0, b1),
        lhs=_view_array(view.lhs, (b0, b1, view.m, view.k)),
        rhs=_view_array(view.rhs, (b0, b1, view.k, view.n)),
        result=_view_array(view.result, (b0, b1, view.m, view.n)),
    )


def _describe(info: _runtime.TensorInfo) -> dict[str, Any]:
    """An argument or result as a dictionary."""
    entry: dict[str, Any] = {
        "name": info.name.decode(),
        "kind": _runtime.KINDS[info.kind],
        "shape": tuple(info.shape[: info.rank]),
        "dtype": _runtime.DTYPES[info.dtype],
    }
    if info.has_range:
        entry["range"] = (info.range_low, info.range_high)
    if info.has_ignore_index:
        entry["ignore_index"] = info.ignore_index
    return entry


class Package:
    """An open package: its arguments, its state, and the step.

    `threads` defaults to the CPUs of this process. One package is used by one
    thread at a time (a lock sees to it). Failures raise mpt.Error.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None):
        self._handle = ctypes.c_void_p()
        self._lock = threading.RLock()
        self._observer = None
        self._observer_error: BaseException | None = None
        try:
            self._library = _runtime.load()
        except OSError as error:
            raise Error(str(error)) from error
        self._check(
            self._library.mpt_package_open(
                os.fsencode(path), threads or 0, ctypes.byref(self._handle)
            )
        )
        self.arguments = self._list("argument")
        self.results = self._list("result")
        self.gradients = self._list("gradient")
        self._arguments = {entry["name"]: entry for entry in self.arguments}
        self._results = {entry["name"]: entry for entry in self.results}

    # Life and identity.

    def close(self) -> None:
        """Frees the package; arrays that are views of it must not be used any more."""
        if self._handle:
            self._library.mpt_close(self._handle)
            self._handle = ctypes.c_void_p()

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    @property
    def graph_hash(self) -> str:
        return self._library.mpt_package_graph_hash(self._open()).decode()

    @property
    def engine(self) -> str:
        return self._library.mpt_engine(self._open()).decode()

    @property
    def threads(self) -> int:
        return self._library.mpt_thread_count(self._open())

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of the arena, and of arguments and constants."""
        handle = self._open()
        return {
            "arena": self._library.mpt_arena_bytes(handle),
            "state": self._library.mpt_state_bytes(handle),
        }

    @property
    def step_number(self) -> int:
        """Steps taken so far; part of a checkpoint."""
        return self._library.mpt_step_number(self._open())

    # Values.

    def set(self, name: str, value: Any) -> None:
        """Copies `value` into an argument; dtype and shape must be the manifest's."""
        array = _as_array(value)
        entry = self._argument(name)
        dtype = _numpy_dtype(entry["dtype"])
        if array.dtype != dtype:
            self._refuse(entry, array)
        array = np.require(array, requirements="C")
        if array.ndim > _runtime.MAX_RANK:
            self._refuse(entry, array)
        shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        with self._lock:
            self._check(
                self._library.mpt_set_argument(
                    self._open(),
                    name.encode(),
                    array.ctypes.data_as(ctypes.c_void_p),
                    _runtime.DTYPES.index(entry["dtype"]),
                    array.ndim,
                    shape,
                )
            )

    def view(self, name: str) -> np.ndarray:
        """An argument's own memory, to read or fill in place; counts as set."""
        return self._memory(self._library.mpt_argument_data, self._argument(name))

    def read(self, name: str) -> np.ndarray:
        """A copy of an argument or result."""
        if name in self._results:
            return self._memory(self._library.mpt_result, self._results[name]).copy()
        entry = self._argument(name)
        return self._memory(self._library.mpt_argument_read, entry).copy()

    def load_parameters(self, values: Mapping[str, Any] | str | os.PathLike) -> None:
        """Sets every parameter from a mapping or a safetensors file; extra ones are ignored."""
        with self._lock:
            if isinstance(values, (str, os.PathLike)):
                path = os.fsencode(values)
                self._check(self._library.mpt_load_parameters(self._open(), path))
                return
            names = [e["name"] for e in self.arguments if e["kind"] == "parameter"]
            missing = [name for name in names if name not in values]
            if missing:
                raise Error(f"the given parameters lack {', '.join(map(repr, missing))}")
            arrays = {name: _as_array(values[name]) for name in names}
            for name, array in arrays.items():
                entry = self._arguments[name]
                wrong_type = array.dtype != _numpy_dtype(entry["dtype"])
                if wrong_type or array.shape != entry["shape"]:
                    self._refuse(entry, array)
            for name, array in arrays.items():
                self.set(name, array)

    def parameters(self, copy: bool = True) -> dict[str, np.ndarray]:
        """All parameters by name; without `copy` they are views of the package's memory."""
        return self._collect(("parameter",), copy)

    def state(self, copy: bool = True) -> dict[str, np.ndarray]:
        """All that a checkpoint holds: parameters, optimizer and scale state."""
        return self._collect(_runtime.STATE_KINDS, copy)

    # Training.

    def step(self, batch: Mapping[str, Any], lr: float, seed: int = 0) -> dict[str, Any]:
        """Runs one step on `batch`, which has every input and label (more is ignored).

        Returns the results (scalars as float) and `step`, the steps taken so far. A
        batch that is refused changes nothing.
        """
        with self._lock:
            self._set_batch(batch, seed)
            if "lr" in self._arguments:
                self.set("lr", np.float32(lr))
            self._run(self._library.mpt_step)
            return {name: self._result(name) for name in self._results} | {
                "step": self.step_number
            }

    def gradient(
        self, batch: Mapping[str, Any], seed: int = 0, rng_step: int | None = None
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradients (copies, before clipping, by parameter) on `batch`; updates nothing.

        Parameters, optimizer state and step number stay as they are. `rng_step` is what
        dropout takes for the step number, by default the number itself. Other results than
        those that forward and backward compute cannot be read until the next step.
        """
        with self._lock:
            self._set_batch(batch, seed)
            step = self.step_number if rng_step is None else rng_step
            self._run(self._library.mpt_run_gradient, step)
            function = self._library.mpt_gradient
            arrays = {e["name"]: self._memory(function, e).copy() for e in self.gradients}
            return self._result("loss"), arrays

    def save(self, path: str | os.PathLike) -> None:
        """Writes a checkpoint (safetensors)."""
        with self._lock:
            self._check(self._library.mpt_save_checkpoint(self._open(), os.fsencode(path)))

    def load(self, path: str | os.PathLike) -> None:
        """Loads a checkpoint of the same graph; a refused file changes nothing."""
        with self._lock:
            self._check(self._library.mpt_load_checkpoint(self._open(), os.fsencode(path)))

    def export_weights(self, path: str | os.PathLike) -> None:
        """Writes the parameters under their names (safetensors, as from_pretrained reads)."""
        with self._lock:
            self._check(self._library.mpt_export_weights(self._open(), os.fsencode(path)))

    # Looking inside.

    def observe(self, callback: Callable[[Product], Any] | None) -> None:
        """Calls `callback` after each product of every step and gradient; None ends it.

        An exception in the callback stops the step and comes out of `step`; the state
        is then undefined until a checkpoint is loaded. One that stops `gradient` leaves
        the state as it is.
        """

        def call(view: Any, _: Any) -> int:
            try:
                callback(_product(view.contents))
                return 0
            except BaseException as error:  # noqa: BLE001 - raised again by _run()
                self._observer_error = error
                return 1

        function = _runtime.Observer(call) if callback else _runtime.Observer()
        with self._lock:
            self._check(self._library.mpt_set_observer(self._open(), function, None))
            self._observer = function

    def profile(self, enable: bool = True) -> None:
        """Starts timing launches from zero, or stops."""
        self._check(self._library.mpt_profile_launches(self._open(), int(enable)))

    def launch_times(self) -> list[dict[str, Any]]:
        """op, name, role, symbol, seconds and calls of each launch, in order."""
        times = []
        for index in range(self._library.mpt_launch_count(self._open())):
            info = _runtime.LaunchInfo()
            self._check(
                self._library.mpt_get_launch_info(self._handle, index, ctypes.byref(info))
            )
            entry = {key: getattr(info, key).decode() for key in ("op", "name", "role", "symbol")}
            times.append(entry | {"seconds": info.seconds, "calls": info.calls})
        return times

    # Helpers.

    def _set_batch(self, batch: Mapping[str, Any], seed: int) -> None:
        wanted = [e["name"] for e in self.arguments if e["kind"] in ("input", "label")]
        for name in wanted:
            if name not in batch:
                kind = self._arguments[name]["kind"]
                raise Error(f"the batch lacks {kind} '{name}'; it has {sorted(batch)}")
        for name in wanted:
            self.set(name, batch[name])
        if "rng.seed" in self._arguments:
            self.set("rng.seed", np.int64(seed))

    def _run(self, function: Any, *arguments: int) -> None:
        """Runs launches; what the observer raised comes out."""
        self._observer_error = None
        status = function(self._open(), *arguments)
        if self._observer_error is not None:
            raise self._observer_error
        self._check(status)

    def _open(self) -> ctypes.c_void_p:
        if not self._handle:
            raise Error("the package is closed")
        return self._handle

    def _check(self, status: int) -> None:
        if status != 0:
            raise Error(self._library.mpt_last_error().decode(errors="replace"))

    def _list(self, what: str) -> list[dict[str, Any]]:
        entries = []
        for index in range(getattr(self._library, f"mpt_{what}_count")(self._handle)):
            info = _runtime.TensorInfo()
            get = getattr(self._library, f"mpt_{what}_info")
            self._check(get(self._handle, index, ctypes.byref(info)))
            entries.append(_describe(info))
        return entries

    def _argument(self, name: str) -> dict[str, Any]:
        if name not in self._arguments:
            pointer = ctypes.c_void_p()
            self._check(
                self._library.mpt_argument_read(
                    self._open(), name.encode(), ctypes.byref(pointer)
                )
            )
        return self._arguments[name]

    def _refuse(self, entry: dict[str, Any], array: np.ndarray) -> None:
        raise Error(
            f"{entry['kind']} '{entry['name']}' is {list(array.shape)} {array.dtype}, "
            f"expected {list(entry['shape'])} {_numpy_dtype(entry['dtype'])}"
        )

    def _memory(self, function: Any, entry: dict[str, Any]) -> np.ndarray:
        pointer = ctypes.c_void_p()
        self._check(function(self._open(), entry["name"].encode(), ctypes.byref(pointer)))
        dtype = _numpy_dtype(entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if count == 0:
            return np.empty(entry["shape"], dtype)
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer.value)
        memory.owner = self  # an array over it keeps the package alive
        return np.frombuffer(memory, dtype=dtype).reshape(entry["shape"])

    def _collect(self, kinds: tuple[str, ...], copy: bool) -> dict[str, np.ndarray]:
        entries = [entry for entry in self.arguments if entry["kind"] in kinds]
        function = self._library.mpt_argument_read
        arrays = {entry["name"]: self._memory(function, entry) for entry in entries}
        return {name: a.copy() for name, a in arrays.items()} if copy else arrays

    def _result(self, name: str) -> Any:
        value = self.read(name)
        return value.item() if value.ndim == 0 else value
