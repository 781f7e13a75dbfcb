"""The plot: for each trace, which share of the requests waits longer than so many seconds, under each contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from simulator.result import QUANTILES, Result

_COLUMNS = 3
_FASTEST = 0.01  # seconds: the left edge of a logarithmic axis; whoever waits less goes straight through
_COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80", "#8d6a9f")
# Nothing of the day or the machine in the file: the same results give the same picture.
mpl.rcParams["svg.hashsalt"] = "llamarouter"
mpl.rcParams["font.size"] = 9


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture (`.svg` or `.png`)."""
    traces = list(dict.fromkeys(result.trace for result in results))
    rows = -(-len(traces) // _COLUMNS)
    figure = Figure(figsize=(4.2 * min(_COLUMNS, len(traces)), 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, min(_COLUMNS, len(traces)), squeeze=False)
    axes = list(grid.flat)
    for axis, trace in zip(axes, traces, strict=False):
        axis.set(title=trace, xscale="log", yscale="log", xlabel="waits longer than (s)", ylabel="share of requests")
        for result, colour in zip((one for one in results if one.trace == trace), _COLOURS, strict=False):
            shares = [max(1 - quantile, 1e-5) for quantile in QUANTILES]
            waits = [max(wait, _FASTEST) for wait in result.quantiles]
            axis.plot(waits, shares, label=result.contender, color=colour, linewidth=1.6)
        axis.grid(alpha=0.3)
    for axis in axes[len(traces) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
