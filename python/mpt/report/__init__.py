# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""An assignment as one static HTML file: `write(record, metrics, path)`, or `mptc report`.

The file holds everything it shows and asks the network for nothing (its own policy forbids
it). Python writes the summary, the heat map and the table as HTML; a product's section is
built by report.js, from data in the file, when it is opened.
"""

from __future__ import annotations

import os

from mpt.decisions import Decisions, DecisionsError
from mpt.files import staged
from mpt.metrics import Metrics
from mpt.report.page import render


def write(record: Decisions, metrics: Metrics | None, path: str | os.PathLike[str], title: str = "mpt") -> int:
    """Write the report of `record`, with histograms where `metrics` are given; return its size in bytes.

    Raises DecisionsError if the metrics are of another graph.
    """
    if metrics is not None and metrics.graph_hash != record.graph_hash:
        raise DecisionsError(
            f"the metrics are of graph {metrics.graph_hash}, "
            f"the decisions of {record.graph_hash or 'a graph without a hash'}"
        )
    text = render(record, metrics, title).encode()
    with staged(path) as inner:
        inner.write_bytes(text)
    return len(text)
