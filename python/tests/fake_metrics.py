# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Metrics files of a small encoder, with numbers that are easy to tell apart, for tests of what reads them."""

from __future__ import annotations

import math

CANDIDATES = {  # name: (format index lhs, rhs); see FORMATS
    "INT8": (0, 0),
    "INT8 stochastic rhs": (0, 1),
    "E4M3": (2, 2),
    "E4M3/E5M2": (2, 3),
    "INT8 stochastic lhs": (1, 0),
    "E5M2/E4M3": (3, 2),
}
FORMATS = [
    {"storage": storage, "scale": "per_tensor", "recipe": "current", "rounding": rounding}
    for storage, rounding in (("i8", "nearest"), ("i8", "stochastic"), ("f8E4M3FN", "nearest"), ("f8E5M2", "nearest"))
]
BY_ROLE = {"fprop": [0, 2], "dgrad": [0, 4, 2, 5], "wgrad": [0, 1, 2, 3]}
COLUMNS = ["be_median", "be_p99", "be_max", "rel_var", "cosine", "flushed_lhs", "flushed_rhs", "saturated_lhs", "saturated_rhs"]
K = 256
# Median backward error of a candidate in each role, over E4M3's on normal data at this K.
TIMES = {0: {"fprop": 0.8, "dgrad": 6.0, "wgrad": 2.0}, 1: {"wgrad": 2.8}, 2: dict.fromkeys(BY_ROLE, 1.0)}
TIMES |= {3: {"wgrad": 1.9}, 4: {"dgrad": 8.0}, 5: {"dgrad": 1.9}}


def tensor(name: str, steps: list[int]) -> dict:
    """A tensor whose elements spread over 40 binades below 2^-3."""
    counts = [1 + 4 * i * i for i in range(40)]
    point = {
        "amax": [0.2, 0.01, 0.19, 0.21], "min_nonzero": 1e-13, "mean": 0.0, "std": 1e-2, "kurtosis": 30.0,
        "exponents": [-42, counts], "zeros": 0.1, "nonfinite": 0, "rows": [1e-4, 1e-2, 0.2], "columns": [1e-3, 1e-2, 0.2],
    }  # fmt: skip
    return {"name": name, "points": [point for _ in steps]}


def values(index: int, role: str) -> list:
    median = TIMES[index][role] * 3.95e-2 / math.sqrt(K)
    row = [[median, 0.0, median, median], 3.8 * median, 5 * median, 1e-4, 0.999, 0.01, 0.3, 0.0, 0.0]
    return row + [1e-4] if role == "fprop" else row


def product(name: str, role: str, operands: tuple[int, int], steps: list[int]) -> dict:
    rows = [values(index, role) for index in BY_ROLE[role]]
    return {
        "name": name, "role": role, "m": 64, "n": 64, "k": K, "batch": 1, "lhs": operands[0], "rhs": operands[1],
        "candidates": BY_ROLE[role], "points": [{"excluded": 0.0, "values": rows} for _ in steps], "worst": 0,
    }  # fmt: skip


def probe(role: str, candidate: str, persistent: list[float]) -> dict:
    points = []
    for value in persistent:
        summary = [value, None, value / 2, 2 * value] if value > 0 else [value, None, value, -value]
        points.append({"rel_var": 1e-2, "noise_ratio": 1e-3, "persistent": summary, "loss_change": 1e-5})
    return {"role": role, "layer": None, "products": 2, "candidate": candidate, "points": points}


def metrics_file(steps: list[int], layers: int = 2) -> dict:
    """A file (version 2) with one linear product in each layer, its two gradients, and two probes."""
    tensors, products = [], []
    for layer in range(layers):
        name = f"encoder.layer.{layer}.output.dense"
        first = len(tensors)
        tensors += [tensor(f"{name}/{side}", steps) for side in ("lhs", "rhs", "grad")]
        products.append(product(name, "fprop", (first, first + 1), steps))
        products.append(product(f"{name}/dgrad", "dgrad", (first + 2, first + 1), steps))
        products.append(product(f"{name}/wgrad", "wgrad", (first, first + 2), steps))
    point = {"batches": 8, "loss": 5.0, "gradient_signal": 1.0, "gradient_noise": 4.0}
    return {
        "format": "mpt-metrics", "version": 2, "graph_hash": "0123456789abcdef", "engine": "blas",
        "sampling": {"rows": 256, "columns": 256, "seed": 0}, "complete": True, "batches": 8,
        "points": [point | {"step": step} for step in steps], "formats": FORMATS, "candidates": list(CANDIDATES.values()),
        "columns": {role: COLUMNS + (["loss_mse"] if role == "fprop" else []) for role in BY_ROLE}, "tensors": tensors, "products": products,
        "probes": [probe("dgrad", "i8*i8", [0.5 for _ in steps]), probe("dgrad", "i8*i8[stochastic]", [-1e-6 for _ in steps])],
    }  # fmt: skip
