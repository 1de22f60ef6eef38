# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The demonstration: a small BERT on real English text, from PyTorch to compiled training.

The pieces are here, one function each; `run` (`mptc demo`) does them in order:

    text -> batches, PyTorch -> model.onnx -> forward.mlir -> step.mlir -> cpu-fp32/
    cpu-fp32/ on batches -> metrics.json -> graph.mlir (step with metrics) -> assigned.mlir -> cpu-assigned/, cuda/
    training: cpu-fp32/, cpu-assigned/ and PyTorch, the same batches, rates and first weights
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpt import data, stages
from mpt.console import bar, console
from mpt.metrics import label
from mpt.train import Record, Schedule, follow, train_package, train_torch

if TYPE_CHECKING:
    from transformers import BertForMaskedLM


@dataclass(frozen=True)
class DemoModel:
    """Dimensions of the demo's BERT and of its batches."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 1024
    vocab: int = 4096
    positions: int = 512
    batch: int = 8
    seq: int = 128
    dropout: float = 0.0
    seed: int = 0


SCHEDULE = Schedule(peak=5e-4, warmup=30)
STEPS = 150

# Where training is measured: at its start, and after the warm-up.
PROFILE_STEPS = (0, 30)
PROFILE_BATCHES = 2


def build_model(spec: DemoModel = DemoModel()) -> "BertForMaskedLM":
    """Return a freshly initialised BertForMaskedLM with eager attention; same seed, same weights."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(spec.seed)
    config = BertConfig(
        vocab_size=spec.vocab,
        hidden_size=spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=spec.intermediate,
        max_position_embeddings=spec.positions,
        hidden_dropout_prob=spec.dropout,
        attention_probs_dropout_prob=spec.dropout,
        attn_implementation="eager",
    )
    return BertForMaskedLM(config)


def prepare_data(
    out: Path, spec: DemoModel = DemoModel(), count: int | None = None, corpus: Path = data.CORPUS
) -> data.Batches:
    """Write out/tokenizer.json and out/batches.safetensors and return the batches.

    count None: one pass over the corpus.
    """
    with bar() as display:
        task = display.add_task("text to batches", total=4, note="reading the corpus")
        texts = data.read_corpus(corpus)
        display.update(task, advance=1, note=f"vocabulary from {len(texts)} files")
        tokenizer = data.train_tokenizer(texts, spec.vocab)
        tokenizer.save(str(out / "tokenizer.json"))
        display.update(task, advance=1, note="tokens, windows, masks")
        batches = data.make_batches(tokenizer, texts, spec.batch, spec.seq, count, spec.seed)
        display.update(task, advance=1, note="writing")
        data.save_batches(batches, out / "batches.safetensors")
        display.update(task, advance=1, note=f"{len(batches)} batches of {spec.batch}x{spec.seq}")
    return batches


def export_model(out: Path, batches: data.Batches, spec: DemoModel = DemoModel()) -> Path:
    """Write out/model.onnx and the configuration that transformers needs to load its weights."""
    from mpt.export import export

    with bar() as display:
        task = display.add_task("PyTorch to ONNX", total=1, note="")
        model = build_model(spec)
        model.config.save_pretrained(out)
        path = export(model, batches[0], out / "model.onnx")
        display.update(task, advance=1, note=f"{path.stat().st_size / 1e6:.0f} MB")
    return path


def train_reference(
    batches: data.Batches, steps: int, spec: DemoModel = DemoModel(), schedule: Schedule = SCHEDULE, threads: int = 2
) -> list[Record]:
    """Train the demo's model in PyTorch, in float32, and return one record a step."""
    records = train_torch(build_model(spec), batches, steps, schedule, threads=threads)
    return follow(records, steps, "train, PyTorch FP32")


def final_loss(records: list[Record], last: int = 10) -> float:
    """Return the mean loss of the last steps, the figure that runs are compared by."""
    return float(np.mean([record.loss for record in records[-last:]]))


def in_turn(title: str, parts: Sequence[tuple[str, Callable[[], object]]]) -> None:
    """Run the parts of a stage, each with a name, under one progress bar."""
    with bar() as display:
        task = display.add_task(title, total=len(parts), note="")
        for name, part in parts:
            display.update(task, note=name)
            start = time.perf_counter()
            part()
            display.update(task, advance=1, note=f"{name}: {time.perf_counter() - start:.1f} s")


def compile_fp32(out: Path) -> None:
    """model.onnx -> forward.mlir -> step.mlir -> cpu-fp32/."""
    in_turn(
        "ONNX to FP32 step",
        [
            ("import", lambda: stages.import_model(out / "model.onnx", out / "forward.mlir")),
            ("differentiate", lambda: stages.differentiate(out / "forward.mlir", out / "step.mlir")),
            ("build cpu-fp32", lambda: stages.build(out / "step.mlir", out / "cpu-fp32", "cpu")),
        ],
    )


def measure(out: Path, batches: data.Batches) -> None:
    """cpu-fp32/ on the first batches -> metrics.json."""
    from mpt.profile import Plan, profile
    from mpt.runtime import Package

    plan = Plan(PROFILE_BATCHES, PROFILE_STEPS, SCHEDULE)
    with Package(out / "cpu-fp32", threads=2) as package:
        profile(package, batches, out / "metrics.json", plan)


def compile_assigned(out: Path) -> None:
    """step.mlir and metrics.json -> graph.mlir -> assigned.mlir, decisions.json -> cpu-assigned/."""
    record = out / "decisions.json"
    in_turn(
        "metrics to assigned step",
        [
            ("attach metrics", lambda: stages.attach(out / "step.mlir", out / "metrics.json", out / "graph.mlir")),
            ("assign precision", lambda: stages.assign(out / "graph.mlir", out / "assigned.mlir", record=record)),
            ("build cpu-assigned", lambda: stages.build(out / "assigned.mlir", out / "cpu-assigned", "cpu")),
        ],
    )


def compile_cuda(out: Path) -> None:
    """assigned.mlir -> cuda/, compiled where nvcc is."""
    missing = []

    def build() -> None:
        missing.append(stages.build(out / "assigned.mlir", out / "cuda", "cuda", nvcc=True))

    in_turn("CUDA package", [("sources, nvcc", build)])
    if missing[0]:
        console.print(f"the CUDA sources are written and not compiled: {missing[0]}")


def train(package_path: Path, batches: data.Batches, steps: int, title: str) -> list[Record]:
    """Train a CPU package from its first weights; its losses go to <package>.jsonl."""
    from mpt.runtime import Package

    with Package(package_path, threads=2) as package, open(package_path.with_suffix(".jsonl"), "w") as log:
        return follow(train_package(package, batches, steps, SCHEDULE), steps, title, log)


def decision_rows(decisions: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return (product, role, format, metric, bound) of every product of a decision record.

    The metric is the median backward error of the chosen formats; where BF16 was chosen because
    8 bits would not do, that of the 8-bit candidate that came closest, which is then named.
    """
    rows = []
    for product in decisions["products"]:
        chosen = product["chosen"]
        candidates = product["candidates"]
        taken = [c for c in candidates if all(c[side] == chosen[side] for side in ("lhs", "rhs"))]
        narrow = [c for c in candidates if "bf16" not in (c["lhs"]["storage"], c["rhs"]["storage"])]
        shown = (taken or sorted(narrow, key=lambda c: c["ratio"] or 0.0))[:1]
        metric = bound = "-"
        if shown:
            metric = f"{shown[0]['metrics']['be_median']:.2e}" + ("" if taken else f" in {label(shown[0])}")
        if product["bound"].get("be_median") is not None:
            bound = f"{product['bound']['be_median']:.2e}"
        rows.append((product["name"], product["role"], label(chosen), metric, bound))
    return rows


def show(out: Path, runs: dict[str, list[Record]]) -> None:
    """Print the table of products, the losses and the paths."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    decisions = json.loads((out / "decisions.json").read_text())
    wide = console if console.is_terminal else Console(width=140)
    table = Table(title="products under the assignment", box=box.SIMPLE)
    for column in ("product", "role", "format", "metric (BE median)", "bound"):
        table.add_column(column, no_wrap=True)
    for row in decision_rows(decisions):
        table.add_row(*row)
    wide.print(table)
    shares = [f"{entry['format']}: {100 * entry['share']:.0f} %" for entry in decisions["summary"]["formats"]]
    wide.print(f"share of the products' FLOPs: {', '.join(shares)}")
    losses = Table(title=f"loss, mean of the last 10 of {len(next(iter(runs.values())))} steps", box=box.SIMPLE)
    for column in ("run", "loss", "first step", "ms a step"):
        losses.add_column(column, justify="left" if column == "run" else "right", no_wrap=True)
    for name, records in runs.items():
        middle = float(np.median([record.ms for record in records]))
        losses.add_row(name, f"{final_loss(records):.4f}", f"{records[0].loss:.4f}", f"{middle:.0f}")
    wide.print(losses)
    for name, what in LEFT.items():
        if (out / name).exists():
            wide.print(f"{out / name}  {what}", highlight=False)


LEFT = {
    "graph.mlir": "training step with metrics",
    "assigned.mlir": "the same with a format for every product",
    "metrics.json": "what was measured",
    "decisions.json": "why each format was chosen",
    "cpu-fp32": "CPU package, FP32",
    "cpu-assigned": "CPU package, assigned formats",
    "cuda": "CUDA package",
    "losses.png": "loss curves",
}


def run(
    out: Path, steps: int = STEPS, spec: DemoModel = DemoModel(), corpus: Path = data.CORPUS
) -> dict[str, list[Record]]:
    """Do the whole job into the directory `out` and return the records of the three runs."""
    from mpt.plot import plot_losses

    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    needed = max(steps, PROFILE_STEPS[-1] + PROFILE_BATCHES)
    batches = prepare_data(out, spec, needed, corpus)
    export_model(out, batches, spec)
    compile_fp32(out)
    measure(out, batches)
    compile_assigned(out)
    compile_cuda(out)
    runs = {
        "mpt FP32": train(out / "cpu-fp32", batches, steps, "train, mpt FP32"),
        "mpt assigned": train(out / "cpu-assigned", batches, steps, "train, mpt assigned"),
        "PyTorch FP32": train_reference(batches, steps, spec),
    }
    curves = {name: [record.loss for record in records] for name, records in reversed(runs.items())}
    plot_losses(curves, out / "losses.png", f"BERT {spec.layers} x {spec.hidden}, batch {spec.batch} x {spec.seq}")
    show(out, runs)
    console.print(f"done in {time.perf_counter() - start:.0f} s")
    return runs
