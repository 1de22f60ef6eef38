# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Time of deciding formats, by number of layers, and what the decisions come to.

Models are compile_time.py's (BERT-large's dimensions, weights of zeros in a sparse file), at the
batch and sequence that they are priced at. Errors are synthetic: per product a log-normal scale, and
factors between formats as profiles of small BERTs have them. So times and linearity are real, and the
predicted step times depend on errors that are not: they show that the policy has something to weigh.

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

ALIASES = """#bench_bf16 = #mpt.format<bf16>
#bench_e4m3 = #mpt.format<f8E4M3FN>
#bench_e5m2 = #mpt.format<f8E5M2>
#bench_e4m3_row = #mpt.format<f8E4M3FN, scale = per_row, recipe = current>
#bench_i8 = #mpt.format<i8>
"""
# (lhs, rhs, error relative to E4M3): six candidates of a product.
CANDIDATES = [
    ("bf16", "bf16", 0.01),
    ("e4m3", "e4m3", 1.0),
    ("e4m3_row", "e4m3_row", 0.8),
    ("e4m3", "e5m2", 2.0),
    ("e5m2", "e4m3", 2.0),
    ("i8", "i8", 1.0),
]
PRODUCT = re.compile(r"(mpt\.matmul .*?\{)(.*?role = #mpt\.role<(\w+)>)")


def add_errors(step: Path, out: Path, seed: int) -> int:
    """Write `step` to `out` with synthetic metrics on every product; return how many there are."""
    draw, count = random.Random(seed), 0

    def with_metrics(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        scale, role, entries = 10 ** draw.gauss(0, 0.4), match[3], []
        for lhs, rhs, factor in CANDIDATES:
            error = scale * factor * draw.uniform(0.8, 1.25)
            values = {"be_median": 1e-3 * error, "be_p99": 4e-3 * error, "rescaled": 1.0}
            if role == "fprop":
                values["loss_mse"] = 1e-8 * error**2
            else:
                values |= {"noise_ratio": 1e-4 * error, "persistent": 1e-4 * error * draw.uniform(0.3, 1)}
            text = ", ".join(f"{name} = {value:e} : f64" for name, value in values.items())
            entries.append(f"#mpt.candidate<#bench_{lhs}, #bench_{rhs}, {{{text}}}>")
        return f"{match[1]}metrics = #mpt.metrics<m = 1, n = 1, k = 1, [{', '.join(entries)}]>, {match[2]}"

    with open(step) as source, open(out, "w") as target:
        target.write(ALIASES)
        target.writelines(PRODUCT.sub(with_metrics, line) for line in source)
    return count


def measure(layers: int, args: argparse.Namespace, work: Path) -> dict[str, object]:
    """Return the figures of one model size."""
    from mpt.stages import find_tool

    opt, onnx, step, profiled = find_tool("mpt-opt"), work / "model.onnx", work / "step.mlir", work / "profiled.mlir"
    write_model(layers, args.hidden, args.batch, args.seq, onnx)
    graph, record = work / "graph.mlir", work / "decisions.json"
    run([find_tool("mpt-import"), onnx, "-o", graph], work / "import.log")
    graph.with_suffix(".safetensors").unlink(missing_ok=True)
    run([opt, graph, "--mpt-differentiate", "--mpt-add-optimizer", "-o", step], work / "step.log")
    result: dict[str, object] = {"layers": layers, "products": add_errors(step, profiled, seed=layers)}
    for policy, bounds in (
        ("bf16", ""),
        ("uniform", ""),
        ("threshold", ""),
        ("budget", f"loss-mse={layers * 2e-8} noise-ratio={layers * 1e-3} persistent={layers * 6e-4}"),
    ):
        log, start = work / f"{policy}.log", time.perf_counter()
        options = f"policy={policy} {bounds} record={record}"
        usage = run(
            [opt, profiled, f"--assign-precision={options}", "-mlir-timing", "-mlir-timing-display=list", "-o", "/dev/null"],
            log,
        )
        decisions = json.loads(record.read_text())
        figures = {
            "wall_s": time.perf_counter() - start,
            "pass_s": pass_times(log).get("AssignPrecision"),
            "anon_mib": usage["anon_mib"],
            "total_ms": decisions["predicted"]["total_us"] / 1e3,
            "status": decisions.get("budget", {}).get("status"),
        }
        result[policy] = figures
        print(
            f"{layers:3d} layers {result['products']:5d} products  {policy:<10} pass {figures['pass_s']:6.3f} s, "
            f"tool {figures['wall_s']:5.2f} s, predicted {figures['total_ms']:8.2f} ms {figures['status'] or ''}",
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
        f"`{command}`; seconds in the pass, and of the whole tool (parsing and printing included). Errors are synthetic,",
        "so the predicted times say nothing about BERT; docs/budget.md says what `feasible` means.",
        "",
        "| layers | products | threshold, pass | budget, pass | budget, tool | budget | bf16, ms | uniform, ms | budget, ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        budget = r["budget"]
        lines.append(
            f"| {r['layers']} | {r['products']} | {r['threshold']['pass_s']:.3f} | {budget['pass_s']:.3f} | "
            f"{budget['wall_s']:.2f} | {budget['status']} | {r['bf16']['total_ms']:.1f} | "
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
