# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""A small decision record and metrics file made by hand, for tests that read them."""

from __future__ import annotations

import copy
from typing import Any

from mpt.decisions import Decisions, parse

HIGH = {"storage": "bf16", "scale": "none", "recipe": "none", "rounding": "nearest"}
E4M3 = {"storage": "f8E4M3FN", "scale": "per_tensor", "recipe": "current", "rounding": "nearest"}
E5M2 = dict(E4M3, storage="f8E5M2")
BOUND = {"fprop": 3e-3, "dgrad": 6e-3, "wgrad": 6e-3}


def candidate(lhs: dict[str, str], rhs: dict[str, str], error: float, bound: float, **more: Any) -> dict[str, Any]:
    """A candidate whose median backward error is `error`, 10 % wide."""
    metrics = {"be_median": error, "be_median_spread": error / 10, "be_p99": 3 * error, "sqnr_db": 30.0}
    admitted = error <= bound
    return {
        "lhs": lhs, "rhs": rhs, "metrics": metrics | more, "admitted": admitted, "undecided": False,
        "ratio": error / bound, "why": "" if admitted else f"be_median {error:.2e} is above its bound {bound:.2e}",
    }  # fmt: skip


def product(name: str, role: str, error: float = 2e-3, size: int = 64, **more: Any) -> dict[str, Any]:
    """A product of size^3 that takes E4M3 where its error is within the bound."""
    bound = BOUND[role]
    low = candidate(E4M3, E4M3, error, bound, **more)
    chosen = E4M3 if low["admitted"] else HIGH
    other = HIGH if low["admitted"] else E4M3
    reason = "cheapest within its bounds: be_median" if low["admitted"] else f"f8E4M3FN x f8E4M3FN: {low['why']}"
    return {
        "name": name, "role": role, "m": size, "n": size, "k": size, "batch": 1, "flops": 2.0 * size**3,
        "profiled": {"m": size, "n": size, "k": size},
        "candidates": [candidate(HIGH, HIGH, 1e-4, bound), low],
        "bound": {"c": 1.5, "be_median": bound, "be_p99": 4 * bound},
        "chosen": {"lhs": chosen, "rhs": chosen}, "runner_up": {"lhs": other, "rhs": other},
        "margin": bound / error, "reason": reason, "pin": None,
    }  # fmt: skip


def content(layers: int = 3) -> dict[str, Any]:
    """decisions.json of a few layers with two linear layers each, and a head."""
    products = []
    for layer in range(layers):
        for kind in ("attention.self.query", "output.dense"):
            name = f"encoder.layer.{layer}.{kind}"
            products.append(product(name, "fprop", 2e-3))
            products.append(product(f"{name}/dgrad", "dgrad", 1e-2 if layer == 0 else 3e-3, noise_ratio=1e-3))
            products.append(product(f"{name}/wgrad", "wgrad", 3e-3, persistent=2e-3 * (layer + 1)))
    products.append(product("cls.predictions.decoder", "fprop", 2.9e-3, size=128))
    return {
        "format": "mpt-decisions", "version": 1, "graph_hash": "00000000deadbeef", "policy": "threshold",
        "alignment": 16, "pins": [], "summary": {}, "products": products,
    }  # fmt: skip


def price(data: dict[str, Any]) -> None:
    """Add what a target and policy `budget` add to a record: 20 µs a product, 3 µs its casts."""
    limits = {"loss_mse": 1e-6, "noise_ratio": 5e-2, "persistent": 3e-2}
    data |= {
        "policy": "budget",
        "target": "h100",
        "predicted": {"products_us": 380, "work_us": 120, "work_bytes": 4e6, "total_us": 500, "bf16_us": 600},
        "budget": {"status": "optimal", "proven_us": 499, "dual_bound_us": 499,
                   "bounds": [{"name": name, "limit": limit, "sum": limit / 2, "multiplier": 100}
                              for name, limit in limits.items()]},
    }  # fmt: skip
    for entry in data["products"]:
        entry |= {"us": 20, "measured": False}
        for candidate in entry["candidates"]:
            candidate |= {"us": 20, "work_us": 3}


def record(layers: int = 3) -> Decisions:
    return parse(content(layers))


def pinned(data: dict[str, Any], part: str) -> dict[str, Any]:
    """The same record with the products whose name has `part` pinned to BF16."""
    data = copy.deepcopy(data)
    pin = f"*{part}*=bf16"
    data["pins"].append(pin)
    for entry in data["products"]:
        if part in entry["name"]:
            entry |= {"runner_up": entry["chosen"], "chosen": {"lhs": HIGH, "rhs": HIGH}, "margin": None,
                      "pin": pin, "reason": f"pinned by '{pin}'"}  # fmt: skip
    return data
