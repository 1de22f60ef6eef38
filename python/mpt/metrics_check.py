# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Whether a metrics file is what docs/metrics.schema.json says, without a validator.

Reading relies on types, ranges of numbers, lengths and indices, so they are checked before: a
damaged file is refused with the place of the damage, what is there, and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]
ROLES = ("fprop", "dgrad", "wgrad")
LEAST, MOST = -(2**63), 2**63 - 1  # what an integer of the file may be


class Damage(ValueError):
    """Something in a metrics file is not as its schema says; the text has the place."""


def _shown(value: Any) -> str:
    """The value in short."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def _expect(found: bool, place: str, expected: str, value: Any) -> None:
    if not found:
        raise Damage(f"{place}: expected {expected}, found {_shown(value)}")


def integer(low: int = 0, high: int = MOST) -> Check:
    """An integer in [low, high]."""
    bounds = f"an integer of at least {low}" if high == MOST else f"an integer from {low} to {high}"

    def check(value: Any, place: str) -> None:
        _expect(type(value) is int and low <= value <= high, place, bounds, value)

    return check


def number(low: float = -math.inf, high: float = math.inf, null: bool = False) -> Check:
    """A finite number in [low, high], or null where that is allowed."""
    bounds = "a finite number"
    if low > -math.inf:
        bounds += f" of at least {low:g}" if high == math.inf else f" from {low:g} to {high:g}"
    bounds += " or null" if null else ""

    def check(value: Any, place: str) -> None:
        if value is None and null:
            return
        plain = type(value) is float and math.isfinite(value) or type(value) is int and LEAST <= value <= MOST
        _expect(plain and low <= value <= high, place, bounds, value)

    return check


def text(value: Any, place: str) -> None:
    """A string that is not empty."""
    _expect(isinstance(value, str) and value != "", place, "a text", value)


def boolean(value: Any, place: str) -> None:
    _expect(isinstance(value, bool), place, "true or false", value)


def one_of(*allowed: str) -> Check:
    """One of some texts."""

    def check(value: Any, place: str) -> None:
        _expect(isinstance(value, str) and value in allowed, place, "one of " + ", ".join(allowed), value)

    return check


def array(item: Check, length: int | None = None, empty: bool = True) -> Check:
    """An array of `length` items, or of any number."""

    def check(value: Any, place: str) -> None:
        what = "an array" if length is None else f"an array of {length}"
        _expect(isinstance(value, list) and length in (None, len(value)), place, what, value)
        _expect(empty or bool(value), place, "at least one entry", value)
        for index, entry in enumerate(value):
            item(entry, f"{place}[{index}]")

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] = {}) -> Check:
    """An object with these fields, and some that may be missing; what else there is nobody reads."""

    def check(value: Any, place: str) -> None:
        _expect(isinstance(value, dict), place, "an object", value)
        for name in required:
            if name not in value:
                raise Damage(f"{place}: '{name}' is missing")
        for checks in (required, optional):
            for name in checks.keys() & value.keys():
                checks[name](value[name], f"{place}.{name}")

    return check


def summary(low: float = -math.inf, high: float = math.inf) -> Check:
    """null, a mean, or [mean, std, low, high], whose last three may be null."""
    mean, end = number(low, high), number(low, high, null=True)
    parts = (mean, number(0, null=True), end, end)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            return end(value, place)
        _expect(len(value) == 4, place, "[mean, std, low, high]", value)
        for index, (part, entry) in enumerate(zip(parts, value)):
            part(entry, f"{place}[{index}]")

    return check


# By name of the column.
COLUMNS: dict[str, Check] = {
    **dict.fromkeys(("be_median", "be_p99", "be_max", "rel_var", "loss_mse"), summary(0)),
    **dict.fromkeys(("flushed_lhs", "flushed_rhs", "saturated_lhs", "saturated_rhs"), number(0, 1)),
    "cosine": summary(-1.001, 1.001),
    "loss_shift": summary(),
    "persistent": summary(),
}
SPREAD = array(number(0), 3)
POINT = fields(
    {"step": integer(), "batches": integer(1), "loss": summary(),
     "gradient_signal": number(0, null=True), "gradient_noise": number(0, null=True)}
)  # fmt: skip
FORMAT = fields(
    {
        "storage": one_of("f32", "bf16", "f8E4M3FN", "f8E5M2", "i8"),
        "scale": one_of("none", "per_tensor", "per_row", "per_column", "block128", "mx"),
        "recipe": one_of("none", "current", "delayed", "fixed"),
        "rounding": one_of("nearest", "stochastic"),
    },
    {"history": integer(1), "margin": integer(LEAST), "value": number(0)},
)


def exponents(value: Any, place: str) -> None:
    """[lowest exponent, counts]."""
    _expect(isinstance(value, list) and len(value) == 2, place, "[lowest exponent, counts]", value)
    integer(-127, 127)(value[0], f"{place}[0]")
    array(integer())(value[1], f"{place}[1]")


TENSOR_POINT = fields(
    {
        "amax": summary(0), "min_nonzero": number(0, null=True), "mean": number(null=True),
        "std": number(0, null=True), "kurtosis": number(0, null=True), "exponents": exponents,
        "zeros": number(0, 1), "nonfinite": integer(), "rows": SPREAD, "columns": SPREAD,
    }
)  # fmt: skip


def _columns(value: Any, place: str) -> None:
    fields(dict.fromkeys(ROLES, array(one_of(*COLUMNS))))(value, place)
    for role, names in value.items():
        _expect(len(set(names)) == len(names), f"{place}.{role}", "every column once", names)


def _unique(entries: list[Mapping[str, Any]], place: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        _expect(entry["name"] not in seen, place, "every name once", entry["name"])
        seen.add(entry["name"])


def _product(file: Mapping[str, Any], points: int) -> Check:
    """The check of a product, whose rows depend on its role and candidates."""
    tensor, candidate = (integer(0, len(file[key]) - 1) for key in ("tensors", "candidates"))
    any_value: Check = lambda value, place: None  # noqa: E731 - checked below
    head = fields(
        {
            "name": text, "role": one_of(*ROLES), "m": integer(1), "n": integer(1), "k": integer(1),
            "batch": integer(1), "lhs": tensor, "rhs": tensor, "candidates": array(candidate),
            "worst": integer(0, points - 1), "points": array(any_value, points),
        },
        {"gradient": tensor},
    )  # fmt: skip

    def check(value: Any, place: str) -> None:
        head(value, place)
        names = file["columns"][value["role"]]

        def row(cells: Any, where: str) -> None:
            array(any_value, len(names))(cells, where)
            for name, cell in zip(names, cells):
                COLUMNS[name](cell, f"{where}, {name}")

        point = fields(
            {"excluded": number(0, 1), "values": array(row, len(value["candidates"]))},
            {"signal": number(0, null=True)},
        )
        array(point)(value["points"], f"{place} '{value['name']}'.points")

    return check


def check_file(file: Mapping[str, Any]) -> None:
    """Raise Damage unless `file`, of the right format and version, is as the schema says."""
    any_value: Check = lambda value, place: None  # noqa: E731 - needs what is checked first
    fields(
        {
            "format": text, "version": integer(), "graph_hash": text, "engine": text, "complete": boolean,
            "sampling": fields({}, dict.fromkeys(("rows", "columns", "seed", "sketch"), integer())),
            "batches": integer(1), "points": array(POINT, empty=False), "columns": _columns,
            "formats": array(FORMAT, empty=False), "candidates": any_value, "tensors": any_value,
            "products": any_value, "probes": any_value,
        }
    )(file, "file")  # fmt: skip
    steps = [point["step"] for point in file["points"]]
    _expect(steps == sorted(set(steps)), "file.points", "ascending steps", steps)
    points = len(steps)
    pair = array(integer(0, len(file["formats"]) - 1), 2)
    array(pair, empty=False)(file["candidates"], "candidates")
    array(fields({"name": text, "points": array(TENSOR_POINT, points)}), empty=False)(file["tensors"], "tensors")
    array(_product(file, points), empty=False)(file["products"], "products")
    _unique(file["products"], "products")
    values = dict.fromkeys(("rel_var", "noise_ratio", "persistent", "loss_change"), summary())
    layer: Check = lambda value, place: None if value is None else integer()(value, place)  # noqa: E731
    probe: dict[str, Check] = {"role": one_of(*ROLES, "whole"), "layer": layer, "products": integer(1), "candidate": text}
    probe |= {"points": array(fields(values), points)}
    array(fields(probe, {"formats": pair}))(file["probes"], "probes")
