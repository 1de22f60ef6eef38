# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What came of mpt.study.assignments: verdicts of training beside those of metrics, as JSON, tables and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mpt import verify
from mpt.console import console
from mpt.decisions import ROLES, Decisions, share_table
from mpt.files import staged
from mpt.study import assignments, plots, trials
from mpt.study.assignments import BASELINE, Assignment, Forecast, Plan
from mpt.study.tolerance import markdown_table, number
from mpt.verify import Verdict


def final(losses: Sequence[float], window: int) -> float:
    """Mean loss of the last `window` steps that were taken, NaN among them included."""
    return float(np.mean(losses[-window:]))


def trained(plan: Plan, out: Path, name: str) -> dict[str, Any]:
    """What the finished runs of an assignment came to: final losses by seed, steps skipped, verdict against BF16."""
    runs = {seed: records for seed, records in trials.curves(plan, out, name)}
    losses = {seed: [record.loss for record in records] for seed, records in runs.items()}
    ends = {seed: final(values, plan.criteria.window) for seed, values in losses.items()}
    result: dict[str, Any] = {
        "final": {str(seed): value if math.isfinite(value) else None for seed, value in ends.items()},
        "steps": {str(seed): len(values) for seed, values in losses.items()},
        "skipped": {str(seed): sum(record.skipped for record in records) for seed, records in runs.items()},
    }
    if name != BASELINE:
        bases = {seed: [r.loss for r in records] for seed, records in trials.curves(plan, out, BASELINE)}
        both = [seed for seed in losses if seed in bases]
        if both:
            found = verify.judge({s: losses[s] for s in both}, {s: bases[s] for s in both}, plan.criteria)
            result["judgement"] = asdict(found) | {"verdict": found.verdict.value, "seeds": len(both)}
    return result


def predicted(entry: Assignment, plan: Plan, out: Path, record: Decisions) -> dict[str, Any]:
    """Share of FLOPs in 8 bits and predicted times at the size that is priced; no times where the target is not h200's."""
    low = sum(product.flops for product in record.products if product.chosen.low) / record.flops
    result: dict[str, Any] = {"share": low, "formats": {k: v["all"][1] for k, v in share_table(record).items()}}
    large = assignments.priced(entry, plan, out, record)
    if large is not None:
        result["share_priced"] = sum(p.flops for p in large.products if p.chosen.low) / large.flops
        if large.target == "h200":
            result |= {"us": large.predicted["total_us"], "bf16_us": large.predicted["bf16_us"]}
    # As decided: on the step that the policy priced, not the deeper one.
    if record.target == "h200" and "total_us" in record.predicted:
        result["decided_us"] = record.predicted["total_us"]
    return result


def collect(plan: Plan, out: Path, records: Mapping[str, Decisions], forecasts: Mapping[str, Forecast]) -> dict[str, Any]:
    """results.json: of each assignment what metrics said, what training said, and its price."""
    found = {
        entry.name: {
            "title": entry.title,
            "forecast": asdict(forecasts[entry.name]) | {"text": forecasts[entry.name].text},
            "training": trained(plan, out, entry.name),
            "predicted": predicted(entry, plan, out, records[entry.name]),
        }
        for entry in plan.assignments
    }
    return {
        "format": assignments.FORMAT, "version": assignments.VERSION, "case": plan.case.name, "steps": plan.steps,
        "seeds": list(plan.seeds), "criteria": asdict(plan.criteria), "assignments": found,
    }  # fmt: skip


def difference(judgement: Mapping[str, Any] | None) -> str:
    """The mean paired difference with its interval."""
    if judgement is None or judgement["mean"] is None:
        return "-"
    if judgement["low"] is None:
        return f"{judgement['mean']:+.4f}"
    return f"{judgement['mean']:+.4f} ({judgement['low']:+.4f} to {judgement['high']:+.4f})"


def verdict(judgement: Mapping[str, Any] | None) -> str:
    if judgement is None:
        return "-"
    if judgement["diverged"]:
        steps = ", ".join(f"seed {seed} at {step}" for seed, step in sorted(judgement["diverged"].items()))
        return f"**diverged** ({steps})"
    return "equivalent" if judgement["verdict"] == Verdict.EQUIVALENT.value else judgement["verdict"]


def losses_text(training: Mapping[str, Any]) -> str:
    """Mean and standard deviation over seeds of the final losses."""
    values = [value for value in training["final"].values() if value is not None]
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}" + ("" if len(values) == len(training["final"]) else " (and not finite)")


def said(entry: Mapping[str, Any]) -> str:
    """The verdict of metrics in a word."""
    word = entry["forecast"]["text"].partition(":")[0]
    return f"**{word}**" if word == "rejected" else word


def training_table(results: Mapping[str, Any]) -> str:
    """What metrics and training said, a row for each assignment."""
    rows = []
    for entry in results["assignments"].values():
        judgement, price = entry["training"].get("judgement"), entry["predicted"]
        has_time = "us" in price
        rows.append([
            entry["title"], said(entry), losses_text(entry["training"]),
            difference(judgement), verdict(judgement), f"{100 * price['share']:.0f} %",
            f"{100 * price['share_priced']:.0f} %" if "share_priced" in price else "-",
            f"{price['us'] / 1e3:.1f}" if has_time else "-", f"{price['us'] / price['bf16_us']:.3f}" if has_time else "-",
        ])  # fmt: skip
    heads = ["assignment", "metrics, before", "final loss", "difference to BF16 (95 %)", "training",
             "FLOPs in 8 bits, trained", "priced", "predicted ms", "of BF16's"]  # fmt: skip
    return markdown_table(heads, rows)


def forecast_table(results: Mapping[str, Any]) -> str:
    """What metrics say of each assignment, and why it is rejected."""
    rows = []
    for entry in results["assignments"].values():
        found = entry["forecast"]
        # Without all of its products a sum says nothing.
        values = ["-" if found["unmeasured"] else number(found["sums"][name]) for name in assignments.SUMS]
        values += [number(found["probes"][role]) for role in ROLES]
        rows.append([entry["title"], *values, found["text"]])
    heads = ["assignment", *(f"Σ {name}" for name in assignments.SUMS), "probe, fprop", "dgrad", "wgrad", "verdict"]
    return markdown_table(heads, rows)


def statement(plan: Plan, bounds: Mapping[str, float]) -> str:
    """What the verdicts mean."""
    criteria = plan.criteria
    return (
        f"{len(plan.seeds)} paired seeds (data order) of {plan.steps} steps. Final loss: mean of the last {criteria.window} "
        "steps, ± standard deviation over seeds. Equivalent: the 95 % interval (Student's, paired by seed) of the "
        f"difference to BF16 is within ±{100 * criteria.margin:g} % of BF16's final loss. Diverged: not finite, or for "
        f"{criteria.patience} steps on end {100 * criteria.excess:g} % above all that BF16 had in as many steps before, "
        "under any seed. "
        f"Bounds of metrics: " + ", ".join(f"Σ {name} {number(value)}" for name, value in bounds.items())
        + f", a role's probe {number(verify.PERSISTENT_BOUND)}."
    )  # fmt: skip


def plot_losses(plan: Plan, out: Path, results: Mapping[str, Any]) -> None:
    """losses.png: smoothed loss curves of the first seed, and the difference to BF16 as a mean over seeds."""
    base = {seed: np.array([r.loss for r in records]) for seed, records in trials.curves(plan, out, BASELINE)}
    with plots.figure(out / "losses.png", 1, 2, figsize=(12, 5)) as (drawing, (left, right)):
        for index, entry in enumerate(plan.assignments):
            runs = {seed: np.array([r.loss for r in records]) for seed, records in trials.curves(plan, out, entry.name)}
            if not runs:
                continue
            colour, style = f"C{index % 10}", "-" if not results["assignments"][entry.name]["forecast"]["harmful"] else "--"
            first = min(runs)
            left.plot(verify.smoothed(runs[first], plan.criteria.patience), color=colour, linestyle=style, label=entry.title)
            both = [seed for seed in runs if seed in base and len(runs[seed]) == len(base[seed])]
            if both and entry.name != BASELINE:
                mean = np.mean([runs[seed] - base[seed] for seed in both], axis=0)
                right.plot(verify.smoothed(mean, plan.criteria.window), color=colour, linestyle=style, label=entry.title)
        first = min(base, default=None)
        title = f"seed {first}, mean of {plan.criteria.patience} steps" if first is not None else "no run"
        left.set(xlabel="step", ylabel="loss", title=title)
        right.set(xlabel="step", title=f"difference to BF16, mean over seeds and {plan.criteria.window} steps")
        right.set_yscale("symlog", linthresh=0.02)
        if base:
            margin = plan.criteria.margin * float(np.mean([final(list(v), plan.criteria.window) for v in base.values()]))
            right.axhspan(-margin, margin, color="#cccccc", alpha=0.5, label="margin")
        for axes in (left, right):
            axes.grid(alpha=0.3)
        left.legend(fontsize=8, title="dashed: rejected by metrics", title_fontsize=8)
        drawing.suptitle(plan.case.title)


def bars(results: Mapping[str, Any]) -> list[str]:
    """What must hold, and whether it does so far."""
    found = results["assignments"]
    judged = {name: entry["training"]["judgement"] for name, entry in found.items() if "judgement" in entry["training"]}
    diverged = [name for name, judgement in judged.items() if judgement["diverged"]]
    words = {name: entry["forecast"]["text"].partition(":")[0] for name, entry in found.items()}
    missed = [name for name in diverged if words[name] != "rejected"]
    lines = [f"* diverged: {', '.join(diverged) or 'none'}; of these not rejected before: {', '.join(missed) or 'none'}"]
    harmless = [name for name in judged if words[name] == "rejected" and name not in diverged]
    lines.append(f"* rejected and not diverged: {', '.join(harmless) or 'none'}")
    lines += [f"* {name}: {judged[name]['text']}" for name in found if name in judged]
    for name, entry in found.items():
        mine, other = entry["predicted"].get("decided_us"), found.get("uniform", {}).get("predicted", {}).get("decided_us")
        if name.startswith("budget") and mine and other:
            lines.append(f"* {name}: predicted {mine / 1e3:.2f} ms where it was decided, uniform {other / 1e3:.2f} ms")
    return lines


def write(plan: Plan, out: Path, records: Mapping[str, Decisions], forecasts: Mapping[str, Forecast]) -> dict[str, Any]:
    """Write results.json, summary.md and losses.png from the runs that are finished; return results.json's content."""
    results = collect(plan, out, records, forecasts)
    bounds = json.loads((out / "plan.json").read_text())["bounds"]
    with staged(out / "results.json") as inner:
        inner.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    plot_losses(plan, out, results)
    lines = [f"# {plan.case.title}: assignments", statement(plan, bounds), training_table(results), "![losses](losses.png)",
             "## What metrics said before", forecast_table(results), "## Bars", "\n".join(bars(results))]  # fmt: skip
    with staged(out / "summary.md") as inner:
        inner.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    console.print(f"wrote {out / 'summary.md'}, results.json and losses.png")
    return results


