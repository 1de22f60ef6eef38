# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What profiling costs: time in plain training steps, and memory, of BERT on the CPU.

Plain steps and each way of profiling run in a process of their own, so that the peak of memory is
theirs. A measured batch is a forward and a backward pass with every product measured; a probe is
another one with some products rounded. Steps are the median of several; batches too. Where other
processes used the machine meanwhile, the table says so, and processor time is what to compare.

  python bench/profile.py --model base --batches 3

The package is built here, unless --package names one. Figures go to --out, with --results to
docs/results as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "python"), str(ROOT / "python" / "tests")]

import cpu_step  # noqa: E402  (beside this file)

# Candidates of every product; where one operand is a gradient the second format is its. Each three have one
# with a scale for each vector and one or two that are rounded stochastically, which cost most.
PAIRS = (
    "bf16*bf16", "i8[per_vector]*i8[per_vector]", "i8*i8[stochastic]",
    "f8E4M3FN*f8E4M3FN", "f8E4M3FN[per_vector]*f8E4M3FN[per_vector]", "f8E4M3FN*f8E4M3FN[stochastic]",
    "f8E4M3FN*f8E5M2", "f8E4M3FN[per_vector]*f8E5M2[per_vector]", "f8E4M3FN*f8E5M2[stochastic]",
    "i8*i8", "i8[per_vector]*i8[per_vector,stochastic]", "f8E4M3FN[per_vector]*f8E4M3FN[per_vector,stochastic]",
)  # fmt: skip
COUNTS = (3, 6, 12)
WAYS = {"steps": "plain steps", "default": "default candidates"}
WAYS |= {str(count): f"{count} candidates" for count in COUNTS} | {"probes": "default probes by role"}
HEADS = ("run", "wall ms", "CPU ms", "wall, steps", "CPU, steps", "peak MiB", "memory", "end of point s", "others busy")
BAR_TIME, BAR_MEMORY = 6.0, 1.2


def timed(body) -> dict[str, float]:
    """Run `body`; return wall and CPU milliseconds, and cores used by others meanwhile."""
    cpu, busy, start = cpu_step.cpu_seconds(), cpu_step.busy_seconds(), time.perf_counter()
    body()
    wall, used = time.perf_counter() - start, cpu_step.cpu_seconds() - cpu
    foreign = max(0.0, cpu_step.busy_seconds() - busy - used) / wall
    return {"ms": wall * 1e3, "cpu_ms": used * 1e3, "foreign": foreign}


def work(args: argparse.Namespace) -> None:
    """Run one of WAYS in this process and print what it took."""
    from safetensors import safe_open

    from mpt.profile import Probes, Profiler, Sampling
    from mpt.runtime import Package

    with safe_open(args.step_file, "numpy") as values:
        batch = {name[3:]: values.get_tensor(name) for name in values.keys() if name.startswith("in.")}
    package = Package(str(args.package), threads=args.threads)
    report: dict[str, object] = {"end_s": 0.0}
    if args.worker == "steps":
        report["runs"] = [timed(lambda: package.step(batch, lr=1e-4)) for _ in range(args.steps + 2)][2:]
    else:
        package.step(batch, lr=1e-4)
        candidates = ",".join(PAIRS[: int(args.worker)]) if args.worker.isdigit() else None
        probes = Probes("role") if args.worker == "probes" else Probes()
        with Profiler(package, Sampling(candidates=candidates), batches=args.batches, probes=probes) as profiler:
            profiler.begin_point()
            runs = []
            for index in range(args.batches):
                runs.append(timed(lambda: profiler.batch(batch, rng_step=index)))
            report["runs"] = runs
            report["end_s"] = timed(profiler.end_point)["ms"] / 1e3
            report["probes"] = profiler.probes
            profiler.write(args.out / f"profile_{args.worker}.json")
            report["file_bytes"] = (args.out / f"profile_{args.worker}.json").stat().st_size
    report["peak_mib"] = cpu_step.peak_mib()
    print(json.dumps(report))


def measure(args: argparse.Namespace, way: str, package: Path) -> dict[str, object]:
    """Run `way` in a process of its own; return its summary."""
    step_file = args.out / f"step_{args.model}.safetensors"
    command = [sys.executable, __file__, "--worker", way, "--package", str(package), "--step-file", str(step_file)]
    for name in ("threads", "steps", "batches", "out"):
        command += [f"--{name}", str(getattr(args, name))]
    environment = dict(os.environ)
    environment.pop("OPENBLAS_CORETYPE", None)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"'{way}' failed")
    report = json.loads(done.stdout)
    runs = report.pop("runs")
    return report | {"way": way} | {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def rows(reports: list[dict]) -> list[list[str]]:
    """The cells of HEADS; a probe's batch is shown as one probe."""
    plain = reports[0]
    by_way = {report["way"]: report for report in reports}
    cells = []
    for report in reports:
        name, times = WAYS[report["way"]], (report["ms"], report["cpu_ms"])
        if report["way"] == "probes":
            name = f"one of {report['probes']} probes"
            base = by_way["default"]
            times = tuple((report[key] - base[key]) / report["probes"] for key in ("ms", "cpu_ms"))
        ratios = (times[0] / plain["ms"], times[1] / plain["cpu_ms"])
        memory = report["peak_mib"] / plain["peak_mib"] - 1
        figures = [f"{times[0]:.0f}", f"{times[1]:.0f}", f"{ratios[0]:.2f}", f"{ratios[1]:.2f}"]
        figures += [f"{report['peak_mib']:.0f}", f"{100 * memory:+.0f} %"]
        cells.append([name, *figures, f"{report['end_s']:.1f}", f"{report['foreign']:.1f}"])
    return cells


def verdicts(reports: list[dict]) -> list[str]:
    """What the bars ask, and what was found."""
    by_way = {report["way"]: report for report in reports}
    plain, found = by_way["steps"], by_way["default"]
    ratio = found["cpu_ms"] / plain["cpu_ms"]
    memory = found["peak_mib"] / plain["peak_mib"]
    lines = [
        f"time: a measured batch takes {ratio:.2f} steps of processor time (bar {BAR_TIME:g}): "
        + ("met" if ratio <= BAR_TIME else "missed"),
        f"memory: {100 * (memory - 1):+.0f} % (bar +{100 * (BAR_MEMORY - 1):.0f} %): "
        + ("met" if memory <= BAR_MEMORY else "missed"),
    ]
    low, middle, high = (by_way[str(count)]["cpu_ms"] for count in COUNTS)
    slopes = (middle - low) / (COUNTS[1] - COUNTS[0]), (high - middle) / (COUNTS[2] - COUNTS[1])
    lines.append(f"each candidate more takes {slopes[0]:.0f} ms from 3 to 6, {slopes[1]:.0f} ms from 6 to 12")
    return lines


def write_results(report: dict, directory: Path) -> None:
    """Write profile.json and profile.md."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "profile.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = [f"# What profiling costs: BERT-{report['model']}", "", f"`{report['command']}`", ""]
    lines += [f"{report['cpu']}, {report['threads']} threads, {report['date']}. Medians; a step is a plain training step."]
    lines += ["others busy: cores that other processes used meanwhile; where there are any, compare processor time.", ""]
    lines += [f"| {' | '.join(HEADS)} |", f"| --- |{' ---: |' * (len(HEADS) - 1)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows(report["runs"])]
    lines += ["", *(f"* {line}" for line in verdicts(report["runs"]))]
    (directory / "profile.md").write_text("\n".join(lines) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--package", type=Path, help="instead of building one")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--results", type=Path, help="also write profile.json and profile.md here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--step-file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.worker:
        work(args)
        return
    from rich.progress import track

    args.out.mkdir(parents=True, exist_ok=True)
    cpu_step.prepare(args.model, args.out)
    package = args.package or cpu_step.build_package(args.model, args.out)
    reports = [measure(args, way, package) for way in track(WAYS, description=f"BERT-{args.model}")]
    command = shlex.join(["python", "bench/profile.py", *sys.argv[1:]])
    report = {"cpu": cpu_step.cpu_model(), "threads": args.threads, "command": command, "model": args.model}
    report |= {"date": time.strftime("%Y-%m-%d"), "system": platform.system(), "runs": reports}
    for directory in (args.out, args.results):
        if directory:
            write_results(report, directory)
    print((args.out / "profile.md").read_text())


if __name__ == "__main__":
    main()
