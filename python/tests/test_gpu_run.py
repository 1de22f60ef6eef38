# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""bench/gpu without a GPU: what is prepared is checked in simulation, wrong kernels are noticed, pages are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import Graph
from mpt import cuda, stages
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench" / "gpu"))

import replay  # noqa: E402
import report  # noqa: E402

PASSES = ("--mpt-differentiate", "--mpt-add-optimizer", "--assign-precision=policy=bf16")
LR = 1e-3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """What prepare.py writes, of a step with three products."""
    out = tmp_path_factory.mktemp("prepared")
    package, work = out / "check" / "tiny", tmp_path_factory.mktemp("work")
    package.parent.mkdir()
    g = Graph()
    g.add_to_loss(g.op("matmul", [g.random((16, 32)), g.parameter((32, 48))], lambda a, b: a @ b))
    (work / "graph.mlir").write_text(g.text())
    values = {name: value.detach().numpy().astype(np.float32) for name, value in g.parameters.items()}
    save_file(values, work / "graph.safetensors")
    stages.optimise(work / "graph.mlir", work / "step.mlir", PASSES)
    stages.build(work / "step.mlir", package, "cuda")
    cuda.compile_package(package, simulate=True)
    with cuda.CudaPackage(package, simulate=True) as opened:
        losses = [opened.step(g.batch, LR)["loss"] for _ in range(3)]
        dump = replay.Dump(opened)
        dump.step()
        dump.save(package / "launches.safetensors")
    batch = {f"batch.{name}": value for name, value in g.batch.items()}
    save_file({"losses": np.array(losses), **batch}, package / "oracle.safetensors")
    entry = {"package": "measure/none", "model": "base", "layers": 12, "hidden": 768, "batch": 64, "seq": 512}
    entry |= {"policy": "uniform", "products": "cublaslt", "errors": ""}
    plan = {"lr": LR, "check": [{"package": "check/tiny", "policy": "bf16"}], "measure": [entry]}
    (out / "plan.json").write_text(json.dumps(plan))
    return out


def run(prepared: Path, results: Path, *options: str) -> subprocess.CompletedProcess:
    command = [ROOT / "bench" / "gpu" / "run.sh", prepared, "--results", results, *options]
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_dry_run_goes_as_far_as_it_can(prepared, tmp_path):
    said = run(prepared, tmp_path, "--dry-run", "--no-compile")
    assert said.returncode == 0, said.stdout + said.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    (check,) = results["checks"]
    assert check["on"] == "simulator" and check["failures"] == []
    assert check["checked"]["product"] == 2 and check["checked"]["kernel"] > 0
    assert check["loss_difference"] == 0.0
    assert results["steps"][0]["not_measured"] == "dry run"
    assert not (tmp_path / "tuning-h200.json").exists()
    page = report.page(results)
    assert "**Not measured** (dry run)." in page and "## BERT-base, 64 x 512" in page
    assert "| mpt, uniform | cublaslt | not measured: dry run |" in page


def test_wrong_results_are_noticed(prepared, tmp_path):
    package = prepared / "check" / "tiny"
    tensors, oracle = load_file(package / "launches.safetensors"), load_file(package / "oracle.safetensors")
    launches = json.loads((package / "manifest.json").read_text())["launches"]
    wrong = dict(tensors)
    for op in ("kernel", "product"):
        name = next(n for n in tensors if ".after." in n and launches[int(n.split(".")[0])]["op"] == op)
        wrong[name] = tensors[name].copy()
        wrong[name][3] ^= 0x40 if op == "product" else 1
    with cuda.CudaPackage(package, simulate=True) as opened:
        batch = {name.removeprefix("batch."): value for name, value in oracle.items() if name.startswith("batch.")}
        for dumped, failures in ((tensors, 0), (wrong, 2)):
            save_file(dumped, tmp_path / "dump", metadata={"graph_hash": opened.graph_hash})
            opened.step(batch, LR)
            checker = replay.Check(opened, replay.Host(), tmp_path / "dump")
            checker.step()
            assert len(checker.failures) == failures, checker.failures
        assert any("bytes differ" in one for one in checker.failures)
        assert any("relative error" in one for one in checker.failures)
        save_file(wrong, tmp_path / "dump", metadata={"graph_hash": "0"})
        with pytest.raises(RuntimeError, match="of another graph"):
            replay.Check(opened, replay.Host(), tmp_path / "dump")


def test_a_failed_check_is_a_failed_run(prepared, tmp_path):
    oracle_file = prepared / "check" / "tiny" / "oracle.safetensors"
    oracle = load_file(oracle_file)
    try:
        save_file(oracle | {"losses": oracle["losses"] * 1.1}, oracle_file)
        said = run(prepared, tmp_path, "--dry-run", "--no-compile")
    finally:
        save_file(oracle, oracle_file)
    assert said.returncode == 1 and "the loss differs by 9.1e-02 of itself" in said.stdout


def test_a_machine_without_gpu_says_so(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    said = run(prepared, tmp_path / "results", "--no-compile")
    assert said.returncode == 0
    assert "no GPU: nvidia-smi: No devices were found" in (tmp_path / "results" / "gpu.json").read_text()


STEP = """
func.func @step(%w: tensor<2x32x16xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                %x: tensor<2x8x32xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>})
    -> (tensor<2x8x16xf32> {mpt.name = "y"}) {
  %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>}
    : (tensor<2x8x32xf32>, tensor<2x32x16xf32>) -> tensor<2x8x16xf32>
  return %0 : tensor<2x8x16xf32>
}
"""
LAUNCHES = [
    {"name": "layer.0.dense", "us": 10.0, "roofline_us": 5.0},
    {"name": "layer.1.dense", "us": 12.0, "roofline_us": 5.0},
    {"name": "loss", "us": 1.0, "roofline_us": 0.1},
]


def test_pages_and_tables_of_measurements(tmp_path):
    import run as gpu_run

    launch = {"op": "product", "m": 8, "n": 16, "k": 32, "batch": [1, 2], "lhs": {"dtype": "bf16"}, "rhs": {"dtype": "bf16"}}
    launches = [launch | {"name": "layer.0.dense"}, launch | {"name": "layer.1.dense"}, {"op": "kernel", "name": "loss"}]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "manifest.json").write_text(json.dumps({"launches": launches}))
    step = {
        "package": "one", "model": "base", "batch": 2, "seq": 8, "policy": "bf16", "products": "cublaslt", "errors": "", "ms": 1.5,
        "ms_min": 1.4, "ms_max": 1.6, "launches_ms": 0.023, "roofline_ms": 0.01, "memory_bytes": 2**30, "launches": LAUNCHES,
    }  # fmt: skip
    table = gpu_run.tuning_table(tmp_path, [step])
    assert table["products"] == [{"m": 8, "n": 16, "k": 32, "batch": 2, "lhs": "bf16", "rhs": "bf16", "us": 11.0}]
    # The compiler reads what is written.
    (tmp_path / "table.json").write_text(json.dumps(table))
    (tmp_path / "step.mlir").write_text(STEP)
    options = f"--assign-precision=policy=bf16 tuning={tmp_path / 'table.json'} record={tmp_path / 'record.json'}"
    stages.run_tool("mpt-opt", [tmp_path / "step.mlir", options, "-o", tmp_path / "assigned.mlir"])
    (product,) = json.loads((tmp_path / "record.json").read_text())["products"]
    assert (product["us"], product["measured"]) == (11.0, True)
    baseline = {"model": "base", "batch": 2, "seq": 8, "name": "torchao float8", "not_measured": "torchao is not installed"}
    results = {"machine": {"name": "H200"}, "compiled": [{"package": "one", "seconds": 3.0}], "checks": [], "steps": [step]}
    page = report.page(results | {"baselines": [baseline]})
    assert "| mpt, bf16 | cublaslt | 1.50 (1.40 to 1.60) | 0.02 | 0.01 | 1.0 GiB |" in page
    assert "| layer.N.dense | 2 | 11.0 | 5.0 | 0.45 | 0.02 |" in page
    assert "not measured: torchao is not installed" in page
