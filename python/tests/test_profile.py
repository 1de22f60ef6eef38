# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Profiles against NumPy + ml_dtypes: on a step small enough to be written out, and on a real BERT's."""

from __future__ import annotations

import json
import os
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
from mpt.profile import Data, Plan, Probes, Sampling, load_data, opened, profile
from mpt.runtime import Error, Package
from mpt.train import Schedule
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
EXACT = {"rows": 0, "columns": 0, "sketch": 1 << 22}  # every element, sketches that are the vectors
CANDIDATES = "bf16*bf16,f8E4M3FN*f8E5M2,i8*i8,i8[per_vector]*f8E5M2[per_vector]"


# The reference: written from docs/metrics.md, sharing no code with the profiler.

DTYPES = {"bf16": ml_dtypes.bfloat16, "f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2}
MAXIMUM = {"f8E4M3FN": 448.0, "f8E5M2": 57344.0, "i8": 127.0}


def quantize(x, format, axis, amax=None):
    """The values that a format of a metrics file holds; `axis` is the contraction's, `amax` another one to scale by."""
    if format.storage == "bf16":
        return x.astype(DTYPES["bf16"]).astype(np.float32)
    along = axis if format.granularity == "per_vector" else None
    if amax is None:
        amax = np.abs(x).max(axis=along, keepdims=True).astype(np.float32)
    largest = np.float32(MAXIMUM[format.storage])
    scale = np.where(amax > 0, largest / np.where(amax > 0, amax, 1), 1).astype(np.float32)
    scaled = np.clip(x * scale, -largest, largest)
    codes = np.rint(scaled) if format.storage == "i8" else scaled.astype(DTYPES[format.storage]).astype(np.float32)
    return codes * (np.float32(1) / scale)


def product_f32(lhs, rhs):
    """One f32 fma a term, k ascending."""
    result = np.zeros(np.broadcast_shapes(lhs.shape[:-2], rhs.shape[:-2]) + (lhs.shape[-2], rhs.shape[-1]), np.float32)
    for k in range(lhs.shape[-1]):
        term = lhs[..., :, k, None].astype(np.float64) * rhs[..., None, k, :].astype(np.float64)
        result = (result.astype(np.float64) + term).astype(np.float32)
    return result


def rounded(lhs, rhs, candidate):
    """The product of the rounded operands."""
    return product_f32(quantize(lhs, candidate.lhs, -1), quantize(rhs, candidate.rhs, -2))


def reference(lhs, rhs, candidate, gradient=None):
    """Metrics of one candidate over all elements of one batch, and its error."""
    l64, r64 = lhs.astype(np.float64), rhs.astype(np.float64)
    exact, bound = l64 @ r64, np.abs(l64) @ np.abs(r64)
    error = rounded(lhs, rhs, candidate).astype(np.float64) - exact
    kept = bound > 0
    be = np.abs(error[kept]) / bound[kept]
    found = {
        "be_median": np.median(be),
        "be_p99": np.percentile(be, 99),
        "be_max": be.max(),
        "rel_var": (error**2).sum() / (exact**2).sum(),
        "cosine": (exact * (exact + error)).sum() / np.sqrt((exact**2).sum() * ((exact + error) ** 2).sum()),
        "excluded": 1 - kept.mean(),
    }
    if gradient is not None:
        weighted = gradient.astype(np.float64) * error
        found |= {"loss_mse": (weighted**2).sum(), "loss_shift": weighted.sum()}
    return found, error, exact


def persistent(errors, gradients):
    """(|mean error|^2 - var / B) / |mean gradient|^2, over batches."""
    batches = len(errors)
    errors, mean = np.stack([e.ravel() for e in errors]), np.mean([g.ravel() for g in gradients], axis=0)
    center = errors.mean(axis=0)
    variance = ((errors - center) ** 2).sum() / (batches - 1)
    return ((center**2).sum() - variance / batches) / (mean**2).sum()


def signal_to_noise(gradients):
    """|mean|^2 over the mean squared distance from it."""
    stacked = np.stack([g.ravel() for g in gradients]).astype(np.float64)
    mean = stacked.mean(axis=0)
    return (mean**2).sum() / ((stacked - mean) ** 2).sum(axis=1).mean()


def joined(gradients, names=None):
    """The gradients of one batch as one vector."""
    return np.concatenate([gradients[name].ravel().astype(np.float64) for name in names or sorted(gradients)])


# A step that NumPy can follow.


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    directory = tmp_path_factory.mktemp("profiled")
    tiny.write(directory)
    return directory


@pytest.fixture
def package(built):
    with Package(built, threads=2) as opened_package:
        yield opened_package


def stacked(count):
    batches = [tiny.batch(i) for i in range(count)]
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "batches.safetensors"
    save_file(stacked(8), path)
    return path


PLAN = Plan(3, (0, 5), Schedule(0.01), Sampling(**EXACT, candidates=CANDIDATES))


def tiny_gradient(parameters, batch, fprop=None, wgrad=None, dgrad=None):
    """The hand-written step in NumPy, with a candidate for each product or FP32: (loss, gradients, operands)."""

    def multiply(lhs, rhs, candidate):
        return rounded(lhs, rhs, candidate) if candidate else product_f32(lhs, rhs)

    weight, table = parameters["head.weight"], parameters["embed.weight"]
    h = batch["x"] + table[batch["ids"]]
    y = multiply(h, weight, fprop)
    dy = y - np.eye(tiny.OUT, dtype=np.float32)[np.maximum(batch["labels"], 0)]
    dy[batch["labels"] == -100] = 0
    gradients = {"head.weight": multiply(h.T, dy, wgrad), "embed.weight": np.zeros_like(table)}
    np.add.at(gradients["embed.weight"], batch["ids"], multiply(dy, weight.T, dgrad))
    operands = {"head": (h, weight), "head/wgrad": (h.T, dy), "head/dgrad": (dy, weight.T)}
    return (dy.astype(np.float64) ** 2).sum() / 2, gradients, operands


def parameters_at(built, steps):
    """Parameters after each of `steps` of plain training."""
    found = {}
    with Package(built, threads=2) as plain:
        for step in range(max(steps) + 1):
            if step in steps:
                found[step] = plain.parameters()
            plain.step(tiny.batch(step), lr=0.01)
    return found


def test_products_of_a_step_in_numpy(package, built, data, tmp_path):
    """Every metric of every product, at two points, against the step written out."""
    out = tmp_path / "metrics.json"
    assert profile(package, load_data(data, package), out, PLAN) == 6
    jsonschema.validate(json.loads(out.read_text()), json.loads((ROOT / "docs/metrics.schema.json").read_text()))
    found = metrics.load(out)
    assert found.graph_hash == tiny.GRAPH_HASH and found.engine == "reference" and found.complete
    assert found.batches == 3 and found.at_steps == [0, 5]
    assert [(p.name, p.role) for p in found.products] == [
        ("head", "fprop"), ("head/wgrad", "wgrad"), ("head/dgrad", "dgrad")
    ]  # fmt: skip
    expected = parameters_at(built, found.at_steps)
    for index, point in enumerate(found.points):
        runs = [tiny_gradient(expected[point.step], tiny.batch(point.step + b)) for b in range(3)]
        assert point.loss.mean == pytest.approx(np.mean([run[0] for run in runs]), rel=1e-6)
        everything = [joined(run[1]) for run in runs]
        ratio = point.gradient_signal / point.gradient_noise
        assert ratio == pytest.approx(signal_to_noise(everything), rel=1e-6)
        signals = {"head": None, "head/wgrad": "head.weight", "head/dgrad": "embed.weight"}
        for product in found.products:
            at = product.points[index]
            operands = [run[2][product.name] for run in runs]
            if signals[product.name]:
                signal = signal_to_noise([run[1][signals[product.name]] for run in runs])
                assert at.signal == pytest.approx(signal, rel=1e-6)
            check_candidates(product, at, operands, [run[2]["head/dgrad"][0] for run in runs])
            assert at.excluded == pytest.approx(1 / 6 if product.role == "dgrad" else 0, rel=1e-3)


def check_candidates(product, point, operands, gradients):
    """Compare a product's candidates with the reference on the operands of each batch."""
    for entry in point.candidates:
        each = [
            reference(l, r, entry.candidate, g if product.role == "fprop" else None)
            for (l, r), g in zip(operands, gradients)
        ]
        for name in ("be_median", "be_p99", "be_max", "rel_var", "cosine", "loss_mse", "loss_shift"):
            values = [one[0].get(name) for one in each]
            summary = entry[name]
            if values[0] is None:
                assert summary == metrics.Summary()
                continue
            assert summary.mean == pytest.approx(np.mean(values), rel=1e-6), (product.name, entry.label, name)
            assert summary.std == pytest.approx(np.std(values, ddof=1), rel=6e-3)
            assert min(values) <= summary.low + 1e-2 * abs(summary.low) <= summary.high * 1.02 or name == "loss_shift"
        ratio = np.mean([one[0]["rel_var"] for one in each])
        assert entry["sqnr_db"].mean == pytest.approx(-10 * np.log10(ratio), rel=1e-6)
        if product.role != "fprop":
            assert entry["noise_ratio"].mean == pytest.approx(ratio * point.signal, rel=1e-6)
        if product.role == "wgrad":
            value = persistent([one[1] for one in each], [one[2] for one in each])
            assert entry["persistent"].mean == pytest.approx(value, rel=1e-6, abs=1e-7 * ratio)
            if len(each) > 2:
                assert entry["persistent"].low < value < entry["persistent"].high
            else:
                assert entry["persistent"].low is None


def test_delayed_scales_take_earlier_batches(package, data, tmp_path):
    """The largest amax of the two batches before; the first batch has its own."""
    text = "f8E4M3FN[delayed=2]*bf16"
    plan = Plan(4, sampling=Sampling(**EXACT, candidates=text), probes=Probes("role", text))
    profile(package, load_data(data, package), tmp_path / "m.json", plan)
    found = metrics.load(tmp_path / "m.json")
    entry = found.product("head").points[0].candidates[0]
    assert entry.candidate.lhs.history == 2 and entry.label == "E4M3 x BF16 delayed 2 lhs"
    parameters = package.parameters()
    operands = [tiny_gradient(parameters, tiny.batch(b))[2]["head"] for b in range(4)]
    amax = [np.abs(lhs).max() for lhs, _ in operands]
    expected = []
    for index, (lhs, rhs) in enumerate(operands):
        scale_by = max(amax[max(index - 2, 0) : index] or amax[:1])
        held = quantize(lhs, entry.candidate.lhs, -1, np.float32(scale_by))
        error = product_f32(held, quantize(rhs, entry.candidate.rhs, -2)) - lhs.astype(np.float64) @ rhs
        expected.append((error**2).sum() / ((lhs.astype(np.float64) @ rhs) ** 2).sum())
    assert entry["rel_var"].mean == pytest.approx(np.mean(expected), rel=1e-6)


def test_second_format_is_the_gradients(package, data, tmp_path):
    profile(package, load_data(data, package), tmp_path / "m.json", Plan(1, sampling=Sampling(candidates="bf16*i8")))
    found = {product.name: product.candidates[0].label for product in metrics.load(tmp_path / "m.json").products}
    assert found == {"head": "BF16 x INT8", "head/wgrad": "BF16 x INT8", "head/dgrad": "INT8 x BF16"}


def test_default_candidates(package, data, tmp_path):
    profile(package, load_data(data, package), tmp_path / "m.json", Plan(1))
    found = metrics.load(tmp_path / "m.json")
    assert [len(product.candidates) for product in found.products] == [5, 12, 12]
    labels = [candidate.label for candidate in found.product("head/dgrad").candidates]
    assert "E5M2 x E4M3" in labels and "INT8 x INT8 per vector, stochastic lhs" in labels


PROBED = {
    "fprop": ("fprop",),
    "dgrad": ("dgrad",),
    "wgrad": ("wgrad",),
    "whole": ("fprop", "dgrad", "wgrad"),
}


def test_probes_in_numpy(package, built, data, tmp_path):
    """The whole gradient with groups of products rounded, against the rounded step written out."""
    out = tmp_path / "metrics.json"
    texts = ("f8E4M3FN*f8E5M2", "i8[per_vector]*i8")
    plan = Plan(3, (2,), Schedule(0.01), Sampling(**EXACT), probes=Probes("role", ",".join(texts)))
    profile(package, load_data(data, package), out, plan)
    jsonschema.validate(json.loads(out.read_text()), json.loads((ROOT / "docs/metrics.schema.json").read_text()))
    found = metrics.load(out)
    assert [(p.role, p.candidate, p.products) for p in found.probes] == [
        (role, text, len(PROBED[role])) for text in texts for role in PROBED
    ]
    parameters = parameters_at(built, [2])[2]
    runs = [tiny_gradient(parameters, tiny.batch(2 + b)) for b in range(3)]
    gradients = [joined(run[1]) for run in runs]
    for probe in found.probes:
        formats = [candidate_format(text) for text in probe.candidate.split("*")]
        other, gradient = formats
        sides = {"fprop": (other, other), "wgrad": (other, gradient), "dgrad": (gradient, other)}
        candidates = {role: metrics.Candidate(*sides[role]) for role in PROBED[probe.role]}
        probed = [tiny_gradient(parameters, tiny.batch(2 + b), **candidates) for b in range(3)]
        errors = [joined(p[1]) - g for p, g in zip(probed, gradients)]
        (point,) = probe.points
        rel_var = np.mean([(e**2).sum() / (g**2).sum() for e, g in zip(errors, gradients)])
        assert point.rel_var.mean == pytest.approx(rel_var, rel=1e-6), (probe.role, probe.candidate)
        value = persistent(errors, gradients)
        assert point.persistent.mean == pytest.approx(value, rel=1e-6, abs=1e-7 * rel_var)
        center = np.mean(errors, axis=0)
        spread = np.mean([((e - center) ** 2).sum() for e in errors])
        noise = np.mean([((g - np.mean(gradients, axis=0)) ** 2).sum() for g in gradients])
        assert point.noise_ratio.mean == pytest.approx(spread / noise, rel=1e-6)
        change = np.mean([p[0] - r[0] for p, r in zip(probed, runs)])
        assert point.loss_change.mean == pytest.approx(change, abs=3e-7 * runs[0][0])  # the loss is f32


def candidate_format(text):
    """A format of --candidates as the file would have it."""
    storage, _, option = text.partition("[")
    return metrics.OperandFormat(storage, "per_row" if option else "per_tensor", "current", "nearest")


def test_probes_by_layer_need_layers(package, data, tmp_path):
    """A step without layers has probes by role only; the same rounding is not run twice."""
    plan = Plan(2, sampling=Sampling(**EXACT), probes=Probes("layer", "i8*i8,i8*i8[stochastic]"))
    profile(package, load_data(data, package), tmp_path / "m.json", plan)
    found = [(probe.role, probe.candidate) for probe in metrics.load(tmp_path / "m.json").probes]
    assert found == [(role, "i8*i8") for role in PROBED] + [
        (role, "i8*i8[stochastic]") for role in ("dgrad", "wgrad", "whole")
    ]


@pytest.mark.parametrize(
    "probes,why",
    [
        (Probes("role", "i8"), "'i8' is not a pair"),
        (Probes("role", "i8*i9"), "'i9'"),
        (Probes("role", ""), "not a pair"),
        (Probes("never"), "probes by 'never': expected none, role or layer"),
    ],
)
def test_bad_probes(package, data, tmp_path, probes, why):
    with pytest.raises(Error, match=why):
        profile(package, load_data(data, package), tmp_path / "m.json", Plan(1, probes=probes))
    assert not (tmp_path / "m.json").exists()


def test_training_has_the_same_bits(package, built, data, tmp_path):
    plan = Plan(3, (0, 5), Schedule(0.01), probes=Probes("role"))
    profile(package, load_data(data, package), tmp_path / "m.json", plan)
    with Package(built, threads=2) as plain:
        for step in range(5):
            plain.step(tiny.batch(step), lr=0.01)
        for name, values in plain.state().items():
            assert np.array_equal(values, package.read(name)), f"profiling changed '{name}'"
    assert package.step_number == 5


def test_tensors(package, data, tmp_path):
    profile(package, load_data(data, package), tmp_path / "m.json", Plan(2))
    found = metrics.load(tmp_path / "m.json")
    assert [tensor.name for tensor in found.tensors] == ["head/lhs", "head/rhs", "head/grad"]
    weight = package.parameters()["head.weight"]
    dys = [tiny_gradient(package.parameters(), tiny.batch(b))[2]["head/dgrad"][0] for b in range(2)]
    head = found.product("head")
    assert head.gradient is found.tensors[2] and found.product("head/wgrad").rhs is head.gradient
    check_tensor(head.rhs.points[0], [weight] * 2)
    check_tensor(head.gradient.points[0], dys)


def check_tensor(found, batches):
    """Compare a tensor's statistics with NumPy; rows and columns are the forward product's."""
    together = np.stack(batches).astype(np.float64)
    assert found.amax.mean == pytest.approx(np.mean([np.abs(x).max() for x in batches]), rel=1e-6)
    assert found.min_nonzero == pytest.approx(np.abs(together[together != 0]).min(), rel=1e-6)
    assert found.mean == pytest.approx(together.mean(), rel=1e-6)
    assert found.std**2 == pytest.approx(np.mean([x.var(dtype=np.float64) for x in batches]), rel=1e-6)
    each = [((x - x.mean()) ** 4).mean() / x.var() ** 2 for x in together]
    assert found.kurtosis == pytest.approx(np.mean(each), rel=1e-6)
    exponents, counts = np.unique(np.frexp(np.abs(together[together != 0]))[1] - 1, return_counts=True)
    assert found.exponents == dict(zip(exponents.tolist(), counts.tolist()))
    assert found.zeros == pytest.approx((together == 0).mean(), rel=1e-6) and found.nonfinite == 0
    for spread, axis in ((found.rows, 1), (found.columns, 0)):
        largest = [np.abs(x).max(axis=axis) for x in batches]
        nonzero = [values[values > 0] for values in largest]
        assert spread[0] == pytest.approx(min(values.min() for values in nonzero), rel=1e-3)
        assert spread[2] == pytest.approx(max(values.max() for values in nonzero), rel=1e-3)
        assert spread[0] <= spread[1] <= spread[2]


# A real step.

UPSTREAM = {
    "cls.predictions.transform.dense/dgrad": ("bert.",),
    "encoder.layer.0.intermediate.dense/dgrad": ("bert.embeddings.", "bert.encoder.layer.0.attention."),
    "encoder.layer.1.attention.self.scores/dgrad.lhs": (
        "bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1.attention.self.query."
    ),
}  # fmt: skip


def gradient_operand(name, captured):
    """d loss / d result of a forward product, from what its backward products read."""
    backward = captured.get(f"{name}/dgrad") or captured[f"{name}/dgrad.lhs"]
    return backward[0]


@pytest.mark.slow
def test_real_step_equals_captured_operands(store, tmp_path):
    """A tiny BERT after two steps of training: products, noise, persistent error and probes."""
    from mpt import stages

    stages.import_model(store.path("tinyA"), tmp_path / "graph.mlir")
    stages.differentiate(tmp_path / "graph.mlir", tmp_path / "step.mlir")
    stages.build(tmp_path / "step.mlir", tmp_path / "package", "cpu", "reference")
    first = {name[6:]: value for name, value in store.reference("tinyA").items() if name.startswith("batch.")}
    rng = np.random.default_rng(5)
    ids = [np.where(first["input_ids"] > 0, rng.integers(1, 30, first["input_ids"].shape), 0) for _ in range(4)]
    batches = Data({name: np.stack([value] * 4) for name, value in first.items()} | {"input_ids": np.stack(ids)})
    out = tmp_path / "metrics.json"
    plan = Plan(2, (2,), sampling=Sampling(**EXACT, candidates="f8E4M3FN*f8E5M2,i8[per_vector]*i8[per_vector]"),
                probes=Probes("role", "f8E4M3FN*f8E5M2"))  # fmt: skip
    captured, gradients = [], []
    with Package(tmp_path / "package", threads=2) as package:
        profile(package, batches, out, plan)
        for index in range(2):
            seen = {}
            package.observe(lambda p: seen.update({p.name: (p.lhs.copy(), p.rhs.copy())}))
            gradients.append(package.gradient(batches[2 + index], rng_step=2 + index)[1])
            captured.append(seen)
    found = metrics.load(out)
    assert len(found.products) == len(captured[0]) > 50
    assert all(product.gradient for product in found.products if product.role == "fprop")
    for product in found.products:
        if "layer.0" in product.name or "dense" in product.name and "layer" in product.name:
            continue
        name = product.name
        operands = [batch[name] for batch in captured]
        results = [gradient_operand(name, batch) if product.role == "fprop" else None for batch in captured]
        check_candidates(product, product.points[0], operands, results)
    for name, prefixes in UPSTREAM.items():
        names = sorted(n for n in gradients[0] if n.startswith(prefixes))
        expected = signal_to_noise([joined(batch, names) for batch in gradients])
        assert found.product(name).points[0].signal == pytest.approx(expected, rel=1e-6), name
    check_wgrad_probe(found, captured, gradients)


@pytest.mark.slow
def test_bert_large_stays_below_5_mb(store, tmp_path):
    """A layer's part of the file, 24 times: three points, default candidates."""
    from mpt import stages

    stages.import_model(store.path("tinyA"), tmp_path / "graph.mlir")
    first = {name[6:]: value for name, value in store.reference("tinyA").items() if name.startswith("batch.")}
    rng = np.random.default_rng(6)
    ids = [np.where(first["input_ids"] > 0, rng.integers(1, 30, first["input_ids"].shape), 0) for _ in range(4)]
    batches = Data({name: np.stack([value] * 4) for name, value in first.items()} | {"input_ids": np.stack(ids)})
    out = tmp_path / "metrics.json"
    with opened(tmp_path / "graph.mlir", out, 2) as package:
        profile(package, batches, out, Plan(4, (0, 1, 2), probes=Probes("layer", "i8*i8")))
    lines = out.read_text().splitlines()
    layer = sum(len(line) + 1 for line in lines if "layer.1." in line or '"layer":1' in line)
    rest = sum(len(line) + 1 for line in lines if "layer." not in line and '"layer":' not in line)
    assert layer > 100_000 and 24 * layer + rest < 5_000_000
    found = metrics.load(out)
    assert {probe.layer for probe in found.probes} == {None, 0, 1} and len(found.probes) == 4 + 6


def check_wgrad_probe(found, captured, gradients):
    """Rounding wgrad products changes no other product, so that NumPy can say what it does."""
    (probe,) = [probe for probe in found.probes if probe.role == "wgrad"]
    formats = [candidate_format(text) for text in probe.candidate.split("*")]
    errors = []
    for batch in captured:
        parts = []
        for product in found.products:
            if product.role == "wgrad":
                lhs, rhs = batch[product.name]
                swap = product.candidates[0].lhs.storage == "f8E5M2"
                candidate = metrics.Candidate(*(formats[::-1] if swap else formats))
                parts.append((rounded(lhs, rhs, candidate).astype(np.float64) - product_f32(lhs, rhs)).ravel())
        errors.append(np.concatenate(parts))
    whole = [joined(batch) for batch in gradients]
    rel_var = np.mean([(e**2).sum() / (g**2).sum() for e, g in zip(errors, whole)])
    point = probe.points[0]
    # The decoder's gradient is added to the embedding's: an ulp of that is in the difference.
    assert point.rel_var.mean == pytest.approx(rel_var, rel=1e-5)
    assert point.persistent.mean == pytest.approx(persistent(errors, whole), rel=1e-5, abs=1e-6 * rel_var)
    assert point.loss_change.mean == 0


# Files and plans.


def test_single_batch_has_no_spread(package, data, tmp_path):
    out = tmp_path / "metrics.json"
    profile(package, load_data(data, package), out, Plan(1, probes=Probes("role", "i8*i8")))
    found = metrics.load(out)
    summary = found.products[0].points[0].candidates[1]["be_median"]
    assert summary.std is None and summary.low == summary.mean == summary.high
    assert found.product("head/wgrad").points[0].signal is None
    for entry in found.product("head/wgrad").points[0].candidates:
        assert entry["persistent"].mean is None and entry["noise_ratio"].mean is None
    assert found.probes[0].points[0].persistent.mean is None and found.probes[0].points[0].rel_var.mean > 0


def test_same_seed_same_bytes(built, data, tmp_path):
    texts = []
    for threads in (1, 2):
        with Package(built, threads=threads) as one:
            out = tmp_path / f"{threads}.json"
            plan = Plan(2, sampling=Sampling(4, 4, 3), probes=Probes("role", "i8*i8[stochastic]"))
            profile(one, load_data(data, one), out, plan)
            texts.append(out.read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "batches,at_steps,why",
    [
        (0, (0,), "batches is 0"),
        (1, (), "no step"),
        (3, (2, 2), "point at step 2: expected one after step 2"),
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


def changed(built, directory, change):
    """A copy of the package with another manifest."""
    shutil.copytree(built, directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    change(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def without_products(manifest, *names):
    """Zero the results of these products, or of all, instead of computing them."""
    for index, entry in enumerate(manifest["launches"]):
        if entry["op"] == "product" and (not names or entry["name"] in names):
            place = [entry["result"]["buffer"], 0]
            size = manifest["buffers"][place[0]]["bytes"]
            manifest["launches"][index] = {"op": "fill", "name": entry["name"], "bytes": size, "result": place}


def rename(manifest):
    manifest["launches"][1]["role"] = "other"


@pytest.mark.parametrize(
    "change,why",
    [
        (without_products, "the package has no products"),
        (lambda m: m.pop("gradients"), "no gradients: .*rebuild"),
        (rename, "product 'head' has the role 'other', expected fprop, dgrad or wgrad"),
    ],
)
def test_packages_that_cannot_be_profiled(built, data, tmp_path, change, why):
    with Package(changed(built, tmp_path / "changed", change)) as other, pytest.raises(Error, match=why):
        profile(other, Data(stacked(1)), tmp_path / "m.json", Plan(batches=1))
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("gone,has_gradient", [("head/dgrad", True), ("head/wgrad", False)])
def test_forward_products_with_one_backward_product(built, data, tmp_path, gone, has_gradient):
    """Without dgrad the weight, a parameter, is there all the same; without wgrad the input may be gone."""
    directory = changed(built, tmp_path / "changed", lambda m: without_products(m, gone))
    with Package(directory) as other:
        profile(other, load_data(data, other), tmp_path / "m.json", Plan(2))
    head = metrics.load(tmp_path / "m.json").product("head")
    for entry in head.points[0].candidates:
        assert entry["be_median"].mean > 0 and (entry["loss_mse"].mean is not None) == has_gradient
    assert (head.gradient is not None) == has_gradient


def test_nan_parameter_is_named(package, data, tmp_path):
    package.view("head.weight")[3, 4] = np.nan
    with pytest.raises(Error, match="parameter 'head.weight': 1 of 960 values are not finite, at step 0"):
        profile(package, load_data(data, package), tmp_path / "m.json", Plan(batches=1))
    assert not (tmp_path / "m.json").exists()


def test_nonfinite_stops_or_goes_on(built, data, tmp_path):
    """An overflow in the forward pass: the tensor is named, or counted."""
    tensors = stacked(4)
    tensors["x"][1] = 3e38

    def overflow(one):
        one.view("head.weight")[:] = 10

    with Package(built) as one:
        overflow(one)
        with pytest.raises(Error, match=r"tensor 'head/grad' has \d+ NaN and \d+ infinite of 240 elements, in batch 1"):
            profile(one, Data(tensors), tmp_path / "m.json", Plan(4))
    assert not (tmp_path / "m.json").exists()
    with Package(built) as one:
        overflow(one)
        plan = Plan(4, stop_on_nonfinite=False, probes=Probes("role", "i8*i8"))
        profile(one, Data(tensors), tmp_path / "m.json", plan)
    found = json.loads((tmp_path / "m.json").read_text())
    jsonschema.validate(found, json.loads((ROOT / "docs/metrics.schema.json").read_text()))
    sentences = list(metrics.nonfinite(metrics.load(tmp_path / "m.json")))
    assert len(sentences) == 1 and sentences[0].startswith("tensor 'head/grad' had ")


def test_all_zero_tensors_are_a_documented_result(package, data, tmp_path):
    package.view("head.weight")[:] = 0
    tensors = stacked(2)
    tensors["labels"][:] = -100
    profile(package, Data(tensors), tmp_path / "m.json", Plan(2, probes=Probes("role", "i8*i8")))
    found = metrics.load(tmp_path / "m.json")
    jsonschema.validate(
        json.loads((tmp_path / "m.json").read_text()), json.loads((ROOT / "docs/metrics.schema.json").read_text())
    )
    for product in found.products:
        (point,) = product.points
        assert point.excluded == 1
        assert all(entry[name].mean is None for entry in point.candidates for name in ("be_median", "rel_var"))
    assert found.products[0].rhs.points[0].min_nonzero is None and found.probes[0].points[0].rel_var.mean is None


# The command.


def test_profile_and_show(mptc, built, data, tmp_path):
    out = tmp_path / "metrics.json"
    arguments = ("profile", built, "--data", data, "--batches", 2, "--at-steps", "0,4", "-o", out, "--lr", 0.01)
    done = mptc(*arguments, "--exact", "--probe-candidates", "i8*i8,bf16*bf16")
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}: 4 batches measured" in done.stdout.replace("\n", "")
    shown = mptc("metrics", "show", out)
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("head/dgrad", "E4M3 x E4M3", "SQNR", "whole (3)", "persistent"))
    shown = mptc("metrics", "show", out, "*wgrad", "--step", 4)
    assert "head/wgrad" in shown.stdout and "head/dgrad" not in shown.stdout
    for refused, why in ((("nothing",), "no product matches 'nothing'"), (("--step", 9), "no point at step 9")):
        failed = mptc("metrics", "show", out, *refused)
        assert failed.returncode == 1 and why in failed.stderr


def test_profile_refuses_in_one_line(mptc, built, data, tmp_path):
    failed = mptc("profile", built, "--data", tmp_path / "none", "-o", tmp_path / "m.json")
    assert failed.returncode == 1 and failed.stderr == f"mptc: error: {tmp_path / 'none'}: no such batches file\n"
    failed = mptc("profile", built, "--data", data, "-o", tmp_path / "no" / "m.json")
    assert failed.returncode == 1 and "does not exist" in failed.stderr
    failed = mptc("profile", built, "--data", data, "-o", tmp_path / "m.json", "--at-steps", "5,1")
    assert failed.returncode == 2 and "expected ascending step numbers" in failed.stderr
    failed = mptc("profile", built, "--data", data, "-o", tmp_path / "m.json", "--candidates", "fp8*fp8")
    assert failed.returncode == 1 and "'fp8'" in failed.stderr
    for name, text in (("absent.mlir", None), ("empty.mlir", "module {}\n"), ("binary.mlir", b"\xff\xfe")):
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        failed = mptc("profile", tmp_path / name, "--data", data, "-o", tmp_path / "m.json")
        assert failed.returncode == 1 and name in failed.stderr and "Traceback" not in failed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batches.safetensors", "binary.mlir", "empty.mlir"]


@pytest.mark.slow
def test_a_graph_is_built_and_cleared_away(store, tmp_path):
    from mpt import stages

    stages.import_model(store.path("tinyA"), tmp_path / "graph.mlir")
    stages.differentiate(tmp_path / "graph.mlir", tmp_path / "step.mlir")
    before = sorted(tmp_path.iterdir())
    hashes = set()
    for source in ("graph.mlir", "step.mlir"):
        with opened(tmp_path / source, tmp_path / "metrics.json", 2) as package:
            hashes.add(package.graph_hash)
    assert len(hashes) == 1 and sorted(tmp_path.iterdir()) == before


def test_interrupt_keeps_the_batches_that_are_done(built, data, tmp_path):
    out = tmp_path / "metrics.json"
    command = [sys.executable, "-m", "mpt", "profile", str(built), "--data", str(data), "-o", str(out)]
    points = ",".join(map(str, range(5000)))
    command += ["--batches", "50", "--at-steps", points, "--lr", "0", "--probe-candidates", "i8*i8"]
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
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors
    found = metrics.load(out)
    assert not found.complete and 1 <= found.points[-1].batches <= found.batches <= 50
    for part in (*found.products, *found.tensors, *found.probes):
        assert len(part.points) == len(found.points) < 5000
    assert found.products[0].points[-1].candidates[0]["be_median"].mean > 0
