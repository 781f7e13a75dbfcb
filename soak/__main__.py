"""`scripts/soak`: a whole router under load while its children are killed and its presets and keys changed.

    start, keys -> warm-up (the same load and deeds) -> rest: census -> load and deeds -> rest: census -> stop, table

It ends by itself: every wait within has a bound, and all of it has one, too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
from pathlib import Path

from rich.console import Console

from soak.book import Book
from soak.box import Box, RouterGoneError, box, folder_of_its_own, secret_in, stopped, until_gone
from soak.census import Census, compared, left_behind, taken
from soak.clients import BOUND, Clients
from soak.deeds import Deeds
from soak.pause import until
from soak.requests import LASTING, Requests
from soak.table import End, show
from soak.touched import Touched

_ROOT = Path(__file__).resolve().parents[1]
_LOG = _ROOT / ".cache" / "soak.log"
_REST = 30.0
# Start, two rests, the end; and twice the longest that a client or a deed may take to finish.
_BESIDE = 300.0 + 4 * BOUND


def main() -> int:
    """Soak, print; 1 where something was lost or has not come back."""
    options = _options()
    signal.signal(signal.SIGALRM, _end)
    signal.signal(signal.SIGTERM, _end)
    signal.alarm(int(60 * (options.minutes + options.warm_up) + _BESIDE))
    console = Console(width=max(150, Console().width))
    with folder_of_its_own() as folder:
        try:
            end = asyncio.run(_soak(folder, options, console))
        except* RouterGoneError as gone:
            console.print(*gone.exceptions, sep="\n", markup=False, highlight=False)
            raise SystemExit(1) from None
    show(end, console)
    return 0 if end.is_well else 1


def _end(*_: object) -> None:
    raise SystemExit("soak: ended before its time: told to, or it took too long")


async def _soak(folder: Path, options: argparse.Namespace, console: Console) -> End:
    extra = ["--memory-budget", options.memory_budget] if options.memory_budget else []
    async with box(folder, options.engine, options.model, extra) as router:
        secrets = await _first_keys(router)
        chance, touched = random.Random(options.seed), Touched()
        console.print(f"seed {options.seed}; the router: process {router.pid}, port {router.port}, log {router.log}")
        warm = Book()
        before = await _round(router, secrets, touched, warm, chance, options.clients, 60 * options.warm_up)
        console.print(f"warm after {warm.requests} requests; {options.minutes:g} minutes follow")
        book = Book()
        after = await _round(router, secrets, touched, book, chance, options.clients, 60 * options.minutes)
        code = await stopped(router)
        log = _kept_log(router)
        console.print(f"the router's log: {_LOG}", markup=False, highlight=False)
        return End(warm, book, compared(before, after), code, left_behind(router), _tracebacks(log))


def _kept_log(router: Box) -> str:
    """What the router has said, which is wanted where something was not well."""
    _LOG.parent.mkdir(exist_ok=True)
    shutil.copyfile(router.log, _LOG)
    return _LOG.read_text(errors="replace")


async def _first_keys(router: Box) -> dict[str, str]:
    """The keys to which nothing is done."""
    secrets = {}
    for name, limits in LASTING.items():
        code, out, err = await router.lr("key", "add", name, "--json", *limits)
        if code != 0:
            raise SystemExit(f"soak: lr key add {name}: {err}")
        secrets[name] = secret_in(out)
    return secrets


async def _round(
    router: Box,
    secrets: dict[str, str],
    touched: Touched,
    book: Book,
    chance: random.Random,
    clients: int,
    seconds: float,
) -> Census:
    """Load and deeds for so long, then rest; how the router is then."""
    crowd = Clients(router.port, Requests(chance, secrets), touched, book, chance)
    deeds = Deeds(router, secrets, touched, book, chance)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(until_gone(router))
        asking = group.create_task(crowd.run(clients))
        await deeds.run(asyncio.get_running_loop().time() + seconds)
        await deeds.end()
        crowd.finish()
        await asyncio.wait([asking, watching], return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
    code, _, err = await router.lr("unload", "--all")
    if code != 0:
        book.misdo("lr unload --all", err)
    # What hung up or was killed last is noticed within moments; a connection of `lr` ends with it.
    rest: list[Census] = []
    await until(lambda: _is_at_rest(router, rest), _REST)
    return rest[-1]


def _is_at_rest(router: Box, seen: list[Census]) -> bool:
    """Nothing has changed from one look to the next, and no child is there."""
    seen[:] = [*seen[-3:], taken(router)]
    same = {(each.open, each.threads, each.tasks, each.children, each.sockets) for each in seen}
    return len(seen) == 4 and len(same) == 1 and not seen[-1].children


def _tracebacks(log: str) -> list[str]:
    lines = log.splitlines()
    return ["\n".join(lines[max(0, at - 1) : at + 25]) for at, line in enumerate(lines) if "Traceback" in line][:3]


def _options() -> argparse.Namespace:
    compiled = _ROOT / "bin" / "llama-server"
    engine = str(compiled) if compiled.is_file() else "embedded"
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of load (default: 30)")
    parser.add_argument("--warm-up", type=float, default=3, help="minutes before the first census (default: 3)")
    parser.add_argument("--clients", type=int, default=16, help="at once (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="what is asked and done, in which order (default: 0)")
    parser.add_argument("--engine", default=engine, help="a llama-server, or embedded (default: a compiled one here)")
    parser.add_argument("--model", type=Path, help="a GGUF that all models are (default: six that are made up)")
    parser.add_argument("--memory-budget", default="", help="as of lr serve")
    options = parser.parse_args()
    if options.minutes <= 0 or options.warm_up < 0 or options.clients < 1:
        parser.error("--minutes, --warm-up and --clients: more than nothing")
    if options.model is not None and not options.model.is_file():
        parser.error(f"--model {options.model}: no such file")
    return options


if __name__ == "__main__":
    sys.exit(main())
