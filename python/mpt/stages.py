# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The compiler's stages as Python functions: each runs one C++ tool on files.

What a tool says on stderr is the message: it is passed on, with the line of IR that it
quotes shortened (a step's signature is thousands of characters long).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mpt.files import link_or_copy, staged

TARGETS = ("cpu", "cuda")
ENGINES = ("blas", "reference")
POLICIES = ("threshold", "budget", "uniform", "bf16", "fp32")


class StageError(RuntimeError):
    """A tool failed; the text is what it wrote to stderr."""


def find_tool(name: str) -> Path:
    """Return the path of a C++ tool: in $MPT_BIN, beside this package, or in ./build/bin.

    Raises StageError naming the places that were searched.
    """
    places = [Path(__file__).parent / "bin", Path("build") / "bin"]
    if os.environ.get("MPT_BIN"):
        places = [Path(os.environ["MPT_BIN"])]
    for place in places:
        if os.access(place / name, os.X_OK) and (place / name).is_file():
            return place / name
    searched = ", ".join(str(place) for place in places)
    raise StageError(f"{name}: not found in {searched}; build it (make build) or set MPT_BIN")


def shorten(text: str, width: int = 240) -> str:
    """Return `text` with lines of quoted IR, which start with a blank, cut to `width`."""
    lines = text.split("\n")
    cut = (line[:width] + " ..." if line[:1].isspace() and len(line) > width else line for line in lines)
    return "\n".join(cut)


def run_tool(name: str, arguments: Sequence[str | os.PathLike[str]], out: Path | None = None) -> None:
    """Run a tool; its warnings go to our stderr. Raises StageError with its stderr if it fails.

    out: a file for what it prints; default: our stdout.
    """
    command = [str(find_tool(name)), *(str(argument) for argument in arguments)]
    with contextlib.ExitStack() as stack:
        printed = stack.enter_context(open(out, "wb")) if out else None
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.PIPE, text=True, errors="replace"
        )
    said = shorten(done.stderr)
    if done.returncode:
        message = said.rstrip("\n")
        ending = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise StageError(message if done.returncode == 1 and message else f"{message}\n{name}: {ending}".lstrip())
    sys.stderr.write(said)


def import_model(
    model: Path, out: Path, loss: bool = False, bind: Mapping[str, int] | None = None
) -> None:
    """Import `model` (.onnx) into `out` (.mlir, with its weights beside it in .safetensors).

    loss: add the masked-LM loss to a graph that ends in logits. bind: dynamic axis -> size.
    """
    options = ["--loss"] if loss else []
    options += [f"--bind={name}={size}" for name, size in (bind or {}).items()]
    with staged(out) as inner:
        run_tool("mpt-import", [model, "-o", inner, *options])


@contextlib.contextmanager
def step_at(model: Path, sizes: Mapping[str, int]) -> Iterator[Path]:
    """Yield the training step of `model` (.onnx) with its dynamic axes of these sizes: what times can be priced at.

    Without weights, and only while the context is open. Raises StageError with the tool's message, such as that the
    model has no such axis.
    """
    with tempfile.TemporaryDirectory(prefix="mpt-") as directory:
        graph, step = Path(directory) / "graph.mlir", Path(directory) / "step.mlir"
        binds = [f"--bind={name}={size}" for name, size in sizes.items()]
        run_tool("mpt-import", [model, "--loss", *binds], out=graph)
        run_tool("mpt-opt", [graph, "--mpt-differentiate", "--mpt-add-optimizer", "-o", step])
        yield step


def optimise(graph: Path, out: Path, passes: Sequence[str]) -> None:
    """Run mpt-opt's `passes` on `graph`; the weights go along under the output's name."""
    with staged(out) as inner:
        run_tool("mpt-opt", [graph, *passes, "-o", inner])
        weights = graph.with_suffix(".safetensors")
        if weights.exists() and weights.resolve() != out.with_suffix(".safetensors").resolve():
            link_or_copy(weights, inner.with_suffix(".safetensors"))


def differentiate(graph: Path, out: Path, weight_decay: float | None = None) -> None:
    """Turn the forward graph `graph` into the training step `out`: gradients, clipping, AdamW."""
    options = f"=weight-decay={weight_decay}" if weight_decay is not None else ""
    optimise(graph, out, ["--mpt-differentiate", f"--mpt-add-optimizer{options}"])


def attach(step: Path, metrics: Path, out: Path) -> None:
    """Put the errors measured in `metrics` (metrics.json) on the products of `step`."""
    optimise(step, out, [f"--mpt-attach-metrics=profile={metrics}"])


def assign(
    step: Path,
    out: Path,
    policy: str = "threshold",
    pins: Sequence[str] = (),
    metrics: Path | None = None,
    record: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> None:
    """Choose a format for every product of `step`; `metrics` are attached first, if given.

    pins: PATTERN=FORMAT. record: where to write why (decisions.json). settings: further options of the pass, such as
    target or loss-mse; None leaves one at its default.
    """
    passes = [f"--mpt-attach-metrics=profile={metrics}"] if metrics else []
    with contextlib.ExitStack() as stack:
        options = [f"policy={policy}"] + [f"pin={pin}" for pin in pins]
        options += [f"{name}={value}" for name, value in (settings or {}).items() if value is not None]
        if record:
            options.append(f"record={stack.enter_context(staged(record))}")
        optimise(step, out, [*passes, f"--assign-precision={' '.join(options)}"])


def watch(step: Path, out: Path) -> None:
    """Have `step` count what its scaled casts lose: results that mpt.sentinels collects."""
    optimise(step, out, ["--canonicalize", "--cse", "--mpt-materialize-formats=sentinels"])


def build(step: Path, out: Path, target: str, engine: str = "blas", nvcc: bool = False) -> str:
    """Compile `step` (.mlir) into the package directory `out` for `target` (cpu or cuda).

    nvcc: compile CUDA sources too, where that is possible. Returns what kept it from being done, or "".
    """
    options = [f"--target={target}"] + ([f"--engine={engine}"] if target == "cpu" else [])
    with staged(out) as inner:
        run_tool("mpt-build", [step, "-o", inner, *options])
        if target != "cuda" or not nvcc:
            return ""
        from mpt import cuda

        missing = cuda.missing_for_nvcc()
        if not missing:
            cuda.compile_package(inner)
        return missing
