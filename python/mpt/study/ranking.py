# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Do metrics rank assignments by the damage that they do? (`mptc study ranking`)

At checkpoints of FP32 training the loss and the whole gradient are measured under each assignment
over many batches, and compared with FP32's on the same batches: that is the damage. A profile of
few other batches at the same checkpoints predicts it, product by product. Spearman's correlation
over assignments says whether the order is right, which is all that a policy needs.

Leaves in the directory of `mptc study assignments`, whose model and checkpoints it shares:

    ranking/metrics.json     the profile
    ranking/STEP/NAME.json   what was measured under an assignment; skipped where it is there
    ranking.json, ranking.md, ranking.png
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpt import data, decisions, metrics, stages, verify, verify_train
from mpt.console import bar, console
from mpt.files import staged
from mpt.metrics import Metrics, Probe
from mpt.profile import Probes
from mpt.runtime import Package
from mpt.study import StudyError, assignments, make_directory, model
from mpt.study.assignments import Plan, measure, operands, pins_for
from mpt.study.tolerance import probe_label

MEASURED = ("loss_mse", "rel_var", "noise_ratio", "persistent")
HEAD = "head"
ROLES = decisions.ROLES


@dataclass(frozen=True)
class Entry:
    """An assignment: "other*gradient" in the products of some roles of a layer, of the head, or of all; others in F32."""

    formats: str
    roles: tuple[str, ...] = ROLES
    place: int | str | None = None  # a layer's number, HEAD, or None for everywhere

    @property
    def name(self) -> str:
        """Fit for a file: "dgrad-0-i8*i8" without what file names should not have."""
        where = ["-".join(self.roles) if self.roles != ROLES else "whole"]
        where += [str(self.place)] if self.place is not None else []
        text = self.formats.replace("*", "_").replace("[", "-").replace("]", "").replace("=", "").replace(",", "-")
        return "-".join([*where, text])

    @property
    def group(self) -> str:
        """Where, in words: "dgrad, layer 0"."""
        what = "whole" if self.roles == ROLES else ", ".join(self.roles)
        if self.place is None:
            return what
        return f"{what}, {'head' if self.place == HEAD else f'layer {self.place}'}"

    @property
    def title(self) -> str:
        return f"{self.group}: {probe_label(self.formats)}"

    def products(self, profile: Metrics) -> list[metrics.Product]:
        """The products that it holds in its formats; raises StudyError if there are none."""
        place = None if self.place == HEAD else self.place
        found = [
            product for product in profile.products
            if product.role in self.roles and (self.place is None or product.layer == place)
        ]  # fmt: skip
        if not found:
            raise StudyError(f"assignment '{self.title}' fits no product of the graph")
        return found


E4M3, HYBRID, E5M2 = "f8E4M3FN*f8E4M3FN", "f8E4M3FN*f8E5M2", "f8E5M2*f8E5M2"
INT8, STOCHASTIC = "i8*i8", "i8*i8[stochastic]"
VECTOR, VECTOR_STOCHASTIC = "i8[per_vector]*i8[per_vector]", "i8[per_vector]*i8[per_vector,stochastic]"
E5M2_UNSCALED, E4M3_UNSCALED = "f8E4M3FN*f8E5M2[fixed=1]", "f8E4M3FN*f8E4M3FN[fixed=1]"
FORMATS = ("bf16*bf16", E4M3, HYBRID, E5M2, INT8, STOCHASTIC, VECTOR, VECTOR_STOCHASTIC, E5M2_UNSCALED, E4M3_UNSCALED)

# Harmless and harmful, everywhere, in one role, in one layer, in the head.
ENTRIES = (
    *(Entry(formats) for formats in FORMATS),
    *(Entry(formats, ("fprop",)) for formats in (E4M3, E5M2, INT8, VECTOR)),
    *(Entry(formats, ("dgrad",)) for formats in (E4M3, HYBRID, INT8, STOCHASTIC, VECTOR, E5M2_UNSCALED)),
    *(Entry(formats, ("wgrad",)) for formats in (HYBRID, INT8, STOCHASTIC, VECTOR, E4M3_UNSCALED)),
    *(Entry(formats, place=0) for formats in (HYBRID, INT8)),
    Entry(INT8, place=3),
    Entry(INT8, ("dgrad",), 0),
    Entry(INT8, ("wgrad",), 3),
    *(Entry(formats, place=HEAD) for formats in (HYBRID, INT8, STOCHASTIC)),
)
# Probed in each layer by itself besides: what is left of a role is the head's.
LAYERED = (INT8,)


@dataclass(frozen=True)
class Ranking:
    """What is ranked. The plan's `batches` are the profile's, its `spare` ones are measured."""

    plan: Plan
    entries: Sequence[Entry] = ENTRIES
    layered: Sequence[str] = LAYERED

    @property
    def points(self) -> list[int]:
        """Steps of training with a checkpoint; at the start there is nothing to rank (docs/metrics.md)."""
        return [point for point in self.plan.case.points if point]


def in_role(role: str, formats: str) -> str:
    """What is left of "other*gradient" in a role: forward products have no gradient."""
    other = formats.partition("*")[0]
    return f"{other}*{other}" if role == "fprop" else formats


@dataclass(frozen=True)
class GroupProbes(Probes):
    """The formats of a ranking in each role, and `layered` ones in each role of each layer."""

    formats: tuple[str, ...] = ()
    layered: tuple[str, ...] = ()

    def text(self, package: Package) -> str:
        names = [launch["name"] for launch in package.launch_times() if launch["op"] == "product"]
        layers = sorted({metrics.layer_of(name) for name in names} - {None})
        groups = [(role, role, self.formats) for role in ROLES]
        groups += [(f"{role}@{layer}", role, self.layered) for role in ROLES for layer in layers]
        probes = [f"{group} {in_role(role, formats)}" for group, role, chosen in groups for formats in chosen]
        return ";".join(dict.fromkeys(probes))


# Measured damage.


def flattened(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """All gradients as one vector, parameters by name."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def gradients(package: Package, batches: data.Batches, first: int, count: int,
              take: Callable[[int, float, np.ndarray], None]) -> None:  # fmt: skip
    """Call take(index, loss, gradient) for `count` batches from `first` on, at the package's parameters."""
    for index in range(count):
        loss, arrays = package.gradient(batches[first + index], rng_step=first + index)
        take(index, loss, flattened(arrays))


@dataclass
class Reference:
    """FP32's losses and gradients [batches, elements], and the norms that errors are shares of."""

    losses: np.ndarray
    gradients: np.ndarray

    @classmethod
    def of(cls, package: Package, batches: data.Batches, first: int, count: int) -> Reference:
        """Raises StudyError for fewer than two batches: there is no noise to compare with then."""
        if count < 2:
            raise StudyError(f"{count} batches to measure, expected at least 2")
        losses, rows = np.zeros(count), []

        def take(index: int, loss: float, gradient: np.ndarray) -> None:
            losses[index] = loss
            rows.append(gradient)

        gradients(package, batches, first, count, take)
        return cls(losses, np.stack(rows))

    def damage(self, package: Package, batches: data.Batches, first: int) -> dict[str, float]:
        """MEASURED of an assignment's package, as docs/metrics.md defines them for probes; loss_mse is the mean
        square of the loss's change."""
        count = len(self.losses)
        total = np.zeros(self.gradients.shape[1])
        changes, squares = np.zeros(count), np.zeros(count)

        def take(index: int, loss: float, gradient: np.ndarray) -> None:
            error = np.subtract(gradient, self.gradients[index], dtype=np.float64)
            changes[index], squares[index] = loss - self.losses[index], error @ error
            np.add(total, error, out=total)

        gradients(package, batches, first, count, take)
        mean = total / count
        constant, sum_squares = float(mean @ mean), float(squares.sum())
        variance = (sum_squares - count * constant) / (count - 1)
        signal, noise, norms = self.scales()
        return {
            "loss_mse": float(np.mean(changes**2)), "rel_var": sum_squares / norms, "noise_ratio": variance / noise,
            "persistent": (constant - variance / count) / signal, "loss_change": float(np.mean(changes)),
        }  # fmt: skip

    def scales(self) -> tuple[float, float, float]:
        """Squared norm of the mean gradient, mean squared distance from it (with B - 1), sum of squared norms."""
        count = len(self.losses)
        mean = self.gradients.mean(axis=0, dtype=np.float64)
        norms = float(sum(np.dot(row.astype(np.float64), row) for row in self.gradients))
        signal = float(mean @ mean)
        return signal, (norms - count * signal) / (count - 1), norms


def build(entry: Entry, out: Path, profile: Metrics, package: Path) -> None:
    """Build the CPU package of an assignment; products that it does not name are F32."""
    names = {product.name for product in entry.products(profile)}
    rest = [product for product in profile.products if product.name not in names]
    pins = pins_for(profile, entry.formats, entry.products(profile)) + pins_for(profile, "fp32*fp32", rest)
    assigned = package.with_name("assigned.mlir")
    stages.assign(out / "step.mlir", assigned, "bf16", pins, settings={"target": "cpu-emulated"})
    stages.build(assigned, package, "cpu")


def measure_point(
    ranking: Ranking, out: Path, batches: data.Batches, profile: Metrics, point: int
) -> dict[str, dict[str, float]]:
    """Damage by assignment's name at a checkpoint; what has its file is not measured again."""
    folder = make_directory(out / "ranking" / str(point))
    plan, checkpoint = ranking.plan, str(model.checkpoint_path(out, point))
    first, threads = point + plan.batches, plan.jobs * plan.threads
    todo = [entry for entry in ranking.entries if not (folder / f"{entry.name}.json").exists()]
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    if todo:
        work.mkdir()
        with bar() as display:
            task = display.add_task(f"step {point}", total=len(todo) + 1, note="FP32")
            with Package(out / "cpu-fp32", threads=threads) as package:
                package.load(checkpoint)
                reference = Reference.of(package, batches, first, plan.spare)
            for entry in todo:
                display.update(task, advance=1, note=entry.title)
                build(entry, out, profile, work / "package")
                with Package(work / "package", threads=threads) as package:
                    package.load(checkpoint)
                    found = reference.damage(package, batches, first)
                with staged(folder / f"{entry.name}.json") as inner:
                    inner.write_text(json.dumps(found) + "\n", encoding="utf-8")
            display.update(task, advance=1, note="")
        shutil.rmtree(work)
    return {entry.name: json.loads((folder / f"{entry.name}.json").read_text()) for entry in ranking.entries}


# Predicted damage.


def formats_of(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What a profile has to measure: each assignment's formats, and those of its forward products."""
    return tuple(dict.fromkeys(in_role(role, entry.formats) for entry in entries for role in ROLES))


def products_sum(entry: Entry, profile: Metrics, point: int, probed: bool) -> dict[str, float]:
    """Sums of the products' metrics at a point, upper ends of intervals, as the budget policy adds them up.

    probed: dgrad products take an equal share of their role's probe for their persistent error, as the
    policy has it; else they have none. Raises StudyError for formats that were not measured.
    """
    total = dict.fromkeys(assignments.SUMS, 0.0)
    sizes = {role: sum(product.role == role for product in profile.products) for role in ROLES}
    for product in entry.products(profile):
        own = product.point(point)
        wanted = operands(product, entry.formats)
        taken = [c for c in own.candidates if _texts(c.candidate) == wanted] if own else []
        if not taken:
            raise StudyError(f"the profile has no {entry.formats} of product '{product.name}'")
        for name in assignments.SUMS:
            value = assignments.upper(taken[0][name])
            total[name] += max(value, 0.0) if value is not None else 0.0
        if probed and product.role == "dgrad":
            total["persistent"] += probe_value(profile, "dgrad", None, entry.formats, point, "persistent") / sizes["dgrad"]
    return total


def _texts(candidate: metrics.Candidate) -> tuple[str, str]:
    """A candidate's formats as operands() has them."""
    sides = (decisions.pin_text(vars(side)) for side in (candidate.lhs, candidate.rhs))
    lhs, rhs = (text.replace("per_row", "per_vector").replace("per_column", "per_vector") for text in sides)
    return lhs, rhs


def find_probe(profile: Metrics, role: str, layer: int | None, formats: str) -> Probe | None:
    """The probe of a role, in one layer or everywhere, in "other*gradient"; None if there is none."""
    wanted = (role, layer, in_role(role, formats))
    return next((p for p in profile.probes if (p.role, p.layer, p.candidate) == wanted), None)


def probe_value(profile: Metrics, role: str, layer: int | None, formats: str, point: int, name: str) -> float:
    """The upper end of what a probe found, at least 0; raises StudyError if there is none."""
    probe = find_probe(profile, role, layer, formats)
    if probe is None:
        raise StudyError(f"the profile has no probe of {role} in {in_role(role, formats)}")
    value = assignments.upper(getattr(next(p for p in probe.points if p.step == point), name))
    return max(value or 0.0, 0.0)


def probes_sum(entry: Entry, profile: Metrics, point: int, name: str) -> float:
    """`name` of an assignment as the sum of its roles' probes.

    One layer takes its own probe where there is one, the head what the layers' probes leave of the role's;
    otherwise each takes its share of the role's products.
    """
    total = 0.0
    layers = sorted({product.layer for product in profile.products} - {None})
    for role in entry.roles:
        whole = probe_value(profile, role, None, entry.formats, point, name)
        size = sum(product.role == role for product in profile.products)
        own = sum(product.role == role for product in entry.products(profile))
        layered = all(find_probe(profile, role, layer, entry.formats) for layer in layers)
        if entry.place is None:
            total += whole
        elif not layered:
            total += whole * own / size
        elif entry.place == HEAD:
            rest = sum(probe_value(profile, role, layer, entry.formats, point, name) for layer in layers)
            total += max(whole - rest, 0.0)
        else:
            total += probe_value(profile, role, entry.place, entry.formats, point, name)
    return total


def predictions(entry: Entry, profile: Metrics, point: int) -> dict[str, dict[str, float]]:
    """By predictor ("products", "budget", "probes") the three sums."""
    alone, shared = (products_sum(entry, profile, point, probed) for probed in (False, True))
    probes = {name: probes_sum(entry, profile, point, name) for name in ("noise_ratio", "persistent")}
    return {"products": alone, "budget": shared, "probes": alone | probes}


# Comparison.


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1 on; equal values share the mean of theirs."""
    array = np.asarray(values, np.float64)
    order = np.argsort(array, kind="stable")
    result = np.empty(len(array))
    start = 0
    for end in range(1, len(array) + 1):
        if end == len(array) or array[order[end]] != array[order[start]]:
            result[order[start:end]] = (start + 1 + end) / 2
            start = end
    return result


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation with ties: Pearson's of the ranks. None where one side is constant or short.

    Raises ValueError for sequences of different lengths or values that are no numbers.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values, expected as many")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("values are not finite")
    if len(first) < 2 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def damage(values: Mapping[str, float], bounds: Mapping[str, float]) -> float:
    """The largest of the sums as a share of the budget policy's bounds, at least 0."""
    return max(0.0, *(values[name] / bounds[name] for name in assignments.SUMS))


def correlations(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Spearman's correlation by what is measured and by predictor, over the rows of one point."""
    def pairs(measured: str, predicted: str, kept: Callable[[Mapping[str, Any]], bool] = lambda row: True):
        own = [row for row in rows if kept(row)]
        return {
            predictor: spearman(
                [max(row["measured"][measured], 0.0) for row in own], [row["predicted"][predictor][predicted] for row in own]
            )
            for predictor in ("products", "budget", "probes")
        }  # fmt: skip

    return {
        "damage": pairs("damage", "damage"),
        "persistent": pairs("persistent", "persistent"),
        "rel_var": pairs("rel_var", "noise_ratio"),
        "loss_mse": pairs("loss_mse", "loss_mse", lambda row: row["predicted"]["products"]["loss_mse"] > 0),
    }


def compare(ranking: Ranking, profile: Metrics, measured: Mapping[int, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """ranking.json: by point a row for each assignment, and the correlations."""
    points = {}
    for point in ranking.points:
        loss = next(p.loss.mean for p in profile.points if p.step == point)
        bounds = {"loss_mse": (verify.LOSS_BOUND * loss) ** 2, "noise_ratio": verify.NOISE_BOUND,
                  "persistent": verify.PERSISTENT_BOUND}  # fmt: skip
        rows = []
        for entry in ranking.entries:
            found = dict(measured[point][entry.name])
            guesses = predictions(entry, profile, point)
            rows.append({
                "name": entry.name, "title": entry.title, "measured": found | {"damage": damage(found, bounds)},
                "predicted": {key: value | {"damage": damage(value, bounds)} for key, value in guesses.items()},
            })  # fmt: skip
        points[str(point)] = {"bounds": bounds, "rows": rows, "spearman": correlations(rows)}
    return {"format": "mpt-ranking", "version": 1, "case": ranking.plan.case.name, "profiled": ranking.plan.batches,
            "measured": ranking.plan.spare, "points": points}  # fmt: skip


def run(ranking: Ranking, out: Path) -> dict[str, Any]:
    """Do the study in the directory `out`; return ranking.json's content. Raises StudyError and what the stages raise."""
    from mpt.study import ranking_report

    plan = ranking.plan
    out = make_directory(out)
    names = [entry.name for entry in ranking.entries]
    if len(set(names)) != len(names):
        raise StudyError("two assignments have one name")
    with verify_train.locked(out):
        batches = model.prepare(plan.case, out, plan.batches + plan.spare, plan.corpus)
        model.train(plan.case, out, batches)
        folder = make_directory(out / "ranking")
        formats = formats_of(ranking.entries)
        probes = GroupProbes("role", formats=formats, layered=tuple(ranking.layered))
        profile = measure(plan, out, batches, folder / "metrics.json", formats, ranking.points, probes)
        measured = {point: measure_point(ranking, out, batches, profile, point) for point in ranking.points}
        results = compare(ranking, profile, measured)
        ranking_report.write(results, out)
    return results
