# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Export a PyTorch model to an ONNX file that can be trained.

`torch.onnx.export` by default writes graphs meant for inference: it folds transposed
weights into anonymous constants and merges parameters that happen to be equal (every
zero bias of a fresh model becomes one tensor), and with fused attention it silently
drops attention dropout. `export` makes the right call and then proves on the written
graph that every parameter is still there, under its own name.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from mpt.files import staged

# Gelu is one operator from opset 20 on; Dropout, LayerNormalization and
# SoftmaxCrossEntropyLoss are the same as in 18.
DEFAULT_OPSET = 20
OPSETS = range(18, 21)

# protobuf cannot serialise a message of 2 GiB; leave room for the graph itself.
EXTERNAL_DATA_BYTES = 1_500_000_000

# Metadata key: JSON object, parameter name -> its other names (tied weights).
TIED_KEY = "mpt.tied"


class ExportError(ValueError):
    """The model or batch cannot be exported as a trainable ONNX file."""


def export(
    model: torch.nn.Module,
    batch: Mapping[str, Any],
    path: str | os.PathLike[str],
    train: bool = True,
    dynamic: bool | Mapping[str, Mapping[int, str]] | None = None,
    opset: int = DEFAULT_OPSET,
) -> Path:
    """Write `model` to `path` as an ONNX file that mpt-import can differentiate.

    model: its forward takes the names in `batch` as keyword arguments.
    batch: name -> tensor or array, e.g. input_ids, attention_mask, token_type_ids
        and labels, each int64 [batch, seq]. With labels the loss is in the graph
        (output `loss`, scalar), if the model computes one.
    train: export in training mode, where Dropout stays in the graph.
    dynamic: None for the batch's own shapes; True names the axes of every input of
        rank two or more `batch` and `seq`; or {input: {axis: name}}.
    opset: 18 to 20.

    ONNX has no padding_idx: gradients are PyTorch's as long as padding tokens are masked out.
    Initializers carry the names of `model.named_parameters()`; a tied parameter is there
    once, its other names are in the metadata entry `mpt.tied`. Weights above 1.5 GB go to
    `path + ".data"`. The model's mode and attention implementation are restored.
    Raises ExportError when the model or the batch cannot be exported, or when the
    exporter lost a parameter or a Dropout; nothing is left at `path` then.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset}: expected one of {OPSETS.start} to {OPSETS.stop - 1}")
    tensors = _as_tensors(batch)
    shapes = _dynamic_shapes(tensors, dynamic)
    path = Path(path)
    if not path.parent.is_dir():
        raise ExportError(f"{path}: directory {path.parent} does not exist")
    with _prepared(model, train):
        outputs = _output_names(model, tensors)
        program = _run_exporter(model, tensors, outputs, shapes, opset)
        graph_model = program.model
        _restore_names(model, graph_model)
        check_parameters(model, graph_model)
        if train:
            _check_dropout(model, graph_model)
    _write(graph_model, path)
    return path


def _as_tensors(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the batch as tensors; arrays are copied. Raises ExportError if it has none."""
    if not batch:
        raise ExportError("batch: expected at least one named input, found none")
    tensors = {}
    for name, value in batch.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value))
        if not isinstance(value, torch.Tensor):
            raise ExportError(
                f"batch input '{name}': expected a tensor or an array, found {type(value).__name__}"
            )
        tensors[name] = value
    return tensors


def _dynamic_shapes(
    tensors: Mapping[str, torch.Tensor],
    dynamic: bool | Mapping[str, Mapping[int, str]] | None,
) -> dict[str, Any] | None:
    """Return torch.export's dynamic_shapes, input -> {axis: name}, or None if all is static."""
    if not dynamic:
        return None
    if dynamic is True:
        dynamic = {n: {0: "batch", 1: "seq"} for n, t in tensors.items() if t.dim() >= 2}
    for name, axes in dynamic.items():
        if name not in tensors:
            raise ExportError(
                f"dynamic axes of '{name}': expected an input of the batch "
                f"({', '.join(tensors)}), found none of that name"
            )
        for axis in axes:
            if not 0 <= axis < tensors[name].dim():
                raise ExportError(
                    f"dynamic axes of '{name}': axis {axis} is outside rank {tensors[name].dim()}"
                )
    return {name: dict(dynamic.get(name, {})) for name in tensors}


@contextlib.contextmanager
def _prepared(model: torch.nn.Module, train: bool) -> Iterator[None]:
    """Switch the model to the wanted mode and to eager attention, and back afterwards."""
    was_training = {module: module.training for module in model.modules()}
    attention = _attention_of(model)
    if attention not in (None, "eager"):
        _set_attention(model, "eager")
    model.train(train)
    try:
        yield
    finally:
        for module, mode in was_training.items():
            module.training = mode
        if attention not in (None, "eager"):
            _set_attention(model, attention)


def _attention_of(model: torch.nn.Module) -> str | None:
    """Return the name of a transformers model's attention implementation, None elsewhere."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


def _set_attention(model: torch.nn.Module, name: str) -> None:
    """Select attention implementation `name`; raises ExportError where that is impossible."""
    setter = getattr(model, "set_attn_implementation", None)
    if setter is None:
        raise ExportError(
            f"{type(model).__name__} uses attention implementation '{_attention_of(model)}'; "
            'expected "eager": build the model with attn_implementation="eager", because the '
            "exporter drops the dropout of fused attention"
        )
    setter(name)
    if _attention_of(model) != name:
        raise ExportError(
            f"{type(model).__name__}: expected attention implementation '{name}', "
            f"found '{_attention_of(model)}' after selecting it"
        )


def _output_names(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> list[str] | None:
    """Return the names of a transformers model's outputs (`loss`, `logits`), None elsewhere."""
    state = torch.random.get_rng_state()
    with torch.no_grad():
        result = model(**tensors)
    torch.random.set_rng_state(state)
    if isinstance(result, torch.Tensor):
        return ["loss" if result.dim() == 0 else "output"]
    if isinstance(result, Mapping):
        return [str(key) for key, value in result.items() if isinstance(value, torch.Tensor)]
    return None


def _run_exporter(
    model: torch.nn.Module,
    tensors: dict[str, torch.Tensor],
    outputs: list[str] | None,
    shapes: dict[str, Any] | None,
    opset: int,
) -> torch.onnx.ONNXProgram:
    """Call torch.onnx.export without its graph optimiser, and without its remarks."""
    with warnings.catch_warnings(), _quiet_logger("torch.onnx"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (),
            kwargs=tensors,
            input_names=list(tensors),
            output_names=outputs,
            opset_version=opset,
            dynamo=True,
            optimize=False,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    return program


@contextlib.contextmanager
def _quiet_logger(name: str) -> Iterator[None]:
    """Let a logger through with errors only."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _aliases(model: torch.nn.Module) -> dict[str, list[str]]:
    """Return parameter name -> its other names, for every parameter (most have none)."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            names[first[id(parameter)]].append(name)
        else:
            first[id(parameter)] = name
            names[name] = []
    return names


def _restore_names(model: torch.nn.Module, graph_model: ir.Model) -> None:
    """Name each tied initializer as `named_parameters` does (the exporter uses the last alias)."""
    initializers = graph_model.graph.initializers
    tied = {name: others for name, others in _aliases(model).items() if others}
    for name, others in tied.items():
        found = [other for other in others if other in initializers]
        if name not in initializers and len(found) == 1:
            value = initializers.pop(found[0])
            value.name = name
            if value.const_value is not None:
                value.const_value.name = name
            initializers[name] = value
    if tied:
        graph_model.metadata_props[TIED_KEY] = json.dumps(tied, sort_keys=True)


def check_parameters(model: torch.nn.Module, graph_model: ir.Model) -> None:
    """Raise ExportError unless every parameter is exactly one used initializer of its shape."""
    initializers = graph_model.graph.initializers
    missing, unused, reshaped = [], [], []
    aliases = _aliases(model)
    for name, parameter in model.named_parameters():
        value = initializers.get(name)
        if value is None:
            missing.append(name)
        elif list(value.shape or ()) != list(parameter.shape):
            reshaped.append(f"{name} {list(value.shape or ())} for {list(parameter.shape)}")
        elif not value.uses():
            unused.append(name)
        twice = [other for other in aliases[name] if other in initializers]
        if value is not None and twice:
            reshaped.append(f"{name} also stored as {', '.join(twice)}")
    if missing:
        raise ExportError(
            f"the exporter lost {len(missing)} of {len(aliases)} parameters, first "
            f"'{missing[0]}': they were merged or folded into constants; export with optimize=False"
        )
    if reshaped:
        raise ExportError(f"the exporter changed parameters: {'; '.join(reshaped[:3])}")
    if unused:
        warnings.warn(
            f"{len(unused)} parameters do not reach the outputs and will not be trained, "
            f"first '{unused[0]}'",
            stacklevel=3,
        )


def _check_dropout(model: torch.nn.Module, graph_model: ir.Model) -> None:
    """Raise ExportError when a Dropout of the graph is switched off, or all of them are gone."""
    active = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
    nodes = [node for node in graph_model.graph.all_nodes() if node.op_type == "Dropout"]
    if active and not nodes:
        raise ExportError(
            f"the exporter dropped all dropout: the model has {len(active)} Dropout modules, "
            "the graph no Dropout node"
        )
    for node in nodes:
        if len(node.inputs) < 3 or node.inputs[2] is None:
            raise ExportError(
                f"Dropout node '{node.name}' has no training_mode input, so ONNX defines it as the "
                'identity; build the model with attn_implementation="eager"'
            )


def _write(graph_model: ir.Model, path: Path) -> None:
    """Save beside `path` and rename, with external data when the weights are large."""
    size = sum(
        value.const_value.nbytes
        for value in graph_model.graph.initializers.values()
        if value.const_value is not None
    )
    data_name = path.name + ".data" if size > EXTERNAL_DATA_BYTES else None
    with staged(path) as inner:
        ir.save(graph_model, inner, external_data=data_name)
