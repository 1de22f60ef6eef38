# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Kernels whose blocks take 64 rows, over sizes that hurt and with values that hurt.

Chunk sums, sums and maxima of rows and transposed codes, in both orders of the loops: rows that stay in
shared memory behind a reduction, and tiles of columns. The CPU's kernels are the reference for every
bit; NumPy says what is transposed and what the largest magnitude is.
"""

from __future__ import annotations

import numpy as np
import pytest
from sim_kernels import DTYPES, SimulatedKernels

# One row, primes, around a chunk, a warp and a tile, beyond shared memory.
SIZES = [(1, 40), (2, 3), (13, 7), (63, 33), (64, 32), (65, 128), (127, 131), (130, 257), (3, 4097)]
# What the last loop stores is divided by the sum of its row, or not.
KERNEL = """
func.func private @{name}(%x: tensor<{r}x{c}xf32>, %s: tensor<f32>) -> ({r1}, {rc}x{code}>, {cr}x{code}>, {k}x{c}xf32>, {k}x1xf32>) attributes {{mpt.kernel}} {{
  {first}
  %amax = mpt.reduce %y {{kind = #mpt.reduction<absmax>, axes = array<i64: 1>}} : ({rc}xf32>) -> {r1}
  %q = mpt.quantize %y{scale} -> {rc}x{code}>
  %t = mpt.transpose %q {{permutation = array<i64: 1, 0>}} : ({rc}x{code}>) -> {cr}x{code}>
  %u = mpt.copy %t : ({cr}x{code}>) -> {cr}x{code}>
  %k = mpt.reduce_chunks %y : ({rc}xf32>) -> {k}x{c}xf32>
  %l = mpt.reduce_chunks %amax : ({r1}) -> {k}x1xf32>
  return %amax, %q, %u, %k, %l : {r1}, {rc}x{code}>, {cr}x{code}>, {k}x{c}xf32>, {k}x1xf32>
}}
"""
ONE_PHASE = "%y = mpt.mul %x, %s : ({rc}xf32>, tensor<f32>) -> {rc}xf32>"
TWO_PHASES = """%e = mpt.tanh %x : ({rc}xf32>) -> {rc}xf32>
  %n = mpt.reduce %e {{kind = #mpt.reduction<sum>, axes = array<i64: 1>}} : ({rc}xf32>) -> {r1}
  %y = mpt.div %e, %n : ({rc}xf32>, {r1}) -> {rc}xf32>"""
CODES = {"f8E4M3FN": "one", "f8E5M2": "two", "bf16": "one"}


def text() -> str:
    """Return a module with a kernel for each size, code and number of loops."""
    kernels = []
    for r, c in SIZES:
        types = {"rc": f"tensor<{r}x{c}", "r1": f"tensor<{r}x1xf32>", "cr": f"tensor<{c}x{r}"}
        types |= {"r": r, "c": c, "k": f"tensor<{-(-r // 64)}"}
        for code, phases in CODES.items():
            first = (ONE_PHASE if phases == "one" else TWO_PHASES).format(**types)
            scale = f" : ({types['rc']}xf32>)" if code == "bf16" else f", %s : ({types['rc']}xf32>, tensor<f32>)"
            name = f"{phases}_{code.lower()}_{r}x{c}"
            kernels.append(KERNEL.format(name=name, code=code, first=first, scale=scale, **types))
    return "".join(kernels)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> SimulatedKernels:
    directory = tmp_path_factory.mktemp("chunks")
    (directory / "kernels.mlir").write_text(text())
    return SimulatedKernels(directory / "kernels.mlir", directory)


def planted(rows: int, columns: int, special: bool) -> np.ndarray:
    """Return normal draws with a zero, subnormals and the largest number, and the rest if `special`."""
    rng = np.random.default_rng(rows * 10007 + columns)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    values = [0.0, -0.0, 1e-45, -1e-39, 3.4028235e38, -3.4028235e38]
    values += [np.inf, -np.inf, np.nan] if special else []
    flat = x.reshape(-1)
    places = rng.choice(flat.size, min(len(values), flat.size // 4), replace=False)
    flat[places] = np.array(values[: len(places)], np.float32)
    return x


@pytest.mark.parametrize("special", [False, True])
def test_every_size_has_the_cpus_bits(kernels, special):
    assert len(kernels.entries) == len(SIZES) * len(CODES)
    for symbol in kernels.entries:
        (_, shape), _ = kernels.arguments(symbol)
        x, scale = planted(*shape, special), np.array(2.5, np.float32)
        amax, codes, turned, sums, total = kernels.compare(symbol, [x, scale])
        assert turned.tobytes() == np.ascontiguousarray(codes.T).tobytes(), symbol
        if symbol.startswith("one"):
            with np.errstate(all="ignore"):
                y = x * scale
                chunks = [y[i : i + 64].sum(axis=0, dtype=np.float64) for i in range(0, len(y), 64)]
            np.testing.assert_array_equal(amax[:, 0], np.abs(y).max(axis=1), err_msg=symbol)
            finite = np.isfinite(chunks) & (np.abs(chunks) < 1e30)
            np.testing.assert_allclose(sums[finite], np.array(chunks)[finite], rtol=1e-4, atol=1e-4)


def test_codes_are_those_of_numpy(kernels):
    x, scale = planted(63, 33, special=False), np.array(2.5, np.float32)
    codes = kernels.compare("one_bf16_63x33", [x, scale])[1]
    with np.errstate(over="ignore"):
        expected = (x * scale).astype(DTYPES["bf16"])
    assert codes.tobytes() == expected.tobytes()
