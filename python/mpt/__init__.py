# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mpt: from a model's ONNX graph to an ahead-of-time mixed-precision training step.

The names below are imported on first use, so that `import mpt` and `mptc --help`
do not wait for PyTorch.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Error", "ExportError", "Package", "export"]

_LAZY = {
    "Error": ("mpt.runtime", "Error"),
    "export": ("mpt.export", "export"),
    "ExportError": ("mpt.export", "ExportError"),
    "Package": ("mpt.runtime", "Package"),
}


def __getattr__(name: str) -> Any:
    """Import one of the package's public names when it is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'mpt' has no attribute '{name}'")
    import importlib

    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value
