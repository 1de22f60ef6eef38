# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Training: the host's part of a loop of steps, for packages and for PyTorch.

A package's step does all arithmetic (forward, backward, clipping, AdamW). The host picks the
batch and the learning rate by step number, so a run resumed from a checkpoint goes on with
the same bits as one that was never stopped.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mpt.console import bar
from mpt.data import Batches

if TYPE_CHECKING:
    import torch

    from mpt.runtime import Package


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup` steps to `peak`, constant afterwards."""

    peak: float
    warmup: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.peak) and self.peak >= 0):
            raise ValueError(f"learning rate is {self.peak}, expected a finite number of at least 0")
        if self.warmup < 0:
            raise ValueError(f"warm-up is {self.warmup} steps, expected at least 0")

    def __call__(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..."""
        return self.peak * min(1.0, (step + 1) / self.warmup) if self.warmup else self.peak


@dataclass(frozen=True)
class Record:
    """What one step reports: its number from 0, loss, gradient norm before clipping, rate, time.

    skipped: something was not finite, and the step changed no state.
    """

    step: int
    loss: float
    grad_norm: float
    lr: float
    ms: float
    skipped: bool = False


def train_package(
    package: "Package",
    batches: Batches,
    steps: int,
    schedule: Schedule,
    first: int = 0,
    seed: int = 0,
    listen: Callable[[Mapping[str, Any]], None] | None = None,
) -> Iterator[Record]:
    """Take `steps` steps from step number `first` and yield a Record of each; `listen` gets all results of each."""
    for step in range(first, first + steps):
        rate = schedule(step)
        start = time.perf_counter()
        result = package.step(batches[step], lr=rate, seed=seed)
        elapsed = (time.perf_counter() - start) * 1e3
        if listen is not None:
            listen(result)
        yield Record(step, result["loss"], result["grad_norm"], rate, elapsed, result.get("skipped", False))


def train_torch(
    model: "torch.nn.Module", batches: Batches, steps: int, schedule: Schedule, decay: float = 0.01, threads: int = 2
) -> Iterator[Record]:
    """The same steps in PyTorch: AdamW without decay for rank <= 1, clipping at norm 1.

    Trains `model` in place.
    """
    import torch

    torch.set_num_threads(threads)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule(0))
    model.train()
    for step in range(steps):
        rate = schedule(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = model(**{name: torch.from_numpy(value) for name, value in batches[step].items()}).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        elapsed = (time.perf_counter() - start) * 1e3
        yield Record(step, loss.item(), float(norm), rate, elapsed)


def follow(records: Iterator[Record], steps: int, title: str, log: TextIO | None = None) -> list[Record]:
    """Run a training iterator to its end with a progress bar; log one JSON object a step."""
    taken, skipped = [], 0
    with bar() as display:
        task = display.add_task(title, total=steps, note="")
        for record in records:
            taken.append(record)
            if log is not None:
                log.write(json.dumps(asdict(record)) + "\n")
                log.flush()
            skipped += record.skipped
            note = f"loss {record.loss:.4f}  {record.ms:.0f} ms" + (f"  {skipped} skipped" if skipped else "")
            display.update(task, advance=1, note=note)
    return taken


@contextlib.contextmanager
def open_log(path: Path, append: bool = False) -> Iterator[TextIO]:
    """Open a log; where training fails before its first step, no empty file stays behind."""
    with open(path, "a" if append else "w") as log:
        try:
            yield log
        finally:
            if log.tell() == 0:
                path.unlink()


def read_log(path: Path) -> list[Record]:
    """Return the records of a log; raises ValueError naming the line that is not one."""
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            records.append(Record(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a training record: {error}") from error
    return records
