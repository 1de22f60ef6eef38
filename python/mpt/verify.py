# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The closed loop: does training under an assignment do what training in BF16 does?

Everything here is a function of loss curves (docs/verify.md). Training itself is a function
that is passed in: from a Run (which products are promoted to BF16, which seed) to the loss of
each step. mpt.verify_train has the one that builds and runs packages.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mpt.decisions import Decisions, Product

ROUNDS = 6
GROUP = 0.1  # of the products' FLOPs, promoted together
CONFIDENCE = 0.95
# Default bounds (docs/metrics.md): what a sum over products may be. Only ratios to them are used.
NOISE_BOUND, PERSISTENT_BOUND, LOSS_BOUND = 5e-2, 3e-2, 1e-3


class Verdict(str, enum.Enum):
    DIVERGED = "diverged"
    EQUIVALENT = "equivalent within the stated margin"
    NOT_DECIDED = "not decided"


@dataclass(frozen=True)
class Criteria:
    """What the verdicts mean. Losses are means over the last `window` steps.

    Diverged: a loss that is not finite, or one that for `patience` steps on end is above all that
    the baseline had in the last `patience` steps by `excess` of it, under any seed (so that a
    curve that falls a little later has not diverged). Equivalent: the 95 % interval of the mean
    difference of the final losses lies within +-`margin` of the baseline's final loss.
    """

    margin: float = 0.005
    window: int = 50
    excess: float = 0.05
    patience: int = 50

    def check(self, steps: int) -> None:
        """Raise ValueError where a run of `steps` steps cannot meet them."""
        for name in ("margin", "excess"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        for name in ("window", "patience"):
            if not 1 <= getattr(self, name) <= steps:
                raise ValueError(f"{name} is {getattr(self, name)} steps, expected 1 to {steps}, the steps of a run")


@dataclass(frozen=True)
class Run:
    """One training run: the baseline in BF16, or the assignment with `promoted` products in BF16."""

    promoted: frozenset[str] | None  # None: the baseline
    seed: int


# Trains until the end or until stop(losses so far) is true, and returns the losses.
Trainer = Callable[[Run, Callable[[Sequence[float]], bool]], list[float]]


@dataclass(frozen=True)
class Judgement:
    """What the runs of one assignment say."""

    verdict: Verdict
    mean: float | None  # of the paired differences of final losses
    low: float | None
    high: float | None
    margin: float  # in units of the loss
    loss: float | None
    baseline: float
    diverged: dict[int, int]  # seed -> step
    text: str

    @property
    def failed(self) -> bool:
        """Diverged, or worse by more than the margin: a reason to promote products."""
        return self.verdict is Verdict.DIVERGED or (self.low is not None and self.low > self.margin)


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """t with P(|T| <= t) = confidence under Student's distribution with `freedom` degrees.

    By bisection on the closed form for integer degrees: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """

    def probability(t: float) -> float:
        angle = math.atan(t / math.sqrt(freedom))
        term, total = 1.0, 0.0
        cosine = math.cos(angle)
        for k in range(freedom // 2 if freedom % 2 == 0 else (freedom - 1) // 2):
            total += term
            ratio = (2 * k + 1) / (2 * k + 2) if freedom % 2 == 0 else (2 * k + 2) / (2 * k + 3)
            term *= ratio * cosine**2
        if freedom % 2 == 0:
            return math.sin(angle) * total
        return 2 / math.pi * (angle + math.sin(angle) * cosine * total)

    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom, expected at least 1")
    low, high = 0.0, 1.0
    while probability(high) < confidence:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < confidence else (low, middle)
    return high


def smoothed(losses: Sequence[float], window: int) -> np.ndarray:
    """Mean over the last `window` steps at each step; over fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(losses, np.float64)]))
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def recent_maximum(values: np.ndarray, steps: int) -> np.ndarray:
    """At each step, the largest value of this one and the `steps` before it."""
    padded = np.concatenate([np.full(steps, -np.inf), values])
    return np.lib.stride_tricks.sliding_window_view(padded, steps + 1).max(axis=1)


def divergence(losses: Sequence[float], baseline: Sequence[float], criteria: Criteria) -> int | None:
    """The step at which a run has diverged from its baseline, or None."""
    values = np.asarray(losses, np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    finite = values[: bad[0]] if bad.size else values
    count = min(len(finite), len(baseline))
    limit = (1 + criteria.excess) * recent_maximum(smoothed(baseline, criteria.window), criteria.patience)
    above = smoothed(finite, criteria.window)[:count] > limit[:count]
    below = np.concatenate([[-1], np.flatnonzero(~above)])
    lengths = np.arange(count) - below[np.searchsorted(below, np.arange(count), side="right") - 1]
    late = np.flatnonzero(lengths >= criteria.patience)
    if late.size:
        return int(late[0])
    return int(bad[0]) if bad.size else None


def check_baseline(baselines: Mapping[int, Sequence[float]], criteria: Criteria) -> None:
    """Raise ValueError if BF16 itself does not train: there is nothing to compare with then."""
    for seed, losses in baselines.items():
        values = np.asarray(losses, np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(
                f"the BF16 baseline has no finite loss at step {bad[0]}, seed {seed}: lower the learning rate"
            )
        curve = smoothed(values, criteria.window)
        if curve[-1] > (1 + criteria.excess) * values[0]:
            raise ValueError(
                f"the BF16 baseline ends at loss {curve[-1]:.4g}, begins at {values[0]:.4g}, seed {seed}: "
                "lower the learning rate"
            )


def judge(
    runs: Mapping[int, Sequence[float]], baselines: Mapping[int, Sequence[float]], criteria: Criteria
) -> Judgement:
    """The verdict on an assignment from its loss curves and the baseline's, both by seed."""
    if not runs or set(runs) != set(baselines):
        raise ValueError(f"seeds of the assignment are {sorted(runs)}, of the baseline {sorted(baselines)}")
    finals = {seed: float(smoothed(losses, criteria.window)[-1]) for seed, losses in baselines.items()}
    base = float(np.mean(list(finals.values())))
    margin = criteria.margin * base
    diverged = {}
    for seed, losses in runs.items():
        step = divergence(losses, baselines[seed], criteria)
        if step is not None:
            diverged[seed] = step
        elif len(losses) != len(baselines[seed]):
            raise ValueError(f"seed {seed} has {len(losses)} steps, its baseline {len(baselines[seed])}")
    if diverged:
        where = ", ".join(f"seed {seed} at step {step}" for seed, step in sorted(diverged.items()))
        return Judgement(Verdict.DIVERGED, None, None, None, margin, None, base, diverged, f"diverged: {where}")
    ends = {seed: float(smoothed(losses, criteria.window)[-1]) for seed, losses in runs.items()}
    return _compare(ends, finals, margin, base)


def _compare(ends: Mapping[int, float], finals: Mapping[int, float], margin: float, base: float) -> Judgement:
    """The verdict on runs that have not diverged: a paired t-interval against the margin."""
    differences = np.array([ends[seed] - finals[seed] for seed in sorted(ends)])
    mean, loss = float(differences.mean()), float(np.mean(list(ends.values())))
    if len(differences) < 2:
        text = f"not decided: difference {mean:+.4g}, one seed gives no interval"
        return Judgement(Verdict.NOT_DECIDED, mean, None, None, margin, loss, base, {}, text)
    half = t_quantile(len(differences) - 1) * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    low, high = mean - half, mean + half
    verdict = Verdict.EQUIVALENT if max(-low, high) <= margin else Verdict.NOT_DECIDED
    text = f"{verdict.value}: difference {mean:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}, margin {margin:.4g}"
    if low > margin:
        text += "; worse than the margin allows"
    elif high < -margin:
        text += "; better than BF16 by more than the margin"
    return Judgement(verdict, mean, low, high, margin, loss, base, {}, text)


# Which products to promote.


def limits(record: Decisions, loss: float) -> dict[str, float]:
    """Bounds on the sums of errors: of the record's budget, else the defaults at this loss."""
    found = {"noise_ratio": NOISE_BOUND, "persistent": PERSISTENT_BOUND, "loss_mse": (LOSS_BOUND * loss) ** 2}
    if record.budget:
        found |= {bound.name: bound.limit for bound in record.budget.bounds if bound.limit > 0}
    return found


def contribution(product: Product, bounds: Mapping[str, float]) -> float | None:
    """A product's predicted part of the damage, as a share of the bounds; None if nothing says.

    The largest of noise_ratio, persistent (its own; else its role's, which one product
    cannot exceed by much) and loss_mse over their bounds.
    """
    metrics = product.taken.metrics if product.taken else {}
    shares = [metrics[name] / bound for name, bound in bounds.items() if name in metrics]
    if "persistent" not in metrics and "role_persistent" in metrics:
        shares.append(metrics["role_persistent"] / bounds["persistent"])
    return max(shares, default=None)


def promotion_order(record: Decisions, loss: float) -> list[Product]:
    """Products in 8 bits, largest predicted contribution first; what nothing is known of before all.

    Where no product has metrics that add up, error / bound orders them; ties go to gradients,
    then to FLOPs, then to the name, so that the order is the same every time.
    """
    low = [product for product in record.products if product.chosen.low]
    bounds = limits(record, loss)
    values = {product.name: contribution(product, bounds) for product in low}
    if all(value is None for value in values.values()):
        values = {product.name: product.taken.ratio if product.taken else None for product in low}

    def rank(product: Product) -> tuple[float, bool, float, str]:
        value = values[product.name]
        return (-math.inf if value is None else -value, product.role == "fprop", -product.flops, product.name)

    return sorted(low, key=rank)


@dataclass
class Search:
    """How many of the products in promotion order have to go to BF16.

    Promotes 1, 3, 7, ... groups until an assignment does not fail, then wins back by bisection
    between the longest prefix that failed and the shortest that did not. This assumes that
    promoting more never makes it fail.
    """

    flops: Sequence[float]  # in promotion order
    total: float  # of all products
    tried: dict[int, bool] = field(default_factory=dict)  # prefix -> failed

    @property
    def boundaries(self) -> list[int]:
        """Ends of the groups, each of GROUP of the FLOPs and at least one product."""
        ends, sums = [], np.cumsum(self.flops)
        while not ends or ends[-1] < len(self.flops):
            goal = (len(ends) + 1) * GROUP * self.total
            end = int(np.searchsorted(sums, goal * (1 - 1e-9))) + 1
            ends.append(min(max(end, ends[-1] + 1 if ends else 1), len(self.flops)))
        return ends

    @property
    def kept(self) -> int | None:
        """The shortest prefix that did not fail."""
        return min((prefix for prefix, failed in self.tried.items() if not failed), default=None)

    def next(self) -> int | None:
        """The prefix to try next; None when there is nothing left to learn."""
        if 0 not in self.tried:
            return 0
        failed = max((prefix for prefix, bad in self.tried.items() if bad), default=None)
        if failed is None or (failed >= len(self.flops) and self.kept is None):
            return None
        if self.kept is None:
            done = sum(end <= failed for end in self.boundaries)
            return self.boundaries[min(2 * done, len(self.boundaries) - 1)]
        between = range(failed + 1, self.kept)
        if not between:
            return None
        sums = np.concatenate([[0.0], np.cumsum(self.flops)])
        middle = (sums[failed] + sums[self.kept]) / 2
        return min(between, key=lambda prefix: (abs(sums[prefix] - middle), prefix))


@dataclass(frozen=True)
class Round:
    promoted: list[str]
    share: float  # of the products' FLOPs that promotion took out of 8 bits
    judgement: Judgement


@dataclass(frozen=True)
class Outcome:
    """All rounds; `kept` is the one to use, None if every one failed."""

    rounds: list[Round]
    kept: Round | None

    @property
    def text(self) -> str:
        if self.kept is None:
            count = len(self.rounds)
            last = self.rounds[-1].judgement.text
            return f"every assignment failed in {count} round{'s' * (count > 1)}; the last one {last}"
        count = len(self.kept.promoted)
        how = f"with {count} product{'s' * (count > 1)} ({100 * self.kept.share:.0f} % of FLOPs) back in BF16, " if count else ""
        return how + self.kept.judgement.text


def check_record(record: Decisions) -> None:
    """Raise ValueError if the record has nothing in 8 bits."""
    if not any(product.chosen.low for product in record.products):
        raise ValueError("the assignment has no product in 8 bits: there is nothing to verify")


def verify(
    record: Decisions,
    train: Trainer,
    seeds: Sequence[int],
    criteria: Criteria,
    rounds: int = ROUNDS,
    report: Callable[[list[Round]], None] = lambda rounds: None,
) -> Outcome:
    """Train baseline and assignment, and promote products as long as that fails.

    `report` is told all rounds after each. Raises ValueError if the baseline does not train
    or the record has nothing in 8 bits.
    """
    check_record(record)
    baselines = {seed: train(Run(None, seed), lambda losses: not math.isfinite(losses[-1])) for seed in seeds}
    check_baseline(baselines, criteria)
    loss = float(np.mean([smoothed(losses, criteria.window)[-1] for losses in baselines.values()]))
    order = promotion_order(record, loss)
    search = Search([product.flops for product in order], record.flops)
    done: list[Round] = []
    while len(done) < rounds and (prefix := search.next()) is not None:
        promoted = [product.name for product in order[:prefix]]
        curves = {}
        for seed in seeds:
            base = baselines[seed]
            curves[seed] = train(
                Run(frozenset(promoted), seed), lambda losses, base=base: divergence(losses, base, criteria) is not None
            )
            if divergence(curves[seed], base, criteria) is not None:
                break  # the other seeds could not save it
        judgement = judge(curves, {seed: baselines[seed] for seed in curves}, criteria)
        share = sum(product.flops for product in order[:prefix]) / record.flops
        done.append(Round(promoted, share, judgement))
        search.tried[prefix] = judgement.failed
        report(done)
    best = [entry for entry in done if not entry.judgement.failed]
    return Outcome(done, min(best, key=lambda entry: len(entry.promoted), default=None))
