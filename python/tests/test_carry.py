# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Low copies of parameters that are kept between steps: no bit of training may change.

The truth is the step that casts its parameters itself: both are built from one assigned step and
compared bit for bit, over steps, skipped steps, checkpoints and parameters that the caller sets.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mpt import cuda, stages
from mpt.runtime import Error, Package
from safetensors import safe_open
from test_scaling import Layer

RECIPES = {
    "current": "recipe = current",
    "delayed": "recipe = delayed, history = 4",
    "fixed": "recipe = fixed, value = 16.0",
}


def assigned(store, directory: Path, recipe: str) -> Path:
    """A tiny BERT's step under HYBRID formats of `recipe`, attention BF16, stochastic gradients."""
    stages.import_model(store.path("tinyA"), directory / "graph.mlir")
    passes = ["--mpt-differentiate", "--mpt-add-optimizer", "--assign-precision=policy=uniform"]
    stages.optimise(directory / "graph.mlir", directory / "step.mlir", passes)
    text = (directory / "step.mlir").read_text()
    old = "f8E5M2, scale = per_tensor, recipe = current"
    assert old in text
    text = text.replace(old, f"{old}, rounding = stochastic").replace("recipe = current", RECIPES[recipe])
    (directory / "step.mlir").write_text(text)
    return directory / "step.mlir"


@pytest.fixture(scope="module", params=["current", "delayed"])
def bert(request, store, tmp_path_factory) -> Path:
    """A directory with the packages `plain` and `carried` of one step."""
    directory = tmp_path_factory.mktemp(f"carry_{request.param}")
    step = assigned(store, directory, request.param)
    for name in ("plain", "carried"):
        stages.build(step, directory / name, "cpu", "reference", carry=name == "carried")
    return directory


@pytest.fixture(scope="module")
def batch(store) -> dict[str, np.ndarray]:
    return {name[6:]: value for name, value in store.reference("tinyA").items() if name.startswith("batch.")}


def assert_same_state(one: Package, other: Package) -> None:
    state = other.state()
    for name, value in one.state().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def train(package: Package, batch: dict, steps: int) -> list[float]:
    return [package.step(batch, lr=1e-3, seed=5)["loss"] for _ in range(steps)]


def derived(package: Package) -> list[str]:
    return [entry["name"] for entry in package.arguments if entry["kind"] == "derived"]


def test_ten_steps_have_the_same_bits(bert: Path, batch: dict) -> None:
    plain, carried = Package(bert / "plain", threads=2), Package(bert / "carried", threads=1)
    losses = train(plain, batch, 10)
    assert losses[-1] < losses[0] - 0.5
    assert train(carried, batch, 10) == losses
    assert_same_state(plain, carried)
    # Every product's weight is carried: 6 of each of two layers, the head's two.
    codes = [name for name in derived(carried) if "/cast." in name]
    assert len(codes) == 14
    assert not derived(plain)
    # It is what a cast of the parameter gives, under the scale that it travels with or its state has.
    name = next(name for name in plain.parameters() if "layer.0.intermediate.dense.weight" in name)
    scale = f"{name}/scale.f8E4M3FN"
    inverse = carried.read(f"{scale}/inverse") if f"{scale}/inverse" in derived(carried) else 1 / carried.read(scale)
    held = carried.read(f"{name}/cast.f8E4M3FN").astype(np.float32) * inverse
    value = carried.read(name)
    assert 0.015 < np.linalg.norm(held - value) / np.linalg.norm(value) < 0.04  # E4M3's 2^-5.2 or so


def test_the_step_casts_no_parameter(bert: Path) -> None:
    """What only products read is read when it is updated, and by the cast if its scale needs the amax first."""
    manifest = json.loads((bert / "carried" / "manifest.json").read_text())
    assert 1 <= len(manifest["init"]) <= 4 * 14
    name = "layer.0.intermediate.dense.weight"
    (weight,) = (
        entry["buffer"]
        for entry in manifest["arguments"]
        if entry["kind"] == "parameter" and entry["name"].endswith(name)
    )
    readers = [
        launch["name"].rsplit(name)[-1]
        for launch in manifest["launches"]
        if launch["op"] == "kernel" and any(buffer == weight for buffer, _ in launch["args"])
    ]
    assert readers == ["/update", "/cast.f8E4M3FN"][: 2 if "current" in bert.name else 1]
    # The new codes are written where they are read: no launch only moves them.
    assert not [launch for launch in manifest["launches"] if launch["op"] == "copy" and "/cast." in launch["name"]]


@pytest.mark.parametrize("into", ["carried", "plain"])
def test_resuming(bert: Path, batch: dict, tmp_path: Path, into: str) -> None:
    """Checkpoints hold no derived state and go between both packages."""
    plain, first = Package(bert / "plain", threads=2), Package(bert / "carried", threads=2)
    losses = train(plain, batch, 7)
    assert train(first, batch, 3) == losses[:3]
    first.save(tmp_path / "checkpoint.safetensors")
    with safe_open(tmp_path / "checkpoint.safetensors", "np") as file:
        assert not set(derived(first)) & set(file.keys())
    resumed = Package(bert / into, threads=2)
    train(resumed, batch, 1)
    resumed.load(tmp_path / "checkpoint.safetensors")
    assert train(resumed, batch, 4) == losses[3:]
    assert_same_state(plain, resumed)


def test_setting_parameters(bert: Path, batch: dict) -> None:
    plain, carried = Package(bert / "plain", threads=2), Package(bert / "carried", threads=2)
    changed = {name: value * np.float32(1.5) for name, value in plain.parameters().items()}
    name = next(name for name in changed if "layer.1.output.dense.weight" in name)
    for package in (plain, carried):
        train(package, batch, 2)
        package.load_parameters(changed)
    assert train(plain, batch, 2) == train(carried, batch, 2)
    for package in (plain, carried):
        package.set(name, changed[name] * 3)
    assert train(plain, batch, 2) == train(carried, batch, 2)
    views = {package: package.view(name) for package in (plain, carried)}
    for _ in range(2):  # a view can be written through at any time
        for package, view in views.items():
            view[...] *= 2
        assert train(plain, batch, 1) == train(carried, batch, 1)
    assert_same_state(plain, carried)


def test_gradients_without_an_update(bert: Path, batch: dict) -> None:
    plain, carried = Package(bert / "plain", threads=2), Package(bert / "carried", threads=2)
    for _ in range(2):
        expected, found = plain.gradient(batch, seed=3), carried.gradient(batch, seed=3)
        assert expected[0] == found[0]
        for name, value in expected[1].items():
            np.testing.assert_array_equal(value, found[1][name], err_msg=name)
        assert train(plain, batch, 1) == train(carried, batch, 1)


def test_derived_state_is_not_for_the_caller(bert: Path, batch: dict) -> None:
    package = Package(bert / "carried", threads=1)
    name = derived(package)[0]
    with pytest.raises(Error, match="may not fit the state"):
        package.read(name)
    train(package, batch, 1)
    value = package.read(name).copy()
    with pytest.raises(Error, match=f"cannot set derived '{name}': it is computed from parameters"):
        package.set(name, value)
    with pytest.raises(Error, match=f"cannot write derived '{name}'"):
        package.view(name)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("storage", ["f8E4M3FN", "f8E5M2", "i8"])
def test_skipped_steps_keep_what_is_carried(tmp_path: Path, storage: str, recipe: str) -> None:
    formats = f"{storage}, {RECIPES[recipe]}"
    layer = Layer(tmp_path, formats, formats, formats, "f8E5M2")
    layer.build()
    stages.build(tmp_path / "step.mlir", tmp_path / "carried", "cpu", "reference", carry=True)
    packages = [Package(tmp_path / name, threads=2) for name in ("package", "carried")]
    carried = packages[1]
    overflow = layer.batch()
    overflow["in"][2, 3] = 1e30
    for bad in (False, True, True, False, False):
        before = {name: carried.read(name).copy() for name in derived(carried)} if carried.step_number else {}
        results = [package.step(overflow if bad else layer.batch(), lr=1e-2) for package in packages]
        assert results[0] == results[1]
        assert results[0]["skipped"] is bad
        assert_same_state(*packages)
        if bad:
            for name, value in before.items():
                np.testing.assert_array_equal(carried.read(name), value, err_msg=name)
    assert f"w/cast.{storage}" in derived(carried)


def test_what_cannot_be_carried_stays(tmp_path: Path, capfd) -> None:
    """A stochastic cast draws its step's random bits; scales per column are carried."""
    layer = Layer(tmp_path, "f8E4M3FN", "f8E4M3FN, rounding = stochastic", "f8E4M3FN", "f8E5M2")
    layer.build()
    stages.build(tmp_path / "step.mlir", tmp_path / "carried", "cpu", "reference", carry=True)
    assert "'w/cast.f8E4M3FN' stays in the step" in capfd.readouterr().err
    assert not derived(Package(tmp_path / "carried"))

    (tmp_path / "columns").mkdir()
    column = "i8, scale = per_column"
    layer = Layer(tmp_path / "columns", "i8, scale = per_row", column, column, column)
    plain = layer.build()
    stages.build(tmp_path / "columns" / "step.mlir", tmp_path / "columns" / "carried", "cpu", "reference", carry=True)
    carried = Package(tmp_path / "columns" / "carried", threads=2)
    assert len(derived(carried)) == 3  # codes, inverse scales, amax
    for _ in range(3):
        assert plain.step(layer.batch(), lr=1e-2) == carried.step(layer.batch(), lr=1e-2)
    assert_same_state(plain, carried)


#
# Damaged manifests.
#


def test_init_lists_are_checked(tmp_path: Path) -> None:
    layer = Layer(tmp_path, "bf16", "bf16", "bf16", "bf16")
    layer.build().close()
    package = tmp_path / "carried"
    stages.build(tmp_path / "step.mlir", package, "cpu", "reference", carry=True)
    text = (package / "manifest.json").read_text()
    good = json.loads(text)
    buffers = {entry["name"]: entry["buffer"] for entry in good["arguments"]}

    def refuses(match: str, **changes) -> None:
        (package / "manifest.json").write_text(json.dumps(good | changes))
        with pytest.raises(Error, match=match):
            Package(package)

    (launch,) = good["init"]
    assert launch["args"] == [[buffers["w"], 0], [buffers["w/cast.bf16"], 0]]
    target = [buffers["w/cast.bf16"], 0]
    refuses("derived 'w/cast.bf16' is initialised by launches, but none in 'init' writes it", init=[])
    refuses("reads input 'c', expected a parameter", init=[launch | {"args": [[buffers["c"], 0], target]}])
    refuses(
        "reads derived 'w/cast.bf16', expected a parameter, scale state, or what an earlier launch",
        init=[{"op": "copy", "name": "x", "bytes": 8, "source": target, "result": target}],
    )
    refuses("writes 'w', expected a derived", init=[launch | {"args": [[buffers["w"], 0]] * 2}, launch])
    refuses("expected kernel, copy or fill in 'init'", init=[x for x in good["launches"] if x["op"] == "product"][:1])
    refuses("expected 'written' beside", init=[{key: value for key, value in launch.items() if key != "written"}])
    arguments = [dict(entry) for entry in good["arguments"]]
    next(entry for entry in arguments if entry["name"] == "w")["init"] = "launches"
    refuses("expected 'file', 'zero' or a number", arguments=arguments)
    (package / "manifest.json").write_text(text)
    Package(package)


#
# CUDA, in simulation.
#


@pytest.mark.parametrize("recipe", ["current", "delayed"])
def test_cuda_carries_too(tmp_path: Path, recipe: str) -> None:
    """Codes and transposed codes of the weight; checkpoints and parameters that are set derive them anew."""
    formats = f"f8E4M3FN, {RECIPES[recipe]}"
    layer = Layer(tmp_path, formats, formats, formats, formats.replace("E4M3FN", "E5M2"))
    layer.build().close()
    packages = {}
    for name in ("plain", "carried"):
        stages.build(tmp_path / "step.mlir", tmp_path / name, "cuda", carry=name == "carried")
        cuda.compile_package(tmp_path / name, simulate=True)
        packages[name] = cuda.CudaPackage(tmp_path / name, simulate=True)
    plain, carried = packages.values()
    names = [entry["name"] for entry in carried.arguments if entry["kind"] == "derived"]
    assert "w/cast.f8E4M3FN/transposed" in names
    weight = next(entry["buffer"] for entry in carried.arguments if entry["name"] == "w")
    launches = carried.manifest["launches"]
    readers = [i for i, launch in enumerate(launches) if weight in (buffer for buffer, _ in launch["args"])]
    assert min(readers) > [launch["name"] for launch in launches].index("layer/wgrad")

    def steps(count: int) -> None:
        for _ in range(count):
            one, other = (package.step(layer.batch(), lr=1e-2) for package in (plain, carried))
            assert one == other
        for name, value in plain.state().items():
            np.testing.assert_array_equal(value, carried.read(name), err_msg=name)

    steps(3)
    plain.save(tmp_path / "checkpoint.safetensors")
    for package in (plain, carried):
        package.load_parameters({"w": layer.w * np.float32(3)})
    steps(2)
    for package in (plain, carried):
        package.load(tmp_path / "checkpoint.safetensors")
    steps(2)
    with pytest.raises(Error, match="is computed from parameters and scale state, and cannot be set"):
        carried.set(names[0], carried.read(names[0]))
    for package in (plain, carried):
        package.close()
