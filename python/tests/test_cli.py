# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mptc: arguments, errors of tools passed on unchanged, nothing left behind."""

from __future__ import annotations

import argparse
import stat
from types import SimpleNamespace

import pytest

from mpt import sentinels, stages
from mpt.cli import sentinels_of
from mpt.files import staged


def write_tool(directory, name, script):
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_help_lists_the_stages(mptc):
    done = mptc("--help")
    assert done.returncode == 0
    names = "import differentiate assign build train export-weights export data profile demo explain diff what-if report verify"
    for name in names.split():
        assert name in done.stdout


def test_a_tools_message_is_passed_on_unchanged(mptc, tmp_path):
    message = "model.onnx: error: node 'x[1]' (op 'Foo') is not supported: see a_very_long_line " + "y" * 200
    write_tool(tmp_path / "bin", "mpt-import", f'echo partial > "$3"\necho "{message}" >&2\nexit 1\n')
    done = mptc("import", "m.onnx", "-o", tmp_path / "g.mlir", env={"MPT_BIN": str(tmp_path / "bin")})
    assert done.returncode == 1
    assert done.stderr == message + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["bin"]


def test_a_crashing_tool_is_named(mptc, tmp_path):
    write_tool(tmp_path / "bin", "mpt-import", "kill -SEGV $$\n")
    done = mptc("import", "m.onnx", "-o", tmp_path / "g.mlir", env={"MPT_BIN": str(tmp_path / "bin")})
    assert done.returncode == 1 and "mpt-import: signal 11" in done.stderr


def test_a_missing_tool_names_the_place(mptc, tmp_path):
    done = mptc("import", "m.onnx", "-o", tmp_path / "g.mlir", env={"MPT_BIN": str(tmp_path)})
    assert done.returncode == 1 and f"mpt-import: not found in {tmp_path}" in done.stderr


def test_import_passes_its_options(mptc, tmp_path):
    write_tool(tmp_path / "bin", "mpt-import", 'echo "$@" > "$3"\n')
    out = tmp_path / "g.mlir"
    done = mptc("import", "m.onnx", "-o", out, "--loss", "--bind", "batch=8", "--bind", "seq=16",
                env={"MPT_BIN": str(tmp_path / "bin")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert out.read_text().split()[3:] == ["--loss", "--bind=batch=8", "--bind=seq=16"]


def test_weights_follow_the_graph(tmp_path, monkeypatch):
    write_tool(tmp_path / "bin", "mpt-opt", 'for last; do :; done\necho graph > "$last"\n')
    monkeypatch.setenv("MPT_BIN", str(tmp_path / "bin"))
    (tmp_path / "a.mlir").write_text("")
    (tmp_path / "a.safetensors").write_text("weights")
    stages.optimise(tmp_path / "a.mlir", tmp_path / "b.mlir", ["--mpt-differentiate"])
    assert (tmp_path / "b.mlir").read_text() == "graph\n"
    assert (tmp_path / "b.safetensors").read_text() == "weights"


@pytest.mark.parametrize("bind", ["batch", "batch=0", "=3", "batch=x"])
def test_bad_binding(mptc, bind):
    done = mptc("import", "m.onnx", "-o", "g.mlir", "--bind", bind)
    assert done.returncode == 2 and "expected name=size" in done.stderr


def test_bad_batches_are_one_line_of_error(mptc, tmp_path):
    done = mptc("train", tmp_path, "--data", tmp_path / "none", "--steps", 1)
    assert done.returncode == 1
    assert done.stderr == f"mptc: error: {tmp_path / 'none'}: no such batches file\n"


def test_staged_replaces_a_directory(tmp_path):
    target = tmp_path / "package"
    target.mkdir()
    (target / "old").write_text("")
    with staged(target) as inner:
        inner.mkdir()
        (inner / "new").write_text("")
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["package"]


def test_staged_keeps_the_old_output_on_failure(tmp_path):
    target = tmp_path / "graph.mlir"
    target.write_text("old")
    with pytest.raises(KeyError), staged(target) as inner:
        inner.write_text("half")
        raise KeyError
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_quoted_ir_is_shortened_and_messages_are_not():
    from mpt import stages

    quoted = "  func.func @step(" + "%arg: tensor<f32>, " * 1000
    message = "step.mlir:1:1: error: " + "x" * 1000
    shown = stages.shorten(f"{message}\n{quoted}\n  ^\n").split("\n")
    assert shown[0] == message and len(shown[1]) < 250 and shown[1].endswith(" ...") and shown[2] == "  ^"


def test_sentinels_need_a_package_that_counts(tmp_path):
    path = tmp_path / "counts.jsonl"
    args = argparse.Namespace(package="pkg", sentinels=path, every=2, resume=None)
    plain = SimpleNamespace(results=[{"name": "loss"}, {"name": "x/cast"}])
    with pytest.raises(ValueError, match="pkg counts nothing that casts lose: build .* with mptc build --sentinels"):
        sentinels_of(plain, args)
    assert not path.exists()
    watched = SimpleNamespace(results=[{"name": f"x/cast.f8E4M3FN/{kind}"} for kind in sentinels.KINDS])
    for resume, lines in ((None, 1), ("checkpoint", 2), (None, 1)):
        args.resume = resume
        with sentinels_of(watched, args) as log:
            log.add({"step": 1, "x/cast.f8E4M3FN/saturated": 3.0})
        assert len(path.read_text().splitlines()) == lines
