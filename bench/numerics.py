# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Time bulk encode and decode on one core: mpt against ml_dtypes, PyTorch and memcpy.

All contenders take one turn after the other over the same array, one larger than the caches and
one that stays in a core's own, into buffers made and touched before. Before each turn of mpt a
memcpy of the f32 array takes one, and mpt before each turn of the others: a ratio is the median
over such pairs, so that drift of the machine meets both sides alike. Times are processor time of the
one thread: other processes count through caches and memory only. ml_dtypes and PyTorch cast
(they do not scale); mpt scales and casts in one pass.

  python bench/numerics.py --turns 15 --results docs/results
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "python")]

# Format of mpt: (its code, what ml_dtypes calls it, what torch calls it).
FORMATS = {
    "bf16": (1, "bfloat16", "bfloat16"),
    "f8E4M3FN": (2, "float8_e4m3fn", "float8_e4m3fn"),
    "f8E5M2": (3, "float8_e5m2", "float8_e5m2"),
    "i8": (4, None, None),
}
HEADS = ("format", "what", "contender", "ns/element", "GB/s of f32", "x memcpy", "mpt is faster by")
COPY = ("f32", "copy", "memcpy")
# Where the array lies: its elements, and how often a turn goes over it.
PLACES = {"memory": (1 << 25, 1), "cache": (1 << 16, 64)}
# (what, contender, ratio, bound): at most `bound` times memcpy, at least `bound` times as fast as others.
BARS = (
    ("encode", "mpt", "x memcpy", 1.5),
    ("stochastic", "mpt", "x memcpy", 4.0),
    ("encode", "ml_dtypes", "faster", 20.0),
    ("decode", "ml_dtypes", "faster", 20.0),
    ("encode", "torch", "faster", 3.0),
    ("decode", "torch", "faster", 3.0),
)


def contenders(elements: int) -> dict[tuple[str, str, str], Callable[[], object]]:
    """Return (format, what, contender) -> one turn of it."""
    import ml_dtypes
    import numpy as np
    import torch

    from mpt import numerics

    torch.set_num_threads(1)
    library = numerics._library()
    x = np.random.default_rng(0).standard_normal(elements, dtype=np.float32) * np.float32(10)
    y = np.ones_like(x)
    address, back = x.ctypes.data, y.ctypes.data
    turns: dict[tuple[str, str, str], Callable[[], object]] = {
        COPY: lambda: ctypes.memmove(back, address, x.nbytes)
    }
    tensor, tensor_back = torch.from_numpy(x), torch.from_numpy(y)
    for name, (code, ml_name, torch_name) in FORMATS.items():
        codes = np.ones(elements, np.uint16 if name == "bf16" else np.uint8)
        # Foreign code with its arguments converted once, the arrays kept alive by the tuple.
        whole = (ctypes.c_int(code), ctypes.c_void_p(address), ctypes.c_size_t(elements), ctypes.c_float(1))
        held = ctypes.c_void_p(codes.ctypes.data)
        draws = (ctypes.c_uint64(0), ctypes.c_uint32(1), ctypes.c_uint32(2), ctypes.c_uint64(3), held)
        given = (whole[0], held, whole[2], whole[3], ctypes.c_void_p(back))
        turns[name, "encode", "mpt"] = lambda a=(*whole, held), _=codes: library.mpt_num_encode(*a)
        turns[name, "stochastic", "mpt"] = lambda a=(*whole, *draws): library.mpt_num_encode_stochastic(*a)
        # Decoding reads what the turn before it wrote.
        turns[name, "decode", "mpt"] = lambda a=given: library.mpt_num_decode(*a)
        if ml_name is None:
            continue
        other = codes.view(getattr(ml_dtypes, ml_name))
        turns[name, "encode", "ml_dtypes"] = lambda o=other: np.copyto(o, x, casting="unsafe")
        turns[name, "decode", "ml_dtypes"] = lambda o=other: np.copyto(y, o, casting="unsafe")
        low = torch.from_numpy(codes.view(np.int16 if name == "bf16" else np.uint8))
        low = low.view(getattr(torch, torch_name))
        turns[name, "encode", "torch"] = lambda t=low: t.copy_(tensor)
        turns[name, "decode", "torch"] = lambda t=low: tensor_back.copy_(t)
    return turns


def rival(key: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return what a contender's turns are compared with: mpt's with a copy, others' with mpt's."""
    return (key[0], key[1], "mpt") if key[2] not in ("mpt", "memcpy") else COPY


def race(turns: dict, place: str, count: int, warmup: int) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """Return the seconds of each turn of each contender, with those of its rival just before."""
    from rich.progress import track

    repeats = PLACES[place][1]

    def timed(turn: Callable[[], object]) -> float:
        start = time.thread_time()
        for _ in range(repeats):
            turn()
        return (time.thread_time() - start) / repeats

    seconds: dict[tuple[str, str, str], list[tuple[float, float]]] = {key: [] for key in turns}
    for turn in track(range(warmup + count), description=f"turns, array in {place}"):
        for key, contender in turns.items():
            before, own = timed(turns[rival(key)]), timed(contender)
            if turn >= warmup:
                seconds[key].append((own, before))
    return seconds


def rows_of(seconds: dict, elements: int) -> list[dict[str, object]]:
    """Return one row per contender: the median, and the median of the turns' ratios."""
    rows = []
    for key, pairs in seconds.items():
        row = dict(zip(("format", "what", "contender"), key))
        median = statistics.median(own for own, _ in pairs)
        row["ns"] = median / elements * 1e9
        row["gb_s"] = 4 * elements / median / 1e9
        ratio = "x memcpy" if rival(key) == COPY else "faster"
        row[ratio] = statistics.median(own / before for own, before in pairs)
        rows.append(row)
    mine = {(row["format"], row["what"]): row["x memcpy"] for row in rows if row["contender"] == "mpt"}
    for row in rows:
        if "faster" in row:
            row["x memcpy"] = row["faster"] * mine[row["format"], row["what"]]
    return rows


def verdicts(places: dict[str, list[dict[str, object]]]) -> list[dict[str, object]]:
    """Return each bar, for each place and 8-bit floating format, with what was found."""
    result = []
    for what, contender, ratio, bound in BARS:
        copied = ratio == "x memcpy"
        for place, rows in places.items():
            if copied and place != "memory":
                continue  # the bar is about memory's speed
            for row in rows:
                if (row["what"], row["contender"]) != (what, contender) or not row["format"].startswith("f8"):
                    continue
                text = f"at most {bound}x memcpy" if copied else f"at least {bound:.0f}x as fast as {contender}"
                holds = row[ratio] <= bound if copied else row[ratio] >= bound
                result.append(
                    {"bar": f"{what}: {text}", "place": place, "format": row["format"], "found": row[ratio], "holds": holds}
                )
    return result


def cells(row: dict[str, object]) -> list[str]:
    """Return the cells of HEADS."""
    faster = f"{row['faster']:.1f}x" if "faster" in row else "-"
    figures = [f"{row['ns']:.3f}", f"{row['gb_s']:.1f}", f"{row['x memcpy']:.2f}"]
    return [row["format"], row["what"], row["contender"], *figures, faster]


def show(report: dict) -> None:
    """Print the tables and the bars."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(110, Console().width))
    for place, rows in report["places"].items():
        table = Table(title=title(place, report))
        for i, head in enumerate(HEADS):
            table.add_column(head, justify="left" if i < 3 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
    for bar in report["bars"]:
        console.print(" ".join(bar_cells(bar)), highlight=False)


def title(place: str, report: dict) -> str:
    """Return what stands above the table of a place."""
    return f"Array in {place}: {PLACES[place][0]} elements, one core, medians of {report['turns']} turns"


def bar_cells(bar: dict[str, object]) -> list[str]:
    """Return a bar's cells: what is asked, where, found, whether it holds."""
    return [bar["bar"], bar["place"], bar["format"], f"{bar['found']:.2f}", "yes" if bar["holds"] else "NO"]


def write_results(report: dict, directory: Path) -> None:
    """Write numerics.json and numerics.md."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "numerics.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = ["# Bulk encode and decode on one core", "", f"`{report['command']}`", ""]
    lines += [f"{report['cpu']}; {report['versions']}."]
    lines += ["All contenders in one run, one turn after the other; ratios are medians over pairs of turns,"]
    lines += ["and times processor time of the one thread."]
    lines += ["An 8-bit encode or decode moves 5 bytes where memcpy moves 8: 0.63 x memcpy is the memory's speed, and"]
    lines += ["three times as fast as what takes less than 1.9 x memcpy is not possible on an array in memory."]
    lines += ["", "| bar | array in | format | found | holds |", "| --- | --- | --- | ---: | --- |"]
    lines += [f"| {' | '.join(bar_cells(bar))} |" for bar in report["bars"]]
    for place, rows in report["places"].items():
        lines += ["", f"## {title(place, report)}", "", f"| {' | '.join(HEADS)} |"]
        lines += ["| --- | --- | --- |" + " ---: |" * (len(HEADS) - 3)]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    (directory / "numerics.md").write_text("\n".join(lines) + "\n")


def versions() -> str:
    """Return the versions of the other contenders."""
    import ml_dtypes
    import numpy
    import torch

    return f"ml_dtypes {ml_dtypes.__version__}, NumPy {numpy.__version__}, PyTorch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--results", type=Path, help="also write numerics.json and numerics.md here")
    args = parser.parse_args()
    from cpu_step import cpu_model

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    places = {}
    for place, (elements, _) in PLACES.items():
        places[place] = rows_of(race(contenders(elements), place, args.turns, args.warmup), elements)
    report = {
        "cpu": cpu_model() or platform.processor(),
        "versions": versions(),
        "command": shlex.join(["python", "bench/numerics.py", *sys.argv[1:]]),
        "turns": args.turns,
        "bars": verdicts(places),
        "places": places,
    }
    show(report)
    for directory in (args.out, args.results):
        if directory:
            write_results(report, directory)
    print(f"figures: {args.results or args.out}/numerics.json")


if __name__ == "__main__":
    main()
