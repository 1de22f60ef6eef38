# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Gradients without an update: against NumPy, PyTorch and a package of the gradient
function, with the state's bits untouched; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_package as tiny
from graphs import Graph
from mpt import stages
from mpt.runtime import Error, Package

TRAIN_PASSES = ("--mpt-differentiate", "--mpt-add-optimizer")


def bits(package) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in package.state().items()}


# A package written by hand.


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    tiny.write(directory)
    return directory


@pytest.fixture
def changed(built, tmp_path):
    """A function that opens a copy of the package whose manifest it has changed."""

    def open_with(change) -> Package:
        directory = tmp_path / "changed"
        shutil.copytree(built, directory, dirs_exist_ok=True)
        manifest = json.loads((directory / "manifest.json").read_text())
        change(manifest)
        (directory / "manifest.json").write_text(json.dumps(manifest))
        return Package(directory)

    return open_with


def test_agrees_with_numpy_and_changes_nothing(built):
    state = {k: v.astype(np.float64) for k, v in tiny.initial_parameters().items()}
    expected = tiny.reference_step(state, tiny.batch(), 0.01)
    with Package(built) as package:
        before = bits(package)
        loss, found = package.gradient(tiny.batch())  # lr was never set
        assert loss == pytest.approx(expected, rel=1e-5)
        assert [(e["name"], e["shape"]) for e in package.gradients] == [
            ("head.weight", (tiny.WIDTH, tiny.OUT)), ("embed.weight", (tiny.TABLE, tiny.WIDTH)),
        ]
        for name, value in found.items():  # the first moment starts as the gradient
            np.testing.assert_allclose(value, state[name + "/m"], rtol=1e-4, atol=1e-5)
        assert bits(package) == before and package.step_number == 0


def test_interrupted_training_has_the_same_bits(built):
    def train(package, between) -> list:
        losses = []
        for i in range(4):
            between(package, i)
            losses.append(package.step(tiny.batch(i), lr=0.01, seed=5))
        return [losses, bits(package)]

    with Package(built) as package:
        plain = train(package, lambda *_: None)
    with Package(built) as package:
        assert plain == train(package, lambda p, i: p.gradient(tiny.batch(9 + i), seed=3, rng_step=77))


def test_observer_and_times(built):
    seen = []
    with Package(built) as package:
        package.observe(lambda product: seen.append(product.name))
        package.profile()
        package.gradient(tiny.batch())
        assert seen == ["head", "head/wgrad", "head/dgrad"]
        skipped = {t["name"] for t in package.launch_times() if not t["calls"]}
        assert skipped == {"update", "count"}


def test_a_stopped_gradient_leaves_the_state(built):
    with Package(built) as package:
        before = bits(package)

        def stop(product):
            raise KeyError("enough")

        package.observe(stop)
        with pytest.raises(KeyError, match="enough"):
            package.gradient(tiny.batch())
        package.observe(None)
        assert bits(package) == before
        package.step(tiny.batch(), lr=0.01)


def test_results_that_are_not_computed(built):
    with Package(built) as package:
        package.gradient(tiny.batch())
        assert package.read("loss").item() > 0
        with pytest.raises(Error, match="'grad_norm' was not computed: .* launch 'count'"):
            package.read("grad_norm")
        package.step(tiny.batch(), lr=0.01)
        package.read("grad_norm")


def test_refusals(built):
    with Package(built) as package:
        with pytest.raises(Error, match="rng_step is -1, expected at least 0"):
            package.gradient(tiny.batch(), rng_step=-1)
        with pytest.raises(Error, match="the batch lacks label 'labels'"):
            package.gradient({"x": tiny.batch()["x"], "ids": tiny.batch()["ids"]})
        package.gradient(tiny.batch())
        package.view("ids")[2] = tiny.TABLE
        package._arguments.pop("ids")  # what a C program may do: no copy, no check
        with pytest.raises(Error, match="'ids' has the value 10 at"):
            package._check(package._library.mpt_run_gradient(package._handle, 0))


def move_update_first(manifest):
    launches = manifest["launches"]
    launches.insert(0, launches.pop(8))


CHANGES = {
    "no table": (lambda m: m.pop("gradients"), "no gradients: .* rebuild it"),
    "empty table": (lambda m: m.update(gradients=[]), "no gradients: .* rebuild it"),
    "no written": (lambda m: m["launches"][2].pop("written"), "kernel 'loss' writes; rebuild"),
    "updated weight": (move_update_first, "'head.weight' depends on launch 'update'"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_packages_without_a_gradient(changed, what):
    change, message = CHANGES[what]
    with changed(change) as package:
        with pytest.raises(Error, match=message):
            package.gradient(tiny.batch())
        package.step(tiny.batch(), lr=0.01)  # trains all the same


BAD_TABLES = {
    "unknown": ({"parameter": "nobody"}, 'is "nobody", expected the name of an f32 parameter'),
    "no parameter": ({"parameter": "lr"}, 'is "lr", expected the name of an f32 parameter'),
    "twice": ({"parameter": "embed.weight"}, "a parameter that no other gradient has"),
    "buffer": ({"buffer": 99}, "a buffer index below"),
    "alignment": ({"offset": 2}, "a multiple of 4"),
    "stride": ({"strides": [1]}, r"one stride for each dim of 24x40"),
    "stride sign": ({"strides": [-1, 1]}, "an integer of at least 0"),
    "stride reach": ({"strides": [1, 25]}, r"'head.weight' \(24x40\) at offset 0 reaches beyond"),
    "stride size": ({"strides": [2**62, 2**62]}, "reaches beyond"),
    "reach": ({"offset": 4}, r"'head.weight' \(24x40\) at offset 4 reaches beyond the 3840 bytes"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_bad_table(changed, what):
    change, message = BAD_TABLES[what]
    with pytest.raises(Error, match=message):
        changed(lambda manifest: manifest["gradients"][0].update(change))


def test_strides(built, changed):
    """Read with other strides, the same bytes are the transpose."""
    with Package(built) as package:
        plain = package.gradient(tiny.batch())[1]["head.weight"]
    with changed(lambda m: m["gradients"][0].update(strides=[1, tiny.WIDTH])) as package:
        found = package.gradient(tiny.batch())[1]["head.weight"]
    np.testing.assert_array_equal(found, plain.reshape(tiny.OUT, tiny.WIDTH).T)


def test_bad_written(changed):
    with pytest.raises(Error, match="written is 5, expected at most the number of args, 4"):
        changed(lambda manifest: manifest["launches"][0].update(written=5))


# Compiled packages.


class Steps:
    """Packages of the models' steps and gradient functions, built once."""

    def __init__(self, store, directory: Path) -> None:
        self.store, self.directory = store, directory

    def build(self, name: str, passes: tuple, kind: str) -> Path:
        path = self.directory / f"{name}-{kind}"
        if not path.exists():
            graph, step = self.directory / f"{name}.mlir", self.directory / f"{name}-{kind}.mlir"
            if not graph.exists():
                stages.import_model(self.store.path(name), graph)
            stages.optimise(graph, step, passes)
            # Every package is of a function @step.
            step.write_text(step.read_text().replace("@gradient(", "@step("))
            stages.build(step, path, "cpu", "reference")
        return path


@pytest.fixture(scope="module")
def steps(store, tmp_path_factory) -> Steps:
    return Steps(store, tmp_path_factory.mktemp("steps"))


def part(reference: dict, prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in reference.items() if k.startswith(prefix)}


def norm(value: np.ndarray) -> float:
    return float(np.linalg.norm(value.astype(np.float64)))


@pytest.mark.parametrize("name", ["tinyA", "tinyB"])
def test_agrees_with_pytorch(steps, store, name):
    reference = store.reference(name)
    expected, batch = part(reference, "grad."), part(reference, "batch.")
    total = np.sqrt(sum(norm(value) ** 2 for value in expected.values()))
    with Package(steps.build(name, TRAIN_PASSES, "step")) as package:
        before = bits(package)
        loss, found = package.gradient(batch)
        assert loss == pytest.approx(float(reference["loss"]), rel=1e-6)
        assert set(found) == set(expected) == set(package.parameters())
        for key, gradient in expected.items():
            assert norm(found[key] - gradient) <= 1e-5 * norm(gradient) + 1e-8 * total, key
        assert bits(package) == before


def test_equals_the_gradient_function(steps, store):
    """A step without optimizer offers its gradients as results, and as gradients."""
    batch = part(store.reference("tinyA"), "batch.")
    with Package(steps.build("tinyA", TRAIN_PASSES, "step")) as package:
        loss, found = package.gradient(batch)
    with Package(steps.build("tinyA", TRAIN_PASSES[:1], "gradient")) as package:
        results = package.step(batch, lr=0.0)
        again, same = package.gradient(batch)
        assert results["loss"] == again == loss
        assert set(same) == set(found)
        for name, value in found.items():
            assert value.tobytes() == results[name + "/grad"].tobytes() == same[name].tobytes(), name


def test_dropout_follows_rng_step(steps, store):
    batch = part(store.reference("tinyA"), "batch.")
    path = steps.build("tinyA_dropout", TRAIN_PASSES, "step")
    with Package(path) as package:
        for number in range(3):
            ahead = package.gradient(batch, seed=5, rng_step=number + 1)[0]
            now = package.gradient(batch, seed=5)[0]
            assert package.step(batch, lr=1e-3, seed=5)["loss"] == now != ahead
        trained = bits(package)
    with Package(path) as package:
        for _ in range(3):
            package.step(batch, lr=1e-3, seed=5)
        assert bits(package) == trained


def test_cheap_gradients_are_stored(tmp_path):
    """A gradient that fusion could compute again inside the update lies in memory all the same;
    one that its product wrote transposed comes out dense."""
    g = Graph()
    p, q = g.parameter((3, 5)), g.parameter((7, 2))
    half = g.op("mul", [g.op("mul", [p, p], lambda a, b: a * b), g.constant(0.5)], lambda a, b: a * b)
    g.losses.append(g.reshape(g.sum(half), []))
    flipped = g.op("transpose", [q], lambda t: t.T, "permutation = array<i64: 1, 0>")
    product = g.op("matmul", [flipped, g.random((7, 2))], lambda a, b: a @ b)
    g.add_to_loss(product)
    expected = g.torch_gradients()
    with g.build(tmp_path) as package:
        found = package.gradient(g.batch)[1]
        manifest = json.loads((tmp_path / "package" / "manifest.json").read_text())
        assert manifest["gradients"][1]["strides"] == [1, 7]
        assert set(found) == {"p0", "p1"}
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
