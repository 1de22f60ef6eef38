# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Fused attention in the CUDA step of a tiny BERT with padding and dropout, run by the simulator.

Each launch of attention and of its gradient is compared with the decomposed form in float64 on
what the launch read, every other launch with the CPU's kernel, and whole steps with the CPU
oracle, which runs the decomposed form.

Bounds. u = 2^-8 is a rounding to BF16. The decomposed form rounds the same things to BF16 that
the kernels do (probabilities, gradients of scores), but not the same numbers: the kernels divide
by a row's sum later, and get the sum of dP * P over a row from O, which was rounded. So a
kernel's result is off from the exact one by u of each term that is made of a rounded operand,
and as much again for a result in BF16. Sums in f32 add less than 2^-14 of the magnitudes.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from mpt import stages
from mpt.cuda import CudaPackage, compile_package
from mpt.runtime import Package
from test_cuda_sim import DTYPES, LR, Case, Watcher
from test_parity import dropout_mask

pytestmark = pytest.mark.slow

U, F32 = 2.0**-8, 2.0**-14


def keep_factors(launch: dict, seed: int, step: int) -> np.ndarray | float:
    """Return 0 or 1 / keep for each probability, from the definition in docs/numerics.md."""
    if "keep_probability" not in launch:
        return 1.0
    shape = (launch["batches"], launch["heads"], launch["sequence"], launch["sequence"])
    keep = launch["keep_probability"]
    mask = dropout_mask(int(np.prod(shape)), keep, seed, launch["dropout_id"], step)
    return mask.reshape(shape) / keep


class Attention:
    """The decomposed form in float64, as [batch, head, row, key], and how far off a kernel may be."""

    def __init__(self, launch: dict, q, k, v, bias, factors) -> None:
        self.q, self.k, self.v, self.scale = q, k, v, launch["scale"]
        scores = self.scale * q @ np.swapaxes(k, 2, 3) + bias
        self.row_max = scores.max(axis=3)
        weights = np.exp(scores - self.row_max[..., None])
        self.log_sum = np.log(weights.sum(axis=3))
        # exp of a score that is off by the roundings of its products.
        magnitude = self.scale * np.abs(q) @ np.abs(np.swapaxes(k, 2, 3))
        self.p = weights / weights.sum(axis=3, keepdims=True)
        self.p_error = self.p * F32 * (1 + magnitude)
        self.m = factors
        self.out = (self.p * self.m) @ v
        self.out_error = (self.m * (U * self.p + self.p_error)) @ np.abs(v) + F32 * np.abs(self.out)

    def gradients(self, dy: np.ndarray, out_rounded: bool):
        """Return (value, error) of the gradients of query, key and value."""
        out_error = self.out_error + U * np.abs(self.out) * out_rounded
        delta = (dy * self.out).sum(axis=3, keepdims=True)
        delta_error = (np.abs(dy) * (out_error + F32 * np.abs(self.out))).sum(axis=3, keepdims=True)
        dp = dy @ np.swapaxes(self.v, 2, 3) * self.m
        dp_error = F32 * np.abs(dy) @ np.abs(np.swapaxes(self.v, 2, 3)) * self.m
        ds = self.scale * self.p * (dp - delta)
        ds_error = self.scale * (self.p * (dp_error + delta_error) + self.p_error * np.abs(dp - delta))
        ds_error += U * (np.abs(ds) + ds_error)
        p = self.p * self.m
        p_error = (U * self.p + self.p_error) * self.m
        pairs = [(ds, ds_error, self.k), (ds.swapaxes(2, 3), ds_error.swapaxes(2, 3), self.q)]
        pairs.append((p.swapaxes(2, 3), p_error.swapaxes(2, 3), dy))
        return [(x @ y, error @ np.abs(y) + F32 * np.abs(x) @ np.abs(y)) for x, error, y in pairs]


class AttentionWatcher(Watcher):
    """Also compares attention: its kernels' worst error, as a share of the bound, is in `worst`."""

    def __init__(self, case: Case, package: CudaPackage) -> None:
        super().__init__(case, package)
        self.compared.update(attention=0, attention_grad=0)
        self.worst: dict[str, float] = {}

    def calls_of(self, launch: dict) -> int:  # noqa: D102
        return {"attention": 1, "attention_grad": 3}.get(launch["op"]) or Watcher.calls_of(launch)

    def _after(self, name: str) -> None:
        launch = self.launches[self.next]
        if launch["op"] == "attention_grad":
            self.calls += 1
            if self.calls < self.calls_of(launch):
                return
            self.calls = 0
        super()._after(name)

    def _before(self, name: str) -> None:
        if self.calls == 0:
            super()._before(name)

    def heads(self, launch: dict, access: list[int], view: int) -> np.ndarray:
        """A tensor [batch, sequence, heads, size] as [batch, head, row, i]."""
        entry = launch["heads_views"][view]
        flat = self.rest(access, DTYPES[entry["dtype"]]).astype(np.float64)
        shape = [launch[key] for key in ("batches", "heads", "sequence", "head_size")]
        strides = [8 * s for s in (entry["batch"], launch["head_size"], entry["rows"], 1)]
        return np.lib.stride_tricks.as_strided(flat, shape, strides)

    def rows(self, launch: dict, access: list[int]) -> np.ndarray:
        shape = [launch[key] for key in ("batches", "heads", "sequence")]
        return self.view(access, DTYPES["f32"], int(np.prod(shape))).reshape(shape)

    def model(self, launch: dict, first: int) -> Attention:
        """The decomposed form of what the launch read; mask and random state are from operand `first` on."""
        args, bias, factors = launch["args"], 0.0, 1.0
        b, s = launch["batches"], launch["sequence"]
        if launch["bias"]:
            flat = self.rest(args[first], DTYPES["f32"]).astype(np.float64)
            bias = np.lib.stride_tricks.as_strided(flat, (b, 1, 1, s), (8 * launch["bias_stride"], 0, 0, 8))
            first += 1
        if "keep_probability" in launch:
            seed, step = (int(self.view(args[first + i], DTYPES["i64"], 1)[0]) for i in range(2))
            factors = keep_factors(launch, seed, step)
        q, k, v = (self.heads(launch, args[i], i) for i in range(3))
        return Attention(launch, q, k, v, bias, factors)

    def check(self, what: str, found: np.ndarray, exact: np.ndarray, bound: np.ndarray) -> None:
        share = float((np.abs(found - exact) / (bound + 1e-30)).max())
        assert share <= 1, f"{what}: error is {share} of the bound"
        self.worst[what] = max(self.worst.get(what, 0.0), share)

    def compare_attention(self, launch: dict) -> None:
        model = self.model(launch, 3)
        args, rounded = launch["args"], launch["heads_views"][3]["dtype"] == "bf16"
        bound = model.out_error + rounded * U * (np.abs(model.out) + model.out_error)
        self.check("out", self.heads(launch, args[-3], 3), model.out, bound)
        np.testing.assert_allclose(self.rows(launch, args[-2]), model.row_max, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(self.rows(launch, args[-1]), model.log_sum, rtol=1e-5, atol=1e-5)

    def compare_attention_grad(self, launch: dict) -> None:
        args, views = launch["args"], launch["heads_views"]
        model = self.model(launch, 7)
        dy = self.heads(launch, args[4], 4)
        gradients = model.gradients(dy, views[3]["dtype"] == "bf16")
        for i, (what, (exact, error)) in enumerate(zip(("dq", "dk", "dv"), gradients, strict=True)):
            rounded = views[5 + i]["dtype"] == "bf16"
            bound = error + rounded * U * (np.abs(exact) + error)
            self.check(what, self.heads(launch, args[-4 + i], 5 + i), exact, bound)


@pytest.fixture(scope="module")
def cases(store, tmp_path_factory):
    made: dict[tuple[str, str], Case] = {}

    def case(model: str, policy: str) -> Case:
        if (model, policy) not in made:
            made[model, policy] = Case(store, tmp_path_factory.mktemp(f"{model}_{policy}"), model, policy, fused=True)
        return made[model, policy]

    return case


def padded(case: Case) -> dict[str, np.ndarray]:
    """The batch with the last sequence cut short."""
    batch = {name: value.copy() for name, value in case.batch().items()}
    length = batch["attention_mask"].shape[1]
    batch["attention_mask"][-1, length * 5 // 8 :] = 0
    batch["labels"][-1, length * 5 // 8 :] = -100
    return batch


@pytest.mark.parametrize("model, policy", [("tinyA_dropout", "bf16"), ("tinyA", "uniform")])
def test_every_launch_is_right(cases, model, policy):
    case = cases(model, policy)
    with CudaPackage(case.package, simulate=True) as package:
        watcher = AttentionWatcher(case, package)
        try:
            for _ in range(2):
                package.step(padded(case), LR, seed=7)
        finally:
            watcher.close()
    assert watcher.errors == []
    counts = {op: 2 * sum(entry["op"] == op for entry in watcher.launches) for op in watcher.compared}
    assert watcher.compared == counts
    assert counts["attention"] == counts["attention_grad"] == 4
    drops = {"keep_probability" in entry for entry in watcher.launches if entry["op"].startswith("attention")}
    assert drops == {model.endswith("dropout")}
    # A bound that is never come near to would not notice much.
    assert set(watcher.worst) == {"out", "dq", "dk", "dv"} and min(watcher.worst.values()) > 0.05


@pytest.mark.parametrize("model, policy", [("tinyA_dropout", "bf16"), ("tinyA", "uniform")])
def test_steps_follow_the_decomposed_form(cases, model, policy):
    """Roundings that fall differently move the loss by less than 2^-8 of what training moves it."""
    case = cases(model, policy)
    losses = []
    with CudaPackage(case.package, simulate=True) as package, Package(case.cpu_package()) as oracle:
        for _ in range(5):
            pair = [each.step(padded(case), LR, seed=7) for each in (package, oracle)]
            losses.append([result["loss"] for result in pair])
            assert pair[0]["grad_norm"] == pytest.approx(pair[1]["grad_norm"], rel=2e-2)
            assert pair[0]["skipped"] is pair[1]["skipped"] is False
    found, expected = np.array(losses).T
    assert np.abs(found - expected).max() <= 2.0**-8 * abs(expected[0] - expected[-1])


def test_the_scores_are_gone(cases):
    """No buffer of the fused step has the scores' size in any format; the decomposed one has."""
    case = cases("tinyA_dropout", "bf16")
    decomposed = case.package.parent / "decomposed"
    stages.run_tool("mpt-build", [case.step, "--target=cuda", "--fuse-attention=false", "-o", decomposed])
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (case.package, decomposed)]
    with_scores = [
        {entry["name"] for entry in manifest["launches"] if entry["name"].endswith(".scores")}
        for manifest in manifests
    ]
    assert with_scores[0] == set() and len(with_scores[1]) == 2
    assert manifests[0]["arena_bytes"] <= manifests[1]["arena_bytes"]


def test_the_checker_finds_nothing(cases):
    case = cases("tinyA_dropout", "bf16")
    compile_package(case.package, checked=True)
    with CudaPackage(case.package, checked=True) as package, CudaPackage(case.package, simulate=True) as plain:
        assert package._library.mpt_sim_set_order(b"interleaved:3") == 0
        assert package.step(padded(case), LR) == plain.step(padded(case), LR)
