# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The demonstration: a small BERT on real English text, from PyTorch to compiled training.

The pieces are here, one function each; `mptc demo` runs them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpt import data
from mpt.console import bar
from mpt.train import Record, Schedule, follow, train_torch

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


SCHEDULE = Schedule(peak=1e-3, warmup=20)


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
