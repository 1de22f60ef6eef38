# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Time of attaching metrics and deciding formats, by number of layers, and what the decisions come to.

Models are compile_time.py's (BERT-large's dimensions, weights of zeros in a sparse file), at the
batch and sequence that they are priced at. The metrics file is as long as a profile's of two points of
training, its errors are synthetic: per product a log-normal scale, and factors between formats as profiles
of small BERTs have them. So times and linearity are real, and the predicted step times depend on errors
that are not: they show that the policy has something to weigh.

  python bench/assign.py --layers 2 12 24 48 96 --results docs/results
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "python")]

from compile_time import pass_times, run, write_model  # noqa: E402

STEPS = (0, 100)
STORAGES = {"bf16": "bf16", "e4m3": "f8E4M3FN", "e5m2": "f8E5M2", "i8": "i8"}
# (lhs, rhs, scale of both, error relative to E4M3): six candidates of a product.
CANDIDATES = [
    ("bf16", "bf16", "none", 0.01),
    ("e4m3", "e4m3", "per_tensor", 1.0),
    ("e4m3", "e4m3", "per_vector", 0.8),
    ("e4m3", "e5m2", "per_tensor", 2.0),
    ("e5m2", "e4m3", "per_tensor", 2.0),
    ("i8", "i8", "per_tensor", 1.0),
]
COLUMNS = {
    "fprop": ["be_median", "be_p99", "rel_var", "loss_mse"],
    "dgrad": ["be_median", "be_p99", "rel_var"],
    "wgrad": ["be_median", "be_p99", "rel_var", "persistent"],
}
PRODUCT = re.compile(r'mpt\.matmul .*?mpt\.name = "([^"]+)".*?role = #mpt\.role<(\w+)>')
HASH = re.compile(r'mpt\.graph_hash = "(\w+)"')


def formats() -> tuple[list[dict[str, str]], list[list[int]]]:
    """The file's list of formats, and its candidates as indices into it."""
    found: list[dict[str, str]] = []

    def index(name: str, scale: str) -> int:
        recipe = "none" if scale == "none" else "current"
        entry = {"storage": STORAGES[name], "scale": scale, "recipe": recipe, "rounding": "nearest"}
        if entry not in found:
            found.append(entry)
        return found.index(entry)

    sides = {"none": ("none", "none"), "per_tensor": ("per_tensor",) * 2, "per_vector": ("per_row", "per_column")}
    pairs = [[index(lhs, sides[scale][0]), index(rhs, sides[scale][1])] for lhs, rhs, scale, _ in CANDIDATES]
    return found, pairs


def errors_of(role: str, scale: float, factor: float, draw: random.Random) -> dict[str, list[float]]:
    """Metrics of a candidate, each with an interval of 5 % to both sides."""
    error = scale * factor * draw.uniform(0.8, 1.25)
    values = {"be_median": 1e-3 * error, "be_p99": 4e-3 * error, "rel_var": 1e-4 * error}
    values |= {"loss_mse": 1e-8 * error**2, "persistent": 1e-4 * error * draw.uniform(0.3, 1)}
    return {name: [values[name], 0.05 * values[name], 0.95 * values[name], 1.05 * values[name]] for name in COLUMNS[role]}


def write_metrics(step: Path, out: Path, layers: int) -> int:
    """Write a metrics file for the products of `step`; return how many there are."""
    draw, text = random.Random(layers), step.read_text()
    point = {
        "amax": 2.5, "min_nonzero": 1e-6, "mean": 0.0, "std": 0.5, "kurtosis": 3.0, "zeros": 0.0, "nonfinite": 0,
        "exponents": [-20, [1000 + i for i in range(22)]], "rows": [0.5, 1.0, 2.0], "columns": [0.5, 1.0, 2.0],
    }  # fmt: skip
    tensors, products = [], []
    for name, role in PRODUCT.findall(text):
        scale = 10 ** draw.gauss(0, 0.4)
        points = []
        for _ in STEPS:
            errors = (errors_of(role, scale, factor, draw) for *_, factor in CANDIDATES)
            points.append({"excluded": 0.0, "signal": 1.0, "values": [[e[c] for c in COLUMNS[role]] for e in errors]})
        tensors += [{"name": f"{name}/{side}", "points": [point] * len(STEPS)} for side in ("lhs", "rhs")]
        size = dict.fromkeys("mnk", 1) | {"batch": 1}
        sides = {"lhs": len(tensors) - 2, "rhs": len(tensors) - 1}
        products.append(
            {"name": name, "role": role, **size, **sides, "candidates": [*range(len(CANDIDATES))], "worst": 0, "points": points}
        )
    listed, pairs = formats()
    # What is known of the input gradients' persistent errors: all of them together, by format.
    probes = []
    for (lhs, rhs, _, factor), pair in zip(CANDIDATES, pairs):
        value = layers * 1.5e-4 * factor
        probe = {"role": "dgrad", "layer": None, "products": len(products), "candidate": f"{lhs} x {rhs}", "formats": pair}
        values = dict.fromkeys(("rel_var", "noise_ratio", "loss_change")) | {"persistent": value}
        probes.append(probe | {"points": [values] * len(STEPS)})
    loss = {"batches": 4, "loss": 7.0, "gradient_signal": 1.0, "gradient_noise": 1.0}
    content = {
        "format": "mpt-metrics", "version": 2, "graph_hash": HASH.search(text)[1], "engine": "synthetic", "complete": True,
        "sampling": {}, "batches": 4, "points": [{"step": at} | loss for at in STEPS], "columns": COLUMNS,
        "formats": listed, "candidates": pairs, "tensors": tensors, "products": products, "probes": probes,
    }  # fmt: skip
    out.write_text(json.dumps(content))
    return len(products)


def measure(layers: int, args: argparse.Namespace, work: Path) -> dict[str, object]:
    """Return the figures of one model size."""
    from mpt.stages import find_tool

    opt, onnx, step, metrics = find_tool("mpt-opt"), work / "model.onnx", work / "step.mlir", work / "metrics.json"
    write_model(layers, args.hidden, args.batch, args.seq, onnx)
    graph, record = work / "graph.mlir", work / "decisions.json"
    run([find_tool("mpt-import"), onnx, "-o", graph], work / "import.log")
    graph.with_suffix(".safetensors").unlink(missing_ok=True)
    run([opt, graph, "--mpt-differentiate", "--mpt-add-optimizer", "-o", step], work / "step.log")
    result: dict[str, object] = {"layers": layers, "products": write_metrics(step, metrics, layers)}
    result["metrics_mb"] = metrics.stat().st_size / 1e6
    for policy, bounds in (
        ("bf16", ""),
        ("uniform", ""),
        ("threshold", ""),
        ("budget", f"loss-mse={layers * 2e-8} noise-ratio={layers * 1e-3} persistent={layers * 6e-4}"),
    ):
        log, start = work / f"{policy}.log", time.perf_counter()
        options = f"policy={policy} {bounds} record={record}"
        passes = [f"--mpt-attach-metrics=profile={metrics}", f"--assign-precision={options}"]
        usage = run([opt, step, *passes, "-mlir-timing", "-mlir-timing-display=list", "-o", "/dev/null"], log)
        seconds = pass_times(log)
        decisions = json.loads(record.read_text())
        figures = {
            "wall_s": time.perf_counter() - start,
            "cpu_s": usage["cpu_s"],
            "attach_s": seconds.get("AttachMetrics"),
            "pass_s": seconds.get("AssignPrecision"),
            "anon_mib": usage["anon_mib"],
            "total_ms": decisions["predicted"]["total_us"] / 1e3,
            "status": decisions.get("budget", {}).get("status"),
        }
        result[policy] = figures
        print(
            f"{layers:3d} layers {result['products']:5d} products  {policy:<10} attach {figures['attach_s']:6.3f} s, "
            f"assign {figures['pass_s']:6.3f} s, "
            f"tool {figures['wall_s']:5.2f} s ({figures['cpu_s']:.2f} s of CPU), predicted {figures['total_ms']:8.2f} ms {figures['status'] or ''}",
            flush=True,
        )
    return result


def write_results(results: list[dict], folder: Path, command: str) -> None:
    """Write assign.json and the table assign.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "assign.json").write_text(json.dumps({"command": command, "results": results}, indent=1) + "\n")
    lines = [
        "# Deciding formats: time by number of layers",
        "",
        f"`{command}`; seconds in `--mpt-attach-metrics` (of a file of that size), in `--assign-precision`, and of the tool that",
        "does both (parsing and printing included). Errors are synthetic, so the predicted times say nothing about BERT;",
        "docs/budget.md says what `feasible` means.",
        "",
        "| layers | products | metrics, MB | attach | threshold | budget | attach, budget: whole tool | its CPU time | budget | bf16, ms | uniform, ms "
        "| budget, ms |",
        "|" + " --- |" * 12,
    ]
    for r in results:
        budget = r["budget"]
        lines.append(
            f"| {r['layers']} | {r['products']} | {r['metrics_mb']:.1f} | {budget['attach_s']:.3f} | "
            f"{r['threshold']['pass_s']:.3f} | {budget['pass_s']:.3f} | "
            f"{budget['wall_s']:.2f} | {budget['cpu_s']:.2f} | {budget['status']} | {r['bf16']['total_ms']:.1f} | "
            f"{r['uniform']['total_ms']:.1f} | {budget['total_ms']:.1f} |"
        )
    (folder / "assign.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure every size asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 12, 24])
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where to write assign.json and assign.md")
    args = parser.parse_args()
    results = []
    for layers in args.layers:
        with tempfile.TemporaryDirectory() as work:
            results.append(measure(layers, args, Path(work)))
    if args.results:
        sizes = " ".join(map(str, args.layers))
        write_results(results, args.results, f"python bench/assign.py --layers {sizes} --results docs/results")


if __name__ == "__main__":
    main()
