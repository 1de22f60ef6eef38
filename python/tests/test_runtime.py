# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The runtime through Python, on a package written by hand: results, checkpoints,
and a clear refusal for everything that can be wrong with a file or a batch."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil

import numpy as np
import pytest
import tiny_package as tiny
from mpt.runtime import Error, Package
from safetensors.numpy import load_file, save_file


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The package, built once; tests that break it copy it."""
    directory = tmp_path_factory.mktemp("tiny")
    tiny.write(directory)
    return directory


@pytest.fixture
def package(built):
    with Package(built, threads=2) as opened:
        yield opened


@pytest.fixture
def broken(built, tmp_path):
    """A function that opens a copy of the package whose manifest it has changed."""

    def open_with(change):
        directory = tmp_path / "broken"
        shutil.copytree(built, directory, dirs_exist_ok=True)
        manifest = json.loads((directory / "manifest.json").read_text())
        change(manifest)
        (directory / "manifest.json").write_text(json.dumps(manifest))
        Package(directory).close()

    return open_with


def train(package, steps, first=0):
    results = []
    for i in range(first, first + steps):
        results.append(package.step(tiny.batch(i), lr=0.01, seed=5))
    return results


# Steps.


@pytest.mark.parametrize("engine", ["reference", "blas"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_steps_agree_with_numpy(tmp_path, engine, threads):
    tiny.write(tmp_path, engine)
    state = {k: v.astype(np.float64) for k, v in tiny.initial_parameters().items()}
    with Package(tmp_path, threads=threads) as package:
        assert (package.engine, package.threads) == (engine, threads)
        for i in range(5):
            result = package.step(tiny.batch(i), lr=0.01, seed=5)
            assert result["loss"] == pytest.approx(
                tiny.reference_step(state, tiny.batch(i), 0.01), rel=1e-5
            )
            # t starts at 2, the constant is 10, the seed 5.
            assert result["grad_norm"] == (2 + i + 1) + i + 5 + 10
            assert result["step"] == i + 1
        for name, value in package.parameters().items():
            np.testing.assert_allclose(value, state[name], rtol=1e-4, atol=1e-6)


def test_reference_bits_do_not_depend_on_threads(built):
    states = []
    for threads in (1, 2, 5):
        with Package(built, threads=threads) as package:
            train(package, 4)
            states.append(package.state())
    for state in states[1:]:
        for name in state:
            assert state[name].tobytes() == states[0][name].tobytes()


def test_arguments_are_described(package):
    by_name = {entry["name"]: entry for entry in package.arguments}
    assert by_name["ids"] == {
        "name": "ids", "kind": "input", "shape": (tiny.ROWS,), "dtype": "i64",
        "range": (0, tiny.TABLE),
    }
    assert by_name["labels"]["ignore_index"] == -100
    assert [entry["name"] for entry in package.results] == ["loss", "grad_norm"]
    assert package.graph_hash == tiny.GRAPH_HASH


def test_dlpack_in_and_out(package):
    torch = pytest.importorskip("torch")
    batch = {name: torch.from_numpy(value) for name, value in tiny.batch().items()}
    with_torch = package.step(batch, lr=0.01)["loss"]
    assert torch.from_dlpack(package.view("head.weight")).shape == (tiny.WIDTH, tiny.OUT)
    package.load_parameters({k: torch.from_numpy(v) for k, v in tiny.initial_parameters().items()})
    assert package.step(tiny.batch(), lr=0.01)["loss"] == with_torch


def test_views_are_the_memory(package):
    package.view("head.weight")[:] = 0
    assert not package.parameters()["head.weight"].any()
    view = package.parameters(copy=False)["head.weight"]
    package.view("head.weight")[0, 0] = 7
    assert view[0, 0] == 7


def test_observer_sees_every_product(package):
    seen = []

    def look(product):
        expected = product.lhs @ product.rhs
        np.testing.assert_allclose(product.result, expected, rtol=1e-4, atol=1e-5)
        seen.append((product.name, product.role, product.m, product.n, product.k))

    package.observe(look)
    package.step(tiny.batch(), lr=0.01)
    assert seen == [
        ("head", "fprop", tiny.ROWS, tiny.OUT, tiny.WIDTH),
        ("head/wgrad", "wgrad", tiny.WIDTH, tiny.OUT, tiny.ROWS),
        ("head/dgrad", "dgrad", tiny.ROWS, tiny.WIDTH, tiny.OUT),
    ]
    package.observe(None)
    package.step(tiny.batch(), lr=0.01)
    assert len(seen) == 3


def test_an_exception_in_the_observer_stops_the_step(package, tmp_path):
    package.save(tmp_path / "c.safetensors")

    def stop(product):
        raise KeyError("enough")

    package.observe(stop)
    with pytest.raises(KeyError, match="enough"):
        package.step(tiny.batch(), lr=0.01)
    package.observe(None)
    with pytest.raises(Error, match="failed halfway"):
        package.step(tiny.batch(), lr=0.01)
    with pytest.raises(Error, match="failed halfway"):
        package.save(tmp_path / "d.safetensors")
    package.load(tmp_path / "c.safetensors")
    package.step(tiny.batch(), lr=0.01)


def test_no_call_back_into_a_running_step(package):
    package.observe(lambda product: package.step(tiny.batch(), lr=0.01))
    with pytest.raises(Error, match="while a step runs"):
        package.step(tiny.batch(), lr=0.01)


def test_launch_times(package):
    train(package, 1)
    package.profile()
    train(package, 2)
    times = package.launch_times()
    assert [t["op"] for t in times].count("product") == 3
    assert all(t["calls"] == 2 and t["seconds"] > 0 for t in times)
    assert times[0]["symbol"] == "gather" and times[1]["role"] == "fprop"


# Checkpoints.


def test_resume_is_bit_identical(built, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with Package(built) as package:
        train(package, 3)
        package.save(path)
        expected = train(package, 3, first=3)
        state = package.state()
    with Package(built) as package:
        package.load(path)
        assert package.step_number == 3
        assert train(package, 3, first=3) == expected
        for name, value in package.state().items():
            assert value.tobytes() == state[name].tobytes()
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]


def test_saving_the_same_state_gives_the_same_file(package, tmp_path):
    train(package, 2)
    package.save(tmp_path / "a")
    package.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_export_weights(package, tmp_path):
    package.export_weights(tmp_path / "model.safetensors")
    weights = load_file(tmp_path / "model.safetensors")
    assert {k: v.tobytes() for k, v in weights.items()} == {
        k: v.tobytes() for k, v in tiny.initial_parameters().items()
    }


def test_load_parameters_from_file_ignores_extra_tensors(built, tmp_path):
    values = {k: v + 1 for k, v in tiny.initial_parameters().items()}
    save_file(values | {"more": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
    with Package(built) as package:
        package.load_parameters(tmp_path / "w.safetensors")
        assert package.parameters()["head.weight"].tobytes() == values["head.weight"].tobytes()


def rewrite(path, change):
    """Changes a checkpoint's tensors and metadata and writes it again."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


BAD_CHECKPOINTS = {
    "other graph": (lambda t, m: m.update(graph_hash="f" * 16), "graph_hash is 'f{16}'"),
    "other version": (lambda t, m: m.update(version="2"), "version is '2', expected '1'"),
    "no metadata": (lambda t, m: m.clear(), "format is 'missing'"),
    "bad step": (lambda t, m: m.update(step="-4"), "step is '-4'"),
    "step beyond 64 bits": (lambda t, m: m.update(step="9" * 20), "step is '9{20}'"),
    "lacks a tensor": (lambda t, m: t.pop("adam/t"), "lacks tensor 'adam/t'"),
    "has one more": (
        lambda t, m: t.update(more=np.zeros(3, np.float32)), "'more', which is no state",
    ),
    "wrong shape": (
        lambda t, m: t.update({"head.weight": np.zeros((3, 4), np.float32)}),
        "'head.weight' is 3x4 F32, expected 24x40 F32",
    ),
    "wrong dtype": (
        lambda t, m: t.update({"head.weight": np.zeros((24, 40), np.float16)}),
        "'head.weight' is 24x40 F16, expected 24x40 F32",
    ),
}


@pytest.mark.parametrize("what", BAD_CHECKPOINTS)
def test_bad_checkpoint_changes_nothing(package, tmp_path, what):
    change, message = BAD_CHECKPOINTS[what]
    path = tmp_path / "c.safetensors"
    train(package, 1)
    package.save(path)
    train(package, 1)
    before = package.state()
    rewrite(path, change)
    with pytest.raises(Error, match=message):
        package.load(path)
    assert package.step_number == 2
    for name, value in package.state().items():
        assert value.tobytes() == before[name].tobytes()


def test_truncated_checkpoint(package, tmp_path):
    path = tmp_path / "c.safetensors"
    package.save(path)
    whole = path.read_bytes()
    before = package.state()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(Error, match="c.safetensors"):
            package.load(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(Error, match="c.safetensors"):
        package.load(path)
    for name, value in package.state().items():
        assert value.tobytes() == before[name].tobytes()


def test_damaged_checkpoint_headers(package, tmp_path):
    """Random damage to the header is refused or harmless, never a crash."""
    path = tmp_path / "c.safetensors"
    package.save(path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(1)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(header)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            package.load(path)
        except Error:
            refused += 1
    assert refused > 400


def test_unwritable_and_missing_paths(package, tmp_path):
    with pytest.raises(Error, match="cannot create"):
        package.save(tmp_path / "no" / "c.safetensors")
    with pytest.raises(Error, match="cannot open"):
        package.load(tmp_path / "none.safetensors")
    (tmp_path / "directory").mkdir()
    with pytest.raises(Error, match="cannot write"):
        package.save(tmp_path / "directory")
    assert os.listdir(tmp_path) == ["directory"]


# Batches.


def refuse(package, message, **changes):
    """Steps with a changed batch; checks the message and that nothing changed."""
    batch = tiny.batch()
    before = package.state()
    for name, value in changes.items():
        batch[name] = value(batch[name])
    with pytest.raises(Error, match=message):
        package.step(batch, lr=0.01)
    assert package.step_number == 0
    for name, value in package.state().items():
        assert value.tobytes() == before[name].tobytes()


def put(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


def test_ids_out_of_range(package):
    message = r"input 'ids' has the value 10 at \[3\], expected at least 0 and below 10"
    refuse(package, message, ids=put(3, tiny.TABLE))
    refuse(package, r"input 'ids' has the value -1 at \[0\]", ids=put(0, -1))
    refuse(package, r"input 'ids' has the value -100", ids=put(0, -100))
    refuse(package, r"label 'labels' has the value 40 .* or ignore_index -100", labels=put(2, 40))
    refuse(package, r"label 'labels' has the value -1 ", labels=put(2, -1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(package, value):
    message = r"input 'x' has the value .*(nan|inf) at \[2, 5\], expected finite"
    refuse(package, message, x=put((2, 5), value))
    with pytest.raises(Error, match="hyper 'lr' has the value"):
        package.step(tiny.batch(), lr=value)


def test_wrong_shape_or_dtype(package):
    refuse(package, r"'x' is 5x24 f32, expected 6x24 f32", x=lambda x: x[:5])
    refuse(package, r"'x' is \[6, 24\] float64, expected \[6, 24\] float32",
           x=lambda x: x.astype(np.float64))
    refuse(package, "'ids' is .* int32, expected .* int64", ids=lambda x: x.astype(np.int32))
    refuse(package, "'ids' is scalar i64, expected 6 i64", ids=lambda x: x[0])
    refuse(package, r"'x' is \[1, 1", x=lambda x: x.reshape((1,) * 20 + x.shape))


def test_a_bad_value_written_in_place_is_found(package):
    for name, value in tiny.batch().items():
        package.view(name)[...] = value
    package.view("ids")[4] = 99
    library, handle = package._library, package._handle
    package.set("lr", np.float32(0.1))
    assert library.mpt_step(handle) != 0
    assert b"'ids' has the value 99 at [4]" in library.mpt_last_error()
    package.view("ids")[4] = 9
    assert library.mpt_step(handle) == 0


def test_missing_inputs(built, tmp_path):
    with Package(built) as package:
        batch = tiny.batch()
        del batch["labels"]
        with pytest.raises(Error, match="the batch lacks label 'labels'"):
            package.step(batch, lr=0.01)
        assert package._library.mpt_step(package._handle) != 0
        assert b"not set before the step: input 'x'" in package._library.mpt_last_error()
        with pytest.raises(Error, match="no argument 'nothing'"):
            package.set("nothing", np.zeros(3))
    tiny.write(tmp_path / "bare", init=False)
    with Package(tmp_path / "bare") as package:
        with pytest.raises(Error, match="not set .* parameter 'head.weight'"):
            package.step(tiny.batch(), lr=0.01)
        with pytest.raises(Error, match="'head.weight' was never set"):
            package.save(tmp_path / "c")
        with pytest.raises(Error, match="lack 'embed.weight'"):
            package.load_parameters({"head.weight": np.zeros((24, 40), np.float32)})
        package.load_parameters(tiny.initial_parameters())
        package.step(tiny.batch(), lr=0.01)


def test_closed_package(built):
    package = Package(built)
    package.close()
    package.close()
    with pytest.raises(Error, match="closed"):
        package.step(tiny.batch(), lr=0.01)


# Packages.


def test_missing_package(tmp_path):
    with pytest.raises(Error, match="manifest.json"):
        Package(tmp_path / "none")


def set_in(*path_and_value):
    """A change of the manifest: the value at a path."""
    *path, last, value = path_and_value

    def change(manifest):
        node = manifest
        for key in path:
            node = node[key]
        node[last] = value

    return change


BIG = 2**62
PRODUCT, SCATTER, FILL, COPY = 1, 6, 5, 7
BAD_MANIFESTS = {
    "format": (set_in("format", "zip"), "format is 'zip', expected 'mpt-package'"),
    "version": (set_in("version", 2), "version is 2, this runtime reads version 1"),
    "target": (set_in("target", "cuda"), "target is 'cuda'"),
    "engine": (set_in("engine", "fast"), "engine is \"fast\", expected 'blas' or 'reference'"),
    "graph hash": (set_in("graph_hash", "f" * 16), "graph_hash"),
    "hash form": (set_in("graph_hash", "xyz"), "16 lower-case hex digits"),
    "kernels hash": (set_in("kernels_hash", "0" * 16), "kernels.so' is [0-9a-f]{16}, the manifest"),
    "arch": (set_in("cpu", "arch", "riscv64"), "compiled for 'riscv64'"),
    "features": (
        set_in("cpu", "features", ["avx2", "warp-drive"]), "CPU lacks: .*warp-drive",
    ),
    "kind": (set_in("arguments", 0, "kind", "weight"), r"arguments\[0\].kind is \"weight\""),
    "dtype": (set_in("arguments", 0, "dtype", "f64"), r"arguments\[0\].dtype is \"f64\""),
    "shape sign": (set_in("arguments", 0, "shape", [-1, 4]), "integer of at least 0"),
    "shape overflow": (set_in("arguments", 0, "shape", [BIG, 8]), "fit 64 bits"),
    "shape kind": (set_in("arguments", 0, "shape", [2.5]), "2.5, expected a 64-bit integer"),
    "shape beyond buffer": (set_in("arguments", 0, "shape", [24, 41]), "needs 3936 bytes, .* 3840"),
    "rank": (set_in("arguments", 0, "shape", [1] * 9), "a rank of at most 8"),
    "init": (set_in("arguments", 0, "init", "ones"), "'file', 'zero' or a number"),
    "init number": (
        set_in("arguments", 6, {"name": "ids", "kind": "optimizer_state", "dtype": "i64",
                                "shape": [6], "buffer": 6, "init": 1}),
        "only f32 or a scalar i64",
    ),
    "empty range": (set_in("arguments", 6, "range", [4, 4]), "not empty"),
    "range of floats": (set_in("arguments", 5, "range", [0, 4]), "i32 or i64"),
    "buffer index": (set_in("arguments", 0, "buffer", 99), "a buffer index below"),
    "shared buffer": (set_in("arguments", 2, "buffer", 0), "shares buffer 0"),
    "buffer of argument": (set_in("arguments", 4, "buffer", 12), "not of kind 'argument'"),
    "duplicate name": (set_in("arguments", 1, "name", "head.weight"), "no other tensor has"),
    "empty name": (set_in("arguments", 1, "name", ""), "a name"),
    "rng name": (set_in("arguments", 8, "name", "dice"), "'rng.seed' or 'rng.step'"),
    "buffer kind": (set_in("buffers", 0, "kind", "heap"), "'argument', 'arena' or 'constant'"),
    "buffer size": (set_in("buffers", 0, "bytes", BIG), "at most"),
    "negative size": (set_in("buffers", 0, "bytes", -4), "at least 0"),
    "arena size": (set_in("arena_bytes", 64), "beyond arena_bytes = 64"),
    "huge arena": (set_in("arena_bytes", 2**63 - 1), "at most"),
    "number beyond 64 bits": (set_in("arena_bytes", 2**64 - 1), "a 64-bit integer"),
    "arena alignment": (set_in("buffers", 12, "offset", 4), "a multiple of 64"),
    "arena offset": (set_in("buffers", 12, "offset", 2**46), "beyond arena_bytes"),
    "constant": (set_in("buffers", -1, "data", "0a"), "two hex digits for each of 8"),
    "constant digits": (set_in("buffers", -1, "data", "zz" * 8), "two hex digits"),
    "result dtype": (set_in("results", 0, "dtype", 3), "3, expected a string"),
    "op": (set_in("launches", 0, "op", "gemm"), "kernel, product, scatter_add, copy or fill"),
    "symbol": (set_in("launches", 0, "symbol", "nope"), "lacks kernel 'nope'"),
    "tasks": (set_in("launches", 0, "tasks", -1), "at least 0"),
    "kernel offset": (set_in("launches", 0, "args", 0, [0, 3841]), "offset 3841, but buffer 0"),
    "place": (set_in("launches", 0, "args", 0, [0]), r"\[buffer, offset\]"),
    "product extent": (set_in("launches", PRODUCT, "m", 0), "at least 1"),
    "product size": (set_in("launches", PRODUCT, "k", 2**31), "at most 2147483647"),
    "product reach": (set_in("launches", PRODUCT, "m", 7), "lhs of product 'head' reaches beyond"),
    "product offset": (set_in("launches", PRODUCT, "rhs", "offset", 1), "rhs of product 'head'"),
    "product overflow": (
        set_in("launches", PRODUCT, "lhs", "rows", 2**63 - 1), "lhs of product 'head'",
    ),
    "product batch": (set_in("launches", PRODUCT, "batch", [1]), "two batch extents"),
    "overlapping result": (set_in("launches", PRODUCT, "batch", [2, 1]), "elements overlap"),
    "strides": (
        set_in("launches", PRODUCT, "lhs", {"buffer": 0, "offset": 0, "rows": 2, "columns": 3,
                                            "batch": [0, 0]}),
        "expected one of them 1",
    ),
    "scatter table": (set_in("launches", SCATTER, "table", 11), "but buffer"),
    "scatter rows": (set_in("launches", SCATTER, "rows", BIG), "overflow"),
    "scatter ids": (set_in("launches", SCATTER, "id_dtype", "f32"), "'i64' or 'i32'"),
    "scatter alignment": (
        set_in("launches", SCATTER, "updates", [0, 2]), "a multiple of 4",
    ),
    "fill bytes": (set_in("launches", FILL, "bytes", 10**6), "but buffer"),
    "copy source": (set_in("launches", COPY, "source", [9, 0]), "but buffer"),
    "launches": (set_in("launches", {}), "{}, expected an array"),
}


@pytest.mark.parametrize("what", BAD_MANIFESTS)
def test_bad_manifest(broken, what):
    change, message = BAD_MANIFESTS[what]
    with pytest.raises(Error, match=message):
        broken(change)


@pytest.mark.parametrize("key", ["format", "version", "engine", "graph_hash", "kernels_hash", "cpu",
                                 "arguments", "results", "arena_bytes", "buffers", "launches"])
def test_missing_member(broken, key):
    with pytest.raises(Error, match=f"member '{key}' is missing"):
        broken(lambda manifest: manifest.pop(key))


def test_truncated_files(built, tmp_path):
    for name in ["manifest.json", "kernels.so", "init.safetensors"]:
        directory = tmp_path / name
        shutil.copytree(built, directory)
        whole = (directory / name).read_bytes()
        for length in [0, 9, len(whole) // 2, len(whole) - 1]:
            (directory / name).write_bytes(whole[:length])
            with pytest.raises(Error, match=name):
                Package(directory)


def test_missing_kernels(built, tmp_path):
    shutil.copytree(built, tmp_path / "p")
    (tmp_path / "p" / "kernels.so").unlink()
    with pytest.raises(Error, match="cannot open .*kernels.so"):
        Package(tmp_path / "p")


def test_a_number_fills_the_whole_state(built, tmp_path):
    shutil.copytree(built, tmp_path / "p")
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    manifest["arguments"][2]["init"] = 0.25
    (tmp_path / "p" / "manifest.json").write_text(json.dumps(manifest))
    with Package(tmp_path / "p") as package:
        assert (package.read("head.weight/m") == 0.25).all()


def test_init_of_another_shape(built, tmp_path):
    shutil.copytree(built, tmp_path / "p")
    save_file({"head.weight": np.zeros((2, 2), np.float32)}, tmp_path / "p" / "init.safetensors")
    with pytest.raises(Error, match="'head.weight' is 2x2 F32, expected 24x40 F32"):
        Package(tmp_path / "p")


def test_rebuilt_while_open(built, tmp_path):
    shutil.copytree(built, tmp_path / "p")
    with Package(tmp_path / "p"):
        library = tmp_path / "p" / "kernels.so"
        changed = library.read_bytes() + b"\0"
        library.unlink()
        library.write_bytes(changed)
        manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
        manifest["kernels_hash"] = tiny.fnv1a64(changed)
        (tmp_path / "p" / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(Error, match="rebuilt while this process"):
            Package(tmp_path / "p")
    Package(tmp_path / "p").close()


def test_scatter_ids_are_checked_where_they_are_computed(built, tmp_path):
    """Ids without a range reach scatter_add, which checks them itself."""
    shutil.copytree(built, tmp_path / "p")
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    manifest["launches"] = [manifest["launches"][SCATTER]]
    del manifest["arguments"][6]["range"]
    (tmp_path / "p" / "manifest.json").write_text(json.dumps(manifest))
    with Package(tmp_path / "p") as package:
        batch = tiny.batch()
        batch["ids"][2] = -5
        with pytest.raises(Error, match="'embed/grad': id -5 at row 2"):
            package.step(batch, lr=0.01)


def mutate(node, rng):
    """Replaces one random value somewhere below `node`."""
    values = [0, -1, 1, 3, BIG, 2**63 - 1, 2**64, 1.5, "", "x", None, True, [], {}, [0, 0], "arena"]
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            return
        key = rng.choice(list(keys))
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.9:
            node = node[key]
            continue
        node[key] = rng.choice(values)
        return


def test_mutated_manifests_never_crash(built, tmp_path):
    """Each is refused with a message, or it is a manifest that may well be loaded."""
    shutil.copytree(built, tmp_path / "p")
    original = json.loads((tmp_path / "p" / "manifest.json").read_text())
    rng = random.Random(2)
    refused = 0
    for _ in range(1500):
        manifest = copy.deepcopy(original)
        for _ in range(rng.randint(1, 2)):
            mutate(manifest, rng)
        (tmp_path / "p" / "manifest.json").write_text(json.dumps(manifest))
        try:
            Package(tmp_path / "p", threads=1).close()
        except Error as error:
            assert str(error)
            refused += 1
    assert refused > 1000
