# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Figures: loss curves of training runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def plot_losses(runs: Mapping[str, Sequence[float]], path: str | os.PathLike[str], title: str) -> Path:
    """Draw one curve per run, name -> loss of each step, and the differences from the first."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8, 6), sharex=True, height_ratios=[3, 1], constrained_layout=True
    )
    reference_name, reference = next(iter(runs.items()))
    for name, losses in runs.items():
        top.plot(range(1, len(losses) + 1), losses, label=f"{name}: {losses[-1]:.4f}", linewidth=1.2)
        shared = min(len(losses), len(reference))
        difference = [losses[i] - reference[i] for i in range(shared)]
        bottom.plot(range(1, shared + 1), difference, linewidth=1.0)
    top.set(title=title, ylabel="loss")
    top.legend()
    bottom.set(xlabel="step", ylabel=f"minus {reference_name}")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return Path(path)
