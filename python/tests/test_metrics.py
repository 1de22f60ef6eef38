# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The profiler against an independent NumPy + ml_dtypes computation, and its file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import ml_dtypes
import numpy as np
import pytest
import tiny_package as tiny
from mpt import metrics
from mpt.profile import Data, Plan, Sampling, load_data, measure_product, profile
from mpt.runtime import Error, Package
from mpt.train import Schedule
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {
    "bf16": ml_dtypes.bfloat16,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E5M2": ml_dtypes.float8_e5m2,
}
MAXIMUM = {"f8E4M3FN": 448.0, "f8E5M2": 57344.0}
SUMMARIES = ("be_median", "be_p99", "be_max", "sqnr_db", "cosine")


# The reference: written from docs/metrics.md, sharing no code with the profiler.


def quantize(x, storage):
    """The values that a format holds, and the codes' values before unscaling."""
    if storage == "bf16":
        codes = x.astype(DTYPES[storage]).astype(np.float32)
        return codes, codes
    largest = np.abs(x).max()
    usable = np.isfinite(largest) and largest > 0
    scale = np.float32(MAXIMUM[storage]) / np.float32(largest) if usable else np.float32(1)
    scale = np.minimum(scale, np.finfo(np.float32).max)
    scaled = np.clip(x * scale, -MAXIMUM[storage], MAXIMUM[storage])
    codes = scaled.astype(DTYPES[storage]).astype(np.float32)
    return codes * (np.float32(1) / scale), codes


def product_f32(lhs, rhs):
    """One f32 fma a term, k ascending."""
    result = np.zeros(lhs.shape[:-1] + rhs.shape[-1:], np.float32)
    for k in range(lhs.shape[-1]):
        term = lhs[..., :, k, None].astype(np.float64) * rhs[..., None, k, :].astype(np.float64)
        result = (result.astype(np.float64) + term).astype(np.float32)
    return result


def reference(lhs, rhs, left, right):
    """Metrics of one candidate over all elements."""
    l64, r64 = lhs.astype(np.float64), rhs.astype(np.float64)
    exact, bound = l64 @ r64, np.abs(l64) @ np.abs(r64)
    (lq, lcodes), (rq, rcodes) = quantize(lhs, left), quantize(rhs, right)
    rounded = product_f32(lq, rq).astype(np.float64)
    error = exact - rounded
    be = (np.abs(error) / np.where(bound > 0, bound, 1))[bound > 0]
    return {
        "be_median": np.median(be),
        "be_p99": np.percentile(be, 99),
        "be_max": be.max(),
        "sqnr_db": 10 * np.log10((exact**2).sum() / (error**2).sum()),
        "cosine": (exact * rounded).sum() / np.sqrt((exact**2).sum() * (rounded**2).sum()),
        "excluded": (bound == 0).mean(),
        "flushed": [((c == 0) & (x != 0)).sum() / (x != 0).sum() for x, c in ((lhs, lcodes), (rhs, rcodes))],
    }


def histogram(x):
    """Binary exponent -> count, of the nonzero elements; subnormals at -127."""
    _, exponents = np.frexp(np.abs(x[np.isfinite(x) & (x != 0)]))
    values, counts = np.unique(np.maximum(exponents - 1, -127), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def check_operand(found, x):
    finite = x[np.isfinite(x)]
    assert found["amax"]["max"] == pytest.approx(np.abs(finite).max(), rel=1e-6)
    smallest = np.abs(finite[finite != 0])
    assert found["min_nonzero"] == (pytest.approx(smallest.min(), rel=1e-6) if smallest.size else None)
    low, counts = found["exponents"]["low"], found["exponents"]["counts"]
    assert {low + i: count for i, count in enumerate(counts) if count} == histogram(x)
    assert found["zeros"] == pytest.approx((x == 0).mean(), rel=1e-6)
    assert found["nonfinite"] == x.size - finite.size


def check_point(point, lhs, rhs):
    check_operand(point["lhs"], lhs)
    check_operand(point["rhs"], rhs)
    for candidate in point["candidates"]:
        left, right = (candidate[side]["storage"] for side in ("lhs", "rhs"))
        expected = reference(lhs, rhs, left, right)
        for name in SUMMARIES:
            assert candidate[name]["mean"] == pytest.approx(expected[name], rel=1e-6), (name, left, right)
        assert candidate["flushed"] == pytest.approx(expected["flushed"], rel=1e-3)
        assert candidate["saturated"] == [0, 0]
        assert point["excluded"] == pytest.approx(expected["excluded"], rel=1e-6)


def only_point(entry):
    (point,) = entry["points"]
    return point


def operand(rng, *shape, tail=1.0):
    """Values over many binades, some zero."""
    x = rng.standard_normal(shape) * np.exp(tail * rng.standard_normal(shape))
    return np.where(rng.random(shape) < 0.05, 0, x).astype(np.float32)


@pytest.mark.parametrize("m,n,k", [(1, 1, 1), (8, 16, 128), (37, 50, 100), (9, 17, 129), (70, 33, 300)])
@pytest.mark.parametrize("threads", [1, 2])
def test_product_equals_the_reference(m, n, k, threads):
    rng = np.random.default_rng([m, n, k])
    lhs, rhs = operand(rng, m, k) + 1, operand(rng, k, n, tail=3.0) + 1
    entry = measure_product(lhs, rhs, "dgrad", threads=threads)
    assert (entry["m"], entry["n"], entry["k"], entry["batch"]) == (m, n, k, 1)
    assert [metrics.label(c) for c in only_point(entry)["candidates"]] == [
        "BF16 x BF16", "E4M3 x E4M3", "E5M2 x E4M3", "E4M3 x E5M2"
    ]  # fmt: skip
    check_point(only_point(entry), lhs, rhs)


@pytest.mark.parametrize("transposed", ["", "lhs", "rhs", "both"])
def test_strides(transposed):
    rng = np.random.default_rng(7)
    lhs, rhs = operand(rng, 3, 2, 20, 40), operand(rng, 3, 2, 40, 30)
    if transposed in ("lhs", "both"):
        lhs = np.ascontiguousarray(lhs.swapaxes(-1, -2)).swapaxes(-1, -2)
    if transposed in ("rhs", "both"):
        rhs = np.ascontiguousarray(rhs.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    check_point(only_point(measure_product(lhs, rhs, threads=2)), lhs, rhs)


def test_broadcast_operand_is_counted_once():
    rng = np.random.default_rng(8)
    lhs, rhs = operand(rng, 4, 6, 10), operand(rng, 10, 5)
    point = only_point(measure_product(lhs, np.broadcast_to(rhs, (4, 10, 5))))
    check_operand(point["rhs"], rhs)


def test_excluded_elements():
    rng = np.random.default_rng(9)
    lhs, rhs = operand(rng, 12, 30), operand(rng, 30, 8)
    lhs[3:] = 0
    point = only_point(measure_product(lhs, rhs))
    assert point["excluded"] == 0.75
    check_point(point, lhs, rhs)


def test_all_zero_operand_is_a_documented_result():
    point = only_point(measure_product(np.zeros((4, 8), np.float32), np.ones((8, 4), np.float32)))
    assert point["excluded"] == 1
    assert point["lhs"]["amax"] == {"mean": 0, "max": 0} and point["lhs"]["min_nonzero"] is None
    assert point["lhs"]["exponents"] == {"low": 0, "counts": []} and point["lhs"]["zeros"] == 1
    for candidate in point["candidates"]:
        assert all(candidate[name]["mean"] is None for name in SUMMARIES)


def test_nonfinite_elements_are_counted():
    rng = np.random.default_rng(10)
    lhs, rhs = operand(rng, 16, 20), operand(rng, 20, 16)
    lhs[2, 3], lhs[2, 4], lhs[5, 0] = np.nan, np.inf, -np.inf
    point = only_point(measure_product(lhs, rhs))
    check_operand(point["lhs"], lhs)
    assert point["excluded"] == pytest.approx(2 / 16)  # rows 2 and 5
    for candidate in point["candidates"]:
        assert candidate["be_median"]["mean"] > 0


def test_underflow_and_outliers_show():
    rng = np.random.default_rng(11)
    lhs, rhs = rng.standard_normal((64, 64), np.float32), rng.standard_normal((64, 64), np.float32)
    plain = only_point(measure_product(lhs, rhs))["candidates"][1]
    lhs[0, 0] = 1e6
    planted = only_point(measure_product(lhs, rhs))
    check_point(planted, lhs, rhs)
    candidate = planted["candidates"][1]
    assert plain["flushed"] == [0, 0] and candidate["flushed"][0] > 0.9
    assert candidate["be_median"]["mean"] > 10 * plain["be_median"]["mean"]


def test_scaling_by_a_power_of_two_changes_nothing():
    rng = np.random.default_rng(12)
    lhs, rhs = operand(rng, 30, 40), operand(rng, 40, 20)
    first, second = (only_point(measure_product(lhs * s, rhs, "wgrad"))["candidates"] for s in (1, np.float32(2**-20)))
    assert first == second


def test_permuting_the_contraction_changes_little():
    rng = np.random.default_rng(13)
    lhs, rhs = operand(rng, 30, 64), operand(rng, 64, 20)
    order = rng.permutation(64)
    first = only_point(measure_product(lhs, rhs))["candidates"][1]
    second = only_point(measure_product(lhs[:, order], rhs[order]))["candidates"][1]
    assert first["be_median"]["mean"] == pytest.approx(second["be_median"]["mean"], rel=1e-3)


def test_sample():
    rng = np.random.default_rng(14)
    lhs, rhs = operand(rng, 400, 64), operand(rng, 64, 500)
    exact = only_point(measure_product(lhs, rhs))
    assert only_point(measure_product(lhs, rhs, sampling=Sampling(400, 500))) == exact
    means = []
    for seed in (0, 1):
        point = only_point(measure_product(lhs, rhs, sampling=Sampling(64, 64, seed), threads=2))
        assert point["lhs"] == exact["lhs"] and point["rhs"] == exact["rhs"]
        means.append([c["be_median"]["mean"] for c in point["candidates"]])
        assert means[-1] == pytest.approx([c["be_median"]["mean"] for c in exact["candidates"]], rel=0.1)
    assert means[0] != means[1]
    again = only_point(measure_product(lhs, rhs, sampling=Sampling(64, 64, 1), threads=1))
    assert [c["be_median"]["mean"] for c in again["candidates"]] == means[1]


def test_batched_sample_covers_all_elements():
    rng = np.random.default_rng(15)
    lhs, rhs = operand(rng, 4, 3, 40, 32), operand(rng, 4, 3, 32, 48)
    lhs[2] = 0
    point = only_point(measure_product(lhs, rhs, sampling=Sampling(64, 64)))
    assert point["excluded"] == 0.25


def test_candidates_on_request():
    x = np.random.default_rng(16).standard_normal((64, 64), np.float32)
    entry = measure_product(x, x, sampling=Sampling(0, 0, 0, "i8*i8,f8E5M2*f8E5M2"))
    int8, e5m2 = only_point(entry)["candidates"]
    assert metrics.label(int8) == "INT8 x INT8"
    assert 0 < int8["be_median"]["mean"] < e5m2["be_median"]["mean"]
    scale = np.float32(127) / np.abs(x).max()
    flushed = (np.rint(x * scale) == 0).mean()
    assert int8["flushed"] == pytest.approx([flushed, flushed], rel=1e-3)
    for text, why in (("bf16", "not a pair"), ("fp8*bf16", "'fp8' is none of"), ("", "not a pair")):
        with pytest.raises(Error, match=why):
            measure_product(x, x, sampling=Sampling(0, 0, 0, text))


def test_refused_arrays():
    x = np.ones((2, 3), np.float32)
    for lhs, rhs in ((x.astype(np.float64), x.T), (x, x), (x[0], x.T), (x, np.ones((2, 3, 2), np.float32))):
        with pytest.raises(Error, match="expected float32|do not make a product"):
            measure_product(lhs, rhs)
    with pytest.raises(Error, match="m is 0, expected at least 1"):
        measure_product(x[:0], x.T)
    with pytest.raises(Error, match="rows is -1"):
        measure_product(x, x.T.copy(), sampling=Sampling(-1, 4))


# The bound that thresholds are multiples of.


def bound_table():
    text = (ROOT / "include/mpt/Precision/NormalBackwardError.h").read_text()
    rows = re.findall(r"\{(\d+), \{([\d.e-]+), ([\d.e-]+)\}\}", text)
    return {int(k): (float(median), float(p99)) for k, median, p99 in rows}


def test_bound_table_is_complete():
    assert sorted(bound_table()) == [2**i for i in range(4, 15)]


@pytest.mark.parametrize("k", [16, 64, 512, 2048])
def test_bound_table(k):
    rng = np.random.default_rng([99, k])
    found = []
    for _ in range(2):
        lhs, rhs = rng.standard_normal((256, k), np.float32), rng.standard_normal((k, 256), np.float32)
        candidate = only_point(measure_product(lhs, rhs, threads=2))["candidates"][1]
        assert metrics.label(candidate) == "E4M3 x E4M3"
        found.append([candidate["be_median"]["mean"], candidate["be_p99"]["mean"]])
    assert np.mean(found, axis=0) == pytest.approx(bound_table()[k], rel=0.05)


# Profiling a package.


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    directory = tmp_path_factory.mktemp("profiled")
    tiny.write(directory)
    return directory


@pytest.fixture
def package(built):
    with Package(built, threads=2) as opened:
        yield opened


def stacked(count):
    batches = [tiny.batch(i) for i in range(count)]
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "batches.safetensors"
    save_file(stacked(8), path)
    return path


PLAN = Plan(batches=3, at_steps=(0, 5), schedule=Schedule(0.01), sampling=Sampling(0, 0))


def test_profile_equals_captured_operands(package, built, data, tmp_path):
    """Every metric of the file against operands that a Python observer copied."""
    out = tmp_path / "metrics.json"
    assert profile(package, load_data(data, package), out, PLAN) == 6
    found = metrics.load(out)
    schema = json.loads((ROOT / "docs/metrics.schema.json").read_text())
    jsonschema.validate(found, schema)
    assert found["graph_hash"] == tiny.GRAPH_HASH and found["engine"] == "reference"
    assert found["batches"] == 3 and found["at_steps"] == [0, 5] and found["complete"]
    assert [(p["name"], p["role"]) for p in found["products"]] == [
        ("head", "fprop"), ("head/wgrad", "wgrad"), ("head/dgrad", "dgrad")
    ]  # fmt: skip

    captured = {}
    with Package(built, threads=2) as plain:
        step = 0

        def keep(product):
            captured.setdefault((product.name, step), (product.lhs[0, 0].copy(), product.rhs[0, 0].copy()))

        batches = load_data(data, plain)
        plain.observe(keep)
        for step in range(8):
            plain.step(batches[step], lr=0.01)
        for name, values in plain.parameters().items():
            assert np.array_equal(values, package.read(name)), "profiling changed the training"

    for product in found["products"]:
        for point in product["points"]:
            taken = [captured[product["name"], point["step"] + i] for i in range(point["batches"])]
            assert point["lhs"]["amax"]["mean"] == pytest.approx(np.mean([np.abs(l).max() for l, _ in taken]), rel=1e-6)
            assert sum(point["rhs"]["exponents"]["counts"]) == sum((r != 0).sum() for _, r in taken)
            for candidate in point["candidates"]:
                formats = [candidate[side]["storage"] for side in ("lhs", "rhs")]
                each = [reference(l, r, *formats) for l, r in taken]
                for name in SUMMARIES:
                    values = [metrics_of[name] for metrics_of in each]
                    summary = candidate[name]
                    assert summary["mean"] == pytest.approx(np.mean(values), rel=1e-6)
                    # A deviation near the file's last digit of the mean is noise.
                    assert summary["std"] == pytest.approx(np.std(values, ddof=1), rel=1e-3, abs=1e-9)
                    assert min(values) * (1 - 1e-6) <= summary["low"] <= summary["high"] <= max(values) * (1 + 1e-6)


@pytest.mark.slow
def test_real_step_equals_captured_operands(store, tmp_path):
    """All products of a tiny BERT's step, after three steps of training."""
    from mpt import stages

    graph, step, directory = tmp_path / "graph.mlir", tmp_path / "step.mlir", tmp_path / "package"
    stages.import_model(store.path("tinyA"), graph)
    stages.optimise(graph, step, ["--mpt-differentiate", "--mpt-add-optimizer"])
    stages.build(step, directory, "cpu")
    batch = {name[6:]: value for name, value in store.reference("tinyA").items() if name.startswith("batch.")}
    batches = Data({name: value[None] for name, value in batch.items()})
    out, captured = tmp_path / "metrics.json", {}
    with Package(directory, threads=2) as package:
        profile(package, batches, out, Plan(1, (3,), sampling=Sampling(0, 0)))
    with Package(directory, threads=2) as package:
        for _ in range(3):
            package.step(batch, lr=1e-3)
        package.observe(lambda p: captured.update({p.name: (p.lhs.copy(), p.rhs.copy())}))
        package.step(batch, lr=1e-3)
    found = metrics.load(out)["products"]
    assert len(found) == len(captured) > 50 and {p["role"] for p in found} == {"fprop", "dgrad", "wgrad"}
    for product in found:
        check_point(only_point(product), *captured[product["name"]])


def test_single_batch_has_no_spread(package, data, tmp_path):
    out = tmp_path / "metrics.json"
    profile(package, load_data(data, package), out, Plan(batches=1))
    summary = metrics.load(out)["products"][0]["points"][0]["candidates"][1]["be_median"]
    assert summary["std"] == 0 and summary["low"] == summary["mean"] == summary["high"]


def test_same_seed_same_bytes(built, data, tmp_path):
    texts = []
    for threads in (1, 2):
        with Package(built, threads=threads) as opened:
            out = tmp_path / f"{threads}.json"
            profile(opened, load_data(data, opened), out, Plan(batches=2, sampling=Sampling(4, 4, 3)))
            texts.append(out.read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "batches,at_steps,why",
    [
        (0, (0,), "batches is 0"),
        (1, (), "no step"),
        (3, (0, 2), "point at step 2: expected at least 3"),
    ],
)
def test_bad_plans(package, data, tmp_path, batches, at_steps, why):
    with pytest.raises(Error, match=why):
        profile(package, load_data(data, package), tmp_path / "m.json", Plan(batches, at_steps))
    assert not (tmp_path / "m.json").exists()


def test_a_point_in_the_past(package, data, tmp_path):
    batches = load_data(data, package)
    package.step(batches[0], lr=0.01)
    with pytest.raises(Error, match="expected at least 1 .training is at step 1"):
        profile(package, batches, tmp_path / "m.json", Plan(1, (0,)))


@pytest.mark.parametrize(
    "change,why",
    [
        (lambda t: t.pop("ids"), "lacks input 'ids' of the package, has labels, x"),
        (lambda t: t.update(x=t["x"].astype(np.float64)), r"input 'x' is float64 .*takes float32 \[N, 6, 24\]"),
        (lambda t: t.update(labels=t["labels"][:, :2]), r"label 'labels' is int64 \[8, 2\], .*\[N, 6\]"),
        (lambda t: t.update(ids=t["ids"][:4]), "numbers of batches differ"),
        (lambda t: t.update({name: value[:0] for name, value in t.items()}), "holds no batches"),
    ],
)
def test_bad_data(package, tmp_path, change, why):
    tensors = stacked(8)
    change(tensors)
    path = tmp_path / "bad.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    with pytest.raises(Error, match=why):
        load_data(path, package)


def test_not_a_data_file(package, tmp_path):
    path = tmp_path / "bad.safetensors"
    with pytest.raises(Error, match="no such batches file"):
        load_data(path, package)
    path.write_bytes(b"not this")
    with pytest.raises(Error, match="not a safetensors file"):
        load_data(path, package)


def test_ids_out_of_range_leave_nothing(package, tmp_path):
    tensors = stacked(2)
    tensors["ids"][1, 3] = tiny.TABLE
    with pytest.raises(Error, match="'ids'.*10"):
        profile(package, Data(tensors), tmp_path / "m.json", Plan(batches=2))
    assert list(tmp_path.iterdir()) == []


def test_package_without_products(built, tmp_path):
    directory = tmp_path / "empty"
    shutil.copytree(built, directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["launches"] = [entry for entry in manifest["launches"] if entry["op"] != "product"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with Package(directory) as opened, pytest.raises(Error, match="the package has no products"):
        profile(opened, Data(stacked(1)), tmp_path / "m.json", Plan(batches=1))


def test_nan_parameter_is_named(package, data, tmp_path):
    package.view("head.weight")[3, 4] = np.nan
    with pytest.raises(Error, match="parameter 'head.weight': 1 of 960 values are not finite, at step 0"):
        profile(package, load_data(data, package), tmp_path / "m.json", Plan(batches=1))
    assert not (tmp_path / "m.json").exists()


def test_overflow_in_training_stops_or_goes_on(built, data, tmp_path, capsys):
    explode = Schedule(1e38)
    with Package(built) as opened:
        with pytest.raises(Error, match=r"product 'head.*has \d+ NaN and \d+ infinite of \d+ elements, at step \d"):
            profile(opened, load_data(data, opened), tmp_path / "m.json", Plan(4, (0,), explode))
    assert not (tmp_path / "m.json").exists()
    with Package(built) as opened:
        plan = Plan(4, (0,), explode, stop_on_nonfinite=False)
        profile(opened, load_data(data, opened), tmp_path / "m.json", plan)
    sentences = list(metrics.nonfinite(metrics.load(tmp_path / "m.json")))
    assert sentences and sentences[0].startswith("product 'head' (fprop): ")


def test_metrics_of_another_version(tmp_path):
    path = tmp_path / "m.json"
    for text, why in (
        ("{", "not a metrics file"),
        ("[]", "format is None"),
        ('{"format": "mpt-metrics", "version": 2}', "version is 2, expected 1"),
        ('{"format": "mpt-metrics", "version": 1, "graph_hash": ""}', "'at_steps' is missing"),
    ):
        path.write_text(text)
        with pytest.raises(metrics.MetricsError, match=why):
            metrics.load(path)


# The commands.


def test_profile_and_show(mptc, built, data, tmp_path):
    out = tmp_path / "metrics.json"
    done = mptc("profile", built, "--data", data, "--batches", 2, "--at-steps", "0,4", "-o", out, "--lr", 0.01)
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}: 4 batches measured" in done.stdout.replace("\n", "")
    shown = mptc("metrics", "show", out)
    assert shown.returncode == 0 and all(word in shown.stdout for word in ("head/dgrad", "E4M3 x E4M3", "SQNR"))
    shown = mptc("metrics", "show", out, "*wgrad", "--step", 4)
    assert "head/wgrad" in shown.stdout and "head/dgrad" not in shown.stdout
    for arguments, why in ((("nothing",), "no product matches 'nothing'"), (("--step", 9), "no point at step 9")):
        failed = mptc("metrics", "show", out, *arguments)
        assert failed.returncode == 1 and why in failed.stderr


def test_profile_refuses_in_one_line(mptc, built, data, tmp_path):
    failed = mptc("profile", built, "--data", tmp_path / "none", "-o", tmp_path / "m.json")
    assert failed.returncode == 1 and failed.stderr == f"mptc: error: {tmp_path / 'none'}: no such batches file\n"
    failed = mptc("profile", built, "--data", data, "-o", tmp_path / "no" / "m.json")
    assert failed.returncode == 1 and "does not exist" in failed.stderr
    failed = mptc("profile", built, "--data", data, "-o", tmp_path / "m.json", "--at-steps", "5,1")
    assert failed.returncode == 2 and "expected ascending step numbers" in failed.stderr


def test_interrupt_keeps_the_batches_that_are_done(built, data, tmp_path):
    out = tmp_path / "metrics.json"
    command = [sys.executable, "-m", "mpt", "profile", str(built), "--data", str(data), "-o", str(out)]
    command += ["--batches", "100000000", "--lr", "0"]
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    # A job in the background, such as one of CI, may have inherited that SIGINT is ignored.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "kernels.so" not in maps.read_text():
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors
    found = metrics.load(out)
    assert not found["complete"] and found["batches"] >= 1
    assert all(point["batches"] == found["batches"] for p in found["products"] for point in p["points"])
