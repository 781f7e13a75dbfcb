"""How the scheduler's stories are written: rows of a time, an event, and exactly the commands that must follow."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from llamarouter.core.errors import InsufficientMemory, ModelCrashed, ModelInvalid, RouterError
from llamarouter.core.events import (
    Arrived,
    Closing,
    Command,
    Event,
    Exited,
    Forgotten,
    Grant,
    Left,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    StopReason,
    TimePassed,
    UnloadAsked,
)
from llamarouter.core.scheduler import Limits, Scheduler

CRASH = ModelCrashed("signal SEGV")
INVALID = ModelInvalid("wrong magic")
MEMORY = InsufficientMemory("out of memory")


@dataclass(frozen=True)
class Refused:
    """A refusal, by its reason alone."""

    ticket: int
    reason: str


# Events
tick = TimePassed()
release = Released
left = Left


def ask(ticket: int, model: str, *, slot: bool = True, autoload: bool = True, body: int = 0) -> Event:
    return Arrived(ticket, model, slot, body, autoload)


def glance(ticket: int, model: str) -> Event:
    return Arrived(ticket, model, slot=False, glance=True)


def load(ticket: int, model: str) -> Event:
    return Arrived(ticket, model, slot=False, autoload=False, ends_with_load=True)


def ready(model: str, slots: int = 1, connections: int = 2) -> Event:
    return Ready(model, slots, connections)


def gone(model: str, error: RouterError | None = None, *, deterministic: bool = False) -> Event:
    return Exited(model, error, memory=error is MEMORY, deterministic=deterministic)


unload = UnloadAsked
forget = Forgotten
close = Closing

# Commands
start = Start
grant = Grant
refuse = Refused


def evict(model: str) -> Command:
    return Stop(model, StopReason.EVICTED)


def stop(model: str, reason: StopReason = StopReason.UNLOADED) -> Command:
    return Stop(model, reason)


def cut(model: str, reason: StopReason = StopReason.UNLOADED) -> Command:
    return Stop(model, reason, cut=True)


def shown(commands: list[Command]) -> list[Command | Refused]:
    """Of a refusal the reason, of a stop not for whose sake it is: `test_sakes.py` holds that."""
    return [_shown(one) for one in commands]


def _shown(command: Command) -> Command | Refused:
    if isinstance(command, Refuse):
        return Refused(command.ticket, command.error.reason)
    return replace(command, sake=None) if isinstance(command, Stop) else command


def play(scheduler: Scheduler, *rows: tuple[object, ...]) -> Scheduler:
    """Tell `scheduler` each row's event at its time; what it commands must be the rest of the row, in that order."""
    for number, (now, event, *expected) in enumerate(rows, start=1):
        assert isinstance(now, int | float)
        commands = shown(scheduler.handle(event, float(now)))  # type: ignore[arg-type]
        assert commands == expected, f"row {number}: at {now} {event}"
    return scheduler


def one_place(**limits: float) -> Scheduler:
    """A scheduler for one child at a time."""
    return Scheduler(Limits(models_max=1, **limits))  # type: ignore[arg-type]


def two_places(**limits: float) -> Scheduler:
    return Scheduler(Limits(models_max=2, **limits))  # type: ignore[arg-type]
