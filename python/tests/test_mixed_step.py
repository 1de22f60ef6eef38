# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""A step under an assignment computes what NumPy computes from operands rounded by ml_dtypes.

From assignment to the CPU package: casts, scales, codes and their decoding. Gradients are those
of the rounded operands (straight-through): each product reads its own operands' formats.
"""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from graphs import GRADIENT_PASSES, Graph, gradients
from mpt import stages
from mpt.runtime import Package
from safetensors.numpy import save_file

M, K, N = 32, 48, 16
DTYPES = {"f8E4M3FN": (ml_dtypes.float8_e4m3fn, 448.0), "f8E5M2": (ml_dtypes.float8_e5m2, 57344.0)}


def rounded(x: np.ndarray, storage: str) -> np.ndarray:
    """Return x held in `storage`: the scale contract of docs/numerics.md."""
    if storage == "f32":
        return x.astype(np.float64)
    if storage == "bf16":
        return x.astype(ml_dtypes.bfloat16).astype(np.float64)
    dtype, maximum = DTYPES[storage]
    scale = np.float32(maximum) / np.abs(x).max()
    return ((x * scale).astype(dtype).astype(np.float32) * (np.float32(1) / scale)).astype(np.float64)


def layer(directory: Path, *options: str) -> tuple[Graph, Path]:
    """Write the step of loss = sum((a·w) * c), with a = p0 + x0, under an assignment."""
    graph = Graph(seed=7)
    a = graph.op("add", [graph.parameter([M, K]), graph.random([M, K])], torch.add)
    y = graph.op("matmul", [a, graph.parameter([K, N])], torch.matmul)
    graph.add_to_loss(y)
    (directory / "graph.mlir").write_text(graph.text())
    values = {name: value.detach().numpy().astype(np.float32) for name, value in graph.parameters.items()}
    save_file(values, directory / "graph.safetensors")
    passes = [*GRADIENT_PASSES, f"--assign-precision={' '.join(options)}"]
    stages.optimise(directory / "graph.mlir", directory / "step.mlir", passes)
    return graph, directory / "step.mlir"


CASES = {
    "fp32": (["policy=fp32"], ["f32"] * 6),
    "bf16": (["policy=bf16"], ["bf16"] * 6),
    "uniform": (["policy=uniform"], ["f8E4M3FN", "f8E4M3FN", "f8E5M2", "f8E4M3FN", "f8E4M3FN", "f8E5M2"]),
    "pins": (
        ["policy=fp32", "pin=v1=bf16,*/wgrad=f8E5M2/f8E4M3FN"],
        ["bf16", "bf16", "f32", "f32", "f8E5M2", "f8E4M3FN"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_step_is_that_of_rounded_operands(tmp_path: Path, case: str) -> None:
    options, storages = CASES[case]
    record = tmp_path / "decisions.json"
    graph, step = layer(tmp_path, *options, f"record={record}")
    # The record says what the case expects: lhs and rhs of fprop, dgrad and wgrad.
    products = {p["role"]: p["chosen"] for p in json.loads(record.read_text())["products"]}
    chosen = [products[role][side]["storage"] for role in ("fprop", "dgrad", "wgrad") for side in ("lhs", "rhs")]
    assert chosen == storages

    stages.build(step, tmp_path / "package", "cpu", "reference")
    loss, grads = gradients(Package(tmp_path / "package", threads=2), graph.batch)
    p0, p1 = (graph.parameters[name].detach().numpy().astype(np.float32) for name in ("p0", "p1"))
    a, c = p0 + graph.batch["x0"], graph.batch["x1"]
    fprop = rounded(a, storages[0]) @ rounded(p1, storages[1])
    dgrad = rounded(c, storages[2]) @ rounded(p1, storages[3]).T
    wgrad = rounded(a, storages[4]).T @ rounded(c, storages[5])
    assert loss == pytest.approx((fprop * c).sum(), rel=1e-5)
    for found, expected in ((grads["p0"], dgrad), (grads["p1"], wgrad)):
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


def test_all_zero_operand(tmp_path: Path) -> None:
    """An amax of 0 gives scale 1: no NaN comes out."""
    graph, step = layer(tmp_path, "policy=uniform")
    stages.build(step, tmp_path / "package", "cpu", "reference")
    package = Package(tmp_path / "package", threads=2)
    package.set("p1", np.zeros((K, N), np.float32))
    loss, grads = gradients(package, graph.batch)
    assert loss == 0
    assert not grads["p0"].any() and np.isfinite(grads["p1"]).all()
