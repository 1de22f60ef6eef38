# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mpt.export: what is in the file, and what is refused."""

from __future__ import annotations

import json
import warnings

import models
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

import mpt.export
from mpt.export import ExportError, export

TINY = models.Shape(1, 32, 2, 64, 50, 2, 8, 16)


@pytest.fixture(scope="module")
def tiny():
    return models.build(TINY), models.make_batch(TINY)


def run(path, batch, outputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    return session.run(outputs, batch)


def inputs(reference):
    return {name[6:]: value for name, value in reference.items() if name.startswith("batch.")}


def test_every_parameter_keeps_its_name_and_value(tiny, tmp_path):
    model, batch = tiny
    path = export(model, batch, tmp_path / "m.onnx")
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(stored[name], parameter.detach().numpy())
    assert "cls.predictions.decoder.weight" not in stored


def test_tied_names_are_recorded(tiny, tmp_path):
    path = export(*tiny, tmp_path / "m.onnx")
    metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
    tied = json.loads(metadata[mpt.export.TIED_KEY])
    assert tied["bert.embeddings.word_embeddings.weight"] == ["cls.predictions.decoder.weight"]


@pytest.mark.parametrize("name", ["tinyA", "tinyA_op18"])
def test_forward_agrees_with_pytorch(store, name):
    reference = store.reference("tinyA")
    batch = inputs(reference)
    if name.endswith("op18"):  # the exported dropout is active: compare finiteness only
        (loss,) = run(store.path(name), batch, ["loss"])
        assert np.isfinite(loss)
        return
    loss, logits = run(store.path(name), batch, ["loss", "logits"])
    np.testing.assert_allclose(loss, reference["loss"], rtol=1e-6)
    np.testing.assert_allclose(logits, reference["logits"], atol=2e-6)


def test_dynamic_axes_have_names_and_other_shapes_run(store):
    path = store.path("tinyA_dynamic")
    (first, *_) = onnx.load(path).graph.input
    assert [d.dim_param for d in first.type.tensor_type.shape.dim] == ["batch", "seq"]
    shape = models.SHAPES["tinyA"]
    other = models.make_batch(models.dataclasses.replace(shape, batch=3, seq=24))
    (loss,) = run(path, {k: v.numpy() for k, v in other.items()}, ["loss"])
    expected = models.build(shape, fresh=False)(**other).loss.item()
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("train, count", [(True, 4), (False, 0)])
def test_dropout_is_in_training_graphs_only(tmp_path, train, count):
    model = models.build(TINY, dropout=0.1)
    path = export(model, models.make_batch(TINY), tmp_path / "m.onnx", train=train)
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "Dropout"]
    assert len(nodes) == count


def test_mode_and_attention_are_restored(tmp_path):
    model = models.build(TINY).eval()
    model.set_attn_implementation("sdpa")
    export(model, models.make_batch(TINY), tmp_path / "m.onnx")
    assert not model.training and model.config._attn_implementation == "sdpa"


def test_merged_parameters_are_refused(tiny, tmp_path, monkeypatch):
    original = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: original(*a, **{**k, "optimize": True}))
    with pytest.raises(ExportError, match=r"lost \d+ of \d+ parameters, first 'bert\."):
        export(*tiny, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_large_weights_go_to_external_data(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(mpt.export, "EXTERNAL_DATA_BYTES", 1000)
    path = export(*tiny, tmp_path / "m.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    batch = {name: value.numpy() for name, value in tiny[1].items()}
    expected = tiny[0](**tiny[1]).loss.item()
    assert run(path, batch, ["loss"])[0] == pytest.approx(expected, rel=1e-5)


def test_unused_parameters_are_reported(tmp_path):
    class Partial(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used = torch.nn.Parameter(torch.ones(3))
            self.unused = torch.nn.Parameter(torch.ones(2))

        def forward(self, x):
            return (x * self.used).sum()

    with pytest.raises(ExportError, match="unused"), warnings.catch_warnings():
        warnings.simplefilter("error")
        export(Partial(), {"x": torch.ones(3)}, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": {}}, "expected at least one named input"),
        ({"batch": {"input_ids": [1, 2]}}, "'input_ids': expected a tensor or an array, found list"),
        ({"opset": 17}, "opset 17: expected one of 18 to 20"),
        ({"dynamic": {"ids": {0: "batch"}}}, "'ids': expected an input of the batch"),
        ({"dynamic": {"labels": {2: "batch"}}}, "axis 2 is outside rank 2"),
    ],
)
def test_bad_arguments(tiny, tmp_path, change, message):
    model, batch = tiny
    arguments = {"batch": batch, **change}
    with pytest.raises(ExportError, match=message):
        export(model, path=tmp_path / "m.onnx", **arguments)


def test_missing_directory_is_named(tiny, tmp_path):
    with pytest.raises(ExportError, match="nowhere does not exist"):
        export(*tiny, tmp_path / "nowhere" / "m.onnx")


def test_reference_file_is_complete(store):
    reference = load_file(store.path("tinyA").with_suffix(".safetensors"))
    names = {n for n, _ in models.build(models.SHAPES["tinyA"]).named_parameters()}
    assert {n[5:] for n in reference if n.startswith("grad.")} == names
    assert reference["adamw.losses"].shape == (20,)
