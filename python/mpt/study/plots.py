# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Figures of the studies. Colour is the format; everything is written beside and renamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpt.files import staged

if TYPE_CHECKING:
    from mpt.study.student_t import Errors

COLOURS = {"INT8": "#d62728", "E4M3": "#1f77b4", "E5M2": "#2ca02c", "BF16": "#7f7f7f"}
STYLES = {"per_tensor": "-", "per_vector": "--"}


@contextmanager
def figure(path: Path, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
    """Yield pyplot.subplots(*args, **kwargs), and save the figure at `path` afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(*args, constrained_layout=True, **kwargs)
    try:
        yield drawing, axes
        with staged(path) as inner:
            drawing.savefig(inner, dpi=100)
    finally:
        pyplot.close(drawing)


def plot_student_t(results: Sequence["Errors"], path: Path, title: str) -> None:
    """Backward error against nu, median and p99, one line for each combination; bars span the draws."""
    from mpt.study.student_t import COMBINATIONS, format_nu

    nus = sorted({entry.nu for entry in results})
    at = {(entry.nu, entry.combination): entry for entry in results}
    with figure(path, 1, 2, figsize=(11, 6), sharey=True) as (drawing, panels):
        for axes, statistic in zip(panels, ("median", "p99")):
            for how in COMBINATIONS:
                entries = [at[nu, how] for nu in nus]
                values = [entry.value(statistic) for entry in entries]
                spread = [[abs(value - edge(entry.draws[statistic])) for entry, value in zip(entries, values)]
                          for edge in (min, max)]  # fmt: skip
                filled = how.rounding == "nearest"
                axes.errorbar(
                    range(len(nus)), values, spread, color=COLOURS[how.format], linestyle=STYLES[how.granularity],
                    marker="o" if filled else "s", markersize=5, markerfacecolor=None if filled else "white",
                    linewidth=1.3, elinewidth=0.8, label=str(how),
                )  # fmt: skip
            axes.set(yscale="log", xlabel="degrees of freedom ν (left: heavy tails)", title=f"{statistic} over elements")
            axes.set_xticks(range(len(nus)), ["∞" if format_nu(nu) == "inf" else format_nu(nu) for nu in nus])
            axes.grid(alpha=0.3, which="both")
        panels[0].set_ylabel("backward error |Y - Ŷ| / |L|·|R|")
        drawing.suptitle(f"Products of Student's t operands, {title}")
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
