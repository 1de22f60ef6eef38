# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Do metrics foretell which assignments train? One model under many assignments (`mptc study assignments`).

In this order, each stage leaving files in the directory and skipped where they are there:

    metrics.json             an FP32 profile at some points of training, with the formats that are tried
    price/step-L.mlir        the step at the width, batch and depth that times are predicted for
    NAME/decisions.json      an assignment, and NAME/priced.json the same on the deeper step
    plan.json                what metrics say of each assignment, and what will count as diverged or
                             equivalent: written before anything is trained
    NAME/runs/               training under each assignment, by seed (mpt.verify_train)
    results.json, summary.md, losses.png

Seeds are the outer loop, so that a study that is stopped has every assignment under fewer seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpt import data, decisions, metrics, stages, verify, verify_train
from mpt.console import console
from mpt.decisions import Decisions, Product
from mpt.files import staged
from mpt.metrics import Metrics
from mpt.profile import Probes, Profiler, Sampling
from mpt.runtime import Package
from mpt.study import StudyError, make_directory, model, sizes

FORMAT, VERSION = "mpt-assignments", 1
SUMS = ("loss_mse", "noise_ratio", "persistent")

# What products are measured with, "other*gradient"; forward products hold both operands in the first format.
CANDIDATES = ("bf16*bf16", "f8E4M3FN*f8E4M3FN", "f8E4M3FN*f8E5M2", "i8*i8", "i8*i8[stochastic]")
# What all products of a role are in while the gradient of the whole step is measured. A gradient without a
# scale is only probed: as a candidate of single products it would be offered to the policies.
PROBES = (*CANDIDATES[1:], "f8E4M3FN*f8E5M2[fixed=1]")


@dataclass(frozen=True)
class Assignment:
    """A policy with its settings; or, where `formats` says "other*gradient", that in every product."""

    name: str
    title: str
    policy: str = "bf16"
    formats: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    scale: float | None = None  # of policy budget's default bounds
    like: str | None = None  # of policy budget: the sums that this assignment has are the bounds


ASSIGNMENTS = (
    Assignment("bf16", "BF16"),
    Assignment("uniform", "uniform HYBRID", "uniform"),
    Assignment("int8-nearest", "INT8, nearest", formats="i8*i8", settings={"target": "cpu-emulated"}),
    Assignment(
        "int8-stochastic", "INT8, stochastic gradients", formats="i8*i8[stochastic]", settings={"target": "cpu-emulated"}
    ),
    Assignment("e5m2-unscaled", "E5M2 gradients, scale 1", formats="f8E4M3FN*f8E5M2[fixed=1]"),
    Assignment("threshold", "threshold", "threshold"),
    Assignment("budget", "budget, default bounds", "budget", scale=1.0),
    Assignment("budget-uniform", "budget, uniform's errors", "budget", like="uniform"),
    Assignment("fp32", "FP32", "fp32"),
)
BASELINE = "bf16"


@dataclass(frozen=True)
class Plan:
    """What is trained and measured. `priced`: layers of the steps whose times are predicted; () for none."""

    case: model.Case
    assignments: Sequence[Assignment] = ASSIGNMENTS
    steps: int = 1000
    seeds: Sequence[int] = (0, 1, 2)
    # The margin is mptc verify's. A step's loss varies by about 0.5 from batch to batch: means over 100 steps, and
    # differences between runs on the same batches, take most of that out.
    criteria: verify.Criteria = verify.Criteria(margin=0.005, window=100, excess=0.05, patience=50)
    batches: int = model.BATCHES
    priced: tuple[int, ...] = (4, 24)
    jobs: int = 2  # runs side by side
    threads: int = 1  # of a run
    corpus: Path = data.CORPUS
    spare: int = 64  # batches beyond those that training and profile read: mpt.study.ranking's

    def check(self) -> None:
        """Raise StudyError or ValueError for what cannot be run."""
        names = [entry.name for entry in self.assignments]
        if BASELINE not in names:
            raise StudyError(f"no assignment '{BASELINE}' to compare with among {', '.join(names)}")
        for entry in self.assignments:
            if entry.like is not None and entry.like not in names[: names.index(entry.name)]:
                raise StudyError(f"assignment '{entry.name}' takes its bounds from '{entry.like}', which is not before it")
        if self.jobs < 1 or self.threads < 1:
            raise StudyError(f"jobs is {self.jobs} and threads {self.threads}, expected at least 1")
        self.criteria.check(self.steps)


# The profile.


def measure(plan: Plan, out: Path, batches: data.Batches, path: Path, candidates: Sequence[str], points: Sequence[int],
            probes: Probes = Probes()) -> Metrics:  # fmt: skip
    """Profile at points of training that have a checkpoint in `out`, into the file `path`; or read it from there."""
    if not path.exists():
        sampling = Sampling(candidates=",".join(candidates))
        with Package(out / "cpu-fp32", threads=plan.jobs * plan.threads) as package:
            with Profiler(package, sampling, batches=plan.batches, probes=probes) as profiler:
                for point in points:
                    if point:
                        package.load(str(model.checkpoint_path(out, point)))
                    profiler.begin_point()
                    for index in range(plan.batches):
                        profiler.batch(batches[point + index], point + index)
                    profiler.end_point()
                    console.print(f"profile: step {point} measured")
                profiler.write(path)
    return metrics.load(path)


# Assignments.


def operands(product: metrics.Product | None, formats: str) -> tuple[str, str]:
    """Formats of lhs and rhs of a product of a profile under "other*gradient"."""
    other, _, gradient = formats.partition("*")
    if product.role == "fprop":
        return other, other
    return (gradient, other) if product.lhs.name.endswith("/grad") else (other, gradient)


def pins_for(profile: Metrics, formats: str, products: Sequence[metrics.Product] | None = None) -> list[str]:
    """Pins that hold products of a profile, all if none are given, in "other*gradient"."""
    chosen = profile.products if products is None else products
    return [f"{decisions.escape(product.name)}={'/'.join(operands(product, formats))}" for product in chosen]


def default_bounds(profile: Metrics) -> dict[str, float]:
    """The budget policy's bounds (docs/metrics.md), with the least of the points' losses."""
    loss = min(point.loss.mean for point in profile.points)
    return {
        "loss_mse": (verify.LOSS_BOUND * loss) ** 2, "noise_ratio": verify.NOISE_BOUND,
        "persistent": verify.PERSISTENT_BOUND,
    }  # fmt: skip


def decide(entry: Assignment, plan: Plan, out: Path, profile: Metrics, others: Mapping[str, Decisions]) -> Decisions:
    """Assign formats to the step in `out`; leaves NAME/decisions.json, or reads it."""
    place = make_directory(out / entry.name)
    record = place / "decisions.json"
    if not record.exists():
        settings = dict(entry.settings)
        if plan.priced and settings.get("target") != "cpu-emulated":
            settings["price-at"] = str(out / "price" / f"step-{plan.priced[0]}.mlir")
        if entry.policy == "budget":
            if entry.like is not None:
                bounds = sums(others[entry.like], profile)
            else:
                bounds = {name: entry.scale * value for name, value in default_bounds(profile).items()}
            # Sums are rounded up in their last digits, so that the assignment that they are of keeps them.
            settings |= {name.replace("_", "-"): f"{value * (1 + 1e-9):.17g}" for name, value in bounds.items()}
        pins = pins_for(profile, entry.formats) if entry.formats else []
        assigned = place / "assigned.mlir"
        stages.assign(out / "step.mlir", assigned, entry.policy, pins, out / "metrics.json", record, settings)
        for path in (assigned, assigned.with_suffix(".safetensors")):
            path.unlink(missing_ok=True)
    return decisions.load(record)


# What metrics say of an assignment.


def probe_text(product: Product, profile: Metrics) -> str:
    """A product's chosen formats as a probe's candidate, "other*gradient"."""
    sides = [product.chosen.lhs, product.chosen.rhs]
    if profile.product(product.name).lhs.name.endswith("/grad"):
        sides.reverse()
    texts = (decisions.pin_text(side) for side in sides)
    return "*".join(text.replace("per_row", "per_vector").replace("per_column", "per_vector") for text in texts)


def upper(value: metrics.Summary) -> float | None:
    """The upper end of an interval; of a few batches, which have none, the mean."""
    return value.mean if value.high is None else value.high


def probed(profile: Metrics, role: str, text: str) -> float | None:
    """The upper end of the persistent error with all products of a role in a format, at the worst point."""
    for probe in profile.probes:
        if (probe.role, probe.layer, probe.candidate) == (role, None, text):
            values = [upper(point.persistent) for point in probe.points]
            return max((value for value in values if value is not None), default=None)
    return None


def contributions(product: Product, role_size: int) -> dict[str, float]:
    """What the budget policy counts of a product's chosen formats: upper ends at the worst point, at least 0.

    Persistent errors of dgrad are an equal share of the role's probe.
    """
    found = dict(product.taken.metrics) if product.taken else {}
    if product.role == "dgrad" and "role_persistent" in found:
        found["persistent"] = found["role_persistent"] / role_size
    return {name: max(found[name], 0.0) for name in SUMS if name in found}


def sums(record: Decisions, profile: Metrics) -> dict[str, float]:
    """Each of SUMS over the record's products, as far as they were measured."""
    sizes_ = {role: sum(product.role == role for product in record.products) for role in decisions.ROLES}
    total = dict.fromkeys(SUMS, 0.0)
    for product in record.products:
        for name, value in contributions(product, sizes_[product.role]).items():
            total[name] += value
    return total


def role_probes(record: Decisions, profile: Metrics) -> dict[str, float | None]:
    """By role, the probes of the formats that its products hold in 8 bits, each times its share of the products.

    None where a format was not probed. A mixture of formats is taken to lie between its probes.
    """
    result: dict[str, float | None] = {}
    for role in decisions.ROLES:
        own = [product for product in record.products if product.role == role]
        low = [product for product in own if product.chosen.low]
        values = [probed(profile, role, probe_text(product, profile)) for product in low]
        result[role] = None if None in values else sum(max(value, 0.0) for value in values) / max(len(own), 1)
    return result


@dataclass(frozen=True)
class Forecast:
    """What metrics say of an assignment before it is trained: sums and probes against their bounds."""

    sums: dict[str, float]
    probes: dict[str, float | None]
    unmeasured: int  # products in 8 bits that have no metrics of their own in these formats
    harmful: list[str]  # bounds that are missed: of the loss and of persistent errors
    noisy: list[str]  # of the gradient's noise, which averages out

    @property
    def accepted(self) -> bool:
        return not (self.harmful or self.noisy)

    @property
    def text(self) -> str:
        """"accepted", "noisy" (only the bound on noise is missed) or "rejected", with the reasons."""
        word = "rejected: " if self.harmful else "noisy: " if self.noisy else "accepted"
        return word + "; ".join(self.harmful + self.noisy)


def forecast(record: Decisions, profile: Metrics, bounds: Mapping[str, float]) -> Forecast:
    """Accept or reject an assignment: every sum and every role's probe has to keep its bound.

    Persistent errors foretell divergence (docs/metrics.md). Noise does not: what misses only its
    bound trains with noisier gradients than policy `budget` admits, and is called noisy.
    """
    total, probes = sums(record, profile), role_probes(record, profile)
    missing = [product for product in record.products if product.chosen.low and product.taken is None]
    missed = {name: f"Σ {name} {total[name]:.3g} > {bounds[name]:.3g}" for name in SUMS if total[name] > bounds[name]}
    harmful = [missed[name] for name in ("loss_mse", "persistent") if name in missed]
    limit = verify.PERSISTENT_BOUND
    for role, value in probes.items():
        if value is not None and value > limit:
            harmful.append(f"probe of {role} {value:.3g} > {limit:.3g}")
        if value is None and any(product.role == role for product in missing):
            harmful.append(f"{role} in formats that were neither measured nor probed")
    return Forecast(total, probes, len(missing), harmful, [missed[name] for name in ("noise_ratio",) if name in missed])


# Prices.


def priced(entry: Assignment, plan: Plan, out: Path, record: Decisions) -> Decisions | None:
    """The assignment on the deepest priced step: layer i of L takes the formats of layer i * own / L.

    None where nothing is priced. Formats that the h200 target does not run are counted on
    cpu-emulated, whose times say nothing: such a record's target tells.
    """
    if not plan.priced:
        return None
    path = out / entry.name / "priced.json"
    if not path.exists():
        step = out / "price" / f"step-{plan.priced[-1]}.mlir"
        own = 1 + max(product.layer for product in record.products if product.layer is not None)
        target = entry.settings.get("target", "h200")
        stages.assign(step, path.with_suffix(".mlir"), "bf16", sizes.transferred(record, own, plan.priced[-1]), None, path,
                      {"target": target})  # fmt: skip
        path.with_suffix(".mlir").unlink()
    return decisions.load(path)


# The whole.


def settings_of(plan: Plan, out: Path) -> dict[str, Any]:
    """As JSON, what the losses depend on: a directory belongs to one of these."""
    return {
        "case": plan.case.name, "steps": plan.steps, "schedule": asdict(plan.case.schedule),
        "criteria": asdict(plan.criteria), "threads": plan.threads, "step": verify_train.digest(out / "step.mlir"),
        "data": verify_train.digest(out / "batches.safetensors"),
        "metrics": verify_train.digest(out / "metrics.json"),
    }  # fmt: skip


def write_plan(plan: Plan, out: Path, content: dict[str, Any]) -> None:
    """Write plan.json, or raise StudyError where there is one of another study. Assignments may be added."""
    path = out / "plan.json"
    if path.exists():
        found = json.loads(path.read_text())
        for name, value in content["settings"].items():
            if found.get("settings", {}).get(name) != value:
                known = found.get("settings", {}).get(name)
                raise StudyError(f"{path} is of another study: {name} is {known}, now {value}; use another directory")
        for name, value in found.get("assignments", {}).items():
            if name in content["assignments"] and content["assignments"][name] != value:
                raise StudyError(f"{path}: assignment '{name}' was another one; use another directory")
        content["assignments"] = found["assignments"] | content["assignments"]
    with staged(path) as inner:
        inner.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def prepare(plan: Plan, out: Path) -> tuple[Metrics, dict[str, Decisions], dict[str, Forecast]]:
    """Everything before training: model, profile, priced steps, assignments, and what metrics say of them."""
    batches = model.prepare(plan.case, out, plan.batches + plan.spare, plan.corpus)
    model.train(plan.case, out, batches)
    probes = Probes("role", ",".join(PROBES))
    profile = measure(plan, out, batches, out / "metrics.json", CANDIDATES, plan.case.points, probes)
    for layers in plan.priced:
        sizes.priced_step(layers, out)
    bounds = default_bounds(profile)
    records: dict[str, Decisions] = {}
    forecasts: dict[str, Forecast] = {}
    for entry in plan.assignments:
        records[entry.name] = decide(entry, plan, out, profile, records)
        forecasts[entry.name] = forecast(records[entry.name], profile, bounds)
        priced(entry, plan, out, records[entry.name])
    content = {"format": FORMAT, "version": VERSION, "settings": settings_of(plan, out), "bounds": bounds}
    content["assignments"] = {name: asdict(found) for name, found in forecasts.items()}
    write_plan(plan, out, content)
    return profile, records, forecasts


def run(plan: Plan, out: Path) -> dict[str, Any]:
    """Do the whole study in the directory `out`, or what of it is not there yet; return results.json's content."""
    from mpt.study import assignments_report, trials

    plan.check()
    out = make_directory(out)
    with verify_train.locked(out):
        profile, records, forecasts = prepare(plan, out)
        for name, found in forecasts.items():
            console.print(f"{name}: {found.text}", markup=False, highlight=False)
        trials.train_all(plan, out, records)
        return assignments_report.write(plan, out, records, forecasts)
