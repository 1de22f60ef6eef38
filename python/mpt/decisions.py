# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Reading decisions.json (docs/precision.md) as dataclasses.

    record = load("decisions.json")
    for product in record.products:                  # in the order of the step
        print(product.name, product.label, product.reason)
        for candidate in product.candidates:         # what was measured of it
            print(candidate.label, candidate.metrics["be_median"], candidate.ratio)

Everything is checked on the way in: a file that is damaged or of another version is an
error that names the file and the place in it, never a KeyError later on.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpt.checks import Damage, array, boolean, fields, integer, nullable, number, one_of, string, text
from mpt.metrics import label, layer_of, matches

FORMAT, VERSION = "mpt-decisions", 1
ROLES = ("fprop", "dgrad", "wgrad")
BYTES = {"f32": 4, "bf16": 2, "f8E4M3FN": 1, "f8E5M2": 1, "i8": 1}
SCALES = ("none", "per_tensor", "per_row", "per_column", "block128")
RECIPES = ("none", "current", "delayed", "fixed")
ROUNDINGS = ("nearest", "stochastic")
# What a recipe has besides, and what it is where the record does not say.
DEFAULTS = {"delayed": {"history": 1024, "margin": 0}, "fixed": {"value": 1.0}}
PIN_NAMES = {"f32": "fp32"}


class DecisionsError(ValueError):
    """A decision record is not what a command needs."""


@dataclass(frozen=True)
class Formats:
    """Formats of a product's two operands, each a mapping with storage, scale, recipe, rounding.

    A delayed scale has history and margin besides, a fixed one its value.
    """

    lhs: Mapping[str, Any]
    rhs: Mapping[str, Any]

    @property
    def label(self) -> str:
        """In short: "E5M2 x E4M3"."""
        return label({"lhs": self.lhs, "rhs": self.rhs})

    @property
    def bytes(self) -> tuple[int, int]:
        """Of one element of each operand."""
        return BYTES[self.lhs["storage"]], BYTES[self.rhs["storage"]]

    @property
    def low(self) -> bool:
        """Whether both operands have 8 bits, so that the product runs in 8 bits."""
        return max(self.bytes) == 1

    @property
    def pin(self) -> str:
        """As a pin's FORMAT: "i8[stochastic]/i8"."""
        lhs, rhs = pin_text(self.lhs), pin_text(self.rhs)
        return lhs if lhs == rhs else f"{lhs}/{rhs}"


def pin_text(side: Mapping[str, Any]) -> str:
    """One operand's format in a pin: the storage, and in brackets what is not its default."""
    options = [side["scale"]] if side["scale"] not in ("none", "per_tensor") else []
    if side["recipe"] == "delayed":
        options.append(f"delayed={side['history']}")
        options += [f"margin={side['margin']}"] if side["margin"] else []
    if side["recipe"] == "fixed":
        options.append(f"fixed={side['value']:.9g}")
    options += [side["rounding"]] if side["rounding"] != "nearest" else []
    name = PIN_NAMES.get(side["storage"], side["storage"])
    return f"{name}[{','.join(options)}]" if options else name


@dataclass(frozen=True)
class Candidate:
    """A measured pair of formats, and what became of it."""

    formats: Formats
    metrics: dict[str, float]  # by name, as attached to the graph
    admitted: bool
    undecided: bool
    ratio: float | None  # largest of error / bound; None where it has no value
    why: str  # not admitted
    us: float | None = None  # predicted, of the product; None where the target does not run it
    work_us: float | None = None  # of the casts that it would need if it shared them with no other

    @property
    def label(self) -> str:
        return self.formats.label

    def interval(self, metric: str) -> tuple[float, float] | None:
        """95 % interval of an error, of which the record holds the upper end and the width."""
        high = self.metrics.get(metric)
        if high is None:
            return None
        return high - self.metrics.get(f"{metric}_spread", 0.0), high


@dataclass(frozen=True)
class Product:
    name: str
    role: str
    m: int
    n: int
    k: int
    batch: int
    flops: float
    candidates: list[Candidate]
    bound: dict[str, float]  # by metric, and the factor c
    chosen: Formats
    runner_up: Formats | None
    margin: float | None  # bound / error of the candidate that decided
    reason: str
    pin: str | None
    profiled: dict[str, int] = field(default_factory=dict)  # m, n, k where its metrics were measured
    priced: dict[str, int] = field(default_factory=dict)  # m, n, k, batch that its time is of, if others
    us: float | None = None  # predicted, or measured, under the chosen formats, without casts
    measured: bool = False  # the time

    @property
    def label(self) -> str:
        """The chosen formats in short."""
        return self.chosen.label

    @property
    def layer(self) -> int | None:
        """Number of the layer in the name, or None."""
        return layer_of(self.name)

    @property
    def kind(self) -> str:
        """The name without what comes before and in the layer's number: "attention.self.query/dgrad"."""
        if self.layer is None:
            return self.name
        return self.name.split(f".{self.layer}.", 1)[1]

    @property
    def operand_bytes(self) -> int:
        """Bytes of both operands as held, each read once."""
        lhs, rhs = self.chosen.bytes
        return self.batch * (self.m * self.k * lhs + self.k * self.n * rhs)

    def candidate(self, formats: Formats | None) -> Candidate | None:
        """The measurements of these formats, if there are any."""
        return next((entry for entry in self.candidates if entry.formats == formats), None)

    @property
    def taken(self) -> Candidate | None:
        """The measurements of the chosen formats, if there are any."""
        return self.candidate(self.chosen)


@dataclass(frozen=True)
class BudgetBound:
    """One of the sums that policy `budget` keeps under a limit, and the price of that: µs per unit of error."""

    name: str
    limit: float
    sum: float
    multiplier: float


@dataclass(frozen=True)
class Budget:
    """How policy `budget` was solved: `dual_us` is less than any assignment that keeps the bounds can take."""

    status: str
    proven_us: float
    dual_us: float
    bounds: list[BudgetBound]
    pin_prices_us: list[float | None] = field(default_factory=list)  # what the step would take less without each pin


@dataclass(frozen=True)
class Decisions:
    """A decision record. `more` holds members that this reader does not know.

    predicted: microseconds products_us, work_us (casts, once each), total_us, and bf16_us, the total
    with all products in BF16; and work_bytes. Empty in records without a target.
    """

    graph_hash: str
    policy: str
    alignment: int
    pins: list[str]
    products: list[Product]
    target: str | None = None
    predicted: dict[str, float] = field(default_factory=dict)
    budget: Budget | None = None
    where_it_pays: bool = False  # 8 bits only where that makes the step faster
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        return sum(product.flops for product in self.products)

    @property
    def time_us(self) -> float | None:
        """Predicted time of all products and their casts, where the record has one."""
        return self.predicted.get("total_us")

    def product(self, name: str) -> Product:
        """The product of that name; raises DecisionsError offering the nearest names."""
        for product in self.products:
            if product.name == name:
                return product
        raise DecisionsError(f"no product is named '{name}'{self._offer(name)}")

    def select(self, pattern: str | None = None) -> list[Product]:
        """Products whose name has or fits `pattern`; raises DecisionsError offering the nearest names."""
        found = [product for product in self.products if matches(product.name, pattern)]
        if not found:
            raise DecisionsError(f"no product matches '{pattern}'{self._offer(pattern or '')}")
        return found

    def _offer(self, pattern: str) -> str:
        plain = "".join(c for c in pattern if c not in "*?[]")
        names = [product.name for product in self.products]
        near = difflib.get_close_matches(plain, names, n=3, cutoff=0.4)
        return "; nearest: " + ", ".join(f"'{name}'" for name in near) if near else ""


def priced_pins(record: Decisions) -> list[str]:
    """The record's pins, each with what it costs where that is known: "head=bf16 (35.2 µs)"."""
    prices = record.budget.pin_prices_us if record.budget else []
    known = [*prices, *[None] * (len(record.pins) - len(prices))]
    return [pin if price is None else f"{pin} ({price:.3g} µs)" for pin, price in zip(record.pins, known)]


def share_table(record: Decisions) -> dict[str, dict[str, tuple[int, float]]]:
    """Formats -> role (and "all") -> number of products and share of all the step's FLOPs."""
    total = record.flops or 1.0
    table: dict[str, dict[str, tuple[int, float]]] = {}
    for product in record.products:
        row = table.setdefault(product.label, {})
        for role in (product.role, "all"):
            count, share = row.get(role, (0, 0.0))
            row[role] = count + 1, share + product.flops / total
    return dict(sorted(table.items(), key=lambda item: -item[1]["all"][1]))


def _side(value: Any, place: str) -> None:
    """A format, whose names are known."""
    known = {"storage": tuple(BYTES), "scale": SCALES, "recipe": RECIPES, "rounding": ROUNDINGS}
    required = {key: one_of(*names) for key, names in known.items()}
    more = nullable(number())
    fields(required, {"history": more, "margin": more, "value": more})(value, place)


def _numbers(value: Any, place: str) -> None:
    """An object of numbers; null is no value."""
    fields({})(value, place)
    for key, entry in value.items():
        nullable(number())(entry, f"{place}.{key}")


SIDES = fields({"lhs": _side, "rhs": _side})
TIME = nullable(number())
CANDIDATE = fields(
    {"lhs": _side, "rhs": _side, "metrics": _numbers, "admitted": boolean, "undecided": boolean, "why": string},
    {"ratio": TIME, "us": TIME, "work_us": TIME},
)
SIZE = {key: integer(1) for key in ("m", "n", "k")}
PRODUCT = fields(
    {
        "name": text, "role": one_of(*ROLES), **SIZE, "batch": integer(1), "flops": number(),
        "candidates": array(CANDIDATE), "bound": _numbers, "chosen": SIDES, "reason": string,
    },
    {
        "runner_up": nullable(SIDES), "margin": TIME, "pin": nullable(text), "us": TIME, "measured": nullable(boolean),
        "profiled": nullable(fields(SIZE)), "priced": nullable(fields({**SIZE, "batch": integer(1)})),
    },
)  # fmt: skip
BOUND = fields({"name": text, "limit": number(), "sum": number(), "multiplier": number()})
BUDGET = fields(
    {"status": text, "proven_us": number(), "dual_bound_us": number(), "bounds": array(BOUND)},
    {"pin_prices_us": nullable(array(TIME))},
)
RECORD = fields(
    {
        "graph_hash": string, "policy": text, "alignment": integer(1), "pins": array(text),
        "products": array(PRODUCT, empty=False),
    },
    {
        "target": nullable(text), "predicted": nullable(_numbers), "budget": nullable(BUDGET),
        "where_it_pays": nullable(boolean),
    },
)  # fmt: skip


def _known(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What is not null: null is no value."""
    return {key: value for key, value in entries.items() if value is not None}


def _formats(value: Mapping[str, Any] | None) -> Formats | None:
    """A checked pair of formats, with what the record leaves out."""
    if value is None:
        return None
    sides = (_known(value[side]) for side in ("lhs", "rhs"))
    return Formats(*(DEFAULTS.get(side["recipe"], {}) | side for side in sides))


def _candidate(value: Mapping[str, Any]) -> Candidate:
    return Candidate(
        formats=_formats(value),
        metrics=_known(value["metrics"]),
        **{key: value[key] for key in ("admitted", "undecided", "why")},
        **{key: value.get(key) for key in ("ratio", "us", "work_us")},
    )


def _product(value: Mapping[str, Any]) -> Product:
    return Product(
        **{key: value[key] for key in ("name", "role", "m", "n", "k", "batch", "flops", "reason")},
        candidates=[_candidate(entry) for entry in value["candidates"]],
        bound=_known(value["bound"]),
        chosen=_formats(value["chosen"]),
        runner_up=_formats(value.get("runner_up")),
        **{key: value.get(key) for key in ("margin", "pin", "us")},
        profiled=value.get("profiled") or {},
        priced=value.get("priced") or {},
        measured=bool(value.get("measured")),
    )


def _budget(value: Mapping[str, Any] | None) -> Budget | None:
    if value is None:
        return None
    bounds = [BudgetBound(*(entry[key] for key in ("name", "limit", "sum", "multiplier"))) for entry in value["bounds"]]
    prices = value.get("pin_prices_us") or []
    return Budget(value["status"], value["proven_us"], value["dual_bound_us"], bounds, prices)


KNOWN = ("format", "version", "graph_hash", "policy", "alignment", "pins", "summary", "products",
         "target", "predicted", "budget", "where_it_pays")  # fmt: skip


def parse(content: Any) -> Decisions:
    """A decision record from JSON; raises DecisionsError naming the place that is not as documented."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise DecisionsError(f"format is {found!r}, expected {FORMAT!r}")
    if content.get("version") != VERSION:
        raise DecisionsError(f"version is {content.get('version')!r}, expected {VERSION}")
    try:
        RECORD(content, "")
    except Damage as error:
        raise DecisionsError(f"damaged: {error}") from error
    products = [_product(entry) for entry in content["products"]]
    names = set()
    for product in products:
        if product.name in names:
            raise DecisionsError(f"damaged: two products are named '{product.name}'")
        names.add(product.name)
    return Decisions(
        **{key: content[key] for key in ("graph_hash", "policy", "alignment", "pins")},
        products=products,
        target=content.get("target"),
        predicted=_known(content.get("predicted") or {}),
        budget=_budget(content.get("budget")),
        where_it_pays=bool(content.get("where_it_pays")),
        more={key: value for key, value in content.items() if key not in KNOWN},
    )


def load(path: str | os.PathLike[str]) -> Decisions:
    """Read a decision record; raises DecisionsError if it is another format, version, or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:  # JSON, UTF-8, and numbers of too many digits
        raise DecisionsError(f"{path}: not a decision record: {error}") from error
    try:
        return parse(content)
    except DecisionsError as error:
        raise DecisionsError(f"{path}: {error}") from error


def pins_of(products: Sequence[Product]) -> list[str]:
    """Pins that give each of these products the formats that it has, names taken literally."""
    return [f"{escape(product.name)}={product.chosen.pin}" for product in products]


def escape(name: str) -> str:
    """A product's name as a pin's PATTERN that fits this name only."""
    return "".join(f"\\{c}" if c in "*?[]{}\\" else c for c in name)
