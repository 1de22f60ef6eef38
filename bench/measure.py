# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Time to measure one product: shapes of BERT-base 4 x 128, and 512 x 512 exactly.

Each call measures a product of normal values from scratch, scans of both operands included, as
mpt.measure does; the least of several calls counts, in wall time and in time of the processor.

  python bench/measure.py [--threads 2] [--repeat 7]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

from mpt.measure import measure_product  # noqa: E402

# name, batch, m, n, k, transposed lhs, transposed rhs, gradient, side of the sample
SHAPES = [
    ("query, fprop", (), 512, 768, 768, False, True, "none", 256),
    ("query, dgrad", (), 512, 768, 768, False, False, "lhs", 256),
    ("query, wgrad", (), 768, 768, 512, True, False, "rhs", 256),
    ("intermediate, fprop", (), 512, 3072, 768, False, True, "none", 256),
    ("intermediate, dgrad", (), 512, 768, 3072, False, False, "lhs", 256),
    ("intermediate, wgrad", (), 3072, 768, 512, True, False, "lhs", 256),
    ("attention scores, fprop", (4, 12), 128, 128, 64, False, True, "none", 256),
    ("attention scores, dgrad", (4, 12), 128, 64, 128, False, False, "lhs", 256),
    ("decoder, dgrad", (), 512, 768, 30522, False, False, "lhs", 256),
    ("512 x 512 x 512, exact", (), 512, 512, 512, False, False, "rhs", 0),
]


def operand(rng: np.random.Generator, batch: tuple[int, ...], rows: int, columns: int, transposed: bool) -> np.ndarray:
    shape = (*batch, columns, rows) if transposed else (*batch, rows, columns)
    values = rng.standard_normal(shape, np.float32)
    return values.swapaxes(-1, -2) if transposed else values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'product':<26} {'m x n x k':>18} candidates  wall ms  processor ms")
    for name, batch, m, n, k, lhs_transposed, rhs_transposed, gradient, side in SHAPES:
        lhs = operand(rng, batch, m, k, lhs_transposed)
        rhs = operand(rng, batch, k, n, rhs_transposed)
        wall, processor = [], []
        for _ in range(options.repeat):
            start, start_processor = time.perf_counter(), time.process_time()
            found = measure_product(
                lhs, rhs, gradient=gradient, rows=side, columns=side, threads=options.threads
            )
            wall.append(time.perf_counter() - start)
            processor.append(time.process_time() - start_processor)
        size = "x".join(map(str, (*batch, m, n, k)))
        print(f"{name:<26} {size:>18} {len(found['candidates']):>10} {min(wall) * 1e3:>8.1f} {min(processor) * 1e3:>13.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
