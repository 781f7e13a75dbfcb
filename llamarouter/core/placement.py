"""Where a model may go: from what it needs and what there is to its placements, the preferred first.

    the operator fixed it (`Fixed.exactly`)  -> that alone, as he wrote it
    no GPU                                   -> Host
    else, as far as the devices allow           1. one GPU, whole      tightest fit now, else the emptiest
                                                2. several, whole      as few as hold it, split by their room
                                                3. in part             the most layers that fit one GPU, the rest on
                                                                       Host: `partial`, a warning, or refused

**Why the tightest fit**: a small model on the fuller card leaves the emptier one to a model that fits nowhere else,
and so spares an eviction, which costs a load of seconds to minutes. Two busy models on one card cost at most half of
its speed, and only while both are busy. Who wants otherwise says `device` in the model's section.

Who asks gives `NeedsOf`: the bytes of one layout by device, learnt, asked of the engine, or scaled (`scaling`).
Every layout is started with `--fit off` and explicit figures: what was planned is what comes up, or fails.
Options that an engine does not know are for the caller to leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from llamarouter.core.memory import HOST, Placement, Room
from llamarouter.core.tuning import Fixed

_ALL_LAYERS = 999  # llama.cpp's customary number for all of them, in every build
_PERCENT = 100


class Layout(Struct, frozen=True):
    """One way to spread a model. `devices`: GPUs in the order of `--device`; none: on the host alone."""

    devices: tuple[str, ...] = ()
    split: tuple[int, ...] = ()  # `--tensor-split`, a share for each device; none for one device
    layers: int | None = None  # `-ngl`; None: all of them, or what the operator said


# Bytes by device; None where nobody can say.
NeedsOf = Callable[[Layout], Mapping[str, int] | None]


class Question(Struct, frozen=True, kw_only=True):
    """Everything that decides where one model may go."""

    needs_of: NeedsOf
    fixed: Fixed = field(default_factory=Fixed)
    gpus: tuple[str, ...] = ()  # those of the model's engine, in its order
    rooms: Mapping[str, Room] = field(default_factory=dict)
    memory_of: Callable[[str], str] = lambda name: name  # whose memory a GPU takes (`Survey.memory_of`)
    held: Mapping[str, int] = field(default_factory=dict)  # what our children hold, where a driver does not say
    layers: int | None = None  # that can be offloaded: those of the header and one more; None: unknown


def placements_of(question: Question) -> tuple[Placement, ...]:
    """All ways worth trying, the preferred first; empty where nobody can say what any of them needs."""
    if question.fixed.exactly:
        return tuple(_placed(question, Layout(), label=_label_of_fixed(question.fixed)))
    gpus = question.gpus if question.fixed.devices is None else question.fixed.devices
    if not gpus or question.fixed.layers == 0:
        return tuple(_placed(question, Layout(), label=HOST))
    singles = _singles(question, gpus)
    found = singles + _split(question, gpus, singles) if len(gpus) > 1 else singles
    if any(_fits(question, placement, now=True) for placement in found):
        return tuple(found)
    return (*found, *_partial(question, gpus))


def _singles(question: Question, gpus: Sequence[str]) -> list[Placement]:
    """The whole model on one GPU: first where it fits now, the tightest first, then the emptiest first.

    Where it can never fit, it is left out, but for the largest GPU: the refusal has to name some figure.
    """
    found: list[tuple[tuple[bool, int], str, Placement]] = []
    for gpu in gpus:
        for placement in _placed(question, Layout((gpu,))):
            left = _now(question, gpu) - placement.needs.get(question.memory_of(gpu), 0)
            fits = _fits(question, placement, now=True)
            found.append(((not fits, left if fits else -left), gpu, placement))
    found.sort(key=lambda each: each[0])
    possible = [placement for _, _, placement in found if _fits(question, placement, now=False)]
    return possible or [placement for _, _, placement in found[:1]]


def _split(question: Question, gpus: Sequence[str], singles: Sequence[Placement]) -> list[Placement]:
    """The whole model on as few GPUs as hold it: by what is free now, else by what there is at most."""
    if any(_fits(question, single, now=True) for single in singles):
        return []
    for now in (True, False):
        room = {gpu: _now(question, gpu) if now else _most(question, gpu) for gpu in gpus}
        roomy = sorted((gpu for gpu in gpus if room[gpu] > 0), key=lambda gpu: -room[gpu])
        for count in range(2, len(roomy) + 1):
            chosen = [gpu for gpu in gpus if gpu in roomy[:count]]
            for placement in _placed(question, Layout(tuple(chosen), _shares([room[gpu] for gpu in chosen]))):
                if _fits(question, placement, now=now):
                    return [placement]
    return []


def _partial(question: Question, gpus: Sequence[str]) -> list[Placement]:
    """As many layers as the roomiest GPU takes once everything of ours has gone; the rest on the host."""
    if question.fixed.whole or not question.layers:
        return []
    gpu = max(gpus, key=lambda each: _capacity(question, each))
    low, high = 0, question.layers - 1
    while low < high:  # the most that fit: the needs grow with the layers
        middle = (low + high + 1) // 2
        needs = question.needs_of(Layout((gpu,), layers=middle))
        fits = needs is not None and needs.get(question.memory_of(gpu), 0) <= _capacity(question, gpu)
        low, high = (middle, high) if fits else (low, middle - 1)
    of = f"{low} of {question.layers} layers"
    if low == 0:
        return list(_placed(question, Layout(layers=0), label=f"{HOST}, {of}", partial=True))
    return list(_placed(question, Layout((gpu,), layers=low), label=f"{gpu}, {of}", partial=True))


def _placed(question: Question, layout: Layout, *, label: str = "", partial: bool = False) -> Iterator[Placement]:
    totals = question.needs_of(layout)
    if totals is None:
        return
    needs: dict[str, int] = {}
    for name, size in totals.items():
        memory = question.memory_of(name)
        needs[memory] = needs.get(memory, 0) + size
    options = options_of(layout, question.fixed)
    yield Placement(needs, options, partial=partial, label=label or "+".join(layout.devices))


def options_of(layout: Layout, fixed: Fixed) -> tuple[tuple[str, ...], ...]:
    """What the child is told of a layout, over what the operator said; nothing that he said himself."""
    options: list[tuple[str, ...]] = [] if fixed.fit else [("--fit", "off")]
    if fixed.exactly:
        return tuple(options)
    if layout.devices:
        options.append(("--device", ",".join(layout.devices)))
    elif layout.layers == 0:
        options.append(("--device", "none"))
    if len(layout.devices) > 1:
        options += [("--split-mode", "layer"), ("--tensor-split", ",".join(map(str, layout.split)))]
    if layout.devices and fixed.layers is None:
        options.append(("--n-gpu-layers", str(_ALL_LAYERS if layout.layers is None else layout.layers)))
    return tuple(options)


def layout_of(placement: Placement) -> Layout:
    """The layout that a placement was made of: `options_of` backwards."""
    said = {words[0]: words[1:] for words in placement.options}
    devices = said.get("--device", ("",))[0]
    layers = said.get("--n-gpu-layers")
    if devices in ("", "none"):
        return Layout(layers=0 if devices else None)
    split = tuple(map(int, said["--tensor-split"][0].split(","))) if "--tensor-split" in said else ()
    number = _ALL_LAYERS if layers is None else int(layers[0])
    return Layout(tuple(devices.split(",")), split, None if number == _ALL_LAYERS else number)


def _label_of_fixed(fixed: Fixed) -> str:
    return "+".join(fixed.devices) if fixed.devices else "as its options say"


def _fits(question: Question, placement: Placement, *, now: bool) -> bool:
    most = _now if now else _most
    return all(size <= most(question, memory) for memory, size in placement.needs.items() if memory in question.rooms)


def _now(question: Question, gpu: str) -> int:
    """What may be taken without anybody's going."""
    memory = question.memory_of(gpu)
    room = question.rooms.get(memory)
    if room is None:
        return 0
    ours = question.held.get(memory, 0) if room.ours is None else room.ours
    left = room.free if room.budget is None else min(room.free, room.budget - ours)
    return max(0, left - room.reserve)


def _capacity(question: Question, gpu: str) -> int:
    """What our children may hold together there, beside what others hold now."""
    memory = question.memory_of(gpu)
    room = question.rooms.get(memory)
    if room is None:
        return 0
    ours = question.held.get(memory, 0) if room.ours is None else room.ours
    return max(0, min(room.most, room.free + ours - room.reserve))


def _most(question: Question, gpu: str) -> int:
    room = question.rooms.get(question.memory_of(gpu))
    return 0 if room is None else room.most


def _shares(rooms: Sequence[int]) -> tuple[int, ...]:
    """Percentages by room, none of them 0."""
    whole = sum(rooms)
    return tuple(max(1, round(_PERCENT * room / whole)) for room in rooms)
