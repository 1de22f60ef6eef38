# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Metrics of one product against an independent NumPy + ml_dtypes computation, and their properties."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_reference import (
    Format,
    Names,
    fnv,
    histogram,
    product_f32,
    quantize,
    reference,
    statistics,
    transposed,
    words,
)
from mpt.measure import Draw, measure_product, rounded_product
from mpt.runtime import Error

ROOT = Path(__file__).resolve().parents[2]
BE = ("be_median", "be_p99", "be_max")
VALUES = (*BE, "sqnr_db", "cosine", "rel_var", "loss_mse")
LOSSES = ("flushed", "saturated")
GRANULARITIES = ("per_tensor", "per_vector", "block128", "mx")
STORAGES = ("f8E4M3FN", "f8E5M2", "i8")
BF16 = Format("bf16")
# Examples do not change from run to run.
ALWAYS_THE_SAME = settings(deadline=None, derandomize=True, database=None)


def operand(rng, *shape, tail=1.0):
    """Values over many binades, some zero."""
    x = rng.standard_normal(shape) * np.exp(tail * rng.standard_normal(shape))
    return np.where(rng.random(shape) < 0.05, 0, x).astype(np.float32)


def text(*pairs):
    return ",".join(f"{left.text}*{right.text}" for left, right in pairs)


def check_statistics(found, x):
    expected = statistics(x)
    low, counts = found["exponents"]["low"], found["exponents"]["counts"]
    assert {low + i: count for i, count in enumerate(counts) if count} == histogram(x)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-300, nan_ok=True), name


def check_candidate(found, expected):
    for name in VALUES:
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    # A sum with signs: relative to what it sums up.
    assert found["loss_shift"] == pytest.approx(expected["loss_shift"], rel=1e-6, abs=1e-6 * expected["loss_mse"] ** 0.5)
    for name in LOSSES:
        assert found[name] == pytest.approx(expected[name], rel=1e-9), name


def check(lhs, rhs, pairs, *, names=Names(), histories=((), ()), **options):
    """Measure everything, and compare each number with the reference's."""
    gradient = np.random.default_rng(1).standard_normal((*lhs.shape[:-1], rhs.shape[-1]), np.float32)
    found = measure_product(
        lhs,
        rhs,
        text(*pairs),
        loss_gradient=gradient,
        seed=names.seed,
        draw=Draw(names.product, names.step, 0, names.round),
        histories=histories,
        **options,
    )
    check_statistics(found["lhs"], lhs)
    check_statistics(found["rhs"], transposed(rhs))
    assert len(found["candidates"]) == len(pairs)
    for (left, right), candidate in zip(pairs, found["candidates"]):
        assert (candidate["lhs"], candidate["rhs"]) == (left.text, right.text)
        check_candidate(candidate, reference(lhs, rhs, left, right, gradient, names, histories))
    return found


@pytest.mark.parametrize("m,n,k", [(1, 1, 1), (8, 16, 128), (37, 50, 100), (9, 17, 129), (140, 33, 300)])
@pytest.mark.parametrize("threads", [1, 2])
def test_nearest_equals_the_reference(m, n, k, threads):
    rng = np.random.default_rng([m, n, k])
    lhs, rhs = operand(rng, m, k) + 1, operand(rng, k, n, tail=3.0) + 1
    formats = [Format(storage, scale) for storage in STORAGES for scale in GRANULARITIES]
    pairs = [(BF16, BF16), *zip(formats, formats), (formats[0], formats[4]), (formats[9], formats[2])]
    check(lhs, rhs, pairs, threads=threads)


@pytest.mark.parametrize("k", [32, 101, 290])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_stochastic_equals_the_reference(k, granularity):
    rng = np.random.default_rng(k)
    lhs, rhs = operand(rng, 3, 21, k), operand(rng, 3, k, 19)
    formats = [Format(storage, granularity, stochastic=True) for storage in STORAGES]
    pairs = [(Format("bf16", stochastic=True), BF16), *zip(formats, reversed(formats))]
    check(lhs, rhs, pairs, names=Names(product=77, step=5, round=3, seed=2**40 + 9), threads=2)


def bert_products():
    """(lhs, rhs, gradient operand, d loss / d result) of all products of a BERT's step, from PyTorch."""
    import models
    import torch
    from torch.overrides import TorchFunctionMode

    class Captured(TorchFunctionMode):
        """Keeps the operands and the results of products."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is torch.nn.functional.linear:
                seen.append((args[0].flatten(0, -2), args[1].T, result))
            elif function in (torch.matmul, torch.Tensor.matmul):
                seen.append((*args, result))
            else:
                return result
            result.retain_grad()
            return result

    seen: list = []
    shape = dataclasses.replace(models.SHAPES["tinyA"], layers=1, ffn=112, vocab=150)
    model = models.build(shape, fresh=False)
    with Captured():
        model(**models.make_batch(shape)).loss.backward()
    for lhs, rhs, result in seen:
        lhs, rhs = lhs.detach().numpy(), rhs.detach().numpy()
        gradient = result.grad.numpy().reshape(*lhs.shape[:-1], rhs.shape[-1])
        yield lhs, rhs, "none", gradient
        yield gradient, transposed(rhs), "lhs", None
        yield transposed(lhs), gradient, "rhs", None


def default_format(written):
    """A format of the default candidates from its text."""
    scale = "per_vector" if "per_vector" in written else "per_tensor"
    fmt = Format(written.split("[")[0], scale, "stochastic" in written)
    assert fmt.text == written
    return fmt


def test_products_of_a_bert_step_equal_the_reference():
    """Every product and every default candidate."""
    count = 0
    for lhs, rhs, side, gradient in bert_products():
        found = measure_product(lhs, rhs, gradient=side, loss_gradient=gradient)
        check_statistics(found["lhs"], lhs)
        check_statistics(found["rhs"], transposed(rhs))
        for candidate in found["candidates"]:
            left, right = default_format(candidate["lhs"]), default_format(candidate["rhs"])
            expected = reference(lhs, rhs, left, right, gradient)
            if gradient is None:
                assert np.isnan(candidate["loss_mse"]) and np.isnan(candidate["loss_shift"])
                candidate |= {name: expected[name] for name in ("loss_mse", "loss_shift")}
            check_candidate(candidate, expected)
            count += 1
    assert count == (6 + 2 + 2) * (5 + 2 * 12)  # of a layer, of attention, of the head; candidates by role


def test_stochastic_draws_differ_by_every_name():
    rng = np.random.default_rng(2)
    lhs, rhs = operand(rng, 30, 64), operand(rng, 64, 30)
    fmt = Format("i8", stochastic=True)
    found = set()
    for names in (Names(), Names(product=1), Names(step=1), Names(round=1), Names(seed=1)):
        (candidate,) = check(lhs, rhs, [(fmt, fmt)], names=names)["candidates"]
        found.add(candidate["sqnr_db"])
    assert len(found) == 5


def test_stochastic_rounding_is_unbiased_where_nearest_is_not():
    """Small entries that nearest turns to zero survive on average."""
    lhs = np.full((1, 256), 0.3, np.float32)
    lhs[0, 0] = 127
    rhs = np.ones((256, 1), np.float32)
    exact = lhs.astype(np.float64).sum()
    draws = [rounded_product(lhs, rhs, "i8[stochastic]*f32", draw=Draw(round=r))[0, 0] for r in range(200)]
    deviation = np.sqrt(255 * 0.3 * 0.7 / 200)
    assert abs(np.mean(draws) - exact) < 4 * deviation
    assert rounded_product(lhs, rhs, "i8*f32")[0, 0] == 127


@pytest.mark.parametrize("transpose", ["", "lhs", "rhs", "both"])
def test_strides(transpose):
    rng = np.random.default_rng(7)
    lhs, rhs = operand(rng, 3, 2, 20, 40), operand(rng, 3, 2, 40, 30)
    if transpose in ("lhs", "both"):
        lhs = transposed(np.ascontiguousarray(transposed(lhs)))
    if transpose in ("rhs", "both"):
        rhs = np.ascontiguousarray(rhs.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    formats = [Format("i8", scale) for scale in GRANULARITIES]
    check(lhs, rhs, list(zip(formats, formats)), threads=2)


def test_recipes():
    rng = np.random.default_rng(8)
    lhs, rhs = operand(rng, 40, 70), operand(rng, 70, 30)
    histories = ((100.0, 0.5, 0.125, float("inf"), 0.25), (3.0,))
    fixed, delayed = Format("f8E5M2", fixed=1.0), Format("f8E4M3FN", delayed=3, margin=1)
    pairs = [(fixed, Format("i8", margin=2)), (delayed, delayed), (Format("i8", fixed=0.125), fixed)]
    pairs += [(Format("i8", "per_vector", margin=3), Format("i8", "block128", margin=1))]
    found = check(lhs, rhs, pairs, histories=histories)
    assert found["candidates"][1]["saturated"][0] > 0  # by a history of smaller amaxes
    plain = check(lhs, rhs, [(Format("f8E4M3FN"), Format("f8E4M3FN"))])["candidates"][0]
    for empty in ((), (0.0,), (float("nan"),)):
        own = measure_product(lhs, rhs, "f8E4M3FN[delayed=4]*f8E4M3FN[delayed=4]", histories=(empty, empty))
        assert own["candidates"][0]["sqnr_db"] == plain["sqnr_db"]


def test_moments_are_sound_far_from_zero():
    """A mean 10^4 standard deviations from zero, in which raw sums of powers would drown."""
    rng = np.random.default_rng(9)
    x = (1000 + 0.1 * rng.standard_normal((300, 200)) ** 3).astype(np.float32)
    found = measure_product(x, x.T, "f32*f32", rows=8, columns=8, threads=2)
    check_statistics(found["lhs"], x)
    assert found["lhs"] == measure_product(x, x.T, "f32*f32", rows=8, columns=8, threads=1)["lhs"]
    head = x.copy()
    head[0, :64] = 3e7  # nothing like the rest of its block
    head[200, :70] = np.nan
    check_statistics(measure_product(head, x.T, "f32*f32", rows=8, columns=8)["lhs"], head)
    constant = measure_product(np.full((9, 9), 0.1, np.float32), x[:9, :9], "f32*f32")["lhs"]
    assert constant["variance"] == 0 and np.isnan(constant["kurtosis"])


def test_broadcast_operand_is_counted_once():
    rng = np.random.default_rng(8)
    lhs, rhs = operand(rng, 4, 6, 10), operand(rng, 10, 5)
    found = measure_product(lhs, np.broadcast_to(rhs, (4, 10, 5)))
    check_statistics(found["rhs"], rhs.T)


def test_excluded_elements():
    rng = np.random.default_rng(9)
    lhs, rhs = operand(rng, 12, 30), operand(rng, 30, 8)
    lhs[3:] = 0
    assert check(lhs, rhs, [(Format("i8"), Format("i8"))])["excluded"] == 0.75


def test_all_zero_operand_is_a_documented_result():
    gradient = np.ones((4, 4), np.float32)
    formats = [Format("i8", scale) for scale in GRANULARITIES]
    for zeros, ones in ((0, 1), (1, 0)):
        lhs, rhs = np.full((4, 8), ones, np.float32), np.full((8, 4), zeros, np.float32)
        found = measure_product(lhs, rhs, text(*zip(formats, formats)), loss_gradient=gradient)
        assert found["excluded"] == 1
        empty = found["rhs" if zeros == 0 else "lhs"]
        assert empty["amax"] == 0 and empty["min_nonzero"] == 0 and empty["zeros"] == empty["elements"] == 32
        assert empty["exponents"] == {"low": 0, "counts": []} and empty["along"] == empty["across"] == [0, 0, 0]
        for candidate in found["candidates"]:
            assert all(np.isnan(candidate[name]) for name in (*BE, "sqnr_db", "cosine", "rel_var"))
            assert candidate["loss_mse"] == candidate["loss_shift"] == 0
            assert candidate["flushed"] == candidate["saturated"] == [0, 0]


def test_nonfinite_elements_are_counted():
    rng = np.random.default_rng(10)
    lhs, rhs = operand(rng, 16, 20), operand(rng, 20, 16)
    lhs[2, 3], lhs[2, 4], lhs[5, 0] = np.nan, np.inf, -np.inf
    formats = [Format(storage, scale) for storage in STORAGES for scale in GRANULARITIES]
    found = measure_product(lhs, rhs, text((BF16, BF16), *zip(formats, formats)), loss_gradient=np.ones((16, 16), np.float32))
    check_statistics(found["lhs"], lhs)
    assert found["excluded"] == pytest.approx(2 / 16)  # rows 2 and 5
    for candidate in found["candidates"]:
        assert all(np.isfinite(candidate[name]) for name in (*BE, "sqnr_db", "cosine", "rel_var"))
        assert candidate["be_median"] > 0
    # The scale of a tensor with infinity in it is 1; a vector without keeps its own.
    clean = np.delete(lhs, (2, 5), axis=0)
    expected = reference(clean, rhs, Format("i8", "per_vector"), Format("i8", "per_vector"))
    per_vector = found["candidates"][1 + formats.index(Format("i8", "per_vector"))]
    assert per_vector["be_max"] == pytest.approx(expected["be_max"], rel=1e-6)
    nothing = measure_product(np.full((4, 4), np.nan, np.float32), rhs[:4, :4])
    assert nothing["excluded"] == 1 and nothing["lhs"]["nans"] == 16 and nothing["lhs"]["amax"] == 0


def test_results_beyond_f32_are_infinitely_wrong():
    """BF16 rounds what is above its maximum to infinity: such an element counts with the largest error."""
    lhs, rhs = np.full((8, 1), 1.0, np.float32), np.full((1, 8), 0.3, np.float32)
    lhs[0, 0] = np.finfo(np.float32).max
    (candidate,) = measure_product(lhs, rhs, "bf16*bf16")["candidates"]
    assert np.isnan(candidate["be_max"]) and np.isnan(candidate["sqnr_db"])  # null: not a number that JSON has
    clean = measure_product(lhs[1:], rhs, "bf16*bf16")["candidates"][0]
    assert candidate["be_median"] == clean["be_median"] and candidate["saturated"] == [1 / 8, 0]


@pytest.mark.parametrize(
    "storage,limit,lost",
    [("f8E4M3FN", 464, 0), ("f8E5M2", 61440, 1), ("i8", 127.5, 1)],  # halfway beyond the maximum; to even
)
@pytest.mark.parametrize("granularity", ["fixed=1", "fixed=1,stochastic", "per_vector"])
def test_saturated_begins_where_rounding_leaves_the_range(storage, limit, lost, granularity):
    near = np.float32([limit, np.nextafter(np.float32(limit), np.float32(0)), np.nextafter(np.float32(limit), np.float32(1e9))])
    rhs = np.ones((3, 1), np.float32)
    (candidate,) = measure_product(near[None], rhs, f"{storage}[{granularity}]*f32")["candidates"]
    expected = 0 if granularity == "per_vector" else (1 + lost) / 3  # its own scale brings it into the range
    assert candidate["saturated"] == [pytest.approx(expected), 0]


def test_a_result_of_minus_zero_has_no_error():
    """f32 makes -0 of what f64 cancels to 0: an element like others, with backward error 0."""
    lhs, rhs = np.full((1, 2), 2.0**-100, np.float32), np.array([[2.0**-100], [-(2.0**-100)]], np.float32)
    (candidate,) = measure_product(lhs, rhs, "f32*f32")["candidates"]
    assert np.signbit(rounded_product(lhs, rhs, "f32*f32")).all()
    assert [candidate[name] for name in BE] == [0, 0, 0]


def test_planted_outliers_and_underflow_show_where_they_should():
    rng = np.random.default_rng(11)
    lhs, rhs = rng.standard_normal((64, 64), np.float32), rng.standard_normal((64, 64), np.float32)
    pairs = "i8*i8,i8[per_vector]*i8[per_vector],f8E5M2*f8E5M2,f8E4M3FN[fixed=1]*f8E4M3FN"
    plain = measure_product(lhs, rhs, pairs)["candidates"]
    outlier = lhs.copy()
    outlier[0, 0] = 1e4
    tensor, vector, e5m2, fixed = measure_product(outlier, rhs, pairs)["candidates"]
    assert plain[0]["flushed"][0] < 0.05 and tensor["flushed"][0] > 0.9
    assert tensor["be_median"] > 10 * plain[0]["be_median"]
    assert vector["be_median"] < 1.2 * plain[1]["be_median"]  # only row 0 suffers
    assert e5m2["be_median"] < 1.2 * plain[2]["be_median"]  # range enough
    assert fixed["saturated"] == [1 / 4096, 0] and plain[3]["saturated"] == [0, 0]
    tiny = lhs.copy()
    tiny[:32] *= 2.0**-40
    tensor, vector, e5m2, fixed = measure_product(tiny, rhs, pairs)["candidates"]
    assert tensor["flushed"][0] > 0.5 and vector["flushed"][0] < 0.05
    assert 0.4 < e5m2["flushed"][0] <= 0.5 and fixed["flushed"][0] >= 0.5


@settings(ALWAYS_THE_SAME, max_examples=25)
@given(seed=st.integers(0, 2**32), left=st.integers(-30, 30), right=st.integers(-30, 30), default=st.booleans())
def test_scaling_by_powers_of_two_leaves_errors(seed, left, right, default):
    rng = np.random.default_rng(seed)
    lhs, rhs = operand(rng, 10, 40), operand(rng, 40, 9)
    candidates = None if default else text(*((Format(s, g), Format(s, g)) for s in STORAGES for g in GRANULARITIES))
    first = measure_product(lhs, rhs, candidates, gradient="rhs")["candidates"]
    scaled = (lhs * np.float32(2.0**left), rhs * np.float32(2.0**right))
    assert measure_product(*scaled, candidates, gradient="rhs")["candidates"] == first


@settings(ALWAYS_THE_SAME, max_examples=25)
@given(seed=st.integers(0, 2**32), k=st.integers(2, 150))
def test_permuting_the_contraction_changes_little(seed, k):
    """Scales of whole vectors do not see the order; only the f32 sums do.

    Each sum of k terms is off by at most k 2^-24 of the sum of its terms' magnitudes, which is at
    most four times the bound that errors are relative to: rounding at most doubles an operand.
    """
    rng = np.random.default_rng(seed)
    lhs, rhs = operand(rng, 7, k), operand(rng, k, 6)
    order = rng.permutation(k)
    formats = [Format(s, g) for s in STORAGES for g in ("per_tensor", "per_vector")]
    pairs = text(*zip(formats, formats))
    first = measure_product(lhs, rhs, pairs)["candidates"]
    for a, b in zip(first, measure_product(lhs[:, order], rhs[order], pairs)["candidates"]):
        for name in BE:
            assert a[name] == pytest.approx(b[name], abs=2 * 4 * k * 2.0**-24)
        assert a["flushed"] == b["flushed"]


@settings(ALWAYS_THE_SAME, max_examples=20)
@given(m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 140), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_exact_equals_a_sample_of_everything(m, n, k, batch, seed):
    rng = np.random.default_rng([m, n, k])
    lhs, rhs = operand(rng, batch, m, k), operand(rng, batch, k, n)
    gradient = operand(rng, batch, m, n)
    options = {"loss_gradient": gradient, "gradient": "lhs", "seed": seed, "sketch": 100}
    exact = measure_product(lhs, rhs, **options)
    # Each batch element gets a part of the rows times columns that is as square as fits.
    side = max(m, n)
    sampled = measure_product(lhs, rhs, rows=batch * side, columns=side, threads=2, **options)
    assert str(sampled) == str(exact)  # NaN equals NaN


def common(values, exact, axis):
    """The one index along `axis` of `exact` that has all of `values`."""
    indices = set.intersection(*(set(np.nonzero(exact == value)[axis].tolist()) for value in values))
    (index,) = indices
    return index


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_sample_is_measured_on_its_own_elements(granularity):
    rng = np.random.default_rng(14)
    lhs, rhs, gradient = operand(rng, 300, 164), operand(rng, 164, 110), operand(rng, 300, 110)
    exact = (lhs.astype(np.float64) @ rhs.astype(np.float64)).astype(np.float32)
    fmt, nearest = Format("i8", granularity, stochastic=True), Format("i8", granularity)
    seen = []
    for batch, seed in ((0, 0), (1, 0), (0, 1)):
        options = {"rows": 16, "columns": 12, "draw": Draw(batch=batch), "seed": seed, "sketch": 1000}
        found = measure_product(lhs, rhs, text((fmt, nearest)), loss_gradient=gradient, **options)
        result = np.array(found["result"], np.float32).reshape(16, 12)
        rows = [common(row, exact, 0) for row in result]
        columns = [common(column, exact, 1) for column in result.T]
        assert rows == sorted(set(rows)) and columns == sorted(set(columns))
        seen.append((rows, columns))
        (candidate,) = found["candidates"]
        expected = reference(lhs, rhs, fmt, nearest, gradient, Names(seed=seed), part=np.ix_(rows, columns))
        for name in VALUES:
            assert candidate[name] == pytest.approx(expected[name], rel=1e-6), name
        assert np.isnan(candidate["loss_shift"])  # of a sample it would say nothing
        sampled = quantize(lhs, fmt, "lhs", Names(seed=seed)).values[rows]
        flushed = ((sampled == 0) & (lhs[rows] != 0)).sum() / (lhs[rows] != 0).sum()
        assert candidate["flushed"][0] == pytest.approx(flushed, rel=1e-9)
        again = measure_product(lhs, rhs, text((fmt, nearest)), loss_gradient=gradient, threads=2, **options)
        assert str(again) == str(found)
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_batched_sample_covers_all_elements():
    rng = np.random.default_rng(15)
    lhs, rhs = operand(rng, 4, 3, 40, 32), operand(rng, 4, 3, 32, 48)
    lhs[2] = 0
    assert measure_product(lhs, rhs, rows=64, columns=64)["excluded"] == 0.25
    for rows, columns, size in ((2 * 12, 0, 24 * 48), (0, 3 * 12, 40 * 36)):  # one of them: all of the other
        found = measure_product(lhs, rhs, rows=rows, columns=columns, sketch=10**6)
        assert 0.9 * size <= len(found["result"]) <= size


def test_a_sample_of_very_many_batch_elements():
    """4,096 of them; scales, random words and gradients are those of the elements that were chosen."""
    rng = np.random.default_rng(16)
    lhs, rhs = rng.standard_normal((4200, 6, 3), np.float32), rng.standard_normal((4200, 3, 5), np.float32)
    gradient = operand(rng, 4200, 6, 5)
    left, right = Format("i8", "per_vector", stochastic=True), Format("f8E4M3FN", "block128")
    options = {"loss_gradient": gradient, "rows": 256, "columns": 256, "sketch": 10**6}
    found = measure_product(lhs, rhs, text((left, right)), **options)
    exact = (lhs.astype(np.float64) @ rhs.astype(np.float64)).astype(np.float32)
    holders: dict[float, set[int]] = {}
    for place, value in np.ndenumerate(exact):
        holders.setdefault(float(value), set()).add(place[0])
    parts = np.array(found["result"], np.float32).reshape(4096, 4, 4)
    elements = [set.intersection(*(holders[value] for value in part.ravel().tolist())).pop() for part in parts]
    assert elements == sorted(set(elements)) and elements != list(range(4096))
    rows = np.array([[common(row, exact[e], 0) for row in part] for e, part in zip(elements, parts)])
    columns = np.array([[common(column, exact[e], 1) for column in part.T] for e, part in zip(elements, parts)])
    assert len(np.unique(rows, axis=0)) == 15 and len(np.unique(columns, axis=0)) == 5  # all choices of 4 of 6, of 5
    place = np.array(elements)[:, None, None], rows[:, :, None], columns[:, None, :]
    expected = reference(lhs, rhs, left, right, gradient, part=place)
    for name in VALUES:
        assert found["candidates"][0][name] == pytest.approx(expected[name], rel=1e-6), name


# Sketches.


def sketched(x, d, seed):
    """The definition in include/mpt/Metrics/Sketch.h."""
    fmt = Format("")
    bits = words(-(-x.size // 32), fmt, "sketch.sign", Names(product=0x811C9DC5, seed=seed))
    signs = 1 - 2 * ((bits[:, None] >> np.arange(32)) & 1).ravel()[: x.size].astype(np.int64)
    rotations = words(-(-x.size // d), fmt, "sketch.rotation", Names(product=0x811C9DC5, seed=seed))
    result = np.zeros(d)
    for i, value in enumerate(x.tolist()):
        rotation = int(rotations[i // d]) * d >> 32
        result[(i + rotation) % d] += signs[i] * value
    return result


@pytest.mark.parametrize("d", [7, 100, 1500])
def test_sketches(d):
    rng = np.random.default_rng(d)
    lhs, rhs = operand(rng, 33, 40), operand(rng, 40, 41)
    options = {"candidates": "i8*i8", "seed": 2**35 + 1}
    whole = measure_product(lhs, rhs, sketch=33 * 41, **options)
    exact = lhs.astype(np.float64) @ rhs.astype(np.float64)
    assert np.allclose(whole["result"], exact.ravel(), rtol=1e-6)
    rounded = product_f32(quantize(lhs, Format("i8")).values, quantize(rhs.T, Format("i8")).values.T)
    assert np.allclose(whole["candidates"][0]["error"], (rounded - exact).ravel(), rtol=1e-5, atol=1e-12)
    found = measure_product(lhs, rhs, sketch=d, **options)
    if d >= 33 * 41:
        assert found == whole
        return
    assert np.allclose(found["result"], sketched(np.array(whole["result"]), d, options["seed"]), rtol=1e-4, atol=1e-4)
    error = np.array(whole["candidates"][0]["error"])
    assert np.allclose(found["candidates"][0]["error"], sketched(error, d, options["seed"]), rtol=1e-3, atol=1e-5)


# Products of rounded operands.


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("transpose", ["", "lhs", "rhs", "both"])
def test_rounded_product_equals_numpy(stochastic, granularity, transpose):
    rng = np.random.default_rng(3)
    lhs, rhs = operand(rng, 2, 2, 139, 150), operand(rng, 2, 2, 150, 70)
    lhs = transposed(np.ascontiguousarray(transposed(lhs))) if transpose in ("lhs", "both") else lhs
    rhs = transposed(np.ascontiguousarray(transposed(rhs))) if transpose in ("rhs", "both") else rhs
    names = Names(product=fnv("layer", 0x811C9DC5), step=2, round=1)
    left, right = Format("f8E4M3FN", granularity), Format("i8", granularity, stochastic)
    values = quantize(lhs, left).values, transposed(quantize(transposed(rhs), right, "rhs", names).values)
    expected = rounded_product(*values, "f32*f32")
    draw = Draw(names.product, names.step, 0, names.round)
    for workspace in (0, 400_000, 90_000, 1):
        found = rounded_product(lhs, rhs, text((left, right)), draw=draw, workspace=workspace, threads=2)
        assert np.array_equal(found, expected), workspace


def test_rounded_product_of_a_broadcast_operand():
    rng = np.random.default_rng(4)
    lhs, rhs = operand(rng, 3, 5, 20, 30), operand(rng, 5, 30, 40)
    every = np.broadcast_to(rhs, (3, 5, 30, 40))
    for fmt in (Format("i8", "per_vector"), Format("i8", stochastic=True), Format("f8E4M3FN", "mx")):
        values = quantize(lhs, fmt).values, transposed(quantize(transposed(every), fmt, "rhs").values)
        found = rounded_product(lhs, every, text((fmt, fmt)))
        assert np.array_equal(found, rounded_product(*values, "f32*f32"))


def test_unrounded_product_is_the_plain_one():
    rng = np.random.default_rng(5)
    lhs, rhs = operand(rng, 20, 30), operand(rng, 30, 40)
    assert np.array_equal(rounded_product(lhs, rhs, "f32*f32"), product_f32(lhs, rhs))
    assert np.array_equal(rounded_product(lhs[::2, ::3], rhs[::3, ::2], "f32*f32"), product_f32(lhs[::2, ::3], rhs[::3, ::2]))


# Candidates.


def test_default_candidates():
    x = np.ones((2, 2), np.float32)

    def names(gradient):
        found = measure_product(x, x, gradient=gradient)["candidates"]
        return [(c["lhs"], c["rhs"]) for c in found]

    e4m3, e5m2, vector = "f8E4M3FN", "f8E5M2", "[per_vector]"
    assert set(names("none")) == {
        ("bf16", "bf16"), (e4m3, e4m3), (e4m3 + vector, e4m3 + vector), ("i8", "i8"), ("i8" + vector, "i8" + vector)
    }  # fmt: skip
    stochastic = "[stochastic]", "[per_vector,stochastic]"
    expected = set(names("none")) | {(e4m3, e5m2), (e4m3 + vector, e5m2 + vector), (e4m3, e5m2 + stochastic[0])}
    for storage in (e4m3, "i8"):
        expected |= {(storage, storage + stochastic[0]), (storage + vector, storage + stochastic[1])}
    assert set(names("rhs")) == expected and len(names("rhs")) == 12
    assert names("lhs") == [(right, left) for left, right in names("rhs")]


def test_candidates_on_request():
    x = np.ones((2, 2), np.float32)
    canonical = "f8E4M3FN[delayed=16,margin=1]*f8E5M2[fixed=0.25]"
    asked = f"{canonical},i8[per_vector,stochastic,current]*bf16,i8[stochastic,mx]*i8[nearest,per_tensor],f32*bf16"
    found = [f"{c['lhs']}*{c['rhs']}" for c in measure_product(x, x, asked)["candidates"]]
    assert found == [canonical, "i8[per_vector,stochastic]*bf16", "i8[mx,stochastic]*i8", "f32*bf16"]
    (swapped,) = measure_product(x, x, "bf16*f8E5M2", gradient="lhs")["candidates"]
    assert (swapped["lhs"], swapped["rhs"]) == ("f8E5M2", "bf16")


@pytest.mark.parametrize(
    "candidates,why",
    [
        ("", "'' is not a pair"),
        ("bf16", "'bf16' is not a pair"),
        ("fp8*bf16", "format 'fp8' is none of"),
        ("i8[per_row]*i8", "option 'per_row' is none of"),
        ("i8[*i8", "not a pair"),
        ("i8[]*i8", "option '' is none of"),
        ("i8[mx*i8", "not a pair"),
        ("bf16*i8[mx", "does not end in ']'"),
        ("i8[fixed=x]*i8", "'x' is not a number"),
        ("i8[fixed=-1]*i8", "the scale is -1, expected a finite number of at least 2^-126"),
        ("i8[fixed=0]*i8", "the scale is 0, expected a finite number"),
        ("i8[fixed=1e-40]*i8", "expected a finite number of at least 2^-126"),
        ("i8[fixed=inf]*i8", "expected a finite number"),
        ("i8[delayed=0]*i8", "history is 0, expected 1 to"),
        ("i8[delayed=2,per_vector]*i8", "delayed and fixed scales are per tensor"),
        ("i8[margin=99]*i8", "margin is 99, expected 0 to 60"),
        ("i8[mx,margin=1]*i8", "margin is 1, expected 0"),
        ("bf16[per_vector]*i8", "bf16 takes no scale"),
        ("bf16[fixed=2]*i8", "bf16 takes no scale"),
        ("f32[stochastic]*i8", "f32 is not rounded"),
    ],
)
def test_candidates_that_cannot_be_read(candidates, why):
    x = np.ones((2, 2), np.float32)
    with pytest.raises(Error, match=re.escape(why)):
        measure_product(x, x, candidates)


def test_refused_arrays():
    x = np.ones((2, 3), np.float32)
    for lhs, rhs in ((x.astype(np.float64), x.T), (x, x), (x[0], x.T), (x, np.ones((2, 3, 2), np.float32))):
        with pytest.raises(Error, match="expected float32|do not make a product"):
            measure_product(lhs, rhs)
    with pytest.raises(Error, match="m is 0, expected at least 1"):
        measure_product(x[:0], x.T)
    with pytest.raises(Error, match="rows is -1"):
        measure_product(x, x.T, rows=-1)
    with pytest.raises(Error, match="has stride -3"):
        measure_product(x[::-1], x.T)
    packed = np.zeros(6, [("x", np.float32), ("y", np.uint8)])["x"].reshape(2, 3)
    with pytest.raises(Error, match="expected multiples of 4"):
        measure_product(packed, x.T)
    with pytest.raises(Error, match="loss_gradient is"):
        measure_product(x, x.T, loss_gradient=x)
    with pytest.raises(Error, match="gradient is 'result'"):
        measure_product(x, x.T, gradient="result")
    with pytest.raises(Error, match="2 candidates, expected 1"):
        rounded_product(x, x.T, "i8*i8,bf16*bf16")


# The bound that thresholds are multiples of.


def bound_table():
    header = (ROOT / "include/mpt/Precision/NormalBackwardError.h").read_text()
    rows = re.findall(r"\{(\d+), \{([\d.e-]+), ([\d.e-]+)\}\}", header)
    return {int(k): (float(median), float(p99)) for k, median, p99 in rows}


def test_bound_table_is_complete():
    assert sorted(bound_table()) == [2**i for i in range(4, 15)]


@pytest.mark.parametrize("k", [16, 64, 512, 2048])
def test_bound_table(k):
    rng = np.random.default_rng([99, k])
    found = []
    for _ in range(2):
        lhs, rhs = rng.standard_normal((256, k), np.float32), rng.standard_normal((k, 256), np.float32)
        (candidate,) = measure_product(lhs, rhs, "f8E4M3FN*f8E4M3FN", threads=2)["candidates"]
        found.append([candidate["be_median"], candidate["be_p99"]])
    assert np.mean(found, axis=0) == pytest.approx(bound_table()[k], rel=0.05)
