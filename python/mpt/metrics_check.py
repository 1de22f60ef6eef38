# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Whether a metrics file is what docs/metrics.schema.json says, without a validator.

Reading relies on types, ranges of numbers, lengths and indices, so they are checked before: a
damaged file is refused with the place of the damage, what is there, and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mpt.checks import (
    LEAST,
    Check,
    any_value,
    array,
    boolean,
    expect,
    fields,
    integer,
    nullable,
    number,
    one_of,
    text,
)

ROLES = ("fprop", "dgrad", "wgrad")


def summary(low: float = -math.inf, high: float = math.inf) -> Check:
    """null, a mean, or [mean, std, low, high], whose last three may be null."""
    mean, end = number(low, high), number(low, high, null=True)
    parts = (mean, number(0, null=True), end, end)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            return end(value, place)
        expect(len(value) == 4, place, "[mean, std, low, high]", value)
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
    expect(isinstance(value, list) and len(value) == 2, place, "[lowest exponent, counts]", value)
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
        expect(len(set(names)) == len(names), f"{place}.{role}", "every column once", names)


def _unique(entries: list[Mapping[str, Any]], place: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        expect(entry["name"] not in seen, place, "every name once", entry["name"])
        seen.add(entry["name"])


def _product(file: Mapping[str, Any], points: int) -> Check:
    """The check of a product, whose rows depend on its role and candidates."""
    tensor, candidate = (integer(0, len(file[key]) - 1) for key in ("tensors", "candidates"))
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
    expect(steps == sorted(set(steps)), "file.points", "ascending steps", steps)
    points = len(steps)
    pair = array(integer(0, len(file["formats"]) - 1), 2)
    array(pair, empty=False)(file["candidates"], "candidates")
    array(fields({"name": text, "points": array(TENSOR_POINT, points)}), empty=False)(file["tensors"], "tensors")
    array(_product(file, points), empty=False)(file["products"], "products")
    _unique(file["products"], "products")
    values = dict.fromkeys(("rel_var", "noise_ratio", "persistent", "loss_change"), summary())
    probe: dict[str, Check] = {"role": one_of(*ROLES, "whole"), "layer": nullable(integer()), "products": integer(1), "candidate": text}
    probe |= {"points": array(fields(values), points)}
    array(fields(probe, {"formats": pair}))(file["probes"], "probes")
