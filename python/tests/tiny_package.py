# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""A package written by hand: embedding rows plus input, times a weight, squared loss.

Small enough to be followed in NumPy (`reference_step`), yet with every launch op and
every kind of argument the runtime treats differently.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROWS, WIDTH, OUT, TABLE = 6, 24, 40, 10
GRAPH_HASH = "0123456789abcdef"

KERNELS = r"""
#include <math.h>
#include <stdint.h>
const char mpt_graph_hash[] = "%(hash)s";
enum { ROWS = %(rows)d, WIDTH = %(width)d, OUT = %(out)d, TABLE = %(table)d };

/* h[r] = x[r] + table[ids[r]] */
void gather(void *const *args, int64_t begin, int64_t end) {
  const float *x = args[0], *table = args[1];
  const int64_t *ids = args[2];
  float *h = args[3];
  for (int64_t r = begin; r < end; ++r)
    for (int c = 0; c < WIDTH; ++c)
      h[r * WIDTH + c] = x[r * WIDTH + c] + table[ids[r] * WIDTH + c];
}

/* dy = y, zero where the label is ignored; loss = sum dy^2 / 2 */
void loss(void *const *args, int64_t begin, int64_t end) {
  const float *y = args[0];
  const int64_t *labels = args[1];
  float *dy = args[2], *sum = args[3];
  float total = 0;
  for (int r = 0; r < ROWS; ++r)
    for (int c = 0; c < OUT; ++c) {
      float d = labels[r] == -100 ? 0 : y[r * OUT + c] - (labels[r] == c);
      dy[r * OUT + c] = d;
      total += d * d / 2;
    }
  *sum = total;
}

/* m = 0.5 m + g; w -= lr m; a task is an element */
void update(void *const *args, int64_t begin, int64_t end) {
  float *w = args[0], *m = args[1];
  const float *g = args[2], lr = *(const float *)args[3];
  for (int64_t i = begin; i < end; ++i) {
    m[i] = 0.5f * m[i] + g[i];
    w[i] -= lr * m[i];
  }
}

/* t += 1; grad_norm = t + rng.step + seed + constant, to see them all */
void count(void *const *args, int64_t begin, int64_t end) {
  float *t = args[0];
  const int64_t *step = args[1], *seed = args[2], *constant = args[3];
  *t += 1;
  *(float *)args[4] = *t + *step + *seed + *constant;
}
"""


def _matrix(buffer: int, rows: int, columns: int) -> dict:
    return {"buffer": buffer, "offset": 0, "rows": rows, "columns": columns, "batch": [0, 0]}


def fnv1a64(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def manifest(kernels: bytes, engine: str) -> dict:
    """The manifest as data, for tests to break."""
    arguments, buffers, offset = [], [], 0

    def argument(name, kind, dtype, shape, **more):
        size = {"f32": 4, "i64": 8}[dtype] * int(np.prod(shape, dtype=np.int64))
        entry = {"name": name, "kind": kind, "dtype": dtype, "shape": shape}
        arguments.append(entry | {"buffer": len(buffers)} | more)
        buffers.append({"kind": "argument", "bytes": size})
        return len(buffers) - 1

    def arena(count):
        nonlocal offset
        buffers.append({"kind": "arena", "bytes": 4 * count, "offset": offset})
        offset += (4 * count + 63) // 64 * 64
        return len(buffers) - 1

    w = argument("head.weight", "parameter", "f32", [WIDTH, OUT], init="file")
    e = argument("embed.weight", "parameter", "f32", [TABLE, WIDTH], init="file")
    wm = argument("head.weight/m", "optimizer_state", "f32", [WIDTH, OUT], init="zero")
    em = argument("embed.weight/m", "optimizer_state", "f32", [TABLE, WIDTH], init="zero")
    t = argument("adam/t", "optimizer_state", "f32", [], init=2)
    x = argument("x", "input", "f32", [ROWS, WIDTH])
    ids = argument("ids", "input", "i64", [ROWS], range=[0, TABLE])
    labels = argument("labels", "label", "i64", [ROWS], range=[0, OUT], ignore_index=-100)
    seed = argument("rng.seed", "rng", "i64", [])
    step = argument("rng.step", "rng", "i64", [])
    lr = argument("lr", "hyper", "f32", [])
    h, y, dy = arena(ROWS * WIDTH), arena(ROWS * OUT), arena(ROWS * OUT)
    dw, dh, de, zeros = arena(WIDTH * OUT), arena(ROWS * WIDTH), arena(TABLE * WIDTH), arena(TABLE * WIDTH)
    loss, norm = arena(1), arena(1)
    buffers.append({"kind": "constant", "bytes": 8, "data": "0a00000000000000"})
    constant = len(buffers) - 1

    def kernel(symbol, tasks, reads, writes):
        return {"op": "kernel", "symbol": symbol, "name": symbol, "tasks": tasks,
                "args": [[a, 0] for a in reads + writes], "written": len(writes)}

    def product(name, role, m, n, k, lhs, rhs, result):
        return {"op": "product", "name": name, "role": role, "m": m, "n": n, "k": k,
                "batch": [1, 1], "lhs": lhs, "rhs": rhs, "result": result}

    launches = [
        kernel("gather", ROWS, [x, e, ids], [h]),
        product("head", "fprop", ROWS, OUT, WIDTH,
                _matrix(h, WIDTH, 1), _matrix(w, OUT, 1), _matrix(y, OUT, 1)),
        kernel("loss", 1, [y, labels], [dy, loss]),
        product("head/wgrad", "wgrad", WIDTH, OUT, ROWS,
                _matrix(h, 1, WIDTH), _matrix(dy, OUT, 1), _matrix(dw, OUT, 1)),
        product("head/dgrad", "dgrad", ROWS, WIDTH, OUT,
                _matrix(dy, OUT, 1), _matrix(w, 1, OUT), _matrix(dh, WIDTH, 1)),
        {"op": "fill", "name": "zeros", "bytes": 4 * TABLE * WIDTH, "result": [zeros, 0]},
        {"op": "scatter_add", "name": "embed/grad", "rows": ROWS, "columns": WIDTH,
         "table": TABLE, "init": [zeros, 0], "ids": [ids, 0], "id_dtype": "i64",
         "updates": [dh, 0], "result": [de, 0]},
        {"op": "copy", "name": "same", "bytes": 64, "source": [zeros, 0], "result": [zeros, 0]},
        kernel("update", WIDTH * OUT, [w, wm, dw, lr], [w, wm]),
        kernel("update", TABLE * WIDTH, [e, em, de, lr], [e, em]),
        kernel("count", 1, [t, step, seed, constant], [norm, t]),
    ]
    return {
        "format": "mpt-package", "version": 1, "function": "step", "target": "cpu",
        "engine": engine, "graph_hash": GRAPH_HASH, "kernels_hash": fnv1a64(kernels),
        "cpu": {"arch": "x86_64", "features": ["sse2"]},
        "arguments": arguments,
        "results": [{"name": "loss", "dtype": "f32", "shape": [], "buffer": loss},
                    {"name": "grad_norm", "dtype": "f32", "shape": [], "buffer": norm}],
        "arena_bytes": offset, "buffers": buffers, "launches": launches,
        "gradients": [{"parameter": "head.weight", "buffer": dw, "offset": 0},
                      {"parameter": "embed.weight", "buffer": de, "offset": 0}],
    }


def initial_parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "head.weight": rng.standard_normal((WIDTH, OUT), np.float32) / 8,
        "embed.weight": rng.standard_normal((TABLE, WIDTH), np.float32) / 8,
    }


def batch(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, OUT, ROWS)
    labels[1] = -100
    return {
        "x": rng.standard_normal((ROWS, WIDTH), np.float32),
        "ids": rng.integers(0, TABLE, ROWS),
        "labels": labels,
    }


def write(directory: Path, engine: str = "reference", init: bool = True) -> dict:
    """Builds a package in `directory`; returns its manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "kernels.c"
    source.write_text(
        KERNELS % {"hash": GRAPH_HASH, "rows": ROWS, "width": WIDTH, "out": OUT, "table": TABLE}
    )
    library = directory / "kernels.so"
    subprocess.run(
        ["cc", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", library, source], check=True
    )
    description = manifest(library.read_bytes(), engine)
    (directory / "manifest.json").write_text(json.dumps(description))
    if init:
        save_file(initial_parameters(), directory / "init.safetensors")
    return description


def reference_step(state: dict[str, np.ndarray], b: dict[str, np.ndarray], lr: float) -> float:
    """The step in NumPy (float64): changes `state` in place, returns the loss."""
    w, e = state["head.weight"], state["embed.weight"]
    h = b["x"] + e[b["ids"]]
    d = h @ w - np.eye(OUT)[np.maximum(b["labels"], 0)]
    d[b["labels"] == -100] = 0
    grads = {"head.weight": h.T @ d, "embed.weight": np.zeros_like(e)}
    np.add.at(grads["embed.weight"], b["ids"], d @ w.T)
    for name, gradient in grads.items():
        m = state.setdefault(name + "/m", np.zeros_like(gradient))
        m *= 0.5
        m += gradient
        state[name] -= lr * m
    return float((d * d).sum() / 2)
