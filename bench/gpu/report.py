# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""docs/results/gpu.md from the results of bench/gpu/run.sh.

  python bench/gpu/report.py [bench/gpu/results/gpu.json] [--page docs/results/gpu.md]
"""

from __future__ import annotations

import argparse
import collections
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HEAD = """# On a GPU

`bench/gpu/prepare.py OUT` on a machine with the compiler, then `bench/gpu/run.sh OUT` on one with a Hopper GPU: every kernel and
whole steps are checked against what the CPU computed, then steps are timed, by CUDA events, against PyTorch in the same run.
This page is written by `bench/gpu/report.py`.
"""
# Kinds of launches that are listed for a step.
KINDS = 12


def gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def machine_lines(machine: dict[str, Any]) -> list[str]:
    if "not_measured" in machine:
        return [f"**Not measured** ({machine['not_measured']}).", ""]
    return ["; ".join(f"{key} {value}" for key, value in machine.items()) + ".", ""]


def check_lines(checks: list[dict[str, Any]]) -> list[str]:
    """What was compared, and how it came out."""
    lines = ["## Checks", "", "| package | on | launches' results compared | loss, 10 steps | failures |", "| --- | --- | --- | --- | --- |"]
    for one in checks:
        if "not_measured" in one:
            lines.append(f"| {one['package']} | | not checked: {one['not_measured']} | | |")
            continue
        counted = ", ".join(f"{count} {op}" for op, count in one.get("checked", {}).items())
        difference = f"{one['loss_difference']:.1e}" if "loss_difference" in one else ""
        failures = "; ".join(one["failures"]) or "none"
        lines.append(f"| {one['package']} | {one.get('on', '')} | {counted} | {difference} | {failures} |")
    return [*lines, ""]


def step_lines(steps: list[dict[str, Any]], baselines: list[dict[str, Any]]) -> list[str]:
    """A table of whole steps for each model and size."""
    lines: list[str] = []
    for model, batch, seq in dict.fromkeys((s["model"], s["batch"], s["seq"]) for s in steps):
        rows = [s for s in steps if (s["model"], s["batch"], s["seq"]) == (model, batch, seq)]
        lines += [f"## BERT-{model}, {batch} x {seq}", ""]
        lines += ["| step | products | ms (least to most) | launches alone, ms | their roofline, ms | memory | W | MHz |", "| --- " * 8 + "|"]
        for base in baselines:
            if (base["model"], base["batch"], base["seq"]) == (model, batch, seq):
                ms = f"{base['ms']:.2f} ({base['ms_min']:.2f} to {base['ms_max']:.2f})" if "ms" in base else ""
                memory = gib(base["memory_bytes"]) if "ms" in base else f"not measured: {base['not_measured']}"
                lines.append(f"| PyTorch, {base['name']} | | {ms} | | | {memory} | | |")
        for row in rows:
            name = f"mpt, {row['policy']}" + (f" by {row['errors']}" if row.get("errors") else "")
            if "not_measured" in row:
                lines.append(f"| {name} | {row['products']} | not measured: {row['not_measured']} | | | | | |")
                continue
            lines.append(
                f"| {name} | {row['products']} | {row['ms']:.2f} ({row['ms_min']:.2f} to {row['ms_max']:.2f}) | {row['launches_ms']:.2f} | "
                f"{row['roofline_ms']:.2f} | {gib(row['memory_bytes'])} | {row.get('watts', 0):.0f} | {row.get('sm_mhz', 0):.0f} |"
            )
        lines.append("")
        measured = [row for row in rows if "launches" in row]
        if measured:
            lines += launch_lines(min(measured, key=lambda row: row["ms"]))
    return lines


def launch_lines(step: dict[str, Any]) -> list[str]:
    """Where the fastest step's time goes: launches by name without their layer."""
    groups: dict[str, list[dict]] = collections.defaultdict(list)
    for launch in step["launches"]:
        parts = ["N" if part.isdigit() else part for part in launch["name"].split(".")]
        groups[".".join(parts)].append(launch)
    ranked = sorted(groups.items(), key=lambda item: -sum(one["us"] for one in item[1]))
    lines = [f"Of {step['policy']} with {step['products']} products, alone, each against its roofline:", ""]
    lines += ["| launch | times | us each | roofline, us | share of roofline | ms in all |", "| --- " * 6 + "|"]
    for name, group in ranked[:KINDS]:
        us, bound = (sum(one[key] for one in group) for key in ("us", "roofline_us"))
        count = len(group)
        lines.append(f"| {name} | {count} | {us / count:.1f} | {bound / count:.1f} | {bound / us:.2f} | {us / 1e3:.2f} |")
    rest = sum(one["us"] for _, group in ranked[KINDS:] for one in group)
    return [*lines, f"| {max(0, len(ranked) - KINDS)} other kinds | | | | | {rest / 1e3:.2f} |", ""]


def page(results: dict[str, Any]) -> str:
    """The page as text."""
    lines = [HEAD, *machine_lines(results["machine"])]
    compiled = [one for one in results["compiled"] if "seconds" in one]
    if compiled:
        slowest = max(compiled, key=lambda one: one["seconds"])
        lines += [f"nvcc compiled {len(compiled)} packages, the slowest ({slowest['package']}) in {slowest['seconds']} s of a shared machine.", ""]
    lines += check_lines(results["checks"])
    lines += step_lines(results["steps"], results["baselines"])
    lines += [
        "Roofline: operations at the peak rate of the target's description (lib/Precision/targets/h200.json), or the bytes of the",
        "buffers a launch touches at its bandwidth, each once; a gather counts its whole table. Launches alone are timed by events",
        "around each, without the graph, so that their sum exceeds a step's time by gaps that the graph does not have.",
        "",
    ]  # fmt: skip
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    """Read results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "bench" / "gpu" / "results" / "gpu.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results" / "gpu.md")
    args = parser.parse_args()
    args.page.write_text(page(json.loads(args.results.read_text())))
    print(f"wrote {args.page}")


if __name__ == "__main__":
    main()
