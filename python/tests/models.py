# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The BERTs that tests and benches use, their batches, and PyTorch's answers for them.

`python -m models OUT [NAME...]` (in python/tests) writes the files a test would make, for
use by hand. Reference files hold `batch.<input>`, `loss`, `logits` (small models),
`grad.<parameter>` and, for small models, `adamw.losses` (20 steps).
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM

from mpt.export import export

IGNORE_INDEX = -100
# Of small models; bad is what torch.onnx.export does by default: parameters merged.
VARIANTS = ("logits", "dynamic", "eval", "op18", "fresh", "bad")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Dimensions of one test model and of its batch."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int
    batch: int
    seq: int
    positions: int

    @property
    def small(self) -> bool:
        return self.hidden <= 128


SHAPES = {
    "tinyA": Shape(2, 64, 2, 256, 512, 2, 16, 64),
    "tinyB": Shape(3, 96, 3, 224, 333, 3, 24, 40),
    "demo": Shape(4, 256, 4, 1024, 4096, 8, 128, 512),
    "mini": Shape(4, 256, 4, 1024, 30522, 8, 128, 512),
    "base": Shape(12, 768, 12, 3072, 30522, 4, 128, 512),
}


def build(shape: Shape, dropout: float = 0.0, fresh: bool = True, seed: int = 0) -> BertForMaskedLM:
    """Return a BertForMaskedLM; fresh=False moves biases and gains off their initial 0 and 1."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.ffn,
        max_position_embeddings=shape.positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(config)
    if not fresh:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def make_batch(shape: Shape, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return int64 [batch, seq] inputs: padded rows, two token types, 15 % labels.

    Id 0 is BERT's padding_idx, for which PyTorch drops the embedding's gradient and ONNX cannot:
    as in real data, it is only where attention_mask is 0.
    """
    rng = np.random.default_rng(seed)
    size = (shape.batch, shape.seq)
    labels = rng.integers(0, shape.vocab, size)
    labels[rng.random(size) > 0.15] = IGNORE_INDEX
    labels[0, 1] = 7  # never a batch without labels
    mask = np.ones(size, np.int64)
    for row in range(1, shape.batch):
        mask[row, shape.seq - int(rng.integers(0, shape.seq // 2)) :] = 0
    labels[mask == 0] = IGNORE_INDEX
    types = np.zeros(size, np.int64)
    types[:, shape.seq // 2 :] = 1
    batch = {
        "input_ids": rng.integers(1, shape.vocab, size) * mask,
        "attention_mask": mask,
        "token_type_ids": types * mask,
        "labels": labels,
    }
    return {name: torch.from_numpy(value.astype(np.int64)) for name, value in batch.items()}


def reference(model: BertForMaskedLM, batch: dict[str, torch.Tensor], logits: bool) -> dict[str, torch.Tensor]:
    """Return `loss`, `grad.<parameter>` for every parameter and, if asked, `logits`."""
    model.zero_grad(set_to_none=True)
    result = model(**batch)
    result.loss.backward()
    tensors = {"loss": result.loss.detach().clone()}
    if logits:
        tensors["logits"] = result.logits.detach().clone()
    for name, parameter in model.named_parameters():
        tensors[f"grad.{name}"] = parameter.grad.detach().clone()
    model.zero_grad(set_to_none=True)
    return tensors


def adamw_losses(
    model: BertForMaskedLM, batch: dict[str, torch.Tensor], steps: int = 20, lr: float = 1e-3
) -> torch.Tensor:
    """Return the losses [steps] of AdamW on one batch (clip 1.0, decay 0.01 where rank > 1).

    Trains `model` in place.
    """
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


def write_model(name: str, out: Path) -> Path:
    """Write NAME.onnx (dropout 0, training mode, loss) and NAME.safetensors under `out`."""
    shape = SHAPES[name]
    batch = make_batch(shape)
    model = build(shape, fresh=not shape.small)
    path = export(model, batch, out / f"{name}.onnx")
    tensors = reference(model, batch, shape.small)
    tensors.update({f"batch.{key}": value for key, value in batch.items()})
    if shape.small:
        tensors["adamw.losses"] = adamw_losses(model, batch)
    save_file(tensors, out / f"{name}.safetensors")
    return path


def write_dropout(name: str, out: Path) -> Path:
    """Write NAME_dropout.onnx: the same model in training mode with p = 0.1."""
    shape = SHAPES[name]
    model = build(shape, dropout=0.1, fresh=not shape.small)
    return export(model, make_batch(shape), out / f"{name}_dropout.onnx")


def write_variant(name: str, variant: str, out: Path) -> Path:
    """Write NAME_VARIANT.onnx; variant: one of VARIANTS."""
    shape = SHAPES[name]
    batch = make_batch(shape)
    path = out / f"{name}_{variant}.onnx"
    if variant == "logits":
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        return export(build(shape, fresh=False), inputs, path)
    if variant == "dynamic":
        return export(build(shape, fresh=False), batch, path, dynamic=True)
    if variant == "eval":
        return export(build(shape, dropout=0.1, fresh=False), batch, path, train=False)
    if variant == "op18":
        return export(build(shape, dropout=0.1, fresh=False), batch, path, opset=18)
    if variant == "fresh":
        return export(build(shape), batch, path)
    return write_bad(build(shape), batch, path)


def write_bad(model: BertForMaskedLM, batch: dict[str, torch.Tensor], path: Path) -> Path:
    """Write what torch.onnx.export does by default: equal parameters merged, weights folded."""
    model.train()
    program = torch.onnx.export(model, (), kwargs=batch, dynamo=True, opset_version=18, verbose=False)
    program.save(str(path))
    return path


def main(arguments: list[str]) -> None:
    """Write all files of the named models (default: all) to the directory arguments[0]."""
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    for name in arguments[1:] or SHAPES:
        write_model(name, out)
        write_dropout(name, out)
        for variant in VARIANTS if SHAPES[name].small else ():
            write_variant(name, variant, out)
        print(name, "done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
