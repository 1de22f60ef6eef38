# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""BERT of any size as the importer leaves it, written as text: plans need no weights."""

from __future__ import annotations

from models import IGNORE_INDEX, Shape


def tensor(*sizes: int, element: str = "f32") -> str:
    """Return a tensor type."""
    return f"tensor<{''.join(f'{size}x' for size in sizes)}{element}>"


class Writer:
    """The arguments and ops of a @forward function in the making."""

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self.lines: list[str] = []
        self.count = 0

    def argument(self, name: str, kind: str, kept: str, extra: str = "") -> str:
        self.arguments.append(f'%{name}: {kept} {{mpt.name = "{name}", mpt.kind = #mpt.kind<{kind}>{extra}}}')
        return f"%{name}"

    def parameter(self, name: str, *sizes: int) -> str:
        return self.argument(name, "parameter", tensor(*sizes))

    def op(self, op: str, operands: str, types: str, result: str, name: str, attributes: str = "") -> str:
        self.count += 1
        comma = ", " if attributes else ""
        self.lines.append(
            f'%{self.count} = mpt.{op} {operands} {{mpt.name = "{name}"{comma}{attributes}}} : ({types}) -> {result}'
        )
        return f"%{self.count}"

    def constant(self, text: str, kept: str) -> str:
        self.count += 1
        self.lines.append(f"%{self.count} = mpt.constant dense<{text}> : {kept}")
        return f"%{self.count}"


class Bert:
    """Writes the graph of a masked-language-model BERT, without dropout."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.w = shape, Writer()
        self.rows = (shape.batch, shape.seq)

    def row(self, width: int) -> str:
        return tensor(*self.rows, width)

    def linear(self, x: str, name: str, inputs: int, outputs: int, weight: str = "") -> str:
        weight = weight or self.w.parameter(f"{name}.weight", outputs, inputs)
        bias = self.w.parameter(f"{name}.bias", outputs)
        result = self.row(outputs)
        types = f"{self.row(inputs)}, {tensor(outputs, inputs)}"
        y = self.w.op("matmul", f"{x}, {weight}", types, result, name, "transpose_rhs")
        return self.w.op("add", f"{y}, {bias}", f"{result}, {tensor(outputs)}", result, f"{name}.add")

    def norm(self, x: str, name: str) -> str:
        hidden, w = self.shape.hidden, self.w
        gain, bias = w.parameter(f"{name}.weight", hidden), w.parameter(f"{name}.bias", hidden)
        types = f"{self.row(hidden)}, {tensor(hidden)}, {tensor(hidden)}"
        results = f"({self.row(hidden)}, {self.row(1)}, {self.row(1)})"
        w.count += 1
        w.lines.append(
            f'%{w.count}:3 = mpt.layer_norm {x}, {gain}, {bias} {{epsilon = 9.99999996E-13 : f32, mpt.name = "{name}"}}'
            f" : ({types}) -> {results}"
        )
        return f"%{w.count}#0"

    def add(self, x: str, y: str, name: str) -> str:
        kept = self.row(self.shape.hidden)
        return self.w.op("add", f"{x}, {y}", f"{kept}, {kept}", kept, name)

    def heads(self, x: str, name: str) -> str:
        """[B, S, H] as [B, heads, S, H / heads]."""
        shape, w = self.shape, self.w
        size = shape.hidden // shape.heads
        split = tensor(*self.rows, shape.heads, size)
        x = w.op("reshape", x, self.row(shape.hidden), split, f"{name}.split")
        turned = tensor(shape.batch, shape.heads, shape.seq, size)
        return w.op("transpose", x, split, turned, f"{name}.heads", "permutation = array<i64: 0, 2, 1, 3>")

    def attention(self, x: str, mask: str, name: str) -> str:
        shape, w = self.shape, self.w
        hidden, size = shape.hidden, shape.hidden // shape.heads
        q, k, v = (self.heads(self.linear(x, f"{name}.{n}", hidden, hidden), f"{name}.{n}") for n in "qkv")
        head = tensor(shape.batch, shape.heads, shape.seq, size)
        score = tensor(shape.batch, shape.heads, shape.seq, shape.seq)
        s = w.op("matmul", f"{q}, {k}", f"{head}, {head}", score, f"{name}.scores", "transpose_rhs")
        scale = w.constant(str(size**-0.5), "tensor<f32>")
        s = w.op("mul", f"{s}, {scale}", f"{score}, tensor<f32>", score, f"{name}.mul")
        s = w.op("add", f"{s}, {mask}", f"{score}, {tensor(shape.batch, 1, 1, shape.seq)}", score, f"{name}.add")
        p = w.op("softmax", s, score, score, f"{name}.softmax")
        c = w.op("matmul", f"{p}, {v}", f"{score}, {head}", head, f"{name}.context")
        turned = tensor(*self.rows, shape.heads, size)
        c = w.op("transpose", c, head, turned, f"{name}.rows", "permutation = array<i64: 0, 2, 1, 3>")
        c = w.op("reshape", c, turned, self.row(hidden), f"{name}.join")
        return self.linear(c, f"{name}.output", hidden, hidden)

    def layer(self, x: str, mask: str, name: str) -> str:
        hidden, ffn = self.shape.hidden, self.shape.ffn
        a = self.attention(x, mask, f"{name}.attention")
        x = self.norm(self.add(a, x, f"{name}.attention.residual"), f"{name}.attention.norm")
        up = self.linear(x, f"{name}.up", hidden, ffn)
        up = self.w.op("gelu", up, self.row(ffn), self.row(ffn), f"{name}.gelu")
        return self.norm(self.add(self.linear(up, f"{name}.down", ffn, hidden), x, f"{name}.residual"), f"{name}.norm")

    def text(self) -> str:
        """Return the module."""
        shape, w = self.shape, self.w
        hidden, vocab = shape.hidden, shape.vocab
        ids_type = tensor(*self.rows, element="i64")
        words = w.parameter("words", vocab, hidden)
        ids = w.argument("ids", "input", ids_type, f", mpt.range = array<i64: 0, {vocab}>")
        mask = w.argument("mask", "input", tensor(shape.batch, 1, 1, shape.seq))
        labels = w.argument(
            "labels", "label", ids_type, f", mpt.range = array<i64: 0, {vocab}>, mpt.ignore_index = {IGNORE_INDEX} : i64"
        )
        x = w.op("gather", f"{words}, {ids}", f"{tensor(vocab, hidden)}, {ids_type}", self.row(hidden), "embeddings")
        x = self.norm(x, "embeddings.norm")
        for index in range(shape.layers):
            x = self.layer(x, mask, f"layer.{index}")
        x = self.linear(x, "head", hidden, hidden)
        x = self.norm(w.op("gelu", x, self.row(hidden), self.row(hidden), "head.gelu"), "head.norm")
        x = self.linear(x, "decoder", hidden, vocab, words)
        total = shape.batch * shape.seq
        x = w.op("reshape", x, self.row(vocab), tensor(total, vocab), "logits")
        y = w.op("reshape", labels, ids_type, tensor(total, element="i64"), "targets")
        w.lines.append(
            f'%loss:3 = mpt.cross_entropy {x}, {y} {{ignore_index = {IGNORE_INDEX} : i64, mpt.name = "loss"}}'
            f" : ({tensor(total, vocab)}, {tensor(total, element='i64')})"
            f" -> (tensor<f32>, {tensor(total, 1)}, tensor<f32>)"
        )
        body = "\n  ".join([*w.lines, "return %loss#0 : tensor<f32>"])
        return f"func.func @forward({', '.join(w.arguments)}) -> tensor<f32> {{\n  {body}\n}}\n"
