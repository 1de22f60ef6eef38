# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The CUDA step of a tiny BERT, run by the simulator: every kernel alone against the CPU's.

The CPU back end compiles the same kernel functions. A hook looks into device memory before
and after each launch: the CPU's kernel gets the inputs that the CUDA kernel got and must give
the same bytes. Products are compared with float64.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import numpy as np
import pytest
from mpt import cuda, stages
from mpt.runtime import Error, Package
from mpt.cuda import CudaPackage
from sim_kernels import DTYPES, SimulatedKernels, random_tensor

pytestmark = pytest.mark.slow

TRAIN_PASSES = ("--mpt-differentiate", "--mpt-add-optimizer")
LR = 1e-3
# The policy "scaled": uniform with delayed scales, gradients rounded stochastically under a fixed one.
SCALED = {
    "f8E5M2, scale = per_tensor, recipe = current": (
        "f8E5M2, scale = per_tensor, recipe = fixed, value = 65536.0, rounding = stochastic"
    ),
    "recipe = current": "recipe = delayed, history = 4",
}
# What each policy changes in the step of the policy "uniform".
RECIPES = {"scaled": SCALED, "delayed": {"recipe = current": "recipe = delayed, history = 4"}}


class Case:
    """One training step: its CUDA package, the CPU's kernels and the CPU package.

    fused: with attention in one kernel (test_cuda_attention.py), not as the CPU has it.
    """

    products = "cublaslt"

    def __init__(self, store, directory: Path, model: str, policy: str, fused: bool = False) -> None:
        self.reference = store.reference(model.partition("_")[0])
        graph, step = directory / "graph.mlir", directory / "step.mlir"
        stages.import_model(store.path(model), graph)
        assigned = "uniform" if policy in RECIPES else policy
        stages.optimise(graph, step, [*TRAIN_PASSES, f"--assign-precision=policy={assigned}"])
        if policy in RECIPES:
            text = step.read_text()
            for old, new in RECIPES[policy].items():
                assert old in text
                text = text.replace(old, new)
            step.write_text(text)
        self.package = directory / "cuda"
        self.options = [f"products={self.products}", f"fuse-attention={str(fused).lower()}"]
        self.step = step
        self.build(self.package)
        cuda.compile_package(self.package, simulate=True)
        self.oracle = directory / "cpu"
        lowered, kernels = directory / "lowered.mlir", directory / "kernels"
        stages.run_tool("mpt-opt", [step, f"--mpt-cuda-pipeline={' '.join(self.options)}", "-o", lowered])
        stages.run_tool("mpt-build", [lowered, "--kernels-only", "-o", kernels])
        description = json.loads((kernels / "kernels.json").read_text())
        self.kernels = {kernel["symbol"]: kernel for kernel in description["kernels"]}
        self.library = ctypes.CDLL(str(kernels / "kernels.so"))

    def build(self, package: Path, *options: str) -> None:
        """Build the step into `package`."""
        stages.run_tool("mpt-build", [self.step, "--target=cuda", *(f"--{o}" for o in self.options), *options, "-o", package])

    def batch(self) -> dict[str, np.ndarray]:
        items = self.reference.items()
        return {name.removeprefix("batch."): value for name, value in items if name.startswith("batch.")}

    def cpu_package(self) -> Path:
        if not self.oracle.exists():
            stages.build(self.step, self.oracle, "cpu", "reference")
        return self.oracle

    def run_kernel(self, symbol: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Return what the CPU's kernel makes of `inputs`."""
        kernel = self.kernels[symbol]
        outputs = [np.empty(r["shape"], DTYPES[r["dtype"]]) for r in kernel["results"]]
        arrays = inputs + outputs
        pointers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
        getattr(self.library, symbol)(pointers, ctypes.c_int64(0), ctypes.c_int64(kernel["tasks"]))
        return outputs


@pytest.fixture(scope="module")
def cases(store, tmp_path_factory):
    made: dict[str, Case] = {}

    def case(policy: str) -> Case:
        if policy not in made:
            made[policy] = Case(store, tmp_path_factory.mktemp(policy), "tinyA", policy)
        return made[policy]

    return case


class Watcher:
    """Compares every launch of a step with the CPU's kernel on the same inputs."""

    def __init__(self, case: Case, package: CudaPackage) -> None:
        self.case, self.manifest = case, package.manifest
        self.memory = package._library.mpt_cuda_memory()
        self.launches = [entry for entry in self.manifest["launches"] if entry["op"] not in ("copy", "fill")]
        self.next = self.calls = 0
        self.inputs: list[np.ndarray] = []
        self.compared = {"kernel": 0, "group": 0, "product": 0, "scatter_add": 0}
        self.errors: list[str] = []
        self.library = package._library
        hook_type = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int)
        self.hook = hook_type(self._call)
        self.library.mpt_sim_set_hook(self.hook)

    def close(self) -> None:
        self.library.mpt_sim_set_hook(None)

    def view(self, access: list[int], dtype: np.dtype, count: int) -> np.ndarray:
        """Return device memory at an access."""
        buffer, offset = self.manifest["buffers"][access[0]], access[1]
        assert offset + count * dtype.itemsize <= buffer["bytes"], (buffer, access, count)
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(self.memory + buffer["offset"] + offset)
        return np.frombuffer(memory, dtype)

    def tensors(self, accesses: list, types: list[dict]) -> list[np.ndarray]:
        views = []
        for access, entry in zip(accesses, types, strict=True):
            count = int(np.prod(entry["shape"], dtype=np.int64))
            views.append(self.view(access, DTYPES[entry["dtype"]], count).reshape(entry["shape"]))
        return views

    def rest(self, access: list[int], dtype: np.dtype) -> np.ndarray:
        """Everything of a buffer from an access on."""
        count = (self.manifest["buffers"][access[0]]["bytes"] - access[1]) // dtype.itemsize
        return self.view(access, dtype, count)

    def _call(self, name: bytes, ordinal: int, after: int) -> None:
        try:
            self._after(name.decode()) if after else self._before(name.decode())
        except BaseException as error:  # noqa: BLE001 - a callback cannot raise
            self.errors.append(f"{name.decode()}: {type(error).__name__}: {error}")

    def _before(self, name: str) -> None:
        launch = self.launches[self.next]
        assert launch["name"] == name, (launch["name"], name)
        if launch["op"] in ("kernel", "group"):
            self.inputs = [self.inputs_of(part) for part in launch.get("parts", [launch])]
        elif launch["op"] == "scatter_add":
            self.inputs = [self.rest(launch["args"][3], DTYPES["f32"]).copy()]

    def inputs_of(self, call: dict) -> list[np.ndarray]:
        read = call["args"][: len(call["args"]) - call["written"]]
        return [v.copy() for v in self.tensors(read, self.case.kernels[call["symbol"]]["arguments"])]

    def _after(self, name: str) -> None:
        launch = self.launches[self.next]
        if launch["op"] == "product":
            # A batch that is no single stride is several calls: look after the last.
            self.calls += 1
            if self.calls < self.calls_of(launch):
                return
            self.calls = 0
        getattr(self, f"compare_{launch['op']}")(launch)
        self.compared[launch["op"]] += 1
        self.next = (self.next + 1) % len(self.launches)

    @staticmethod
    def calls_of(launch: dict) -> int:
        """How many cublasLtMatmul calls a product takes (mpt/CUDA/Products.h, planProduct)."""
        b0, b1 = launch["batch"]
        views = [launch[key]["batch"] for key in ("lhs", "rhs", "result")]
        regular = b0 > 1 and b1 > 1 and all(outer == b1 * inner for outer, inner in views)
        return 1 if regular else min(b0, b1)

    def compare_kernel(self, launch: dict) -> None:
        self.compare_call(launch, self.inputs[0])

    def compare_group(self, launch: dict) -> None:
        for part, inputs in zip(launch["parts"], self.inputs, strict=True):
            self.compare_call(part, inputs)

    def compare_call(self, call: dict, inputs: list[np.ndarray]) -> None:
        symbol = call["symbol"]
        expected = self.case.run_kernel(symbol, inputs)
        found = self.tensors(call["args"][-call["written"] :], self.case.kernels[symbol]["results"])
        for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            same = ours.tobytes() == theirs.tobytes()
            differ = np.count_nonzero(ours.reshape(-1).view(np.uint8) != theirs.reshape(-1).view(np.uint8))
            assert same, f"{symbol} result {i} {ours.shape}: {differ} bytes differ"

    def compare_scatter_add(self, launch: dict) -> None:
        init, ids, updates, result = launch["args"]
        table = self.inputs[0].copy()
        width = launch["columns"]
        rows = self.view(ids, np.dtype(np.int64), launch["rows"])
        changes = self.view(updates, DTYPES["f32"], launch["rows"] * width).reshape(-1, width)
        table = table.reshape(-1, width)
        np.add.at(table, rows, changes)
        found = self.rest(result, DTYPES["f32"]).reshape(-1, width)
        assert found.tobytes() == table.tobytes(), "the rows' sums differ"

    def operand(self, access: list[int], view: dict, batch: list[int], rows: int, columns: int) -> np.ndarray:
        flat = self.rest(access, DTYPES[view["dtype"]]).astype(np.float64)
        strides = [8 * stride for stride in (*view["batch"], view["rows"], view["columns"])]
        return np.lib.stride_tricks.as_strided(flat, (*batch, rows, columns), strides)

    def compare_product(self, launch: dict) -> None:
        m, n, k, batch = launch["m"], launch["n"], launch["k"], launch["batch"]
        args = launch["args"]
        lhs = self.operand(args[0], launch["lhs"], batch, m, k)
        rhs = self.operand(args[1], launch["rhs"], batch, k, n)
        for scale in args[2:-1]:
            lhs = lhs * float(self.view(scale, DTYPES["f32"], 1)[0])
        found = self.operand(args[-1], launch["result"], batch, m, n)
        error = np.abs(found - lhs @ rhs)
        # Fast accumulation keeps 14 bits of each addition.
        fast = launch["lhs"]["dtype"].startswith("f8") and launch["role"] == "fprop"
        bound = (2.0**-12 if fast else 2.0**-22) * k * (np.abs(lhs) @ np.abs(rhs)).max()
        assert error.max() <= bound, f"error {error.max()}, expected at most {bound}"


@pytest.mark.parametrize("policy", ["fp32", "bf16", "uniform", "scaled"])
def test_every_kernel_has_the_cpus_bits(cases, policy):
    case = cases(policy)
    with CudaPackage(case.package, simulate=True) as package:
        watcher = Watcher(case, package)
        try:
            for _ in range(2):
                package.step(case.batch(), LR)
        finally:
            watcher.close()
    assert watcher.errors == []
    counts = {op: 2 * sum(entry["op"] == op for entry in watcher.launches) for op in watcher.compared}
    assert watcher.compared == counts
    formats = {entry["lhs"]["dtype"] for entry in watcher.launches if entry["op"] == "product"}
    expected = {"fp32": {"f32"}, "bf16": {"bf16"}}
    assert formats == expected.get(policy, {"bf16", "f8E4M3FN", "f8E5M2"})


@pytest.mark.parametrize(
    "policy, tolerance", [("fp32", 1e-5), ("bf16", 1e-5), ("uniform", 1e-5), ("scaled", 1e-4)]
)
def test_steps_follow_the_oracle(cases, policy, tolerance):
    case = cases(policy)
    with CudaPackage(case.package, simulate=True) as package, Package(case.cpu_package()) as oracle:
        for _ in range(3):
            found, expected = package.step(case.batch(), LR), oracle.step(case.batch(), LR)
            assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
            assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=10 * tolerance)
            assert found["skipped"] is expected["skipped"] is False
        assert package.step_number == 3
        ours, theirs = package.state(), oracle.state()
        scales = [name for name in ours if "/scale." in name]
        assert bool(scales) == (policy == "scaled")
        for name in scales:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name
        if policy == "fp32":
            losses = case.reference["adamw.losses"]
            assert found["loss"] == pytest.approx(losses[2], rel=1e-5)


@pytest.mark.parametrize("target", ["CPU", "CUDA"])
def test_kernels_alone(tmp_path, target):
    source = Path(__file__).resolve().parents[2] / "test" / "Target" / target / "kernels.mlir"
    rng = np.random.default_rng(1)
    kernels = SimulatedKernels(source, tmp_path)
    for symbol in kernels.entries:
        kernels.compare(symbol, [random_tensor(rng, *argument) for argument in kernels.arguments(symbol)])


@pytest.mark.parametrize("order", ["reverse", "interleaved:7"])
def test_the_order_of_threads_does_not_matter(cases, order):
    case = cases("uniform")
    states = []
    with CudaPackage(case.package, simulate=True) as package:
        for each in ("forward", order):
            assert package._library.mpt_sim_set_order(each.encode()) == 0
            package.load_parameters(case.package / "init.safetensors")
            for name in package._arguments:
                if package._arguments[name]["kind"] == "optimizer_state":
                    package.set(name, np.zeros(package._arguments[name]["shape"], np.float32))
            package.step(case.batch(), LR)
            states.append(package.state())
        package._library.mpt_sim_set_order(b"forward")
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name


def test_dropout_draws_the_cpus_mask(store, tmp_path):
    case = Case(store, tmp_path, "tinyA_dropout", "fp32")
    with CudaPackage(case.package, simulate=True) as package, Package(case.cpu_package()) as oracle:
        watcher = Watcher(case, package)
        for _ in range(2):
            found, expected = package.step(case.batch(), LR, seed=5), oracle.step(case.batch(), LR, seed=5)
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        watcher.close()
    assert watcher.errors == [] and watcher.compared["kernel"] > 0


def test_the_checker_finds_nothing(cases):
    case = cases("uniform")
    cuda.compile_package(case.package, checked=True)
    with CudaPackage(case.package, checked=True) as package, CudaPackage(case.package, simulate=True) as plain:
        assert package._library.mpt_sim_set_order(b"interleaved:3") == 0
        assert package.step(case.batch(), LR) == plain.step(case.batch(), LR)


def test_the_same_step_gives_the_same_source(cases, tmp_path):
    case = cases("uniform")
    case.build(tmp_path / "again")
    for name in ("step.cu", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (case.package / name).read_bytes()


def test_checkpoints_move_between_targets(cases, tmp_path):
    case = cases("fp32")
    with CudaPackage(case.package, simulate=True) as package, Package(case.cpu_package()) as oracle:
        package.step(case.batch(), LR)
        package.save(tmp_path / "one.safetensors")
        expected = package.step(case.batch(), LR)
        package.load(tmp_path / "one.safetensors")
        assert package.step(case.batch(), LR) == expected
        oracle.load(tmp_path / "one.safetensors")
        assert oracle.step(case.batch(), LR)["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        oracle.save(tmp_path / "two.safetensors")
        package.load(tmp_path / "two.safetensors")
        assert package.step_number == 2
        package.export_weights(tmp_path / "weights.safetensors")
        with pytest.raises(Error, match="format is 'pt', expected 'mpt-checkpoint'"):
            package.load(tmp_path / "weights.safetensors")


def test_bad_batches_are_refused(cases):
    case = cases("fp32")
    with CudaPackage(case.package, simulate=True) as package:
        batch = case.batch()
        wrong = dict(batch, input_ids=np.full_like(batch["input_ids"], 10**6))
        with pytest.raises(Error, match=r"'input_ids' has at element 0 1000000, expected at least 0 and below 512"):
            package.step(wrong, LR)
        with pytest.raises(Error, match="the batch lacks label 'labels'"):
            package.step({name: value for name, value in batch.items() if name != "labels"}, LR)
        with pytest.raises(Error, match=r"expected \[2, 16\] int64"):
            package.step(dict(batch, labels=batch["labels"][:1]), LR)
        assert package.step(batch, LR)["loss"] == pytest.approx(case.reference["loss"], rel=1e-5)


def test_a_step_that_is_not_set_up_is_refused(cases, tmp_path):
    case = cases("fp32")
    for name in ("step.cu", "manifest.json", "libstep_sim.so"):
        os.link(case.package / name, tmp_path / name)
    with CudaPackage(tmp_path, simulate=True) as package:
        with pytest.raises(Error, match="not set before the step: .*'bert.embeddings.word_embeddings.weight'"):
            package.step(case.batch(), LR)


@pytest.mark.skipif(cuda.missing_for_nvcc() != "", reason=cuda.missing_for_nvcc())
@pytest.mark.parametrize("policy", ["uniform"])
def test_nvcc_compiles_the_same_source(cases, policy):
    library = cuda.compile_package(cases(policy).package)
    assert library.stat().st_size > 0
