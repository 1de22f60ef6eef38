# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Writing outputs so that a failed stage leaves nothing behind.

A stage writes into a hidden directory beside its output; only when it has succeeded are the
files moved to their places. File names stay what they will be, since an .mlir file and its
.safetensors belong together by name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def check_output(path: str | os.PathLike[str]) -> None:
    """Raise OSError unless a file `path` can be written beside and then renamed to it.

    So that a long stage does not fail at its end. A device or a pipe is refused, since a rename
    would put a file in its place.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: directory {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: directory {path.parent} is not writable")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(f"{path}: is a device or a pipe, expected a file or nothing there")


@contextlib.contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path of the same name to write to; on success move it, and what lies beside it.

    Files and directories of the same names are replaced. Raises OSError as check_output does,
    and FileNotFoundError if the stage did not write its output.
    """
    path = Path(path)
    check_output(path)
    staging = path.parent / f".{path.name}.{os.getpid()}.tmp"
    staging.mkdir()
    try:
        yield staging / path.name
        if not (staging / path.name).exists():
            raise FileNotFoundError(f"{path}: the stage reported success but did not write it")
        for item in sorted(staging.iterdir(), key=lambda entry: entry.name == path.name):
            _replace(item, path.parent / item.name)
    finally:
        shutil.rmtree(staging)


def _replace(source: Path, target: Path) -> None:
    """Move `source` to `target`, which may be a file or a whole directory already."""
    if target.is_dir() and not target.is_symlink():
        aside = source.with_name(f"{source.name}.old")
        os.replace(target, aside)
        os.replace(source, target)
        shutil.rmtree(aside)
    else:
        os.replace(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link of `source`, or a copy where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
