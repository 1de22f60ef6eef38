# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Launches and bytes of one layer of BERT's step against a list of ideal kernels.

The bounds are what is so now (docs/fusion.md says what is missing); they may only go down.
"""

from __future__ import annotations

import re
import subprocess

import pytest
from ideal_layer import Layer, ideal_kernels
from models import SHAPES
from mpt import stages

BATCH, SEQ = 16, 64


@pytest.fixture(scope="module")
def report(store, tmp_path_factory) -> str:
    """What --mpt-fusion-report says of tiny A at 1,024 tokens, uniform FP8 with delayed scales."""
    directory = tmp_path_factory.mktemp("report")
    graph, step = directory / "graph.mlir", directory / "step.mlir"
    stages.import_model(store.path("tinyA_dynamic"), graph, bind={"batch": BATCH, "seq": SEQ})
    passes = ("--mpt-differentiate", "--mpt-add-optimizer", "--assign-precision=policy=uniform")
    stages.optimise(graph, step, passes)
    step.write_text(step.read_text().replace("recipe = current", "recipe = delayed, history = 16"))
    command = [stages.find_tool("mpt-opt"), step, "--mpt-cuda-pipeline", "--mpt-fusion-report", "-o", "/dev/null"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def layer_of(report: str, name: str) -> dict[str, tuple[int, int]]:
    """Return (launches, bytes) of each class of one layer."""
    block = re.search(rf"^{re.escape(name)}: .*\n((?:  .*\n)+)", report, re.MULTILINE)[1]
    return {kind: (int(n), int(size)) for kind, n, size in re.findall(r"  (\w+) (\d+), (\d+) bytes", block)}


def test_launches_of_a_layer(report):
    layer = layer_of(report, "layer.1")
    assert layer["products"][0] <= 24
    # 15 fused ones, and the sums over chunks of 10 gradients with their share of the norm.
    assert layer["kernels"][0] <= 25
    # Six weights (the optimizer's to write), the context and the BF16 gradient of it.
    assert layer["stand_alone"][0] <= 8


def test_no_pass_only_transposes_or_finds_an_amax(report):
    alone = re.findall(r"^stand_alone '(.*)' reads .*: (.*)$", report, re.MULTILINE)
    assert alone
    for name, ops in alone:
        assert "quantize" in ops.split(), name


def test_bytes_of_a_layer(report):
    shape = SHAPES["tinyA"]
    ideal = ideal_kernels(Layer(BATCH * SEQ, shape.hidden, shape.ffn, shape.heads))
    assert len(ideal) == 20
    moved = sum(size for _, size in layer_of(report, "layer.1").values())
    ratio = moved / sum(size for _, size in ideal)
    assert 1 < ratio < 2.6, ratio
