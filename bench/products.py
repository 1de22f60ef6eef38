# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""GFLOP/s of the runtime's product engines on BERT's shapes, beside OpenBLAS on its own.

Writes a package that holds nothing but products and reads the time of each launch. OpenBLAS is
called as a program would, with as many threads of its own; OPENBLAS_CORETYPE reaches both.

  python bench/products.py [--threads 2] [--steps 20]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

from mpt.runtime import Package  # noqa: E402

# name, m, n, k, transposed lhs, transposed rhs
SHAPES = [
    ("query 8x128, hidden 256", 1024, 256, 256, False, True),
    ("intermediate", 1024, 1024, 256, False, True),
    ("intermediate, weight gradient", 256, 1024, 1024, True, False),
    ("query, weight gradient", 256, 256, 1024, True, False),
    ("decoder, vocabulary 30522", 1024, 30522, 256, False, True),
    ("decoder, data gradient", 1024, 256, 30522, False, False),
    ("decoder, weight gradient", 30522, 256, 1024, True, False),
    ("query 4x128, hidden 768", 512, 768, 768, False, True),
    ("intermediate, hidden 768", 512, 3072, 768, False, True),
]
HEADS = (8, 4, 128, 64)  # batch, heads, tokens, width: attention inside [tokens, heads * width]


def operand(buffer: int, rows: int, columns: int, transposed: bool) -> dict:
    strides = (1, rows) if transposed else (columns, 1)
    return {"buffer": buffer, "offset": 0, "rows": strides[0], "columns": strides[1],
            "batch": [0, 0]}


def attention() -> list[dict]:
    """The products scores = Q K^T and context = P V of one layer."""
    batch, heads, tokens, width = HEADS
    hidden = heads * width
    side = {"offset": 0, "batch": [tokens * hidden, width]}
    square = {"offset": 0, "rows": tokens, "columns": 1,
              "batch": [heads * tokens * tokens, tokens * tokens]}
    plain, flipped = {"rows": hidden, "columns": 1}, {"rows": 1, "columns": hidden}
    common = {"op": "product", "role": "fprop", "batch": [batch, heads], "m": tokens}
    scores = {"name": "attention scores", "n": tokens, "k": width,
              "lhs": side | plain | {"buffer": 0}, "rhs": side | flipped | {"buffer": 1},
              "result": square | {"buffer": 2}}
    context = {"name": "attention context", "n": width, "k": tokens,
               "lhs": square | {"buffer": 0}, "rhs": side | plain | {"buffer": 1},
               "result": side | plain | {"buffer": 2}}
    return [common | scores, common | context]


def launches() -> list[dict]:
    products = [
        {"op": "product", "name": name, "role": "fprop", "m": m, "n": n, "k": k, "batch": [1, 1],
         "lhs": operand(0, m, k, lhs), "rhs": operand(1, k, n, rhs),
         "result": operand(2, m, n, False)}
        for name, m, n, k, lhs, rhs in SHAPES
    ]
    return products + attention()


def flops(product: dict) -> float:
    b0, b1 = product["batch"]
    return 2.0 * product["m"] * product["n"] * product["k"] * b0 * b1


def write_package(directory: Path, engine: str) -> None:
    source = directory / "kernels.c"
    source.write_text('const char mpt_graph_hash[] = "0000000000000000";\n')
    library = directory / "kernels.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    digest = 0xCBF29CE484222325
    for byte in library.read_bytes():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    size = 4 * 30522 * 1024
    arguments = [
        {"name": name, "kind": "input", "dtype": "f32", "shape": [size // 4], "buffer": i}
        for i, name in enumerate(("lhs", "rhs"))
    ]
    manifest = {
        "format": "mpt-package", "version": 1, "function": "step", "target": "cpu",
        "engine": engine, "graph_hash": "0" * 16, "kernels_hash": f"{digest:016x}",
        "cpu": {"arch": os.uname().machine, "features": []},
        "arguments": arguments, "results": [], "arena_bytes": size,
        "buffers": [{"kind": "argument", "bytes": size}] * 2
        + [{"kind": "arena", "bytes": size, "offset": 0}],
        "launches": launches(),
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))


def time_engine(engine: str, threads: int, steps: int) -> list[float]:
    """Least seconds of each product in `steps` steps."""
    with tempfile.TemporaryDirectory() as name:
        write_package(Path(name), engine)
        with Package(name, threads=threads) as package:
            values = np.random.default_rng(0).standard_normal(30522 * 1024, np.float32)
            package.set("lhs", values)
            package.set("rhs", values[::-1].copy())
            best = [float("inf")] * len(launches())
            for _ in range(steps):
                package.profile()
                package.step({"lhs": package.view("lhs"), "rhs": package.view("rhs")}, lr=0)
                times = [launch["seconds"] for launch in package.launch_times()]
                best = [min(pair) for pair in zip(best, times)]
            return best


def time_openblas(threads: int, steps: int) -> list[float]:
    """The same products by OpenBLAS alone; a batched one is a loop of calls."""
    library = ctypes.CDLL("libopenblas.so.0")
    library.openblas_set_num_threads(threads)
    library.openblas_get_corename.restype = ctypes.c_char_p
    print("OpenBLAS kernels:", library.openblas_get_corename().decode())
    pointer, real = ctypes.c_void_p, ctypes.c_float
    integers = [ctypes.c_int] * 6
    library.cblas_sgemm.argtypes = [
        *integers, real, pointer, ctypes.c_int, pointer, ctypes.c_int, real, pointer, ctypes.c_int
    ]
    values = np.random.default_rng(0).standard_normal(30522 * 1024, np.float32)
    result = np.empty_like(values)
    best = []
    for product in launches():
        def layout(view: dict) -> tuple[int, int]:
            return (111, view["rows"]) if view["columns"] == 1 else (112, view["columns"])

        (lhs, lda), (rhs, ldb) = layout(product["lhs"]), layout(product["rhs"])
        ldc = product["result"]["rows"]
        calls = []
        for b0 in range(product["batch"][0]):
            for b1 in range(product["batch"][1]):
                places = [
                    array.ctypes.data + 4 * (b0 * view["batch"][0] + b1 * view["batch"][1])
                    for array, view in zip((values, values, result),
                                           (product["lhs"], product["rhs"], product["result"]))
                ]
                calls.append((101, lhs, rhs, product["m"], product["n"], product["k"], 1.0,
                              places[0], lda, places[1], ldb, 0.0, places[2], ldc))
        least = float("inf")
        for _ in range(steps):
            begin = time.perf_counter()
            for call in calls:
                library.cblas_sgemm(*call)
            least = min(least, time.perf_counter() - begin)
        best.append(least)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    columns = {
        "openblas": time_openblas(options.threads, options.steps),
        "blas": time_engine("blas", options.threads, options.steps),
        "reference": time_engine("reference", options.threads, options.steps),
    }
    print(f"{'GFLOP/s, ' + str(options.threads) + ' threads':32}"
          + "".join(f"{name:>12}" for name in columns))
    for i, product in enumerate(launches()):
        rates = (flops(product) / times[i] / 1e9 for times in columns.values())
        print(f"{product['name']:32}" + "".join(f"{rate:12.0f}" for rate in rates))


if __name__ == "__main__":
    main()
