# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Tables of metrics files: one file by product, and what differs between two points or files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.markup import escape
from rich.table import Table

from mpt.metrics import CandidateMetrics, Metrics, MetricsError, Probe, Product, ProductPoint, Summary

# What decides about a role, beside the backward error: its name in a file, and in a table.
DECIDING = {"fprop": ("loss_mse", "loss MSE"), "dgrad": ("noise_ratio", "noise"), "wgrad": ("persistent", "persistent")}


def _number(value: float | None, form: str = ".2e") -> str:
    return "-" if value is None else format(value, form)


def _interval(summary: Summary) -> str:
    """A mean, with half the width of its interval where there is one."""
    if not summary.mean or summary.low is None or summary.high is None or summary.low == summary.high:
        return _number(summary.mean)
    half = (summary.high - summary.low) / 2 / abs(summary.mean)
    return f"{_number(summary.mean)} ±{100 * half:.0f}%"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{100 * value:.2g}%"


def _flushed(entry: CandidateMetrics) -> float | None:
    shares = [entry[f"flushed_{side}"].mean for side in ("lhs", "rhs")]
    return max((share for share in shares if share is not None), default=None)


def _deciding(product: Product, entry: CandidateMetrics) -> Summary:
    return entry[DECIDING[product.role][0]] if product.role in DECIDING else Summary()


def _row(metrics: Metrics, product: Product, point: ProductPoint) -> list[str]:
    """The table's row of one product: a line for each candidate."""
    at = metrics.at_steps.index(point.step)
    size = f"{product.m}x{product.n}x{product.k}" + (f" ({product.batch})" if product.batch > 1 else "")
    amax = ", ".join(_number(tensor.points[at].amax.mean, ".1e") for tensor in (product.lhs, product.rhs))
    worst = " (worst)" if product.points[product.worst] is point and len(product.points) > 1 else ""
    head = [product.name, f"{product.role} {size}, step {point.step}{worst}", f"amax {amax}"]
    if point.excluded:
        head.append(f"excluded {_share(point.excluded)}")
    columns = [
        [entry.label for entry in point.candidates],
        [_interval(entry["be_median"]) for entry in point.candidates],
        [_number(entry["be_p99"].mean) for entry in point.candidates],
        [_number(entry["sqnr_db"].mean, ".1f") for entry in point.candidates],
        [f"{DECIDING[product.role][1]} {_interval(_deciding(product, entry))}" for entry in point.candidates],
        [_share(_flushed(entry)) for entry in point.candidates],
    ]
    return ["\n".join(lines) for lines in (head, *columns)]


def check_step(metrics: Metrics, step: int | None) -> None:
    """Raise MetricsError unless there is a point at `step`, or it is None."""
    if step is not None and step not in metrics.at_steps:
        raise MetricsError(f"no point at step {step}; there are {metrics.at_steps}")


def table(metrics: Metrics, pattern: str | None = None, step: int | None = None) -> Table:
    """Products that match, each at its worst point or at the point of `step`.

    Raises MetricsError if none matches, or if there is no point at `step`.
    """
    check_step(metrics, step)
    title = f"engine {metrics.engine}, {metrics.batches} batches at steps {metrics.at_steps}"
    result = Table(title=title + ("" if metrics.complete else ", interrupted"), box=box.SIMPLE)
    result.add_column("product", overflow="fold")
    result.add_column("formats", no_wrap=True)
    for column in ("BE median", "BE p99", "SQNR dB", "decides", "flushed"):
        result.add_column(column, justify="right", no_wrap=True)
    for product in metrics.select(pattern):
        result.add_row(*_row(metrics, product, product.point(step)), end_section=True)
    if not result.row_count:
        raise MetricsError(f"no product matches '{pattern}'")
    return result


def probe_table(metrics: Metrics, step: int | None = None) -> Table | None:
    """Errors of the whole gradient by probe and point; None where none was taken."""
    if not metrics.probes:
        return None
    result = Table(title="whole gradient, some products rounded", box=box.SIMPLE)
    for column in ("products", "candidate", "step"):
        result.add_column(column, no_wrap=True)
    for column in ("rel_var", "persistent", "noise_ratio", "loss change"):
        result.add_column(column, justify="right", no_wrap=True)
    for probe in metrics.probes:
        for point in probe.points:
            if step in (None, point.step):
                values = (point.rel_var, point.persistent, point.noise_ratio, point.loss_change)
                result.add_row(_group(probe), escape(probe.candidate), str(point.step), *map(_interval, values))
    return result


def _group(probe: Probe) -> str:
    where = "" if probe.layer is None else f" layer {probe.layer}"
    return f"{probe.role}{where} ({probe.products})"


@dataclass(frozen=True)
class Difference:
    """A metric of one candidate of one product in two places, the second over the first."""

    product: Product
    label: str
    metric: str
    first: float
    second: float

    @property
    def ratio(self) -> float:
        return self.second / self.first


def _pairs(product: Product, first: ProductPoint, second: ProductPoint) -> Iterator[Difference]:
    others = {entry.candidate: entry for entry in second.candidates}
    for entry in first.candidates:
        other = others.get(entry.candidate)
        for metric in ("be_median", DECIDING[product.role][0]):
            values = (entry[metric].mean, other[metric].mean) if other else (None, None)
            if all(value is not None and value > 0 for value in values):
                yield Difference(product, entry.label, metric, *values)


def differences(
    first: Metrics, second: Metrics, steps: Sequence[int | None] = (None, None), pattern: str | None = None
) -> list[Difference]:
    """Ratios of the median backward error and of what decides, the largest change first.

    Compares each product's point at `steps` of either, or its worst one. Raises MetricsError
    for metrics of different graphs, without a point there, or where nothing can be compared.
    """
    if first.graph_hash != second.graph_hash:
        raise MetricsError(f"metrics of two graphs: graph_hash {first.graph_hash} and {second.graph_hash}")
    for metrics, step in zip((first, second), steps):
        check_step(metrics, step)
    others = {product.name: product for product in second.products}
    found = []
    for product in first.select(pattern):
        if other := others.get(product.name):
            found += _pairs(product, product.point(steps[0]), other.point(steps[1]))
    if not found:
        which = f"product that matches '{pattern}'" if pattern else "product"
        raise MetricsError(f"no {which} has a metric in both")
    return sorted(found, key=lambda difference: -abs(math.log(difference.ratio)))


def difference_table(found: Sequence[Difference], limit: int) -> Table:
    """The first `limit` differences."""
    result = Table(title=f"largest {min(limit, len(found))} of {len(found)} ratios, second over first", box=box.SIMPLE)
    result.add_column("product", overflow="fold")
    result.add_column("formats", no_wrap=True)
    result.add_column("metric", no_wrap=True)
    for column in ("first", "second", "ratio"):
        result.add_column(column, justify="right", no_wrap=True)
    for difference in found[:limit]:
        values = (_number(difference.first), _number(difference.second), f"{difference.ratio:.3g}")
        result.add_row(difference.product.name, difference.label, difference.metric, *values)
    return result
