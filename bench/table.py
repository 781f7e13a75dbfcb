"""The table of a run, for people."""

from __future__ import annotations

from bench.bars import Verdict
from bench.load import Load
from bench.measure import Measure
from bench.record import machine

_NAMES = ("direct", "reference", "lr", "slow lane")


def print_load(load: Load, measures: dict[str, Measure]) -> None:
    """One load: a row for each candidate, then the ratios."""
    print(f"\n{load.name}")
    print(f"  {'':10} {'req/s':>9} {'p50':>9} {'p99':>9} {'router CPU':>14} {'failed':>7}")
    for name in _NAMES:
        speed = measures["per_second"].median(name)
        if speed is None:
            continue
        cpu = measures["cpu"].median(name)
        shown = "-" if cpu is None else f"{cpu:.1f} {measures['cpu'].unit}"
        p50, p99, failed = (measures[field].median(name) or 0.0 for field in ("p50", "p99", "failed"))
        print(f"  {name:10} {speed:9.0f} {p50:7.0f}us {p99:7.0f}us {shown:>14} {failed:7.0f}")
    speed, cpu = measures["per_second"].ratio(), measures["cpu"].ratio()
    share, slower = measures["per_second"].ratio("lr", "direct"), measures["cpu"].ratio("lr", "slow lane")
    if speed is not None and cpu is not None and share is not None:
        print(f"  lr against the reference: {speed:.2f} x the requests, {cpu:.3f} x the CPU; {share:.0%} of direct")
        kernel, whole = measures["kernel"].median("lr") or 0.0, measures["cpu"].median("lr") or 0.0
        print(f"  lr's CPU: {kernel:.1f} {measures['cpu'].unit} in the kernel, {whole - kernel:.1f} above it")
        if slower is not None:
            print(f"  the fast lane against the slow one: {slower:.3f} x the CPU")


def print_limits(lines: list[str]) -> None:
    """Where one event loop ends."""
    print("\n" + "\n".join(lines))


def print_others(measures: list[Measure]) -> None:
    """All that is no load: a row for each measure."""
    if not measures:
        return
    print(f"\n{'':44} {'by hand':>9} {'reference':>9} {'lr':>9}   ratio")
    for measure in measures:
        cells = (measure.median(name) for name in ("direct", "reference", "lr"))
        shown = " ".join(f"{'-' if cell is None else f'{cell:.4g}':>9}" for cell in cells)
        ratio = measure.ratio()
        print(f"  {measure.name + ', ' + measure.unit:42} {shown}   {'' if ratio is None else f'{ratio:.2f}'}")


def print_verdicts(verdicts: list[Verdict]) -> None:
    """Every target, and whether this run has reached it."""
    if verdicts:
        missed = sum(not each.reached for each in verdicts)
        print(f"\ntargets: {len(verdicts) - missed} of {len(verdicts)} reached")
        print("\n".join(f"  {each}" for each in verdicts))


def print_end(worse: list[str], compared: bool) -> None:
    """Where this was measured, and what is not as good as it was."""
    print(f"\n{machine()}")
    if compared:
        print("\n".join(f"worse than the last time: {line}" for line in worse) or "nothing is worse than the last time")
