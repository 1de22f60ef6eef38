# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Reading metrics.json (docs/metrics.md): checks, and a table by product."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from rich import box
from rich.table import Table

FORMAT, VERSION = "mpt-metrics", 1
SHORT = {"bf16": "BF16", "f8E4M3FN": "E4M3", "f8E5M2": "E5M2", "i8": "INT8"}


class MetricsError(ValueError):
    """A metrics file is not what a command needs."""


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a metrics file; raises MetricsError if it is another format, version, or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            metrics = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MetricsError(f"{path}: not a metrics file: {error}") from error
    found = metrics if isinstance(metrics, dict) else {}
    if found.get("format") != FORMAT:
        raise MetricsError(f"{path}: format is {found.get('format')!r}, expected {FORMAT!r}")
    if found.get("version") != VERSION:
        raise MetricsError(f"{path}: version is {found.get('version')!r}, expected {VERSION}")
    for key, kind in (("graph_hash", str), ("at_steps", list), ("products", list)):
        if not isinstance(found.get(key), kind):
            raise MetricsError(f"{path}: '{key}' is missing or not a {kind.__name__}")
    return metrics


def matches(name: str, pattern: str | None) -> bool:
    """Whether a product's name has `pattern` in it, or fits it if it has wildcards."""
    if not pattern:
        return True
    return fnmatchcase(name, pattern) if any(c in pattern for c in "*?[") else pattern in name


def label(candidate: dict[str, Any]) -> str:
    """A candidate's formats in short: "E5M2 x E4M3"."""
    return " x ".join(SHORT.get(candidate[side]["storage"], candidate[side]["storage"]) for side in ("lhs", "rhs"))


def worst_point(product: dict[str, Any]) -> dict[str, Any]:
    """The point of training with the largest median backward error of any candidate."""

    def error(point: dict[str, Any]) -> float:
        return max((c["be_median"]["mean"] or 0.0 for c in point["candidates"]), default=0.0)

    return max(product["points"], key=error)


def nonfinite(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each operand that had NaN or infinity."""
    for product in metrics["products"]:
        for point in product["points"]:
            for side in ("lhs", "rhs"):
                count = point[side]["nonfinite"]
                if count:
                    yield (
                        f"product '{product['name']}' ({product['role']}): {side} had {count} NaN or infinite "
                        f"elements in {point['batches']} batches at step {point['step']}"
                    )


def _number(value: float | None, form: str = ".2e") -> str:
    return "-" if value is None else format(value, form)


def _interval(summary: dict[str, Any]) -> str:
    """A mean, with half the width of its interval where there is one."""
    if summary["mean"] is None or summary["low"] == summary["high"]:
        return _number(summary["mean"])
    half = (summary["high"] - summary["low"]) / 2
    return f"{_number(summary['mean'])} ±{100 * half / summary['mean']:.0f}%"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{100 * value:.2g}%"


def _row(product: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """The table's row of one product: a line for each candidate."""
    batch = product["batch"]
    size = "x".join(str(product[key]) for key in "mnk") + (f" ({batch})" if batch > 1 else "")
    amax = ", ".join(_number(point[side]["amax"]["mean"], ".1e") for side in ("lhs", "rhs"))
    head = [product["name"], f"{product['role']} {size}, step {point['step']}", f"amax {amax}"]
    if point["excluded"]:
        head.append(f"excluded {_share(point['excluded'])}")
    columns = [
        [label(candidate) for candidate in point["candidates"]],
        [_interval(candidate["be_median"]) for candidate in point["candidates"]],
        [_number(candidate["be_p99"]["mean"]) for candidate in point["candidates"]],
        [_number(candidate["sqnr_db"]["mean"], ".1f") for candidate in point["candidates"]],
        [_share(max(candidate["flushed"], key=lambda share: share or 0.0)) for candidate in point["candidates"]],
    ]
    return ["\n".join(lines) for lines in (head, *columns)]


def table(metrics: dict[str, Any], pattern: str | None = None, step: int | None = None) -> Table:
    """Products that match, each at its worst point or at the point of `step`.

    Raises MetricsError if none matches, or if there is no point at `step`.
    """
    if step is not None and step not in metrics["at_steps"]:
        raise MetricsError(f"no point at step {step}; there are {metrics['at_steps']}")
    title = f"engine {metrics['engine']}, {metrics['batches']} batches at steps {metrics['at_steps']}"
    result = Table(title=title + ("" if metrics.get("complete", True) else ", interrupted"), box=box.SIMPLE)
    result.add_column("product", overflow="fold")
    result.add_column("formats", no_wrap=True)
    for column in ("BE median", "BE p99", "SQNR dB", "flushed"):
        result.add_column(column, justify="right", no_wrap=True)
    for product in metrics["products"]:
        points = [point for point in product["points"] if step is None or point["step"] == step]
        if points and matches(product["name"], pattern):
            result.add_row(*_row(product, worst_point(product | {"points": points})), end_section=True)
    if not result.row_count:
        raise MetricsError(f"no product matches '{pattern}'")
    return result
