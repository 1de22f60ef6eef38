# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Packages from Python: see `mpt._runtime.Package`."""

from mpt._runtime import Package

__all__ = ["Package"]
