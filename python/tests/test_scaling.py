# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Recipes, rounding and granularity of scales in a step, and the flag that skips one.

The outside truth is NumPy with ml_dtypes: what a product computes from operands that are rounded
under the scale which the recipe says, and the scales themselves over several steps.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from graphs import GRADIENT_SCALE
from mpt import numerics, sentinels, stages
from mpt.runtime import Package
from safetensors.numpy import save_file

M, K, N = 32, 48, 16
MAXIMA = {"f8E4M3FN": 448.0, "f8E5M2": 57344.0, "i8": 127.0}
DTYPES = {"f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2}


def held(x: np.ndarray, storage: str, scale: np.ndarray | np.float32) -> np.ndarray:
    """Return x held in `storage` under `scale`, to nearest even, as the product reads it."""
    scale = np.asarray(scale, np.float32)
    scaled = np.clip(x * scale, -MAXIMA[storage], MAXIMA[storage])
    codes = np.rint(scaled) if storage == "i8" else scaled.astype(DTYPES[storage])
    return (codes.astype(np.float32) * (np.float32(1) / scale)).astype(np.float64)


def scale_of(x: np.ndarray, storage: str, axes: tuple[int, ...] | None = None) -> np.ndarray:
    """Return MAX / amax over `axes` (kept), as f32 divides."""
    return np.float32(MAXIMA[storage]) / np.abs(x).max(axis=axes, keepdims=axes is not None)


STEP = """
func.func @gradient(%w: {W} {{mpt.name = "w", mpt.kind = #mpt.kind<parameter>}},
                    %in: {X} {{mpt.name = "in", mpt.kind = #mpt.kind<input>}},
                    %c: {Y} {{mpt.name = "c", mpt.kind = #mpt.kind<input>}})
    -> (tensor<f32> {{mpt.name = "loss"}}, {W} {{mpt.name = "w"}}) {{
  %x = mpt.mul %in, %in {{mpt.name = "x"}} : ({X}, {X}) -> {X}
  %xf = mpt.cast %x {{mpt.name = "x/cast"}} : ({X}) -> {XF}
  %wf = mpt.cast %w {{mpt.name = "w/cast"}} : ({W}) -> {WF}
  %y = mpt.matmul %xf, %wf {{{more}mpt.name = "layer", role = #mpt.role<fprop>}} : ({XF}, {WF}) -> {Y}
  %l = mpt.mul %y, %c {{mpt.name = "loss"}} : ({Y}, {Y}) -> {Y}
  %s = mpt.reduce %l {{axes = array<i64: 0, 1>, kind = #mpt.reduction<sum>, mpt.name = "loss"}} : ({Y}) -> tensor<1x1xf32>
  %loss = mpt.reshape %s : (tensor<1x1xf32>) -> tensor<f32>
  %xg = mpt.cast %x {{mpt.name = "x/cast"}} : ({X}) -> {XG}
  %cg = mpt.cast %c {{mpt.name = "c/cast"}} : ({Y}) -> {CG}
  %dw = mpt.matmul %xg, %cg {{mpt.name = "layer/wgrad", role = #mpt.role<wgrad>, transpose_lhs}} : ({XG}, {CG}) -> {W}
  return %loss, %dw : tensor<f32>, {W}
}}
"""


class Layer:
    """loss = sum((x·w) * c) with x = in * in, and the weight's gradient xᵀ·c.

    The products hold x in `x` and `xg`, w in `w` and c in `c`: what stands in #mpt.format<...>.
    """

    def __init__(self, directory: Path, x: str, w: str, xg: str, c: str, more: str = "") -> None:
        rng = np.random.default_rng(7)
        self.directory = directory
        self.w = rng.uniform(-1, 1, (K, N)).astype(np.float32)
        self.x = (rng.standard_normal((M, K)) ** 2).astype(np.float32)
        self.c = rng.standard_normal((M, N)).astype(np.float32)
        shapes = {"X": f"{M}x{K}", "W": f"{K}x{N}", "Y": f"{M}x{N}"}
        types = {key: f"tensor<{shape}xf32>" for key, shape in shapes.items()}
        for key, of, text in (("XF", "X", x), ("WF", "W", w), ("XG", "X", xg), ("CG", "Y", c)):
            types[key] = f"tensor<{shapes[of]}xf32, #mpt.format<{text}>>"
        (directory / "gradient.mlir").write_text(STEP.format(more=more, **types))
        save_file({"w": self.w}, directory / "gradient.safetensors")

    def build(self, *passes: str) -> Package:
        step = self.directory / "step.mlir"
        stages.optimise(
            self.directory / "gradient.mlir", step, ["--mpt-add-optimizer=max-grad-norm=0", *passes]
        )
        stages.build(step, self.directory / "package", "cpu", "reference")
        return Package(self.directory / "package", threads=2)

    def batch(self, x: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the inputs with which x has (up to rounding in f32) the value `x`."""
        self.inputs = np.sqrt(self.x if x is None else x)
        return {"in": self.inputs, "c": self.c}

    @property
    def seen(self) -> np.ndarray:
        """x as the step computed it from the last batch."""
        with np.errstate(over="ignore"):
            return self.inputs * self.inputs


def run(package: Package, batch: dict[str, np.ndarray], seed: int = 0) -> tuple[dict, np.ndarray]:
    """Return a step's results and the weight's gradient; the weight stays as it is."""
    package.view("w/m")[...] = 0
    result = package.step(batch, lr=0.0, seed=seed)
    return result, package.read("w/m").astype(np.float64) / GRADIENT_SCALE


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


#
# Recipes.
#


def test_fixed(tmp_path: Path) -> None:
    fixed = "recipe = fixed, value = 64.0"
    layer = Layer(tmp_path, f"f8E4M3FN, {fixed}", "f8E4M3FN, recipe = fixed", f"f8E5M2, {fixed}", f"i8, {fixed}")
    result, gradient = run(layer.build(), layer.batch())
    y = held(layer.seen, "f8E4M3FN", 64) @ held(layer.w, "f8E4M3FN", 1)
    assert result["loss"] == pytest.approx((y * layer.c).sum(), rel=1e-5)
    assert_close(gradient, held(layer.seen, "f8E5M2", 64).T @ held(layer.c, "i8", 64))


def test_delayed_by_one_step_is_current_of_the_step_before(tmp_path: Path) -> None:
    delayed = "f8E4M3FN, recipe = delayed, history = 1"
    layer = Layer(tmp_path, delayed, "f8E4M3FN", delayed, "f8E5M2")
    package = layer.build()
    rng, before = np.random.default_rng(0), np.float32(1)
    w, c = layer.w, layer.c
    for size in (1.0, 30.0, 0.01, 5.0):
        result, gradient = run(package, layer.batch((size * rng.random((M, K))).astype(np.float32)))
        x = held(layer.seen, "f8E4M3FN", before)
        y = x @ held(w, "f8E4M3FN", scale_of(w, "f8E4M3FN"))
        assert result["loss"] == pytest.approx((y * c).sum(), rel=1e-5)
        assert_close(gradient, x.T @ held(c, "f8E5M2", scale_of(c, "f8E5M2")))
        before = scale_of(layer.seen, "f8E4M3FN")
        assert package.read("x/scale.f8E4M3FN") == before
    # Nothing to measure: the scale stays.
    run(package, layer.batch(np.zeros((M, K), np.float32)))
    assert package.read("x/scale.f8E4M3FN") == before


def test_history_is_a_window_of_maxima(tmp_path: Path) -> None:
    delayed = "f8E5M2, recipe = delayed, history = 3, margin = 2"
    package, seen = Layer(tmp_path, delayed, "f8E4M3FN", delayed, "f8E4M3FN").build(), []
    host = numerics.DelayedScale("f8E5M2", length=3, margin=2)
    c = np.ones((M, N), np.float32)
    for amax in (4.0, 64.0, 9.0, 0.25, 1.0, 0.0625, 0.015625, 36.0):
        x = np.full((M, K), np.sqrt(amax) / 4, np.float32)
        x[3, 5] = -np.sqrt(amax)
        run(package, {"in": x, "c": c})
        seen.append(amax)
        assert package.read("x/scale.f8E5M2") == np.float32(57344 / 4) / np.float32(max(seen[-3:]))
        assert package.read("x/scale.f8E5M2") == host.update(amax)
        np.testing.assert_array_equal(package.read("x/amax_history.f8E5M2"), host.history)
    assert sorted(package.read("x/amax_history.f8E5M2")) == sorted(seen[-3:])


def test_first_scale_is_the_profiles(tmp_path: Path) -> None:
    delayed = "f8E4M3FN, recipe = delayed, history = 4"
    layer = Layer(tmp_path, delayed, "f8E4M3FN", delayed, "bf16", more="mpt.amax = array<f32: 3.5, 9.0>, ")
    package = layer.build()
    assert package.read("x/scale.f8E4M3FN") == 448 / 3.5
    assert (package.read("x/amax_history.f8E4M3FN") == 3.5).all()
    result, _ = run(package, layer.batch())
    y = held(layer.seen, "f8E4M3FN", 128) @ held(layer.w, "f8E4M3FN", scale_of(layer.w, "f8E4M3FN"))
    assert result["loss"] == pytest.approx((y * layer.c).sum(), rel=1e-5)


#
# Granularity, storage, rounding.
#


@pytest.mark.parametrize("storage", MAXIMA)
def test_scales_along_the_contraction(tmp_path: Path, storage: str) -> None:
    row, column = f"{storage}, scale = per_row", f"{storage}, scale = per_column"
    layer = Layer(tmp_path, row, column, column, column)
    x = (layer.x * np.logspace(-2, 2, M)[:, None]).astype(np.float32)
    result, gradient = run(layer.build(), layer.batch(x))

    def rows(value: np.ndarray) -> np.ndarray:
        return held(value, storage, scale_of(value, storage, (1,)))

    def columns(value: np.ndarray) -> np.ndarray:
        return held(value, storage, scale_of(value, storage, (0,)))

    y = rows(layer.seen) @ columns(layer.w)
    assert result["loss"] == pytest.approx((y * layer.c).sum(), rel=1e-5)
    assert_close(gradient, columns(layer.seen).T @ columns(layer.c))


def test_stochastic_rounding_keeps_the_mean(tmp_path: Path) -> None:
    """The mean gradient of many draws is that of the unrounded operand; to nearest it is not."""
    stochastic = "f8E5M2, rounding = stochastic"
    layer = Layer(tmp_path, "f32", "f32", "f32", stochastic)
    package, draws = layer.build(), 64
    gradients = np.stack([run(package, layer.batch(), seed)[1] for seed in range(draws)])
    exact = layer.seen.astype(np.float64).T @ layer.c
    nearest = layer.seen.T @ held(layer.c, "f8E5M2", scale_of(layer.c, "f8E5M2"))
    spread = np.sqrt(((gradients - exact) ** 2).mean())
    rest = np.sqrt(((gradients.mean(axis=0) - exact) ** 2).mean())
    assert np.sqrt(((nearest - exact) ** 2).mean()) > spread / 2
    # 1/8 is expected of 64 independent draws.
    assert rest < spread / 5
    # Bits come from seed and step: the same ones again in a new run, others in another step.
    again = Package(tmp_path / "package", threads=1)
    np.testing.assert_array_equal(run(again, layer.batch(), 0)[1], gradients[0])
    assert (run(again, layer.batch(), 0)[1] != gradients[0]).any()


@pytest.mark.parametrize("storage", ["bf16", *MAXIMA])
def test_stochastic_codes_are_neighbours(tmp_path: Path, storage: str) -> None:
    """With c a unit matrix the gradient is x as it is held: each element one of the two nearest codes."""
    layer = Layer(tmp_path, "f32", "f32", f"{storage}, rounding = stochastic", "f32")
    layer.c = np.eye(M, N, dtype=np.float32)
    _, gradient = run(layer.build(), layer.batch(), seed=3)
    x, found = layer.seen[:N].astype(np.float64), gradient.T
    scale = np.float64(1) if storage == "bf16" else np.float64(scale_of(layer.seen, storage))
    if storage == "i8":
        step = np.ones_like(x)
    else:
        bits, least = {"bf16": (7, -133), "f8E4M3FN": (3, -9), "f8E5M2": (2, -16)}[storage]
        step = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(x * scale, 1e-300))) - bits, least)
    down = np.floor(x * scale / step)
    # The gradient is read from AdamW's first moment, which rounds it once more.
    offset = found * scale / step - down
    # The bits are those of the host's numerics: element by element, in the stream of name, step and seed.
    draws = numerics.Draws(f"x/cast.{storage}", step=0, seed=3)
    expected = numerics.round_trip(layer.seen, storage, float(scale), rounding="stochastic", draws=draws)
    np.testing.assert_allclose(found, expected[:N], rtol=1e-6, atol=0)
    up = np.abs(offset - 1) < 1e-3
    assert (up | (np.abs(offset) < 1e-3)).all()
    assert abs((up - (x * scale / step - down)).mean()) < 4 * 0.5 / np.sqrt(x.size)


#
# Steps that are skipped, sentinels.
#


@pytest.mark.parametrize("storage", MAXIMA)
def test_hidden_overflow_skips_the_step(tmp_path: Path, storage: str) -> None:
    """x overflows to infinity; its codes saturate, so loss and gradient are finite, but nothing is updated."""
    delayed = f"{storage}, recipe = delayed, history = 4"
    layer = Layer(tmp_path, delayed, delayed, delayed, "f8E5M2")
    package = layer.build()
    assert package.step(layer.batch(), lr=1e-2)["skipped"] is False
    before = package.state()
    inputs = layer.batch()
    inputs["in"][2, 3] = 1e30
    result = package.step(inputs, lr=1e-2)
    assert np.isfinite([result["loss"], result["grad_norm"]]).all()
    assert result["skipped"] is True
    for name, value in package.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    # The infinity is in no history: the next step goes on as if it had not been.
    assert package.step(layer.batch(), lr=1e-2)["skipped"] is False
    assert np.isfinite(package.read(f"x/scale.{storage}"))
    assert any((value != before[name]).any() for name, value in package.state().items())


def test_overflowing_gradient_skips_the_step(tmp_path: Path) -> None:
    delayed = "f8E4M3FN, recipe = delayed, history = 4"
    layer = Layer(tmp_path, delayed, delayed, delayed, "f8E5M2")
    package = layer.build()
    package.step(layer.batch(), lr=1e-2)
    before = package.state()
    layer.c = np.full((M, N), 3e38, np.float32)
    result = package.step(layer.batch(), lr=1e-2)
    assert not np.isfinite(result["grad_norm"])
    assert result["skipped"] is True
    for name, value in package.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_sentinels_count_what_is_lost(tmp_path: Path) -> None:
    fixed = "recipe = fixed"
    layer = Layer(tmp_path, f"f8E4M3FN, {fixed}", "f8E4M3FN", f"f8E5M2, {fixed}", "bf16")
    package = layer.build("--mpt-materialize-formats=sentinels")
    x = layer.x.copy()
    x[0, :7] = 500  # above 448, and 464 as well; E5M2 holds it
    x[1, :4] = 460  # rounds to 448
    x[2, :5] = 1e-6  # below half of the least E4M3 and E5M2
    x[3, :2] = 3e-4  # only below E4M3's
    x[4, :3] = 0
    inputs = layer.batch(x)
    inputs["in"][5, :6] = 1e30
    result, _ = run(package, inputs)
    counts = {name: value for name, value in result.items() if "/cast." in name}
    own = {name: int(value) for name, value in counts.items() if name.startswith("x/")}
    seen = layer.seen[np.isfinite(layer.seen)]

    def flushed(dtype: type) -> int:
        return int(((seen != 0) & (seen.astype(dtype).astype(np.float32) == 0)).sum())

    assert flushed(ml_dtypes.float8_e4m3fn) >= 7
    assert own == {
        "x/cast.f8E4M3FN/saturated": 7,
        "x/cast.f8E4M3FN/flushed": flushed(ml_dtypes.float8_e4m3fn),
        "x/cast.f8E4M3FN/non_finite": 6,
        "x/cast.f8E5M2/saturated": 0,
        "x/cast.f8E5M2/flushed": flushed(ml_dtypes.float8_e5m2),
        "x/cast.f8E5M2/non_finite": 6,
    }
    assert counts["w/cast.f8E4M3FN/saturated"] == 0
    assert not any(name.startswith("c/") for name in counts)


def test_sentinel_log(tmp_path: Path) -> None:
    layer = Layer(tmp_path, "f8E4M3FN, recipe = fixed, value = 4096.0", "f8E4M3FN", "bf16", "bf16")
    package = layer.build("--mpt-materialize-formats=sentinels")
    inputs, lost = layer.batch(), 0
    with sentinels.SentinelLog(tmp_path / "log.jsonl", every=2) as log:
        for step in range(5):
            inputs["in"][0, 0] = 1e30 if step == 3 else 0.5
            result = package.step(inputs, lr=0.0)
            assert set(sentinels.counts(result)) == {"x/cast.f8E4M3FN", "w/cast.f8E4M3FN"}
            log.add(result)
    lost = int((layer.seen[1:] * 4096 > 464).sum() + (layer.seen[0, 1:] * 4096 > 464).sum())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["steps"], line["skipped"]) for line in lines] == [(2, 2, 0), (4, 2, 1), (5, 1, 0)]
    found = [line["tensors"]["x/cast.f8E4M3FN"] for line in lines]
    assert [(entry["saturated"], entry["non_finite"]) for entry in found] == [
        (2 * (lost + 1), 0),
        (2 * lost + 1, 1),
        (lost + 1, 0),
    ]


#
# A BERT.
#

BERT = {
    "recipe = current": "recipe = delayed, history = 4",
    "f8E5M2, scale = per_tensor, recipe = delayed, history = 4": (
        "f8E5M2, scale = per_tensor, recipe = delayed, history = 4, rounding = stochastic"
    ),
}


@pytest.fixture(scope="module")
def bert(store, tmp_path_factory) -> Path:
    """A tiny BERT's step under HYBRID formats, delayed, gradients rounded stochastically."""
    directory = tmp_path_factory.mktemp("scaled_bert")
    stages.import_model(store.path("tinyA"), directory / "graph.mlir")
    passes = ["--mpt-differentiate", "--mpt-add-optimizer", "--assign-precision=policy=uniform"]
    stages.optimise(directory / "graph.mlir", directory / "step.mlir", passes)
    text = (directory / "step.mlir").read_text()
    for old, new in BERT.items():
        assert old in text
        text = text.replace(old, new)
    (directory / "step.mlir").write_text(text)
    stages.build(directory / "step.mlir", directory / "package", "cpu", "reference")
    return directory


def test_bits_are_the_same_again_and_after_resuming(store, bert: Path, tmp_path: Path) -> None:
    reference = store.reference("tinyA")
    batch = {name[6:]: value for name, value in reference.items() if name.startswith("batch.")}

    def train(package: Package, steps: int) -> list[float]:
        return [package.step(batch, lr=1e-3, seed=5)["loss"] for _ in range(steps)]

    whole, resumed = Package(bert / "package", threads=2), Package(bert / "package", threads=1)
    losses = train(whole, 7)
    assert losses[-1] < losses[0] - 0.5
    first = train(resumed, 3)
    resumed.save(tmp_path / "checkpoint.safetensors")
    resumed = Package(bert / "package", threads=2)
    resumed.load(tmp_path / "checkpoint.safetensors")
    assert first + train(resumed, 4) == losses
    state = resumed.state()
    assert sum("/amax_history." in name for name in state) > 20
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_gradients_without_an_update_leave_scales(store, bert: Path) -> None:
    reference = store.reference("tinyA")
    batch = {name[6:]: value for name, value in reference.items() if name.startswith("batch.")}
    package = Package(bert / "package", threads=2)
    package.step(batch, lr=1e-3, seed=5)
    before = package.state()
    loss, gradients = package.gradient(batch, seed=5)
    for name, value in package.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert np.isfinite(loss) and all(np.isfinite(value).all() for value in gradients.values())
    assert package.step(batch, lr=1e-3, seed=5)["loss"] == loss


def test_a_value_is_cast_once_per_format(bert: Path, tmp_path: Path) -> None:
    passes = ["--canonicalize", "--cse", "--mpt-materialize-formats"]
    stages.optimise(bert / "step.mlir", tmp_path / "codes.mlir", passes)
    pattern = r"= mpt\.quantize(?:_stochastic)? (%[\w#]+).*-> tensor<[\dx]*x(\w+)>"
    casts = re.findall(pattern, (tmp_path / "codes.mlir").read_text())
    assert len(casts) > 40
    assert len(set(casts)) == len(casts)
