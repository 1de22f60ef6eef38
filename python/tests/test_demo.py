# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The whole job on a very small model: every stage, every file it leaves, and the table at its end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
from mpt import demo
from mpt.stages import find_tool

SMALL = demo.DemoModel(
    hidden=32, layers=1, heads=2, intermediate=64, vocab=400, positions=64, batch=2, seq=32
)
DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_whole_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MPT_CUBLAS_DIR", str(tmp_path))  # nvcc has tests of its own
    corpus, out = tmp_path / "corpus", tmp_path / "demo"
    corpus.mkdir()
    for number, page in enumerate(sorted(DOCS.glob("*.md"))):
        (corpus / f"{number}.rst.txt").write_text(page.read_text())
    runs = demo.run(out, steps=6, spec=SMALL, corpus=corpus)

    for name in demo.LEFT:
        assert (out / name).exists(), name
    losses = {name: np.array([record.loss for record in records]) for name, records in runs.items()}
    assert all(len(values) == 6 and np.isfinite(values).all() for values in losses.values())
    np.testing.assert_allclose(losses["mpt FP32"], losses["PyTorch FP32"], rtol=1e-5)
    np.testing.assert_allclose(losses["mpt assigned"], losses["PyTorch FP32"], rtol=0.05)

    decisions = json.loads((out / "decisions.json").read_text())
    rows = demo.decision_rows(decisions)
    assert {role for _, role, *_ in rows} == {"fprop", "dgrad", "wgrad"}
    assert len(rows) == len(json.loads((out / "metrics.json").read_text())["products"]) > 20
    printed = capsys.readouterr().out
    for name, role, form, metric, bound in rows:
        assert name in printed and metric.split()[0] in printed and bound in printed
    assert "CUDA sources are written and not compiled" in printed and str(out / "losses.png") in printed

    # graph.mlir needs nothing else.
    command = [find_tool("mpt-opt"), "--assign-precision", out / "graph.mlir"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.count(b"mpt.cast") > 0
