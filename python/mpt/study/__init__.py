# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Studies of number formats: the seed paper's base case, and real models (`mptc study`)."""

from __future__ import annotations

import os
from pathlib import Path


class StudyError(ValueError):
    """A study was asked for what it cannot do, or lacks what it needs."""


def make_directory(path: str | os.PathLike[str]) -> Path:
    """Make the last part of a directory's path, if it is not there, and return it."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: expected a directory, found a file")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: directory {path.parent} does not exist")
    path.mkdir(exist_ok=True)
    return path
