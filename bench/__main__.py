"""`scripts/bench`: the table of ratios, from at least three alternating pairs, printed and saved as JSON.

Candidates take turns within each round, so that a machine that drifts does not decide; every ratio is the median
over the rounds of the ratio within one round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.candidates import Candidate, direct, ours, reference, warm_up
from bench.load import Figure, Load, run
from tests.tiny_gguf import write_llama

_ROOT = Path(__file__).resolve().parents[1]
_FEWEST_PAIRS = 3
_MODEL = "tiny"
_SLOTS = 4

_MESSAGES = [{"role": "user", "content": "Say something."}]
LOADS = (
    Load("small requests, 16 connections", "/tokenize", {"model": _MODEL, "content": "Hello there, router."}, 16),
    Load("small requests, 1 connection", "/tokenize", {"model": _MODEL, "content": "Hello there, router."}, 1),
    Load(
        "streamed chat, 64 tokens, 4 connections",
        "/v1/chat/completions",
        {"model": _MODEL, "messages": _MESSAGES, "stream": True, "max_tokens": 64, "ignore_eos": True},
        4,
        tokens=64,
    ),
)

Rounds = dict[str, dict[str, list[Figure]]]


def main() -> int:
    """Measure, print, save."""
    options = _options()
    rounds: Rounds = {load.name: {} for load in LOADS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        model = write_llama(Path(folder) / f"{_MODEL}.gguf")
        server = Path(options.engine)
        candidates = [
            stack.enter_context(direct(server, model, _SLOTS)),
            stack.enter_context(reference(server, Path(folder), _SLOTS)),
            stack.enter_context(ours(server, Path(folder), _SLOTS)),
        ]
        for candidate in candidates:
            warm_up(candidate, _MODEL)
        for load in LOADS:
            for number in range(options.rounds):
                print(f"{load.name}: round {number + 1} of {options.rounds}", file=sys.stderr)
                for candidate in _rotated(candidates, number):
                    rounds[load.name].setdefault(candidate.name, []).append(run(candidate, load, options.seconds))
    _print_table(rounds)
    _save(rounds, Path(options.save))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--engine", default=str(_ROOT / "bin" / "llama-server"), help="a compiled llama-server")
    parser.add_argument("--rounds", type=int, default=3, help="pairs for each ratio, at least 3 (default: 3)")
    parser.add_argument("--seconds", type=int, default=5, help="length of each run (default: 5)")
    parser.add_argument("--save", default=str(_ROOT / ".cache" / "bench.json"), help="where the figures are kept")
    options = parser.parse_args()
    if options.rounds < _FEWEST_PAIRS:
        parser.error(f"--rounds {options.rounds}: a ratio from fewer than {_FEWEST_PAIRS} pairs is not one")
    if not Path(options.engine).is_file():
        parser.error(f"--engine {options.engine}: no such file; scripts/build-llama-server compiles one")
    return options


def _rotated(candidates: list[Candidate], number: int) -> list[Candidate]:
    start = number % len(candidates)
    return candidates[start:] + candidates[:start]


def _print_table(rounds: Rounds) -> None:
    for load in LOADS:
        figures = rounds[load.name]
        print(f"\n{load.name}")
        print(f"  {'':10} {'req/s':>9} {'p50':>9} {'p99':>9} {'router CPU':>14} {'failed':>7}")
        for name, runs in figures.items():
            cpu = statistics.median(run.cpu for run in runs)
            shown = "-" if name == "direct" else f"{cpu:.0f} us/req"
            if load.tokens and name != "direct":
                shown = f"{cpu / load.tokens:.1f} us/token"
            print(
                f"  {name:10} {_median(runs, 'per_second'):9.0f} {_median(runs, 'p50'):7.0f}us"
                f" {_median(runs, 'p99'):7.0f}us {shown:>14} {sum(run.failed for run in runs):7}"
            )
        speed = _ratio(figures["lr"], figures["reference"], "per_second")
        cost = _ratio(figures["lr"], figures["reference"], "cpu")
        share = _ratio(figures["lr"], figures["direct"], "per_second")
        print(f"  lr against the reference: {speed:.2f} x the requests, {cost:.3f} x the CPU; {share:.0%} of direct")


def _median(runs: list[Figure], field: str) -> float:
    return statistics.median(float(getattr(run, field)) for run in runs)


def _ratio(ours: list[Figure], theirs: list[Figure], field: str) -> float:
    pairs = [float(getattr(a, field)) / max(1e-9, float(getattr(b, field))) for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(pairs)


def _save(rounds: Rounds, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {load: {name: [asdict(run) for run in runs] for name, runs in each.items()} for load, each in rounds.items()}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"\nsaved: {path}")


if __name__ == "__main__":
    sys.exit(main())
