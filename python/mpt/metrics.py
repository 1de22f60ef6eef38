# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Reading metrics.json (docs/metrics.md) as dataclasses.

    metrics = load("metrics.json")
    for product in metrics.products:                       # in the order of the step
        for point in product.points:                       # of training; product.worst marks one
            for entry in point.candidates:                 # entry.label: "E4M3 x E5M2 stochastic"
                median = entry["be_median"].mean           # a Summary; None where there is no value
                lost = entry["flushed_lhs"].mean

What `entry` knows: be_median, be_p99, be_max, rel_var, sqnr_db, cosine, flushed_lhs, flushed_rhs, saturated_lhs,
saturated_rhs, and by role loss_mse, loss_shift (fprop), noise_ratio (dgrad, wgrad), persistent (wgrad). A metric
that a role does not have is a Summary of None. `product.lhs`, `.rhs` and `.gradient` (of the result, fprop) are
Tensors whose `points` align with the product's. `metrics.probes` holds the errors of the whole gradient.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

FORMAT, VERSION = "mpt-metrics", 2
SHORT = {"f32": "F32", "bf16": "BF16", "f8E4M3FN": "E4M3", "f8E5M2": "E5M2", "i8": "INT8"}
SCALES = {"per_row": "per vector", "per_column": "per vector", "block128": "128x128", "mx": "MX"}


class MetricsError(ValueError):
    """A metrics file is not what a command needs."""


@dataclass(frozen=True)
class Summary:
    """Mean over batches, standard deviation (n - 1), and bootstrap 95 % interval; None: no value."""

    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def read(cls, value: Any) -> Summary:
        """From a file: null, a mean alone, or [mean, std, low, high]."""
        if isinstance(value, list):
            return cls(*value)
        return cls() if value is None else cls(value, None, value, value)

    def scaled(self, factor: float | None) -> Summary:
        """Each number times a positive factor."""
        if factor is None:
            return Summary()
        return Summary(*(None if x is None else x * factor for x in (self.mean, self.std, self.low, self.high)))

    def decibels(self) -> Summary:
        """-10 log10 of a ratio of powers; the spread to first order."""
        if not self.mean:
            return Summary()
        std = None if self.std is None else 10 / math.log(10) * self.std / self.mean
        return Summary(_decibels(self.mean), std, _decibels(self.high), _decibels(self.low))


def _decibels(ratio: float | None) -> float | None:
    return -10 * math.log10(ratio) if ratio else None


@dataclass(frozen=True)
class OperandFormat:
    """How an operand is held; `scale` is per_row of a lhs or per_column of a rhs where vectors share one."""

    storage: str
    scale: str
    recipe: str
    rounding: str
    history: int | None = None
    margin: int | None = None
    value: float | None = None

    @property
    def short(self) -> str:
        """Storage in short: "E4M3"."""
        return SHORT.get(self.storage, self.storage)

    @property
    def granularity(self) -> str:
        """none, per_tensor, per_vector, block128 or mx, whichever operand it is of."""
        return "per_vector" if self.scale in ("per_row", "per_column") else self.scale


@dataclass(frozen=True)
class Candidate:
    lhs: OperandFormat
    rhs: OperandFormat

    @property
    def label(self) -> str:
        """Formats in short, and what is not the default: "E5M2 x E4M3 per vector, stochastic lhs"."""
        return label({"lhs": vars(self.lhs), "rhs": vars(self.rhs)})


def label(candidate: Mapping[str, Any]) -> str:
    """A candidate of a decision record or of a metrics file in short (see Candidate.label)."""
    sides = [candidate[side] for side in ("lhs", "rhs")]
    words = []
    granularities = [SCALES.get(side.get("scale"), "") for side in sides]
    if granularities[0] == granularities[1]:
        words += granularities[:1]
    else:
        words += [f"{word} {name}" for word, name in zip(granularities, ("lhs", "rhs")) if word]
    for name, side in zip(("lhs", "rhs"), sides):
        recipe, stochastic = side.get("recipe"), side.get("rounding") == "stochastic"
        if recipe == "fixed":
            words.append(f"scale {side.get('value', 1):g} {name}")
        if recipe == "delayed":
            words.append(f"delayed {side.get('history')} {name}")
        if side.get("margin"):
            words.append(f"margin {side['margin']} {name}")
        if stochastic:
            words.append(f"stochastic {name}")
    more = ", ".join(word for word in words if word)
    return " x ".join(SHORT.get(side["storage"], side["storage"]) for side in sides) + (f" {more}" if more else "")


@dataclass(frozen=True)
class Point:
    """A point of training: its step, the batches measured there, and what they say of the step as a whole."""

    step: int
    batches: int
    loss: Summary
    gradient_signal: float | None  # squared norm of the mean gradient, all parameters
    gradient_noise: float | None  # mean squared distance from it, over batches


@dataclass(frozen=True)
class TensorPoint:
    """One operand over the batches of a point."""

    amax: Summary
    min_nonzero: float | None
    mean: float | None
    std: float | None
    kurtosis: float | None
    exponents: dict[int, int]  # binary exponent: elements, of all batches
    zeros: float
    nonfinite: int
    rows: list[float]  # amax of rows: smallest nonzero, median, largest
    columns: list[float]


@dataclass(frozen=True)
class Tensor:
    name: str
    points: list[TensorPoint]


@dataclass(frozen=True)
class CandidateMetrics:
    """One candidate of one product at one point: metrics by name."""

    candidate: Candidate
    values: dict[str, Summary]

    def __getitem__(self, name: str) -> Summary:
        return self.values.get(name, NONE)

    @property
    def label(self) -> str:
        return self.candidate.label


NONE = Summary()


@dataclass(frozen=True)
class ProductPoint:
    step: int
    batches: int
    excluded: float
    signal: float | None  # |mean gradient|^2 / noise, of what the product's error reaches
    candidates: list[CandidateMetrics]


@dataclass(frozen=True)
class Product:
    name: str
    role: str
    m: int
    n: int
    k: int
    batch: int
    lhs: Tensor
    rhs: Tensor
    gradient: Tensor | None
    candidates: list[Candidate]
    points: list[ProductPoint]
    worst: int  # index of the worst point

    @property
    def layer(self) -> int | None:
        """Number of the layer in the name ("encoder.layer.3...."), or None."""
        return layer_of(self.name)

    def point(self, step: int | None = None) -> ProductPoint | None:
        """The point at `step`, or the worst one; None if there is none at that step."""
        if step is None:
            return self.points[self.worst]
        return next((point for point in self.points if point.step == step), None)


def layer_of(name: str) -> int | None:
    """Number of the layer in a product's or parameter's name, or None."""
    found = re.search(r"\blayers?\.(\d+)\.", name)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class ProbePoint:
    step: int
    rel_var: Summary
    noise_ratio: Summary
    persistent: Summary
    loss_change: Summary


@dataclass(frozen=True)
class Probe:
    """The step's whole gradient with one candidate in a group of products, against FP32."""

    role: str  # fprop, dgrad, wgrad or whole
    layer: int | None  # None: all layers
    products: int
    candidate: str  # "lhs*rhs" as --probe-candidates takes it
    points: list[ProbePoint]


@dataclass(frozen=True)
class Metrics:
    graph_hash: str
    engine: str
    sampling: dict[str, Any]
    complete: bool
    batches: int
    points: list[Point]
    tensors: list[Tensor]
    products: list[Product]
    probes: list[Probe] = field(default_factory=list)

    @property
    def at_steps(self) -> list[int]:
        return [point.step for point in self.points]

    def product(self, name: str) -> Product:
        """The product of that name; raises MetricsError if there is none."""
        for product in self.products:
            if product.name == name:
                return product
        raise MetricsError(f"no product is named '{name}'")

    def select(self, pattern: str | None = None, role: str | None = None) -> Iterator[Product]:
        """Products whose name has or fits `pattern`, of one role or all."""
        for product in self.products:
            if matches(product.name, pattern) and role in (None, product.role):
                yield product


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    points = []
    for point in entry["points"]:
        low, counts = point["exponents"]
        exponents = {low + i: count for i, count in enumerate(counts) if count}
        points.append(TensorPoint(**point | {"exponents": exponents, "amax": Summary.read(point["amax"])}))
    return Tensor(entry["name"], points)


def _product_point(point: Point, entry: Mapping[str, Any], columns: list[str], candidates: list[Candidate]):
    """A product's point, with the metrics that follow from those in the file."""
    measured = []
    for candidate, row in zip(candidates, entry["values"], strict=True):
        values = {name: Summary.read(value) for name, value in zip(columns, row, strict=True)}
        values["sqnr_db"] = values["rel_var"].decibels()
        if "signal" in entry:
            values["noise_ratio"] = values["rel_var"].scaled(entry["signal"])
        measured.append(CandidateMetrics(candidate, values))
    return ProductPoint(point.step, point.batches, entry["excluded"], entry.get("signal"), measured)


def _product(entry: Mapping[str, Any], file: Mapping[str, Any], points: list[Point], tensors: list[Tensor],
             candidates: list[Candidate]) -> Product:  # fmt: skip
    own = [candidates[index] for index in entry["candidates"]]
    columns = file["columns"][entry["role"]]
    return Product(
        *(entry[key] for key in ("name", "role", "m", "n", "k", "batch")),
        lhs=tensors[entry["lhs"]],
        rhs=tensors[entry["rhs"]],
        gradient=tensors[entry["gradient"]] if "gradient" in entry else None,
        candidates=own,
        points=[_product_point(*pair, columns, own) for pair in zip(points, entry["points"], strict=True)],
        worst=entry["worst"],
    )


def _probe(entry: Mapping[str, Any], points: list[Point]) -> Probe:
    named = ("rel_var", "noise_ratio", "persistent", "loss_change")
    values = [
        ProbePoint(point.step, *(Summary.read(value[name]) for name in named))
        for point, value in zip(points, entry["points"], strict=True)
    ]
    return Probe(*(entry[key] for key in ("role", "layer", "products", "candidate")), values)


def _read(file: Mapping[str, Any]) -> Metrics:
    points = [
        Point(p["step"], p["batches"], Summary.read(p["loss"]), p["gradient_signal"], p["gradient_noise"])
        for p in file["points"]
    ]
    formats = [OperandFormat(**entry) for entry in file["formats"]]
    candidates = [Candidate(formats[lhs], formats[rhs]) for lhs, rhs in file["candidates"]]
    tensors = [_tensor(entry) for entry in file["tensors"]]
    return Metrics(
        *(file[key] for key in ("graph_hash", "engine", "sampling", "complete", "batches")),
        points=points,
        tensors=tensors,
        products=[_product(entry, file, points, tensors, candidates) for entry in file["products"]],
        probes=[_probe(entry, points) for entry in file["probes"]],
    )


def load(path: str | os.PathLike[str]) -> Metrics:
    """Read a metrics file; raises MetricsError if it is another format, version, or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MetricsError(f"{path}: not a metrics file: {error}") from error
    found = found if isinstance(found, dict) else {}
    if found.get("format") != FORMAT:
        raise MetricsError(f"{path}: format is {found.get('format')!r}, expected {FORMAT!r}")
    if found.get("version") != VERSION:
        hint = "; profile again" if found.get("version") == 1 else ""
        raise MetricsError(f"{path}: version is {found.get('version')!r}, expected {VERSION}{hint}")
    try:
        return _read(found)
    except KeyError as error:
        raise MetricsError(f"{path}: damaged: {error} is missing") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise MetricsError(f"{path}: damaged: {error}") from error


def matches(name: str, pattern: str | None) -> bool:
    """Whether a product's name has `pattern` in it, or fits it if it has wildcards."""
    if not pattern:
        return True
    return fnmatchcase(name, pattern) if any(c in pattern for c in "*?[") else pattern in name


def nonfinite(metrics: Metrics) -> Iterator[str]:
    """Yield a sentence for each tensor that had NaN or infinity, at each point."""
    for tensor in metrics.tensors:
        for point, found in zip(metrics.points, tensor.points):
            if found.nonfinite:
                yield (
                    f"tensor '{tensor.name}' had {found.nonfinite} NaN or infinite elements "
                    f"in {point.batches} batches at step {point.step}"
                )
