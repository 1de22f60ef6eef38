# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The numerics of libmpt_runtime.so against ml_dtypes, ONNX Runtime, ONNX, PyTorch and NumPy."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

F32, BF16, E4M3, E5M2, INT8 = range(5)
STORAGE = {F32: np.float32, BF16: np.uint16, E4M3: np.uint8, E5M2: np.uint8, INT8: np.uint8}
ML_DTYPE = {BF16: ml_dtypes.bfloat16, E4M3: ml_dtypes.float8_e4m3fn, E5M2: ml_dtypes.float8_e5m2}
ONNX_TYPE = {
    BF16: onnx.TensorProto.BFLOAT16,
    E4M3: onnx.TensorProto.FLOAT8E4M3FN,
    E5M2: onnx.TensorProto.FLOAT8E5M2,
}
MAXIMUM = {E4M3: 448.0, E5M2: 57344.0, INT8: 127.0}
NAMES = {BF16: "bf16", E4M3: "e4m3", E5M2: "e5m2", INT8: "int8"}
FLOATS = [pytest.param(f, id=NAMES[f]) for f in (BF16, E4M3, E5M2)]
FLOAT8S = [pytest.param(f, id=NAMES[f]) for f in (E4M3, E5M2)]


def library_path() -> Path:
    """Return the runtime library: $MPT_RUNTIME_LIB, or the one in build/lib of the source tree."""
    if "MPT_RUNTIME_LIB" in os.environ:
        return Path(os.environ["MPT_RUNTIME_LIB"])
    return Path(__file__).resolve().parents[2] / "build" / "lib" / "libmpt_runtime.so"


class Numerics:
    """NumericsC.h over NumPy arrays."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            pytest.fail(f"runtime library: no file {path}; build it, or name it in MPT_RUNTIME_LIB")
        self.library = ctypes.CDLL(str(path))
        self.library.mpt_num_amax.restype = ctypes.c_float
        self.library.mpt_num_scale.restype = ctypes.c_float
        self.library.mpt_num_row_sum.restype = ctypes.c_float
        self.library.mpt_num_name_id.restype = ctypes.c_uint32

    def call(self, name: str, *arguments: object) -> float:
        """Call mpt_num_NAME: arrays by address, float as f32, int as 64 bits; -1 fails the test."""

        def convert(value: object) -> object:
            if isinstance(value, np.ndarray):
                assert value.flags.c_contiguous
                return ctypes.c_void_p(value.ctypes.data)
            if isinstance(value, float):
                return ctypes.c_float(value)
            return ctypes.c_uint64(value) if isinstance(value, int) else value

        result = getattr(self.library, f"mpt_num_{name}")(*map(convert, arguments))
        assert result != -1, f"mpt_num_{name} refused its arguments"
        return result

    def map(self, name: str, x: np.ndarray) -> np.ndarray:
        """Return mpt_num_NAME of each element."""
        y = np.empty_like(x)
        self.call(name, x, y, x.size)
        return y

    def encode(self, format: int, x: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Return the codes of x * scale."""
        codes = np.empty(x.shape, STORAGE[format])
        self.call("encode", ctypes.c_int(format), x, x.size, float(scale), codes)
        return codes

    def decode(self, format: int, codes: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Return the values of codes, divided by scale."""
        x = np.empty(codes.shape, np.float32)
        self.call("decode", ctypes.c_int(format), codes, codes.size, float(scale), x)
        return x


@pytest.fixture(scope="module")
def numerics() -> Numerics:
    return Numerics(library_path())


@pytest.fixture(scope="module")
def sweep() -> np.ndarray:
    """Four million f32 patterns, an odd stride apart, and what is near zero, one, infinity and NaN."""
    comb = np.arange(0, 2**32, 1023, dtype=np.uint64).astype(np.uint32)
    near = np.concatenate([np.arange(c - 64, c + 64) for c in (64, 0x3F800000, 0x7F800000, 0x7FFFFF00)])
    near = near.astype(np.uint32)
    return np.concatenate([comb, near, near | np.uint32(0x80000000)]).view(np.float32)


def assert_same_codes(format: int, ours: np.ndarray, theirs: np.ndarray, x: np.ndarray) -> None:
    """Compare codes; NaN is a class, whatever its sign and payload."""
    if format in ML_DTYPE:
        nan = np.isnan(ours.view(ML_DTYPE[format]).astype(np.float32))
        np.testing.assert_array_equal(nan, np.isnan(theirs.view(ML_DTYPE[format]).astype(np.float32)))
        ours, theirs, x = ours[~nan], theirs[~nan], x[~nan]
    wrong = np.flatnonzero(ours != theirs)
    examples = [(float(x[i]), hex(ours[i]), hex(theirs[i])) for i in wrong[:5]]
    assert wrong.size == 0, f"{wrong.size} codes differ; first (value, found, expected): {examples}"


def onnxruntime_run(node: onnx.NodeProto, x: np.ndarray, to: int, initializers: list) -> np.ndarray:
    """Run one node on x in ONNX Runtime and return the bytes of its result, of element type `to`."""
    import onnxruntime

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "cast",
        [value("x", onnx.TensorProto.FLOAT, [x.size])],
        [value("y", to, [x.size])],
        initializers,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    dtype = np.uint16 if to == onnx.TensorProto.BFLOAT16 else np.uint8
    y = np.empty(x.shape, dtype)
    binding.bind_output("y", "cpu", 0, to, x.shape, y.ctypes.data)
    session.run_with_iobinding(binding)
    return y


@pytest.mark.parametrize("format", FLOATS)
def test_decode_is_ml_dtypes(numerics: Numerics, format: int) -> None:
    codes = np.arange(65536 if format == BF16 else 256).astype(STORAGE[format])
    expected = codes.view(ML_DTYPE[format]).astype(np.float32)
    ours = numerics.decode(format, codes)
    np.testing.assert_array_equal(ours, expected)
    finite = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours[finite]), np.signbit(expected[finite]))


@pytest.mark.parametrize("format", FLOATS)
def test_encode_is_ml_dtypes_in_range(numerics: Numerics, sweep: np.ndarray, format: int) -> None:
    # ml_dtypes does not saturate: outside the range it is asked for the clipped value.
    limit = MAXIMUM.get(format, np.inf)
    with np.errstate(invalid="ignore"):  # NaNs are among the inputs
        expected = np.clip(sweep, -limit, limit).astype(ML_DTYPE[format]).view(STORAGE[format])
    assert_same_codes(format, numerics.encode(format, sweep), expected, sweep)


@pytest.mark.parametrize("format", FLOATS)
def test_encode_is_onnxruntime_cast(numerics: Numerics, sweep: np.ndarray, format: int) -> None:
    to = ONNX_TYPE[format]
    saturate = {"saturate": 1} if format != BF16 else {}
    node = onnx.helper.make_node("Cast", ["x"], ["y"], to=to, **saturate)
    theirs = onnxruntime_run(node, sweep, to, [])
    assert_same_codes(format, numerics.encode(format, sweep), theirs, sweep)


@pytest.mark.parametrize("format", FLOATS)
def test_decode_is_onnxruntime_cast(numerics: Numerics, format: int) -> None:
    import onnxruntime

    codes = np.arange(65536 if format == BF16 else 256).astype(STORAGE[format])
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT)
    inputs = [value("x", ONNX_TYPE[format], [codes.size])]
    outputs = [value("y", onnx.TensorProto.FLOAT, [codes.size])]
    graph = onnx.helper.make_graph([node], "cast", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, ONNX_TYPE[format], codes.shape, codes.ctypes.data)
    theirs = np.empty(codes.shape, np.float32)
    binding.bind_output("y", "cpu", 0, onnx.TensorProto.FLOAT, codes.shape, theirs.ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(numerics.decode(format, codes), theirs)


@pytest.mark.parametrize("format", FLOATS)
def test_encode_is_torch_in_range(numerics: Numerics, sweep: np.ndarray, format: int) -> None:
    import torch

    dtype = {BF16: torch.bfloat16, E4M3: torch.float8_e4m3fn, E5M2: torch.float8_e5m2}[format]
    x = sweep[np.isnan(sweep) | (np.abs(sweep) <= MAXIMUM.get(format, np.inf))]
    theirs = torch.from_numpy(x).to(dtype).view(torch.int16 if format == BF16 else torch.uint8)
    assert_same_codes(format, numerics.encode(format, x), theirs.numpy().view(STORAGE[format]), x)


@pytest.mark.parametrize("format", FLOAT8S)
def test_encode_is_onnx_reference_cast(numerics: Numerics, sweep: np.ndarray, format: int) -> None:
    from onnx.reference.ops.op_cast import cast_to

    x = sweep[::7].copy()
    with np.errstate(invalid="ignore"):
        theirs = np.asarray(cast_to(x, ONNX_TYPE[format], True)).view(np.uint8)
    assert_same_codes(format, numerics.encode(format, x), theirs, x)


def test_int8(numerics: Numerics, sweep: np.ndarray) -> None:
    codes = np.arange(256).astype(np.uint8)
    np.testing.assert_array_equal(numerics.decode(INT8, codes), codes.view(np.int8).astype(np.float32))
    ties = np.arange(-300, 300, dtype=np.float32) / 2
    x = np.concatenate([sweep, ties, np.nextafter(ties, np.float32(1e9)), np.nextafter(ties, np.float32(-1e9))])
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.rint(np.clip(x, -127, 127))).astype(np.int8).view(np.uint8)
    assert_same_codes(INT8, numerics.encode(INT8, x), expected, x)
    # ONNX Runtime has -128 too: compare where that does not matter.
    x = x[np.abs(x) <= 127]
    one = onnx.numpy_helper.from_array(np.float32(1), "one")
    zero = onnx.numpy_helper.from_array(np.int8(0), "zero")
    node = onnx.helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["y"])
    theirs = onnxruntime_run(node, x, onnx.TensorProto.INT8, [one, zero])
    assert_same_codes(INT8, numerics.encode(INT8, x), theirs, x)


@pytest.mark.parametrize("format", [pytest.param(f, id=NAMES[f]) for f in (E4M3, E5M2, INT8)])
def test_scale_contract(numerics: Numerics, format: int) -> None:
    x = (np.random.default_rng(0).standard_normal(10000) * 1e-3).astype(np.float32)
    amax = numerics.call("amax", x, x.size)
    assert amax == np.abs(x).max()
    scale = numerics.call("scale", ctypes.c_int(format), amax)
    assert scale == np.float32(MAXIMUM[format]) / np.float32(amax)
    codes = numerics.encode(format, x, scale)
    np.testing.assert_array_equal(codes, numerics.encode(format, x * np.float32(scale)))
    back = numerics.decode(format, codes, scale)
    inverse = np.float32(1) / np.float32(scale)
    np.testing.assert_array_equal(back, numerics.decode(format, codes) * inverse)
    half_step = {E4M3: 2**-4, E5M2: 2**-3, INT8: 0.5 / 127}[format]
    assert np.abs(back - x).max() <= 1.01 * half_step * amax
    for bad in (0.0, np.inf, np.nan):
        assert numerics.call("scale", ctypes.c_int(format), float(bad)) == 1.0
    smallest = float(np.float32(1e-45))
    assert numerics.call("scale", ctypes.c_int(format), smallest) == np.finfo(np.float32).max


def test_math_against_torch_in_double(numerics: Numerics, sweep: np.ndarray) -> None:
    import torch

    x = sweep[np.isfinite(sweep)]
    double = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    gelu = torch.nn.functional.gelu(double)
    (gelu_grad,) = torch.autograd.grad(gelu.sum(), double)
    double = double.detach()
    # (expected, bound in ulp, where): erf cancels in torch's GELU below -3, in double too by -8.
    bulk = x > -3
    far_from_root = (x > -0.5) & (np.abs(x) < 100)
    cases = {
        "exp": (torch.exp(double), 1.02, slice(None)),
        "log": (torch.log(double), 0.83, slice(None)),
        "tanh": (torch.tanh(double), 1.34, slice(None)),
        "erf": (torch.erf(double), 1.05, slice(None)),
        "gelu": (gelu.detach(), 5.5, bulk),
        "gelu_grad": (gelu_grad, 2.0, far_from_root),
    }
    for name, (expected, bound, where) in cases.items():
        y = expected.numpy()[where]
        ours = numerics.map(name, x)[where].astype(np.float64)
        with np.errstate(over="ignore"):
            rounded = y.astype(np.float32)
        special = ~np.isfinite(rounded)
        np.testing.assert_array_equal(ours[special], rounded[special], err_msg=name)
        ours, y = ours[~special], y[~special]
        ulp = np.ldexp(1.0, np.maximum(np.frexp(y)[1], -125) - 24)
        error = np.abs(ours - y) / ulp
        assert error.max() <= bound, f"{name}: {error.max()} ulp, found {ours[error.argmax()]}"


def test_philox(numerics: Numerics) -> None:
    # A published vector, and uniformity of what elements draw.
    counter = np.array([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], np.uint32)
    key = np.array([0xA4093822, 0x299F31D0], np.uint32)
    words = np.empty(4, np.uint32)
    numerics.library.mpt_num_philox(*(ctypes.c_void_p(a.ctypes.data) for a in (counter, key, words)))
    np.testing.assert_array_equal(words, np.array([0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1], np.uint32))
    drawn = np.empty(1 << 20, np.uint32)
    identifier = numerics.call("name_id", ctypes.c_char_p(b"bert.embeddings.dropout"))
    numerics.call("draw", 0, drawn.size, ctypes.c_uint32(identifier), ctypes.c_uint32(3), 42, drawn)
    counts = np.bincount(drawn >> 24, minlength=256)
    expected = drawn.size / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 150 < chi_square < 380  # 255 degrees of freedom: beyond 4 standard deviations either way


def test_row_sum_order(numerics: Numerics) -> None:
    x = (np.random.default_rng(1).standard_normal(1000) * 100).astype(np.float32)
    lanes = np.zeros(32, np.float32)
    for start in range(0, x.size, 32):
        part = x[start : start + 32]
        lanes[: part.size] += part
    while lanes.size > 1:
        half = lanes.size // 2
        lanes = lanes[:half] + lanes[half:]
    assert numerics.call("row_sum", x, x.size) == lanes[0]


def test_stochastic_mean(numerics: Numerics) -> None:
    n = 1_000_000
    for format in (BF16, E4M3, E5M2, INT8):
        for value in (1.1, -0.037, 3.3e-3, 77.77):
            x = np.full(n, value, np.float32)
            codes = np.empty(n, STORAGE[format])
            numerics.call(
                "encode_stochastic", ctypes.c_int(format), x, n, 1.0, 0,
                ctypes.c_uint32(9), ctypes.c_uint32(0), 5, codes,
            )  # fmt: skip
            y = numerics.decode(format, codes).astype(np.float64)
            assert len(np.unique(y)) == 2
            assert abs(y.mean() - np.float64(x[0])) <= 4 * y.std() / np.sqrt(n)
