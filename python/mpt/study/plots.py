# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Figures of the studies. Colour is the format; everything is written beside and renamed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpt.files import staged
from mpt.metrics import Metrics, Probe, Product, TensorPoint
from mpt.study import tolerance
from mpt.study.tolerance import ROLES, Kind

if TYPE_CHECKING:
    from mpt.study.student_t import Errors

COLOURS = {"INT8": "#d62728", "E4M3": "#1f77b4", "E5M2": "#2ca02c", "BF16": "#7f7f7f"}
STYLES = {"per_tensor": "-", "per_vector": "--"}


@contextmanager
def figure(path: Path, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
    """Yield pyplot.subplots(*args, **kwargs), and save the figure at `path` afterwards, in 128 colours.

    Figures go into documentation: a palette makes them a quarter of the size.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    drawing, axes = pyplot.subplots(*args, constrained_layout=True, **kwargs)
    try:
        yield drawing, axes
        with staged(path) as inner:
            drawing.savefig(inner, dpi=100)
            with Image.open(inner) as image:
                small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
            small.save(inner, optimize=True)
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


def _grid_of(metrics: Metrics, role: str, kind: Kind) -> tuple[list[str], list[str], list[list[float]]]:
    """Rows (places), columns (layers, "-" for none) and the largest ratio over points; NaN: no such product."""
    found: dict[tuple[str, str], float] = {}
    layers: dict[str, None] = {}
    for product in metrics.products:
        if product.role != role:
            continue
        layer = "-" if product.layer is None else str(product.layer)
        layers.setdefault(layer)
        for point in product.points:
            for other, entry in tolerance.entries(product, point):
                value = tolerance.ratio(product, entry) if other == kind else None
                if value is not None:
                    key = tolerance.place(product), layer
                    found[key] = max(value, found.get(key, 0.0))
    columns = sorted(layers, key=lambda layer: (layer == "-", int(layer) if layer != "-" else 0))
    rows = list(dict.fromkeys(tolerance.place(p) for p in metrics.products if p.role == role))
    if role != "fprop":  # the backward pass goes the other way
        rows.reverse()
    return rows, columns, [[found.get((row, column), math.nan) for column in columns] for row in rows]


def plot_heat(metrics: Metrics, kinds: Sequence[Kind], path: Path, title: str) -> None:
    """Backward error over its bound: a map layer x product for each role (across) and kind (down).

    Blue is within the bound, red beyond; the number is the largest ratio over the points of training.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    norm = LogNorm(1 / 16, 16)
    grids = {(kind, role): _grid_of(metrics, role, kind) for kind in kinds for role in ROLES}
    heights = [max(len(grids[kind, role][0]) for role in ROLES) for kind in kinds]
    size = (15, 0.32 * sum(heights) + 0.8 * len(kinds) + 0.8)
    options = {"squeeze": False, "figsize": size, "height_ratios": heights}
    with figure(path, len(kinds), len(ROLES), **options) as (drawing, panels):
        for (kind, role), axes in zip(grids, panels.flat):
            rows, columns, values = grids[kind, role]
            if all(math.isnan(value) for row in values for value in row):
                axes.set_axis_off()
                continue
            axes.imshow(values, norm=norm, cmap="RdBu_r", aspect="auto")
            for y, row in enumerate(values):
                for x, value in enumerate(row):
                    if not math.isnan(value):
                        text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
                        dark = not 1 / 6 < value < 6
                        axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
            axes.set_xticks(range(len(columns)), columns)
            axes.set_yticks(range(len(rows)), rows, fontsize=8)
            axes.set_title(f"{kind}, {role}", fontsize=10)
            axes.set_xlabel("layer (-: outside)", fontsize=8)
        drawing.colorbar(ScalarMappable(norm, "RdBu_r"), ax=panels, label="backward error / bound", fraction=0.02)
        drawing.suptitle(title)


def plot_distributions(metrics: Metrics, kinds: Sequence[Kind], path: Path, title: str) -> None:
    """How backward errors (median over elements, mean over batches) spread over products: boxes by kind and role."""
    with figure(path, 1, len(ROLES), figsize=(13, 0.42 * len(kinds) + 2.2), sharex=True, sharey=True) as (drawing, panels):
        for role, axes in zip(ROLES, panels):
            values: dict[Kind, list[float]] = {kind: [] for kind in kinds}
            for product in metrics.select(role=role):
                for point in product.points:
                    for kind, entry in tolerance.entries(product, point):
                        mean = entry["be_median"].mean
                        if kind in values and mean:
                            values[kind].append(mean * math.sqrt(product.k))
            shown = [kind for kind in kinds if values[kind]]
            boxes = axes.boxplot(
                [values[kind] for kind in shown], positions=[kinds.index(kind) for kind in shown], orientation="horizontal",
                whis=(0, 100), widths=0.6, patch_artist=True, medianprops={"color": "black"},
            )  # fmt: skip
            for box, kind in zip(boxes["boxes"], shown):
                box.set(facecolor=colour(kind), alpha=0.7)
            axes.axvline(tolerance.FACTORS[role] * tolerance.NORMAL[0], color="black", linestyle=":", label="bound")
            axes.set(xscale="log", title=role, xlabel="median backward error x √K")
            axes.set_yticks(range(len(kinds)), [str(kind) for kind in kinds], fontsize=8)
            axes.grid(alpha=0.3)
        panels[0].invert_yaxis()
        panels[0].legend(fontsize=8)
        drawing.suptitle(title)


# The magnitudes that a format holds when its largest code meets the tensor's amax, in binary orders
# of magnitude below it: with the full mantissa, and until values become 0 (docs/numerics.md).
RANGES = {"E4M3": (14.8, 18.8), "E5M2": (29.8, 32.8), "INT8": (1.0, 8.0)}


def worst_tensors(metrics: Metrics, count: int) -> list[tuple[str, Product, TensorPoint, int]]:
    """The operands that INT8, per tensor, to nearest, hurts most: (side, product, statistics, step).

    The `count` products with the largest ratio to the bound, one for each place and role; of the two
    operands the one of which more becomes 0.
    """
    found: dict[tuple[str, str], tuple[float, str, Product, TensorPoint, int]] = {}
    for product in metrics.products:
        for index, point in enumerate(product.points):
            for kind, entry in tolerance.entries(product, point):
                value = tolerance.ratio(product, entry) if kind == Kind("INT8") else None
                key = tolerance.place(product), product.role
                if value is None or (key in found and found[key][0] >= value):
                    continue
                side = max(("lhs", "rhs"), key=lambda name: entry[f"flushed_{name}"].mean or 0.0)
                tensor = getattr(product, side)
                found[key] = value, side, product, tensor.points[index], point.step
    ranked = sorted(found.values(), key=lambda item: -item[0])
    return [item[1:] for item in ranked[:count]]


def plot_exponents(metrics: Metrics, path: Path, title: str, count: int = 6) -> None:
    """Histograms of binary exponents, from the tensor's amax down, of the operands that INT8 hurts most."""
    found = worst_tensors(metrics, count)
    rows = max(1, -(-len(found) // 3))
    with figure(path, rows, 3, figsize=(14, 3 * rows + 0.6), squeeze=False, sharey=True) as (drawing, panels):
        for axes in panels.flat[len(found) :]:
            axes.set_axis_off()
        for (side, product, tensor, step), axes in zip(found, panels.flat):
            top = math.log2(tensor.amax.mean) if tensor.amax.mean else 0.0
            total = sum(tensor.exponents.values())
            edges = [exponent - top for exponent in tensor.exponents]
            shares = [elements / total for elements in tensor.exponents.values()]
            axes.bar(edges, shares, width=0.9, align="edge", color="#999999")
            for level, (name, (normal, zero)) in enumerate(RANGES.items()):
                y = 0.4 * 2.2**level
                axes.plot([-normal, 0], [y, y], color=COLOURS[name], linewidth=4, label=name)
                axes.plot([-zero, -normal], [y, y], color=COLOURS[name], linewidth=4, alpha=0.35)
            axes.set(yscale="log", ylim=(1e-6, 4), xlim=(-45, 4))
            kurtosis = "-" if tensor.kurtosis is None else f"{tensor.kurtosis:.3g}"
            axes.set_title(f"{product.name}\n{side}, step {step}, kurtosis {kurtosis}", fontsize=8)
            axes.grid(alpha=0.3)
        for axes in panels[-1]:
            axes.set_xlabel("binary exponent below amax")
        for axes in panels[:, 0]:
            axes.set_ylabel("share of nonzero elements")
        panels[0, 0].legend(fontsize=8, loc="lower left", title="full mantissa (pale: until 0)", title_fontsize=8)
        drawing.suptitle(title)


# Below it a persistent error is as good as none.
FLOOR = 1e-6


def look_of(candidate: str) -> dict[str, str]:
    """Colour and marker of a probe: the gradient's format, and how it is held."""
    first, _, second = candidate.partition("*")
    colours = {"i8": COLOURS["INT8"], "f8E4M3FN": COLOURS["E4M3"], "f8E5M2": COLOURS["E5M2"]}
    shade = colours.get(second.partition("[")[0], "#ff7f0e")
    if first == second and second.startswith("f8E5M2"):
        shade = "#9467bd"
    marks = {"per_vector,stochastic": "D", "stochastic": "s", "per_vector": "^", "fixed": "X"}
    marker = next((mark for word, mark in marks.items() if word in second), "o")
    if first.startswith("f32"):
        marker = {"^": "<", "s": "P"}.get(marker, "v")
    return {"color": shade, "marker": marker}


def _draw_probe(axes: Any, probe: Probe, xs: Sequence[float]) -> None:
    """One probe's line over the points: hollow marks at the interval's upper end where none can be told."""
    look = look_of(probe.candidate)
    ys, hollow = [], []
    for point in probe.points:
        mean, low, high = point.persistent.mean, point.persistent.low, point.persistent.high
        seen = mean is not None and mean > 0 and (low is None or low > 0)
        hollow.append(not seen)
        ys.append(max((mean if seen else high or mean) or 0.0, FLOOR))
        if low is not None and high is not None and high > FLOOR:
            axes.plot([xs[len(ys) - 1]] * 2, [max(low, FLOOR), high], color=look["color"], linewidth=0.8)
    axes.plot(xs, ys, color=look["color"], linewidth=0.7, alpha=0.5)
    for x, y, empty in zip(xs, ys, hollow):
        axes.plot(x, y, linestyle="", markerfacecolor="white" if empty else look["color"], **look)
    axes.plot([], [], label=tolerance.probe_label(probe.candidate), **look)


def plot_probes(metrics: Metrics, path: Path, title: str) -> None:
    """Persistent error of the whole gradient against the step of training, by group of products.

    Whiskers are bootstrap intervals; what cannot be told from none is a hollow mark at its interval's upper end.
    """
    probes = [probe for probe in metrics.probes if probe.layer is None]
    roles = list(dict.fromkeys(probe.role for probe in probes))
    steps = metrics.at_steps
    options = {"figsize": (4 * len(roles) + 0.5, 6), "sharey": True, "squeeze": False}
    with figure(path, 1, len(roles), **options) as (drawing, panels):
        for role, axes in zip(roles, panels[0]):
            own = [probe for probe in probes if probe.role == role]
            for index, probe in enumerate(own):
                shift = 0.6 * (index / max(1, len(own) - 1) - 0.5)
                _draw_probe(axes, probe, [position + shift for position in range(len(steps))])
            axes.set(yscale="log", title=role, xlabel="step of training")
            axes.set_xticks(range(len(steps)), [str(step) for step in steps])
            axes.axhline(tolerance.PERSISTENT, color="black", linestyle=":", linewidth=1)
            axes.grid(alpha=0.3)
        panels[0, 0].set_ylabel("persistent error of the step's gradient")
        handles = {label: handle for axes in panels[0] for handle, label in zip(*axes.get_legend_handles_labels())}
        drawing.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
        drawing.suptitle(title)


def colour(kind: Kind) -> str:
    """The colour of a kind's last format, the gradient's where they differ."""
    return COLOURS.get(kind.formats.rpartition("/")[2].partition(" ")[0], "#9467bd")
