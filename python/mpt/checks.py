# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Checks of JSON from outside, put together as a schema is: one reader for all of our files.

A check takes a value and its place ("" is the whole file), and raises Damage with the place, what was expected and what is there.
After it, reading needs no checks of its own.

    check = fields({"name": text, "sizes": array(integer(1), length=3)}, {"why": nullable(text)})
    check(json.load(file), "product")
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Check = Callable[[Any, str], None]
LEAST, MOST = -(2**63), 2**63 - 1  # what an integer of the file may be


class Damage(ValueError):
    """Something in a file is not as its schema says; the text has the place."""


def _shown(value: Any) -> str:
    """The value in short."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def expect(found: bool, place: str, expected: str, value: Any) -> None:
    if not found:
        raise Damage(f"{place or 'file'}: expected {expected}, found {_shown(value)}")


def integer(low: int = 0, high: int = MOST) -> Check:
    """An integer in [low, high]."""
    bounds = f"an integer of at least {low}" if high == MOST else f"an integer from {low} to {high}"

    def check(value: Any, place: str) -> None:
        expect(type(value) is int and low <= value <= high, place, bounds, value)

    return check


def number(low: float = -math.inf, high: float = math.inf, null: bool = False) -> Check:
    """A finite number in [low, high], or null where that is allowed."""
    bounds = "a finite number"
    if low > -math.inf:
        bounds += f" of at least {low:g}" if high == math.inf else f" from {low:g} to {high:g}"
    bounds += " or null" if null else ""

    def check(value: Any, place: str) -> None:
        if value is None and null:
            return
        plain = type(value) is float and math.isfinite(value) or type(value) is int and LEAST <= value <= MOST
        expect(plain and low <= value <= high, place, bounds, value)

    return check


def text(value: Any, place: str) -> None:
    """A string that is not empty."""
    expect(isinstance(value, str) and value != "", place, "a text", value)


def string(value: Any, place: str) -> None:
    """A string that may be empty."""
    expect(isinstance(value, str), place, "a string", value)


def boolean(value: Any, place: str) -> None:
    expect(isinstance(value, bool), place, "true or false", value)


def one_of(*allowed: str) -> Check:
    """One of some texts."""

    def check(value: Any, place: str) -> None:
        expect(isinstance(value, str) and value in allowed, place, "one of " + ", ".join(allowed), value)

    return check


def array(item: Check, length: int | None = None, empty: bool = True) -> Check:
    """An array of `length` items, or of any number."""

    def check(value: Any, place: str) -> None:
        what = "an array" if length is None else f"an array of {length}"
        expect(isinstance(value, list) and length in (None, len(value)), place, what, value)
        expect(empty or bool(value), place, "at least one entry", value)
        for index, entry in enumerate(value):
            item(entry, f"{place}[{index}]")

    return check


def fields(required: dict[str, Check], optional: dict[str, Check] = {}) -> Check:
    """An object with these fields, and some that may be missing; what else there is nobody reads."""

    def check(value: Any, place: str) -> None:
        expect(isinstance(value, dict), place, "an object", value)
        for name in required:
            if name not in value:
                raise Damage(f"{place or 'file'}: '{name}' is missing")
        for name, entry in (required | optional).items():
            if name in value:
                entry(value[name], f"{place}.{name}" if place else name)

    return check


def nullable(check: Check) -> Check:
    """null, or what `check` takes."""
    return lambda value, place: None if value is None else check(value, place)


def any_value(value: Any, place: str) -> None:
    """Anything: it is not read, or checked elsewhere."""
