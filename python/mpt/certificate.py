# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Checks a budget's solution without the solver (docs/budget.md).

From the multipliers alone it computes the dual bound anew: products are taken
one after the other, and for each set of things paid for that a later product
can still need, the least cost so far is kept. It shares no code, and no method
of pruning, with the solver.

    python -m mpt.certificate problem.json solution.json
"""

import json
import math
import sys


def dual_bound(problem: dict, multipliers: dict[str, float]) -> float:
    """Return min over all choices of time + sum of multiplier * (error - limit), in microseconds."""
    cost = {shared["name"]: shared["time"] for shared in problem["shared"]}
    needs = [set().union(*(c["shared"] for c in p["candidates"])) for p in problem["products"]]
    users: dict[str, set[int]] = {}
    for i, names in enumerate(needs):
        for name in names:
            users.setdefault(name, set()).add(i)
    total = -sum(multipliers[b["name"]] * b["limit"] for b in problem["bounds"])
    done: set[int] = set()
    open_names: set[str] = set()  # needed by a product that was taken and by one that was not
    states = {frozenset(): 0.0}
    while len(done) < len(needs):
        # Next comes the product that leaves the fewest names open.
        left = [i for i in range(len(needs)) if i not in done and (not open_names or needs[i] & open_names)]
        i = min(left, key=lambda i: (sum(len(users[n] - done) > 1 for n in needs[i] - open_names), i))
        done.add(i)
        open_names = {n for n in open_names | needs[i] if users[n] - done}
        following: dict[frozenset, float] = {}
        for paid, so_far in states.items():
            for c in problem["products"][i]["candidates"]:
                price = so_far + c["time"] + sum(multipliers[b] * e for b, e in c["errors"].items())
                price += sum(cost[n] for n in set(c["shared"]) - paid)
                key = frozenset((paid | set(c["shared"])) & open_names)
                following[key] = min(price, following.get(key, math.inf))
        states = following
        if not open_names:
            total += states[frozenset()]
            states = {frozenset(): 0.0}
    return total


def check(problem: dict, solution: dict, tolerance: float = 1e-9) -> float:
    """Return the certified gap, (time - dual bound) / time.

    Raises ValueError, naming what does not fit, if there is no choice, if it breaks a bound or if time or
    dual bound are not what the solution says.
    """
    if "chosen" not in solution:
        raise ValueError(f"the solution is {solution.get('status', 'without a status')}: it has no choice to check")
    chosen = []
    for product in problem["products"]:
        name = solution["chosen"].get(product["name"])
        fits = [c for c in product["candidates"] if c["name"] == name]
        if len(fits) != 1:
            raise ValueError(f"product '{product['name']}': {name!r} is not one of its candidates")
        chosen += fits
    paid = set().union(*(c["shared"] for c in chosen))
    time = sum(c["time"] for c in chosen) + sum(s["time"] for s in problem["shared"] if s["name"] in paid)
    if not math.isclose(time, solution["time"], rel_tol=tolerance, abs_tol=tolerance):
        raise ValueError(f"the choice takes {time} us, the solution says {solution['time']}")
    for bound in problem["bounds"]:
        error = sum(c["errors"][bound["name"]] for c in chosen)
        if error > bound["limit"] * (1 + tolerance):
            raise ValueError(f"the sum of {bound['name']} is {error}, its limit {bound['limit']}")
        if not solution["multipliers"][bound["name"]] >= 0:
            raise ValueError(f"the multiplier of {bound['name']} is negative")
    dual = dual_bound(problem, solution["multipliers"])
    if abs(dual - solution["dual_bound"]) > tolerance * max(1.0, abs(dual), time):
        raise ValueError(f"the multipliers prove {dual} us, the solution says {solution['dual_bound']}")
    if dual > time * (1 + tolerance):
        raise ValueError(f"time {time} us lies below the dual bound {dual}")
    return max(0.0, time - dual) / time if time else 0.0  # below 0 by rounding only


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        with open(sys.argv[1]) as problem, open(sys.argv[2]) as solution:
            print(f"gap {check(json.load(problem), json.load(solution)):.3g}")
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"certificate: {error}")
