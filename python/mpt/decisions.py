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
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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


class _Place:
    """A value in the file with its path, for errors: `products[3].candidates[0].why`."""

    def __init__(self, value: Any, path: str = ""):
        self.value, self.path = value, path

    def fail(self, expected: str) -> DecisionsError:
        return DecisionsError(f"damaged: '{self.path}' is {_short(self.value)}, expected {expected}")

    def get(self, key: str) -> _Place:
        """A member that has to be there."""
        if not isinstance(self.value, dict):
            raise self.fail("an object")
        path = f"{self.path}.{key}" if self.path else key
        if key not in self.value:
            raise DecisionsError(f"damaged: '{path}' is missing")
        return _Place(self.value[key], path)

    def maybe(self, key: str) -> _Place | None:
        """A member that may be missing or null."""
        return self.get(key) if isinstance(self.value, dict) and self.value.get(key) is not None else None

    def items(self) -> Iterator[_Place]:
        if not isinstance(self.value, list):
            raise self.fail("an array")
        for index, value in enumerate(self.value):
            yield _Place(value, f"{self.path}[{index}]")

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fail("a string")
        return self.value

    def truth(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.fail("true or false")
        return self.value

    def number(self) -> float:
        plain = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        if not plain or not abs(self.value) <= sys.float_info.max:  # an int may be larger than any float
            raise self.fail("a finite number")
        return self.value

    def count(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 1:
            raise self.fail("an integer of 1 or more")
        return self.value

    def numbers(self) -> dict[str, float]:
        """An object's members that are numbers; null is no value."""
        if not isinstance(self.value, dict):
            raise self.fail("an object")
        return {key: self.get(key).number() for key, value in self.value.items() if value is not None}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _optional(place: _Place | None) -> float | None:
    return None if place is None else place.number()


def _format(place: _Place) -> dict[str, Any]:
    names = {"storage": tuple(BYTES), "scale": SCALES, "recipe": RECIPES, "rounding": ROUNDINGS}
    for key, known in names.items():
        if place.get(key).text() not in known:
            raise place.get(key).fail("one of " + ", ".join(known))
    for key in ("history", "margin", "value"):
        if (entry := place.maybe(key)) is not None:
            entry.number()
    found = {key: value for key, value in place.value.items() if value is not None}
    return DEFAULTS.get(found["recipe"], {}) | found


def _formats(place: _Place) -> Formats:
    return Formats(_format(place.get("lhs")), _format(place.get("rhs")))


def _candidate(place: _Place) -> Candidate:
    return Candidate(
        formats=_formats(place),
        metrics=place.get("metrics").numbers(),
        admitted=place.get("admitted").truth(),
        undecided=place.get("undecided").truth(),
        ratio=_optional(place.maybe("ratio")),
        why=place.get("why").text(),
        us=_optional(place.maybe("us")),
        work_us=_optional(place.maybe("work_us")),
    )


def _product(place: _Place) -> Product:
    role = place.get("role")
    if role.text() not in ROLES:
        raise role.fail("one of " + ", ".join(ROLES))
    runner_up, pin, measured = (place.maybe(key) for key in ("runner_up", "pin", "measured"))
    profiled, priced = place.maybe("profiled"), place.maybe("priced")
    return Product(
        name=place.get("name").text(),
        role=role.text(),
        **{key: place.get(key).count() for key in ("m", "n", "k", "batch")},
        flops=place.get("flops").number(),
        candidates=[_candidate(entry) for entry in place.get("candidates").items()],
        bound=place.get("bound").numbers(),
        chosen=_formats(place.get("chosen")),
        runner_up=_formats(runner_up) if runner_up else None,
        margin=_optional(place.maybe("margin")),
        reason=place.get("reason").text(),
        pin=pin.text() if pin else None,
        profiled={key: profiled.get(key).count() for key in "mnk"} if profiled else {},
        priced={key: priced.get(key).count() for key in ("m", "n", "k", "batch")} if priced else {},
        us=_optional(place.maybe("us")),
        measured=measured.truth() if measured else False,
    )


def _budget(place: _Place | None) -> Budget | None:
    if place is None:
        return None
    bounds = [
        BudgetBound(entry.get("name").text(), *(entry.get(key).number() for key in ("limit", "sum", "multiplier")))
        for entry in place.get("bounds").items()
    ]
    proven, dual = (place.get(key).number() for key in ("proven_us", "dual_bound_us"))
    prices = place.maybe("pin_prices_us")
    priced = [None if entry.value is None else entry.number() for entry in prices.items()] if prices else []
    return Budget(place.get("status").text(), proven, dual, bounds, priced)


KNOWN = ("format", "version", "graph_hash", "policy", "alignment", "pins", "summary", "products",
         "target", "predicted", "budget")  # fmt: skip


def parse(content: Any) -> Decisions:
    """A decision record from JSON; raises DecisionsError naming the place that is not as documented."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise DecisionsError(f"format is {found!r}, expected {FORMAT!r}")
    if content.get("version") != VERSION:
        raise DecisionsError(f"version is {content.get('version')!r}, expected {VERSION}")
    place = _Place(content)
    products = [_product(entry) for entry in place.get("products").items()]
    if not products:
        raise DecisionsError("damaged: 'products' is empty")
    names = set()
    for product in products:
        if product.name in names:
            raise DecisionsError(f"damaged: two products are named '{product.name}'")
        names.add(product.name)
    target, predicted = place.maybe("target"), place.maybe("predicted")
    return Decisions(
        graph_hash=place.get("graph_hash").text(),
        policy=place.get("policy").text(),
        alignment=place.get("alignment").count(),
        pins=[entry.text() for entry in place.get("pins").items()],
        products=products,
        target=target.text() if target else None,
        predicted=predicted.numbers() if predicted else {},
        budget=_budget(place.maybe("budget")),
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
