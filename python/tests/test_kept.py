# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Formats of what the backward pass reads again: what is measured, decided and then computed.

The truth is the gradient of the package that was built from the decision, compared with that of
the step in f32 on the same batches; and for one tensor a formula in NumPy.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from mpt import decisions, kept, stages
from mpt.cli import main
from mpt.runtime import Package
from safetensors.numpy import save_file

PREFIX = "encoder.layer."


@pytest.fixture(scope="module")
def bert(store, tmp_path_factory) -> Path:
    """A tiny BERT's step, batches of it, and what its kept tensors were measured to do."""
    directory = tmp_path_factory.mktemp("kept")
    stages.import_model(store.path("tinyA"), directory / "graph.mlir")
    stages.differentiate(directory / "graph.mlir", directory / "step.mlir")
    reference = store.reference("tinyA")
    batch = {name[6:]: value for name, value in reference.items() if name.startswith("batch.")}
    rng = np.random.default_rng(0)
    rolls = [{name: np.roll(value, shift, axis=0) for name, value in batch.items()} for shift in range(3)]
    for one in rolls:  # other ids, where there are any
        one["input_ids"] = np.where(one["attention_mask"] > 0, rng.permutation(one["input_ids"]), one["input_ids"])
    save_file({name: np.stack([one[name] for one in rolls]) for name in batch}, directory / "batches.safetensors")
    arguments = ["kept", directory / "step.mlir", "--data", directory / "batches.safetensors", "--batches", "3"]
    assert main([str(word) for word in (*arguments, "-o", directory / "kept.json")]) == 0
    return directory


def batches(bert: Path) -> list[dict[str, np.ndarray]]:
    from safetensors.numpy import load_file

    stacked = load_file(bert / "batches.safetensors")
    return [{name: value[i] for name, value in stacked.items()} for i in range(3)]


def assign(bert: Path, out: Path, policy: str = "fp32", **settings: object) -> dict:
    """Assign formats to kept tensors as the settings say, to products by `policy`; returns the record's part."""
    record = out.with_suffix(".json")
    options = {key.replace("_", "-"): value for key, value in settings.items()}
    stages.assign(bert / "step.mlir", out, policy, record=record, settings=options)
    return json.loads(record.read_text()).get("kept", {})


def measured(bert: Path, step: Path, directory: Path) -> tuple[list[float], float]:
    """The noise ratios of a step's gradients against f32's, and the largest difference of a loss."""
    packages = []
    for name, source in (("f32", bert / "step.mlir"), ("low", step)):
        stages.build(source, directory / name, "cpu", "reference")
        packages.append(Package(directory / name, threads=2))
    ratios, difference = [], 0.0
    for batch in batches(bert):
        (loss, exact), (low_loss, low) = (package.gradient(batch, seed=0) for package in packages)
        ratios.append(kept.noise_ratio(low, exact))
        difference = max(difference, abs(loss - low_loss))
    return ratios, difference


def test_what_is_kept_and_measured(bert: Path) -> None:
    content = json.loads((bert / "kept.json").read_text())
    names = [entry["name"] for entry in content["tensors"]]
    for layer in range(2):
        own = {name.removeprefix(f"{PREFIX}{layer}.") for name in names if name.startswith(f"{PREFIX}{layer}.")}
        assert own == {
            "attention.self.softmax",
            "attention.output.add",
            "intermediate.dense.add",
            "output.add",
        }
    assert len(names) == 2 * 4 + 3  # the embeddings' sum, the head's GELU and LayerNorm
    for entry in content["tensors"]:
        ratios = {one["format"]: one["noise_ratio"] for one in entry["candidates"]}
        # A tensor adds about its own rounding, 2^-9.2 and 2^-5.2 in the mean square, to its part of the gradient, which
        # of the softmax is next to nothing while attention is nearly uniform.
        assert 0 < ratios["bf16"] < 4 * 2**-18.4, entry
        assert 30 < ratios["f8E4M3FN"] / ratios["bf16"] < 2000, entry
    for i, form in enumerate(kept.FORMATS):
        total = sum(entry["candidates"][i]["noise_ratio"] for entry in content["tensors"])
        assert content["together"][i]["format"] == form
        assert 0.5 < content["together"][i]["noise_ratio"] / total < 2


def test_bf16_does_what_was_predicted(bert: Path, tmp_path: Path) -> None:
    """On the oracle: the loss keeps its bits, the gradient's error is the sum that was predicted."""
    profile = bert / "kept.json"
    record = assign(bert, tmp_path / "low.mlir", kept="bf16", kept_profile=profile)
    low = [entry for entry in record["tensors"] if entry["format"] == "bf16"]
    assert len(low) == 11 and len(record["tensors"]) == 12
    (high,) = (entry for entry in record["tensors"] if entry["format"] == "f32")
    assert high["reason"] == "what the loss reads stays f32"
    assert record["f32_bytes"] - record["bytes"] == sum(2 * entry["elements"] for entry in low)
    ratios, difference = measured(bert, tmp_path / "low.mlir", tmp_path)
    assert difference == 0
    assert record["noise_ratio"] / 3 < np.mean(ratios) < 2 * record["noise_ratio"]
    # The switches of the probe are the same casts.
    together = json.loads(profile.read_text())["together"][0]["noise_ratio"]
    assert np.mean(ratios) == pytest.approx(together, rel=1e-6)


def test_auto_takes_the_least_bytes_under_its_bound(bert: Path, tmp_path: Path) -> None:
    content = json.loads((bert / "kept.json").read_text())
    upper = {
        entry["name"]: entry["candidates"][0]["noise_ratio"] + entry["candidates"][0]["noise_ratio_spread"] / 2
        for entry in content["tensors"]
    }
    limit = sum(upper.values()) / 2
    settings = {"kept": "auto", "kept_profile": bert / "kept.json", "kept_noise": limit}
    record = assign(bert, tmp_path / "auto.mlir", **settings)
    chosen = {entry["name"]: entry for entry in record["tensors"]}
    low = {name for name, entry in chosen.items() if entry["format"] == "bf16"}
    assert {entry["format"] for entry in chosen.values()} == {"f32", "bf16"}
    assert record["noise_ratio"] == pytest.approx(sum(upper[name] for name in low))
    assert record["noise_ratio"] <= limit
    # By brute force over all 2^11 choices.
    names = sorted(upper)
    sizes = np.array([2 * chosen[name]["elements"] for name in names])
    errors = np.array([upper[name] for name in names])
    bits = np.arange(2 ** len(names))[:, None] >> np.arange(len(names)) & 1
    best = (bits @ sizes)[bits @ errors <= limit].max()
    assert record["f32_bytes"] - record["bytes"] == best
    ratios, difference = measured(bert, tmp_path / "auto.mlir", tmp_path)
    assert difference == 0
    assert np.mean(ratios) < 2 * record["noise_ratio"]
    # At the default bound nothing stands in the way of BF16; E4M3 takes longer than it saves.
    record = assign(bert, tmp_path / "all.mlir", kept="auto", kept_profile=bert / "kept.json")
    assert [entry["format"] for entry in record["tensors"]].count("bf16") == 11
    assert record["limit"] == 1e-3


def test_explain_tells_it(bert: Path, tmp_path: Path, capsys) -> None:
    assign(bert, tmp_path / "low.mlir", "bf16", kept="auto", kept_profile=bert / "kept.json")
    assert main(["explain", str(tmp_path / "low.json")]) == 0
    assert re.search(r"kept for the backward pass \(auto\): .* MB, in f32 .* of at most 1.00e-03", capsys.readouterr().out)
    assert main(["explain", str(tmp_path / "low.json"), "*layer.1.attention.self.softmax"]) == 0
    found = capsys.readouterr().out
    assert found.count("bf16") == 1 and "layer.0" not in found
    record = json.loads((tmp_path / "low.json").read_text())
    record["kept"]["tensors"][0]["elements"] = "many"
    with pytest.raises(decisions.DecisionsError, match="kept.tensors.0..elements"):
        decisions.parse(record)


def test_the_default_changes_nothing(bert: Path, tmp_path: Path) -> None:
    assert assign(bert, tmp_path / "default.mlir") == {}
    assert assign(bert, tmp_path / "f32.mlir", kept="f32") == {}
    assert (tmp_path / "default.mlir").read_text() == (tmp_path / "f32.mlir").read_text()
    assert "mpt.cast" not in (tmp_path / "default.mlir").read_text()


def test_one_tensor_by_hand(tmp_path: Path) -> None:
    """loss = sum(gelu'd x·w times c): the gradient is that of gelu at x·w rounded to BF16."""
    (tmp_path / "gradient.mlir").write_text(TANH)
    rng = np.random.default_rng(3)
    w, x, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 16), (4, 8), (4, 16)))
    save_file({"w": w}, tmp_path / "gradient.safetensors")
    passes = ["--mpt-differentiate", "--mpt-add-optimizer", "--assign-precision=policy=fp32 kept=bf16"]
    stages.optimise(tmp_path / "gradient.mlir", tmp_path / "step.mlir", passes)
    stages.build(tmp_path / "step.mlir", tmp_path / "package", "cpu", "reference")
    loss, gradients = Package(tmp_path / "package").gradient({"x": x, "c": c})
    y = np.tanh(x.astype(np.float64) @ w)
    assert loss == pytest.approx((y * c).sum(), rel=1e-5)
    held = y.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    expected = x.T @ ((1 - held * held) * c)
    assert np.linalg.norm(gradients["w"] - expected) < 1e-3 * np.linalg.norm(expected - x.T @ ((1 - y * y) * c))


TANH = """
func.func @forward(%w: tensor<8x16xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                   %x: tensor<4x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                   %c: tensor<4x16xf32> {mpt.name = "c", mpt.kind = #mpt.kind<input>}) -> tensor<f32> {
  %h = mpt.matmul %x, %w {mpt.name = "layer"} : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  %y = mpt.tanh %h {mpt.name = "tanh"} : (tensor<4x16xf32>) -> tensor<4x16xf32>
  %l = mpt.mul %y, %c {mpt.name = "scaled"} : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %s = mpt.reduce %l {axes = array<i64: 0, 1>, kind = #mpt.reduction<sum>, mpt.name = "sum"} : (tensor<4x16xf32>) -> tensor<1x1xf32>
  %loss = mpt.reshape %s {mpt.name = "loss"} : (tensor<1x1xf32>) -> tensor<f32>
  return %loss : tensor<f32>
}
"""


def held_bytes(package: Path) -> int:
    """Bytes in the arena that were written up to the last forward product and are read after it."""
    manifest = json.loads((package / "manifest.json").read_text())
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, launch in enumerate(manifest["launches"]):
        for buffer, _ in launch["args"]:
            first.setdefault(buffer, i)
            last[buffer] = i
        if launch.get("role") == "fprop":
            end = i
    buffers = manifest["buffers"]
    arena = [i for i in first if buffers[i]["kind"] == "arena"]
    return sum(buffers[i]["bytes"] for i in arena if first[i] <= end < last[i])


def test_kept_tensors_take_less_memory(bert: Path, tmp_path: Path) -> None:
    """What is held between the passes shrinks by what the record says; by more where a product reads the same cast."""
    sizes = []
    for form in ("f32", "bf16"):
        record = assign(bert, tmp_path / f"{form}.mlir", "bf16", kept=form)
        stages.build(tmp_path / f"{form}.mlir", tmp_path / form, "cuda")
        sizes.append(held_bytes(tmp_path / form))
    saved = record["f32_bytes"] - record["bytes"]
    assert saved <= sizes[0] - sizes[1] <= 1.25 * saved


#
# Bad input.
#


def refused(bert: Path, tmp_path: Path, capsys, content: object, **settings: object) -> str:
    (tmp_path / "bad.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(stages.StageError) as error:
        assign(bert, tmp_path / "x.mlir", **{"kept": "auto", "kept_profile": tmp_path / "bad.json"} | settings)
    assert not (tmp_path / "x.mlir").exists() and not (tmp_path / "x.json").exists()
    return str(error.value)


def test_bad_profiles(bert: Path, tmp_path: Path, capsys) -> None:
    good = json.loads((bert / "kept.json").read_text())

    def change(**changes: object) -> str:
        return refused(bert, tmp_path, capsys, good | changes)

    first, *rest = good["tensors"]
    one = first["candidates"][0]
    assert "bad.json" in refused(bert, tmp_path, capsys, "{")
    assert "'format' is 'mpt-metrics', expected 'mpt-kept'" in change(format="mpt-metrics")
    assert "version 2 is not understood" in change(version=2)
    assert "measured on another graph: expected graph_hash" in change(graph_hash="0123456789abcdef")
    assert f"nothing was measured of '{first['name']}', which the backward pass reads" in change(tensors=rest)
    assert f"tensor '{first['name']}' is there twice" in change(tensors=[first, first])
    for candidates, message in (
        ([one | {"noise_ratio": -1}], "'noise_ratio' is -1, expected a number of 0 or more"),
        ([one | {"noise_ratio": None}], "'noise_ratio' is null"),
        ([one | {"format": "bf17"}], "bf17"),
        ([one | {"format": "bf16/f8E4M3FN"}], "expected one format"),
        ([one, one], "format 'bf16' is there twice"),
        ([{"format": "bf16", "noise_ratio": 1}], "'noise_ratio_spread' is missing"),
    ):
        assert message in change(tensors=[first | {"candidates": candidates}, *rest])
    assert "cannot be read" in refused(bert, tmp_path, capsys, good, kept_profile=tmp_path / "none.json")
    assert "expects kept-noise >= 0, found -1" in refused(bert, tmp_path, capsys, good, kept_noise=-1)
    assert "needs kept-profile=" in refused(bert, tmp_path, capsys, good, kept_profile=None)


def test_measuring_needs_batches(bert: Path, tmp_path: Path, capsys) -> None:
    arguments = ["kept", bert / "step.mlir", "--data", bert / "batches.safetensors", "-o", tmp_path / "kept.json"]
    for count in ("1", "4"):
        assert main([str(word) for word in (*arguments, "--batches", count)]) == 1
        assert f"{count} batches: expected at least 2, for a spread, and at most 3" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
