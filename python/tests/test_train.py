# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The host's training loop: schedule, batches by step number, logs, resuming."""

from __future__ import annotations

import io

import numpy as np
import pytest

from mpt import plot
from mpt.data import Batches
from mpt.train import Schedule, follow, open_log, read_log, train_package


class FakePackage:
    """Records what a step is given."""

    def __init__(self):
        self.seen = []

    def step(self, batch, lr, seed):
        self.seen.append((int(batch["input_ids"][0, 0]), lr, seed))
        skipped = len(self.seen) == 2
        return {"loss": 1.0 / len(self.seen), "grad_norm": 2.0, "skipped": skipped, "step": len(self.seen)}


@pytest.fixture
def batches():
    ids = np.arange(3).reshape(3, 1, 1)
    return Batches({"input_ids": ids}, {})


def test_schedule_warms_up_and_stays():
    schedule = Schedule(1e-3, 4)
    assert [schedule(i) for i in (0, 1, 3, 9)] == pytest.approx([2.5e-4, 5e-4, 1e-3, 1e-3])
    assert Schedule(1e-3)(0) == 1e-3


def test_a_resumed_run_sees_what_the_whole_run_sees(batches):
    whole, parts = FakePackage(), FakePackage()
    schedule = Schedule(1e-3, 5)
    list(train_package(whole, batches, 7, schedule, seed=9))
    list(train_package(parts, batches, 4, schedule, seed=9))
    list(train_package(parts, batches, 3, schedule, first=4, seed=9))
    assert whole.seen == parts.seen and [s[0] for s in whole.seen] == [0, 1, 2, 0, 1, 2, 0]


def test_log_round_trip(batches, tmp_path):
    log = io.StringIO()
    taken = follow(train_package(FakePackage(), batches, 3, Schedule(1e-3)), 3, "test", log)
    assert [record.skipped for record in taken] == [False, True, False]
    (tmp_path / "l.jsonl").write_text(log.getvalue())
    assert read_log(tmp_path / "l.jsonl") == taken
    (tmp_path / "l.jsonl").write_text(log.getvalue() + "{broken\n")
    with pytest.raises(ValueError, match="l.jsonl:4: not a training record"):
        read_log(tmp_path / "l.jsonl")


def test_an_empty_log_does_not_stay(tmp_path):
    path = tmp_path / "l.jsonl"
    with pytest.raises(KeyError), open_log(path):
        raise KeyError
    assert not path.exists()
    for append in (False, True):
        with pytest.raises(KeyError), open_log(path, append) as log:
            log.write("x\n" if not append else "")
            raise KeyError
    assert path.read_text() == "x\n"


def test_plot_writes_a_png(tmp_path):
    path = plot.plot_losses({"a": [3.0, 2.0], "b": [3.0, 2.1, 2.0]}, tmp_path / "x.png", "losses")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("peak,warmup,why", [(float("nan"), 0, "rate is nan"), (-1.0, 0, "rate is -1"), (1.0, -5, "-5 steps")])
def test_bad_schedules(peak, warmup, why):
    with pytest.raises(ValueError, match=why):
        Schedule(peak, warmup)
