# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Memory of whole steps: plans of BERTs up to large lose little between tensors, and say what for."""

from __future__ import annotations

import json

import pytest
from bert_graph import Bert
from models import Shape
from mpt import stages

TINY = Shape(2, 64, 2, 256, 512, 2, 16, 64)
BASE = Shape(12, 768, 12, 3072, 30528, 64, 512, 512)
LARGE = Shape(24, 1024, 16, 4096, 30528, 64, 512, 512)
CATEGORIES = ("parameters", "optimizer", "scales", "batch")
ARENA = ("copies", "saved", "gradients", "workspace")


def parameter_count(shape: Shape) -> int:
    """Parameters of the graph, counted by hand: words; layers; head; decoder's bias."""
    h, f = shape.hidden, shape.ffn
    layer = 4 * (h * h + h) + 2 * h + (h * f + f) + (f * h + h) + 2 * h
    return shape.vocab * h + 2 * h + shape.layers * layer + (h * h + h) + 2 * h + shape.vocab


def manifest_of(shape: Shape, policy: str, directory) -> dict:
    graph, step = directory / "graph.mlir", directory / "step.mlir"
    graph.write_text(Bert(shape).text())
    stages.optimise(
        graph, step, ["--mpt-differentiate", "--mpt-add-optimizer", f"--assign-precision=policy={policy}"]
    )
    stages.build(step, directory / "cuda", "cuda")
    return json.loads((directory / "cuda" / "manifest.json").read_text())


@pytest.mark.parametrize("policy", ["bf16", "uniform"])
@pytest.mark.parametrize("shape", [TINY, BASE, LARGE], ids=["tiny", "base", "large"])
def test_plans_are_near_the_least_possible(shape, policy, tmp_path, capfd):
    manifest = manifest_of(shape, policy, tmp_path)
    memory = manifest["memory"]
    assert memory["parameters"] == 4 * parameter_count(shape)
    assert memory["optimizer"] == 2 * memory["parameters"] + 8  # and the two corrections
    assert sum(memory[name] for name in ARENA) == memory["live"]
    assert memory["live"] <= manifest["arena_bytes"] <= 1.05 * memory["live"]
    assert memory["total"] == sum(memory[name] for name in CATEGORIES) + manifest["arena_bytes"]
    assert memory["total"] <= manifest["memory_bytes"] <= memory["total"] + 2**20
    assert memory["peak_at"] in {launch["name"] for launch in manifest["launches"]}
    assert memory["saved"] > 0
    if shape is LARGE:  # fits in 80 GB, with room
        assert manifest["memory_bytes"] < 60 * 10**9
    assert "saved for the backward pass" in capfd.readouterr().out
