"""One picture of `lr top`, from what the router says: pure, so that a test can look at it.

what is known (Scene), what is chosen, the size  ->  frame_of  ->  something that rich prints
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llamarouter.cli.failures import one_line
from llamarouter.cli.models import RUNNING, Listing, Row
from llamarouter.cli.output import STATE_COLOURS, by_device, duration_of, number_of, size_of

KEYS = "up/down choose   l load   u unload   p pin/unpin   q quit"
_EVICTIONS = 4
_HAPPENED = 3
_ENDS = {"evicted": "made room for another", "expired": "its time to live was over", "unloaded": "was unloaded"}
_BAR = 20
_WIDE = 90  # columns


@dataclass(frozen=True, slots=True)
class Scene:
    """What the router said last."""

    status: Mapping[str, Any]
    listing: Listing
    devices: Sequence[Mapping[str, Any]] = ()
    happened: Sequence[str] = ()  # the latest last

    @property
    def rows(self) -> list[Row]:
        """What runs first, then what is waited for, then by name: the order in which they are chosen."""
        return sorted(self.listing.rows, key=lambda row: (row.state not in RUNNING, not row.waiting, row.id))


def frame_of(scene: Scene, chosen: str | None, width: int, height: int, message: str = "") -> RenderableType:
    """A frame of at most `height` lines; a narrow one has fewer columns."""
    rest = [*_devices(scene.devices), *_ends(scene.rows), *_happened(scene.happened)]
    room = max(3, height - len(rest) - 5)
    rows = _window(scene.rows, chosen, room)
    foot = Text(one_line(message) if message else KEYS, style="yellow" if message else "dim", no_wrap=True)
    return Group(_head(scene), _models(rows, chosen, wide=width >= _WIDE), *rest, foot)


def _head(scene: Scene) -> Text:
    rows, status = scene.rows, scene.status
    sums = [sum(getattr(row, name) or 0 for row in rows) for name in ("in_flight", "waiting")]
    speed = sum(
        row.tokens_per_second or 0 for row in rows if row.in_flight
    )  # of the others it is that of the last answer
    loaded = sum(row.state in RUNNING for row in rows)
    where = ", ".join(map(str, status.get("listen") or ())) or "router"
    draining = "  DRAINING" if status.get("draining") else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"lr {status.get('version', '')}  {where}  up {duration_of(status.get('uptime'))}", style="bold")
    text.append(f"   {loaded} of {len(rows)} in memory   {sums[0]} in flight   {sums[1]} waiting")
    text.append(f"   {speed:.1f} tok/s{draining}")
    return text


def _window(rows: Sequence[Row], chosen: str | None, room: int) -> Sequence[Row]:
    """As many rows as fit, the chosen one among them."""
    place = next((index for index, row in enumerate(rows) if row.id == chosen), 0)
    first = max(0, min(place - room // 2, len(rows) - room))
    return rows[first : first + room]


def _models(rows: Iterable[Row], chosen: str | None, *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    table.add_column("")
    table.add_column("MODEL", ratio=1, no_wrap=True, overflow="ellipsis", min_width=8)
    table.add_column("STATE", no_wrap=True)
    for name in ("IN FLIGHT", "WAITING"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("TOK/S", justify="right", no_wrap=True)
    for name in ("HOLDS", "USED") if wide else ():
        table.add_column(name, no_wrap=True)
    for row in rows:
        mine = row.id == chosen
        pinned = " pinned" if row.pinned else ""
        more = (
            number_of(row.tokens_per_second),
            by_device(row.held) if row.held else "-",
            "now" if row.in_flight else "-" if row.last_used is None else duration_of(row.last_used),
        )
        table.add_row(
            ">" if mine else "",
            Text(one_line(row.id)),
            Text(row.shown_state + pinned, style=STATE_COLOURS.get(row.shown_state.split()[0], "")),
            f"{row.in_flight}/{row.slots}" if row.in_flight is not None and row.slots else number_of(row.in_flight),
            number_of(row.waiting or None),
            *(more if wide else ()),
            style="reverse" if mine else "",
        )
    return table


def _devices(devices: Iterable[Mapping[str, Any]]) -> list[Text]:
    lines = []
    for device in devices:
        total, free = device.get("total") or 0, device.get("free") or 0
        used = round(_BAR * (total - free) / total) if total else 0
        bar = "#" * used + "." * (_BAR - used)
        said = f"{size_of(device.get('booked'))} by models, {size_of(free)} of {size_of(total)} free"
        stale = "  (does not answer: old figures)" if device.get("stale") else ""
        lines.append(Text(f" {one_line(device.get('name'))!s:<8} [{bar}] {said}{stale}", no_wrap=True))
    return lines


def _ends(rows: Iterable[Row]) -> list[Text]:
    """The models that ended last, and why."""
    ended = []
    for row in rows:
        if row.stopped is not None and row.stopped_ago is not None:
            ended.append((row.stopped_ago, row.id, _why_of(row), "dim"))
        elif row.failure is not None and row.failure.seconds_ago is not None and row.state == "unloaded":
            ended.append((row.failure.seconds_ago, row.id, row.failure.message, "red"))
    return [
        Text(f" {duration_of(ago)} ago: {one_line(id)} {one_line(why)}", style=style, no_wrap=True, overflow="ellipsis")
        for ago, id, why, style in sorted(ended)[:_EVICTIONS]
    ]


def _why_of(row: Row) -> str:
    if row.stopped_for:
        return f"made room for {row.stopped_for}, which needed its {row.stopped_lacks}"
    return _ENDS.get(row.stopped or "", row.stopped or "")


def _happened(happened: Sequence[str]) -> list[Text]:
    return [
        Text(f" {one_line(line)}", style="dim", no_wrap=True, overflow="ellipsis") for line in happened[-_HAPPENED:]
    ]
