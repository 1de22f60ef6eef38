# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mptc study assignments and ranking on a tiny BERT: stages, verdicts, interruption, correlation."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpt import decisions, demo, metrics, stages, verify
from mpt.study import StudyError, assignments, model, ranking, sizes, trials
from mpt.study.assignments import Assignment, Plan
from mpt.study.ranking import Entry
from mpt.train import Schedule, read_log

pytestmark = pytest.mark.slow
# All are decided, some are trained.
TRAINED = tuple(e for e in assignments.ASSIGNMENTS if e.name in ("bf16", "uniform", "int8-stochastic", "fp32"))
SPEC = demo.DemoModel(hidden=32, layers=2, heads=2, intermediate=64, vocab=400, positions=64, batch=2, seq=32)
DOCS = Path(__file__).resolve().parents[2] / "docs"
PNG = b"\x89PNG\r\n\x1a\n"


def tiny_case() -> model.Case:
    return model.Case(
        "tiny", "a tiny BERT", (0, 4), Schedule(1e-3, 2),
        lambda out, count, corpus: demo.prepare_data(out, SPEC, count, corpus), lambda: demo.build_model(SPEC),
    )  # fmt: skip


def tiny_plan(corpus: Path, steps: int = 6, **changes) -> Plan:
    criteria = verify.Criteria(margin=0.5, window=2, excess=0.2, patience=2)
    plan = Plan(tiny_case(), TRAINED, steps, (0, 1), criteria, batches=2, priced=(2, 4), corpus=corpus, spare=3)
    return replace(plan, **changes)


def write_corpus(folder: Path) -> Path:
    folder.mkdir()
    for number, page in enumerate(sorted(DOCS.glob("*.md"))):
        (folder / f"{number}.rst.txt").write_text(page.read_text())
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A whole study: directory, corpus and results.json."""
    try:
        stages.find_tool("mpt-opt")
    except stages.StageError as error:
        pytest.skip(str(error))
    place = tmp_path_factory.mktemp("study")
    corpus = write_corpus(place / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HIDDEN": 64, "BATCH": 2, "SEQ": 32, "VOCAB": 512}.items():
            patch.setattr(sizes, name, value)
        (place / "out").mkdir()
        assignments.prepare(tiny_plan(corpus, assignments=assignments.ASSIGNMENTS), place / "out")
        results = assignments.run(tiny_plan(corpus), place / "out")
    return place / "out", corpus, results


def losses(out: Path) -> dict[str, list[float]]:
    logs = sorted(out.glob("*/runs/*/seed-?.jsonl"))
    return {str(log.relative_to(out)): [record.loss for record in read_log(log)] for log in logs}


def test_every_assignment_is_trained_under_every_seed(study):
    out, _, results = study
    found = losses(out)
    names = [entry.name for entry in TRAINED]
    assert sorted(found) == sorted(f"{name}/runs/assigned/seed-{seed}.jsonl" for name in names for seed in (0, 1))
    assert all(len(values) == 6 and np.isfinite(values).all() for values in found.values())
    assert len({tuple(values) for values in found.values()}) == 2 * len(names)  # formats make a difference
    assert list(results["assignments"]) == names
    for name, entry in results["assignments"].items():
        assert entry["training"]["final"]["1"] == pytest.approx(np.mean(found[f"{name}/runs/assigned/seed-1.jsonl"][-2:]))
        assert ("judgement" in entry["training"]) == (name != "bf16")
    assert not list(out.glob("*/runs/*/package"))


def test_baseline_and_fp32_are_what_they_say(study):
    out = study[0]
    for name, label in (("bf16", "BF16 x BF16"), ("fp32", "F32 x F32"), ("int8-nearest", "INT8 x INT8")):
        assert {product.label for product in decisions.load(out / name / "decisions.json").products} == {label}
    for product in decisions.load(out / "e5m2-unscaled" / "decisions.json").products:
        expected = ["f8E4M3FN"] if product.role == "fprop" else ["f8E5M2[fixed=1]", "f8E4M3FN"]
        assert sorted(product.chosen.pin.split("/")) == sorted(expected)
    stochastic = decisions.load(out / "int8-stochastic" / "decisions.json").product("encoder.layer.0.output.dense/wgrad")
    profile = metrics.load(out / "metrics.json")
    assert profile.product(stochastic.name).lhs.name.endswith("/grad") == (stochastic.chosen.lhs["rounding"] == "stochastic")
    assert {stochastic.chosen.lhs["rounding"], stochastic.chosen.rhs["rounding"]} == {"nearest", "stochastic"}


def test_metrics_judge_before_training(study):
    """plan.json is older than any log, and its sums are those of the budget policy."""
    out = study[0]
    plan = json.loads((out / "plan.json").read_text())
    assert (out / "plan.json").stat().st_mtime <= min(log.stat().st_mtime for log in out.glob("*/runs/*/*.jsonl"))
    record = decisions.load(out / "budget" / "decisions.json")
    for bound in record.budget.bounds:
        assert plan["assignments"]["budget"]["sums"][bound.name] == pytest.approx(bound.sum, rel=1e-6, abs=1e-15)
        assert bound.limit == pytest.approx(plan["bounds"][bound.name], rel=1e-6)
    # A solution exists that is uniform's own: it cannot be slower.
    uniform, like = (decisions.load(out / name / "decisions.json") for name in ("uniform", "budget-uniform"))
    assert like.budget.status == "optimal" and like.time_us <= uniform.time_us * (1 + 1e-9)
    for bound in like.budget.bounds:
        assert bound.limit == pytest.approx(plan["assignments"]["uniform"]["sums"][bound.name], rel=1e-6)
        assert bound.sum <= bound.limit * (1 + 1e-8)
    assert plan["assignments"]["fp32"]["sums"] == dict.fromkeys(assignments.SUMS, 0.0)


def test_forecasts_name_what_is_missed(study):
    out = study[0]
    profile = metrics.load(out / "metrics.json")
    record = decisions.load(out / "int8-nearest" / "decisions.json")
    own = assignments.sums(record, profile)
    assert own["persistent"] > 0 and own["noise_ratio"] > 0 and own["loss_mse"] > 0
    wide = {name: 2 * value for name, value in own.items()}
    assert assignments.forecast(record, profile, wide).noisy == []
    noisy = assignments.forecast(record, profile, wide | {"noise_ratio": own["noise_ratio"] / 2})
    assert len(noisy.noisy) == 1 and "noise_ratio" in noisy.text and not noisy.accepted
    worse = assignments.forecast(record, profile, wide | {"persistent": own["persistent"] / 2})
    assert worse.harmful[0].startswith("Σ persistent") and worse.text.startswith("rejected: ")
    none = decisions.load(out / "bf16" / "decisions.json")
    assert assignments.forecast(none, profile, wide).text == "accepted"


def test_formats_that_nothing_was_measured_of_are_rejected(study):
    out = study[0]
    profile = metrics.load(out / "metrics.json")
    record = decisions.load(out / "e5m2-unscaled" / "decisions.json")
    probed = assignments.forecast(record, profile, {name: 1.0 for name in assignments.SUMS})
    backward = sum(product.role != "fprop" for product in record.products)
    assert probed.unmeasured == backward and probed.harmful == [] and None not in probed.probes.values()
    unknown = assignments.forecast(record, replace(profile, probes=[]), {name: 1.0 for name in assignments.SUMS})
    assert [text.partition(" ")[0] for text in unknown.harmful] == ["dgrad", "wgrad"]


def test_priced_assignments_are_carried_to_the_deeper_model(study):
    out, _, results = study
    record, large = (decisions.load(out / "uniform" / name) for name in ("decisions.json", "priced.json"))
    assert len([p for p in large.products if p.layer == 3]) == len([p for p in record.products if p.layer == 1])
    for product in large.products:
        name = product.name if product.layer is None else product.name.replace(f".{product.layer}.", f".{product.layer // 2}.")
        assert product.label == record.product(name).label
    price = results["assignments"]["uniform"]["predicted"]
    assert price["us"] == large.predicted["total_us"] and 0 < price["share_priced"] < 1
    assert "us" not in results["assignments"]["int8-stochastic"]["predicted"]  # an H200 does not run it


def test_summary(study):
    out = study[0]
    page = (out / "summary.md").read_text()
    for entry in TRAINED:
        assert page.count(f"\n| {entry.title} |") == 2
    assert "(losses.png)" in page and (out / "losses.png").read_bytes().startswith(PNG)


# Its workers import it too: steps are slowed down, so that there is a middle to stop in.
SCRIPT = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_assignments import TRAINED, tiny_plan
from mpt import verify_train
from mpt.study import assignments
plain = verify_train.Shuffled.__getitem__
verify_train.Shuffled.__getitem__ = lambda self, index: time.sleep(0.004) or plain(self, index)
if __name__ == "__main__":
    assignments.run(tiny_plan(Path({corpus!r}), steps=300, assignments=TRAINED[:2], priced=()), Path(sys.argv[1]))
"""


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_study_goes_on_to_the_same_bits(study, tmp_path):
    """Ctrl-C in the middle of two runs, then SIGKILL; what was done is not done again, and curves are the same."""
    prepared, corpus, _ = study
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), corpus=str(corpus)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    for name in ("whole", "out"):
        (tmp_path / name).mkdir()
        for path in prepared.iterdir():
            if path.is_file() and path.suffix in (".safetensors", ".mlir", ".onnx") or path.name == "metrics.json":
                shutil.copy(path, tmp_path / name)
        shutil.copytree(prepared / "cpu-fp32", tmp_path / name / "cpu-fp32")

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, script, out], env=environment, stderr=subprocess.PIPE, text=True)

    whole, out = start(tmp_path / "whole"), tmp_path / "out"
    assert whole.wait(120) == 0, whole.stderr.read()

    def lines(name: str) -> int:
        return trials.taken(out / name / "runs" / "assigned" / "seed-0.part.jsonl")

    first = start(out)
    wait_for(lambda: lines("bf16") > 10 and lines("uniform") > 10)
    first.send_signal(signal.SIGINT)
    assert first.wait(30) != 0
    parts = sorted(path.name for path in out.glob("bf16/runs/assigned/seed-0*"))
    assert parts == ["seed-0.part.jsonl", "seed-0.part.safetensors"]
    before = lines("bf16")
    assert 10 < before < 300
    second = start(out)
    wait_for(lambda: lines("bf16") > before)
    second.kill()
    second.wait()
    wait_for(lambda: not subprocess.run(["pgrep", "-P", str(second.pid)], capture_output=True).stdout)
    third = start(out)
    assert third.wait(120) == 0, third.stderr.read()
    assert losses(out) == losses(tmp_path / "whole") and len(losses(out)) == 4
    stamps = {log: log.stat().st_mtime_ns for log in out.glob("*/runs/*/*.jsonl")}
    again = start(out)
    assert again.wait(60) == 0
    assert {log: log.stat().st_mtime_ns for log in out.glob("*/runs/*/*.jsonl")} == stamps


def test_another_study_is_refused(study):
    out, corpus, _ = study
    with pytest.raises(StudyError, match=r"plan.json is of another study: steps is 6, now 7"):
        assignments.run(tiny_plan(corpus, steps=7), out)


def test_what_cannot_be_run(tmp_path):
    plan = tiny_plan(tmp_path)
    with pytest.raises(StudyError, match="no assignment 'bf16'"):
        replace(plan, assignments=TRAINED[1:]).check()
    twisted = (Assignment("b", "b", "budget", like="uniform"), *TRAINED[:2])
    with pytest.raises(StudyError, match="'b' takes its bounds from 'uniform', which is not before it"):
        replace(plan, assignments=twisted).check()
    with pytest.raises(StudyError, match="expected at least 1"):
        replace(plan, jobs=0).check()


# Ranking.


def test_spearman_against_its_definition():
    """Without ties 1 - 6 sum d² / (n (n² - 1)); with ties Pearson's of mean ranks (Kendall, Rank Correlation Methods)."""
    draw = np.random.default_rng(0)
    for n in (2, 3, 10, 50):
        x, y = draw.permutation(n).astype(float), draw.permutation(n).astype(float)
        expected = 1 - 6 * np.sum((x - y) ** 2) / (n * (n**2 - 1))
        assert ranking.spearman(np.exp(x), y**3) == pytest.approx(expected)
    assert ranking.ranks([3.0, 1.0, 3.0, 2.0, 3.0]).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]
    # By hand: ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5.
    assert ranking.spearman([1, 2, 2, 9], [0, 5, 4, 7]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert ranking.spearman([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="not finite"):
        ranking.spearman([1, math.nan], [1, 2])
    with pytest.raises(ValueError, match="2 and 3 values"):
        ranking.spearman([1, 2], [1, 2, 3])


class ListPackage:
    """A package whose gradients are given."""

    def __init__(self, losses, rows):
        self.losses, self.rows = losses, rows

    def gradient(self, batch, seed=0, rng_step=None):
        assert rng_step == batch
        return self.losses[batch], {"b": self.rows[batch][2:], "a": self.rows[batch][:2].reshape(1, 2)}


def test_damage_is_what_metrics_say_of_probes():
    draw = np.random.default_rng(1)
    count, first = 5, 3
    plain = draw.normal(size=(first + count, 6)).astype(np.float32)
    rounded = (plain + 0.1 * draw.normal(size=plain.shape) + 0.2).astype(np.float32)
    losses_ = draw.normal(size=(2, first + count))
    reference = ranking.Reference.of(ListPackage(losses_[0], plain), range(20), first, count)
    found = reference.damage(ListPackage(losses_[1], rounded), range(20), first)
    g, d = plain[first:].astype(float), rounded[first:].astype(float) - plain[first:].astype(float)
    noise = np.sum(np.var(g, axis=0, ddof=1))
    assert found["rel_var"] == pytest.approx(np.sum(d**2) / np.sum(g**2))
    assert found["noise_ratio"] == pytest.approx(np.sum(np.var(d, axis=0, ddof=1)) / noise)
    constant = np.sum(d.mean(axis=0) ** 2) - np.sum(np.var(d, axis=0, ddof=1)) / count
    assert found["persistent"] == pytest.approx(constant / np.sum(g.mean(axis=0) ** 2))
    change = losses_[1, first:] - losses_[0, first:]
    assert (found["loss_mse"], found["loss_change"]) == (pytest.approx(np.mean(change**2)), pytest.approx(np.mean(change)))
    with pytest.raises(StudyError, match="1 batches to measure, expected at least 2"):
        ranking.Reference.of(ListPackage(losses_[0], plain), range(20), first, 1)


ENTRIES = (
    Entry("i8*i8"), Entry("f8E4M3FN*f8E4M3FN[fixed=1]"), Entry("f8E4M3FN*f8E5M2"), Entry("i8*i8", ("dgrad",), 0),
    Entry("i8*i8", ("wgrad",), ranking.HEAD), Entry("f8E4M3FN*f8E5M2", ("fprop",)),
    Entry("i8[per_vector]*i8[per_vector,stochastic]", ("wgrad",)),
)  # fmt: skip


@pytest.fixture(scope="module")
def ranked(study):
    out, corpus, _ = study
    made = ranking.Ranking(tiny_plan(corpus), ENTRIES)
    return made, ranking.run(made, out), out


def test_ranking_measures_every_assignment(ranked):
    _, results, out = ranked
    rows = {row["name"]: row for row in results["points"]["4"]["rows"]}
    assert list(results["points"]) == ["4"] and len(rows) == len(ENTRIES)
    for row in rows.values():
        assert row["measured"]["rel_var"] > 0
    # Gradients of this size are flushed by E4M3 without a scale, and forward formats alone change the loss.
    assert rows[ENTRIES[1].name]["measured"]["damage"] > rows[ENTRIES[2].name]["measured"]["damage"]
    assert [bool(rows[entry.name]["measured"]["loss_mse"]) for entry in ENTRIES] == [True, True, True, False, False, True, False]
    for what in results["points"]["4"]["spearman"].values():
        assert all(value is None or -1 <= value <= 1 for value in what.values())
    page = (out / "ranking.md").read_text()
    assert all(f"| {entry.title} |" in page for entry in ENTRIES)
    assert (out / "ranking.png").read_bytes().startswith(PNG)


def test_measured_damage_is_what_a_probe_of_these_batches_finds(ranked):
    """Two roads to one number: a package with the formats, and the profiler's probe on the same batches.

    rel_var alone: the products' errors meet in other sums, sketches are exact here (few elements).
    """
    made, results, out = ranked
    own = make_profile(made, out)
    for entry in (ENTRIES[0], ENTRIES[2]):
        expected = next(p for p in own.probes if (p.role, p.candidate) == ("whole", entry.formats)).points[0]
        found = next(row for row in results["points"]["4"]["rows"] if row["name"] == entry.name)["measured"]
        assert found["rel_var"] == pytest.approx(expected.rel_var.mean, rel=0.05)


def make_profile(made: ranking.Ranking, out: Path) -> metrics.Metrics:
    """A profile with whole-step probes on the batches that a ranking measures."""
    from mpt import data
    from mpt.profile import Probes, Profiler, Sampling
    from mpt.runtime import Package

    batches = data.load_batches(out / "batches.safetensors")
    path = out / "ranking" / "check.json"
    probes = Probes("role", f"{ENTRIES[0].formats},{ENTRIES[2].formats}")
    with Package(out / "cpu-fp32", threads=1) as package:
        package.load(str(model.checkpoint_path(out, 4)))
        with Profiler(package, Sampling(candidates="bf16*bf16"), batches=made.plan.spare, probes=probes) as profiler:
            profiler.begin_point()
            for index in range(made.plan.spare):
                first = 4 + made.plan.batches + index
                profiler.batch(batches[first], first)
            profiler.end_point()
            profiler.write(path)
    return metrics.load(path)


def test_what_was_measured_is_not_measured_again(ranked, monkeypatch):
    made, results, out = ranked
    monkeypatch.setattr(ranking, "build", lambda *_: pytest.fail("built again"))
    assert ranking.run(made, out) == results


def test_predictions_add_up(ranked):
    made, _, out = ranked
    profile = metrics.load(out / "ranking" / "metrics.json")
    whole, part = ranking.Entry("i8*i8"), [ranking.Entry("i8*i8", (role,)) for role in ranking.ROLES]
    for predictor in ("products", "budget"):
        total = ranking.predictions(whole, profile, 4)[predictor]
        parts = [ranking.predictions(entry, profile, 4)[predictor] for entry in part]
        for name in assignments.SUMS:
            assert total[name] == pytest.approx(sum(entry[name] for entry in parts))
    # What the layers' probes leave of the role's is the head's.
    pieces = [ranking.probes_sum(Entry("i8*i8", ("wgrad",), place), profile, 4, "persistent") for place in (0, 1, ranking.HEAD)]
    role = ranking.probes_sum(Entry("i8*i8", ("wgrad",)), profile, 4, "persistent")
    assert sum(pieces) == pytest.approx(max(role, sum(pieces[:2])))
    with pytest.raises(StudyError, match="no f8E5M2\\*f8E5M2 of product"):
        ranking.predictions(Entry("f8E5M2*f8E5M2"), profile, 4)
    with pytest.raises(StudyError, match="fits no product"):
        Entry("i8*i8", place=7).products(profile)


def test_names_of_entries_are_different():
    names = [entry.name for entry in ranking.ENTRIES]
    assert len(names) == len(set(names)) >= 16 and not any(set(name) & set("*[]/=,") for name in names)
