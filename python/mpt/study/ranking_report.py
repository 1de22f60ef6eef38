# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What came of mpt.study.ranking: correlations, tables, and predicted against measured damage as a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpt.console import console
from mpt.files import staged
from mpt.study import plots
from mpt.study.tolerance import markdown_table, number

PREDICTORS = {
    "products": "products alone",
    "budget": "as budget adds: dgrad by its share of the probe",
    "probes": "probes by role, and by layer where there are",
}
WHAT = {
    "damage": "damage: largest share of a bound",
    "persistent": "persistent error of the gradient",
    "rel_var": "error of the gradient (Σ noise_ratio)",
    "loss_mse": "change of the loss (Σ loss_mse)",
}
FLOOR = 1e-6  # of the figure's axes: less is drawn there


def correlation_table(results: Mapping[str, Any]) -> str:
    """Spearman's correlations: a row for each thing measured and point, a column for each predictor."""
    rows = []
    for what, text in WHAT.items():
        for point, found in results["points"].items():
            values = [found["spearman"][what][predictor] for predictor in PREDICTORS]
            shown = ["-" if value is None else f"{value:.2f}" for value in values]
            rows.append([text, point, *shown])
    return markdown_table(["measured (predicted)", "step", *PREDICTORS.values()], rows, left=2)


def rows_table(found: Mapping[str, Any]) -> str:
    """One point: every assignment, by measured damage."""
    rows = []
    for row in sorted(found["rows"], key=lambda entry: -entry["measured"]["damage"]):
        own, guess = row["measured"], row["predicted"]
        values = [own["damage"], guess["budget"]["damage"], guess["probes"]["damage"], own["persistent"],
                  guess["budget"]["persistent"], guess["probes"]["persistent"], own["rel_var"],
                  guess["products"]["noise_ratio"], own["loss_mse"], guess["products"]["loss_mse"]]  # fmt: skip
        rows.append([row["title"], *map(number, values)])
    heads = ["assignment", "damage", "Σ budget", "probes", "persistent", "Σ budget", "probes", "rel_var", "Σ noise_ratio",
             "loss², change", "Σ loss_mse"]  # fmt: skip
    return markdown_table(heads, rows)


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Measured against predicted damage: a column for each predictor, a row for each point; numbers name assignments."""
    points = list(results["points"].items())
    size = {"figsize": (15, 4.6 * len(points)), "squeeze": False}
    with plots.figure(path, len(points), len(PREDICTORS), **size) as (drawing, grid):
        for line, (point, found) in zip(grid, points):
            for axes, (predictor, title) in zip(line, PREDICTORS.items()):
                for index, row in enumerate(found["rows"]):
                    x = max(row["predicted"][predictor]["damage"], FLOOR)
                    y = max(row["measured"]["damage"], FLOOR)
                    colour = {"w": "C3", "f": "C0", "d": "C1"}[row["title"][0]]
                    axes.plot(x, y, "o", color=colour, markersize=5)
                    axes.annotate(str(index + 1), (x, y), fontsize=7, xytext=(3, 2), textcoords="offset points")
                axes.axline((1, 1), slope=1, color="grey", linewidth=0.8)
                axes.axvline(1, color="grey", linewidth=0.5, linestyle=":")
                axes.axhline(1, color="grey", linewidth=0.5, linestyle=":")
                value = found["spearman"]["damage"][predictor]
                text = "-" if value is None else f"{value:.2f}"
                axes.set(xscale="log", yscale="log", xlabel="predicted, share of the bound")
                axes.set_title(f"{title}\nSpearman {text}")
                axes.grid(alpha=0.3)
            line[0].set_ylabel(f"measured at step {point}, share of the bound")
        names = [f"{index + 1} {row['title']}" for index, row in enumerate(points[0][1]["rows"])]
        half = (len(names) + 2) // 3
        text = "\n".join("   ".join(f"{name:<46}" for name in names[i::half]) for i in range(half))
        drawing.text(0.01, -0.01, text, fontsize=8, family="monospace", va="top")


def write(results: Mapping[str, Any], out: Path) -> None:
    """Write ranking.json, ranking.md and ranking.png."""
    with staged(out / "ranking.json") as inner:
        inner.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    plot(results, out / "ranking.png")
    lines = [
        f"# Ranking of {len(next(iter(results['points'].values()))['rows'])} assignments, {results['case']}",
        f"Predicted from {results['profiled']} batches, measured over {results['measured']} others at the same checkpoint.",
        correlation_table(results), "![damage](ranking.png)",
    ]  # fmt: skip
    for point, found in results["points"].items():
        lines += [f"## Step {point}", rows_table(found)]
    with staged(out / "ranking.md") as inner:
        inner.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    console.print(f"wrote {out / 'ranking.md'}, ranking.json and ranking.png")
