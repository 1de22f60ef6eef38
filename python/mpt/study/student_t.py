# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The paper's base case: backward error of 8-bit products against the weight of the tails.

Rasquinha and Tabak (arXiv 2408.02897) multiply square matrices whose entries follow Student's
t distribution, and let the degrees of freedom nu go from normal (infinity) to Cauchy (1). Here
every combination of format, granularity of the scales and rounding is measured on the same
operands, over all elements of the product (docs/metrics.md defines the backward error), and
what the paper found is held against what comes out.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpt.console import bar, console
from mpt.files import staged
from mpt.study import StudyError, make_directory

NUS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 30.0, math.inf)
FORMATS = {"INT8": "i8", "E4M3": "f8E4M3FN", "E5M2": "f8E5M2"}
GRANULARITIES = ("per_tensor", "per_vector")
ROUNDINGS = ("nearest", "stochastic")
STATISTICS = ("median", "p99", "max")
COLUMNS = ("nu", "format", "granularity", "rounding", *STATISTICS)

# The paper's side of its square matrices.
SIZE = 512
DRAWS = 8


@dataclass(frozen=True, order=True)
class Combination:
    """A way to hold both operands: format (INT8, E4M3, E5M2), granularity, rounding."""

    format: str
    granularity: str
    rounding: str

    @property
    def candidate(self) -> str:
        """The combination as the profiler spells a candidate."""
        options = [] if self.granularity == "per_tensor" else [self.granularity]
        options += [] if self.rounding == "nearest" else [self.rounding]
        one = FORMATS[self.format] + (f"[{','.join(options)}]" if options else "")
        return f"{one}*{one}"

    def __str__(self) -> str:
        return f"{self.format} {self.granularity.replace('_', ' ')}, {self.rounding}"


COMBINATIONS = tuple(Combination(f, g, r) for f in FORMATS for g in GRANULARITIES for r in ROUNDINGS)


@dataclass(frozen=True)
class Sweep:
    """What is drawn: for each nu `draws` pairs of size x size matrices."""

    nus: Sequence[float] = NUS
    size: int = SIZE
    draws: int = DRAWS
    seed: int = 0
    threads: int = 2

    def check(self) -> None:
        """Raise StudyError unless this can be drawn."""
        if not self.nus or not all(nu > 0 for nu in self.nus):
            raise StudyError(f"degrees of freedom {list(self.nus)}: expected at least one, all above 0")
        if len(set(self.nus)) != len(self.nus):
            raise StudyError(f"degrees of freedom {list(self.nus)}: one is there twice")
        if self.size < 1 or self.draws < 1:
            raise StudyError(f"size {self.size}, {self.draws} draws: expected at least 1 of each")


@dataclass
class Errors:
    """Backward errors of one combination at one nu: one value a draw."""

    nu: float
    combination: Combination
    draws: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STATISTICS})

    def value(self, statistic: str) -> float:
        """Mean over the draws; of the maxima the largest."""
        values = self.draws[statistic]
        return max(values) if statistic == "max" else float(np.mean(values))

    def only(self, draw: int) -> Errors:
        """The same of one draw."""
        return Errors(self.nu, self.combination, {name: [values[draw]] for name, values in self.draws.items()})


def operands(nu: float, size: int, seed: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two float32 [size, size] matrices of Student's t with `nu` degrees of freedom.

    They depend on nothing but the arguments, so that a sweep over fewer nus finds the same.
    """
    rng = np.random.default_rng([seed, draw, 0 if math.isinf(nu) else round(nu * 1e6)])
    shape = (2, size, size)
    values = rng.standard_normal(shape) if math.isinf(nu) else rng.standard_t(nu, shape)
    lhs, rhs = values.astype(np.float32)
    return lhs, rhs


def run_sweep(sweep: Sweep, advance: Callable[[str], None] = lambda _: None) -> list[Errors]:
    """Measure every combination at every nu; `advance` is called after each draw."""
    from mpt.measure import Draw, measure_product

    sweep.check()
    candidates = ",".join(combination.candidate for combination in COMBINATIONS)
    results = []
    for nu in sweep.nus:
        errors = [Errors(nu, combination) for combination in COMBINATIONS]
        for draw in range(sweep.draws):
            lhs, rhs = operands(nu, sweep.size, sweep.seed, draw)
            options = {"seed": sweep.seed, "draw": Draw(round=draw), "threads": sweep.threads}
            measured = measure_product(lhs, rhs, candidates, **options)
            for entry, found in zip(errors, measured["candidates"], strict=True):
                for name in STATISTICS:
                    entry.draws[name].append(found[f"be_{name}"])
            advance(f"nu = {format_nu(nu)}, draw {draw + 1} of {sweep.draws}")
        results += errors
    return results


def format_nu(nu: float) -> str:
    """Degrees of freedom in words: "1.5", "inf"."""
    return "inf" if math.isinf(nu) else f"{nu:g}"


def parse_nus(text: str) -> list[float]:
    """Parse "1,1.5,inf"; raises StudyError naming what is no number above 0."""
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(float(part))
        except ValueError as error:
            raise StudyError(f"'{part}' in '{text}': expected a number or inf") from error
    Sweep(numbers).check()
    return numbers


def write_csv(results: Sequence[Errors], path: Path) -> None:
    """Write one row for each nu and combination."""
    with staged(path) as inner, open(inner, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for entry in results:
            how = entry.combination
            values = [f"{entry.value(name):.6e}" for name in STATISTICS]
            writer.writerow([format_nu(entry.nu), how.format, how.granularity, how.rounding, *values])


class Findings:
    """What the paper's claims are held against, from a sweep's results."""

    def __init__(self, results: Sequence[Errors]) -> None:
        self.results = results
        self.nus = sorted({entry.nu for entry in results}, reverse=True)
        self.entries = {(entry.nu, entry.combination): entry for entry in results}

    def error(self, nu: float, combination: Combination, statistic: str = "median") -> float:
        return self.entries[nu, combination].value(statistic)

    def ratio(self, nu: float, granularity: str, rounding: str, statistic: str = "median") -> float:
        """INT8's backward error over E4M3's: below 1 INT8 is the better one."""
        int8, e4m3 = (Combination(name, granularity, rounding) for name in ("INT8", "E4M3"))
        return self.error(nu, int8, statistic) / self.error(nu, e4m3, statistic)

    def crossings(self, granularity: str, rounding: str, statistic: str = "median") -> list[float]:
        """The nus at which INT8 and E4M3 are equal, from the normal end on.

        Between two measured nus the logarithm of the ratio is taken as linear in 1/nu.
        """
        points = [(1 / nu, math.log(self.ratio(nu, granularity, rounding, statistic))) for nu in self.nus]
        found = []
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            if (y0 < 0) != (y1 < 0):
                x = x0 + (x1 - x0) * y0 / (y0 - y1)
                found.append(1 / x if x else math.inf)
        return found

    def draws(self) -> list[Findings]:
        """The findings of each draw by itself."""
        count = len(self.results[0].draws["median"])
        return [Findings([entry.only(draw) for entry in self.results]) for draw in range(count)]

    def growth(self, combination: Combination, statistic: str = "median") -> float:
        """Backward error at the smallest nu over that at the largest."""
        return self.error(self.nus[-1], combination, statistic) / self.error(self.nus[0], combination, statistic)

    def growing(self, granularity: str, rounding: str, down_to: float = 1.5) -> list[float]:
        """The nus, of those from `down_to` up, at which the ratio is not above that of the next larger nu."""
        nus = [nu for nu in self.nus if nu >= down_to]
        ratios = [self.ratio(nu, granularity, rounding) for nu in nus]
        return [nus[i] for i in range(1, len(nus)) if ratios[i] <= ratios[i - 1]]

    def bounded(self, granularity: str, rounding: str, statistic: str = "median") -> str:
        """The format whose backward error grows least from the largest nu to the smallest."""
        return min(FORMATS, key=lambda name: self.growth(Combination(name, granularity, rounding), statistic))

    def lowest(self, granularity: str, rounding: str, statistic: str = "median") -> str:
        """The format with the smallest backward error at the smallest nu."""
        nu = self.nus[-1]
        return min(FORMATS, key=lambda name: self.error(nu, Combination(name, granularity, rounding), statistic))


def verdicts(findings: Findings) -> Iterator[tuple[str, str]]:
    """Yield (expected, found) for each claim, of per-tensor scales to nearest where it does not say."""
    how = ("per_tensor", "nearest")
    normal, heavy = format_nu(findings.nus[0]), format_nu(findings.nus[-1])
    falling = findings.growing(*how)
    yield (
        f"INT8/E4M3, median, grows from nu = {normal} to 1.5",
        f"no: not at nu = {', '.join(map(format_nu, falling))}" if falling else "yes, at every nu",
    )
    ratio = findings.ratio(findings.nus[0], *how)
    yield f"INT8 wins at nu = {normal}", f"{'yes' if ratio < 1 else 'no'}: INT8/E4M3 is {ratio:.3f}"
    alone = findings.draws()
    for granularity in GRANULARITIES:
        for statistic in ("median", "p99"):
            kind = granularity, "nearest", statistic
            found = ", ".join(f"nu = {nu:.2f}" for nu in findings.crossings(*kind)) or "nowhere"
            spread = [nu for draw in alone for nu in draw.crossings(*kind)]
            if spread:
                found += f" (single draws: {min(spread):.2f} to {max(spread):.2f})"
            yield f"INT8 and E4M3 are equal at one nu ({granularity.replace('_', ' ')}, {statistic})", found
    for granularity in GRANULARITIES:
        kind = granularity, "nearest"
        bounded, lowest = findings.bounded(*kind), findings.lowest(*kind)
        growths = ", ".join(f"{name} x {findings.growth(Combination(name, *kind)):.2f}" for name in FORMATS)
        yield (
            f"at nu = {heavy} E5M2 is the bounded one ({granularity.replace('_', ' ')}, median)",
            f"{'yes' if bounded == lowest == 'E5M2' else 'no'}: {bounded} grows least from nu = {normal} ({growths}), "
            f"{lowest} is lowest",
        )


def show(findings: Findings) -> None:
    """Print the INT8/E4M3 ratios and what was expected beside what was found."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    target = console if console.is_terminal else Console(width=170)
    ratios = Table(title="INT8's backward error over E4M3's (below 1: INT8 is better)", box=box.SIMPLE)
    ratios.add_column("nu", justify="right")
    kinds = [(g, r, s) for g in GRANULARITIES for r in ROUNDINGS for s in ("median", "p99")]
    for granularity, rounding, statistic in kinds:
        ratios.add_column(f"{granularity.replace('_', ' ')}\n{rounding}\n{statistic}", justify="right")
    for nu in reversed(findings.nus):
        ratios.add_row(format_nu(nu), *(f"{findings.ratio(nu, *kind):.3g}" for kind in kinds))
    target.print(ratios)
    claims = Table(title="expected and found (per tensor, nearest, where not said)", box=box.SIMPLE)
    claims.add_column("expected")
    claims.add_column("found")
    for expected, found in verdicts(findings):
        claims.add_row(expected, found)
    target.print(claims)


def run(out: str | os.PathLike[str], sweep: Sweep = Sweep()) -> Findings:
    """Write out/student_t.csv and out/student_t.png, print what was found, and return it.

    Raises StudyError for a sweep that cannot be drawn, FileNotFoundError where the directory
    that `out` is in does not exist, and NotADirectoryError if `out` is a file.
    """
    from mpt.study.plots import plot_student_t

    sweep.check()
    out = make_directory(out)
    with bar(time_left=True) as display:
        task = display.add_task("student-t", total=len(sweep.nus) * sweep.draws, note="")
        results = run_sweep(sweep, lambda note: display.update(task, advance=1, note=note))
    write_csv(results, out / "student_t.csv")
    plot_student_t(results, out / "student_t.png", f"{sweep.size} x {sweep.size}, {sweep.draws} draws")
    findings = Findings(results)
    show(findings)
    console.print(f"wrote {out / 'student_t.csv'} and {out / 'student_t.png'}")
    return findings
