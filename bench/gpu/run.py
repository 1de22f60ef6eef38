# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The work of bench/gpu/run.sh: compile, check, measure; one JSON file of results.

A phase that cannot be done says why in the results, as {"not_measured": why}. The exit code is 1
if a package does not compile or a check fails, on a GPU or in simulation.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import replay
from safetensors.numpy import load_file

from mpt import cuda

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "lib" / "Precision" / "targets" / "h200.json"
BYTES = {"f32": 4, "bf16": 2, "f8E4M3FN": 1, "f8E5M2": 1, "i8": 1}
# Largest relative difference of a step's loss from the oracle's, over ten steps.
LOSS_BAND = {"bf16": 2e-3, "uniform": 2e-2}
STEPS, HOOKED_STEPS = 20, 3


class Clock:
    """What is left of the time that one call may take."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()


def gpu_of_machine() -> dict[str, Any]:
    """What nvidia-smi says of the first GPU, or why there is none."""
    if not shutil.which("nvidia-smi"):
        return {"not_measured": "no GPU: there is no nvidia-smi"}
    fields = ["name", "driver_version", "memory.total", "power.limit", "clocks.max.sm"]
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        return {"not_measured": f"no GPU: nvidia-smi: {(done.stdout + done.stderr).strip()}"}
    return dict(zip(fields, (part.strip() for part in done.stdout.split(",")), strict=True))


#
# Compiling and checking.
#


def compile_one(package: Path) -> dict[str, Any]:
    """Compile a package with nvcc; return seconds, or the error."""
    start = time.perf_counter()
    try:
        cuda.compile_package(package)
    except cuda.BuildError as error:
        return {"package": package.name, "error": str(error)}
    return {"package": package.name, "seconds": round(time.perf_counter() - start, 2)}


def compile_all(packages: list[Path]) -> list[dict[str, Any]]:
    """Compile packages side by side."""
    if missing := cuda.missing_for_nvcc():
        return [{"package": package.name, "not_measured": missing} for package in packages]
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        return list(pool.map(compile_one, packages))


def check(package: Path, policy: str, lr: float, simulate: bool) -> dict[str, Any]:
    """Compare every kind of launch, and the losses of whole steps, with the dump."""
    oracle = load_file(package / "oracle.safetensors")
    batch = {name.removeprefix("batch."): value for name, value in oracle.items() if name.startswith("batch.")}
    with cuda.CudaPackage(package, simulate=simulate) as opened:
        losses = np.array([opened.step(batch, lr)["loss"] for _ in oracle["losses"]])
        checker = replay.Check(opened, replay.Host() if simulate else replay.Gpu(), package / "launches.safetensors")
        checker.step()
    difference = float(np.max(np.abs(losses - oracle["losses"]) / np.abs(oracle["losses"])))
    failures = list(checker.failures)
    # NaN fails too.
    if not difference <= LOSS_BAND[policy]:
        failures.append(f"the loss differs by {difference:.1e} of itself, expected at most {LOSS_BAND[policy]:.0e}")
    return {
        "package": package.name, "on": "simulator" if simulate else "gpu", "checked": checker.checked,
        "largest_error": checker.largest, "steps": len(losses), "loss_difference": difference, "failures": failures,
    }  # fmt: skip


#
# Measuring.
#


def draw_parameters(package: cuda.CudaPackage, rng: np.random.Generator, drawn: dict[str, np.ndarray]) -> None:
    """Set parameters as BERT initialises them; `drawn` keeps them for the next package of the model."""
    for entry in package.arguments:
        if entry["kind"] != "parameter":
            continue
        name, shape = entry["name"], entry["shape"]
        if name not in drawn or drawn[name].shape != shape:
            if len(shape) > 1:
                drawn[name] = rng.standard_normal(shape, np.float32) * np.float32(0.02)
            else:
                drawn[name] = np.full(shape, float(name.endswith("weight")), np.float32)
        package.set(name, drawn[name])


def draw_batch(package: cuda.CudaPackage, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A batch of random ids without padding; every position has a label."""
    batch = {}
    for entry in package.arguments:
        if entry["kind"] in ("input", "label"):
            low, high = entry.get("range", (0, 2))
            value = rng.integers(max(low, 1), high, entry["shape"])
            value = np.ones_like(value) if "mask" in entry["name"] else value
            batch[entry["name"]] = 0 * value if "token_type" in entry["name"] else value
    return batch


class Timer(replay.Launches):
    """Times every launch of a step by events; the medians are over the steps taken."""

    def __init__(self, package: cuda.CudaPackage, device: replay.Gpu) -> None:
        super().__init__(package)
        self.device = device
        self.open: dict[int, Any] = {}
        self.pairs: list[tuple[int, Any, Any]] = []
        self.times: dict[int, list[float]] = collections.defaultdict(list)

    def begin(self, index: int, launch: dict, stream: int) -> None:
        self.open[index] = self.device.event(stream)

    def end(self, index: int, launch: dict, stream: int) -> None:
        self.pairs.append((index, self.open.pop(index), self.device.event(stream)))

    def step(self) -> None:
        super().step()
        for index, start, end in self.pairs:
            self.times[index].append(self.device.milliseconds(start, end))
        self.pairs.clear()

    def launches(self) -> list[dict[str, Any]]:
        """Name, kind, time in us and roofline in us of each launch."""
        figures = roofline()
        result = []
        for index, launch in self.list:
            us = 1e3 * statistics.median(self.times[index])
            result.append({"name": launch["name"], "us": us, "roofline_us": lower_bound(self.package.manifest, launch, figures)})
        return result


def roofline() -> dict[str, float]:
    """Bytes a second and operations a second of the target's description, by format."""
    target = json.loads(TARGET.read_text())
    rates = {name: rate["peak"]["value"] * 1e12 for name, rate in target["rates"].items()}
    return {"bandwidth": target["figures"]["memory_bandwidth"]["value"] * 1e9} | rates


def lower_bound(manifest: dict, launch: dict, figures: dict[str, float]) -> float:
    """Least microseconds: operations at the peak rate, or bytes of the buffers that it touches, each once."""
    moved = sum(manifest["buffers"][buffer]["bytes"] - offset for buffer, offset in launch["args"])
    operations = 0.0
    if launch["op"] == "product":
        batch = launch["batch"][0] * launch["batch"][1]
        m, n, k = (launch[key] for key in "mnk")
        operations = 2 * batch * m * n * k
        moved = batch * (m * k * BYTES[launch["lhs"]["dtype"]] + k * n * BYTES[launch["rhs"]["dtype"]])
        moved += batch * m * n * BYTES[launch["result"]["dtype"]]
        rate = figures.get({"f32": "f32", "bf16": "bf16"}.get(launch["lhs"]["dtype"], "f8"), figures["bf16"])
        return 1e6 * max(operations / rate, moved / figures["bandwidth"])
    return 1e6 * moved / figures["bandwidth"]


def time_steps(package: cuda.CudaPackage, device: replay.Gpu, stream: int) -> list[float]:
    """Milliseconds of each of STEPS steps, queued one behind the other."""
    library = package._library
    for _ in range(3):
        package._check(library.mpt_cuda_step())
    events = [device.event(stream)]
    for _ in range(STEPS):
        package._check(library.mpt_cuda_step())
        events.append(device.event(stream))
    package._check(library.mpt_cuda_synchronize())
    return [device.milliseconds(*pair) for pair in zip(events[::2], events[1::2])]


def power(package: cuda.CudaPackage, seconds: float = 2.0) -> dict[str, float]:
    """Median power and clock while the package steps."""
    command = ["nvidia-smi", "--query-gpu=power.draw,clocks.sm", "--format=csv,noheader,nounits", "--id=0", "-lms", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sampler:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            package._check(package._library.mpt_cuda_step())
            package._check(package._library.mpt_cuda_synchronize())
        sampler.terminate()
        rows = [line.split(",") for line in sampler.stdout.read().splitlines()]
    # The first samples are of the time before.
    numbers = [(float(a), float(b)) for a, b in (row for row in rows[len(rows) // 3 :] if len(row) == 2)]
    if not numbers:
        return {}
    return {"watts": statistics.median(a for a, _ in numbers), "sm_mhz": statistics.median(b for _, b in numbers)}


def measure(path: Path, drawn: dict[str, np.ndarray]) -> dict[str, Any]:
    """Time one package: whole steps, each launch, power and memory."""
    rng = np.random.default_rng(0)
    device = replay.Gpu()
    with cuda.CudaPackage(path) as package:
        draw_parameters(package, rng, drawn)
        first = package.step(draw_batch(package, rng), 1e-4)
        timer = Timer(package, device)
        for _ in range(HOOKED_STEPS):
            timer.step()
        times = sorted(time_steps(package, device, timer.stream))
        watts = power(package)
        free, total = device.memory()
        launches = timer.launches()
        last = package.read("loss").item()
    return {
        "ms": statistics.median(times), "ms_min": times[0], "ms_max": times[-1], "steps": len(times),
        "launches_ms": sum(entry["us"] for entry in launches) / 1e3,
        "roofline_ms": sum(entry["roofline_us"] for entry in launches) / 1e3,
        "memory_bytes": package.manifest["memory_bytes"], "memory_used_bytes": total - free,
        "loss": [first["loss"], last], **watts, "launches": launches,
    }  # fmt: skip


def baseline(entry: dict[str, Any], float8: bool, clock: Clock) -> dict[str, Any]:
    """PyTorch's time of the same step."""
    if clock.left() < 60:
        return {"not_measured": "out of time"}
    sizes = [f"--{name}={entry[name]}" for name in ("layers", "hidden", "batch", "seq")]
    command = [sys.executable, str(HERE / "baseline.py"), *sizes, *(["--float8"] if float8 else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=clock.left())
    except subprocess.TimeoutExpired:
        return {"not_measured": "out of time"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"not_measured": f"failed: {done.stderr.strip().splitlines()[-1:]}"}
    return json.loads(lines[-1])


def tuning_table(prepared: Path, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Times of products by shape, formats and implementation (docs/cost-model.md); fused ones are left out."""
    times: dict[tuple, list[float]] = collections.defaultdict(list)
    for step in steps:
        if "launches" not in step:
            continue
        measured = {entry["name"]: entry["us"] for entry in step["launches"]}
        manifest = json.loads((prepared / step["package"] / "manifest.json").read_text())
        for launch in manifest["launches"]:
            if launch["op"] == "product" and not launch.get("epilogue"):
                batch = launch["batch"][0] * launch["batch"][1]
                key = (launch["m"], launch["n"], launch["k"], batch, launch["lhs"]["dtype"], launch["rhs"]["dtype"])
                times[(*key, launch.get("implementation"))].append(measured[launch["name"]])
    products = []
    for key, us in sorted(times.items(), key=str):
        names = ("m", "n", "k", "batch", "lhs", "rhs", "implementation")
        products.append({n: v for n, v in zip(names, key, strict=True) if v is not None} | {"us": statistics.median(us)})
    return {"format": "mpt-tuning", "version": 1, "target": "h200", "products": products}


#
# All of it.
#


def write(path: Path, data: Any) -> None:
    """Write JSON beside `path`, then in its place."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps(data, indent=1) + "\n")
    os.replace(beside, path)


def run_checks(prepared: Path, plan: dict, results: dict[str, Any], gpu: bool) -> None:
    """Check the tiny packages, on the GPU or, where they were compiled for it, in simulation."""
    for entry in plan["check"]:
        package = prepared / entry["package"]
        if not gpu and not cuda.library_path(package, simulate=True).is_file():
            found: dict[str, Any] = {"package": package.name, "not_measured": "no GPU, and not compiled for simulation"}
        else:
            try:
                found = check(package, entry["policy"], plan["lr"], simulate=not gpu)
            except (RuntimeError, OSError) as error:
                found = {"package": package.name, "failures": [str(error)]}
        results["checks"].append(found)
        print("check", {key: found[key] for key in found if key != "package"}, package.name)


def run_measurements(prepared: Path, plan: dict, results: dict[str, Any], gpu: bool, clock: Clock) -> None:
    """Time the packages and, in the same run, PyTorch at the same sizes."""
    drawn: dict[str, np.ndarray] = {}
    done: set[tuple] = set()
    for entry in plan["measure"]:
        size = tuple(entry[key] for key in ("model", "batch", "seq"))
        if gpu and size not in done:
            done.add(size)
            for float8 in (False, True):
                name = "torchao float8" if float8 else "torch.compile bf16"
                results["baselines"].append(dict(zip(("model", "batch", "seq"), size)) | {"name": name} | baseline(entry, float8, clock))
                print("baseline", results["baselines"][-1])
        if not gpu:
            found: dict[str, Any] = {"not_measured": results["machine"]["not_measured"]}
        elif clock.left() < 30:
            found = {"not_measured": "out of time"}
        else:
            try:
                found = measure(prepared / entry["package"], drawn)
            except (RuntimeError, OSError) as error:
                found = {"not_measured": f"failed: {error}"}
        results["steps"].append(entry | found)
        print("step", entry["package"], {key: value for key, value in found.items() if key != "launches"})


def main() -> int:
    """Run all phases; return 1 if something failed that need not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path, help="what bench/gpu/prepare.py wrote")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for gpu.json and the tuning table")
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--dry-run", action="store_true", help="as if there were no GPU")
    parser.add_argument("--no-compile", action="store_true", help="with --dry-run: leave nvcc out")
    args = parser.parse_args()
    clock = Clock(args.seconds)
    plan = json.loads((args.prepared / "plan.json").read_text())
    machine = {"not_measured": "dry run"} if args.dry_run else gpu_of_machine()
    gpu = "not_measured" not in machine
    results: dict[str, Any] = {"format": "mpt-gpu-results", "version": 1, "machine": machine}
    results |= {"compiled": [], "checks": [], "steps": [], "baselines": []}
    args.results.mkdir(parents=True, exist_ok=True)
    print("machine", machine)
    packages = [args.prepared / entry["package"] for entry in plan["check"] + plan["measure"]]
    if not args.no_compile:
        results["compiled"] = compile_all(packages)
        print("compiled", *results["compiled"], sep="\n  ")
    run_checks(args.prepared, plan, results, gpu)
    write(args.results / "gpu.json", results)
    run_measurements(args.prepared, plan, results, gpu, clock)
    table = tuning_table(args.prepared, results["steps"])
    write(args.results / "gpu.json", results)
    if table["products"]:
        write(args.results / "tuning-h200.json", table)
    bad = [one for one in results["compiled"] if "error" in one] + [one for one in results["checks"] if one.get("failures")]
    print(f"{args.results / 'gpu.json'}: {len(results['steps'])} steps, {'measured' if gpu else 'not measured'}, {len(bad)} failures")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
