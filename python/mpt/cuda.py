# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""CUDA packages: compiling step.cu, and running it from Python.

    compile_package("build/cuda")                    # nvcc: libstep.so, for sm_90a
    compile_package("build/cuda", simulate=True)     # g++ against the simulator: libstep_sim.so
    with CudaPackage("build/cuda", simulate=True) as package:
        package.step(batch, lr=1e-4)

See docs/cuda.md.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from mpt import _runtime, audit
from mpt.files import staged
from mpt.runtime import Error, _as_array, _numpy_dtype

# What packages are compiled for.
ARCH = "sm_90a"
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]


class BuildError(RuntimeError):
    """A compiler is missing or failed; the text says which and what it wrote."""


#
# Finding things.
#


def _first(places: list[Path], file: str) -> Path | None:
    return next((place for place in places if (place / file).is_file()), None)


def include_directory() -> Path:
    """Where mpt's headers are: $MPT_INCLUDE, in this package, or in the source tree."""
    here = Path(__file__).resolve().parent
    places = [here / "include", here.parent.parent / "include"]
    if os.environ.get("MPT_INCLUDE"):
        places = [Path(os.environ["MPT_INCLUDE"])]
    found = _first(places, "mpt/CUDA/Step.h")
    if not found:
        raise BuildError(f"mpt/CUDA/Step.h is in none of {', '.join(map(str, places))}; set MPT_INCLUDE")
    return found


def cublas_directory() -> Path | None:
    """$MPT_CUBLAS_DIR, or where cuBLAS 13 has include/ and its library; None if absent.

    Looked for where the wheel nvidia-cublas puts it, then in the toolkit of the nvcc on the PATH.
    """
    if os.environ.get("MPT_CUBLAS_DIR"):
        places = [Path(os.environ["MPT_CUBLAS_DIR"])]
    else:
        spec = importlib.util.find_spec("nvidia")
        places = [Path(place) / "cu13" for place in (spec.submodule_search_locations or [])] if spec else []
        if nvcc := shutil.which("nvcc"):
            places.append(Path(nvcc).resolve().parent.parent)
    complete = (place for place in places if cublas_library(place).is_file())
    return _first(list(complete), "include/cublasLt.h")


def cublas_library(cublas: Path) -> Path:
    """libcublasLt.so.13 below `cublas`: wheels have it in lib, toolkits in lib64."""
    folder = _first([cublas / "lib", cublas / "lib64"], "libcublasLt.so.13")
    return (folder or cublas / "lib") / "libcublasLt.so.13"


def simulator_library() -> Path:
    """libmptCUDASim.a: $MPT_CUDASIM_LIB, or in the build that the tools ($MPT_BIN) are from."""
    named = os.environ.get("MPT_CUDASIM_LIB")
    if named:
        return Path(named)
    builds = [Path("build")]
    if os.environ.get("MPT_BIN"):
        builds.insert(0, Path(os.environ["MPT_BIN"]).parent)
    places = [build / "lib" / "CUDASim" for build in builds] + [Path(__file__).parent / "lib"]
    found = _first(places, "libmptCUDASim.a")
    if not found:
        searched = ", ".join(map(str, places))
        raise BuildError(f"libmptCUDASim.a: not found in {searched}; build it (make build) or set MPT_CUDASIM_LIB")
    return found / "libmptCUDASim.a"


def missing_for_nvcc(cublas: bool = True) -> str:
    """What keeps this machine from compiling for the GPU, and from proving it; empty if nothing does.

    cublas: whether the source uses cuBLAS.
    """
    if not shutil.which("nvcc"):
        return "nvcc (CUDA 13) is not on the PATH"
    if cublas and not cublas_directory():
        return "cuBLAS 13 was not found (pip install nvidia-cublas, or set MPT_CUBLAS_DIR)"
    return audit.missing_tools()


def unfit_nvcc() -> str:
    """Why the nvcc on the PATH cannot compile packages; empty if it can."""
    said = _run(["nvcc", "--version"])
    release = re.search(r"release (\d+)\.(\d+)", said)
    if release and int(release[1]) >= 13:
        return ""
    found = f"is of CUDA {release[1]}.{release[2]}" if release else f"says {said!r} of its version"
    return f"{shutil.which('nvcc')} {found}, expected CUDA 13 or newer: packages are for {ARCH} with CUDA 13's headers"


#
# Compiling.
#


def _run(command: list[Any]) -> str:
    """Run a compiler; return what it wrote."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace")
    output = (done.stderr + done.stdout).strip()
    if done.returncode:
        raise BuildError(f"{command[0]}: exit code {done.returncode}\n{output}")
    return output


def nvcc_command(source: Path, library: Path, cublas: Path | None) -> list[Any]:
    """The command that compiles a package for sm_90a; nothing is contracted outside products.

    The host's part queues launches, once, for a graph: without -O (which is the host compiler's level) it
    takes a quarter of the time, and the kernels are the same.
    cublas: where cuBLAS is, if the source uses it.
    """
    host = ",".join(WARNINGS + ["-fPIC", "-fvisibility=hidden"])
    link: list[Any] = []
    if cublas:
        folder = cublas_library(cublas).parent
        link = ["-isystem", cublas / "include", f"-L{folder}", "-l:libcublasLt.so.13", "-Xlinker", f"-rpath={folder}"]
    return [
        "nvcc", f"-gencode=arch={ARCH.replace('sm', 'compute')},code={ARCH}", "-std=c++17", "-DNDEBUG", "-fmad=false",
        "-Werror", "all-warnings", "-Xptxas", "-v,-O3", "-Xcompiler", host, f"-I{include_directory()}",
        "-shared", source, "-o", library, *link,
    ]  # fmt: skip


def compile_simulated(source: Path, library: Path, checked: bool = False) -> None:
    """Compile one emitted source into a library that the simulator runs.

    checked: with the race checker (instrumented like -fsanitize=thread, our shadow memory).
    """
    compiler = next((name for name in ("g++", "clang++", "clang++-22", "c++") if shutil.which(name)), None)
    if not compiler:
        raise BuildError("no C++ compiler on the PATH, expected g++ or clang++")
    simulator = simulator_library()
    # One instruction for num::fma where the CPU has it: the same bits as libm's.
    fma = ["-mfma"] if "fma" in Path("/proc/cpuinfo").read_text().split() else []
    # Never link with -fsanitize=thread: the simulator brings its own shadow memory.
    instrument = ["-fsanitize=thread"] if checked else []
    unit = library.with_suffix(".o")
    try:
        _run([
            compiler, "-x", "c++", "-std=c++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off",
            *fma, *instrument, *WARNINGS, "-Wno-psabi", f"-I{include_directory()}", "-c", source, "-o", unit,
        ])  # fmt: skip
        _run([compiler, "-shared", unit, "-o", library, simulator, "-l:libboost_context.a", "-ldl"])
    finally:
        unit.unlink(missing_ok=True)


def library_path(package: str | os.PathLike[str], simulate: bool = False, checked: bool = False) -> Path:
    """Where compile_package leaves a package's library."""
    name = "libstep_checked.so" if checked else "libstep_sim.so" if simulate else "libstep.so"
    return Path(package) / name


def compile_with_nvcc(source: Path, library: Path, log: Path) -> None:
    """Compile one emitted source for the GPU; what nvcc and ptxas wrote goes to `log`.

    Raises BuildError with what is missing, with the compiler's output, or with the C75xx warnings
    of ptxas: it has then serialised wgmma or ignored setmaxnreg.
    """
    uses_cublas = '#include "mpt/CUDA/Products.h"' in source.read_text()
    if missing := missing_for_nvcc(uses_cublas) or unfit_nvcc():
        raise BuildError(missing)
    command = nvcc_command(source, library, cublas_directory() if uses_cublas else None)
    output = _run(command)
    if warnings := audit.performance_warnings(output):
        raise BuildError("\n".join([f"{source}: ptxas did not compile a kernel as it is written", *warnings]))
    log.write_text(f"{audit.log_header(library)}\n{shlex.join(map(str, command))}\n{output}\n")


def _prove(package: Path, library: Path) -> None:
    """Raise BuildError unless products are what the manifest says (mpt.audit)."""
    try:
        report = audit.audit(package, library)
    except audit.AuditError as error:
        raise BuildError(f"{package}: cannot be proven to multiply as assigned: {error}") from error
    if report.problems:
        raise BuildError("\n".join([f"{package}: does not multiply as assigned", *report.problems]))


def compile_package(package: str | os.PathLike[str], simulate: bool = False, checked: bool = False) -> Path:
    """Compile the package's step.cu with nvcc, or for the simulator (`checked`: with its race checker).

    A package for the GPU is audited: own products must be in machine code what they are assigned.
    Returns the library. Raises BuildError with what is missing, with the compiler's output, or with
    the products that are not as assigned.
    """
    source, library = Path(package) / "step.cu", library_path(package, simulate, checked)
    if not source.is_file():
        raise BuildError(f"{source}: not found; build a package with mpt-build --target=cuda")
    # The library appears under its name once it is complete.
    building = library.with_name(f".{library.stem}.{os.getpid()}.so")
    log = audit.log_path(building)
    try:
        if simulate or checked:
            compile_simulated(source, building, checked)
        else:
            arch = audit.load_manifest(Path(package)).get("arch")
            if arch != ARCH:
                raise BuildError(f"{package}: is for {arch}, expected {ARCH}, which is all that nvcc is asked for")
            compile_with_nvcc(source, building, log)
            _prove(Path(package), building)
            os.replace(log, audit.log_path(library))
        os.replace(building, library)
    finally:
        building.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
    return library


#
# Running.
#


def _load(library: Path) -> ctypes.CDLL:
    """Load a package's library, with the cuBLAS of this machine if it is not where it was compiled."""
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        if "libcublasLt" not in str(error):
            raise Error(f"{library}: cannot be loaded: {error}; compile the package on this machine") from error
        cublas = cublas_directory()
        if not cublas:
            raise Error(
                f"{library}: {error}; its products need cuBLAS 13: pip install nvidia-cublas==13.0.2.14, or set "
                "MPT_CUBLAS_DIR to the directory that has lib/libcublasLt.so.13"
            ) from error
    try:
        ctypes.CDLL(str(cublas_library(cublas)), ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise Error(f"{library}: cannot be loaded with cuBLAS of {cublas}: {error}") from error


class CudaPackage:
    """An open CUDA package: arguments, state and the step, as mpt.Package offers them.

    One step of a library is open at a time. Failures raise mpt.Error.
    """

    def __init__(self, path: str | os.PathLike[str], simulate: bool = False, checked: bool = False):
        directory = Path(path)
        self._open = False
        self.manifest = json.loads((directory / "manifest.json").read_text())
        if self.manifest.get("target") != "cuda":
            raise Error(f"{directory}: target is '{self.manifest.get('target')}', expected 'cuda'")
        library = library_path(directory, simulate, checked)
        if not library.is_file():
            raise Error(f"{library}: not found; compile the package first (mpt.cuda.compile_package)")
        self._library = self._declare(_load(library.resolve()))
        built_from = ctypes.c_char_p(ctypes.addressof(ctypes.c_char.in_dll(self._library, "mpt_graph_hash"))).value
        if built_from.decode() != self.manifest["graph_hash"]:
            raise Error(
                f"{library}: was built from graph {built_from.decode()}, expected {self.manifest['graph_hash']}"
            )
        self._check(self._library.mpt_cuda_open())
        self._open = True
        for entry in self.manifest["arguments"] + self.manifest["results"]:
            entry["shape"] = tuple(entry["shape"])
        self.arguments = self.manifest["arguments"]
        self.results = self.manifest["results"]
        self._arguments = {entry["name"]: entry for entry in self.arguments}
        self._results = {entry["name"]: entry for entry in self.results}
        for entry in self.arguments:
            init = {"zero": 0, "file": None, "launches": None}.get(entry.get("init"), entry.get("init"))
            if init is not None:
                self.set(entry["name"], np.full(entry["shape"], init, _numpy_dtype(entry["dtype"])))
        if (directory / "init.safetensors").is_file():
            self.load_parameters(directory / "init.safetensors")

    @staticmethod
    def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
        library.mpt_cuda_last_error.restype = ctypes.c_char_p
        library.mpt_cuda_memory.restype = ctypes.c_void_p
        library.mpt_cuda_step_number.restype = ctypes.POINTER(ctypes.c_int64)
        for name in ("mpt_cuda_set", "mpt_cuda_get"):
            getattr(library, name).argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
        return library

    def close(self) -> None:
        """Frees the device memory."""
        if self._open:
            self._library.mpt_cuda_close()
            self._open = False

    def __enter__(self) -> CudaPackage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def graph_hash(self) -> str:
        return self.manifest["graph_hash"]

    @property
    def step_number(self) -> int:
        """Steps taken so far; part of a checkpoint."""
        return self._library.mpt_cuda_step_number().contents.value

    # Values.

    def set(self, name: str, value: Any) -> None:
        """Copies `value` into an argument; dtype and shape must be the manifest's."""
        if name not in self._arguments:
            raise Error(f"there is no argument '{name}'; there are {', '.join(sorted(self._arguments))}")
        entry = self._arguments[name]
        array = np.require(_as_array(value), requirements="C")
        dtype = _numpy_dtype(entry["dtype"])
        if array.dtype != dtype or array.shape != entry["shape"]:
            raise Error(
                f"{entry['kind']} '{name}' is {list(array.shape)} {array.dtype}, "
                f"expected {list(entry['shape'])} {dtype}"
            )
        self._check(self._library.mpt_cuda_set(name.encode(), array.ctypes.data, array.nbytes))

    def read(self, name: str) -> np.ndarray:
        """A copy of an argument or a result."""
        entry = self._arguments.get(name) or self._results.get(name)
        if entry is None:
            raise Error(f"there is no argument or result '{name}'")
        array = np.empty(entry["shape"], _numpy_dtype(entry["dtype"]))
        self._check(self._library.mpt_cuda_get(name.encode(), array.ctypes.data, array.nbytes))
        return array

    def load_parameters(self, values: str | os.PathLike[str] | Mapping[str, Any]) -> None:
        """Sets all parameters, from a safetensors file or a mapping; what else it holds is ignored."""
        if isinstance(values, (str, os.PathLike)):
            from safetensors.numpy import load_file

            values = load_file(values)
        names = [entry["name"] for entry in self.arguments if entry["kind"] == "parameter"]
        missing = [name for name in names if name not in values]
        if missing:
            raise Error(f"the given parameters lack {', '.join(map(repr, missing))}")
        for name in names:
            self.set(name, values[name])

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name."""
        return {e["name"]: self.read(e["name"]) for e in self.arguments if e["kind"] == "parameter"}

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint holds: parameters, optimizer and scale state."""
        kinds = _runtime.STATE_KINDS
        return {e["name"]: self.read(e["name"]) for e in self.arguments if e["kind"] in kinds}

    # Training.

    def step(self, batch: Mapping[str, Any], lr: float, seed: int = 0) -> dict[str, Any]:
        """Runs one step on `batch`, which has every input and label (more is ignored).

        Returns the results (scalars as float) and `step`, the steps taken so far. A
        batch that is refused changes nothing but the inputs in front of it.
        """
        for entry in self.arguments:
            if entry["kind"] in ("input", "label"):
                if entry["name"] not in batch:
                    raise Error(f"the batch lacks {entry['kind']} '{entry['name']}'; it has {sorted(batch)}")
                self.set(entry["name"], batch[entry["name"]])
        if "lr" in self._arguments:
            self.set("lr", np.float32(lr))
        if "rng.seed" in self._arguments:
            self.set("rng.seed", np.int64(seed))
        self._check(self._library.mpt_cuda_step())
        results = {name: self.read(name) for name in self._results}
        scalars = {name: value.item() if value.ndim == 0 else value for name, value in results.items()}
        return scalars | {"step": self.step_number}

    # Checkpoints: the files that mpt.Package writes and reads.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint (safetensors)."""
        metadata = {"graph_hash": self.graph_hash, "step": str(self.step_number)}
        self._write(path, self.state(), {"format": "mpt-checkpoint", "version": "1"} | metadata)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Loads a checkpoint of the same graph; a refused file changes nothing."""
        from safetensors import safe_open

        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            wanted = {"format": "mpt-checkpoint", "version": "1", "graph_hash": self.graph_hash}
            for key, value in wanted.items():
                if metadata.get(key) != value:
                    raise Error(f"'{path}': {key} is '{metadata.get(key, 'missing')}', expected '{value}'")
            if not metadata.get("step", "").isdecimal():
                raise Error(f"'{path}': step is '{metadata.get('step', 'missing')}', expected a number of steps")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        states = {e["name"]: e for e in self.arguments if e["kind"] in _runtime.STATE_KINDS}
        if differ := sorted(states.keys() ^ tensors.keys()):
            where = "lacks" if differ[0] in states else "has, and this package has not,"
            raise Error(f"'{path}' {where} '{differ[0]}'")
        for name, entry in states.items():
            if tensors[name].shape != entry["shape"] or tensors[name].dtype != _numpy_dtype(entry["dtype"]):
                raise Error(
                    f"'{path}': '{name}' is {list(tensors[name].shape)} {tensors[name].dtype}, "
                    f"expected {list(entry['shape'])} {entry['dtype']}"
                )
        for name, value in tensors.items():
            self.set(name, value)
        self._library.mpt_cuda_step_number().contents.value = int(metadata["step"])

    def export_weights(self, path: str | os.PathLike[str]) -> None:
        """Writes the parameters under their names (safetensors, as from_pretrained reads)."""
        self._write(path, self.parameters(), {"format": "pt"})

    @staticmethod
    def _write(path: str | os.PathLike[str], tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        from safetensors.numpy import save_file

        with staged(path) as inner:
            save_file(tensors, inner, metadata=metadata)

    def _check(self, status: int) -> None:
        if status:
            raise Error(self._library.mpt_cuda_last_error().decode(errors="replace"))
