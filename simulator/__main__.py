"""`scripts/simulate`: the scheduler beside two others on synthetic or recorded traces: one table and one plot."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulator.box import Box
from simulator.contender import Contender
from simulator.fleet import GIB, SimulatedModel, fleet_of
from simulator.hunt import hunt
from simulator.ours import ours
from simulator.plain import ReferenceRouter, StrictLru
from simulator.result import Result, result_of
from simulator.traces import TRACES, Call, Shape, TraceError, recorded


def main() -> int:
    """Simulate, print, draw."""
    options = _options()
    # A table that is cut to the width of a terminal cannot be read.
    console = Console(width=max(160, Console().width))
    if options.hunt:
        return _hunt(options, console)
    try:
        results = _results(options, console)
    except (OSError, UnicodeDecodeError, TraceError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    console.print(_table(results, options))
    if options.plot is not None:
        from simulator.plot import draw  # the one who only wants the table needs no matplotlib

        draw(results, options.plot)
        console.print(f"drawn: {options.plot}")
    return 0


def _results(options: argparse.Namespace, console: Console) -> list[Result]:
    budget = options.gib * GIB
    fleet = fleet_of(options.models, budget, options.seed)
    shape = Shape(options.rate, options.seed)
    results = []
    for trace in options.trace or list(TRACES):
        models = TRACES[trace].models(fleet, budget) if trace in TRACES else fleet
        for contender in _contenders(models, budget, options.max_wait):
            console.print(f"[dim]{trace}: {contender.name}[/dim]", highlight=False)
            calls = _calls(trace, models, shape)
            life = Box(models, budget, contender).run(itertools.islice(calls, options.requests))
            results.append(result_of(trace, contender.name, life))
    return results


def _contenders(models: Sequence[SimulatedModel], budget: int, max_wait: float) -> list[Contender]:
    needs = {model.name: model.bytes for model in models}
    # So many that any of them fit together: where memory is not looked at, no higher number loses nothing.
    places = max(1, budget // max(needs.values()))
    return [ours(max_wait), StrictLru(needs, budget), ReferenceRouter(places)]


def _calls(trace: str, models: Sequence[SimulatedModel], shape: Shape) -> Iterator[Call]:
    if trace in TRACES:
        return TRACES[trace].calls(models, shape)
    text = Path(trace).read_text(encoding="utf-8")
    return recorded(trace, text.splitlines(), {model.name for model in models})


def _table(results: Iterable[Result], options: argparse.Namespace) -> Table:
    table = Table(
        title=f"{options.models} models on {options.gib} GiB, {options.rate:g} requests/s; waits in seconds",
        title_justify="left",
    )
    for head in ("trace", "scheduler"):
        table.add_column(head)
    for head in ("requests", "lost", "loads", "GiB loaded", "mean", "p50", "p99", "longest", "worst model", "makespan"):
        table.add_column(head, justify="right")
    before = ""
    for one in results:
        if before and one.trace != before:
            table.add_section()
        table.add_row(
            one.trace if one.trace != before else "",
            one.contender,
            f"{one.requests:,}",
            f"{one.lost:,}",
            f"{one.loads:,}",
            f"{one.gib_loaded:,.0f}",
            f"{one.mean:,.2f}",
            f"{one.p50:,.2f}",
            f"{one.p99:,.1f}",
            f"{one.longest:,.1f}",
            f"{one.worst_mean:,.1f} ({one.worst_model})",
            f"{one.ends_at:,.0f}",
        )
        before = one.trace
    return table


def _hunt(options: argparse.Namespace, console: Console) -> int:
    """Print each scene that is worse for us than those before it."""
    for found in hunt(options.hunt, min(options.requests, 5_000), options.seed):
        mine, other = found.ours, found.other
        console.print(
            f"{found.ratio:.2f} x the mean wait of strict LRU: {found.scene}\n"
            f"    mean {mine.mean:.2f} s against {other.mean:.2f}, longest {mine.longest:.1f} against "
            f"{other.longest:.1f}, loads {mine.loads} against {other.loads}",
            highlight=False,
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--models", type=_at_least_one, default=200, help="in the fleet (default: 200)")
    parser.add_argument("--gib", type=_at_least_one, default=80, help="of the one device (default: 80)")
    parser.add_argument("--rate", type=_positive, default=1.0, help="requests per second (default: 1)")
    parser.add_argument("--requests", type=_at_least_one, default=50_000, help="of each trace (default: 50000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-wait", type=_positive, default=10.0, help="ours, as in lr serve (default: 10)")
    parser.add_argument("--plot", type=Path, help="also draw: a file that ends in .svg or .png")
    parser.add_argument(
        "--trace",
        action="append",
        help=f"one of {', '.join(TRACES)}, or a file of recorded requests; again for more (default: all)",
    )
    parser.add_argument("--hunt", type=int, default=0, metavar="TRIES", help="look for the scene that is worst for us")
    return parser.parse_args()


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
