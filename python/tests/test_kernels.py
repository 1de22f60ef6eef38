# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Compiled kernels (test/Target/CPU/kernels.mlir) against NumPy and, bit for bit, against the numerics."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from mpt.stages import find_tool
from test_numerics import BF16, E4M3, E5M2, INT8, Numerics, library_path

DTYPES = {
    "f32": np.dtype(np.float32),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "i1": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f8E4M3FN": np.dtype(ml_dtypes.float8_e4m3fn),
    "f8E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
GUARD = 64  # bytes after each result that a kernel must not touch


class Library:
    """The kernels of one .mlir file, compiled."""

    def __init__(self, source: Path, directory: Path, *options: str) -> None:
        command = [find_tool("mpt-build"), source, "--kernels-only", "-o", directory, *options]
        subprocess.run(list(map(str, command)), check=True)
        description = json.loads((directory / "kernels.json").read_text())
        self.kernels = {kernel["symbol"]: kernel for kernel in description["kernels"]}
        self.library = ctypes.CDLL(str(directory / "kernels.so"))

    def run(self, name: str, *arguments: np.ndarray, in_place: dict | None = None, split: bool = False) -> list:
        """Return the kernel's results; `in_place` maps results to arguments whose buffer they take."""
        kernel = self.kernels[name]
        inputs = []
        for argument, value in zip(kernel["arguments"], arguments, strict=True):
            value = np.array(value, DTYPES[argument["dtype"]], order="C")
            assert value.shape == tuple(argument["shape"]), (name, value.shape, argument["shape"])
            inputs.append(value)
        outputs, buffers = [], []
        for i, result in enumerate(kernel["results"]):
            if i in (in_place or {}):
                outputs.append(inputs[in_place[i]])
                continue
            dtype = DTYPES[result["dtype"]]
            size = int(np.prod(result["shape"], dtype=np.int64)) * dtype.itemsize
            buffer = np.full(size + GUARD, 0xA5, np.uint8)
            buffers.append((buffer, size))
            outputs.append(buffer[:size].view(dtype).reshape(result["shape"]))
        pointers = (ctypes.c_void_p * (len(inputs) + len(outputs)))(*[a.ctypes.data for a in inputs + outputs])
        function = getattr(self.library, name)
        tasks = kernel["tasks"]
        for begin, end in [(t, t + 1) for t in range(tasks)] if split else [(0, tasks)]:
            function(pointers, ctypes.c_int64(begin), ctypes.c_int64(end))
        for buffer, size in buffers:
            assert (buffer[size:] == 0xA5).all(), f"{name} wrote past the end of a result"
        return [output.copy() for output in outputs]


@pytest.fixture(scope="module", params=["host", "x86-64-v3"])
def kernels(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Library:
    """The kernels of kernels.mlir, for this CPU and for one with narrower vectors."""
    source = Path(__file__).resolve().parents[2] / "test" / "Target" / "CPU" / "kernels.mlir"
    return Library(source, tmp_path_factory.mktemp("kernels"), f"--cpu={request.param}")


@pytest.fixture(scope="module")
def numerics() -> Numerics:
    """The numerics, which the kernels must reproduce bit for bit."""
    return Numerics(library_path())


@pytest.fixture
def rng() -> np.random.Generator:
    """Reproducible inputs."""
    return np.random.default_rng(3)


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Return normally distributed f32 values."""
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare as bytes, NaN with NaN."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[actual.dtype.itemsize]
    nan = np.isnan(actual.astype(np.float32)) & np.isnan(expected.astype(np.float32))
    different = (actual.view(kind) != expected.view(kind)) & ~nan
    assert not different.any(), f"{different.sum()} of {actual.size} differ, first at {np.argwhere(different)[0]}"


def close(actual: np.ndarray, expected: np.ndarray, rtol: float = 2e-6, atol: float = 2e-6) -> None:
    """Compare with the f64 value of the same formula."""
    np.testing.assert_allclose(actual.astype(np.float64), expected, rtol, atol)


def rows(function: str, numerics: Numerics, x: np.ndarray) -> np.ndarray:
    """Return the row reduction of each row, in the defined order."""
    flat = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
    reduce = getattr(numerics.library, f"mpt_num_row_{function}")
    reduce.restype = ctypes.c_float
    values = [reduce(ctypes.c_void_p(row.ctypes.data), ctypes.c_size_t(row.size)) for row in flat]
    return np.array(values, np.float32).reshape(*x.shape[:-1], 1)


def columns(numerics: Numerics, x: np.ndarray) -> np.ndarray:
    """Return the chunk sums of a matrix, in the defined order."""
    sums = []
    for begin in range(0, len(x), 64):
        chunk = np.ascontiguousarray(x[begin : begin + 64])
        total = np.empty(x.shape[1], np.float32)
        numerics.call("column_sums", chunk, len(chunk), x.shape[1], total)
        sums.append(total)
    return np.array(sums)


SPECIALS = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, 88.7, -103.9], np.float32)


@pytest.mark.parametrize("split", [False, True])
def test_bias_gelu(kernels: Library, numerics: Numerics, rng: np.random.Generator, split: bool) -> None:
    """A bias is broadcast along rows."""
    x, b = normal(rng, 64, 96, scale=3), normal(rng, 96)
    (y,) = kernels.run("bias_gelu", x, b, split=split)
    same_bits(y, numerics.map("gelu", x + b))


def test_flattened(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Without broadcasting all elements are one row, whose end is no multiple of 32."""
    x, s = normal(rng, 3, 7, 11, scale=3), np.float32(1.5)
    (y,) = kernels.run("gelu_flat", x, s)
    same_bits(y, numerics.map("gelu", x * s))


def test_functions(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Elementary functions have the bits of the host's."""
    x = normal(rng, 5, 33, scale=4)
    x.flat[: SPECIALS.size] = SPECIALS
    exp, log, sqrt, tanh, erf, neg, dx = kernels.run("functions", x)
    same_bits(exp, numerics.map("exp", x))
    same_bits(log, numerics.map("log", exp))
    same_bits(sqrt, np.sqrt(exp))
    same_bits(tanh, numerics.map("tanh", x))
    same_bits(erf, numerics.map("erf", x))
    same_bits(neg, -x)
    with np.errstate(all="ignore"):
        same_bits(dx, -x * numerics.map("gelu_grad", x))


def test_softmax(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Three phases; the exponentials are kept in a row buffer; a mask is broadcast over the middle dim."""
    x, mask = normal(rng, 4, 6, 45, scale=5), np.where(rng.random((4, 1, 45)) < 0.2, -1e9, 0).astype(np.float32)
    (y,) = kernels.run("softmax", x, mask)
    e = numerics.map("exp", (t := x * np.float32(0.125) + mask) - rows("max", numerics, t))
    same_bits(y, e * (np.float32(1) / rows("sum", numerics, e)))
    close(y.sum(-1), np.ones((4, 6)))
    (again,) = kernels.run("softmax", x, mask, in_place={0: 0})
    same_bits(again, y)


def layer_norm(numerics: Numerics, x: np.ndarray, g: np.ndarray, b: np.ndarray) -> tuple:
    """Return y, mean and rstd by the defining primitives."""
    n = np.float32(1) / np.float32(x.shape[-1])
    mean = rows("sum", numerics, x) * n
    centred = x - mean
    rstd = np.float32(1) / np.sqrt(rows("sum", numerics, centred * centred) * n + np.float32(1e-5))
    return centred * rstd * g + b, mean, rstd


@pytest.mark.parametrize("split", [False, True])
def test_layer_norm(kernels: Library, numerics: Numerics, rng: np.random.Generator, split: bool) -> None:
    """Full and per-row results."""
    x, g, b = normal(rng, 4, 32, 96), normal(rng, 96), normal(rng, 96)
    expected = layer_norm(numerics, x, g, b)
    for actual, value in zip(kernels.run("layer_norm", x, g, b, split=split), expected, strict=True):
        same_bits(actual, value)
    close(expected[0], (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * g + b, 1e-5, 1e-5)


@pytest.mark.parametrize("split", [False, True])
def test_layer_norm_grad(kernels: Library, numerics: Numerics, rng: np.random.Generator, split: bool) -> None:
    """Row reductions and chunk sums in one kernel."""
    x, g, dy = normal(rng, 3, 50, 70), normal(rng, 70), normal(rng, 3, 50, 70)
    _, mean, rstd = layer_norm(numerics, x, g, g)
    dx, dgamma, dbeta = kernels.run("layer_norm_grad", x, g, mean, rstd, dy, split=split)
    xhat, dg, n = (x - mean) * rstd, dy * g, np.float32(1 / 70)
    inner = dg - rows("sum", numerics, dg) * n - xhat * (rows("sum", numerics, dg * xhat) * n)
    same_bits(dx, rstd * inner)
    same_bits(dgamma, columns(numerics, (dy * xhat).reshape(150, 70)))
    same_bits(dbeta, columns(numerics, dy.reshape(150, 70)))
    (again, _, _) = kernels.run("layer_norm_grad", x, g, mean, rstd, dy, in_place={0: 4})
    same_bits(again, dx)


def test_cross_entropy(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Over a vocabulary: three reductions in two loops, and the mean from chunk sums."""
    x, labels = normal(rng, 70, 30522, scale=4), rng.integers(0, 30522, 70)
    labels[::7] = -100
    lse, loss, count = kernels.run("cross_entropy", x, labels)
    peak = rows("max", numerics, x)
    expected = peak + numerics.map("log", rows("sum", numerics, numerics.map("exp", x - peak)))
    same_bits(lse, expected)
    valid = labels != -100
    picked = np.where(valid, x[np.arange(70), np.where(valid, labels, 0)], np.float32(0))[:, None]
    same_bits(loss, columns(numerics, np.where(valid[:, None], expected - picked, np.float32(0))))
    same_bits(count, columns(numerics, valid[:, None].astype(np.float32)))
    mean, total = kernels.run("mean_loss", loss, count)
    assert total == valid.sum() and mean == np.float32(loss[0, 0] + loss[1, 0]) / total


def test_logits_grad(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """softmax - onehot, scaled, zero where ignored; and its chunk sums."""
    x, labels = normal(rng, 70, 999), rng.integers(0, 999, 70)
    labels[::5] = -100
    lse = np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True)).astype(np.float32)
    dx, sums = kernels.run("logits_grad", x, labels, lse, np.float32(56))
    onehot = (np.arange(999) == labels[:, None]).astype(np.float32)
    weight = np.where(labels[:, None] != -100, np.float32(1) / np.float32(56), np.float32(0))
    expected = (numerics.map("exp", x - lse) - onehot) * weight
    same_bits(dx, expected)
    same_bits(sums, columns(numerics, expected))


def test_dropout(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """The mask is that of the element's logical index, in groups of four draws or one by one."""
    seed, step, id = np.int64(-(2**40) - 5), np.int64(77), np.int64(123456)
    for name, shape in (("dropout", (6, 64)), ("dropout_rows", (6, 35))):
        x, other = normal(rng, *shape), normal(rng, *(shape if name == "dropout" else (shape[1],)))
        value = x if name == "dropout" else x + other
        expected = np.empty_like(value)
        arguments = (value, expected, value.size, ctypes.c_double(0.75), 0)
        numerics.call("dropout", *arguments, ctypes.c_uint32(int(id)), ctypes.c_uint32(77), int(seed) % 2**64)
        if name == "dropout":
            (y,) = kernels.run(name, x, other, seed, step, id)
            same_bits(y, expected + other)
        else:
            (y,) = kernels.run(name, x.T, other, seed, step, id)
            same_bits(y, expected)
        assert 0.1 < (expected == 0).mean() < 0.4


@pytest.mark.parametrize("skip", [False, True])
def test_adamw(kernels: Library, rng: np.random.Generator, skip: bool) -> None:
    """The update runs in the buffers of what it updates."""
    p, g, m = (normal(rng, 17, 40) for _ in range(3))
    v = normal(rng, 17, 40) ** 2
    lr, clip, c1, c2 = np.float32(0.01), np.float32(0.5), np.float32(0.271), np.float32(0.003)
    arguments = (p, g, m, v, lr, clip, c1, c2, np.bool_(skip))
    fresh = kernels.run("adamw", *arguments)
    for actual, expected in zip(kernels.run("adamw", *arguments, in_place={0: 0, 1: 2, 2: 3}), fresh, strict=True):
        same_bits(actual, expected)
    if skip:
        for actual, expected in zip(fresh, (p, m, v), strict=True):
            same_bits(actual, expected)
        return
    p, g, m, v = (x.astype(np.float64) for x in (p, g * clip, m, v))
    new_m, new_v = m + (g - m) * 0.1, v * 0.999 + 0.001 * g * g
    update = lr / c1 * new_m / (np.sqrt(new_v) / np.sqrt(c2) + 1e-8)
    for actual, expected in zip(fresh, (p * (1 - lr * 0.01) - update, new_m, new_v), strict=True):
        close(actual, expected)


def test_formats(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Codes and values as the numerics define them."""
    x, scale = normal(rng, 4, 80, scale=200), np.float32(3.0)
    x.flat[: SPECIALS.size] = SPECIALS
    codes = kernels.run("quantize", x, scale)
    for code, format, factor in zip(codes, (E4M3, E5M2, INT8, BF16), (scale,) * 3 + (1.0,), strict=True):
        expected = numerics.encode(format, x, float(factor))
        assert (code.view(expected.dtype) == expected).all()
    everything = np.arange(256, dtype=np.uint8)
    wide = (np.arange(256) * 257).astype(np.uint16)
    inputs = [everything.view(DTYPES[d]) for d in ("f8E4M3FN", "f8E5M2", "i8")] + [wide.view(DTYPES["bf16"])]
    inverse = np.float32(1) / scale
    for y, code in zip(kernels.run("dequantize", *inputs, inverse), inputs, strict=True):
        factor = np.float32(1) if code.dtype == DTYPES["bf16"] else inverse
        same_bits(y, code.astype(np.float32) * factor)


def test_scale(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """amax per row, its scale and the inverse."""
    x = normal(rng, 9, 50, scale=10)
    x[1], x[2, 3], x[3, 49] = 0, np.inf, np.nan
    amax, scale, inverse = kernels.run("amax_scale", x)
    same_bits(amax, np.abs(x).max(-1, keepdims=True))
    expected = [numerics.library.mpt_num_scale(E4M3, ctypes.c_float(a)) for a in amax.flat]
    same_bits(scale, np.array(expected, np.float32)[:, None])
    same_bits(inverse, np.float32(1) / scale)


def test_embeddings(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Gathers, a slice and a normalisation in one kernel."""
    words, positions, types = normal(rng, 100, 64), normal(rng, 16, 64), normal(rng, 2, 64)
    g, b = normal(rng, 64), normal(rng, 64)
    ids, type_ids = rng.integers(0, 100, (3, 8)), rng.integers(0, 2, (3, 8))
    (y,) = kernels.run("embeddings", words, positions, types, ids, type_ids, g, b)
    same_bits(y, layer_norm(numerics, words[ids] + types[type_ids] + positions[4:12], g, b)[0])


def test_views(kernels: Library, rng: np.random.Generator) -> None:
    """Reductions over leading axes of an argument, and views that become index arithmetic."""
    x, s = normal(rng, 5, 77), np.float32(0.3)
    (y,) = kernels.run("sum_chunks", x, s)
    same_bits(y, ((((x[0] + x[1]) + x[2]) + x[3]) + x[4]) * s)
    x, b = normal(rng, 2, 8, 48), normal(rng, 48)
    (y,) = kernels.run("split_heads", x, b)
    same_bits(y, np.ascontiguousarray((x + b).reshape(2, 8, 3, 16).transpose(0, 2, 1, 3)))
    (back,) = kernels.run("merge_heads", y, b)
    same_bits(back, ((x + b) + b).reshape(16, 48))


def test_segments(kernels: Library, numerics: Numerics, rng: np.random.Generator) -> None:
    """Rows that lie in memory in several runs."""
    for name, width in (("merged_rows", 32), ("merged_rows_short", 15)):
        x = normal(rng, 2, 3, 8, width)
        y, total = kernels.run(name, x)
        expected = -x.transpose(0, 2, 1, 3).reshape(16, 3 * width)
        same_bits(y, expected)
        same_bits(total, rows("sum", numerics, expected))


def test_logic(kernels: Library, rng: np.random.Generator) -> None:
    """Booleans take a byte; integers and conversions."""
    a, m, i = normal(rng, 7, 40, scale=9), rng.random((7, 40)) < 0.5, rng.integers(-9, 9, 40).astype(np.int32)
    both, chosen, integers = kernels.run("logic", a, m, i)
    assert (both == ((a > 0) & ~m)).all()
    same_bits(chosen, np.where(both, i.astype(np.float32), a))
    assert (integers == chosen.astype(np.int64)).all()


class ChainWriter:
    """Writes a kernel of random views and elementwise ops, and computes what it must return."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self.name, self.rng, self.lines, self.count = name, rng, [], 0
        self.inputs: list[np.ndarray] = []
        self.value = self.new_input(tuple(int(n) for n in rng.choice([1, 2, 3, 4, 8, 33, 64], rng.integers(1, 4))))
        self.name_of_value = "%a0"

    def new_input(self, shape: tuple) -> np.ndarray:
        """Add an argument of random values."""
        self.inputs.append(normal(self.rng, *shape))
        return self.inputs[-1]

    @staticmethod
    def type_of(value: np.ndarray) -> str:
        """Return the tensor type."""
        return f"tensor<{''.join(f'{n}x' for n in value.shape)}f32>"

    def emit(self, op: str, result: np.ndarray, attributes: str = "", *others: tuple[str, np.ndarray]) -> None:
        """Append an op on the current value, which becomes its result."""
        operands = [(self.name_of_value, self.value), *others]
        types = ", ".join(self.type_of(value) for _, value in operands)
        names = ", ".join(name for name, _ in operands)
        self.lines.append(f"  %{self.count} = mpt.{op} {names} {attributes} : ({types}) -> {self.type_of(result)}")
        self.value, self.name_of_value = np.ascontiguousarray(result).reshape(result.shape), f"%{self.count}"
        self.count += 1

    def step(self) -> None:
        """Append a random op."""
        x, rng = self.value, self.rng
        kind = rng.choice(["reshape", "transpose", "slice", "broadcast", "neg", "add"])
        if kind == "reshape":
            factors = [p for n in x.shape for p in (2, 3, 4, 8, 11, 32) if n % p == 0]
            divisor = int(rng.choice([1, *factors])) if factors else 1
            self.emit("reshape", x.reshape((divisor, -1) if rng.random() < 0.5 else (-1, divisor)))
        elif kind == "transpose":
            order = rng.permutation(x.ndim)
            self.emit("transpose", x.transpose(order), f"{{permutation = array<i64: {', '.join(map(str, order))}>}}")
        elif kind == "slice":
            sizes = [int(rng.integers(1, n + 1)) if rng.random() < 0.3 else n for n in x.shape]
            offsets = [int(rng.integers(0, n - size + 1)) for n, size in zip(x.shape, sizes, strict=True)]
            window = tuple(slice(o, o + size) for o, size in zip(offsets, sizes, strict=True))
            self.emit("slice", x[window], f"{{offsets = array<i64: {', '.join(map(str, offsets))}>}}")
        elif kind == "broadcast" and x.size < 10000:
            shape = (int(rng.integers(1, 4)), *(int(rng.choice([1, 5])) if n == 1 else n for n in x.shape))
            self.emit("broadcast", np.broadcast_to(x, shape))
        elif kind == "add":
            shape = tuple(1 if rng.random() < 0.4 else n for n in x.shape[int(rng.integers(0, x.ndim)) :])
            other = self.new_input(shape)
            self.emit("add", x + other, "", (f"%a{len(self.inputs) - 1}", other))
        else:
            self.emit("neg", -x)

    def text(self) -> str:
        """Return the function."""
        arguments = ", ".join(f"%a{i}: {self.type_of(value)}" for i, value in enumerate(self.inputs))
        result = self.type_of(self.value)
        head = f"func.func private @{self.name}({arguments}) -> {result} attributes {{mpt.kernel}} {{"
        return "\n".join([head, *self.lines, f"  return {self.name_of_value} : {result}", "}", ""])


def test_random_views(tmp_path: Path, rng: np.random.Generator) -> None:
    """Index arithmetic of composed views, in 200 kernels; few of them are refused."""
    chains = []
    for i in range(200):
        chain = ChainWriter(f"chain{i}", rng)
        for _ in range(int(rng.integers(1, 9))):
            chain.step()
        chains.append(chain)
    source = tmp_path / "chains.mlir"
    source.write_text("".join(chain.text() for chain in chains))
    command = [find_tool("mpt-opt"), source, "--test-mpt-kernel-model", "-o", "/dev/null"]
    messages = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False).stderr
    refused = set(re.findall(r"error: .* in kernel '(\w+)' cannot be expressed", messages))
    assert messages.count("error: ") == len(refused) < 20, messages[:2000]
    accepted = [chain for chain in chains if chain.name not in refused]
    source.write_text("".join(chain.text() for chain in accepted))
    library = Library(source, tmp_path)
    for chain in accepted:
        (y,) = library.run(chain.name, *chain.inputs, split=True)
        same_bits(y, chain.value)


ROW = """
func.func private @k{n}(%x: tensor<3x{n}xf32>) -> (tensor<3x1xf32>, tensor<3x1xf32>, tensor<1x{n}xf32>) attributes {{mpt.kernel}} {{
  %0 = mpt.reduce %x {{kind = #mpt.reduction<sum>, axes = array<i64: 1>}} : (tensor<3x{n}xf32>) -> tensor<3x1xf32>
  %1 = mpt.reduce %x {{kind = #mpt.reduction<max>, axes = array<i64: 1>}} : (tensor<3x{n}xf32>) -> tensor<3x1xf32>
  %2 = mpt.reduce_chunks %x : (tensor<3x{n}xf32>) -> tensor<1x{n}xf32>
  return %0, %1, %2 : tensor<3x1xf32>, tensor<3x1xf32>, tensor<1x{n}xf32>
}}
"""
LENGTHS = (1, 31, 32, 33, 768, 4097)


@pytest.mark.parametrize("cpu", ["host", "x86-64-v3"])
def test_reductions_bit_for_bit(tmp_path: Path, numerics: Numerics, rng: np.random.Generator, cpu: str) -> None:
    """Sums have the bits of Numerics/Reduce.h, whatever vectors the CPU has."""
    source = tmp_path / "rows.mlir"
    source.write_text("".join(ROW.format(n=n) for n in LENGTHS))
    library = Library(source, tmp_path, f"--cpu={cpu}")
    for n in LENGTHS:
        x = normal(rng, 3, n, scale=100) * np.exp2(rng.integers(-20, 20, (3, n))).astype(np.float32)
        total, peak, chunks = library.run(f"k{n}", x)
        same_bits(total, rows("sum", numerics, x))
        same_bits(peak, rows("max", numerics, x))
        same_bits(chunks, columns(numerics, x))
