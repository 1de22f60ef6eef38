# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What a profile says of formats: candidates by name, errors against their bound, tables.

A backward error is judged against what E4M3 has on normal data at the same K, times a factor by
role (docs/precision.md): a ratio of at most 1 is within the bound of the threshold policy.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mpt.metrics import Candidate, CandidateMetrics, Metrics, MetricsError, Probe, Product, ProductPoint, Tensor, load

ROLES = ("fprop", "dgrad", "wgrad")

# Backward error, times sqrt(K), of E4M3 per tensor on N(0,1): median and 99th percentile. A fit of
# include/mpt/Precision/NormalBackwardError.h, within 6 % from K = 16 on (a test holds them together).
NORMAL = (3.95e-2, 1.51e-1)
# Multiples of it that the threshold policy admits.
FACTORS = {"fprop": 1.5, "dgrad": 3.0, "wgrad": 3.0}
# The most of the persistent error that it admits.
PERSISTENT = 3e-2


def bound(product: Product) -> tuple[float, float]:
    """Bounds on the median and on the 99th percentile of a product's backward error."""
    median, p99 = (FACTORS[product.role] * value / math.sqrt(product.k) for value in NORMAL)
    return median, p99


def ratio(product: Product, entry: CandidateMetrics) -> float | None:
    """Backward error over its bound, median or p99, the larger; None where nothing was measured."""
    limits = zip(("be_median", "be_p99"), bound(product))
    ratios = [entry[name].mean / limit for name, limit in limits if entry[name].mean is not None]
    return max(ratios, default=None)


@dataclass(frozen=True, order=True)
class Kind:
    """A candidate whatever side the gradient is on: formats, granularity, rounding."""

    formats: str  # "INT8"; "E4M3/E5M2" where they differ, of lhs and rhs, or with the gradient's last
    granularity: str = "per tensor"  # "" without scales
    stochastic: bool = False

    @classmethod
    def of(cls, product: Product, candidate: Candidate) -> Kind:
        """The kind of one of a product's candidates."""
        sides = [candidate.lhs, candidate.rhs]
        if product.lhs.name.endswith("/grad"):
            sides.reverse()
        names = [side.short + (" unscaled" if side.recipe == "fixed" else "") for side in sides]
        scales = [side.granularity.replace("_", " ") for side in sides if side.scale != "none"]
        stochastic = any(side.rounding == "stochastic" for side in sides)
        return cls("/".join(dict.fromkeys(names)), "/".join(dict.fromkeys(scales)), stochastic)

    def __str__(self) -> str:
        words = [self.formats, self.granularity, "stochastic" if self.stochastic else ""]
        return " ".join(word for word in words if word)


def place(product: Product) -> str:
    """A product's place in its layer, without role: "attention.self.query"."""
    name = re.sub(r"^.*\blayers?\.\d+\.", "", product.name)
    base, _, role = name.partition("/")
    side = role.partition(".")[2]
    return f"{base} ({side})" if side else base


def entries(product: Product, point: ProductPoint) -> Iterator[tuple[Kind, CandidateMetrics]]:
    """Yield the candidates of one of a product's points with their kinds.

    Of a forward product those that differ from another in what is meant for gradients alone, E5M2
    on one side or stochastic rounding, are left out.
    """
    for entry in point.candidates:
        kind = Kind.of(product, entry.candidate)
        if product.role != "fprop" or not (kind.stochastic or "/E5M2" in kind.formats):
            yield kind, entry


def kinds(metrics: Metrics) -> list[Kind]:
    """Every kind of candidate in a profile, in the order met."""
    found: dict[Kind, None] = {}
    for product in metrics.products:
        for candidate in product.candidates:
            found.setdefault(Kind.of(product, candidate))
    return list(found)


def _joined(tensors: Iterable[Tensor]) -> Tensor:
    first, *others = tensors
    return replace(first, points=[*first.points, *(point for tensor in others for point in tensor.points)])


def _joined_products(products: Sequence[Product], tensors: dict[str, Tensor]) -> Product:
    """One product of several files, with the points of all."""
    first = products[0]
    for other in products[1:]:
        if other.name != first.name or other.candidates != first.candidates:
            raise MetricsError(f"product '{first.name}': profiles with other products or candidates do not go together")
    points = [point for product in products for point in product.points]
    medians = [max((e["be_median"].mean or 0.0 for e in point.candidates), default=0.0) for point in points]
    own = {side: tensors[getattr(first, side).name] for side in ("lhs", "rhs", "gradient") if getattr(first, side)}
    return replace(first, points=points, worst=medians.index(max(medians)), **own)


def _joined_probes(files: Sequence[Metrics]) -> list[Probe]:
    """Probes that every file has, with the points of all."""
    keyed = [{(probe.role, probe.layer, probe.candidate): probe for probe in metrics.probes} for metrics in files]
    shared = [key for key in keyed[0] if all(key in other for other in keyed)]
    return [replace(keyed[0][key], points=[p for one in keyed for p in one[key].points]) for key in shared]


def join(files: Sequence[Metrics]) -> Metrics:
    """One profile from several of the same graph, each of other points of training, by step.

    Raises MetricsError if graphs, candidates or samplings differ, or a step is there twice.
    """
    files = sorted(files, key=lambda metrics: metrics.at_steps)
    first = files[0]
    for other in files[1:]:
        if other.graph_hash != first.graph_hash:
            raise MetricsError(f"profiles of different graphs: {first.graph_hash} and {other.graph_hash}")
        if [product.name for product in other.products] != [product.name for product in first.products]:
            raise MetricsError("profiles of different products do not go together")
    steps = [step for metrics in files for step in metrics.at_steps]
    if len(set(steps)) != len(steps):
        raise MetricsError(f"points at steps {steps}: one is there twice")
    named = [{tensor.name: tensor for tensor in metrics.tensors} for metrics in files]
    tensors = {name: _joined(one[name] for one in named) for name in named[0]}
    return replace(
        first,
        complete=all(metrics.complete for metrics in files),
        points=[point for metrics in files for point in metrics.points],
        tensors=list(tensors.values()),
        products=[_joined_products(group, tensors) for group in zip(*(metrics.products for metrics in files))],
        probes=_joined_probes(files),
    )


def load_all(paths: Sequence[str | os.PathLike[str]]) -> Metrics:
    """Read profiles of one graph as one; raises MetricsError naming what does not fit."""
    if not paths:
        raise MetricsError("no metrics file given")
    return join([load(path) for path in paths])


@dataclass(frozen=True)
class Cell:
    """The products at one place and role, over layers and points: how a kind fares there."""

    within: int  # products within the bound at every point
    products: int
    worst: float  # largest ratio


def cells(metrics: Metrics) -> dict[tuple[str, str], dict[Kind, Cell]]:
    """(place, role) -> kind -> Cell over all points, in the order of the step."""
    ratios: dict[tuple[str, str], dict[Kind, list[float]]] = {}
    for product in metrics.products:
        row = ratios.setdefault((place(product), product.role), {})
        worst: dict[Kind, float] = {}
        for point in product.points:
            for kind, entry in entries(product, point):
                value = ratio(product, entry)
                if value is not None:
                    worst[kind] = max(value, worst.get(kind, 0.0))
        for kind, value in worst.items():
            row.setdefault(kind, []).append(value)
    return {
        key: {kind: Cell(sum(v <= 1 for v in values), len(values), max(values)) for kind, values in row.items()}
        for key, row in ratios.items()
    }


def shares(metrics: Metrics, role: str, kind: Kind) -> list[tuple[int, int]]:
    """For each point of training: products of the role within the bound in a kind, and all that were measured."""
    counts = []
    for index in range(len(metrics.points)):
        ratios = [
            value
            for product in metrics.select(role=role)
            for other, entry in entries(product, product.points[index])
            if other == kind and (value := ratio(product, entry)) is not None
        ]
        counts.append((sum(value <= 1 for value in ratios), len(ratios)))
    return counts


def sums(metrics: Metrics, role: str, kind: Kind, name: str) -> list[float | None]:
    """For each point: a metric's mean, summed over the role's products in a kind; None if it was not measured.

    Estimates of `persistent` below 0 are noise, and count as 0.
    """
    found: list[float | None] = []
    for index in range(len(metrics.points)):
        values = [
            max(entry[name].mean, 0.0)
            for product in metrics.select(role=role)
            for other, entry in entries(product, product.points[index])
            if other == kind and entry[name].mean is not None
        ]
        found.append(sum(values) if values else None)
    return found


def loss_error(metrics: Metrics, kind: Kind, linear: bool = False) -> list[float | None]:
    """For each point: what a kind in the forward products adds to the loss, as a share of it.

    The square root of the sum of loss_mse (docs/metrics.md) over the mean loss; None if it was not measured.
    linear: of the products with a weight alone, so without attention's.
    """
    if linear:
        names = {product.name for product in metrics.products}
        own = [product for product in metrics.products if f"{product.name}/wgrad" in names]
        metrics = replace(metrics, products=own)
    return [
        math.sqrt(value) / point.loss.mean if value is not None and point.loss.mean else None
        for point, value in zip(metrics.points, sums(metrics, "fprop", kind, "loss_mse"))
    ]


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first `left` columns are text and the others numbers."""
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("| " + " | ".join(["---"] * left + ["---:"] * (len(heads) - left)) + " |")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def products_table(metrics: Metrics, wanted: Sequence[Kind]) -> str:
    """Where each kind is within its bound: a row for each place and role.

    A cell is the largest ratio of backward error to bound over layers and points, and how many of
    the products are within the bound at every point, if not all.
    """
    rows = []
    for (where, role), row in cells(metrics).items():
        texts = []
        for kind in wanted:
            cell = row.get(kind)
            if cell is None:
                texts.append("-")
                continue
            text = f"{cell.worst:.2f}" if cell.worst < 10 else f"{cell.worst:.0f}"
            texts.append(text if cell.within == cell.products else f"**{text}** ({cell.within}/{cell.products})")
        rows.append([where, role, *texts])
    return markdown_table(["product", "role", *map(str, wanted)], rows, left=2)


def number(value: float | None, digits: int = 2) -> str:
    """A short number: "4.2e-3", "-" for None."""
    if value is None:
        return "-"
    if value == 0 or 0.1 <= abs(value) < 10**digits:
        return f"{value:.{digits}g}"
    if 10**digits <= abs(value) < 1000:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def shares_table(metrics: Metrics, wanted: Sequence[Kind]) -> str:
    """How many products are within the bound: a row for each kind, a column for each role and step."""
    steps = metrics.at_steps
    rows = []
    for kind in wanted:
        counts = [pair for role in ROLES for pair in shares(metrics, role, kind)]
        rows.append([str(kind), *(f"{within}/{count}" if count else "-" for within, count in counts)])
    return markdown_table(["formats", *(f"{role}, step {step}" for role in ROLES for step in steps)], rows)


def loss_table(metrics: Metrics) -> str:
    """What each kind in the forward products adds to the loss, as a share of it, and in those with a weight alone."""
    rows = []
    for kind in kinds(metrics):
        values = loss_error(metrics, kind) + loss_error(metrics, kind, linear=True)
        if any(value is not None for value in values):
            rows.append([str(kind), *map(number, values)])
    heads = [f"{which}, step {step}" for which in ("all", "with a weight") for step in metrics.at_steps]
    return markdown_table(["formats of lhs and rhs", *heads], rows)


def budget_table(metrics: Metrics) -> str:
    """What the budget policy adds up, for each kind in all products of a role: a column for each sum and step."""
    wanted = [("dgrad", "noise_ratio"), ("wgrad", "noise_ratio"), ("wgrad", "persistent")]
    rows = []
    for kind in kinds(metrics):
        values = [value for role, name in wanted for value in sums(metrics, role, kind, name)]
        if any(value is not None for value in values):
            rows.append([str(kind), *map(number, values)])
    heads = [f"Σ {name}, {role}, step {step}" for role, name in wanted for step in metrics.at_steps]
    return markdown_table(["formats", *heads], rows)


def ranked_errors(metrics: Metrics, role: str, first: Kind, second: Kind) -> list[tuple[int, int, float]]:
    """For each point: products where `first` has the lower median error, all, and the geometric mean of first/second."""
    found = []
    for index in range(len(metrics.points)):
        ratios = []
        for product in metrics.select(role=role):
            medians = {kind: entry["be_median"].mean for kind, entry in entries(product, product.points[index])}
            if medians.get(first) and medians.get(second):
                ratios.append(medians[first] / medians[second])
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
        found.append((sum(value < 1 for value in ratios), len(ratios), mean))
    return found


def tails_table(metrics: Metrics) -> str:
    """Kurtosis (3 for normal data) of activations, weights and gradients: median and largest, a column a step.

    Left operands of forward products are activations; right ones weights, and attention's keys and values.
    """
    sides = {"lhs": "activations", "rhs": "weights, keys, values", "grad": "gradients of results"}
    rows = []
    for side, what in sides.items():
        own = [tensor for tensor in metrics.tensors if tensor.name.endswith(f"/{side}")]
        texts = []
        for index in range(len(metrics.points)):
            values = sorted(t.points[index].kurtosis for t in own if t.points[index].kurtosis is not None)
            texts.append(f"{number(values[len(values) // 2])} ({number(values[-1])})" if values else "-")
        rows.append([what, *texts])
    return markdown_table(["tensors", *(f"step {step}" for step in metrics.at_steps)], rows)


# Pairs of candidates that differ in how the gradient is rounded, with the kinds whose backward errors go with them.
ROUNDINGS = (
    ("i8*i8", "i8*i8[stochastic]", Kind("INT8"), Kind("INT8", "per tensor", True)),
    ("f32*i8", "f32*i8[stochastic]", None, None),
)


def rounding_table(metrics: Metrics) -> str:
    """INT8 per tensor, nearest against stochastic on gradients: backward and persistent error, by role and step."""
    probes = {(probe.role, probe.candidate): probe for probe in metrics.probes if probe.layer is None}
    rows = []
    for role in ROLES[1:]:
        for first, second, *own in ROUNDINGS:
            pair = probes.get((role, first)), probes.get((role, second))
            for index, step in enumerate(metrics.at_steps if None not in pair else ()):
                lower, count, mean = ranked_errors(metrics, role, *own)[index] if own[0] else (0, 0, math.nan)
                errors = [probe.points[index].persistent for probe in pair]
                low, high = errors[0].low, errors[1].high
                least = number(low / high) if low is not None and high is not None and high > 0 else "-"
                shown = [f"{number(e.mean)} ({number(e.low)} to {number(e.high)})" for e in errors]
                backward = [f"{lower}/{count}", f"{mean:.2f}"] if count else ["", ""]
                rows.append([role, probe_label(first), str(step), *backward, *shown, least])
    heads = ["role", "formats", "step", "nearest has the lower BE", "BE, nearest/stochastic"]
    return markdown_table([*heads, "persistent, nearest", "persistent, stochastic", "ratio, at least"], rows, left=2)


def probe_label(candidate: str) -> str:
    """A probe's candidate in words: "INT8, stochastic gradient"."""
    names = {"i8": "INT8", "f8E4M3FN": "E4M3", "f8E5M2": "E5M2", "bf16": "BF16", "f32": "F32"}
    first, _, second = candidate.partition("*")
    sides = [names.get(text.partition("[")[0], text) for text in (first, second)]
    words = ["per vector"] if "per_vector" in candidate else []
    words += ["stochastic gradient"] if "stochastic" in second else []
    words += ["gradient unscaled"] if "fixed=" in second else []
    if sides[0] == "F32":
        head = f"{sides[1]} gradient alone"
        words = [word.partition(" gradient")[0] for word in words]
    elif sides[1] == "F32":
        head = f"{sides[0]}, gradient in F32"
    else:
        head = "/".join(dict.fromkeys(sides))
    return ", ".join([head, *words])


def probes_table(metrics: Metrics) -> str:
    """Persistent error of the whole gradient: a row for each group and candidate, a column a step."""
    steps = metrics.at_steps
    heads = ["role", "formats", *(f"persistent, step {s}" for s in steps), *(f"rel_var, step {s}" for s in steps)]
    rows = []
    for probe in metrics.probes:
        group = probe.role if probe.layer is None else f"{probe.role}, layer {probe.layer}"
        values = [number(getattr(p, name).mean) for name in ("persistent", "rel_var") for p in probe.points]
        rows.append([group, probe_label(probe.candidate), *values])
    return markdown_table(heads, rows, left=2)
