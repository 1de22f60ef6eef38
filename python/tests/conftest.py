# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Fixtures: exported models and their references, made once per test session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class ModelStore:
    """Makes the files of `models.py` on demand in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Return NAME.onnx (or NAME_variant.onnx), writing it if need be."""
        import models

        path = self.directory / f"{name}.onnx"
        if not path.exists():
            base, _, variant = name.partition("_")
            if not variant:
                models.write_model(base, self.directory)
            elif variant == "dropout":
                models.write_dropout(base, self.directory)
            else:
                models.write_variant(base, variant, self.directory)
        return path

    def reference(self, name: str) -> dict:
        """Return PyTorch's tensors for model `name`: loss, grad.*, batch.*, logits, adamw.losses."""
        from safetensors.numpy import load_file

        self.path(name)
        return load_file(self.directory / f"{name}.safetensors")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Exported test models, shared by all tests of a session."""
    return ModelStore(tmp_path_factory.mktemp("models"))


@pytest.fixture
def mptc():
    """Return a function that runs mptc with arguments in a process and captures its output."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "mpt", *map(str, arguments)]
        root = str(Path(__file__).resolve().parent.parent)
        environment = dict(os.environ, PYTHONPATH=root, **options.pop("env", {}))
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)

    return run
