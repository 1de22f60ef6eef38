# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mptc: the command line over the compiler's tools and the training loop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mpt import __version__, cli_explain, stages
from mpt.console import console, fail
from mpt.files import staged


def run_import(args: argparse.Namespace) -> None:
    """ONNX file to forward graph."""
    stages.import_model(args.model, args.output, args.loss, dict(args.bind))
    console.print(f"wrote {args.output}")


def run_differentiate(args: argparse.Namespace) -> None:
    """Forward graph to training step."""
    stages.differentiate(args.graph, args.output, args.weight_decay)
    console.print(f"wrote {args.output}")


def run_assign(args: argparse.Namespace) -> None:
    """Attach metrics, if given, and choose a format for every product."""
    with cli_explain.pricing(args) as price:
        settings = cli_explain.settings_of(args) | price
        stages.assign(args.graph, args.output, args.policy, args.pin, args.metrics, args.record, settings)
    console.print(f"wrote {args.output}")


def run_build(args: argparse.Namespace) -> None:
    """Training step to package."""
    missing = stages.build(args.step, args.output, args.target, args.engine, nvcc=True)
    console.print(f"wrote {args.output}" + (f"; its sources are not compiled: {missing}" if missing else ""))


def run_audit(args: argparse.Namespace) -> None:
    """Prove in machine code that a CUDA package's products run in their formats."""
    import json

    from mpt import audit
    from mpt.cli_explain import show

    report = audit.audit(args.package)
    if args.json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        show(audit.text(report))
    if report.problems:
        raise audit.AuditError(f"{args.package}: {'; '.join(report.problems)}")


def run_train(args: argparse.Namespace) -> None:
    """Take steps with a CPU package."""
    from mpt.data import load_batches
    from mpt.runtime import Package
    from mpt.train import Schedule, follow, open_log, train_package

    batches = load_batches(args.data)
    package = Package(str(args.package), threads=args.threads)
    try:
        if args.resume:
            package.load(str(args.resume))
        first = package.step_number
        schedule = Schedule(args.lr, args.warmup)
        records = train_package(package, batches, args.steps, schedule, first, args.seed)
        with open_log(args.log, append=bool(args.resume)) as log:
            taken = follow(records, args.steps, f"train {args.package.name}", log)
        if args.checkpoint:
            with staged(args.checkpoint) as inner:
                package.save(str(inner))
    finally:
        package.close()
    console.print(f"step {taken[-1].step + 1}: loss {taken[-1].loss:.6f}, log {args.log}")


def run_profile(args: argparse.Namespace) -> None:
    """Train in FP32 and measure every product at some steps."""
    from mpt import metrics
    from mpt.profile import Plan, Probes, Sampling, load_data, opened, profile
    from mpt.train import Schedule

    size = (0, 0) if args.exact else (args.rows, args.columns)
    sampling = Sampling(*size, args.seed, args.candidates)
    schedule = Schedule(args.lr, args.warmup)
    probes = Probes(args.probes, args.probe_candidates) if args.probe_candidates is not None else Probes(args.probes)
    plan = Plan(args.batches, args.at_steps, schedule, sampling, args.seed, args.nonfinite == "stop", probes)
    with opened(args.source, args.output, args.threads) as package:
        if args.weights:
            package.load_parameters(str(args.weights))
        if args.resume:
            package.load(str(args.resume))
        done = profile(package, load_data(args.data, package), args.output, plan)
    for sentence in metrics.nonfinite(metrics.load(args.output)):
        fail(f"warning: {sentence}")
    console.print(f"wrote {args.output}: {done} batches measured")


def print_table(table: object) -> None:
    """Print to the terminal, or 160 columns wide to a file."""
    from rich.console import Console

    (console if console.is_terminal else Console(width=160)).print(table)


def run_metrics_show(args: argparse.Namespace) -> None:
    """A table of a metrics file, by product."""
    from mpt import metrics, metrics_show

    found = metrics.load(args.metrics)
    print_table(metrics_show.table(found, args.pattern, args.step))
    probes = metrics_show.probe_table(found, args.step)
    if probes and not args.pattern:
        print_table(probes)


def run_metrics_diff(args: argparse.Namespace) -> None:
    """What differs most between two metrics files of a graph, or two points of one."""
    from mpt import metrics, metrics_show

    first = metrics.load(args.first)
    second = metrics.load(args.second) if args.second else first
    at = args.at_steps or [None, None]
    if len(at) != 2 or (not args.second and not args.at_steps):
        raise ValueError("expected two files, or one and --at-steps with two steps")
    found = metrics_show.differences(first, second, at, args.pattern)
    print_table(metrics_show.difference_table(found, args.limit))


def run_study_student_t(args: argparse.Namespace) -> None:
    """Backward error of 8-bit products against the weight of their operands' tails."""
    from mpt.study import student_t

    nus = student_t.parse_nus(args.nu) if args.nu else student_t.NUS
    student_t.run(args.output, student_t.Sweep(nus, args.size, args.draws, args.seed, args.threads))


def run_study_model(args: argparse.Namespace) -> None:
    """Which products of a real BERT tolerate which format: figures and tables."""
    from mpt.study import model

    if args.case:
        model.run(args.case, args.output, args.batches, args.corpus)
    else:
        model.report_files(args.metrics, args.output)


def run_study_assignments(args: argparse.Namespace) -> None:
    """Train one model under many assignments: do metrics foretell which of them train?"""
    from mpt.study import assignments, model

    plan = assignments.Plan(
        model.CASES["demo"], steps=args.steps, seeds=range(args.seeds), batches=args.batches, jobs=args.jobs,
        threads=args.threads, corpus=args.corpus,
    )  # fmt: skip
    try:
        assignments.run(plan, args.output)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {args.output}")
        raise


def run_study_ranking(args: argparse.Namespace) -> None:
    """Do metrics rank assignments by the damage that they do to loss and gradient?"""
    from mpt.study import assignments, model, ranking

    plan = assignments.Plan(model.CASES["demo"], batches=args.batches, spare=args.measured, threads=args.threads, jobs=1,
                            corpus=args.corpus)  # fmt: skip
    ranking.run(ranking.Ranking(plan), args.output)


def run_export_weights(args: argparse.Namespace) -> None:
    """Parameters of a package or checkpoint, under the model's own names."""
    from safetensors.numpy import save_file

    from mpt.runtime import Package

    package = Package(str(args.package), threads=1)
    try:
        if args.checkpoint:
            package.load(str(args.checkpoint))
        parameters = package.parameters()
    finally:
        package.close()
    with staged(args.output) as inner:
        save_file(parameters, inner, metadata={"format": "pt"})
    console.print(f"wrote {args.output}: {len(parameters)} parameters")


def run_export(args: argparse.Namespace) -> None:
    """A transformers masked-LM model to a trainable ONNX file."""
    import numpy as np
    from transformers import AutoModelForMaskedLM

    from mpt.data import load_batches
    from mpt.export import export

    model = AutoModelForMaskedLM.from_pretrained(args.model, attn_implementation="eager", local_files_only=True)
    if args.data:
        batch = load_batches(args.data)[0]
    else:
        ones = np.ones((args.batch, args.seq), np.int64)
        batch = {"input_ids": ones, "attention_mask": ones, "token_type_ids": 0 * ones, "labels": ones}
    export(model, batch, args.output, train=not args.eval, dynamic=args.dynamic or None)
    console.print(f"wrote {args.output}")


def run_data(args: argparse.Namespace) -> None:
    """Text files to batches."""
    from mpt import data

    texts = data.read_corpus(args.corpus, args.pattern)
    if args.tokenizer.exists():
        tokenizer = data.load_tokenizer(args.tokenizer)
    else:
        tokenizer = data.train_tokenizer(texts, args.vocab)
        with staged(args.tokenizer) as inner:
            tokenizer.save(str(inner))
    batches = data.make_batches(tokenizer, texts, args.batch, args.seq, args.count, args.seed)
    data.save_batches(batches, args.output)
    console.print(f"wrote {args.output}: {len(batches)} batches of {args.batch}x{args.seq}")


def run_demo(args: argparse.Namespace) -> None:
    """A small BERT on real text, from PyTorch to mixed-precision training."""
    from mpt import demo

    demo.run(args.out, args.steps, corpus=args.corpus)


def axis_size(text: str) -> tuple[str, int]:
    """Parse `name=size` of --bind."""
    name, equals, size = text.partition("=")
    if not equals or not name or not size.isdigit() or int(size) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': expected name=size with a size of at least 1")
    return name, int(size)


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': expected a number of at least 1")
    return int(text)


def steps(text: str) -> list[int]:
    """Parse ascending step numbers: `0,100,300`."""
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.isdigit()]
    if len(numbers) != len(parts) or numbers != sorted(set(numbers)):
        raise argparse.ArgumentTypeError(f"'{text}': expected ascending step numbers such as 0,100")
    return numbers


def two_steps(text: str) -> list[int]:
    """Parse the steps of two points: `0,300`."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}': expected two steps such as 0,300")
    return [int(part) for part in parts]


def add_compiler_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the stages from ONNX file to package."""
    parser = command("import", run_import)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="GRAPH.mlir")
    parser.add_argument("--loss", action="store_true", help="add the masked-LM loss to a graph of logits")
    parser.add_argument("--bind", type=axis_size, action="append", default=[], metavar="AXIS=SIZE")

    parser = command("differentiate", run_differentiate)
    parser.add_argument("graph", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="STEP.mlir")
    parser.add_argument("--weight-decay", type=float)

    parser = command("assign", run_assign)
    parser.add_argument("graph", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="ASSIGNED.mlir")
    parser.add_argument("--metrics", type=Path, help="metrics.json to attach first")
    parser.add_argument("--policy", default="threshold", choices=stages.POLICIES)
    parser.add_argument("--pin", action="append", default=[], metavar="PATTERN=FORMAT")
    parser.add_argument("--record", type=Path, metavar="DECISIONS.json")
    cli_explain.add_settings(parser)
    cli_explain.add_pricing(parser)

    parser = command("build", run_build)
    parser.add_argument("step", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PACKAGE")
    parser.add_argument("--target", default="cpu", choices=stages.TARGETS)
    parser.add_argument("--engine", default="blas", choices=stages.ENGINES)

    parser = command("audit", run_audit)
    parser.add_argument("package", type=Path)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def add_training_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add what runs a package or handles its weights."""
    parser = command("train", run_train)
    parser.add_argument("package", type=Path)
    parser.add_argument("--data", type=Path, required=True, metavar="BATCHES.safetensors")
    parser.add_argument("--steps", type=positive, required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=0, metavar="STEPS")
    parser.add_argument("--seed", type=int, default=0, help="of dropout")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--checkpoint", type=Path, help="write the state after the last step")
    parser.add_argument("--log", type=Path, default=Path("losses.jsonl"))

    parser = command("export-weights", run_export_weights)
    parser.add_argument("package", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.safetensors")


def add_metrics_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add what measures, and what looks at measurements."""
    parser = command("profile", run_profile)
    parser.add_argument("source", type=Path, metavar="GRAPH.mlir|PACKAGE", help="forward graph, step, or its FP32 package")
    parser.add_argument("--data", type=Path, required=True, metavar="BATCHES.safetensors")
    parser.add_argument("--batches", type=positive, default=4, help="measured at each point, at the same parameters")
    parser.add_argument("--at-steps", type=steps, default=[0], metavar="STEP,STEP,...")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="METRICS.json")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=0, metavar="STEPS")
    parser.add_argument("--seed", type=int, default=0, help="of dropout and of the sample")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--rows", type=positive, default=256, help="of each product's result in the sample")
    parser.add_argument("--columns", type=positive, default=256)
    parser.add_argument("--exact", action="store_true", help="all elements instead of a sample")
    parser.add_argument("--candidates", metavar="LHS*RHS,...", help="such as bf16*bf16,f8E4M3FN*f8E5M2; default: by role")
    parser.add_argument("--probes", choices=["none", "role", "layer"], default="role", help="round groups of products")
    parser.add_argument("--probe-candidates", metavar="OTHER*GRADIENT,...", help="the second format is the gradient's")
    parser.add_argument("--nonfinite", choices=["stop", "go-on"], default="stop", help="on NaN or infinity in a tensor")
    parser.add_argument("--weights", type=Path, metavar="MODEL.safetensors", help="instead of the package's own")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT")

    parser = command("metrics show", run_metrics_show)
    parser.add_argument("metrics", type=Path, metavar="METRICS.json")
    parser.add_argument("pattern", nargs="?", help="part of a product's name, or with wildcards")
    parser.add_argument("--step", type=int, help="point of training; default: each product's worst")

    parser = command("metrics diff", run_metrics_diff)
    parser.add_argument("first", type=Path, metavar="METRICS.json")
    parser.add_argument("second", type=Path, nargs="?", metavar="OTHER.json")
    parser.add_argument("--at-steps", type=two_steps, metavar="STEP,STEP", help="of either file; default: the worst points")
    parser.add_argument("--pattern", help="part of a product's name, or with wildcards")
    parser.add_argument("--limit", type=positive, default=40, help="rows")


def add_study_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the studies."""
    parser = command("study student-t", run_study_student_t)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--nu", metavar="NU,NU,...", help="degrees of freedom; inf is normal")
    parser.add_argument("--size", type=positive, default=512, help="of the square matrices")
    parser.add_argument("--draws", type=positive, default=8, help="pairs of matrices for each nu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive, default=2)

    parser = command("study model", run_study_model)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("metrics", type=Path, nargs="*", default=[], help="profiles of one graph, to draw")
    source.add_argument("--case", choices=["demo", "minilm"], help="prepare, train and profile this model first")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--batches", type=positive, default=8, help="measured at each point (--case)")
    parser.add_argument("--corpus", type=Path, default=Path("/usr/share/doc/python3.11/html/_sources"))

    parser = command("study assignments", run_study_assignments)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="state, logs and result")
    parser.add_argument("--steps", type=positive, default=1000)
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="of data order")
    parser.add_argument("--batches", type=positive, default=8, help="measured at each point")
    parser.add_argument("--jobs", type=positive, default=2, help="runs side by side")
    parser.add_argument("--threads", type=positive, default=1, help="of each run")
    parser.add_argument("--corpus", type=Path, default=Path("/usr/share/doc/python3.11/html/_sources"))

    parser = command("study ranking", run_study_ranking)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="that of mptc study assignments, or another")
    parser.add_argument("--batches", type=positive, default=8, help="profiled at each checkpoint")
    parser.add_argument("--measured", type=positive, default=64, metavar="BATCHES", help="for the damage, at each checkpoint")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--corpus", type=Path, default=Path("/usr/share/doc/python3.11/html/_sources"))


def add_preparation_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add what makes models and batches."""
    parser = command("export", run_export)
    parser.add_argument("model", help="directory written by save_pretrained")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.onnx")
    parser.add_argument("--data", type=Path, help="batches whose shape to use; else --batch and --seq")
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--seq", type=positive, default=128)
    parser.add_argument("--eval", action="store_true", help="leave dropout out")
    parser.add_argument("--dynamic", action="store_true", help="name the axes batch and seq")

    parser = command("demo", run_demo)
    parser.add_argument("--out", type=Path, default=Path("build") / "demo")
    parser.add_argument("--steps", type=positive, default=150)
    parser.add_argument("--corpus", type=Path, default=Path("/usr/share/doc/python3.11/html/_sources"))

    parser = command("data", run_data)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BATCHES.safetensors")
    parser.add_argument("--corpus", type=Path, default=Path("/usr/share/doc/python3.11/html/_sources"))
    parser.add_argument("--pattern", default="*.rst.txt")
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer.json"), help="read, or trained and written")
    parser.add_argument("--vocab", type=positive, default=4096)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--seq", type=positive, default=128)
    parser.add_argument("--count", type=positive, help="batches; default: one pass over the corpus")
    parser.add_argument("--seed", type=int, default=0)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="mptc", description="Compile and run mixed-precision training steps.")
    parser.add_argument("--version", action="version", version=f"mptc {__version__}")
    # "metrics show" is the command `show` of the group `metrics`.
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}

    def command(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        group, _, verb = name.rpartition(" ")
        if group and group not in groups:
            parent = groups[""].add_parser(group, help=run.__doc__)
            groups[group] = parent.add_subparsers(required=True, metavar="COMMAND")
        sub = groups[group].add_parser(verb, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    add_compiler_commands(command)
    add_metrics_commands(command)
    add_study_commands(command)
    add_training_commands(command)
    add_preparation_commands(command)
    cli_explain.add_commands(command, positive)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 1, with the reason on stderr, when it fails."""
    args = make_parser().parse_args(arguments)
    try:
        args.run(args)
    except stages.StageError as error:
        fail(str(error))
        return 1
    except (OSError, ValueError, RuntimeError) as error:
        fail(f"mptc: error: {error}")
        return 1
    except KeyboardInterrupt:
        fail("mptc: interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
