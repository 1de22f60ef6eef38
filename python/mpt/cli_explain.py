# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Commands of mptc that look at assignments: explain, diff, what-if, report, verify."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mpt import stages
from mpt.console import console


def show(parts: Iterable[object]) -> None:
    """Print sentences and tables to the terminal, or 160 columns wide to a file."""
    from rich.console import Console

    target = console if console.is_terminal else Console(width=160)
    for part in parts:
        if isinstance(part, str):
            target.print(part, markup=False, highlight=False, soft_wrap=True)
        else:
            target.print(part)


def run_explain(args: argparse.Namespace) -> None:
    """Say what was chosen for a product, why, and what the alternatives are; or sum it all up."""
    from mpt import decisions, explain

    record = decisions.load(args.decisions)
    show(explain.details(record, args.pattern) if args.pattern else explain.summary(record))


def run_diff(args: argparse.Namespace) -> None:
    """What changed between two decision records of one graph, and why."""
    from mpt import decisions, explain

    first, second = decisions.load(args.first), decisions.load(args.second)
    show(explain.comparison(first, second, (args.first.name, args.second.name), args.limit))


def run_what_if(args: argparse.Namespace) -> None:
    """Assign precision as it is and with a change: time, bytes and error before and after."""
    from mpt import decisions, explain

    change: dict[str, object] = settings_of(args) | dict(args.set)
    if not (args.policy or args.pin or change):
        raise ValueError("what-if: nothing to change, expected --policy, --pin, a target, a bound or --set")
    policy, pins, options = "threshold", [], {}
    if args.record:
        base = decisions.load(args.record)
        policy, pins, options = base.policy, base.pins, explain.options_of(base)
    with pricing(args) as price:
        options |= dict(args.option) | price
        if args.record:
            explain.check_times(base, options)
        before = explain.assignment(args.graph, policy, pins, args.metrics, options)
        pins = [*pins, *args.pin]
        if args.policy and args.policy != "threshold":
            options.pop("where-it-pays", None)
        after = explain.assignment(args.graph, args.policy or policy, pins, args.metrics, options | change)
    show(explain.comparison(before, after, limit=args.limit))


def run_report(args: argparse.Namespace) -> None:
    """An assignment as one HTML file: summary, heat map, table, a section for each product."""
    from mpt import decisions, metrics, report

    record = decisions.load(args.decisions)
    measured = metrics.load(args.metrics) if args.metrics else None
    size = report.write(record, measured, args.output, args.title or f"Precision of {args.decisions.name}")
    console.print(f"wrote {args.output}: {len(record.products)} products, {size / 1e6:.1f} MB")


def run_verify(args: argparse.Namespace) -> None:
    """Train an assignment against BF16 with paired seeds: diverged, equivalent, or not decided."""
    from mpt import decisions, explain, verify, verify_train
    from mpt.console import bar
    from mpt.train import Schedule

    if args.record:
        record = decisions.load(args.record)
    else:
        with pricing(args) as price:
            record = explain.assignment(args.graph, args.policy, args.pin, args.metrics, settings_of(args) | price)
    window = args.window or max(1, min(50, args.steps // 5))
    patience = args.patience or max(1, min(50, args.steps // 10))
    criteria = verify.Criteria(args.margin, window, args.excess, patience)
    schedule = Schedule(args.lr, args.warmup)
    experiment = verify_train.Experiment(args.graph, args.data, args.steps, range(args.seeds), schedule, criteria,
                                         args.engine, args.threads, args.weights)  # fmt: skip
    try:
        with bar() as display:
            outcome = verify_train.run(record, experiment, args.output, args.rounds, display)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {args.output}")
        raise
    show([round_table(outcome.rounds), statement(experiment, outcome)])
    if outcome.kept is None:
        raise RuntimeError("no assignment was found that trains as BF16 does")
    console.print(f"wrote {args.output / 'assigned.mlir'} and {args.output / 'decisions.json'}")


def round_table(rounds: list) -> object:
    """What each round of mptc verify trained, and its verdict."""
    from rich import box
    from rich.table import Table

    table = Table(title="rounds", title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in ("round", "promoted to BF16", "of FLOPs"):
        table.add_column(column, justify="right")
    table.add_column("verdict", overflow="fold")
    for number, entry in enumerate(rounds, 1):
        table.add_row(str(number), str(len(entry.promoted)), f"{100 * entry.share:.1f} %", entry.judgement.text)
    return table


def statement(experiment: object, outcome: object) -> str:
    """The result with everything that it depends on."""
    criteria = experiment.criteria
    return (
        f"{outcome.text}\n{len(experiment.seeds)} paired seeds of {experiment.steps} steps, engine {experiment.engine}, "
        f"losses over the last {criteria.window} steps; diverged means not finite, or for {criteria.patience} steps on "
        f"end {100 * criteria.excess:g} % above all that the baseline had in as many steps before; "
        f"margin {100 * criteria.margin:g} % of the baseline's loss"
    )


SETTINGS = ("target", "tuning", "where-it-pays", "loss-mse", "noise-ratio", "persistent")


def add_settings(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add options of --assign-precision besides policy and pins, as `mptc assign` has them."""
    parser.add_argument("--target", metavar="NAME|FILE.json", help=f"{prefix}machine that runs the step (default: h200)")
    parser.add_argument("--tuning", type=Path, metavar="TABLE.json", help=f"{prefix}measured times of products on it")
    parser.add_argument("--where-it-pays", action="store_true", default=None,
                        help=f"{prefix}policy threshold takes 8 bits only where that makes the step faster")  # fmt: skip
    for bound in SETTINGS[3:]:
        parser.add_argument(f"--{bound}", type=float, metavar="SUM", help=f"{prefix}a bound of policy budget")


def settings_of(args: argparse.Namespace) -> dict[str, object]:
    """What `add_settings` was given, by the pass's names."""
    values = {name: getattr(args, name.replace("-", "_")) for name in SETTINGS}
    return {name: "true" if value is True else value for name, value in values.items() if value is not None}


def add_pricing(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add the size that times are predicted for."""
    parser.add_argument("--price-at", metavar="AXIS=SIZE,...|STEP.mlir",
                        help=f"{prefix}predict times at this size, such as batch=64,seq=512 (needs --model), or at another step's")  # fmt: skip
    parser.add_argument("--model", type=Path, metavar="MODEL.onnx", help="whose axes --price-at names")


@contextlib.contextmanager
def pricing(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """What `add_pricing` was given as the pass's option; sizes are imported anew, since only the importer knows what
    follows from them. Raises ValueError where sizes and model are not both there."""
    sizes, given = {}, args.price_at
    if given and "=" in given and not Path(given).exists():
        sizes = parse_sizes(given)
        if not args.model:
            raise ValueError(f"--price-at {given}: expected --model MODEL.onnx, the model whose axes these are")
    elif args.model:
        raise ValueError(f"--model {args.model}: expected --price-at AXIS=SIZE,... with axes of the model")
    if not sizes:
        yield {"price-at": given} if given else {}
        return
    with stages.step_at(args.model, sizes) as step:
        yield {"price-at": step}


def parse_sizes(text: str) -> dict[str, int]:
    """Parse `batch=64,seq=512`. Raises ValueError on what is no size, and on an axis that is there twice."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if not name or not size.isdecimal() or int(size) < 1 or name in sizes:
            raise ValueError(f"--price-at {text}: '{part}', expected AXIS=SIZE with a size of 1 or more, each axis once")
        sizes[name] = int(size)
    return sizes


def option(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE, an option of --assign-precision."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value or " " in text:
        raise argparse.ArgumentTypeError(f"'{text}': expected NAME=VALUE, an option of --assign-precision")
    return name, value


def add_commands(
    command: Callable[..., argparse.ArgumentParser], positive: Callable[[str], int]
) -> None:
    """Add the commands; `positive` parses an integer of at least 1."""
    parser = command("explain", run_explain)
    parser.add_argument("decisions", type=Path, metavar="DECISIONS.json")
    parser.add_argument("pattern", nargs="?", help="part of a product's name, or with wildcards; default: a summary")

    parser = command("diff", run_diff)
    parser.add_argument("first", type=Path, metavar="A.json")
    parser.add_argument("second", type=Path, metavar="B.json")
    parser.add_argument("--limit", type=positive, default=40, help="products listed")

    parser = command("what-if", run_what_if)
    parser.add_argument("graph", type=Path, metavar="GRAPH.mlir", help="step, with the metrics that the policy needs")
    parser.add_argument("--metrics", type=Path, help="metrics.json to attach first")
    parser.add_argument("--record", type=Path, metavar="DECISIONS.json", help="start from its policy and pins")
    parser.add_argument("--policy", choices=stages.POLICIES, help="change: another policy")
    parser.add_argument("--pin", action="append", default=[], metavar="PATTERN=FORMAT", help="change: one more pin")
    parser.add_argument("--option", type=option, action="append", default=[], metavar="NAME=VALUE",
                        help="before and after: an option of --assign-precision, such as price-at=large.mlir")  # fmt: skip
    parser.add_argument("--set", type=option, action="append", default=[], metavar="NAME=VALUE",
                        help="change: an option of --assign-precision, such as alignment=1")  # fmt: skip
    add_settings(parser, "change: ")
    add_pricing(parser, "before and after: ")
    parser.add_argument("--limit", type=positive, default=40, help="products listed")

    parser = command("report", run_report)
    parser.add_argument("decisions", type=Path, metavar="DECISIONS.json")
    parser.add_argument("--metrics", type=Path, help="metrics.json that the decisions were made from, for histograms")
    parser.add_argument("--title")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT.html")

    parser = command("verify", run_verify)
    parser.add_argument("graph", type=Path, metavar="STEP.mlir", help="training step without formats")
    parser.add_argument("--data", type=Path, required=True, metavar="BATCHES.safetensors")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="state, logs and result")
    parser.add_argument("--record", type=Path, metavar="DECISIONS.json", help="the assignment; default: assign now")
    parser.add_argument("--metrics", type=Path, help="metrics.json to assign by")
    parser.add_argument("--policy", default="threshold", choices=stages.POLICIES)
    parser.add_argument("--pin", action="append", default=[], metavar="PATTERN=FORMAT")
    add_settings(parser)
    add_pricing(parser)
    parser.add_argument("--steps", type=positive, default=1000)
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="of data order and dropout")
    parser.add_argument("--rounds", type=positive, default=6, help="at most")
    parser.add_argument("--margin", type=float, default=0.005, help="of equivalence, as a part of the baseline's loss")
    parser.add_argument("--excess", type=float, default=0.05, help="of divergence, as a part of the baseline's loss")
    parser.add_argument("--patience", type=positive, metavar="STEPS", help="of divergence; default: a tenth, at most 50")
    parser.add_argument("--window", type=positive, metavar="STEPS", help="of smoothing; default: a fifth, at most 50")
    parser.add_argument("--engine", default="blas", choices=stages.ENGINES)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=0, metavar="STEPS")
    parser.add_argument("--weights", type=Path, metavar="MODEL.safetensors", help="instead of the graph's own")
