# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What a decision record says, as tables: mptc explain, diff and what-if.

Nothing here decides: every number is the record's own or a sum over it. The one thing that
runs the compiler is `assignment`, for what-if: --assign-precision on the same graph, whose
record is read and whose output is thrown away.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich import box
from rich.table import Table

from mpt import decisions, stages
from mpt.decisions import ROLES, Candidate, Decisions, DecisionsError, Product

# Metric -> heading; a column is shown where any candidate has it.
COLUMNS = {
    "be_median": "BE\nmedian",
    "be_p99": "BE\np99",
    "loss_mse": "loss\nMSE",
    "noise_ratio": "noise\nratio",
    "persistent": "persis-\ntent",
    "role_persistent": "of the\nrole",
    "sqnr_db": "SQNR\ndB",
}
# Errors that add up over products (docs/metrics.md), and whose.
ADDITIVE = {"loss_mse": ("fprop",), "noise_ratio": ("dgrad", "wgrad"), "persistent": ("dgrad", "wgrad")}
FORMAT_NAME = re.compile(r"\b(f32|bf16|f8E4M3FN|f8E5M2|i8)( \[[^]]*\])?")
NUMBER = re.compile(r"(?<![\w.])\d+(\.\d+)?(e[-+]?\d+)?(?!\w)")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None, form: str = ".2e") -> str:
    return "-" if value is None else format(value, form)


def _table(title: str, first: Sequence[str], right: Sequence[str] = ()) -> Table:
    """A table whose `right` columns are of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in first:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def spans(numbers: Iterable[int]) -> str:
    """Sorted numbers in short: "0-2, 5"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def families(products: Sequence[Product]) -> list[str]:
    """Names with layers put together: "encoder.layer.*.output.dense/wgrad (layers 0-2)"."""
    layers: dict[str, list[int]] = {}
    for product in products:
        name = product.name
        if product.layer is not None:
            name = name.replace(f".{product.layer}.", ".*.", 1)
        layers.setdefault(name, [])
        if product.layer is not None:
            layers[name].append(product.layer)
    plural = {True: "layers", False: "layer"}
    return [f"{name} ({plural[len(at) > 1]} {spans(at)})" if at else name for name, at in layers.items()]


def grouped_reasons(record: Decisions) -> list[tuple[str, list[Product]]]:
    """Reasons of products that do not run in 8 bits, numbers left out, largest FLOPs first."""
    groups: dict[str, list[Product]] = {}
    for product in record.products:
        if not product.chosen.low:
            groups.setdefault(NUMBER.sub("…", product.reason), []).append(product)
    return sorted(groups.items(), key=lambda item: -sum(product.flops for product in item[1]))


def describe(record: Decisions) -> list[str]:
    """What was asked for, a sentence each."""
    lines = [f"policy {record.policy}, {len(record.products)} products, graph {record.graph_hash or 'without a hash'}"]
    if record.pins:
        lines.append("pins: " + ", ".join(decisions.priced_pins(record)))
    predicted = record.predicted
    if record.time_us is not None:
        line = f"predicted on {record.target}: {record.time_us / 1e3:.3f} ms"
        if "work_us" in predicted:
            line += f", of it {predicted['work_us'] / 1e3:.3f} ms casts"
        if predicted.get("bf16_us"):
            line += f"; all in BF16 {predicted['bf16_us'] / 1e3:.3f} ms, {predicted['bf16_us'] / record.time_us:.2f} x"
        lines.append(line)
    lines += slower(record)
    return lines


def slower(record: Decisions) -> list[str]:
    """A sentence where 8 bits make the step slower than BF16 throughout, by the prediction."""
    high = record.predicted.get("bf16_us")
    if record.time_us is None or high is None or record.time_us <= high or not any(p.chosen.low for p in record.products):
        return []
    cost = f"{(record.time_us - high) / 1e3:.3f} ms slower than BF16"
    ways = "--price-at another size, --where-it-pays and policy budget weigh time"
    return [f"8 bits do not pay on {record.target} at this size: {cost}; {ways}"]


def _shares(record: Decisions) -> Table:
    table = _table("share of the products' FLOPs (number of products)", ["formats"], [*ROLES, "all"])
    for name, row in decisions.share_table(record).items():
        cells = [f"{_percent(row[role][1])} ({row[role][0]})" if role in row else "-" for role in (*ROLES, "all")]
        table.add_row(name, *cells)
    return table


def _high(record: Decisions) -> Table:
    table = _table("what stayed high, and why", ["reason", "products"], ["number", "FLOPs"])
    for reason, products in grouped_reasons(record):
        share = sum(product.flops for product in products) / (record.flops or 1)
        table.add_row(reason, "\n".join(families(products)), str(len(products)), _percent(share), end_section=True)
    return table


def _margins(record: Decisions, count: int) -> Table:
    table = _table("nearest to their bounds", ["product", "chosen", "runner-up"], ["bound / error"])
    near = [product for product in record.products if product.margin is not None and product.margin > 0]
    for product in sorted(near, key=lambda p: abs(math.log(p.margin or 1.0)))[:count]:
        runner_up = product.runner_up.label if product.runner_up else "-"
        table.add_row(product.name, product.label, runner_up, f"{product.margin:.2f}")
    return table


def budget_table(record: Decisions) -> Table:
    """The sums under policy `budget`, their limits, and what a little more of each would save."""
    assert record.budget is not None
    title = f"budget, {record.budget.status}: at least {record.budget.dual_us / 1e3:.3f} ms by the dual bound"
    table = _table(title, ["sum of"], ["is", "limit", "used", "1 % more of it saves, µs"])
    for bound in record.budget.bounds:
        used = _percent(bound.sum / bound.limit) if bound.limit > 0 else "-"
        saves = f"{bound.multiplier * bound.limit / 100:.3g}"
        table.add_row(bound.name, _number(bound.sum), _number(bound.limit), used, saves)
    return table


def summary(record: Decisions, nearest: int = 8) -> Iterator[object]:
    """The whole assignment: shares by role, what stayed high and why, the closest calls."""
    yield from describe(record)
    yield _shares(record)
    if record.budget:
        yield budget_table(record)
    if any(not product.chosen.low for product in record.products):
        yield _high(record)
    if any(product.margin is not None for product in record.products):
        yield _margins(record, nearest)


def _verdict(candidate: Candidate, product: Product) -> str:
    """One word or two; `refusals` says why."""
    if candidate.formats == product.chosen:
        return "chosen"
    state = "admitted" if candidate.admitted else "undecided" if candidate.undecided else "refused"
    return f"{state}, runner-up" if candidate.formats == product.runner_up else state


def refusals(product: Product) -> list[str]:
    """Why candidates were refused, equal reasons together; numbers and formats are in the table."""
    groups: dict[str, list[str]] = {}
    for candidate in product.candidates:
        if candidate.why:
            reason = FORMAT_NAME.sub("…", NUMBER.sub("…", candidate.why))
            groups.setdefault(reason, []).append(candidate.label)
    return [f"  {reason}:  {'; '.join(labels)}" for reason, labels in groups.items()]


def _metric(candidate: Candidate, name: str) -> str:
    return _number(candidate.metrics.get(name), ".1f" if name == "sqnr_db" else ".2e")


def candidate_table(product: Product) -> Table:
    """A product's candidates with what was measured and predicted of each.

    Errors are upper ends of their 95 % intervals, which is what bounds are compared with.
    """
    names = [name for name in COLUMNS if any(name in c.metrics for c in product.candidates)]
    timed = any(c.us is not None for c in product.candidates)
    table = Table(box=box.SIMPLE)
    table.add_column("\ncandidate", overflow="fold")
    for column in [*(COLUMNS[name] for name in names), "error /\nbound", *["\nµs", "with\ncasts"] * timed]:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for entry in product.candidates:
        cells = [_metric(entry, name) for name in names] + [_number(entry.ratio, ".2f")]
        if timed:
            both = None if entry.us is None else entry.us + (entry.work_us or 0.0)
            cells += [_number(entry.us, ".2f"), _number(both, ".2f")]
        style = "bold" if entry.formats == product.chosen else None
        table.add_row(entry.label, *cells, _verdict(entry, product), style=style)
    return table


def _priced(product: Product) -> str:
    """The size that a product's time is of, where that is not its own."""
    at = product.priced
    if not at:
        return ""
    return f" at {at['m']} x {at['n']} x {at['k']}" + (f", {at['batch']} of them" if at["batch"] > 1 else "")


def sentences(product: Product) -> list[str]:
    """What was decided of a product and why, in words."""
    size = f"{product.m} x {product.n} x {product.k}" + (f", {product.batch} of them" if product.batch > 1 else "")
    lines = [f"{product.name}  ({product.role}, {size}, {product.flops / 1e9:.3g} GFLOP)"]
    lines.append(f"  {product.label}: {product.reason}")
    margin = "" if product.margin is None else f", bound / error {product.margin:.2f}"
    if product.runner_up:
        lines.append(f"  runner-up {product.runner_up.label}{margin}")
    elif margin:
        lines.append(f"  no runner-up{margin}")
    bounds = [f"{' '.join(COLUMNS[name].split())} {value:.2e}" for name, value in product.bound.items() if name in COLUMNS]
    if bounds and product.candidates:
        lines.append(f"  bounds: {', '.join(bounds)}")
    if product.us is not None:
        how = "measured" if product.measured else "predicted"
        lines.append(f"  {how} {product.us:.2f} µs{_priced(product)}, operands {product.operand_bytes / 1e6:.2f} MB")
    measured = product.profiled
    if measured and measured["k"] != product.k:
        lines.append(f"  measured at k = {measured['k']}, backward errors rescaled")
    return lines


def details(record: Decisions, pattern: str) -> Iterator[object]:
    """Every product that matches; raises DecisionsError offering names where none does."""
    for product in record.select(pattern):
        yield from sentences(product)
        if product.candidates:
            yield candidate_table(product)
            yield "\n".join([*refusals(product), ""])
        else:
            yield "  nothing was measured of it\n"


@dataclass(frozen=True)
class Change:
    """A product whose formats differ between two records, and why."""

    before: Product
    after: Product

    @property
    def text(self) -> str:
        return f"{self.before.label} -> {self.after.label}"

    def why(self, a: Decisions, b: Decisions) -> str:
        """What differs in what the two decisions were made from; the second one's reason if nothing does."""
        if self.after.pin and self.after.pin != self.before.pin:
            return self.after.reason
        words = []
        if self.before.pin and not self.after.pin:
            words.append(f"no longer pinned by '{self.before.pin}'")
        if a.policy != b.policy:
            words.append(f"policy {a.policy} -> {b.policy}")
        for name in COLUMNS:
            old, new = self.before.bound.get(name), self.after.bound.get(name)
            if old is not None and new is not None and old != new:
                words.append(f"bound of {name} {old:.2e} -> {new:.2e}")
        words += self._measured()
        return "; ".join([*words, self.after.reason])

    def _measured(self) -> list[str]:
        """Errors of the low one of the two choices that were measured anew."""
        low = max((self.before, self.after), key=lambda product: product.chosen.low).chosen
        old, new = self.before.candidate(low), self.after.candidate(low)
        if not old or not new:
            return []
        pairs = [(name, old.metrics.get(name), new.metrics.get(name)) for name in COLUMNS if name != "sqnr_db"]
        return [f"{name} of {low.label} {x:.2e} -> {y:.2e}" for name, x, y in pairs if x and y and x != y]


def changes(a: Decisions, b: Decisions) -> list[Change]:
    """Products whose formats differ; raises DecisionsError if the records are not of one graph."""
    if not a.graph_hash or a.graph_hash != b.graph_hash:
        raise DecisionsError(
            f"the records are of different graphs: {a.graph_hash or 'no hash'} and {b.graph_hash or 'no hash'}"
        )
    mine, theirs = ({product.name for product in record.products} for record in (a, b))
    if mine != theirs:
        alone = sorted(mine ^ theirs)
        raise DecisionsError(f"the records have different products: '{alone[0]}' is in one only ({len(alone)} in all)")
    pairs = ((product, b.product(product.name)) for product in a.products)
    return [Change(old, new) for old, new in pairs if old.chosen != new.chosen]


def error_sums(record: Decisions) -> dict[str, tuple[float, int]]:
    """Errors of the chosen formats: name -> (value, products of its role without one).

    "error / bound" is the largest over products in 8 bits; the others are the sums that bounds
    are on (docs/metrics.md). A name is there where any product has it.
    """
    result = {}
    low = [product for product in record.products if product.chosen.low]
    ratios = [product.taken.ratio for product in low if product.taken and product.taken.ratio is not None]
    if ratios:
        result["error / bound"] = max(ratios), len(low) - len(ratios)
    for name, roles in ADDITIVE.items():
        of_role = [product for product in record.products if product.role in roles]
        values = [value for value in (_part(record, product, name) for product in of_role) if value is not None]
        if values:
            result[name] = math.fsum(values), len(of_role) - len(values)
    return result


def _part(record: Decisions, product: Product, name: str) -> float | None:
    """What a product adds to a sum, as policy `budget` counts: an estimate below 0 is 0, and what is
    known of the persistent error of all dgrads together is shared among them."""
    metrics = product.taken.metrics if product.taken else {}
    if name in metrics:
        return max(0.0, metrics[name])
    if name == "persistent" and "role_persistent" in metrics:
        return max(0.0, metrics["role_persistent"]) / sum(p.role == product.role for p in record.products)
    return None


def totals(a: Decisions, b: Decisions, names: Sequence[str]) -> Table:
    """Time, bytes and error of two assignments beside each other."""
    table = _table("the whole step's products", [""], [*names, "change"])

    def row(what: str, old: float | None, new: float | None, form: str) -> None:
        change = "-" if old is None or new is None or not old else f"{100 * (new - old) / old:+.1f} %"
        table.add_row(what, _number(old, form), _number(new, form), change)

    eight = [sum(p.flops for p in record.products if p.chosen.low) / (record.flops or 1) for record in (a, b)]
    row("FLOPs in 8 bits, %", *(100 * share for share in eight), ".1f")
    if a.time_us is not None or b.time_us is not None:
        times = [None if record.time_us is None else record.time_us / 1e3 for record in (a, b)]
        row("predicted time, ms", *times, ".3f")
        sizes = [r.predicted["work_bytes"] / 1e6 if "work_bytes" in r.predicted else None for r in (a, b)]
        row("moved by casts, MB", *sizes, ".2f")
    row("operands, each read once, MB", *(sum(p.operand_bytes for p in r.products) / 1e6 for r in (a, b)), ".2f")
    old, new = error_sums(a), error_sums(b)
    for name in dict.fromkeys([*old, *new]):
        missing = max(sums[name][1] for sums in (old, new) if name in sums)
        what = f"largest {name}, 8 bits" if name == "error / bound" else f"sum of {name}"
        what += f" ({missing} products without one)" if missing else ""
        row(what, *(sums[name][0] if name in sums else None for sums in (old, new)), ".3g")
    return table


def comparison(
    a: Decisions, b: Decisions, names: Sequence[str] = ("before", "after"), limit: int = 40
) -> Iterator[object]:
    """What changed from `a` to `b`, why, and what it costs."""
    found = changes(a, b)
    if a.policy != b.policy:
        yield f"policy: {a.policy} -> {b.policy}"
    if a.target != b.target:
        yield f"target: {a.target or 'none'} -> {b.target or 'none'}, so times are of different machines"
    for title, one, other in (("pins gone", a, b), ("new pins", b, a)):
        only = [pin for pin in one.pins if pin not in other.pins]
        if only:
            yield f"{title}: {', '.join(only)}"
    yield totals(a, b, names)
    if not found:
        yield "every product has the formats it had"
        return
    yield f"{len(found)} of {len(a.products)} products changed"
    groups: dict[str, list[Change]] = {}
    for change in found:
        groups.setdefault(change.text, []).append(change)
    table = _table("changes", ["formats", "products"], ["number", "FLOPs"])
    for text, members in groups.items():
        share = sum(change.after.flops for change in members) / (a.flops or 1)
        names_ = "\n".join(families([change.after for change in members]))
        table.add_row(text, names_, str(len(members)), _percent(share), end_section=True)
    yield table
    timed = all(product.us is not None for change in found for product in (change.before, change.after))
    table = _table("why", ["product", "formats", "why"], ["µs"] * timed)
    for change in sorted(found, key=lambda change: -change.after.flops)[:limit]:
        cells = [f"{change.before.us:.2f} -> {change.after.us:.2f}"] if timed else []
        table.add_row(change.after.name, change.text, change.why(a, b), *cells)
    yield table
    if len(found) > limit:
        yield f"and {len(found) - limit} smaller ones; --limit shows more"


def options_of(record: Decisions) -> dict[str, str]:
    """Options of --assign-precision, besides policy and pins, that a record was made with."""
    options = {"alignment": str(record.alignment)}
    if record.target:
        options["target"] = record.target
    if record.where_it_pays:
        options["where-it-pays"] = "true"
    for bound in record.budget.bounds if record.budget else []:
        options[bound.name.replace("_", "-")] = repr(bound.limit)
    return options


def check_times(record: Decisions, options: Mapping[str, object]) -> None:
    """Raise ValueError where `record` has times of another size, or measured ones, and `options` do not.

    A record says that it has them, but not from which file: comparing with other times would show changes that are none.
    """
    for product in record.products:
        if product.priced and "price-at" not in options:
            at = product.priced
            size = f"{at['m']} x {at['n']} x {at['k']}"
            raise ValueError(f"the record's times are of another size, '{product.name}' at {size}: expected --price-at")
        if product.measured and "tuning" not in options:
            raise ValueError(f"the record's time of '{product.name}' was measured: expected --option tuning=TABLE.json")


def assignment(
    graph: Path,
    policy: str,
    pins: Sequence[str],
    metrics: Path | None = None,
    options: Mapping[str, object] = MappingProxyType({}),
) -> Decisions:
    """The record that --assign-precision writes for `graph`; nothing else is left behind.

    options: further ones of the pass. Raises StageError with mpt-opt's message.
    """
    with tempfile.TemporaryDirectory(prefix="mpt-") as directory:
        record = Path(directory) / "decisions.json"
        words = [f"{name}={value}" for name, value in ({"policy": policy} | dict(options)).items()]
        words += [*(f"pin={pin}" for pin in pins), f"record={record}"]
        passes = [f"--mpt-attach-metrics=profile={metrics}"] if metrics else []
        stages.run_tool("mpt-opt", [graph, *passes, f"--assign-precision={' '.join(words)}", "-o", os.devnull])
        return decisions.load(record)
