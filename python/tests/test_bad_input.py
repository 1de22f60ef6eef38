# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Input that is refused: exit code 1, a message that names the thing, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import Graph
from mpt import data, stages
from mpt.cli import main
from mpt.runtime import Error, Package
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def refused(tmp_path, capfd):
    """Return a function that runs mptc, checks that it refused, and returns what it said."""

    def run(*arguments: object, output: Path | None = None) -> str:
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        options = ["-o", output or folder / "result"] if output is not False else []
        code = main([str(argument) for argument in (*arguments, *options)])
        message = capfd.readouterr().err
        assert code == 1, message
        assert not list(folder.iterdir()), "something was left behind"
        assert "Traceback" not in message and message.strip()
        return message

    return run


# ONNX files.


@pytest.fixture(scope="session")
def bad_models(tmp_path_factory) -> Path:
    """The importer's own bad files, one a case."""
    path = tmp_path_factory.mktemp("bad") / "in"
    script = ROOT / "test" / "Frontend" / "ONNX" / "Inputs" / "models.py"
    subprocess.run([sys.executable, script, path], check=True)
    return path


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("absent", ["absent.onnx", "No such file"]),
        ("text", ["text.onnx", "not an ONNX model"]),
        ("truncated", ["truncated.onnx", "truncated"]),
        ("unsupported", ["node 'node_y'", "Cumsum", "domain ai.onnx", "opset 20", "unsupported op"]),
        ("domain", ["node 'node_y'", "FusedMatMul", "domain com.microsoft", "unsupported op"]),
        ("external-missing", ["tensor 'fc.weight'", "'nowhere.bin' is missing"]),
        ("external-parent", ["tensor 'fc.weight'", "leaves the model's directory"]),
        ("external-link", ["'link.bin'", "leaves the model's directory"]),
        ("huge-dims", ["tensor 'a.bias'", "integer overflow"]),
        ("overflow", ["node 'node_s'", "integer overflow"]),
        ("cycle", ["node 'node_a'", "the graph is cyclic"]),
        ("merged-bias", ["parameter 'fc1.bias'", "merged", "mpt.export(model, batch)"]),
    ],
)
def test_models(refused, bad_models, tmp_path, name, parts):
    message = refused("import", bad_models / f"{name}.onnx", output=tmp_path / "out" / "graph.mlir")
    for part in parts:
        assert part in message


def test_what_exporters_do_by_default(refused, store, tmp_path):
    message = refused("import", store.path("tinyA_bad"), output=tmp_path / "out" / "graph.mlir")
    assert "mpt.export(model, batch)" in message


def test_unbound_axes_are_listed(refused, store, tmp_path):
    out = tmp_path / "out" / "graph.mlir"
    message = refused("import", store.path("tinyA_dynamic"), output=out)
    assert "--bind batch=" in message and "--bind seq=" in message
    message = refused("import", store.path("tinyA_dynamic"), "--bind", "batch=2", "--bind", "length=4", output=out)
    assert "--bind seq=" in message and "--bind batch=" not in message
    more = ("--bind", "batch=2", "--bind", "seq=16", "--bind", "length=4")
    assert "length" in refused("import", store.path("tinyA_dynamic"), *more, output=out)


# Graphs and metrics.


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """A small step and its package: an embedding, a product, labels."""
    path = tmp_path_factory.mktemp("compiled")
    g = Graph()
    numbers = [
        g.input(np.array([[0, 1, 2], [4, 3, 2]]), more=", mpt.range = array<i64: 0, 5>"),
        g.random((2, 3, 4)),
    ]
    rows = g.op("gather", [g.parameter((5, 4)), numbers[0]], lambda t, i: t[i])
    moved = g.op("add", [rows, numbers[1]], lambda a, b: a + b)
    g.add_to_loss(g.op("matmul", [moved, g.parameter((4, 2))], lambda a, b: a @ b))
    g.build(path).close()
    np.savez(path / "batch.npz", **g.batch)
    return path


def batch_of(compiled: Path) -> dict[str, np.ndarray]:
    return dict(np.load(compiled / "batch.npz"))


def test_graphs(refused, tmp_path):
    graph, out = tmp_path / "graph.mlir", tmp_path / "out" / "step.mlir"
    graph.write_text("func.func @forward(")
    assert f"{graph}:1:" in refused("differentiate", graph, output=out)
    graph.write_text("func.func @other() { return }\n")
    assert "@forward" in refused("differentiate", graph, output=out)
    assert "absent.mlir" in refused("differentiate", tmp_path / "absent.mlir", output=out)
    assert "@step" in refused("build", graph)


def test_metrics_of_another_graph(refused, compiled, tmp_path):
    metrics, out = tmp_path / "metrics.json", tmp_path / "out" / "assigned.mlir"
    text = {"format": "mpt-metrics", "version": 2, "graph_hash": "0123456789abcdef", "engine": "blas", "batches": 1,
            "points": [{"step": 0, "batches": 1}], "complete": True, "columns": {}, "formats": [], "candidates": [],
            "products": [], "probes": []}  # fmt: skip
    arguments = ("assign", compiled / "step.mlir", "--metrics", metrics, "--record", tmp_path / "out" / "record.json")
    for broken, part in (
        ("{", "metrics.json"),
        (json.dumps(text | {"version": 99}), "version"),
        (json.dumps(text | {"version": 1}), "profile again"),
        (json.dumps(text), "0123456789abcdef"),
    ):
        metrics.write_text(broken)
        assert part in refused(*arguments, output=out)
    metrics.unlink()
    assert "metrics.json" in refused(*arguments, output=out)


def test_products_without_metrics_are_named(refused, compiled, tmp_path):
    message = refused("assign", compiled / "step.mlir", output=tmp_path / "out" / "assigned.mlir")
    assert "metrics" in message and "v2" in message


# Packages and checkpoints.


def edited(compiled: Path, tmp_path: Path, **changes: object) -> Path:
    """Return a copy of the package whose manifest has other members."""
    path = tmp_path / "package"
    shutil.copytree(compiled / "package", path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"graph_hash": "0123456789abcdef"}, "graph_hash"),
        ({"kernels_hash": "0123456789abcdef"}, "kernels"),
        ({"version": 99}, "version"),
        ({"cpu": {"arch": "x86_64", "features": ["no-such-feature"]}}, "no-such-feature"),
    ],
)
def test_manifests(compiled, tmp_path, changes, part):
    with pytest.raises(Error, match=part):
        Package(edited(compiled, tmp_path, **changes))


def test_checkpoints(compiled, store, tmp_path):
    foreign, cut = tmp_path / "foreign.safetensors", tmp_path / "cut.safetensors"
    with Package(compiled / "package") as package:
        package.save(tmp_path / "own.safetensors")
        values = load_file(tmp_path / "own.safetensors")
        save_file(values, foreign, metadata={"format": "pt"})
        cut.write_bytes((tmp_path / "own.safetensors").read_bytes()[:-8])
        before = package.state()
        for path in (foreign, cut, tmp_path / "absent.safetensors"):
            with pytest.raises(Error, match=path.name):
                package.load(path)
        for name, value in package.state().items():
            np.testing.assert_array_equal(value, before[name])


# Batches.


def test_batches(compiled):
    good = batch_of(compiled)
    with Package(compiled / "package") as package:
        for name, value, parts in (
            ("x0", good["x0"][:, :2], ["x0", "2x2", "2x3"]),
            ("x0", good["x0"].astype(np.int32), ["x0", "int32", "int64"]),
            ("x0", good["x0"] + 1, ["x0", "5"]),
            ("x0", good["x0"] - 1, ["x0", "-1"]),
            ("x1", good["x1"] * np.float32("nan"), ["x1", "nan"]),
        ):
            before = package.state()
            with pytest.raises(Error) as error:
                package.step(good | {name: value}, lr=1e-3)
            for part in parts:
                assert part in str(error.value).lower()
            assert package.step_number == 0
            for key, state in package.state().items():
                np.testing.assert_array_equal(state, before[key])
        with pytest.raises(Error, match="x1"):
            package.step({"x0": good["x0"]}, lr=1e-3)


def test_ids_out_of_range(tmp_path):
    """Ranges come from the tables that the exported model looks ids up in."""
    import models
    from mpt.export import export

    shape = models.Shape(1, 32, 2, 64, 50, 2, 8, 16)
    batch = {key: value.numpy() for key, value in models.make_batch(shape).items()}
    batch["position_ids"] = np.tile(np.arange(8), (2, 1))
    export(models.build(shape), batch, tmp_path / "model.onnx")
    stages.import_model(tmp_path / "model.onnx", tmp_path / "graph.mlir")
    stages.differentiate(tmp_path / "graph.mlir", tmp_path / "step.mlir")
    stages.build(tmp_path / "step.mlir", tmp_path / "package", "cpu")
    with Package(tmp_path / "package") as package:
        for name, size in (("input_ids", 50), ("token_type_ids", 2), ("position_ids", 16), ("labels", 50)):
            for value in (size, -1, 2**40):
                bad = {key: array.copy() for key, array in batch.items()}
                bad[name][1, 3] = value
                with pytest.raises(Error) as error:
                    package.step(bad, lr=1e-3)
                assert name in str(error.value) and str(value) in str(error.value)
        assert package.step_number == 0
        assert np.isfinite(package.step(batch, lr=1e-3)["loss"])


@pytest.fixture(scope="module")
def bert(store, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    stages.import_model(store.path("tinyA"), path / "graph.mlir")
    stages.differentiate(path / "graph.mlir", path / "step.mlir")
    stages.build(path / "step.mlir", path / "package", "cpu")
    return path / "package"


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("input_ids", 512, ["input_ids", "512"]),
        ("labels", 600, ["labels", "600"]),
        ("token_type_ids", 2, ["token_type_ids", "2"]),
        ("shape", None, ["input_ids", "2x8", "2x16"]),
        ("empty", None, ["labels"]),
    ],
)
def test_training_batches(refused, bert, store, tmp_path, name, value, parts):
    tensors = {k.removeprefix("batch."): v for k, v in store.reference("tinyA").items() if k.startswith("batch.")}
    tensors = {key: value[None].copy() for key, value in tensors.items()}
    if name == "shape":
        tensors = {key: np.ascontiguousarray(v[:, :, :8]) for key, v in tensors.items()}
    elif name == "empty":
        tensors["labels"][:] = -100
    else:
        tensors[name][0, 0, 1] = value
    metadata = {"format": data.FORMAT, "version": data.VERSION, "vocab_size": "30522", "ignore_index": "-100"}
    save_file(tensors, tmp_path / "batches.safetensors", metadata=metadata)
    out = tmp_path / "out"
    options = ("--steps", 1, "--log", out / "log.jsonl", "--checkpoint", out / "checkpoint.safetensors")
    message = refused("train", bert, "--data", tmp_path / "batches.safetensors", *options, output=False)
    for part in parts:
        assert part in message
