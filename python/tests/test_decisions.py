# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Decision records: what the reader gives, and what it refuses."""

from __future__ import annotations

import json
import random

import pytest

import records
from mpt import decisions, explain
from mpt.decisions import DecisionsError, load, parse
from mpt.report.data import page_data


def test_products_know_their_place_and_formats():
    record = records.record()
    product = record.product("encoder.layer.1.output.dense/wgrad")
    assert (product.role, product.layer, product.kind) == ("wgrad", 1, "output.dense/wgrad")
    assert product.label == "E4M3 x E4M3" and product.chosen.low and product.taken.admitted
    assert product.operand_bytes == 2 * 64 * 64
    low, high = product.taken.interval("be_median")
    assert (low, high) == pytest.approx((2.7e-3, 3e-3))
    head = record.product("cls.predictions.decoder")
    assert head.layer is None and head.kind == head.name
    assert record.time_us is None


def test_shares_add_up_to_one():
    record = records.record()
    table = decisions.share_table(record)
    assert list(table) == ["E4M3 x E4M3", "BF16 x BF16"]
    assert sum(row["all"][1] for row in table.values()) == pytest.approx(1)
    assert table["BF16 x BF16"] == {"dgrad": (2, pytest.approx(2 / 26)), "all": (2, pytest.approx(2 / 26))}


def test_predictions_and_budgets_are_read():
    content = json.loads(json.dumps(records.content()))
    records.price(content)
    record = parse(content)
    assert record.target == "h100" and record.time_us == 500 and record.predicted["bf16_us"] == 600
    assert record.products[0].us == 20 and not record.products[0].measured
    assert record.products[0].taken.work_us == 3
    assert [bound.name for bound in record.budget.bounds] == ["loss_mse", "noise_ratio", "persistent"]
    assert record.more == {}
    content["budget"]["bounds"][1]["limit"] = None
    with pytest.raises(DecisionsError, match=r"budget.bounds\[1\].limit: expected a finite number, found null"):
        parse(content)


@pytest.mark.parametrize("pattern, count", [("layer.1", 6), ("*/wgrad", 6), ("decoder", 1), (None, 19)])
def test_patterns(pattern, count):
    assert len(records.record().select(pattern)) == count


def test_a_pattern_without_a_match_offers_the_nearest_names():
    offered = r"no product matches 'encodr.layer.1.output.dens\*'; nearest: 'encoder.layer.1.output.dense'"
    with pytest.raises(DecisionsError, match=offered):
        records.record().select("encodr.layer.1.output.dens*")
    with pytest.raises(DecisionsError, match="no product matches 'zzz'$"):
        records.record().select("zzz")


def test_pins_say_the_formats_that_pins_can():
    record = records.record()
    products = record.select("layer.0.output.dense")
    assert decisions.pins_of(products) == [
        "encoder.layer.0.output.dense=f8E4M3FN",
        "encoder.layer.0.output.dense/dgrad=bf16",
        "encoder.layer.0.output.dense/wgrad=f8E4M3FN",
    ]
    assert decisions.Formats(records.E5M2, records.E4M3).pin == "f8E5M2/f8E4M3FN"
    assert decisions.escape("a[0].b*") == "a\\[0\\].b\\*"
    noisy = dict(records.E5M2, rounding="stochastic")
    assert decisions.Formats(noisy, records.E4M3).pin == "f8E5M2[stochastic]/f8E4M3FN"
    rows = dict(records.E4M3, scale="per_row"), dict(records.E4M3, scale="per_column")
    assert decisions.Formats(*rows).pin == "f8E4M3FN[per_row]/f8E4M3FN[per_column]"


def test_what_a_recipe_has_besides_is_read():
    content = json.loads(json.dumps(records.content()))
    chosen = content["products"][0]["chosen"]
    chosen["lhs"] = dict(records.E5M2, recipe="delayed", margin=1, history=16, rounding="stochastic")
    chosen["rhs"] = dict(records.E4M3, recipe="fixed", value=0.1)
    formats = decisions.parse(content).products[0].chosen
    assert formats.pin == "f8E5M2[delayed=16,margin=1,stochastic]/f8E4M3FN[fixed=0.1]"
    chosen["lhs"], chosen["rhs"] = dict(records.E5M2, recipe="delayed"), dict(records.E4M3, recipe="fixed")
    formats = decisions.parse(content).products[0].chosen
    assert formats.pin == "f8E5M2[delayed=1024]/f8E4M3FN[fixed=1]"
    assert formats.label == "E5M2 x E4M3 delayed 1024 lhs, scale 1 rhs"


def change(path, value):
    """decisions.json with one member replaced, or left out if `value` is KeyError."""
    content = json.loads(json.dumps(records.content()))
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return content


@pytest.mark.parametrize("path, value, message", [
    (["format"], "mpt-metrics", "format is 'mpt-metrics', expected 'mpt-decisions'"),
    (["version"], 2, "version is 2, expected 1"),
    (["products"], [], "products: expected at least one entry, found an array of 0"),
    (["products"], {}, "products: expected an array, found an object of 0"),
    (["graph_hash"], KeyError, "file: 'graph_hash' is missing"),
    (["products", 3, "reason"], KeyError, r"products\[3\]: 'reason' is missing"),
    (["products", 1, "role"], "bprop", r"products\[1\].role: expected one of fprop, dgrad, wgrad, found 'bprop'"),
    (["products", 1, "m"], 0, r"products\[1\].m: expected an integer of at least 1, found 0"),
    (["products", 1, "flops"], "many", r"products\[1\].flops: expected a finite number, found 'many'"),
    (["products", 1, "margin"], float("inf"), r"products\[1\].margin: expected a finite number, found inf"),
    (["products", 1, "flops"], 10**400, r"products\[1\].flops: expected a finite number, found 1000"),
    (["products", 0, "candidates", 1, "admitted"], 1, r"candidates\[1\].admitted: expected true or false, found 1"),
    (["products", 0, "candidates", 1, "lhs", "storage"], "f4", r"lhs.storage: expected one of f32, .*, found 'f4'"),
    (["products", 0, "chosen"], None, r"products\[0\].chosen: expected an object, found null"),
    (["products", 1, "name"], "encoder.layer.0.attention.self.query", "two products are named"),
])  # fmt: skip
def test_damage_is_named(path, value, message):
    with pytest.raises(DecisionsError, match=message):
        parse(change(path, value))


def places(value, path=()):
    """Paths of all members below a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in entries:
        yield (*path, key)
        yield from places(member, (*path, key))


def test_any_damage_is_a_clear_error_or_none():
    content = records.content(1)
    records.price(content)
    rng = random.Random(0)
    paths = list(places(json.loads(json.dumps(content))))
    refused = 0
    for _ in range(500):
        path = rng.choice(paths)
        damaged = json.loads(json.dumps(content))
        place = damaged
        for key in path[:-1]:
            place = place[key]
        value = rng.choice([None, True, -1, 1e400, "", "x", [], [{}], {}, {"lhs": {}}])
        if rng.random() < 0.3:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        try:
            found = parse(damaged)
            # What is accepted can be shown: no error is left for later.
            list(explain.summary(found))
            list(explain.details(found, "encoder"))
            page_data(found, None)
        except DecisionsError:
            refused += 1
    assert 100 < refused < 500


@pytest.mark.parametrize("text", ["", "[1, 2", "\xff\xfe", "[" * 100000, "9" * 5000])
def test_files_that_are_no_records(tmp_path, text):
    path = tmp_path / "d.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DecisionsError, match="d.json: not a decision record"):
        load(path)
    path.write_text(json.dumps([1]))
    with pytest.raises(DecisionsError, match="d.json: format is None"):
        load(path)
