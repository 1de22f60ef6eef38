# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Training runs of a study, some side by side: a process each, with one package.

A run leaves its log (mpt.verify_train); the same study goes on where it was stopped, in the
middle of its runs if need be, and comes to the same bits.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from mpt.console import bar
from mpt.decisions import Decisions
from mpt.study import StudyError
from mpt.train import Record, read_log
from mpt.verify import Run
from mpt.verify_train import Experiment, PackageTrainer, build_package, key_of

if TYPE_CHECKING:
    from mpt.study.assignments import Plan

POLL_SECONDS = 0.5
ASSIGNED = frozenset[str]()  # nothing promoted


@dataclass(frozen=True)
class Job:
    """One training run: an assignment and a seed."""

    name: str
    seed: int

    def log(self, out: Path, part: bool = False) -> Path:
        """Its log in the study's directory, or that of the run while it goes on."""
        run = key_of(Run(ASSIGNED, self.seed))
        return out / self.name / "runs" / run / f"seed-{self.seed}{'.part' if part else ''}.jsonl"


def jobs_of(plan: Plan) -> list[Job]:
    """All runs, the first seed of every assignment before the second of any."""
    return [Job(entry.name, seed) for seed in plan.seeds for entry in plan.assignments]


def experiment_of(plan: Plan, out: Path) -> Experiment:
    return Experiment(out / "step.mlir", out / "batches.safetensors", plan.steps, tuple(plan.seeds),
                      plan.case.schedule, plan.criteria, threads=plan.threads)  # fmt: skip


def _train(job: Job, record: Decisions, experiment: Experiment, out: Path, parent: int) -> None:
    """One run to its end, or to its first loss that is not finite. In a process of its own."""
    from rich.progress import Progress

    def stop(losses: Sequence[float]) -> bool:
        if os.getppid() != parent:  # it was killed: its successor must not find us at work
            raise KeyboardInterrupt
        return not math.isfinite(losses[-1])

    with PackageTrainer(out / job.name, record, experiment, Progress(disable=True), keep=True) as trainer:
        trainer(Run(ASSIGNED, job.seed), stop)


def _work(job: Job, record: Decisions, experiment: Experiment, out: Path, parent: int, answer: Connection) -> None:
    """_train, for the parent that stops it with SIGTERM: a checkpoint is left then."""
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which tells us
    signal.signal(signal.SIGTERM, interrupt)
    try:
        _train(job, record, experiment, out, parent)
    except KeyboardInterrupt:
        answer.send("")
    except BaseException as error:  # whatever it is, the parent has to say it
        answer.send(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error


class Workers:
    """At most `count` runs at once; leaving the context ends those that go on, each with a checkpoint."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self.running: dict[Job, tuple[multiprocessing.process.BaseProcess, Connection]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process, _answer in self.running.values():
            process.terminate()
        for process, _answer in self.running.values():
            process.join()

    @property
    def free(self) -> bool:
        return len(self.running) < self._count

    def start(self, job: Job, *arguments: object) -> None:
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(job, *arguments, os.getpid(), there), daemon=True)
        process.start()
        there.close()
        self.running[job] = process, here

    def collect(self) -> list[Job]:
        """Runs that have ended; raises StudyError with what a failed one said."""
        done = [job for job, (process, _) in self.running.items() if not process.is_alive()]
        for job in done:
            process, answer = self.running.pop(job)
            process.join()
            if process.exitcode:
                with contextlib.suppress(EOFError):
                    said = answer.recv() if answer.poll() else f"exit code {process.exitcode}"
                raise StudyError(f"training under '{job.name}', seed {job.seed}: {said}")
        return done


def taken(path: Path) -> int:
    """Lines of a log that may not be there yet."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().count(b"\n")
    return 0


def train_all(plan: Plan, out: Path, records: Mapping[str, Decisions]) -> None:
    """Train every assignment under every seed; what has its log is not trained again."""
    experiment = experiment_of(plan, out)
    experiment.check()
    jobs = jobs_of(plan)
    todo = [job for job in jobs if not job.log(out).exists()]
    for name in dict.fromkeys(job.name for job in todo):
        place = Job(name, 0).log(out).parent
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "package").exists():
            build_package(experiment, records[name], ASSIGNED, place / "package")
    with Workers(plan.jobs) as workers, bar(time_left=True) as display:
        task = display.add_task("training", total=plan.steps * len(jobs), note="")
        display.update(task, advance=plan.steps * (len(jobs) - len(todo)))
        ended = plan.steps * (len(jobs) - len(todo))
        while todo or workers.running:
            while todo and workers.free:
                job = todo.pop(0)
                workers.start(job, records[job.name], experiment, out)
            time.sleep(POLL_SECONDS)
            ended += plan.steps * len(workers.collect())
            steps = {job: taken(job.log(out, part=True)) for job in workers.running}
            note = ", ".join(f"{job.name} seed {job.seed}: step {count}" for job, count in steps.items())
            display.update(task, completed=ended + sum(steps.values()), note=note)
    for name in records:
        shutil.rmtree(Job(name, 0).log(out).parent / "package", ignore_errors=True)


def curves(plan: Plan, out: Path, name: str) -> Iterator[tuple[int, list[Record]]]:
    """Seed and records of each finished run of an assignment."""
    for seed in plan.seeds:
        log = Job(name, seed).log(out)
        if log.exists():
            yield seed, read_log(log)
