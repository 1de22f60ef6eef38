# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Steps of BERTs that are too large for this machine, to price assignments at: graphs without weights."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from mpt import stages
from mpt.decisions import Decisions, escape
from mpt.files import staged

# BERT-large at the size that times are predicted for. Its vocabulary of 30,522 is padded to a multiple of 16, as FP8 needs.
HIDDEN, BATCH, SEQ, VOCAB = 1024, 64, 512, 30528


def write_model(layers: int, hidden: int, batch: int, seq: int, path: Path, vocab: int = 30522) -> None:
    """Export a BERT whose parameters are never allocated; values become a sparse external file.

    BertForMaskedLM, `hidden` / 64 heads, 4 * `hidden` intermediate, dropout 0.1.
    """
    import numpy as np
    import onnx_ir as ir
    import torch
    from transformers import BertConfig, BertForMaskedLM
    from transformers.initialization import no_init_weights

    from mpt.export import DEFAULT_OPSET, _prepared, _restore_names, _run_exporter

    config = BertConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        attn_implementation="eager",
    )
    with no_init_weights():  # torch.empty: pages that nobody touches cost nothing
        model = BertForMaskedLM(config)
    ones = torch.ones((batch, seq), dtype=torch.int64)
    tensors = {"input_ids": ones, "attention_mask": ones, "token_type_ids": 0 * ones, "labels": ones}
    with _prepared(model, True):
        graph = _run_exporter(model, tensors, ["loss", "logits"], None, DEFAULT_OPSET).model
        _restore_names(model, graph)
    parameters, offset = dict(model.named_parameters()), 0
    for name, value in graph.graph.initializers.items():
        if name in parameters:
            shape = list(parameters[name].shape)
            size = 4 * int(np.prod(shape))
            where = {"name": name, "base_dir": path.parent}
            value.const_value = ir.ExternalTensor(
                path.name + ".data", offset, size, ir.DataType.FLOAT, shape=ir.Shape(shape), **where
            )
            offset += size
    with open(f"{path}.data", "wb") as data:
        data.truncate(offset)
    ir.save(graph, path)


def priced_step(layers: int, out: Path) -> Path:
    """The training step of BERT-large's width, `layers` deep, as out/price/step-LAYERS.mlir; made or there already."""
    folder = out / "price"
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{layers}.mlir"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(prefix="mpt-") as directory:
        onnx, forward = Path(directory) / "model.onnx", Path(directory) / "forward.mlir"
        write_model(layers, HIDDEN, BATCH, SEQ, onnx, VOCAB)
        with open(forward, "w") as output:  # to a file by name, the importer would copy the weights beside it
            done = subprocess.run(
                [stages.find_tool("mpt-import"), onnx, "-o", "-"], stdout=output, stderr=subprocess.PIPE, text=True
            )
        if done.returncode:
            raise stages.StageError(done.stderr)
        with staged(path) as inner:
            stages.run_tool("mpt-opt", [forward, "--mpt-differentiate", "--mpt-add-optimizer", "-o", inner])
    return path


def transferred(record: Decisions, layers: int, deep: int) -> list[str]:
    """Pins that carry a record of `layers` layers to a model of `deep`: its layer i takes those of layer i * layers // deep.

    Products in BF16 get none: the pins are for policy bf16.
    """
    pins = []
    for product in record.products:
        if product.chosen.pin == "bf16":
            continue
        names = [product.name]
        if product.layer is not None:
            own = [i for i in range(deep) if i * layers // deep == product.layer]
            names = [product.name.replace(f".{product.layer}.", f".{i}.", 1) for i in own]
        pins += [f"{escape(name)}={product.chosen.pin}" for name in names]
    return pins
