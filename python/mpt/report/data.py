# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What report.js builds a product's section from: compact JSON, numbers with few digits.

BERT-large has about 600 products of a dozen candidates and 1,500 tensors, so candidates are
arrays in the order of `columns`, and labels and reasons that recur are indices into tables.
"""

from __future__ import annotations

import json
import math
from typing import Any

from mpt.decisions import Candidate, Decisions, Product
from mpt.explain import FORMAT_NAME
from mpt.metrics import Metrics, Tensor

# Metric -> heading; those that no candidate has are left out of the file.
COLUMNS = {
    "be_median": "BE median",
    "be_p99": "BE p99",
    "loss_mse": "loss MSE",
    "noise_ratio": "noise ratio",
    "persistent": "persistent",
    "role_persistent": "of the role",
    "sqnr_db": "SQNR dB",
    "flushed_lhs": "flushed lhs",
    "flushed_rhs": "flushed rhs",
}
STATES = ("chosen", "admitted", "undecided", "refused")
SIDES = ("lhs", "rhs", "gradient")


def rounded(value: float | None, digits: int = 3) -> float | None:
    """`value` with that many significant digits; None if it has no value."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits - 1}e}")


class Table:
    """Values by index, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._index: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        if value not in self._index:
            self._index[value] = len(self.values)
            self.values.append(value)
        return self._index[value]


def state(candidate: Candidate, product: Product) -> int:
    """Index into STATES."""
    if candidate.formats == product.chosen:
        return 0
    return 1 if candidate.admitted else 2 if candidate.undecided else 3


def ratio(candidate: Candidate, product: Product) -> float | None:
    """Error over bound: the record's, or that of the backward errors where it has none."""
    if candidate.ratio is not None:
        return candidate.ratio
    return ratio_end(candidate, product, 1)


def ratio_end(candidate: Candidate, product: Product, end: int) -> float | None:
    """Largest error / bound of the backward errors at the lower (0) or upper (1) ends of their intervals."""
    ends = [(candidate.interval(name), product.bound.get(name)) for name in ("be_median", "be_p99")]
    found = [interval[end] / bound for interval, bound in ends if interval and bound]
    return max(found, default=None)


def shown_ratio(product: Product) -> float | None:
    """Of the chosen formats if they are low; else of what came closest, which was too much."""
    entry = product.taken if product.chosen.low else product.candidate(product.runner_up)
    return ratio(entry, product) if entry else None


def candidate_row(candidate: Candidate, product: Product, columns: list[str], labels: Table, whys: Table) -> list[Any]:
    """[label, state, ratio, its lower end, why, [µs, µs with casts], a metric for each column]."""
    return [
        labels(candidate.label),
        state(candidate, product),
        rounded(ratio(candidate, product)),
        rounded(ratio_end(candidate, product, 0)),
        whys(FORMAT_NAME.sub("…", candidate.why)),
        [rounded(candidate.us), rounded(None if candidate.us is None else candidate.us + (candidate.work_us or 0.0))],
        [rounded(candidate.metrics.get(name)) for name in columns],
    ]


def tensor_entry(tensor: Tensor, index: int, step: int) -> dict[str, Any]:
    """Histogram of a tensor at a point: shares of its elements by binary exponent."""
    point = tensor.points[index]
    total = sum(point.exponents.values())
    low = min(point.exponents, default=0)
    high = max(point.exponents, default=-1)
    shares = [rounded(point.exponents.get(e, 0) / total, 2) if total else 0 for e in range(low, high + 1)]
    return {
        "name": tensor.name,
        "step": step,
        "amax": rounded(point.amax.high if point.amax.high is not None else point.amax.mean),
        "min": rounded(point.min_nonzero),
        "zeros": rounded(point.zeros, 2),
        "nonfinite": point.nonfinite,
        "low": low,
        "shares": [0 if share == 0 else share for share in shares],
    }


def histograms(record: Decisions, metrics: Metrics | None, tensors: Table) -> dict[str, list[int | None]]:
    """Product -> index of the histogram of each of SIDES at its worst point."""
    if metrics is None:
        return {}
    entries: dict[tuple[str, int], int] = {}
    found: dict[str, list[int | None]] = {}
    wanted = {product.name for product in record.products}
    for product in metrics.products:
        if product.name not in wanted:
            continue
        row: list[int | None] = []
        for side in SIDES:
            tensor = getattr(product, side)
            if tensor is None:
                row.append(None)
                continue
            key = (tensor.name, product.worst)
            if key not in entries:
                step = product.points[product.worst].step
                entries[key] = tensors(json.dumps(tensor_entry(tensor, product.worst, step)))
            row.append(entries[key])
        found[product.name] = row
    return found


def page_data(record: Decisions, metrics: Metrics | None) -> dict[str, Any]:
    """Everything that sections are built from."""
    labels, whys, tensors = Table(), Table(), Table()
    columns = [name for name in COLUMNS if any(name in c.metrics for p in record.products for c in p.candidates)]
    drawn = histograms(record, metrics, tensors)
    products = []
    for product in record.products:
        entry: dict[str, Any] = {
            "name": product.name,
            "role": product.role,
            "size": [product.m, product.n, product.k, product.batch],
            "flops": product.flops,
            "chosen": labels(product.label),
            "next": labels(product.runner_up.label) if product.runner_up else None,
            "margin": rounded(product.margin),
            "reason": product.reason,
            "pin": product.pin,
            "us": rounded(product.us),
            "bytes": product.operand_bytes,
            "bound": [rounded(product.bound.get(name)) for name in columns],
            "candidates": [candidate_row(entry, product, columns, labels, whys) for entry in product.candidates],
            "storages": sorted({side["storage"] for c in product.candidates for side in (c.formats.lhs, c.formats.rhs)}),
            "tensors": drawn.get(product.name),
        }
        products.append({key: value for key, value in entry.items() if value is not None})
    return {
        "columns": [COLUMNS[name] for name in columns],
        "states": STATES,
        "sides": SIDES,
        "labels": labels.values,
        "whys": whys.values,
        "tensors": [json.loads(text) for text in tensors.values],
        "products": products,
    }


def script_json(value: Any) -> str:
    """JSON that may stand inside a <script> element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
