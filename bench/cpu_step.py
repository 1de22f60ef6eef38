# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Time one FP32 training step on the CPU: mpt against PyTorch and onnxruntime.

Each contender lives in a process of its own, and all take one step in turn, so that drift of
the machine meets all alike. A step is forward, backward, clipping by global norm and AdamW of
BertForMaskedLM, dropout 0, the same batch and rates for all. Steps during which other processes
used more than 0.08 cores are not counted, as long as five are left; else all count and the
table says so.

  python bench/cpu_step.py --models mini base --contenders eager compile ort mpt --steps 15

The mpt package is exported, imported, differentiated and built here, unless --package mini=DIR
names one. Figures and a table go to --out after each model, and with --results docs/results there as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "python"), str(ROOT / "python" / "tests")]

CONTENDERS = {
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "ort": "onnxruntime, exported step",
    "mpt": "mpt package",
}
HEADS = ("contender", "median", "min", "IQR", "CPU", "peak MiB", "vs eager", "vs ort", "steps", "loss 10")
LR, DECAY, EPS, CLIP = 1e-4, 0.01, 1e-8, 1.0
FOREIGN_CORES = 0.08
SETTLE_SECONDS = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


# The contenders. Each has step() -> loss, and is made in its own process.


class TorchContender:
    """PyTorch with SDPA attention and the fused AdamW; compiled=True runs it under torch.compile."""

    def __init__(self, name: str, threads: int, compiled: bool) -> None:
        import models
        import torch

        torch.set_num_threads(threads)
        shape = models.SHAPES[name]
        self.batch = models.make_batch(shape)
        model = models.build(shape, fresh=not shape.small)
        model.set_attn_implementation("sdpa")
        self.parameters = list(model.parameters())
        self.model = torch.compile(model.train()) if compiled else model.train()
        decayed = [p for p in self.parameters if p.dim() > 1]
        plain = [p for p in self.parameters if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}],
            lr=LR,
            eps=EPS,
            fused=True,
        )
        self.clip = torch.nn.utils.clip_grad_norm_

    def step(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(**self.batch).loss
        loss.backward()
        self.clip(self.parameters, CLIP)
        self.optimizer.step()
        return loss.item()


class OrtContender:
    """Stock onnxruntime on the exported step; state stays in two sets of bound buffers."""

    def __init__(self, name: str, threads: int, step_file: Path) -> None:
        import numpy as np
        import onnxruntime as ort
        from safetensors.numpy import load_file

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(step_file), options, ["CPUExecutionProvider"])
        names = json.loads(step_file.with_suffix(".json").read_text())
        values = load_file(step_file.with_suffix(".safetensors"))
        self.state, self.hyper = [], {}
        for side in range(2):
            held = {}
            for parameter in names:
                start = values[f"p.{parameter}"]
                held[f"p.{parameter}"] = ort.OrtValue.ortvalue_from_numpy(start.copy())
                for kind in "mv":
                    held[f"{kind}.{parameter}"] = ort.OrtValue.ortvalue_from_numpy(np.zeros_like(start))
            self.state.append(held)
        self.batch = {k: v for k, v in values.items() if k.startswith("in.")}
        self.loss = ort.OrtValue.ortvalue_from_numpy(np.zeros((), np.float32))
        for key, value in (("lr", LR), ("decay", DECAY), ("eps", EPS)):
            self.hyper[key] = np.float32(value)
        self.count = 0

    def step(self) -> float:
        import numpy as np

        old, new = self.state[self.count % 2], self.state[1 - self.count % 2]
        self.count += 1
        binding = self.session.io_binding()
        for key, value in old.items():
            binding.bind_ortvalue_input(key, value)
            binding.bind_ortvalue_output(f"new.{key}", new[key])
        scalars = {**self.hyper, "t": np.float32(self.count)}
        for key, value in scalars.items():
            binding.bind_cpu_input(key, np.array(value, np.float32))
        for key, value in self.batch.items():
            binding.bind_cpu_input(key, value)
        binding.bind_ortvalue_output("loss", self.loss)
        self.session.run_with_iobinding(binding)
        return float(self.loss.numpy())


class MptContender:
    """A package made by mptc, starting from the same parameters."""

    def __init__(self, name: str, threads: int, package: Path, values_file: Path) -> None:
        from safetensors.numpy import load_file

        from mpt.runtime import Package

        values = load_file(values_file)
        self.package = Package(str(package), threads=threads)
        self.package.load_parameters({k[2:]: v for k, v in values.items() if k.startswith("p.")})
        self.batch = {k[3:]: v for k, v in values.items() if k.startswith("in.")}
        self.package_seed = 0

    def step(self) -> float:
        return self.package.step(self.batch, lr=LR, seed=self.package_seed)["loss"]


def make_contender(args: argparse.Namespace):
    """Return the contender of a worker process."""
    if args.worker in ("eager", "compile"):
        return TorchContender(args.model, args.threads, args.worker == "compile")
    if args.worker == "ort":
        return OrtContender(args.model, args.threads, args.step_file)
    return MptContender(args.model, args.threads, args.package_dir, args.step_file.with_suffix(".safetensors"))


# The worker: one JSON reply a line read.


def cpu_seconds() -> float:
    """Return the processor time this process has used, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def busy_seconds() -> float:
    """Return the processor time that the whole machine has used (user, nice, system, irq)."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[i]) for i in (0, 1, 2, 5, 6)) / TICKS


def peak_mib() -> float:
    """Return the peak resident set of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(contender) -> dict[str, float]:
    """Take one step; return wall and CPU milliseconds, the loss, and cores used by others."""
    cpu, busy, start = cpu_seconds(), busy_seconds(), time.perf_counter()
    loss = contender.step()
    wall = time.perf_counter() - start
    used = cpu_seconds() - cpu
    foreign = max(0.0, busy_seconds() - busy - used) / wall
    return {"ms": wall * 1e3, "cpu_ms": used * 1e3, "loss": loss, "foreign": foreign}


def work(args: argparse.Namespace) -> None:
    """Serve steps over stdin and stdout; whatever libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    start = time.perf_counter()
    contender = make_contender(args)
    print(json.dumps({"ready_s": time.perf_counter() - start}), file=replies, flush=True)
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        print(json.dumps(measure(contender)), file=replies, flush=True)
    print(json.dumps({"peak_mib": peak_mib()}), file=replies, flush=True)


# The driver.


class Worker:
    """A contender in a process of its own."""

    def __init__(self, args: argparse.Namespace, model: str, contender: str, out: Path) -> None:
        command = [sys.executable, __file__, "--worker", contender, "--model", model]
        command += ["--threads", str(args.threads), "--step-file", str(out / f"step_{model}.onnx")]
        if contender == "mpt":
            command += ["--package-dir", str(packages(args)[model])]
        environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), TORCH_LOGS="-all")
        # OpenBLAS picks its kernels for this CPU, as it does where nobody pinned them.
        environment.pop("OPENBLAS_CORETYPE", None)
        self.log = open(out / f"worker_{model}_{contender}.log", "w")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment
        )
        self.name, self.steps = contender, []
        self.ready_s = self._reply()["ready_s"]

    def _reply(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"contender '{self.name}' died; its messages are in {self.log.name}")
        return json.loads(line)

    def step(self) -> dict[str, float]:
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self._reply()

    def stop(self) -> float:
        """End the process; return its peak resident set in MiB."""
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        peak = self._reply()["peak_mib"]
        self.process.wait()
        return peak


def packages(args: argparse.Namespace) -> dict[str, Path]:
    """Return model -> package directory from --package model=DIR."""
    pairs = dict(text.split("=", 1) for text in args.package)
    return {name: Path(path).resolve() for name, path in pairs.items()}


def prepare(model: str, out: Path) -> None:
    """Write the exported step and the starting values of `model`, in a process of its own."""
    code = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "import models, torch_step; from pathlib import Path\n"
        "from safetensors.torch import save_file\n"
        "shape, path = models.SHAPES[sys.argv[1]], Path(sys.argv[2])\n"
        "model, batch = models.build(shape, fresh=not shape.small), models.make_batch(shape)\n"
        "values = {'p.' + n: p.detach().clone() for n, p in model.named_parameters()}\n"
        "values.update({'in.' + n: v for n, v in batch.items()})\n"
        "save_file(values, path.with_suffix('.safetensors'))\n"
        "torch_step.export_step(model, batch, path)\n"
    )
    path = out / f"step_{model}.onnx"
    if path.with_suffix(".json").exists():
        return
    with open(out / f"export_{model}.log", "w") as log:
        command = [sys.executable, "-c", code, model, str(path), *sys.path[:3]]
        if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
            sys.exit(f"exporting the step of '{model}' failed; its messages are in {log.name}")


def build_package(model: str, out: Path) -> Path:
    """Export, import, differentiate and build the mpt package of `model`, where it is not there yet."""
    from mpt import stages

    package = out / f"mpt_{model}"
    if package.exists():
        return package
    code = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "import models; from mpt.export import export\n"
        "shape = models.SHAPES[sys.argv[1]]\n"
        "export(models.build(shape, fresh=not shape.small), models.make_batch(shape), sys.argv[2])\n"
    )
    onnx, graph, step = (out / f"forward_{model}.onnx", out / f"forward_{model}.mlir", out / f"train_{model}.mlir")
    with open(out / f"package_{model}.log", "w") as log:
        command = [sys.executable, "-c", code, model, str(onnx), *sys.path[:3]]
        if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
            sys.exit(f"exporting '{model}' failed; its messages are in {log.name}")
    stages.import_model(onnx, graph)
    stages.differentiate(graph, step, DECAY)
    stages.build(step, package, "cpu")
    return package


def quiet(steps: list[dict[str, float]]) -> tuple[list[dict[str, float]], bool]:
    """Return the steps to count, and whether the machine was quiet for them."""
    kept = [step for step in steps if step["foreign"] <= FOREIGN_CORES]
    return (kept, True) if len(kept) >= 5 else (steps, False)


def summary(worker: Worker, warmup: int, peak: float) -> dict[str, object]:
    """Return the contender's figures: milliseconds (median, min, spread), memory, losses."""
    kept, was_quiet = quiet(worker.steps[warmup:])
    times = [step["ms"] for step in kept]
    quarter = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return {
        "contender": worker.name,
        "median_ms": statistics.median(times),
        "min_ms": min(times),
        "iqr_ms": quarter[2] - quarter[0],
        "cpu_ms": statistics.median(step["cpu_ms"] for step in kept),
        "steps": len(times),
        "quiet": was_quiet,
        "foreign_cores": statistics.median(step["foreign"] for step in kept),
        "peak_mib": peak,
        "ready_s": worker.ready_s,
        "first_step_s": worker.steps[0]["ms"] / 1e3,
        "losses": [step["loss"] for step in worker.steps[:10]],
    }


def race(args: argparse.Namespace, model: str, out: Path) -> list[dict[str, object]]:
    """Run the contenders of one model in turn and return a summary of each."""
    from rich.progress import track

    prepare(model, out)
    if "mpt" in args.contenders and model not in packages(args):
        args.package.append(f"{model}={build_package(model, out)}")
    workers = [Worker(args, model, name, out) for name in args.contenders]
    for _ in track(range(args.warmup + args.steps), description=f"BERT-{model}"):
        for worker in workers:
            time.sleep(SETTLE_SECONDS)
            worker.steps.append(worker.step())
    return [summary(worker, args.warmup, worker.stop()) for worker in workers]


def show(model: str, rows: list[dict[str, object]], shape) -> None:
    """Print the table of one model."""
    from rich.console import Console
    from rich.table import Table

    title = f"BERT-{model} {shape.batch}x{shape.seq}, FP32 training step, milliseconds"
    table = Table(title=title, caption="busy: cores used by other processes during the steps")
    for head in HEADS:
        table.add_column(head, justify="left" if head == "contender" else "right", no_wrap=True)
    for cells in table_rows(rows):
        table.add_row(*cells)
    Console(width=max(120, Console().width)).print(table)


def table_rows(rows: list[dict[str, object]]) -> list[list[str]]:
    """Return the cells of HEADS for each contender; ratios say how many times as fast as another."""
    # Where some rows are disturbed, the fastest steps are what can be compared.
    key = "median_ms" if all(row["quiet"] for row in rows) else "min_ms"
    base = {row["contender"]: row[key] for row in rows}
    cells = []
    for row in rows:
        ratios = [f"{base[other] / row[key]:.2f}x" if other in base else "-" for other in ("eager", "ort")]
        steps = f"{row['steps']}" if row["quiet"] else f"{row['steps']}, busy {row['foreign_cores']:.1f}"
        figures = [f"{row[k]:.0f}" for k in ("median_ms", "min_ms", "iqr_ms", "cpu_ms", "peak_mib")]
        cells.append([CONTENDERS[row["contender"]], *figures, *ratios, steps, f"{row['losses'][-1]:.5f}"])
    return cells


def write_results(report: dict, shapes: dict, directory: Path) -> None:
    """Write cpu_step.json and cpu_step.md."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu_step.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = ["# FP32 training step on the CPU", "", f"`{report['command']}`", ""]
    lines += [f"{report['cpu']}, {report['threads']} threads. Milliseconds; ratios say how many times as fast."]
    lines += ["busy: cores that other processes used; medians of quiet steps only, where enough were quiet."]
    for model, rows in report["models"].items():
        lines += ["", f"## BERT-{model} {shapes[model].batch}x{shapes[model].seq}", ""]
        lines += [f"| {' | '.join(HEADS)} |", f"| --- |{' ---: |' * (len(HEADS) - 1)}"]
        lines += [f"| {' | '.join(cells)} |" for cells in table_rows(rows)]
    (directory / "cpu_step.md").write_text("\n".join(lines) + "\n")


def cpu_model() -> str:
    """Return the processor's name as Linux gives it."""
    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mini", "base"])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--package", action="append", default=[], metavar="MODEL=DIR")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--results", type=Path, help="also write cpu_step.json and cpu_step.md here")
    for hidden in ("--worker", "--model"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--step-file", "--package-dir"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    if args.worker:
        work(args)
        return
    import models

    args.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "bench/cpu_step.py", *sys.argv[1:]])
    report = {"cpu": cpu_model(), "threads": args.threads, "command": command, "models": {}}
    for model in args.models:
        rows = race(args, model, args.out)
        report["models"][model] = rows
        show(model, rows, models.SHAPES[model])
        for directory in (args.out, args.results):
            if directory:
                write_results(report, models.SHAPES, directory)
    print(f"figures: {args.results or args.out}/cpu_step.json")


if __name__ == "__main__":
    main()
