# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Gradients of every differentiable op: against finite differences of the compiled forward, and PyTorch.

Each graph holds the variants of one family, each with parameters of its own, so that one build
checks many shapes of code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from graphs import Graph, Value, gradients, integers

IGNORE = -100
SHAPES = [  # pairs that broadcast: equal, scalar, row, column, both ways, more dims
    ((3, 5), (3, 5)),
    ((4, 7), ()),
    ((2, 3, 5), (5,)),
    ((2, 3, 5), (3, 1)),
    ((3, 1), (1, 4)),
    ((2, 1, 4, 1), (3, 1, 6)),
    ((1,), (1, 1)),
    ((70, 3), (1, 3)),
    ((2, 4, 33), (2, 1, 33)),
    ((), ()),
]


def binary(name: str, compute: Callable, low: float = -1.0) -> Callable[[Graph], None]:
    """Return a builder of op `name` over all pairs of shapes; the right operand is at least `low`."""

    def build(g: Graph) -> None:
        for left, right in SHAPES:
            g.add_to_loss(g.op(name, [g.parameter(left), g.parameter(right, low, low + 2.0)], compute))
        twice = g.parameter((4, 3), 0.5, 1.5)
        g.add_to_loss(g.op(name, [twice, twice], compute))

    return build


def unary(name: str, compute: Callable, low: float = -3.0, high: float = 3.0) -> Callable[[Graph], None]:
    """Return a builder of op `name` over several shapes."""

    def build(g: Graph) -> None:
        for shape in ((), (1,), (7,), (5, 33), (2, 3, 4), (2, 1, 3, 2)):
            g.add_to_loss(g.op(name, [g.parameter(shape, low, high)], compute))

    return build


def select(g: Graph) -> None:
    cases = [((4, 6), (4, 6), (4, 6)), ((2, 1, 6), (3, 1), (6,)), ((5,), (), (2, 5)), ((), (3,), (3,))]
    for condition, yes, no in cases:
        draw = g.random(condition)
        chosen = g.op(
            "compare", [draw, g.constant(0.0)], torch.gt, "predicate = #mpt.predicate<gt>"
        )
        g.add_to_loss(g.op("select", [chosen, g.parameter(yes), g.parameter(no)], torch.where))


def matmul(g: Graph) -> None:
    def product(left, right, tl=False, tr=False, fold=False):
        def compute(x, y):
            x, y = (x.mT if tl else x), (y.mT if tr else y)
            return torch.matmul(x, y)

        flags = [n for n, on in (("transpose_lhs", tl), ("transpose_rhs", tr), ("fold_batch", fold)) if on]
        operands = [g.parameter(left), g.parameter(right)]
        g.add_to_loss(g.op("matmul", operands, compute, ", ".join(flags)))

    for batch in ((), (2,), (2, 3)):
        for tl in (False, True):
            for tr in (False, True):
                product(
                    (*batch, 5, 3) if tl else (*batch, 3, 5), (*batch, 4, 5) if tr else (*batch, 5, 4), tl, tr
                )
    for tr in (False, True):  # a shared right operand
        product((2, 3, 5), (4, 5) if tr else (5, 4), False, tr)
        product((2, 2, 3, 5), (4, 5) if tr else (5, 4), False, tr)
        product((1, 1, 5), (1, 5) if tr else (5, 1), False, tr)
    product((37, 65), (65, 19))
    square = g.parameter((6, 6))
    g.add_to_loss(g.op("matmul", [square, square], torch.matmul))
    g.add_to_loss(g.op("matmul", [square, square], lambda x, y: x @ y.mT, "transpose_rhs"))


def softmax(g: Graph) -> None:
    for shape in ((5,), (3, 7), (2, 3, 33), (2, 2, 3, 4), (4, 1), (3, 130)):
        g.add_to_loss(g.op("softmax", [g.parameter(shape, -3, 3)], lambda x: torch.softmax(x, -1)))


def layer_norm(g: Graph) -> None:
    def compute(x, gain, bias, eps):
        mean = x.mean(-1, keepdim=True)
        rstd = 1 / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + eps)
        return (x - mean) * rstd * gain + bias, mean, rstd

    for shape, eps in (((4, 8), 1e-5), ((2, 3, 33), 1e-12), ((2, 2, 2, 5), 0.1), ((100, 6), 1e-5)):
        operands = [g.parameter(shape, -2, 2), g.parameter(shape[-1:], 0.5, 1.5), g.parameter(shape[-1:])]
        attributes = f"epsilon = {eps:.1e} : f32"
        g.add_to_loss(g.op("layer_norm", operands, lambda *t, e=eps: compute(*t, e), attributes))


def cross_entropy(g: Graph) -> None:
    def compute(logits, labels):
        total = torch.logsumexp(logits, -1, keepdim=True)
        loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE)
        return loss, total, (labels != IGNORE).sum().double()

    for rows, columns in ((1, 3), (6, 5), (70, 33)):
        labels = g.rng.integers(0, columns, rows)
        labels[1::3] = IGNORE
        more = f", mpt.range = array<i64: 0, {columns}>, mpt.ignore_index = {IGNORE} : i64"
        operands = [g.parameter((rows, columns), -3, 3), g.input(labels, "label", more)]
        loss = g.op("cross_entropy", operands, compute, f"ignore_index = {IGNORE} : i64")
        g.add_to_loss(g.op("mul", [loss, g.constant(1.5)], torch.mul))


def gather(g: Graph) -> None:
    for rows, width, ids in ((5, 3, (4,)), (7, 4, (2, 9)), (2, 33, (3, 2, 2)), (70, 1, (5,)), (1, 6, (70,))):
        drawn = g.rng.integers(0, rows, ids)  # rows that occur often, once, never
        numbers = g.input(drawn, more=f", mpt.range = array<i64: 0, {rows}>")
        g.add_to_loss(g.op("gather", [g.parameter((rows, width)), numbers], lambda t, i: t[i]))
    tied = g.parameter((6, 4))  # an embedding that is also a product's operand
    numbers = g.input(g.rng.integers(0, 6, (2, 5)), more=", mpt.range = array<i64: 0, 6>")
    looked_up = g.op("gather", [tied, numbers], lambda t, i: t[i])
    g.add_to_loss(g.op("matmul", [looked_up, tied], lambda x, w: x @ w.T, "transpose_rhs"))


def reduce(g: Graph) -> None:
    cases = [((5,), (0,)), ((4, 6), (1,)), ((130, 6), (0,)), ((4, 6), (0, 1)), ((2, 3, 5), (1,)), ((2, 3, 5), (0, 2)),
             ((2, 3, 5), (1, 2)), ((70, 2, 3), (0,)), ((2, 3, 4, 5), (0, 2)), ((1, 4), (0,)), ((3, 1), (1,))]  # fmt: skip
    for shape, axes in cases:
        g.add_to_loss(g.sum(g.parameter(shape), axes))


def views(g: Graph) -> None:
    g.add_to_loss(g.reshape(g.parameter((4, 6)), (2, 3, 4)))
    g.add_to_loss(g.reshape(g.parameter((1, 5, 1)), (5,)))
    stretched = [((3, 1), (3, 4)), ((5,), (2, 3, 5)), ((), (4, 2)), ((2, 1, 3, 1), (2, 4, 3, 5)), ((1, 3), (70, 3))]
    for shape, to in stretched:
        g.add_to_loss(g.op("broadcast", [g.parameter(shape)], lambda x, to=to: x.broadcast_to(to)))
    for shape, order in (((3, 5), (1, 0)), ((2, 3, 4), (0, 2, 1)), ((2, 3, 4, 5), (0, 2, 1, 3)), ((2, 3, 4), (2, 0, 1))):
        attributes = f"permutation = {integers(order)}"
        g.add_to_loss(g.op("transpose", [g.parameter(shape)], lambda x, o=order: x.permute(o), attributes))
    x = g.parameter((2, 3, 4, 5))  # heads: transposed and reshaped as in attention
    y = g.op("transpose", [x], lambda t: t.permute(0, 2, 1, 3), f"permutation = {integers((0, 2, 1, 3))}")
    g.add_to_loss(g.op("tanh", [g.reshape(y, (2, 4, 15))], torch.tanh))


def slices(g: Graph) -> None:
    cases = [((7,), (2,), (3,)), ((6, 4), (1, 0), (3, 4)), ((6, 4), (0, 1), (6, 2)), ((2, 5, 3), (0, 0, 0), (2, 1, 3)),
             ((2, 5, 4), (1, 2, 1), (1, 3, 2)), ((3, 2, 12), (0, 0, 4), (3, 2, 4)), ((70, 3), (69, 0), (1, 3)),
             ((4, 6, 2, 3), (1, 2, 0, 0), (2, 4, 2, 3))]  # fmt: skip
    for shape, offsets, sizes in cases:
        def cut(x: torch.Tensor, offsets=offsets, sizes=sizes) -> torch.Tensor:
            return x[tuple(slice(o, o + s) for o, s in zip(offsets, sizes))]

        part = g.op("slice", [g.parameter(shape)], cut, f"offsets = {integers(offsets)}")
        g.add_to_loss(g.op("mul", [part, part], torch.mul))
    x = g.parameter((3, 8))  # two slices of one value, as when Q, K and V share a product
    for start in (0, 4):
        half = g.op("slice", [x], lambda t, s=start: t[:, s : s + 4], f"offsets = {integers((0, start))}")
        g.add_to_loss(g.op("exp", [half], torch.exp))


def whole_layer(g: Graph) -> None:
    """Ops that fuse with each other: a residual branch, normalisation, attention with a mask."""
    x, w, v = g.parameter((2, 6, 8)), g.parameter((8, 8)), g.parameter((8, 8))
    mask = g.input(np.where(g.rng.random((2, 1, 6)) < 0.3, -1e4, 0.0).astype(np.float32))
    h = g.op("matmul", [x, w], torch.matmul)
    scores = g.op("matmul", [h, x], lambda a, b: a @ b.mT, "transpose_rhs")
    scaled = g.op("mul", [scores, g.constant(0.125)], torch.mul)
    masked = g.op("add", [scaled, mask], torch.add)
    weights = g.op("softmax", [masked], lambda t: torch.softmax(t, -1))
    context = g.op("matmul", [weights, g.op("matmul", [x, v], torch.matmul)], torch.matmul)
    total = g.op("add", [g.op("gelu", [context], torch.nn.functional.gelu), x], torch.add)
    g.add_to_loss(g.op("tanh", [total], torch.tanh))


GRAPHS = {
    "add": binary("add", torch.add),
    "sub": binary("sub", torch.sub),
    "mul": binary("mul", torch.mul),
    "div": binary("div", torch.div, low=0.7),
    "neg": unary("neg", torch.neg),
    "exp": unary("exp", torch.exp),
    "log": unary("log", torch.log, 0.5, 4.0),
    "sqrt": unary("sqrt", torch.sqrt, 0.5, 4.0),
    "tanh": unary("tanh", torch.tanh),
    "erf": unary("erf", torch.erf),
    "gelu": unary("gelu", torch.nn.functional.gelu),
    "select": select,
    "matmul": matmul,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "cross_entropy": cross_entropy,
    "gather": gather,
    "reduce": reduce,
    "views": views,
    "slice": slices,
    "whole_layer": whole_layer,
}


def directional(package, batch: dict, values: dict, direction: dict, step: float = 0.02) -> float:
    """Return the derivative of the loss along `direction`, by central differences of fourth order."""
    loss = {}
    for k in (-2, -1, 1, 2):
        moved = {n: (v + k * step * direction[n]).astype(np.float32) for n, v in values.items()}
        package.load_parameters(moved)
        loss[k] = package.step(batch, lr=0.0)["loss"]
    package.load_parameters({n: v.astype(np.float32) for n, v in values.items()})
    return (8 * (loss[1] - loss[-1]) - (loss[2] - loss[-2])) / (12 * step)


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients(name: str, tmp_path) -> None:
    g = Graph(seed=sum(map(ord, name)))
    GRAPHS[name](g)
    with g.build(tmp_path) as package:
        loss, found = gradients(package, g.batch)
        expected = g.torch_gradients()
        assert loss == pytest.approx(float(g.losses[0].torch.detach()), rel=1e-5, abs=1e-5)
        for parameter, gradient in expected.items():
            scale = np.abs(gradient).max()
            limit = {"rtol": 2e-5, "atol": 2e-6 * scale + 1e-7}
            np.testing.assert_allclose(found[parameter], gradient, **limit, err_msg=parameter)
        values = {n: v.detach().numpy() for n, v in g.parameters.items()}
        for parameter in values:
            direction = {n: np.zeros(v.shape) for n, v in values.items()}
            direction[parameter] = g.rng.choice([-1.0, 1.0], values[parameter].shape)
            slope = float((found[parameter] * direction[parameter]).sum())
            size = float(np.abs(found[parameter]).sum())
            measured = directional(package, g.batch, values, direction)
            assert slope == pytest.approx(measured, abs=2e-4 * size + 2e-5 * (1 + abs(loss))), parameter
