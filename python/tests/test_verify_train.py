# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mptc verify on a tiny BERT: real packages, interrupted and resumed."""

from __future__ import annotations

import json
import signal
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from mpt import decisions, explain, stages, verify_train
from mpt.console import bar
from mpt.decisions import DecisionsError
from mpt.train import Schedule, read_log
from mpt.verify import Criteria, Run, Verdict, verify

STEPS, SEEDS = 12, (0, 1)
CRITERIA = Criteria(margin=0.05, window=4, excess=0.2, patience=4)


@pytest.fixture(scope="module")
def tiny(store, tmp_path_factory):
    """A directory with step.mlir, batches.safetensors and decisions.json (policy uniform)."""
    import models

    try:
        stages.find_tool("mpt-opt")
    except stages.StageError as error:
        pytest.skip(str(error))
    place = tmp_path_factory.mktemp("tiny")
    stages.import_model(store.path("tinyA"), place / "forward.mlir")
    stages.differentiate(place / "forward.mlir", place / "step.mlir")
    batches = [models.make_batch(models.SHAPES["tinyA"], seed) for seed in range(5)]
    save_file({name: np.stack([batch[name].numpy() for batch in batches]) for name in batches[0]},
              place / "batches.safetensors")  # fmt: skip
    stages.assign(place / "step.mlir", place / "uniform.mlir", "uniform", record=place / "decisions.json")
    return place


def experiment(place, **changes):
    values = dict(graph=place / "step.mlir", data=place / "batches.safetensors", steps=STEPS, seeds=SEEDS,
                  schedule=Schedule(1e-3), criteria=CRITERIA, threads=1)  # fmt: skip
    return verify_train.Experiment(**values | changes)


def run(place, out, record=None, rounds=6, **changes):
    record = record or decisions.load(place / "decisions.json")
    with bar() as display:
        return verify_train.run(record, experiment(place, **changes), out, rounds, display)


def curves(out):
    logs = sorted(out.glob("runs/*/seed-?.jsonl"))
    return {str(log.relative_to(out)): [record.loss for record in read_log(log)] for log in logs}


@pytest.fixture(scope="module")
def whole(tiny):
    """A run that was never interrupted."""
    return run(tiny, tiny / "whole"), tiny / "whole"


def test_uniform_trains_a_tiny_bert_as_bf16_does(tiny, whole):
    outcome, out = whole
    assert len(outcome.rounds) == 1 and outcome.kept.judgement.verdict is Verdict.EQUIVALENT
    found = curves(out)
    assert sorted(found) == [f"runs/{key}/seed-{n}.jsonl" for key in ("assigned", "baseline") for n in SEEDS]
    assert all(len(losses) == STEPS for losses in found.values())
    # Different numbers, seeds with different batches, and training that trains.
    assert len({tuple(losses) for losses in found.values()}) == 4
    assert all(np.mean(losses[-4:]) < np.mean(losses[:4]) for losses in found.values())
    state = json.loads((out / "verify.json").read_text())
    assert state["result"]["kept"] == 0 and state["rounds"][0]["verdict"] == Verdict.EQUIVALENT.value
    assert state["settings"]["engine"] == "blas" and state["settings"]["seeds"] == [0, 1]
    assert not list(out.glob("runs/*/package")) and not list(out.glob("**/*part*"))


def test_pins_make_the_same_assignment(tiny, whole):
    _, out = whole
    assert (out / "assigned.mlir").read_text() == (tiny / "uniform.mlir").read_text()
    record = decisions.load(tiny / "decisions.json")
    assert explain.changes(record, decisions.load(out / "decisions.json")) == []


def test_formats_in_full_make_the_same_assignment(tiny, tmp_path):
    pins = ["*/dgrad*=i8[stochastic]/i8", "*/wgrad=i8[per_vector]", "*query=f8E5M2[fixed=0.1]/f8E4M3FN[delayed=16,margin=1]"]
    words = ["policy=bf16", "target=cpu-emulated", f"record={tmp_path / 'decisions.json'}", *(f"pin={pin}" for pin in pins)]
    stages.optimise(tiny / "step.mlir", tmp_path / "pinned.mlir", [f"--assign-precision={' '.join(words)}"])
    record = decisions.load(tmp_path / "decisions.json")
    verify_train.assign(tiny / "step.mlir", tmp_path / "again.mlir", record, frozenset())
    text = (tmp_path / "pinned.mlir").read_text()
    assert text == (tmp_path / "again.mlir").read_text()
    assert all(part in text for part in ("scale = per_column", "history = 16, margin = 1", "value = 1.000000e-01"))


class Interrupting(verify_train.Shuffled):
    """Ctrl-C when the second seed asks for its eighth batch."""

    def __getitem__(self, index):
        if index == 7 and self.seed == 1:
            raise KeyboardInterrupt
        return super().__getitem__(index)

    def __init__(self, data, seed):
        super().__init__(data, seed)
        self.seed = seed


class Pressed(Interrupting):
    """Ctrl-C as the terminal sends it, in the middle of that step."""

    def __getitem__(self, index):
        if index == 7 and self.seed == 1:
            signal.raise_signal(signal.SIGINT)
        return super(Interrupting, self).__getitem__(index)


@pytest.fixture
def heard():
    """Ctrl-C as in a terminal, also where these tests run with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_ctrl_c_waits_for_the_step(heard, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(verify_train, "Shuffled", Pressed)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "out")
    place = tmp_path / "out" / "runs" / "baseline"
    assert len((place / "seed-1.part.jsonl").read_text().splitlines()) == 8  # the step that it fell into is kept
    assert (place / "seed-1.part.safetensors").exists()
    with pytest.raises(KeyboardInterrupt), verify_train.patient():  # a second one does not wait
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_goes_on_to_the_same_bits(tiny, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(verify_train, "Shuffled", Interrupting)
        run(tiny, tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out" / "runs" / "baseline").iterdir())
    assert left == ["seed-0.jsonl", "seed-1.part.jsonl", "seed-1.part.safetensors"]
    with open(tmp_path / "out" / "runs" / "baseline" / "seed-1.part.jsonl", "a") as log:
        log.write('{"step": 7, "lo')  # as a crash leaves it
    taken = []
    plain = verify_train.train_package

    def counted(*arguments):
        for record in plain(*arguments):
            taken.append(record.step)
            yield record

    monkeypatch.setattr(verify_train, "train_package", counted)
    outcome = run(tiny, tmp_path / "out")
    assert taken == [*range(7, 12), *range(12), *range(12)]
    expected, out = whole
    assert curves(tmp_path / "out") == curves(out) and outcome == expected
    taken.clear()
    assert run(tiny, tmp_path / "out") == expected and taken == []


def test_promoted_products_are_bf16(tiny, tmp_path):
    record = decisions.load(tiny / "decisions.json")
    low = [product.name for product in record.products if product.chosen.low]
    verify_train.assign(tiny / "step.mlir", tmp_path / "a.mlir", record, frozenset(low[:3]), tmp_path / "a.json")
    changes = explain.changes(record, decisions.load(tmp_path / "a.json"))
    assert [change.after.name for change in changes] == low[:3]
    assert {change.after.label for change in changes} == {"BF16 x BF16"}


def test_damage_is_found_and_promoted_away(tiny, tmp_path):
    """Real packages, but a curve is spoilt as long as one product is in 8 bits."""
    record = decisions.load(tiny / "decisions.json")
    low = [product.name for product in record.products if product.chosen.low]
    with bar() as display, verify_train.PackageTrainer(tmp_path, record, experiment(tiny), display) as trainer:

        def spoilt(run: Run, stop):
            bad = run.promoted is not None and low[0] not in run.promoted
            losses = trainer(run, stop)
            return [*losses[:5], float("nan")] if bad else losses

        outcome = verify(record, spoilt, SEEDS, CRITERIA, 6)
    assert outcome.rounds[0].judgement.verdict is Verdict.DIVERGED
    assert outcome.kept and low[0] in outcome.kept.promoted and len(outcome.rounds) <= 6


def test_other_settings_need_another_directory(tiny, whole):
    _, out = whole
    with pytest.raises(ValueError, match="another experiment: steps is 12, now 13; use another directory"):
        run(tiny, out, steps=13)
    with pytest.raises(ValueError, match=re.escape("seeds is [0, 1], now [0, 1, 2]")):
        run(tiny, out, seeds=(0, 1, 2))


def test_bad_input(tiny, tmp_path):
    with pytest.raises(ValueError, match=re.escape("seeds are [1, 1], expected different ones")):
        run(tiny, tmp_path / "a", seeds=(1, 1))
    with pytest.raises(FileNotFoundError, match="none.safetensors: no such file"):
        run(tiny, tmp_path / "a", data=tiny / "none.safetensors")
    with pytest.raises(ValueError, match="patience is 4 steps, expected 1 to 3"):
        run(tiny, tmp_path / "a", steps=3, criteria=Criteria(window=1, patience=4))
    content = json.loads((tiny / "decisions.json").read_text())
    content["graph_hash"] = "0"
    other = decisions.parse(content)
    with pytest.raises(DecisionsError, match="the decisions are of graph 0, .*step.mlir is "):
        run(tiny, tmp_path / "b", other)
    assert not (tmp_path / "a").exists()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "verify.json").write_text("[]")
    with pytest.raises(ValueError, match="verify.json: not a state of mptc verify"):
        run(tiny, tmp_path / "d")


def test_two_at_once_are_refused(tiny, tmp_path):
    with verify_train.locked(tmp_path / "out"), pytest.raises(RuntimeError, match="another mptc verify is running"):
        run(tiny, tmp_path / "out")


def test_the_command(mptc, tiny, tmp_path):
    done = mptc("verify", tiny / "step.mlir", "--data", tiny / "batches.safetensors", "-o", tmp_path / "out",
                "--policy", "uniform", "--pin", "*layer.0*=bf16", "--steps", 6, "--seeds", 2, "--margin", 0.5,
                "--threads", 1, "--lr", "1e-3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "equivalent within the stated margin" in done.stdout
    assert "2 paired seeds of 6 steps, engine blas" in done.stdout and "margin 50 %" in done.stdout
    products = decisions.load(tmp_path / "out" / "decisions.json").products
    assert all(product.label == "BF16 x BF16" for product in products if product.layer == 0)
    assert any(product.chosen.low for product in products if product.layer == 1)
    done = mptc("verify", tiny / "step.mlir", "--data", tiny / "batches.safetensors", "-o", tmp_path / "x",
                "--policy", "bf16", "--steps", 6)  # fmt: skip
    assert done.returncode == 1 and "no product in 8 bits" in done.stderr
    done = mptc("verify", tiny / "step.mlir", "--data", tiny / "batches.safetensors", "-o", tmp_path / "x",
                "--record", tiny / "decisions.json", "--pin", "*=bf16")  # fmt: skip
    assert done.returncode == 1 and "is the assignment: expected no --pin beside it" in done.stderr
    assert not (tmp_path / "x").exists()
