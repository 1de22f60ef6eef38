# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Reading, showing and comparing metrics files; test_profile.py has how they are made."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from mpt import metrics, metrics_show
from mpt.metrics import MetricsError, Summary

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs/metrics.schema.json").read_text())


def scaled(storage, scale="per_tensor", rounding="nearest", recipe="current", **more):
    return {"storage": storage, "scale": scale, "recipe": recipe, "rounding": rounding} | more


BF16 = scaled("bf16", "none", recipe="none")


def tensor_point(nonfinite=0):
    return {
        "amax": [2.0, 0.5, 1.5, 2.5], "min_nonzero": 1e-6, "mean": 0.0, "std": 1.0, "kurtosis": 3.0,
        "exponents": [-3, [1, 0, 2]], "zeros": 0.25, "nonfinite": nonfinite,
        "rows": [0.5, 1.0, 2.5], "columns": [0.5, 1.0, 2.5],
    }  # fmt: skip


def file_of(wgrad_median=0.01):
    """A small metrics file of two points, as data."""
    fprop = [[0.5, 0.1, 0.4, 0.6], 1, 0.01, 0.125]
    wgrad = [[wgrad_median, 1e-4, wgrad_median * 0.75, wgrad_median * 1.25], 0.5, [0.25, 0.1, 0.125, 0.5], 0.03]
    return {
        "format": "mpt-metrics", "version": 2, "graph_hash": "0123456789abcdef", "engine": "blas",
        "sampling": {"rows": 256, "columns": 256, "seed": 0, "sketch": 0}, "complete": True, "batches": 4,
        "points": [
            {"step": step, "batches": 4, "loss": [2.0, 0.1, 1.9, 2.1], "gradient_signal": 4.0, "gradient_noise": 8.0}
            for step in (0, 100)
        ],
        "columns": {
            "fprop": ["be_median", "be_p99", "rel_var", "loss_mse"], "dgrad": ["be_median", "be_p99"],
            "wgrad": ["be_median", "be_p99", "rel_var", "persistent"],
        },
        "formats": [scaled("f8E4M3FN"), scaled("i8", "per_row", "stochastic"), scaled("i8", "per_column"), BF16],
        "candidates": [[0, 0], [1, 2], [3, 0]],
        "tensors": [
            {"name": f"encoder.layer.7.dense/{part}", "points": [tensor_point(), tensor_point(3 * (part == "grad"))]}
            for part in ("lhs", "rhs", "grad")
        ],
        "products": [
            {"name": "encoder.layer.7.dense", "role": "fprop", "m": 8, "n": 4, "k": 16, "batch": 1, "lhs": 0, "rhs": 1,
             "gradient": 2, "candidates": [0, 1], "worst": 1,
             "points": [{"excluded": 0, "values": [fprop, fprop]}] * 2},
            {"name": "encoder.layer.7.dense/wgrad", "role": "wgrad", "m": 16, "n": 4, "k": 8, "batch": 1, "lhs": 0,
             "rhs": 2, "candidates": [0], "worst": 0,
             "points": [{"excluded": 0, "signal": 2.0, "values": [wgrad]},
                        {"excluded": 0.5, "signal": None, "values": [[0.02, 0.5, None, [-0.5, None, None, None]]]}]},
        ],
        "probes": [
            {"role": "wgrad", "layer": 7, "products": 1, "candidate": "i8*i8[stochastic]", "formats": [2, 1],
             "points": [{"rel_var": 0.5, "noise_ratio": 0.25, "persistent": [1e-3, 1e-4, -1e-4, 2e-3], "loss_change": 0}] * 2},
        ],
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(content, name="metrics.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_the_example_fits_the_schema():
    jsonschema.validate(file_of(), SCHEMA)
    for key in SCHEMA["required"]:
        broken = {name: value for name, value in file_of().items() if name != key}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_load(written):
    found = metrics.load(written(file_of()))
    assert found.at_steps == [0, 100] and found.points[0].loss == Summary(2.0, 0.1, 1.9, 2.1)
    forward, backward = found.products
    assert forward.layer == 7 and forward.gradient.name == "encoder.layer.7.dense/grad"
    assert backward.lhs is forward.lhs and backward.gradient is None
    assert forward.lhs.points[0].exponents == {-3: 1, -1: 2}
    entry = backward.points[0].candidates[0]
    assert entry["rel_var"] == Summary(0.25, 0.1, 0.125, 0.5)
    assert entry["noise_ratio"] == Summary(0.5, 0.2, 0.25, 1.0)  # times the signal
    decibels = entry["sqnr_db"]
    assert decibels.mean == pytest.approx(6.0206, rel=1e-5)
    assert (decibels.low, decibels.high) == (pytest.approx(3.0103, rel=1e-5), pytest.approx(9.0309, rel=1e-5))
    assert entry["loss_mse"] == Summary() and entry["persistent"].mean == 0.03
    later = backward.point(100).candidates[0]
    assert later["noise_ratio"].mean is None and later["persistent"] == Summary(-0.5, None, None, None)
    assert backward.point() is backward.points[0] and backward.point(7) is None
    assert found.probes[0].layer == 7 and found.probes[0].points[1].persistent.high == 2e-3
    assert list(metrics.nonfinite(found)) == [
        "tensor 'encoder.layer.7.dense/grad' had 3 NaN or infinite elements in 4 batches at step 100"
    ]
    assert [product.role for product in found.select("*/wgrad")] == ["wgrad"]
    with pytest.raises(MetricsError, match="no product is named 'x'"):
        found.product("x")


def test_labels(written):
    found = metrics.load(written(file_of()))
    assert [candidate.label for candidate in found.products[0].candidates] == [
        "E4M3 x E4M3", "INT8 x INT8 per vector, stochastic lhs"
    ]  # fmt: skip
    pairs = {
        "BF16 x E4M3": (BF16, scaled("f8E4M3FN")),
        "INT8 x E4M3 per vector lhs": (scaled("i8", "per_row"), scaled("f8E4M3FN")),
        "E5M2 x E5M2 scale 1 lhs, delayed 16 rhs, margin 1 rhs": (
            scaled("f8E5M2", recipe="fixed", value=1.0), scaled("f8E5M2", recipe="delayed", history=16, margin=1)
        ),
        "INT8 x INT8 MX": (scaled("i8", "mx"), scaled("i8", "mx")),
    }  # fmt: skip
    for expected, (lhs, rhs) in pairs.items():
        assert metrics.label({"lhs": lhs, "rhs": rhs}) == expected


def broken(change):
    content = file_of()
    change(content)
    return content


@pytest.mark.parametrize(
    "content,why",
    [
        ("{", "not a metrics file"),
        ("[" * 100000, "not a metrics file"),
        ("[]", "format is None"),
        ({"format": "mpt-metrics", "version": 1}, "version is 1, expected 2; profile again"),
        ({"format": "mpt-metrics", "version": 3}, "version is 3, expected 2$"),
        ({"format": "mpt-metrics", "version": 2}, "damaged: 'points' is missing"),
        (broken(lambda f: f["products"][0].update(lhs=9)), "damaged: list index out of range"),
        (broken(lambda f: f["products"][0]["points"].pop()), "damaged: zip"),
        (broken(lambda f: f["products"][0]["points"][0]["values"][0].pop()), "damaged: zip"),
        (broken(lambda f: f["formats"][0].update(colour="red")), "damaged: .*colour"),
        (broken(lambda f: f.update(tensors=3)), "damaged: "),
    ],
)
def test_damaged_files(written, content, why):
    with pytest.raises(MetricsError, match=why):
        metrics.load(written(content))


def test_differences(written):
    first = metrics.load(written(file_of()))
    second = metrics.load(written(file_of(wgrad_median=0.04), "second.json"))
    found = metrics_show.differences(first, second)
    assert (found[0].product.name, found[0].metric) == ("encoder.layer.7.dense/wgrad", "be_median")
    assert found[0].ratio == pytest.approx(4) and all(other.ratio == 1 for other in found[1:])
    between = metrics_show.differences(first, first, (0, 100))
    assert between[0].ratio == pytest.approx(2) and between[0].metric == "be_median"
    # Of a metric without a value, or not above zero, there is no ratio.
    assert {d.metric for d in between if d.product.role == "wgrad"} == {"be_median"}
    assert {d.product.role for d in metrics_show.differences(first, second, pattern="*dense")} == {"fprop"}


def test_what_cannot_be_compared(written):
    first = metrics.load(written(file_of()))
    other = copy.deepcopy(file_of()) | {"graph_hash": "f" * 16}
    with pytest.raises(MetricsError, match="two graphs: graph_hash 0123456789abcdef and ffffffffffffffff"):
        metrics_show.differences(first, metrics.load(written(other, "other.json")))
    with pytest.raises(MetricsError, match="no point at step 7"):
        metrics_show.differences(first, first, (0, 7))
    with pytest.raises(MetricsError, match="no product that matches 'x' has a metric in both"):
        metrics_show.differences(first, first, pattern="x")


def test_commands(mptc, written):
    path, second = written(file_of()), written(file_of(0.04), "second.json")
    shown = mptc("metrics", "show", path)
    assert shown.returncode == 0, shown.stderr
    assert all(word in shown.stdout for word in ("±20%", "step 100 (worst)", "wgrad layer 7 (1)", "loss MSE", "i8*i8[stochastic]"))
    compared = mptc("metrics", "diff", path, second, "--limit", 1)
    assert compared.returncode == 0 and "largest 1 of 6 ratios" in compared.stdout and " 4 " in compared.stdout
    between = mptc("metrics", "diff", path, "--at-steps", "0,100")
    assert between.returncode == 0 and "be_median" in between.stdout
    for arguments, why in (
        ((path,), "expected two files, or one and --at-steps"),
        ((path, "--at-steps", "0,7"), "no point at step 7"),
        ((path, path.parent / "none.json"), "none.json"),
    ):
        failed = mptc("metrics", "diff", *arguments)
        assert failed.returncode == 1 and why in failed.stderr and "Traceback" not in failed.stderr
