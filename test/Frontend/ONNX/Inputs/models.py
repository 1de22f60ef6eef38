# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Writes the small ONNX models of the importer's tests: `models.py DIR [NAME...]`.

Each model is a function whose name, with - for _, names the file. They are written by hand
with onnx.helper, as an exporter would write them or as a broken or hostile file would be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
MODELS: dict[str, Callable[[Path], None]] = {}


def model(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """Register a function that writes one model to the path it is given."""
    MODELS[function.__name__.replace("_", "-")] = function
    return function


def tensor(name: str, values: np.ndarray | list) -> TensorProto:
    """Return an initializer; lists become f32."""
    array = np.asarray(values)
    return numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name)


def weight(name: str, *shape: int) -> TensorProto:
    """Return an f32 initializer with distinct values."""
    return tensor(name, (np.arange(np.prod(shape), dtype=np.float32) / 8).reshape(shape))


def ints(*values: int) -> np.ndarray:
    """Return an int64 vector."""
    return np.asarray(values, np.int64)


def constant(output: str, values: np.ndarray) -> onnx.NodeProto:
    """Return a Constant node."""
    return helper.make_node("Constant", [], [output], value=numpy_helper.from_array(values), name=output)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], scope: str = "", **attributes) -> onnx.NodeProto:
    """Return a node named after its first output, with torch's scope metadata if given."""
    made = helper.make_node(op, inputs, outputs, name=f"node_{outputs[0]}", **attributes)
    if scope:
        parts = scope.split(".")
        paths = ["", *(".".join(parts[: i + 1]) for i in range(len(parts))), outputs[0]]
        types = ["pkg.TinyForTest", *("pkg.TinyModel" if path == "tiny" else "torch.nn.Module" for path in paths[1:])]
        for key, value in (("name_scopes", paths), ("class_hierarchy", types)):
            made.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=repr(value))
    return made


def build(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple],
    outputs: dict[str, tuple],
    initializers: Sequence[TensorProto] = (),
    opset: int = 20,
    ir_version: int = 10,
) -> onnx.ModelProto:
    """Return a model; inputs and outputs are name -> (element type, shape)."""

    def infos(values: dict[str, tuple]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

    graph = helper.make_graph(nodes, "test", infos(inputs), infos(outputs), list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def save(path: Path, *arguments, **options) -> None:
    """Build a model and write it."""
    path.write_bytes(build(*arguments, **options).SerializeToString())


X = {"x": (FLOAT, [2, 4])}
Y = {"y": (FLOAT, [2, 4])}


def linear(x: str, y: str, module: str, scope: str = "") -> list[onnx.NodeProto]:
    """Return Transpose, MatMul and Add of a Linear whose parameters are `module`.weight and .bias."""
    return [
        node("Transpose", [f"{module}.weight"], [f"{y}_t"], scope, perm=[1, 0]),
        node("MatMul", [x, f"{y}_t"], [f"{y}_mm"], scope),
        node("Add", [f"{y}_mm", f"{module}.bias"], [y], scope),
    ]


def linear_parameters(module: str, size: int = 4) -> list[TensorProto]:
    """Return the initializers of `linear`."""
    return [weight(f"{module}.weight", size, size), weight(f"{module}.bias", size)]


# --------------------------------------------------------------------------------------------
# Models that are imported
# --------------------------------------------------------------------------------------------


@model
def names(path: Path) -> None:
    """One attention head with scopes and parameters under the base model `tiny`."""
    here = "tiny.layer.0.attention"
    nodes = [*linear("x", "q", "tiny.layer.0.attention.query", f"{here}.query")]
    nodes += [
        node("Transpose", ["q"], ["k"], here, perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["s"], here),
        node("Softmax", ["s"], ["p"], here, axis=-1),
        node("MatMul", ["p", "q"], ["c"], here),
        node("LayerNormalization", ["c", "tiny.norm.weight", "tiny.norm.bias"], ["n"], "tiny.norm", axis=-1),
        *linear("n", "logits", "head", "head"),
    ]
    save(
        path,
        nodes,
        {"x": (FLOAT, [2, 3, 4])},
        {"logits": (FLOAT, [2, 3, 4])},
        [
            *linear_parameters("tiny.layer.0.attention.query"),
            weight("tiny.norm.weight", 4),
            weight("tiny.norm.bias", 4),
            *linear_parameters("head"),
        ],
    )


@model
def wrapped(path: Path) -> None:
    """Parameters under torch's `module.` wrapper."""
    save(path, linear("x", "y", "module.fc", "module.fc"), X, Y, linear_parameters("module.fc"))


@model
def tied(path: Path) -> None:
    """A table that is embedding and decoder, its other name in the metadata; labels; loss."""
    nodes = [
        node("Gather", ["emb.weight", "ids"], ["h"], "emb"),
        node("Transpose", ["emb.weight"], ["t"], "decoder", perm=[1, 0]),
        node("MatMul", ["h", "t"], ["logits"], "decoder"),
        constant("flat", ints(-1, 5)),
        constant("row", ints(-1)),
        node("Reshape", ["logits", "flat"], ["l2"]),
        node("Reshape", ["target", "row"], ["t1"]),
        node("SoftmaxCrossEntropyLoss", ["l2", "t1"], ["loss"], ignore_index=-100),
    ]
    made = build(
        nodes,
        {"target": (INT64, ["batch", 3]), "ids": (INT64, ["batch", 3])},
        {"loss": (FLOAT, []), "logits": (FLOAT, ["batch", 3, 5])},
        [weight("emb.weight", 5, 4)],
    )
    made.metadata_props.add(key="mpt.tied", value='{"emb.weight": ["decoder.weight"]}')
    path.write_bytes(made.SerializeToString())


@model
def dropout(path: Path) -> None:
    """Active, evaluating and zero-ratio Dropout."""
    nodes = [
        constant("ratio", np.float32(0.25)),
        constant("zero", np.float32(0)),
        constant("on", np.bool_(True)),
        constant("off", np.bool_(False)),
        node("Dropout", ["x", "ratio", "on"], ["a"], "tiny.drop"),
        node("Dropout", ["a", "ratio", "off"], ["b"], "tiny.drop"),
        node("Dropout", ["b", "zero", "on"], ["c"], "tiny.drop"),
        node("Dropout", ["c", "ratio", "on"], ["y"], "tiny.other"),
    ]
    save(path, nodes, X, Y)


@model
def gelu(path: Path) -> None:
    """The erf form in two spellings, and the operator."""
    nodes = [
        constant("root", np.float32(np.sqrt(2))),
        constant("inverse", np.float32(np.sqrt(0.5))),
        constant("one", np.float32(1)),
        constant("half", np.float32(0.5)),
        node("Div", ["x", "root"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "one"], ["c"]),
        node("Mul", ["half", "c"], ["d"]),
        node("Mul", ["x", "d"], ["e"]),
        node("Mul", ["inverse", "e"], ["f"]),
        node("Erf", ["f"], ["g"]),
        node("Add", ["one", "g"], ["h"]),
        node("Mul", ["e", "half"], ["i"]),
        node("Mul", ["i", "h"], ["j"]),
        node("Gelu", ["j"], ["y"]),
    ]
    save(path, nodes, X, Y)


@model
def mask(path: Path) -> None:
    """The attention mask as torch writes it: index grids, GatherND, And, Where."""
    nodes = [
        node("Cast", ["mask"], ["bits"], to=BOOL),
        node("Shape", ["mask"], ["shape"]),
        constant("zero", np.int64(0)),
        constant("one", np.int64(1)),
        constant("axis", ints(-1)),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Gather", ["shape", "one"], ["length"], axis=0),
        node("Range", ["zero", "batch", "one"], ["rows"]),
        node("Range", ["zero", "length", "one"], ["columns"]),
        constant("row_shape", ints(-1, 1, 1, 1)),
        node("Reshape", ["rows", "row_shape"], ["row_grid"]),
        node("Max", ["row_grid", "columns"], ["both"]),
        node("Shape", ["both"], ["grid"]),
        node("Expand", ["row_grid", "grid"], ["row_index"]),
        node("Expand", ["columns", "grid"], ["column_index"]),
        node("Unsqueeze", ["row_index", "axis"], ["row_last"]),
        node("Unsqueeze", ["column_index", "axis"], ["column_last"]),
        node("Concat", ["row_last", "column_last"], ["index"], axis=-1),
        node("GatherND", ["bits", "index"], ["seen"]),
        node("GreaterOrEqual", ["columns", "zero"], ["all"]),
        node("And", ["all", "seen"], ["allowed"]),
        constant("full", ints(2, 1, 3, 3)),
        node("Expand", ["allowed", "full"], ["square"]),
        constant("keep", np.float32(0)),
        constant("drop", np.float32(np.finfo(np.float32).min)),
        node("Where", ["square", "keep", "drop"], ["bias"]),
        node("Add", ["s", "bias"], ["y"]),
    ]
    save(
        path,
        nodes,
        {"mask": (INT64, [2, 3]), "s": (FLOAT, [2, 2, 3, 3])},
        {"y": (FLOAT, [2, 2, 3, 3])},
    )


@model
def views(path: Path) -> None:
    """Slices, splits and indexing of the graph's own tensors."""
    nodes = [
        constant("first", np.int64(0)),
        node("Gather", ["x", "first"], ["cls"], axis=1),
        constant("starts", ints(1)),
        constant("ends", ints(2**63 - 1)),
        constant("axes", ints(-1)),
        node("Slice", ["x", "starts", "ends", "axes"], ["tail"]),
        node("Split", ["x"], ["left", "right"], axis=2, num_outputs=2),
        constant("swap", np.asarray([[[0, 1], [1, 1]], [[0, 2], [1, 2]]], np.int64)),
        node("GatherND", ["x", "swap"], ["picked"]),
        node("Flatten", ["x"], ["flat"]),
        node("Squeeze", ["s"], ["squeezed"]),
    ]
    save(
        path,
        nodes,
        {"x": (FLOAT, [2, 3, 4]), "s": (FLOAT, [1, 5, 1])},
        {name: (FLOAT, None) for name in ("cls", "tail", "left", "right", "picked", "flat", "squeezed")},
        opset=18,
    )


@model
def products(path: Path) -> None:
    """Gemm, batch dims that broadcast and transposed operands."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["g"], transB=1, alpha=0.5),
        node("Transpose", ["z"], ["zt"], perm=[0, 2, 3, 1]),
        node("MatMul", ["z4", "zt"], ["m"]),
        node("MatMul", ["x", "z4"], ["n"]),
    ]
    save(
        path,
        nodes,
        {"x": (FLOAT, [2, 4]), "z": (FLOAT, [3, 5, 2, 4]), "z4": (FLOAT, [1, 2, 4, 4])},
        {"g": (FLOAT, [2, 4]), "m": (FLOAT, [3, 2, 4, 5]), "n": (FLOAT, [1, 2, 2, 4])},
        [weight("w", 4, 4), weight("b", 4)],
    )


@model
def positions(path: Path) -> None:
    """Position ids from a buffer: constant ids, counted from the end too."""
    nodes = [
        constant("zero", ints(0)),
        constant("three", ints(3)),
        constant("one", ints(1)),
        node("Slice", ["emb.position_ids", "zero", "three", "one"], ["ids"]),
        node("Gather", ["emb.weight", "ids"], ["y"]),
        constant("last", ints(-1, 0)),
        node("Gather", ["emb.weight", "last"], ["z"]),
    ]
    buffer = tensor("emb.position_ids", np.arange(8, dtype=np.int64)[None])
    save(path, nodes, {}, {"y": (FLOAT, [1, 3, 4]), "z": (FLOAT, [2, 4])}, [weight("emb.weight", 8, 4), buffer])


@model
def typed_data(path: Path) -> None:
    """Values as float_data and int64_data instead of raw bytes; an unused parameter."""
    w = helper.make_tensor("fc.weight", FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    shape = helper.make_tensor("shape", INT64, [2], [2, 2])
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node("MatMul", ["r", "fc.weight"], ["y"])]
    save(path, nodes, {"x": (FLOAT, [4])}, {"y": (FLOAT, [2, 2])}, [w, shape, weight("lost.weight", 2)])


def external(path: Path, location: str, offset: int | str, length: int) -> None:
    """Write a model whose one weight [4, 4] lies in another file."""
    made = build([node("MatMul", ["x", "fc.weight"], ["y"])], X, Y)
    w = made.graph.initializer.add(name="fc.weight", data_type=FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
        w.external_data.add(key=key, value=value)
    path.write_bytes(made.SerializeToString())


@model
def external_good(path: Path) -> None:
    """External data at an offset."""
    values = np.arange(20, dtype=np.float32)
    (path.parent / "weights.bin").write_bytes(values.tobytes())
    external(path, "weights.bin", 16, 64)


# --------------------------------------------------------------------------------------------
# Models that are refused
# --------------------------------------------------------------------------------------------


@model
def external_missing(path: Path) -> None:
    external(path, "nowhere.bin", 0, 64)


@model
def external_parent(path: Path) -> None:
    (path.parent.parent / "outside.bin").write_bytes(bytes(64))
    external(path, "../outside.bin", 0, 64)


@model
def external_absolute(path: Path) -> None:
    external(path, "/etc/passwd", 0, 64)


@model
def external_link(path: Path) -> None:
    link = path.parent / "link.bin"
    (path.parent.parent / "outside.bin").write_bytes(bytes(64))
    link.unlink(missing_ok=True)
    link.symlink_to("../outside.bin")
    external(path, "link.bin", 0, 64)


@model
def external_outside(path: Path) -> None:
    (path.parent / "short.bin").write_bytes(bytes(64))
    external(path, "short.bin", 2**63, 64)


@model
def external_length(path: Path) -> None:
    (path.parent / "short.bin").write_bytes(bytes(64))
    external(path, "short.bin", 0, 32)


@model
def external_number(path: Path) -> None:
    (path.parent / "short.bin").write_bytes(bytes(64))
    external(path, "short.bin", "-4", 64)


@model
def truncated(path: Path) -> None:
    names(path)
    path.write_bytes(path.read_bytes()[:-700])


@model
def text(path: Path) -> None:
    path.write_text("this is no model\n")


@model
def empty(path: Path) -> None:
    path.write_bytes(b"")


@model
def unsupported(path: Path) -> None:
    save(path, [node("Cumsum", ["x"], ["y"])], X, Y)


@model
def domain(path: Path) -> None:
    save(path, [node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")], X, Y)


@model
def attention(path: Path) -> None:
    save(path, [node("Attention", ["x", "x", "x"], ["y"])], X, Y, opset=23)


@model
def opset(path: Path) -> None:
    save(path, [node("Neg", ["x"], ["y"])], X, Y, opset=13)


@model
def old_gelu(path: Path) -> None:
    save(path, [node("Gelu", ["x"], ["y"])], X, Y, opset=18)


@model
def cycle(path: Path) -> None:
    save(path, [node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"])], X, {"b": (FLOAT, [2, 4])})


@model
def unsorted(path: Path) -> None:
    save(path, [node("Add", ["x", "b"], ["y"]), node("Neg", ["x"], ["b"])], X, Y)


@model
def undefined(path: Path) -> None:
    save(path, [node("Add", ["x", "nothing"], ["y"])], X, Y)


@model
def twice(path: Path) -> None:
    save(path, [node("Neg", ["x"], ["y"]), node("Exp", ["x"], ["y"])], X, Y)


@model
def same_initializer(path: Path) -> None:
    save(path, [node("Add", ["x", "a.bias"], ["y"])], X, Y, [weight("a.bias", 4), weight("a.bias", 4)])


@model
def half_weight(path: Path) -> None:
    save(path, [node("Add", ["x", "a.bias"], ["y"])], X, Y, [tensor("a.bias", np.zeros(4, np.float16))])


@model
def double_input(path: Path) -> None:
    save(path, [node("Neg", ["x"], ["y"])], {"x": (TensorProto.DOUBLE, [2])}, {"y": (TensorProto.DOUBLE, [2])})


@model
def short_values(path: Path) -> None:
    bad = TensorProto(name="a.bias", data_type=FLOAT, dims=[4], raw_data=bytes(12))
    save(path, [node("Add", ["x", "a.bias"], ["y"])], X, Y, [bad])


@model
def huge_dims(path: Path) -> None:
    bad = TensorProto(name="a.bias", data_type=FLOAT, dims=[2**40, 2**40], raw_data=bytes(16))
    save(path, [node("Add", ["x", "a.bias"], ["y"])], X, Y, [bad])


@model
def huge_input(path: Path) -> None:
    save(path, [node("Neg", ["x"], ["y"])], {"x": (FLOAT, [2**40, 2**40])}, Y)


@model
def overflow(path: Path) -> None:
    nodes = [constant("big", ints(2**62)), node("Mul", ["big", "big"], ["s"]), node("Reshape", ["x", "s"], ["y"])]
    save(path, nodes, X, Y)


@model
def reshape_overflow(path: Path) -> None:
    nodes = [constant("s", ints(2**33, 2**33)), node("Reshape", ["x", "s"], ["y"])]
    save(path, nodes, X, Y)


@model
def expand_overflow(path: Path) -> None:
    nodes = [constant("s", ints(2**33, 2**33, 1, 1)), node("Expand", ["x", "s"], ["y"])]
    save(path, nodes, X, Y)


@model
def huge_constant(path: Path) -> None:
    nodes = [constant("n", np.int64(2**40)), constant("o", np.int64(1)), constant("z", np.int64(0))]
    save(path, [*nodes, node("Range", ["z", "n", "o"], ["y"])], X, {"y": (INT64, [2**40])})


@model
def shape_from_data(path: Path) -> None:
    save(path, [node("Reshape", ["x", "s"], ["y"])], {**X, "s": (INT64, [2])}, Y)


@model
def inner_dims(path: Path) -> None:
    save(path, [node("MatMul", ["x", "x"], ["y"])], X, Y)


@model
def softmax_axis(path: Path) -> None:
    save(path, [node("Softmax", ["x"], ["y"], axis=0)], X, Y)


@model
def gelu_tanh(path: Path) -> None:
    save(path, [node("Gelu", ["x"], ["y"], approximate="tanh")], X, Y)


@model
def scattered(path: Path) -> None:
    nodes = [constant("i", np.asarray([[0], [1], [0]], np.int64)), node("GatherND", ["x", "i"], ["y"])]
    save(path, nodes, X, {"y": (FLOAT, [3, 4])})


@model
def index_range(path: Path) -> None:
    nodes = [constant("i", ints(5)), node("Gather", ["e.weight", "i"], ["y"])]
    save(path, nodes, X, Y, [weight("e.weight", 5, 4)])


@model
def computed_ids(path: Path) -> None:
    nodes = [node("Cast", ["x"], ["i"], to=INT64), node("Gather", ["e.weight", "i"], ["y"])]
    save(path, nodes, X, {"y": (FLOAT, [2, 4, 4])}, [weight("e.weight", 5, 4)])


@model
def folded(path: Path) -> None:
    nodes = [node("MatMul", ["x", "val_7"], ["m"]), node("Add", ["m", "fc.bias"], ["y"])]
    save(path, nodes, X, Y, [weight("val_7", 4, 4), weight("fc.bias", 4)])


@model
def merged_bias(path: Path) -> None:
    """Two layers with weights of their own and one bias."""
    nodes = [*linear("x", "a", "fc1"), *linear("a", "y", "fc2")]
    nodes[-1].input[1] = "fc1.bias"
    save(path, nodes, X, Y, [*linear_parameters("fc1"), weight("fc2.weight", 4, 4)])


@model
def merged_roles(path: Path) -> None:
    """A normalisation's bias that is a product's too."""
    nodes = [node("LayerNormalization", ["x", "n.weight", "fc.bias"], ["a"]), *linear("a", "y", "fc")]
    save(path, nodes, X, Y, [weight("n.weight", 4), *linear_parameters("fc")])


@model
def merged_gain(path: Path) -> None:
    """Two normalisations with one gain and bias and no shared weight."""
    nodes = [
        node("LayerNormalization", ["x", "n.weight", "n.bias"], ["a"]),
        node("LayerNormalization", ["a", "n.weight", "n.bias"], ["y"]),
    ]
    save(path, nodes, X, Y, [weight("n.weight", 4), weight("n.bias", 4)])


@model
def shared_layer(path: Path) -> None:
    """A whole layer that is applied twice: its bias is shared because its weight is."""
    nodes = [*linear("x", "a", "fc", "fc"), *linear("a", "y", "fc", "fc@1")]
    save(path, nodes, X, Y, linear_parameters("fc"))


@model
def lost_dropout(path: Path) -> None:
    """Two Dropouts of which one lost its training_mode."""
    nodes = [
        constant("ratio", np.float32(0.25)),
        constant("on", np.bool_(True)),
        node("Dropout", ["x", "ratio", "on"], ["a"]),
        node("Dropout", ["a", "ratio"], ["y"]),
    ]
    save(path, nodes, X, Y)


@model
def used_mask(path: Path) -> None:
    nodes = [
        constant("ratio", np.float32(0.25)),
        constant("on", np.bool_(True)),
        node("Dropout", ["x", "ratio", "on"], ["y", "m"]),
    ]
    save(path, nodes, X, {**Y, "m": (BOOL, [2, 4])})


@model
def sum_loss(path: Path) -> None:
    nodes = [node("SoftmaxCrossEntropyLoss", ["x", "t"], ["loss"], reduction="sum")]
    save(path, nodes, {**X, "t": (INT64, [2])}, {"loss": (FLOAT, [])})


@model
def no_logits(path: Path) -> None:
    save(path, [node("Shape", ["x"], ["y"])], X, {"y": (INT64, [2])})


def main(arguments: list[str]) -> None:
    """Write the named models, or all, to the directory arguments[0]."""
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    for name in arguments[1:] or MODELS:
        MODELS[name](out / f"{name}.onnx")


if __name__ == "__main__":
    main(sys.argv[1:])
