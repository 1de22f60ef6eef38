# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Training for mpt.verify with CPU packages, and what `mptc verify` leaves in its directory.

    OUT/verify.json          settings, rounds and result; rewritten after each round
    OUT/runs/KEY/seed-N.jsonl      a finished run: a training record a step
    OUT/runs/KEY/seed-N.part.jsonl, seed-N.part.safetensors      one that was interrupted
    OUT/assigned.mlir, OUT/decisions.json      the assignment to use

A run that is there is never trained again: the same command goes on where it was stopped,
in the middle of a run if need be, and comes to the same bits (with the same engine and threads).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress, TaskID

from mpt import decisions, stages
from mpt.decisions import Decisions, DecisionsError
from mpt.files import staged
from mpt.profile import Data, load_data
from mpt.runtime import Package
from mpt.train import Record, Schedule, read_log, train_package
from mpt.verify import Criteria, Outcome, Round, Run

FORMAT, VERSION = "mpt-verify", 1
CHECKPOINT_EVERY = 100


@dataclass(frozen=True)
class Experiment:
    """What is trained: everything that a loss curve depends on, and the verdict's criteria."""

    graph: Path  # training step, without formats
    data: Path
    steps: int
    seeds: Sequence[int]
    schedule: Schedule
    criteria: Criteria
    engine: str = "blas"
    threads: int = 2
    weights: Path | None = None

    def check(self) -> None:
        """Raise ValueError or FileNotFoundError for what cannot be run."""
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ValueError(f"seeds are {list(self.seeds)}, expected different ones")
        for path in (self.graph, self.data, *([self.weights] if self.weights else [])):
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file")
        self.criteria.check(self.steps)

    def settings(self, record: Decisions) -> dict[str, Any]:
        """As JSON: two experiments with equal settings have equal curves."""
        weights = self.weights or self.graph.with_suffix(".safetensors")
        chosen = [[product.name, product.label] for product in record.products]
        return {
            "graph_hash": record.graph_hash,
            "graph": digest(self.graph),
            "weights": digest(weights) if weights.is_file() else None,
            "data": digest(self.data),
            "assignment": hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:16],
            "steps": self.steps,
            "seeds": list(self.seeds),
            "schedule": asdict(self.schedule),
            "criteria": asdict(self.criteria),
            "engine": self.engine,
            "threads": self.threads,
        }


def digest(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    value = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()[:16]


class Shuffled:
    """Batches in an order that follows from a seed, the same for every assignment."""

    def __init__(self, data: Data, seed: int) -> None:
        self._data = data
        self._order = np.random.default_rng([seed]).permutation(len(data))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._data[int(self._order[index % len(self._order)])]


def pins_for(record: Decisions, promoted: frozenset[str] | None) -> list[str]:
    """Pins that make policy bf16 into the record's assignment with `promoted` in BF16.

    None promotes all (the baseline).
    """
    if promoted is None:
        return []
    kept = [p for p in record.products if p.name not in promoted and p.chosen.pin != "bf16"]
    return decisions.pins_of(kept)


def assign(graph: Path, out: Path, record: Decisions, promoted: frozenset[str] | None, to: Path | None = None) -> None:
    """Write the step with the record's formats, but `promoted` in BF16, to `out`, and the new record to `to`."""
    with contextlib.ExitStack() as stack:
        options = ["policy=bf16", f"alignment={record.alignment}"]
        options += [f"target={record.target}"] if record.target else []
        options += [f"pin={pin}" for pin in pins_for(record, promoted)]
        if to:
            options.append(f"record={stack.enter_context(staged(to))}")
        stages.optimise(graph, out, [f"--assign-precision={' '.join(options)}"])


def build_package(experiment: Experiment, record: Decisions, promoted: frozenset[str] | None, built: Path) -> None:
    """Build the CPU package of the record's assignment, but `promoted` in BF16, as the directory `built`."""
    assigned = built.with_name("assigned.mlir")
    assign(experiment.graph, assigned, record, promoted)
    stages.build(assigned, built, "cpu", experiment.engine)
    for path in (assigned, assigned.with_suffix(".safetensors")):
        path.unlink(missing_ok=True)


def key_of(run: Run) -> str:
    """A directory's name for the assignment of a run."""
    if run.promoted is None:
        return "baseline"
    if not run.promoted:
        return "assigned"
    names = "\n".join(sorted(run.promoted))
    return f"promoted-{len(run.promoted)}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


class PackageTrainer:
    """A mpt.verify.Trainer that builds a CPU package for each assignment and trains it."""

    def __init__(
        self, out: Path, record: Decisions, experiment: Experiment, display: Progress, keep: bool = False
    ) -> None:
        """keep: packages stay where they are when they are not needed any more."""
        self._out, self._record, self._experiment, self._display = out, record, experiment, display
        self._keep = keep
        self._package: Package | None = None
        self._key = ""
        self._data: Data | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> PackageTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def __call__(self, run: Run, stop: Callable[[Sequence[float]], bool]) -> list[float]:
        """Return the losses of a run: from its log if it is finished, else by training."""
        key = key_of(run)
        task = self._task(run, key)
        place = self._out / "runs" / key
        log = place / f"seed-{run.seed}.jsonl"
        steps = self._experiment.steps
        if log.exists():
            records = read_log(log)
            self._display.update(task, advance=steps, note=f"seed {run.seed} from its log")
        else:
            place.mkdir(parents=True, exist_ok=True)
            records = self._train(run, place, stop, task)
            self._display.update(task, advance=steps - len(records))
        return [record.loss for record in records]

    def _task(self, run: Run, key: str) -> TaskID:
        """The progress bar of an assignment, all seeds together."""
        if key not in self._tasks:
            count = 0 if run.promoted is None else len(run.promoted)
            title = "BF16" if run.promoted is None else f"{count} product{'s' * (count > 1)} promoted" if count else "as assigned"
            total = self._experiment.steps * len(self._experiment.seeds)
            self._tasks[key] = self._display.add_task(title, total=total, note="")
        return self._tasks[key]

    def _train(self, run: Run, place: Path, stop: Callable[[Sequence[float]], bool], task: TaskID) -> list[Record]:
        """Train to the end or until `stop`, from a checkpoint if there is one; leaves the log."""
        package = self._open(run, task)
        experiment = self._experiment
        part, checkpoint = (place / f"seed-{run.seed}.part.{end}" for end in ("jsonl", "safetensors"))
        records = self._resume(package, part, checkpoint)
        self._display.update(task, advance=len(records), note=f"seed {run.seed}")
        assert self._data is not None
        batches = Shuffled(self._data, run.seed)
        todo = experiment.steps - len(records)
        taken = train_package(package, batches, todo, experiment.schedule, len(records), run.seed)
        with open(part, "w") as log:
            for record in records:
                _write(log, record)
            try:
                for record in taken if not (records and stop([r.loss for r in records])) else ():
                    records.append(record)
                    _write(log, record)
                    self._display.update(task, advance=1, note=f"seed {run.seed}: loss {record.loss:.4f}")
                    if stop([entry.loss for entry in records]):
                        break
                    if len(records) % CHECKPOINT_EVERY == 0 and len(records) < experiment.steps:
                        package.save(str(checkpoint))
            except BaseException:
                # A step may have been taken whose record was lost: then the last checkpoint counts.
                if records and package.step_number == len(records):
                    package.save(str(checkpoint))
                raise
        os.replace(part, place / f"seed-{run.seed}.jsonl")
        checkpoint.unlink(missing_ok=True)
        return records

    def _resume(self, package: Package, part: Path, checkpoint: Path) -> list[Record]:
        """The records up to the checkpoint, with the package's state there; else none, from the start."""
        if not (part.exists() and checkpoint.exists()):
            return []
        lines = part.read_text().splitlines(keepends=True)
        part.write_text("".join(line for line in lines if line.endswith("\n")))  # not one that was cut
        records = read_log(part)
        package.load(str(checkpoint))
        done = package.step_number
        if done <= len(records):
            return records[:done]
        raise ValueError(f"{checkpoint} is at step {done}, {part} has {len(records)}: remove both")

    def _open(self, run: Run, task: TaskID) -> Package:
        """The package of a run's assignment, in its first state."""
        key = key_of(run)
        built = self._out / "runs" / key / "package"
        if self._key != key:
            self._leave()
        self._close()
        self._key = key
        if not built.exists():
            self._display.update(task, note="building")
            build_package(self._experiment, self._record, run.promoted, built)
        self._package = Package(str(built), threads=self._experiment.threads)
        if self._package.graph_hash != self._record.graph_hash:
            raise DecisionsError(
                f"the decisions are of graph {self._record.graph_hash}, "
                f"{self._experiment.graph} is {self._package.graph_hash}"
            )
        if self._experiment.weights:
            self._package.load_parameters(str(self._experiment.weights))
        if self._data is None:
            self._data = load_data(self._experiment.data, self._package)
        return self._package

    def _close(self) -> None:
        if self._package is not None:
            self._package.close()
            self._package = None

    def _leave(self) -> None:
        """Remove the package that is no longer needed: it can be built again."""
        self._close()
        if self._key and not self._keep:
            shutil.rmtree(self._out / "runs" / self._key / "package", ignore_errors=True)
        self._key = ""


def _write(log: Any, record: Record) -> None:
    log.write(json.dumps(asdict(record)) + "\n")
    log.flush()


def described(entry: Round) -> dict[str, Any]:
    """A round as JSON; numbers that are not there are null."""
    judgement = asdict(entry.judgement)
    judgement["verdict"] = entry.judgement.verdict.value
    return {"promoted": entry.promoted, "share": entry.share, **judgement}


class StateFile:
    """OUT/verify.json: refuses to go on with an experiment that has other settings."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        if path.exists():
            self._compare()
        else:
            self.write([])

    def _compare(self) -> None:
        try:
            content = json.loads(self._path.read_text())
            found = content["settings"]
            if (content["format"], content["version"]) != (FORMAT, VERSION):
                raise ValueError(f"expected {FORMAT} version {VERSION}")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path}: not a state of mptc verify: {error}") from error
        for name, value in self._settings.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{self._path} is of another experiment: {name} is {found.get(name)}, now {value}; "
                    "use another directory"
                )

    def write(self, rounds: Sequence[Round], outcome: Outcome | None = None) -> None:
        """Write all rounds so far, and the result when there is one."""
        content = {"format": FORMAT, "version": VERSION, "settings": self._settings}
        content["rounds"] = [described(entry) for entry in rounds]
        if outcome is not None:
            kept = None if outcome.kept is None else outcome.rounds.index(outcome.kept)
            content["result"] = {"kept": kept, "text": outcome.text}
        with staged(self._path) as inner:
            inner.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a second mptc verify out of the same directory."""
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"{out}: another mptc verify is running there") from error
        yield


def run(record: Decisions, experiment: Experiment, out: Path, rounds: int, display: Progress) -> Outcome:
    """Do the whole experiment in the directory `out`; see the module's description for what it leaves."""
    from mpt.verify import verify

    experiment.check()
    with locked(out):
        state = StateFile(out / "verify.json", experiment.settings(record))
        with PackageTrainer(out, record, experiment, display) as trainer:
            outcome = verify(record, trainer, experiment.seeds, experiment.criteria, rounds, state.write)
        if outcome.kept is not None:
            promoted = frozenset(outcome.kept.promoted)
            assign(experiment.graph, out / "assigned.mlir", record, promoted, out / "decisions.json")
        state.write(outcome.rounds, outcome)
    return outcome
