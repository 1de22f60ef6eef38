# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Time of every stage from ONNX to package, by number of layers, and the tools' peak memory.

Models are BertForMaskedLM of BERT-large's dimensions whose weights are zeros in a sparse file:
the compiler never looks at values, so only the graph costs. Memory is the peak of RssAnon (what
a process allocated; mapped files do not count). Passes are timed by mpt-opt's own -mlir-timing.

  python bench/compile_time.py --layers 2 12 24 48 --results docs/results
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "python")]

from mpt.study.sizes import write_model  # noqa: E402

POLL_SECONDS = 0.005


# Running tools.


def anonymous_kib(pid: int) -> int:
    """Return RssAnon of a process and its children in KiB; 0 where they have ended."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, ProcessLookupError):
        return total
    return total + sum(anonymous_kib(int(child)) for child in children)


def run(command: list[object], log: Path) -> dict[str, float]:
    """Run a command; return its wall and processor seconds and the peak of RssAnon in MiB."""
    before, start, peak = os.times(), time.perf_counter(), 0
    with open(log, "w") as output:
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output)
        while process.poll() is None:
            peak = max(peak, anonymous_kib(process.pid))
            time.sleep(POLL_SECONDS)
    wall, after = time.perf_counter() - start, os.times()
    if process.returncode:
        sys.exit(f"{shlex.join(map(str, command))}\nfailed with {process.returncode}; its messages are in {log}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": wall, "cpu_s": cpu, "anon_mib": peak / 1024}


def pass_times(log: Path) -> dict[str, float]:
    """Return seconds of each pass from mpt-opt's -mlir-timing (list form); equal passes are added up."""
    times: dict[str, float] = {}
    for line in log.read_text().splitlines():
        found = re.match(r"\s*([\d.]+) \(\s*[\d.]+%\)\s+(\S.*)$", line)
        if found and found[2] not in ("Total", "Rest", "root"):
            times[found[2]] = times.get(found[2], 0.0) + float(found[1])
    return times


def measure(layers: int, args: argparse.Namespace, work: Path) -> dict[str, object]:
    """Return the figures of one model size."""
    from mpt import cuda
    from mpt.stages import find_tool

    opt, build = find_tool("mpt-opt"), find_tool("mpt-build")
    onnx, graph, step = work / "model.onnx", work / "graph.mlir", work / "step.mlir"
    start = time.perf_counter()
    write_model(layers, args.hidden, args.batch, args.seq, onnx)
    stages: dict[str, dict[str, float]] = {}
    result = {"layers": layers, "hidden": args.hidden, "export_s": time.perf_counter() - start, "stages": stages}

    def stage(name: str, *command: object) -> Path:
        log = work / f"{re.sub('[^a-z]+', '-', name)}.log"
        stages[name] = run(list(command), log)
        wall, memory = stages[name]["wall_s"], stages[name]["anon_mib"]
        print(f"{layers:3d} layers  {name:<18} {wall:7.2f} s  {memory:6.0f} MiB", flush=True)
        return log

    timing = ("-mlir-timing", "-mlir-timing-display=list")
    stage("import, graph only", find_tool("mpt-import"), onnx, "-o", "-")
    stage("import", find_tool("mpt-import"), onnx, "-o", graph)  # with a copy of the weights
    graph.with_suffix(".safetensors").unlink(missing_ok=True)
    train = ("--mpt-differentiate", "--mpt-add-optimizer")
    passes = pass_times(stage("training step", opt, graph, *train, *timing, "-o", step))
    passes |= pass_times(stage("CPU passes", opt, step, "--mpt-cpu-pipeline", *timing, "-o", work / "cpu.mlir"))
    result["passes"] = passes
    stage("CPU package", build, step, "-o", work / "cpu")
    if args.cuda:
        source = step
        if args.policy != "fp32":
            source = work / "assigned.mlir"
            stage("assign", opt, step, f"--assign-precision=policy={args.policy}", "-o", source)
        stage("CUDA sources", build, source, "--target=cuda", "-o", work / "cuda")
        if args.nvcc and not cuda.missing_for_nvcc():
            os.environ["PYTHONPATH"] = str(ROOT / "python")
            code = "import sys; from mpt import cuda; cuda.compile_package(sys.argv[1])"
            stage("nvcc", sys.executable, "-c", code, work / "cuda")
    chain = [name for name in ("import", "training step", "assign", "CUDA sources") if name in stages]
    result["onnx_to_cuda_s"] = sum(stages[name]["wall_s"] for name in chain) if args.cuda else None
    result["peak_anon_mib"] = max(entry["anon_mib"] for name, entry in stages.items() if name != "nvcc")
    result["step_ops"] = sum(1 for line in open(step) if "= mpt." in line or '= "mpt.' in line)
    return result


# Reporting.


def table(results: list[dict]) -> list[str]:
    """Return Markdown: stages and passes by layers, and the growth from the first to the last size."""
    sizes = [entry["layers"] for entry in results]
    lines = [f"| layers | {' | '.join(map(str, sizes))} | ratio, last two |"]
    lines += [f"| --- |{' ---: |' * (len(sizes) + 1)}"]

    def row(name: str, values: list[float | None], digits: int = 2) -> None:
        cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        known = len(values) > 1 and values[-1] and values[-2]
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{values[-1] / values[-2]:.2f}' if known else '-'} |")

    for name in results[-1]["stages"]:
        for key, unit in (("wall_s", "wall"), ("cpu_s", "CPU")):
            row(f"{name}, {unit} s", [entry["stages"].get(name, {}).get(key) for entry in results])
    row("ONNX to CUDA sources, wall s", [entry["onnx_to_cuda_s"] for entry in results])
    for name in results[-1]["passes"]:
        if max(entry["passes"].get(name, 0.0) for entry in results) >= 0.005:
            row(f"pass {name}, s", [entry["passes"].get(name) for entry in results], 3)
    row("peak RssAnon, MiB", [entry["peak_anon_mib"] for entry in results], 0)
    row("ops in the step", [float(entry["step_ops"]) for entry in results], 0)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 12, 24, 48])
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--policy", default="uniform", help="of the CUDA sources: uniform, bf16 or fp32")
    parser.add_argument("--no-cuda", dest="cuda", action="store_false")
    parser.add_argument("--no-nvcc", dest="nvcc", action="store_false")
    parser.add_argument("--work", type=Path, help="keep the files here; default: a temporary directory")
    parser.add_argument("--results", type=Path, help="write compile_time.json and compile_time.md here")
    args = parser.parse_args()
    results = []
    for layers in args.layers:
        with tempfile.TemporaryDirectory() as scratch:
            work = args.work / str(layers) if args.work else Path(scratch)
            work.mkdir(parents=True, exist_ok=True)
            results.append(measure(layers, args, work))
    lines = table(results)
    print("\n".join(lines))
    if args.results:
        args.results.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", "bench/compile_time.py", *sys.argv[1:]])
        report = {"command": command, "cpus": os.cpu_count(), "results": results}
        (args.results / "compile_time.json").write_text(json.dumps(report, indent=1) + "\n")
        head = ["# Compile time by number of layers", "", f"`{command}`, on {os.cpu_count()} CPUs.", ""]
        size = f"hidden {args.hidden}, batch {args.batch} x {args.seq}"
        head += [f"BertForMaskedLM, {size}, vocabulary 30522, dropout 0.1.", ""]
        (args.results / "compile_time.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
