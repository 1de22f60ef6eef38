# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Makes everything that bench/gpu/run.sh needs on a machine that has a GPU, but neither LLVM nor a network.

Two folders in OUT, both listed in plan.json: `check`, tiny BERTs with what each launch reads and
writes and the losses of the CPU oracle; `measure`, BERTs at the sizes to be timed, as sources and
manifests (parameters are drawn on the GPU's machine). OUT.tar.xz is the same to carry along.

  python bench/gpu/prepare.py OUT [--measure base-256x128 base-64x512 large-64x512] [--metrics base=FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "bench" / "gpu"), str(ROOT / "bench"), str(ROOT / "python"), str(ROOT / "python" / "tests")]

import numpy as np  # noqa: E402
import replay  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from mpt import cuda, stages  # noqa: E402

TRAIN = ("--mpt-differentiate", "--mpt-add-optimizer")
# Layers and hidden size.
MODELS = {"base": (12, 768), "large": (24, 1024), "mini": (2, 128)}
CHECKED = ("bf16", "uniform")
ENGINES = ("own", "cublaslt")  # who multiplies
ORACLE_STEPS, LR = 10, 1e-3
LIMIT = 60 << 20


def build(step: Path, out: Path, options: list[str]) -> None:
    """Build a CUDA package without its initial parameters."""
    stages.run_tool("mpt-build", [step, "--target=cuda", "-o", out, *options])
    (out / "init.safetensors").unlink(missing_ok=True)


def check_case(model: Path, policy: str, engine: str, out: Path, work: Path) -> None:
    """Write a tiny package, its launches' dump, and what the CPU's oracle makes of its steps."""
    from mpt.runtime import Package

    graph, step = work / "graph.mlir", work / "step.mlir"
    stages.import_model(model, graph)
    stages.optimise(graph, step, [*TRAIN, f"--assign-precision=policy={policy}"])
    stages.run_tool("mpt-build", [step, "--target=cuda", "-o", out, f"--products={engine}"])
    stages.build(step, work / "cpu", "cpu", "reference")
    reference = load_file(model.with_suffix(".safetensors"))
    batch = {name.removeprefix("batch."): value for name, value in reference.items() if name.startswith("batch.")}
    with Package(work / "cpu") as oracle:
        losses = [oracle.step(batch, LR)["loss"] for _ in range(ORACLE_STEPS)]
    save_file({"losses": np.array(losses), **{f"batch.{name}": value for name, value in batch.items()}}, out / "oracle.safetensors")
    cuda.compile_package(out, simulate=True)
    with cuda.CudaPackage(out, simulate=True) as package:
        package.step(batch, LR)
        dump = replay.Dump(package)
        dump.step()
        dump.save(out / "launches.safetensors")


def assigned(graph: Path, out: Path, policy: str, metrics: Path | None, work: Path) -> str:
    """Assign formats to a training step; return where the errors are from."""
    if policy != "assigned":
        stages.optimise(graph, out, [f"--assign-precision=policy={policy}"])
        return ""
    if metrics:
        stages.optimise(graph, out, [f"--mpt-attach-metrics=profile={metrics}", "--assign-precision=policy=threshold"])
        return str(metrics.name)
    from assign import add_errors

    add_errors(graph, work / "profiled.mlir", seed=random.Random(graph.stem).randrange(1 << 30))
    stages.optimise(work / "profiled.mlir", out, ["--assign-precision=policy=threshold"])
    return "synthetic errors (bench/assign.py)"


def measure_case(name: str, out: Path, metrics: dict[str, Path]) -> list[dict]:
    """Write the packages of one model and size, such as base-256x128; return their entries of the plan."""
    from compile_time import write_model

    model, _, size = name.partition("-")
    batch, seq = (int(part) for part in size.split("x"))
    layers, hidden = MODELS[model]
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_model(layers, hidden, batch, seq, work / "model.onnx")
        # Only the graph is needed: the weights of the model are a sparse file of zeros.
        stages.run_tool("mpt-import", [work / "model.onnx", "-o", work / "graph.mlir"])
        (work / "graph.safetensors").unlink()
        stages.run_tool("mpt-opt", [work / "graph.mlir", *TRAIN, "-o", work / "step.mlir"])
        for policy in ("bf16", "uniform", "assigned"):
            errors = assigned(work / "step.mlir", work / f"{policy}.mlir", policy, metrics.get(model), work)
            for engine in ENGINES:
                package = out / f"{name}-{policy}-{engine}"
                build(work / f"{policy}.mlir", package, [f"--products={engine}"])
                entries.append({
                    "package": str(package.relative_to(out.parent)), "model": model, "layers": layers, "hidden": hidden,
                    "batch": batch, "seq": seq, "policy": policy, "products": engine, "errors": errors,
                })  # fmt: skip
                print(f"wrote {package}", flush=True)
    return entries


def prepare(out: Path, names: list[str], metrics: dict[str, Path]) -> None:
    """Write OUT anew."""
    import models

    if out.exists() and any(out.iterdir()):
        if not (out / "plan.json").is_file():
            sys.exit(f"{out}: is not empty and has no plan.json, so it is left alone")
        shutil.rmtree(out)
    (out / "check").mkdir(parents=True)
    (out / "measure").mkdir()
    checks = []
    with tempfile.TemporaryDirectory() as folder:
        models.write_model("tinyA", Path(folder))
        for policy in CHECKED:
            for engine in ENGINES:
                case = out / "check" / f"tinyA-{policy}-{engine}"
                with tempfile.TemporaryDirectory() as work:
                    check_case(Path(folder) / "tinyA.onnx", policy, engine, case, Path(work))
                checks.append({"package": str(case.relative_to(out)), "policy": policy})
                print(f"wrote {case}", flush=True)
    entries = [entry for name in names for entry in measure_case(name, out / "measure", metrics)]
    plan = {"format": "mpt-gpu-plan", "version": 1, "lr": LR, "check": checks, "measure": entries}
    (out / "plan.json").write_text(json.dumps(plan, indent=1) + "\n")
    archive = out.with_name(f"{out.name}.tar.xz")
    # What the simulator runs stays here.
    with tarfile.open(archive, "w:xz", preset=1) as tar:
        tar.add(out, out.name, filter=lambda entry: None if entry.name.endswith("_sim.so") else entry)
    size = archive.stat().st_size
    print(f"{archive}: {size / 2**20:.1f} MiB" + (", too much to carry" if size > LIMIT else ""))


def main() -> None:
    """Parse arguments and prepare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--measure", nargs="*", default=["base-256x128", "base-64x512", "large-64x512"], metavar="MODEL-BxS")
    parser.add_argument("--metrics", nargs="*", default=[], metavar="MODEL=METRICS.json", help="measured errors to assign by")
    args = parser.parse_args()
    pairs = [text.partition("=")[::2] for text in args.metrics]
    for name in args.measure:
        model, _, size = name.partition("-")
        if model not in MODELS or not all(part.isdigit() for part in size.split("x")) or size.count("x") != 1:
            parser.error(f"'{name}': expected MODEL-BATCHxSEQ with MODEL one of {', '.join(MODELS)}")
    prepare(args.out, args.measure, {model: Path(path) for model, path in pairs})


if __name__ == "__main__":
    main()
