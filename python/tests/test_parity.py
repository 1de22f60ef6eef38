# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Compiled FP32 training steps of two small BERTs against PyTorch and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import GRADIENT_PASSES, Graph, gradients
from mpt import stages
from mpt.runtime import Package

MODELS = ("tinyA", "tinyB")
TRAIN_PASSES = ("--mpt-differentiate", "--mpt-add-optimizer")


class Steps:
    """Compiles a model's steps once per session."""

    def __init__(self, store, directory: Path) -> None:
        self.store, self.directory = store, directory

    def graph(self, name: str, loss: bool = False, bind: dict | None = None) -> Path:
        path = self.directory / f"{name}.mlir"
        if not path.exists():
            stages.import_model(self.store.path(name), path, loss=loss, bind=bind)
        return path

    def package(self, name: str, kind: str = "train", engine: str = "blas", **options) -> Path:
        """Return the package of a model's step; kind `gradient` leaves gradients in the moments."""
        path = self.directory / f"{name}-{kind}-{engine}"
        if not path.exists():
            step = self.directory / f"{name}-{kind}.mlir"
            passes = GRADIENT_PASSES if kind == "gradient" else TRAIN_PASSES
            stages.optimise(self.graph(name, **options), step, passes)
            stages.build(step, path, "cpu", engine)
        return path


@pytest.fixture(scope="module")
def steps(store, tmp_path_factory) -> Steps:
    return Steps(store, tmp_path_factory.mktemp("steps"))


def batch_of(reference: dict) -> dict[str, np.ndarray]:
    return {name.removeprefix("batch."): value for name, value in reference.items() if name.startswith("batch.")}


def norm(value: np.ndarray) -> float:
    return float(np.linalg.norm(value.astype(np.float64)))


# PyTorch.


@pytest.mark.parametrize("engine", stages.ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients(steps, store, name, engine):
    reference = store.reference(name)
    expected = {key.removeprefix("grad."): value for key, value in reference.items() if key.startswith("grad.")}
    total = np.sqrt(sum(norm(value) ** 2 for value in expected.values()))
    with Package(steps.package(name, "gradient", engine), threads=2) as package:
        before = package.parameters()
        loss, found = gradients(package, batch_of(reference))
        assert loss == pytest.approx(float(reference["loss"]), rel=1e-6)
        assert set(found) == set(expected)
        for key, gradient in expected.items():
            limit = 1e-5 * norm(gradient) + 1e-8 * total
            assert norm(found[key] - gradient) <= limit, key
        assert package.read("grad_norm").item() == pytest.approx(total, rel=1e-5)
        for key, value in package.parameters(copy=False).items():
            np.testing.assert_array_equal(value, before[key], err_msg=key)  # learning rate 0


@pytest.mark.parametrize("engine", stages.ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_adamw_tracks_pytorch(steps, store, name, engine):
    reference = store.reference(name)
    with Package(steps.package(name, "train", engine), threads=2) as package:
        losses = [package.step(batch_of(reference), lr=1e-3)["loss"] for _ in range(20)]
    np.testing.assert_allclose(losses, reference["adamw.losses"], rtol=1e-5)


def test_reference_engine_is_deterministic(steps, store):
    batch = batch_of(store.reference("tinyA"))
    states = []
    for threads in (1, 2):
        with Package(steps.package("tinyA", "train", "reference"), threads=threads) as package:
            for _ in range(2):
                package.step(batch, lr=1e-3)
            states.append(package.state())
    for key, value in states[0].items():
        assert value.tobytes() == states[1][key].tobytes(), key


# onnxruntime.


def run_onnx(path: Path, batch: dict) -> list[np.ndarray]:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}
    return session.run(None, {key: value for key, value in batch.items() if key in wanted})


def masked_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross entropy over labels that are not -100, in float64."""
    rows, chosen = logits.astype(np.float64).reshape(-1, logits.shape[-1]), labels.ravel()
    rows, chosen = rows[chosen != -100], chosen[chosen != -100]
    top = rows.max(axis=1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(rows - top).sum(axis=1))
    return float((total - rows[np.arange(len(rows)), chosen]).mean())


@pytest.mark.parametrize("variant", ["", "_eval", "_logits", "_dynamic"])
@pytest.mark.parametrize("name", MODELS)
def test_forward_agrees_with_onnxruntime(steps, store, name, variant):
    batch = batch_of(store.reference(name))
    rows, columns = batch["labels"].shape
    options = {"_logits": {"loss": True}, "_dynamic": {"bind": {"batch": rows, "seq": columns}}}.get(variant, {})
    outputs = run_onnx(store.path(name + variant), batch)
    expected = masked_loss(outputs[0], batch["labels"]) if variant == "_logits" else float(outputs[0])
    with Package(steps.package(name + variant, **options), threads=2) as package:
        assert package.step(batch, lr=0.0)["loss"] == pytest.approx(expected, rel=1e-5)


# Dropout.


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the Philox4x32-10 words [n, 4] of counters [n, 4] (Salmon et al., SC 2011)."""
    low = np.uint64(0xFFFFFFFF)
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        high = np.uint64(32)
        c = [(second >> high) ^ c[1] ^ k0, second & low, (first >> high) ^ c[3] ^ k1, first & low]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack(c, axis=1).astype(np.uint32)


def dropout_mask(count: int, keep: float, seed: int, number: int, step: int) -> np.ndarray:
    """Return which of `count` elements a dropout with id `number` keeps at `step`."""
    block = np.arange((count + 3) // 4)
    counter = np.stack([block, 0 * block, 0 * block + number, 0 * block + step], axis=1)
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).ravel()[:count]
    return words < np.uint64(np.float32(keep) * 2.0**32)


@pytest.mark.parametrize("keep", [0.9, 0.5, 1.0])
def test_dropout_mask(tmp_path, keep):
    """Loss sum(d^2) / 2 with d = dropout(p): its gradient is d / keep only if both masks are one."""
    shape, number, seed = (37, 61), 0x89ABCDEF, 0x1234567800000007
    g = Graph()
    x = g.parameter(shape, 0.5, 1.5)
    key, step = g.rng_state()
    operands = [x, key, step, g.constant(number, "i64")]
    d = g.op("dropout", operands, lambda x, *_: x, f"keep_probability = {keep} : f32")
    half = g.op("mul", [g.op("mul", [d, d], lambda a, b: a * b), g.constant(0.5)], lambda a, b: a * b)
    g.losses.append(g.reshape(g.sum(half), []))
    values = x.torch.detach().numpy()
    with g.build(tmp_path) as package:
        for now in range(2):
            before = package.state()["p0/m"].astype(np.float64)
            loss = package.step({}, lr=0.0, seed=seed)["loss"]
            after = package.state()["p0/m"].astype(np.float64)
            gradient = (after - np.float64(np.float32(0.9)) * before) / (1 - np.float64(np.float32(0.9)))
            mask = dropout_mask(values.size, keep, seed, number, now).reshape(shape)
            kept = np.where(mask, values / keep, 0.0)
            assert abs(mask.mean() - keep) < 4 * np.sqrt(keep * (1 - keep) / mask.size) + 1e-9
            np.testing.assert_allclose(gradient, kept / keep, rtol=1e-5, atol=1e-6)
            assert loss == pytest.approx((kept**2).sum() / 2, rel=1e-5)


def test_seeds_of_dropout(steps, store):
    batch = batch_of(store.reference("tinyA"))
    runs = []
    for seed in (3, 3, 4, 3 + 2**32):
        with Package(steps.package("tinyA_dropout"), threads=2) as package:
            losses = [package.step(batch, lr=1e-3, seed=seed)["loss"] for _ in range(3)]
            runs.append((losses, {key: value.tobytes() for key, value in package.state().items()}))
    assert runs[0] == runs[1]
    assert len({tuple(losses) for losses, _ in runs}) == 3
    assert abs(runs[0][0][0] - float(store.reference("tinyA")["loss"])) < 0.5


# Checkpoints and weights.


def test_resume_is_bit_identical(steps, store, tmp_path):
    batch = batch_of(store.reference("tinyB"))
    path = steps.package("tinyB_dropout")
    with Package(path, threads=2) as package:
        for _ in range(3):
            package.step(batch, lr=1e-3, seed=5)
        package.save(tmp_path / "checkpoint.safetensors")
        whole = [package.step(batch, lr=1e-3, seed=5) for _ in range(3)], package.state()
    with Package(path, threads=2) as package:
        package.load(tmp_path / "checkpoint.safetensors")
        assert package.step_number == 3
        parts = [package.step(batch, lr=1e-3, seed=5) for _ in range(3)], package.state()
    assert whole[0] == parts[0]
    for key, value in whole[1].items():
        assert value.tobytes() == parts[1][key].tobytes(), key


def test_weights_go_back_to_transformers(steps, store, tmp_path, mptc):
    import models
    import torch
    from transformers import BertForMaskedLM

    reference = store.reference("tinyA")
    batch = batch_of(reference)
    path, checkpoint = steps.package("tinyA"), tmp_path / "checkpoint.safetensors"
    with Package(path, threads=2) as package:
        for _ in range(5):
            package.step(batch, lr=1e-3)
        package.save(checkpoint)
        expected = package.step(batch, lr=0.0)["loss"]
    models.build(models.SHAPES["tinyA"]).config.save_pretrained(tmp_path)
    done = mptc("export-weights", path, "--checkpoint", checkpoint, "-o", tmp_path / "model.safetensors")
    assert done.returncode == 0, done.stderr
    model, report = BertForMaskedLM.from_pretrained(
        tmp_path, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    with torch.no_grad():
        loss = model(**{key: torch.from_numpy(value) for key, value in batch.items()}).loss.item()
    assert loss == pytest.approx(expected, rel=1e-6)
