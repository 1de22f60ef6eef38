# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The budget's solver against HiGHS, and its certificate against a checker that shares no code with it.

Problems have the structure of a transformer's training step: layers of three products that share casts of their
activations, weights and gradients. Small problems are tried exhaustively in test/unit/Precision.
"""

import copy
import json
import os
import random
import subprocess
import time
from pathlib import Path

import highspy
import numpy as np
import pytest

from mpt import certificate

SOLVE = Path(os.environ.get("MPT_BIN", "build/bin")) / "mpt-solve"
BOUNDS = ("loss_mse", "noise_ratio", "persistent")
# Formats of a linear layer's products, (lhs, rhs, error), by role.
FORMATS = {
    "fprop": [("bf16", "bf16", 0.01), ("e4m3", "e4m3", 1.0), ("i8", "i8", 0.6)],
    "dgrad": [("bf16", "bf16", 0.01), ("e4m3", "e4m3", 1.0), ("e5m2", "e4m3", 2.0), ("i8", "i8", 9.0)],
    "wgrad": [("bf16", "bf16", 0.01), ("e4m3", "e4m3", 1.0), ("e4m3", "e5m2", 2.0), ("i8", "i8", 9.0)],
}


def transformer(layers: int, share: float, seed: int, hidden: int = 1024, tokens: int = 8192) -> dict:
    """Return a problem of 24 products a layer; bounds lie at `share` of the way from least to most error."""
    draw = random.Random(seed)
    shared: dict[str, float] = {}
    products = []

    def need(value: str, elements: int, fmt: str, turned: bool) -> list[str]:
        shared[f"{value}/{fmt}"] = elements * (2 if fmt == "bf16" else 5) / 4.3e6
        if fmt == "bf16" or not turned:
            return [f"{value}/{fmt}"]
        shared[f"{value}/{fmt}/transposed"] = elements * 2 / 4.3e6 + 3
        return [f"{value}/{fmt}", f"{value}/{fmt}/transposed"]

    def linear(name: str, x: str, k: int, n: int) -> None:
        w, dy = f"{name}.weight", f"{name}.dy"
        sizes = {x: tokens * k, w: k * n, dy: tokens * n}
        for role, lhs, rhs, turned in (
            ("fprop", x, w, (0, 0)),
            ("dgrad", dy, w, (0, 1)),
            ("wgrad", x, dy, (1, 1)),
        ):
            scale = 10 ** draw.gauss(-4, 0.5)
            candidates = []
            for left, right, error in FORMATS[role]:
                error *= scale * draw.uniform(0.7, 1.4)
                errors = dict.fromkeys(BOUNDS, 0.0)
                if role == "fprop":
                    errors["loss_mse"] = error**2
                else:
                    errors |= {"noise_ratio": error, "persistent": error * draw.uniform(0.2, 1)}
                flops = 2 * tokens * k * n
                candidates.append(
                    {
                        "name": f"{left} x {right}",
                        "time": flops / (8e8 if left == "bf16" else 1.4e9) + 3,
                        "errors": errors,
                        "shared": sorted(
                            need(lhs, sizes[lhs], left, turned[0]) + need(rhs, sizes[rhs], right, turned[1])
                        ),
                    }
                )
            products.append({"name": name if role == "fprop" else f"{name}/{role}", "candidates": candidates})

    for layer in range(layers):
        for part in ("query", "key", "value"):
            linear(f"{layer}.{part}", f"{layer}.x", hidden, hidden)
        linear(f"{layer}.output", f"{layer}.context", hidden, hidden)
        linear(f"{layer}.up", f"{layer}.y", hidden, 4 * hidden)
        linear(f"{layer}.down", f"{layer}.gelu", 4 * hidden, hidden)
        for value in ("scores", "context.product"):  # attention: three products on three activations
            linear(f"{layer}.{value}", f"{layer}.{value}.x", hidden, hidden // 4)
    bounds = []
    for name in BOUNDS:
        every = [[c["errors"][name] for c in p["candidates"]] for p in products]
        least, most = sum(map(min, every)), sum(map(max, every))
        bounds.append({"name": name, "limit": least + share * (most - least)})
    listed = [{"name": name, "time": cost} for name, cost in sorted(shared.items())]
    return {"format": "mpt-budget", "version": 1, "bounds": bounds, "shared": listed, "products": products}


def solve(problem: dict, *options: str) -> dict:
    """Run mpt-solve and return its solution; RuntimeError with its message if it refuses."""
    run = subprocess.run([SOLVE, *options], input=json.dumps(problem), capture_output=True, text=True, timeout=60)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    return json.loads(run.stdout)


def highs(problem: dict, gap: float) -> tuple[float, float]:
    """Return HiGHS's best time and its lower bound, from a plain integer program; (inf, inf) if infeasible."""
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("mip_rel_gap", gap)
    model.setOptionValue("random_seed", 1)
    infinity = highspy.kHighsInf
    cost, columns = [], {}
    for shared in problem["shared"]:
        columns[shared["name"]] = len(cost)
        cost.append(shared["time"])
    first = len(cost)
    rows: list[tuple[float, float, dict[int, float]]] = []
    bounds = {b["name"]: {} for b in problem["bounds"]}
    for product in problem["products"]:
        takes, one = {}, {}
        for candidate in product["candidates"]:
            x = len(cost)
            cost.append(candidate["time"])
            one[x] = 1.0
            for name, error in candidate["errors"].items():
                bounds[name][x] = error
            for name in candidate["shared"]:
                takes.setdefault(name, {})[x] = 1.0
        rows.append((1.0, 1.0, one))
        rows += [(-infinity, 0.0, users | {columns[name]: -1.0}) for name, users in takes.items()]
    for bound in problem["bounds"]:  # in units of the limit: HiGHS has absolute tolerances
        scaled = {x: error / bound["limit"] for x, error in bounds[bound["name"]].items()}
        rows.append((-infinity, 1.0, scaled))
    for i, value in enumerate(cost):
        model.addVar(0.0, 1.0)
        model.changeColCost(i, value)
        if i >= first:
            model.changeColIntegrality(i, highspy.HighsVarType.kInteger)
    for low, high, row in rows:
        model.addRow(low, high, len(row), np.array(list(row), dtype=np.int32), np.array(list(row.values())))
    model.run()
    if model.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return float("inf"), float("inf")
    info = model.getInfo()
    return info.objective_function_value, info.mip_dual_bound


@pytest.mark.parametrize("layers,share,seed", [(1, 0.05, 1), (1, 0.3, 2), (2, 0.1, 3), (2, 0.02, 4), (3, 0.2, 5)])
def test_highs_agrees(layers, share, seed):
    problem = transformer(layers, share, seed)
    solution = solve(problem, "--nodes=200")
    assert solution["status"] == "optimal"
    best, bound = highs(problem, gap=1e-7)
    # HiGHS takes a bound as kept that is broken by 1e-6 of it.
    assert solution["time"] == pytest.approx(best, rel=1e-5)
    assert solution["dual_bound"] <= bound * (1 + 1e-6)


@pytest.mark.parametrize("layers,share,seed", [(1, 0.1, 6), (4, 0.05, 7), (24, 0.1, 8)])
def test_certificate(layers, share, seed):
    problem = transformer(layers, share, seed)
    solution = solve(problem)
    gap = certificate.check(problem, solution)
    assert 0 <= gap < 0.02 / layers
    assert solution["proven"] <= solution["time"] * (1 + 1e-12)


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda s: s["chosen"].update({"0.query": "fp64 x fp64"}), "is not one of its candidates"),
        (lambda s: s.update(time=s["time"] * 0.9), "the solution says"),
        (lambda s: s.update(dual_bound=s["dual_bound"] * 1.001), "the multipliers prove"),
        (lambda s: s["multipliers"].update(persistent=-1.0), "is negative"),
    ],
)
def test_checker_refuses(spoil, message):
    problem = transformer(1, 0.1, 9)
    solution = solve(problem)
    spoil(solution)
    with pytest.raises(ValueError, match=message):
        certificate.check(problem, solution)


def test_checker_has_nothing_to_say_of_an_infeasible_problem():
    problem = transformer(1, 0.1, 6)
    problem["bounds"][0]["limit"] = 0.0
    with pytest.raises(ValueError, match="the solution is infeasible: it has no choice to check"):
        certificate.check(problem, solve(problem))


def test_checker_refuses_a_broken_bound():
    problem = transformer(1, 0.1, 9)
    solution = solve(problem)
    for bound in problem["bounds"]:
        bound["limit"] *= 0.5
    with pytest.raises(ValueError, match="its limit"):
        certificate.check(problem, solution)


def test_bert_large_in_two_seconds():
    problem = transformer(24, 0.1, 10)
    assert len(problem["products"]) == 576
    start = time.perf_counter()
    solution = solve(problem)
    assert time.perf_counter() - start < 2
    assert solution["time"] - solution["proven"] <= 1e-3 * solution["time"]


def test_same_bytes():
    problem = json.dumps(transformer(2, 0.1, 11))
    runs = [subprocess.run([SOLVE], input=problem, capture_output=True, text=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]


def test_tighter_bounds_take_longer():
    times = [solve(transformer(2, share, 12))["time"] for share in (0.02, 0.1, 0.4, 1.0)]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_infeasible_names_the_bound():
    problem = transformer(1, 0.1, 13)
    smallest = sum(min(c["errors"]["persistent"] for c in p["candidates"]) for p in problem["products"])
    problem["bounds"][2]["limit"] = smallest / 2
    solution = solve(problem)
    assert solution["status"] == "infeasible"
    assert solution["least_feasible"] == "persistent"
    assert solution["smallest"]["persistent"] == pytest.approx(smallest, rel=1e-12)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda p: p.pop("bounds"), "'bounds' is missing"),
        (lambda p: p.update(version=9), "expected version 1, found 9"),
        (lambda p: p["products"][0].pop("name"), "products[0]: 'name' is missing"),
        (lambda p: p["products"][0]["candidates"][1].update(time=-1), "candidates[1].time: expected a finite number of at least 0, found -1"),
        (lambda p: p["products"][0]["candidates"][1]["errors"].pop("persistent"), "'persistent' is missing"),
        (lambda p: p["products"][0]["candidates"][1]["shared"].append("y"), "expected a name of 'shared', found 'y'"),
        (lambda p: p["products"][1].update(name=p["products"][0]["name"]), "two products are named '0.query'"),
        (lambda p: p["shared"].append(p["shared"][0]), "is there twice"),
    ],
)
def test_bad_input(change, message):
    problem = copy.deepcopy(transformer(1, 0.1, 14))
    change(problem)
    with pytest.raises(RuntimeError) as error:
        solve(problem)
    assert message in str(error.value)
