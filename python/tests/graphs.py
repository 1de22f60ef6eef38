# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Small forward graphs for tests, written op by op in .mlir and computed alongside by PyTorch.

A test says each op once; `Graph` keeps its text for the compiler and its value in float64 for
comparison, so that PyTorch's autograd is the reference for what the compiler differentiates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mpt import stages
from mpt.runtime import Package
from safetensors.numpy import save_file

# With no clipping and learning rate 0, one step leaves (1 - beta1) * gradient in the first moment.
GRADIENT_PASSES = ("--mpt-differentiate", "--mpt-add-optimizer=max-grad-norm=0")
GRADIENT_SCALE = float(np.float32(1.0) - np.float32(0.9))

_ELEMENTS = {torch.float64: "f32", torch.int64: "i64", torch.bool: "i1"}


@dataclasses.dataclass(frozen=True)
class Value:
    """An SSA value and what PyTorch makes of it (float64 stands for f32)."""

    name: str
    torch: torch.Tensor

    @property
    def type(self) -> str:
        return tensor_type(self.torch)


def tensor_type(tensor: torch.Tensor) -> str:
    """Return the MLIR type of a tensor."""
    return f"tensor<{''.join(f'{size}x' for size in tensor.shape)}{_ELEMENTS[tensor.dtype]}>"


def integers(values: Sequence[int]) -> str:
    """Return a DenseI64ArrayAttr."""
    return f"array<i64{': ' if values else ''}{', '.join(map(str, values))}>"


class Graph:
    """A @forward function in the making."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.arguments: list[str] = []
        self.lines: list[str] = []
        self.parameters: dict[str, torch.Tensor] = {}
        self.batch: dict[str, np.ndarray] = {}
        self.losses: list[Value] = []
        self.count = 0

    def _argument(self, name: str, kind: str, tensor: torch.Tensor, more: str = "") -> Value:
        value = Value(f"%{name}", tensor)
        attributes = f'mpt.kind = #mpt.kind<{kind}>, mpt.name = "{name}"{more}'
        self.arguments.append(f"{value.name}: {value.type} {{{attributes}}}")
        return value

    def parameter(self, shape: Sequence[int], low: float = -1.0, high: float = 1.0) -> Value:
        """Return a parameter drawn from [low, high), exact in f32."""
        name = f"p{len(self.parameters)}"
        drawn = self.rng.uniform(low, high, shape).astype(np.float32)
        self.parameters[name] = torch.tensor(drawn, dtype=torch.float64, requires_grad=True)
        return self._argument(name, "parameter", self.parameters[name])

    def input(self, array: np.ndarray, kind: str = "input", more: str = "") -> Value:
        """Return an input (f32 or i64) with this value in every step."""
        name = f"x{len(self.batch)}"
        self.batch[name] = array
        tensor = torch.from_numpy(array)
        return self._argument(name, kind, tensor.double() if array.dtype == np.float32 else tensor, more)

    def random(self, shape: Sequence[int]) -> Value:
        """Return an f32 input of normal draws."""
        return self.input(self.rng.standard_normal(shape).astype(np.float32))

    def rng_state(self) -> tuple[Value, Value]:
        """Return the arguments rng.seed and rng.step."""
        zero = torch.zeros((), dtype=torch.int64)
        result = []
        for name in ("rng.seed", "rng.step"):
            ssa = name.replace(".", "_")
            self.arguments.append(f'%{ssa}: tensor<i64> {{mpt.kind = #mpt.kind<rng>, mpt.name = "{name}"}}')
            result.append(Value(f"%{ssa}", zero))
        return result[0], result[1]

    def op(self, text: str, operands: Sequence[Value], compute: Callable, attributes: str = "") -> Value:
        """Append `mpt.<text>`; compute(*tensors) gives its (first) result, which fixes the type.

        Ops with several results take a compute that returns a tuple; the first is returned.
        """
        results = compute(*(operand.torch for operand in operands))
        results = results if isinstance(results, tuple) else (results,)
        name = f"v{self.count}"
        self.count += 1
        types = ", ".join(tensor_type(result) for result in results)
        left = f"%{name}" + (f":{len(results)}" if len(results) > 1 else "")
        braces = f'{{mpt.name = "{name}"{", " + attributes if attributes else ""}}}'
        signature = f"({', '.join(o.type for o in operands)}) -> {f'({types})' if len(results) > 1 else types}"
        self.lines.append(f"{left} = mpt.{text} {', '.join(o.name for o in operands)} {braces} : {signature}")
        return Value(f"%{name}#0" if len(results) > 1 else f"%{name}", results[0])

    def constant(self, value: float | int, element: str = "f32") -> Value:
        """Return a rank-0 constant."""
        name = f"%v{self.count}"
        self.count += 1
        self.lines.append(f"{name} = mpt.constant dense<{value}> : tensor<{element}>")
        return Value(name, torch.tensor(value, dtype=torch.float64 if element == "f32" else torch.int64))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self.op("reshape", [x], lambda t: t.reshape(*shape) if shape else t.reshape(()))

    def sum(self, x: Value, axes: Sequence[int] | None = None) -> Value:
        """Return the sum over `axes` (default all), which stay as dims of size 1."""
        axes = list(range(x.torch.dim())) if axes is None else list(axes)
        attributes = f"kind = #mpt.reduction<sum>, axes = {integers(axes)}"
        return self.op("reduce", [x], lambda t: t.sum(dim=axes, keepdim=True) if axes else t, attributes)

    def add_to_loss(self, value: Value) -> None:
        """Make the loss depend on every element of `value`, each with a random weight of its own."""
        if value.torch.dim() == 0:
            self.losses.append(value)
            return
        weighted = self.op("mul", [value, self.random(value.torch.shape)], torch.mul)
        self.losses.append(self.reshape(self.sum(weighted), []))

    def text(self) -> str:
        """Return the module; the loss is the sum of what add_to_loss was given."""
        loss = self.losses[0]
        for other in self.losses[1:]:
            loss = self.op("add", [loss, other], torch.add)
        self.losses = [loss]
        body = "\n    ".join([*self.lines, f"return {loss.name} : tensor<f32>"])
        arguments = ", ".join(self.arguments)
        return f'func.func @forward({arguments}) -> (tensor<f32> {{mpt.name = "loss"}}) {{\n    {body}\n}}\n'

    def build(self, directory: Path, engine: str = "reference") -> Package:
        """Compile the gradient of this graph into a package of `directory` and open it."""
        graph, step = directory / "graph.mlir", directory / "step.mlir"
        graph.write_text(self.text())
        values = {name: value.detach().numpy().astype(np.float32) for name, value in self.parameters.items()}
        save_file(values, directory / "graph.safetensors")
        stages.optimise(graph, step, GRADIENT_PASSES)
        stages.build(step, directory / "package", "cpu", engine)
        return Package(directory / "package", threads=2)

    def torch_gradients(self) -> dict[str, np.ndarray]:
        """Return PyTorch's float64 gradient of each parameter (zero where the loss does not depend on it)."""
        leaves = list(self.parameters.values())
        gradients = torch.autograd.grad(sum(v.torch for v in self.losses), leaves, allow_unused=True)
        return {
            name: np.zeros(leaf.shape) if gradient is None else gradient.numpy()
            for (name, leaf), gradient in zip(self.parameters.items(), gradients)
        }


def gradients(package: Package, batch: dict[str, np.ndarray], seed: int = 0) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss and the gradient of each parameter (f64), from a package's first step.

    The package must be built with GRADIENT_PASSES; its parameters stay as they are.
    """
    result = package.step(batch, lr=0.0, seed=seed)
    state = package.state(copy=False)
    names = [entry["name"] for entry in package.arguments if entry["kind"] == "parameter"]
    return result["loss"], {name: state[f"{name}/m"].astype(np.float64) / GRADIENT_SCALE for name in names}
