"""`scripts/check-gpu`: what only a machine with an NVIDIA GPU can show, in a few tables; some three minutes.

    estimates  shapes of real models as they load, beside what was estimated of them (`weighing`)
    swaps      a router whose models do not fit together; the commands beside it (`swaps`, `commands`)
    looks      what the driver says, and how quickly (`looks`)

It needs a llama-server built for CUDA, with llama-fit-params beside it. The models are made here: headers of real
shapes and holes for weights, so that they take no room on the disk and say nothing of speed.
Exit codes: 0 all is well, 1 something is not, 2 there is nothing to check.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from llamarouter.core.asked import MIB
from llamarouter.core.errors import UsageError
from llamarouter.host.engine import Engine
from llamarouter.host.inventory import engine_for
from tests import further_shapes, real_shapes
from tests.estimates import environ_in
from tests.gpu import commands, looks, swaps, weighing
from tests.gpu.card import Card, NoCardError
from tests.gpu.report import Report
from tests.gpu.router import ROOT, Router
from tests.gpu.weighing import Files

PARTS = ("estimates", "swaps", "looks")
_SERVED = (
    real_shapes.lfm2_1b,
    real_shapes.mamba_2b,
    real_shapes.llama3_8b,
    real_shapes.gemma3_27b,
    real_shapes.llama3_70b,
)
_SECTION = {"ctx-size": "8192", "load-mode": "dio"}
_KEPT_FREE = 1024 * MIB
_PART = 3 << 30  # bytes for an 8B of five
_ESTIMATES, _SWAPS = 75.0, 90.0  # seconds after which nothing more is begun


def main() -> int:
    """Check, print, save."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="gpu-", dir=options.models_in) as name:
        folder = Path(name)
        try:
            engine = engine_for((options.engine,), environ_in(folder))
            card = Card.found(Path(engine.command[-1]), environ_in(folder))
        except (UsageError, NoCardError) as error:
            sys.stderr.write(f"check-gpu: {error}\n")
            return 2
        report = Report()
        report.say(f"{card.name}: {card.first.name}, {card.total / MIB:.0f} MiB; engine {engine.build}")
        report.figures |= {"card": card.first.name, "total": card.total, "engine": engine.build}
        try:
            _check(report, card, engine, folder, options)
        finally:
            card.drivers.close()
            _keep(folder, options.folder)
            if options.save is not None:
                report.save(options.save)
        report.end()
    return 0 if report.is_well else 1


def _end(*_: object) -> None:
    raise SystemExit("check-gpu: ended before its time: told to")


def _check(report: Report, card: Card, engine: Engine, folder: Path, options: argparse.Namespace) -> None:
    parts = options.only or PARTS
    if "estimates" in parts:
        with report.part("estimates"):
            logs = None if options.folder is None else options.folder / "engine-logs.txt"
            weighing.weigh(report, card, engine, folder, _ESTIMATES, logs)
    if "swaps" in parts:
        _swaps(report, card, engine, folder, options.folder)
    if "looks" in parts:
        with report.part("looks"):
            looks.look(report, card, engine, folder)


def _swaps(report: Report, card: Card, engine: Engine, folder: Path, kept: Path | None) -> None:
    server, files = Path(engine.command[-1]), Files(folder)
    with report.part("swaps"):
        flags = " ".join(f"--{key} {value}" for key, value in _SECTION.items())
        paths = {make.__name__: files.of(make) for make in _SERVED}
        needs = {
            name: weighing.estimates(path, flags, engine, card, folder)[1].totals().get(card.name, 0)
            for name, path in paths.items()
        }
        names, budget = swaps.chosen(needs, card.free() - _KEPT_FREE)
        served = {name: paths[name] for name in names}
        models = swaps.Models(served, _SECTION, budget, files.of(further_shapes.gpt_oss_120b))

        def beside(router: Router) -> None:
            commands.show(report, router, server, names[0], None if kept is None else kept / "commands.txt")

        swaps.swap(report, card, server, models, folder, _SWAPS, beside)
    with report.part("a part of the layers"):
        path = files.of(real_shapes.llama3_8b)
        swaps.in_part(report, card, server, path, {"ctx-size": "8192"}, _PART, folder)


def _keep(folder: Path, kept: Path | None) -> None:
    """What the routers have written."""
    if kept is not None and (log := folder / "router.log").exists():
        shutil.copyfile(log, kept / "router.log")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/check-gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default=str(ROOT / "bin" / "llama-server"), help="a llama-server built for CUDA")
    parser.add_argument("--save", type=Path, help="where the figures are kept, as JSON")
    parser.add_argument("--folder", type=Path, help="where logs and what the commands print are kept")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part of it; may be given more than once")
    parser.add_argument("--models-in", help="a folder for the models, whose files may have holes (default: /tmp)")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
