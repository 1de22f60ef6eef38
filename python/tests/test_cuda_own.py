# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""CUDA steps whose products are our own kernels, run by the simulator.

Each product is compared with float64, each epilogue with the CPU's kernel on what the product is,
and steps with and without epilogues must agree bit by bit.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mpt import audit, cuda, stages
from mpt.cuda import CudaPackage
from mpt.runtime import Package
from test_cuda_sim import DTYPES, LR, Case, Watcher

pytestmark = pytest.mark.slow

MISSING = cuda.missing_for_nvcc() or audit.missing_tools()


class OwnWatcher(Watcher):
    """Compares fused products, too: the product that they keep, or what their kernel makes of it."""

    @staticmethod
    def calls_of(launch: dict) -> int:
        return 1 if launch["implementation"] == "own" else Watcher.calls_of(launch)

    def _before(self, name: str) -> None:
        super()._before(name)
        launch = self.launches[self.next]
        if launch.get("epilogue"):
            types = list(self.case.kernels[launch["epilogue"]]["arguments"])
            del types[launch["position"]]
            first = len(launch["args"]) - launch["written"] - len(types)
            self.inputs = [v.copy() for v in self.tensors(launch["args"][first : first + len(types)], types)]

    def compare_product(self, launch: dict) -> None:
        if launch.get("epilogue"):
            self.compare_fused(launch)
        elif launch["implementation"] == "own" and launch["batch"] == [1, 1]:
            exact, magnitude = self.exact(launch)
            found = self.operand(launch["args"][-1], launch["result"], [1, 1], launch["m"], launch["n"])
            assert np.abs(found - exact).max() <= 1e-6 * magnitude
        else:
            super().compare_product(launch)

    def exact(self, launch: dict) -> tuple[np.ndarray, float]:
        """The product in float64, and its largest sum of magnitudes."""
        m, n, k, args = launch["m"], launch["n"], launch["k"], launch["args"]
        lhs = self.operand(args[0], launch["lhs"], [1, 1], m, k)
        rhs = self.operand(args[1], launch["rhs"], [1, 1], k, n)
        if launch["lhs"]["dtype"].startswith("f8"):
            for scale in args[2:4]:
                lhs = lhs * float(self.view(scale, DTYPES["f32"], 1)[0])
        return lhs @ rhs, (np.abs(lhs) @ np.abs(rhs)).max()

    def compare_fused(self, launch: dict) -> None:
        kernel = self.case.kernels[launch["epilogue"]]
        written = launch["args"][-launch["written"] :]
        exact, magnitude = self.exact(launch)
        shape = kernel["arguments"][launch["position"]]["shape"]
        product = exact.astype(np.float32)
        if launch["keep"]:
            product = self.view(written[0], DTYPES["f32"], product.size).reshape(product.shape)
            assert np.abs(product - exact).max() <= 1e-6 * magnitude
        inputs = list(self.inputs)
        inputs.insert(launch["position"], np.ascontiguousarray(product.reshape(shape)))
        expected = self.case.run_kernel(launch["epilogue"], inputs)
        found = self.tensors(written[launch["keep"] :], kernel["results"])
        for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            if launch["keep"]:
                assert ours.tobytes() == theirs.tobytes(), f"{launch['epilogue']} result {i}"
            else:
                self.compare_rounded(ours, theirs, f"{launch['epilogue']} result {i}")

    @staticmethod
    def compare_rounded(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
        """Results of products that differ by their order of sums: few are on the other side of a tie."""
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        tolerance = 1e-5 if ours.dtype == np.float32 else 2.0**-2
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), what
        if ours.dtype != np.float32:
            assert np.count_nonzero(a != b) <= 0.01 * a.size + 1, what


class OwnCase(Case):
    """A case whose products are our kernels."""

    products = "own"

    def unfused(self) -> CudaPackage:
        """Return the same step with every kernel behind a product on its own."""
        plain = self.package.with_name("plain")
        if not plain.exists():
            self.build(plain, "--epilogues=false")
            cuda.compile_package(plain, simulate=True)
        return CudaPackage(plain, simulate=True)


@pytest.fixture(scope="module")
def cases(store, tmp_path_factory):
    made: dict[tuple[str, str], OwnCase] = {}

    def case(policy: str, model: str) -> OwnCase:
        if (policy, model) not in made:
            made[policy, model] = OwnCase(store, tmp_path_factory.mktemp(policy), model, policy)
        return made[policy, model]

    return case


@pytest.mark.parametrize(
    "policy, model", [("bf16", "tinyB"), ("uniform", "tinyA"), ("delayed", "tinyA"), ("scaled", "tinyA_dropout")]
)
def test_own_products_and_epilogues(cases, policy, model):
    case = cases(policy, model)
    with CudaPackage(case.package, simulate=True) as package, Package(case.cpu_package()) as oracle:
        watcher = OwnWatcher(case, package)
        try:
            for _ in range(2):
                found, expected = package.step(case.batch(), LR), oracle.step(case.batch(), LR)
                assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        finally:
            watcher.close()
    assert watcher.errors == []
    products = [entry for entry in watcher.launches if entry["op"] == "product"]
    assert watcher.compared["product"] == 2 * len(products)
    for entry in products:
        own = entry["implementation"] == "own"
        assert own or entry["reason"].startswith("no own kernel: it "), entry["name"]
        assert own or entry["batch"] != [1, 1] or any(entry[size] % 8 for size in "mnk"), entry["name"]
        assert entry.get("kernel", "").startswith("product_") == own
    assert any(entry.get("epilogue") for entry in products)


def test_delayed_scales_leave_transposed_codes_to_epilogues(cases):
    case = cases("delayed", "tinyA")
    launches = json.loads((case.package / "manifest.json").read_text())["launches"]
    kept = {}
    for entry in (each for each in launches if each.get("epilogue")):
        codes = [r["shape"] for r in case.kernels[entry["epilogue"]]["results"] if r["dtype"].startswith("f8")]
        assert entry["m"] != entry["n"]
        if [entry["n"], entry["m"]] in codes:
            assert len(codes) == 2, entry["name"]
            kept[entry["name"]] = entry["keep"]
    # GELU's gradient reads the product behind which GELU is, too.
    assert kept == {
        "encoder.layer.0.intermediate.dense": True,
        "encoder.layer.1.intermediate.dense": True,
        "encoder.layer.0.output.dense/dgrad": False,
        "encoder.layer.1.output.dense/dgrad": False,
    }
    assert "mpt::gemm::storeTransposed(" in (case.package / "step.cu").read_text()


@pytest.mark.parametrize("policy, model", [("uniform", "tinyA"), ("delayed", "tinyA"), ("scaled", "tinyA_dropout")])
def test_epilogues_change_no_bits(cases, policy, model):
    case = cases(policy, model)
    states = []
    with CudaPackage(case.package, simulate=True) as package:
        assert package.manifest["epilogues"]["fused"] > 0
        package.step(case.batch(), LR)
        states.append(package.state())
    with case.unfused() as package:
        assert package.manifest["epilogues"]["fused"] == 0
        package.step(case.batch(), LR)
        states.append(package.state())
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name


@pytest.mark.parametrize("order", ["reverse", "interleaved:5"])
def test_the_order_of_threads_does_not_matter(cases, order):
    case = cases("uniform", "tinyA")
    found = []
    for each in ("forward", order):
        with CudaPackage(case.package, simulate=True) as package:
            assert package._library.mpt_sim_set_order(each.encode()) == 0
            found.append(package.step(case.batch(), LR))
            package._library.mpt_sim_set_order(b"forward")
    assert found[0] == found[1]


def test_ten_steps_stay_with_the_oracle(cases):
    case = cases("scaled", "tinyA_dropout")
    with CudaPackage(case.package, simulate=True) as package, Package(case.cpu_package()) as oracle:
        for _ in range(10):
            found, expected = package.step(case.batch(), LR, seed=7), oracle.step(case.batch(), LR, seed=7)
            assert found["loss"] == pytest.approx(expected["loss"], rel=2e-3)


def test_a_package_without_batches_needs_no_cublas(cases, tmp_path):
    source = (cases("uniform", "tinyA").package / "step.cu").read_text()
    assert "Products.h" in source  # attention's batches
    step = Path(__file__).resolve().parents[2] / "test" / "Target" / "CUDA" / "step-own.mlir"
    stages.run_tool("mpt-build", [step, "--target=cuda", "--products=own", "-o", tmp_path / "out"])
    assert "Products.h" not in (tmp_path / "out" / "step.cu").read_text()
    cuda.compile_package(tmp_path / "out", simulate=True)
    with CudaPackage(tmp_path / "out", simulate=True) as package:
        rng = np.random.default_rng(3)
        values = {e["name"]: rng.normal(size=e["shape"]).astype(np.float32) for e in package.arguments}
        package.load_parameters(values)
        package.set("x", values["x"])
        package._check(package._library.mpt_cuda_step())
        assert np.isfinite(package.read("y")).all()


@pytest.mark.skipif(MISSING != "", reason=MISSING)
def test_nvcc_compiles_and_the_audit_proves(cases):
    library = cuda.compile_package(cases("uniform", "tinyA").package)
    assert library.stat().st_size > 0
