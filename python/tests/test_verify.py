# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The closed loop: verdicts, promotion and bisection on made-up curves; one small real run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import records
from mpt.decisions import parse
from mpt.verify import (
    Criteria,
    Run,
    Search,
    Verdict,
    contribution,
    divergence,
    judge,
    limits,
    promotion_order,
    smoothed,
    t_quantile,
    verify,
)

CRITERIA = Criteria(margin=0.01, window=5, excess=0.05, patience=4)


def curve(seed, offset=0.0, steps=60):
    """A falling loss with noise that belongs to the seed, ending near 2."""
    noise = np.random.default_rng(seed).normal(0, 0.05, steps)
    return list(2 + 4 * np.exp(-np.arange(steps) / 10) + noise + offset)


@pytest.mark.parametrize("freedom, value", [
    (1, 12.70620), (2, 4.302653), (3, 3.182446), (4, 2.776445), (5, 2.570582), (9, 2.262157), (30, 2.042272),
])  # fmt: skip
def test_t_quantiles_are_those_of_the_tables(freedom, value):
    assert t_quantile(freedom) == pytest.approx(value, rel=1e-6)


def test_t_quantiles_of_other_confidence():
    assert t_quantile(1, 0.5) == pytest.approx(1)
    assert t_quantile(2, 0.99) == pytest.approx(9.924843, rel=1e-6)
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        t_quantile(0)


def test_smoothing_is_a_mean_of_the_last_steps():
    losses = [4.0, 2.0, 6.0, 1.0, 5.0]
    assert list(smoothed(losses, 3)) == pytest.approx([4, 3, 4, 3, 4])
    assert list(smoothed(losses, 1)) == pytest.approx(losses)


def test_divergence_needs_its_time():
    base = [2.0] * 20
    criteria = Criteria(window=1, excess=0.1, patience=3)
    spike = base[:5] + [3, 3] + base[7:]
    assert divergence(spike, base, criteria) is None
    assert divergence(base[:5] + [3, 3, 3] + base[8:], base, criteria) == 7
    assert divergence(base[:18] + [3, 3], base, criteria) is None
    assert divergence(base[:4] + [math.nan] + base[5:], base, criteria) == 4
    assert divergence(base[:4] + [math.inf], base, criteria) == 4
    assert divergence([3, 3, 3, math.nan], base, criteria) == 2
    assert divergence([], base, criteria) is None


def test_a_curve_that_falls_later_has_not_diverged():
    base = [8.0] * 10 + list(np.linspace(8, 2, 40)) + [2.0] * 50
    criteria = Criteria(window=1, excess=0.05, patience=10)
    assert divergence([8.0] * 8 + base[:-8], base, criteria) is None
    assert divergence([8.0] * 30 + base[:-30], base, criteria) is not None
    stuck = base[:30] + [base[30]] * 70
    assert divergence(stuck, base, criteria) == 41 + 10  # within 5 % of 10 steps ago until step 41


def test_equal_curves_are_equivalent():
    base = {seed: curve(seed) for seed in range(3)}
    found = judge(base, base, CRITERIA)
    assert found.verdict is Verdict.EQUIVALENT and found.mean == found.low == found.high == 0 and not found.failed
    assert found.margin == pytest.approx(0.01 * found.baseline)


def test_the_interval_is_students():
    base = {seed: [2.0] * 10 for seed in range(3)}
    runs = {seed: [2.0 + d] * 10 for seed, d in enumerate((0.001, 0.002, 0.006))}
    found = judge(runs, base, CRITERIA)
    half = 4.302653 * np.std([0.001, 0.002, 0.006], ddof=1) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.003 - half, 0.003 + half), rel=1e-5)
    assert found.verdict is Verdict.EQUIVALENT and found.margin == pytest.approx(0.02)
    assert judge(runs, base, Criteria(0.004, 5, 0.05, 4)).verdict is Verdict.NOT_DECIDED


def test_worse_without_divergence_is_a_failure():
    base = {seed: curve(seed) for seed in range(3)}
    found = judge({seed: curve(seed, 0.06) for seed in range(3)}, base, CRITERIA)
    assert found.verdict is Verdict.NOT_DECIDED and found.failed and "worse than the margin" in found.text
    better = judge({seed: curve(seed, -0.06) for seed in range(3)}, base, CRITERIA)
    assert better.verdict is Verdict.NOT_DECIDED and not better.failed and "better than BF16" in better.text


def test_one_seed_decides_nothing_but_divergence():
    base = {7: curve(7)}
    assert judge(base, base, CRITERIA).verdict is Verdict.NOT_DECIDED
    found = judge({7: curve(7)[:30] + [math.nan]}, base, CRITERIA)
    assert found.verdict is Verdict.DIVERGED and found.diverged == {7: 30} and found.failed


def test_runs_that_do_not_fit_are_refused():
    base = {seed: curve(seed) for seed in range(2)}
    with pytest.raises(ValueError, match=r"seeds of the assignment are \[0\], of the baseline \[0, 1\]"):
        judge({0: curve(0)}, base, CRITERIA)
    with pytest.raises(ValueError, match="seed 1 has 59 steps, its baseline 60"):
        judge({0: curve(0), 1: curve(1)[:-1]}, base, CRITERIA)
    for bad, message in (
        (Criteria(window=0), "window is 0"),
        (Criteria(patience=101), "patience is 101 steps, expected 1 to 100"),
        (Criteria(margin=0), "margin is 0, expected more"),
    ):
        with pytest.raises(ValueError, match=message):
            bad.check(100)


def test_contributions_are_shares_of_the_bounds():
    record = records.record()
    bounds = limits(record, 2.0)
    assert bounds == {"noise_ratio": 5e-2, "persistent": 3e-2, "loss_mse": pytest.approx(4e-6)}
    wgrad = record.product("encoder.layer.2.output.dense/wgrad")
    assert contribution(wgrad, bounds) == pytest.approx(6e-3 / 3e-2)
    dgrad = record.product("encoder.layer.1.output.dense/dgrad")
    assert contribution(dgrad, bounds) == pytest.approx(1e-3 / 5e-2)
    assert contribution(record.product("cls.predictions.decoder"), bounds) is None
    content = records.content()
    content["products"][0] = records.product("x", "fprop", loss_mse=8e-6)
    assert contribution(parse(content).products[0], bounds) == pytest.approx(8e-6 / (2e-3) ** 2)
    records.price(content)
    assert limits(parse(content), 2.0)["loss_mse"] == 1e-6


def test_promotion_goes_by_contribution_and_unknowns_come_first():
    record = records.record()
    names = [product.name for product in promotion_order(record, 2.0)]
    assert names[0] == "cls.predictions.decoder"  # nothing known, most FLOPs
    known = [name for name in names if "/" in name]
    assert known[0] == "encoder.layer.2.attention.self.query/wgrad"
    assert [name.split("/")[1] for name in known] == ["wgrad"] * 6 + ["dgrad"] * 4
    assert "encoder.layer.0.output.dense/dgrad" not in names  # in BF16 already
    bare = records.content()
    for entry in bare["products"]:
        for candidate in entry["candidates"]:
            candidate["metrics"] = {"be_median": candidate["metrics"]["be_median"]}
    names = [product.name for product in promotion_order(parse(bare), 2.0)]
    assert names[0] == "cls.predictions.decoder" and names[1].endswith("query")  # error / bound 0.97, 0.67


def test_groups_have_a_tenth_of_the_flops():
    search = Search([1.0] * 20, 20.0)
    assert search.boundaries == list(range(2, 21, 2))
    assert Search([5.0, 1.0, 1.0, 1.0], 20.0).boundaries == [1, 2, 3, 4]
    assert Search([0.1] * 10, 20.0).boundaries == [10]


@pytest.mark.parametrize("needed", range(0, 41))
def test_the_search_finds_the_shortest_prefix(needed):
    search, tries = Search([1.0] * 40, 50.0), 0
    while (prefix := search.next()) is not None:
        assert prefix not in search.tried
        search.tried[prefix] = prefix < needed
        tries += 1
    assert search.kept == needed and tries <= 11


def test_the_search_begins_with_one_three_seven_groups():
    search, seen = Search([1.0] * 100, 100.0), []
    for _ in range(5):
        seen.append(search.next())
        search.tried[seen[-1]] = True
    assert seen == [0, 10, 30, 70, 100] and search.next() is None


class FakeTrainer:
    """Diverges as long as `culprit` is in 8 bits."""

    def __init__(self, culprit=None, how=math.nan, noise=0.0):
        self.culprit, self.how, self.noise, self.runs = culprit, how, noise, []

    def __call__(self, run: Run, stop):
        self.runs.append(run)
        bad = run.promoted is not None and self.culprit is not None and self.culprit not in run.promoted
        losses = []
        for step, loss in enumerate(curve(run.seed, self.noise if run.promoted is not None else 0.0)):
            losses.append(loss if not bad or step < 20 else self.how)
            if stop(losses):
                break
        return losses


def test_a_harmless_assignment_takes_one_round():
    trainer = FakeTrainer(noise=0.001)
    outcome = verify(records.record(), trainer, (0, 1, 2), CRITERIA)
    assert len(outcome.rounds) == 1 and outcome.kept.promoted == []
    assert outcome.kept.judgement.verdict is Verdict.EQUIVALENT
    assert [run.promoted for run in trainer.runs] == [None] * 3 + [frozenset()] * 3


@pytest.mark.parametrize("how", [math.nan, 9.0])
def test_a_culprit_is_promoted_and_the_innocent_are_won_back(how):
    record = records.record()
    names = [product.name for product in promotion_order(record, 2.0)]
    culprit = names[5]
    told = []
    trainer = FakeTrainer(culprit, how)
    outcome = verify(record, trainer, (0, 1, 2), CRITERIA, 9, report=lambda rounds: told.append(len(rounds)))
    assert outcome.rounds[0].judgement.verdict is Verdict.DIVERGED
    assert outcome.kept.promoted == names[:6] and outcome.kept.judgement.verdict is Verdict.EQUIVALENT
    assert told == list(range(1, len(outcome.rounds) + 1))
    assert outcome.text.startswith("with 6 products (50 % of FLOPs) back in BF16, equivalent")
    # A diverged round trains no further seed, and no further step.
    assert [run.promoted for run in trainer.runs[3:5]] == [frozenset(), frozenset(names[:1])]


def test_six_rounds_are_near_enough():
    record = records.record()
    names = [product.name for product in promotion_order(record, 2.0)]
    for place, culprit in enumerate(names):
        outcome = verify(record, FakeTrainer(culprit), (0, 1), CRITERIA)
        assert len(outcome.rounds) <= 6 and culprit in outcome.kept.promoted
        assert len(outcome.kept.promoted) - (place + 1) <= 2


def test_rounds_are_limited():
    record = records.record()
    last = [product.name for product in promotion_order(record, 2.0)][-1]
    outcome = verify(record, FakeTrainer(last), (0, 1), CRITERIA, rounds=2)
    assert len(outcome.rounds) == 2 and outcome.kept is None
    assert "every assignment failed in 2 rounds; the last one diverged: seed 0 at step 20" == outcome.text


def test_what_cannot_be_verified():
    content = records.pinned(records.content(), "e")
    with pytest.raises(ValueError, match="no product in 8 bits"):
        verify(parse(content), FakeTrainer(), (0,), CRITERIA)
    with pytest.raises(ValueError, match="baseline has no finite loss at step 3, seed 0"):
        verify(records.record(), lambda run, stop: [1.0, 1.0, 1.0, math.nan], (0,), CRITERIA)
    with pytest.raises(ValueError, match="baseline ends at loss 3, begins at 1, seed 0"):
        verify(records.record(), lambda run, stop: [1.0] + [3.0] * 9, (0,), CRITERIA)
