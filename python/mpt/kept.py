# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Measuring what the format of a kept tensor does to gradients (docs/precision.md).

A tensor that the forward pass computes and the backward pass reads again can be held in fewer bits
in between. `--mpt-probe-kept` gives the step a switch for each; here gradients are computed with
each switch on by itself, and with all of them on, and compared with those of the step in f32.

    measure("step.mlir", "batches.safetensors", "kept.json")        # mptc kept
    stages.assign(step, out, settings={"kept": "auto", "kept-profile": "kept.json"})
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpt import stages
from mpt.files import check_output, staged
from mpt.runtime import Error, Package

FORMAT, VERSION = "mpt-kept", 1
# By the value of a switch; 0 is f32.
FORMATS = ("bf16", "f8E4M3FN")
SUFFIX = "/kept"


@contextlib.contextmanager
def probe(step: str | os.PathLike[str], beside: str | os.PathLike[str], threads: int = 2) -> Iterator[Package]:
    """Build `step` (.mlir) with its switches on the oracle, in a hidden directory beside `beside`."""
    step, beside = Path(step), Path(beside)
    check_output(beside)
    staging = beside.parent / f".{beside.name}.{os.getpid()}.probe"
    staging.mkdir()
    try:
        stages.optimise(step, staging / "probe.mlir", ["--mpt-probe-kept"])
        stages.build(staging / "probe.mlir", staging / "package", "cpu", "reference")
        with Package(staging / "package", threads=threads) as package:
            yield package
    finally:
        shutil.rmtree(staging)


def switches(package: Package) -> list[str]:
    """The tensors that the package has switches for."""
    names = [entry["name"] for entry in package.arguments if entry["kind"] == "hyper"]
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]


def noise_ratio(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> float:
    """|g' - g|^2 / |g|^2 over all parameters."""
    error = sum(float(np.square(found[n].astype(np.float64) - g).sum()) for n, g in reference.items())
    size = sum(float(np.square(g, dtype=np.float64).sum()) for g in reference.values())
    if not size > 0 or not math.isfinite(error / size):
        raise Error("the gradient is zero or not finite: no share of it can be an error")
    return error / size


def compare(
    package: Package, batch: Mapping[str, np.ndarray], seed: int = 0, note: Callable[[], None] = lambda: None
) -> dict[tuple[str, str], float]:
    """The noise ratio of each tensor in each format on a batch; the tensor "" is all of them together."""
    names = switches(package)

    def gradient(on: Mapping[str, int]) -> dict[str, np.ndarray]:
        for name in names:
            package.set(name + SUFFIX, np.int64(on.get(name, 0)))
        note()
        return package.gradient(batch, seed=seed)[1]

    reference = gradient({})
    ratios = {}
    for code, form in enumerate(FORMATS, 1):
        for name in names:
            ratios[name, form] = noise_ratio(gradient({name: code}), reference)
        ratios["", form] = noise_ratio(gradient(dict.fromkeys(names, code)), reference)
    return ratios


def _summary(values: Sequence[float]) -> dict[str, float]:
    """Mean over batches and the width of its 95 % interval."""
    spread = 2 * 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"noise_ratio": float(np.mean(values)), "noise_ratio_spread": spread}


def describe(package: Package, measured: Sequence[Mapping[tuple[str, str], float]]) -> dict[str, Any]:
    """The file's content, of what `compare` found on each of at least two batches."""

    def candidates(name: str) -> list[dict[str, Any]]:
        return [{"format": form} | _summary([ratios[name, form] for ratios in measured]) for form in FORMATS]

    return {
        "format": FORMAT,
        "version": VERSION,
        "graph_hash": package.graph_hash,
        "batches": len(measured),
        "tensors": [{"name": name, "candidates": candidates(name)} for name in switches(package)],
        "together": candidates(""),
    }


def measure(
    step: str | os.PathLike[str],
    data: Sequence[Mapping[str, np.ndarray]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    batches: int = 4,
    prepare: Callable[[Package], None] = lambda package: None,
    seed: int = 0,
    threads: int = 2,
) -> dict[str, Any]:
    """Measure on the first `batches` of `data` and write the file `out`; returns what is in it.

    data: batches, or a file of them as `mptc profile` takes. prepare: gets the open package, to load
    parameters or a checkpoint. Raises mpt.Error.
    """
    from mpt.console import bar
    from mpt.profile import load_data

    with probe(step, out, threads) as package, bar(time_left=True) as display:
        prepare(package)
        source = load_data(data, package) if isinstance(data, (str, os.PathLike)) else data
        if not 2 <= batches <= len(source):
            raise Error(f"{batches} batches: expected at least 2, for a spread, and at most {len(source)}, the data's")
        runs = 1 + len(FORMATS) * (len(switches(package)) + 1)
        task = display.add_task("kept", total=runs * batches, note="")
        measured = []
        for i in range(batches):
            display.update(task, note=f"batch {i + 1}/{batches}")
            measured.append(compare(package, source[i], seed, lambda: display.update(task, advance=1)))
        content = describe(package, measured)
    with staged(out) as inner:
        inner.write_text(json.dumps(content, indent=1) + "\n")
    return content
