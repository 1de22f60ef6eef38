# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What a CUDA package says where it cannot run: the machine's faults, planned in the simulator."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import Graph
from mpt import cuda, stages
from mpt.cuda import BuildError, CudaPackage
from mpt.runtime import Error
from safetensors.numpy import save_file

PASSES = ("--mpt-differentiate", "--mpt-add-optimizer", "--assign-precision=policy=bf16")


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A step with three products, compiled for the simulator."""
    directory = tmp_path_factory.mktemp("errors")
    g = Graph()
    g.add_to_loss(g.op("matmul", [g.random((16, 32)), g.parameter((32, 48))], lambda a, b: a @ b))
    (directory / "graph.mlir").write_text(g.text())
    save_file({name: v.detach().numpy().astype(np.float32) for name, v in g.parameters.items()}, directory / "graph.safetensors")
    stages.optimise(directory / "graph.mlir", directory / "step.mlir", PASSES)
    stages.build(directory / "step.mlir", directory / "cuda", "cuda")
    np.savez(directory / "batch.npz", **g.batch)
    cuda.compile_package(directory / "cuda", simulate=True)
    return directory / "cuda"


def batch_of(package: Path) -> dict[str, np.ndarray]:
    return dict(np.load(package.parent / "batch.npz"))


@pytest.fixture
def failing(package):
    """Return a function that plans a failure of the simulated machine; mended at the end."""
    library = ctypes.CDLL(str((package / "libstep_sim.so").resolve()))

    def plan(text: str) -> None:
        assert library.mpt_sim_fail(text.encode()) == 0

    yield plan
    plan("")


@pytest.mark.parametrize(
    "plan, message",
    [
        ("driver=0", r"this machine has no NVIDIA driver .*: the package needs one for CUDA 13.0 or newer"),
        ("driver=12080", r"the NVIDIA driver is too old: it is for CUDA 12.8, the package needs one for CUDA 13.0"),
        ("device=8.0", r"for sm_90a, compute capability 9.0 alone; GPU 0 \(simulated\) has 8.0"),
        ("device=9.2", r"for sm_90a, compute capability 9.0 alone; GPU 0 \(simulated\) has 9.2"),
        ("free=4096", r"needs 0.00 GiB \(\d+ bytes\) of device memory, of .* are free 0.00 GiB \(4096 bytes\); .*smaller batch"),
        ("free=1048576", r"cuBLASLt's workspace needs 0.03 GiB \(33554432 bytes\) .* free 0.00 GiB \(1048576 bytes\)"),
    ],
)
def test_machines_that_cannot_run_it(package, failing, plan, message):
    failing(plan)
    with pytest.raises(Error, match=message):
        CudaPackage(package, simulate=True)
    # Nothing is left behind that would keep it from running later.
    failing("")
    with CudaPackage(package, simulate=True) as opened:
        assert np.isfinite(opened.step(batch_of(package), 1e-3)["loss"])


def test_a_driver_of_the_same_major_version_will_do(package, failing):
    failing("driver=13000")
    with CudaPackage(package, simulate=True) as opened:
        assert opened.step_number == 0


def test_a_step_that_is_refused_changes_nothing(package, failing):
    batch = batch_of(package)
    with CudaPackage(package, simulate=True) as opened:
        opened.step(batch, 1e-3)
        before = opened.state()
        failing("refuse-graph")
        with pytest.raises(Error, match="launch of the graph: cudaErrorMemoryAllocation.*the state is that of step 1$"):
            opened.step(batch, 1e-3)
        assert opened.step_number == 1
        assert all(value.tobytes() == before[name].tobytes() for name, value in opened.state().items())
        failing("")
        assert opened.step(batch, 1e-3)["step"] == 2


def test_a_fault_stays(package, failing):
    batch = batch_of(package)
    with CudaPackage(package, simulate=True) as opened:
        opened.step(batch, 1e-3)
        failing("fault=v0/wgrad")
        lost = "step 2 failed: cudaErrorIllegalAddress.*its state is lost: start a new process and load the last checkpoint"
        with pytest.raises(Error, match=lost + ".*MPT_CUDA_SYNC=1"):
            opened.step(batch, 1e-3)
        # The first error is kept, whatever is called; the number of steps is that of the last good one.
        for call in (lambda: opened.step(batch, 1e-3), lambda: opened.read("loss"), opened.state):
            with pytest.raises(Error, match=lost):
                call()
        assert opened.step_number == 1


SCRIPT = """
import ctypes, sys
from pathlib import Path
from mpt.cuda import CudaPackage
from test_cuda_errors import batch_of
package = Path(sys.argv[1])
with CudaPackage(package, simulate=True) as opened:
    opened._library.mpt_sim_fail(sys.argv[2].encode())
    opened.step(batch_of(package), 1e-3)
"""


@pytest.mark.parametrize(
    "plan, message",
    [
        ("fault=v0/wgrad", "step 1 failed: v0/wgrad: cudaErrorIllegalAddress"),
        ("refuse=v0/wgrad", "step 1 failed: v0/wgrad: cudaErrorLaunchOutOfResources"),
    ],
)
def test_launches_one_by_one_name_the_one(package, plan, message):
    kernels = [e["name"] for e in json.loads((package / "manifest.json").read_text())["launches"] if e["op"] == "kernel"]
    plan, message = plan.replace("v0/wgrad", kernels[-1]), message.replace("v0/wgrad", kernels[-1])
    environment = os.environ | {"MPT_CUDA_SYNC": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, package, plan], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    # The op, and where the source of its kernel is.
    assert message in last and ", kernel at " in last and "step.cu:" in last and "MPT_CUDA_SYNC" not in last


def test_plans_that_are_none(package):
    library = ctypes.CDLL(str((package / "libstep_sim.so").resolve()))
    for text in (b"?", b"driver=", b"device=90", b"refuse-graph=1"):
        assert library.mpt_sim_fail(text) == 1


#
# Compiling.
#


def fake_nvcc(directory: Path, says: str) -> None:
    (directory / "nvcc").write_text(f"#!/bin/sh\necho '{says}'\n")
    (directory / "nvcc").chmod(0o755)


def test_other_toolkits_are_refused(package, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cuda, "cublas_directory", lambda: tmp_path)
    fake_nvcc(tmp_path, "Cuda compilation tools, release 12.4, V12.4.131")
    with pytest.raises(BuildError, match=r"nvcc is of CUDA 12.4, expected CUDA 13 or newer"):
        cuda.compile_package(package)
    fake_nvcc(tmp_path, "hello")
    with pytest.raises(BuildError, match=r"nvcc says 'hello' of its version"):
        cuda.compile_package(package)
    assert not (package / "libstep.so").exists()


def test_what_is_missing_for_nvcc(package, monkeypatch):
    monkeypatch.setattr(cuda, "cublas_directory", lambda: None)
    monkeypatch.setattr(cuda.shutil, "which", lambda name, path=None: "/somewhere/nvcc")
    with pytest.raises(BuildError, match="cuBLAS 13 was not found .pip install nvidia-cublas"):
        cuda.compile_package(package)
    monkeypatch.setattr(cuda.shutil, "which", lambda name, path=None: None)
    with pytest.raises(BuildError, match="nvcc .CUDA 13. is not on the PATH"):
        cuda.compile_package(package)


def test_packages_for_other_architectures_are_refused(package, tmp_path):
    shutil.copytree(package, tmp_path / "other")
    manifest = tmp_path / "other" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("sm_90a", "sm_100a"))
    with pytest.raises(BuildError, match="is for sm_100a, expected sm_90a"):
        cuda.compile_package(tmp_path / "other")


def test_a_library_without_its_cublas(package, tmp_path, monkeypatch):
    shutil.copytree(package, tmp_path / "moved")
    # A library that needs cuBLAS from a directory that is gone.
    (tmp_path / "empty.c").write_text("")
    gone = tmp_path / "libcublasLt.so.13"
    subprocess.run(["gcc", "-shared", f"-Wl,-soname,{gone.name}", "-o", gone, tmp_path / "empty.c"], check=True)
    library = tmp_path / "moved" / "libstep.so"
    subprocess.run(["gcc", "-shared", "-o", library, tmp_path / "empty.c", "-Wl,--no-as-needed", gone], check=True)
    gone.unlink()
    monkeypatch.setattr(cuda, "cublas_directory", lambda: None)
    with pytest.raises(Error, match="libcublasLt.so.13: .*its products need cuBLAS 13: pip install nvidia-cublas"):
        CudaPackage(tmp_path / "moved")
    library.write_bytes(b"no library")
    with pytest.raises(Error, match="libstep.so: cannot be loaded: .*; compile the package on this machine"):
        CudaPackage(tmp_path / "moved")
