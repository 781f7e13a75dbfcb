"""`scripts/bench`: the table of ratios, from at least three alternating pairs, printed, saved, and compared.

Candidates take turns within each round, so that a machine that drifts does not decide; every ratio is the median
over the rounds of the ratio within one round.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import fairness, herd, limits, loads, looks, starts, streams, table
from bench.bars import judged
from bench.candidates import home_of_its_own
from bench.measure import FEWEST_PAIRS, Measure
from bench.record import last, save, worse
from bench.warm import warm
from tests.tiny_gguf import write_llama

_ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("warm", "loads", "cold", "turns", "fairness", "herd", "start", "commands", "memory")


def main() -> int:
    """Measure, print, save."""
    options = _options()
    path = Path(options.save)
    before = last(path)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, home_of_its_own(Path(folder) / "home"):
        measures = _measure(options, Path(folder))
    table.print_verdicts(judged(measures))
    table.print_end(worse(before, measures), bool(before))
    save(measures, path, before)
    print(f"saved: {path}")
    return 0


def _measure(options: argparse.Namespace, folder: Path) -> list[Measure]:
    server, rounds = Path(options.engine).absolute(), options.rounds
    parts = options.only or _PARTS
    model = write_llama(_folder(folder, "few") / "tiny.gguf")
    measures, others = _put_loads(server, model.parent, options) if "loads" in parts else ([], [])
    if "warm" in parts:
        others += warm(3 * rounds)
    if "memory" in parts:
        others += streams.measure(_folder(folder, "fakes"))
    if "start" in parts:
        many = _folder(folder, "many")
        looks.furnish(model, many)
        others += starts.start(server, many, rounds)
        others += looks.measure(server, many, rounds)
    others += _models_that_start(options, parts, model, folder)
    table.print_others(others)
    return measures + others


def _put_loads(server: Path, folder: Path, options: argparse.Namespace) -> tuple[list[Measure], list[Measure]]:
    """The rows of the loads, shown already, and what else was measured with them."""
    by_load, others = loads.put(server, folder, options.rounds, options.seconds)
    measures: list[Measure] = []
    for load in loads.ROWS:
        table.print_load(load, by_load[load.name])
        measures += by_load[load.name].values()
    table.print_limits(limits.limits_of(measures))
    return measures, others


def _models_that_start(options: argparse.Namespace, parts: Sequence[str], model: Path, folder: Path) -> list[Measure]:
    server, rounds = Path(options.engine).absolute(), options.rounds
    others: list[Measure] = []
    if "cold" in parts:
        others += starts.cold(server, model, rounds)
        if options.model is not None:
            large = _folder(folder, "large") / "large.gguf"
            shutil.copyfile(options.model, large)
            others += starts.cold(server, large, rounds)
    if "turns" in parts:
        three = _copies(model, folder, "three", *"abc")
        for places in (1, 2):
            others += starts.turns(server, three, places, rounds)
    if "fairness" in parts:
        others += fairness.measure(server, _copies(model, folder, "contended", "hot", "cold"), rounds)
    if "herd" in parts:
        others += herd.measure(server, _copies(model, folder, "two", "cold", "tiny"), rounds)
    if "commands" in parts:
        others += starts.commands(server, model.parent, rounds)
    return others


def _copies(model: Path, parent: Path, folder: str, *names: str) -> Path:
    """A folder with the same model under these names."""
    return _folder(parent, folder, *(shutil.copyfile(model, parent / f"{name}.gguf") for name in names))


def _folder(parent: Path, name: str, *files: Path) -> Path:
    """A folder with these files in it."""
    folder = parent / name
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--engine", default=str(_ROOT / "bin" / "llama-server"), help="a compiled llama-server")
    parser.add_argument("--model", help="a larger GGUF, whose cold request is measured as well")
    parser.add_argument("--rounds", type=int, default=3, help="pairs for each ratio, at least 3 (default: 3)")
    parser.add_argument("--seconds", type=int, default=5, help="length of each run under load (default: 5)")
    parser.add_argument("--only", action="append", choices=_PARTS, help="a part of it; may be given more than once")
    parser.add_argument("--save", default=str(_ROOT / ".cache" / "bench.json"), help="where the figures are kept")
    options = parser.parse_args()
    if options.rounds < FEWEST_PAIRS:
        parser.error(f"--rounds {options.rounds}: a ratio from fewer than {FEWEST_PAIRS} pairs is not one")
    if not Path(options.engine).is_file():
        parser.error(f"--engine {options.engine}: no such file; scripts/build-llama-server compiles one")
    if options.model is not None and not Path(options.model).is_file():
        parser.error(f"--model {options.model}: no such file")
    return options


if __name__ == "__main__":
    sys.exit(main())
