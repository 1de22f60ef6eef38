# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Sentinels: how many elements each scaled cast of a step lost, and a log of them.

A step that `stages.watch` went through returns three counts per low-precision tensor, as scalars
`<tensor>/saturated` (rounds to more than the format holds), `<tensor>/flushed` (not 0, became 0) and
`<tensor>/non_finite`. Counts are sums in f32: exact up to 2^24.

    with SentinelLog(Path("sentinels.jsonl"), every=100) as log:
        for batch in batches:
            log.add(package.step(batch, lr=1e-4))
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("saturated", "flushed", "non_finite")


def counts(result: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the counts in a step's result: tensor -> kind -> elements."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value in result.items():
        tensor, _, kind = name.rpartition("/")
        if kind in KINDS and "/cast." in f"/{tensor}":
            found[tensor][kind] = int(value)
    return dict(found)


class SentinelLog:
    """Writes a JSON line every `every` steps, and one for the rest when it is closed.

    A line has `step` (the last one it covers), `steps`, `skipped` (how many of them changed nothing)
    and `tensors`: the sums over its steps of each tensor that lost something.
    """

    def __init__(self, path: Path, every: int = 1, append: bool = False) -> None:
        if every < 1:
            raise ValueError(f"a line is written every 1 or more steps, found {every}")
        self.every, self.steps, self.skipped, self.last = every, 0, 0, 0
        self.sums: dict[str, dict[str, int]] = {}
        self.file = open(path, "a" if append else "w")  # noqa: SIM115 - closed by close()

    def add(self, result: Mapping[str, Any]) -> None:
        """Take in the result of a step."""
        self.steps, self.last = self.steps + 1, result["step"]
        self.skipped += bool(result.get("skipped"))
        for tensor, kinds in counts(result).items():
            if any(kinds.values()):
                sums = self.sums.setdefault(tensor, dict.fromkeys(KINDS, 0))
                for kind, count in kinds.items():
                    sums[kind] += count
        if self.steps == self.every:
            self.flush()

    def flush(self) -> None:
        """Write a line for the steps since the last one, if there are any."""
        if self.steps:
            line = {"step": self.last, "steps": self.steps, "skipped": self.skipped, "tensors": self.sums}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        self.steps, self.skipped, self.sums = 0, 0, {}

    def close(self) -> None:
        self.flush()
        self.file.close()

    def __enter__(self) -> SentinelLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
