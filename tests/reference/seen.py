"""What was seen of an answer, with everything accidental (times, ids, ports, paths) taken out, so that two can be laid
side by side; and the differences between two, field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Seen = dict[str, object]
ABSENT = "(absent)"

# Values that are never the same twice. By key, wherever it stands.
_ACCIDENTAL = {
    "total_bytes",
    "created",
    "created_at",
    "completed_at",
    "started_at",
    "t_max_predicted_ms",
    "generation_settings",
}
# Objects whose numbers are measurements.
_MEASURED = {"timings"}
_RANDOM = re.compile(r"(?<![a-z])(chatcmpl|cmpl|resp|msg|rs|fc|call|media)[-_][A-Za-z0-9]{8,}")
# Set anew by every hop, or by the length of a body that is compared anyway.
_NO_HEADERS = {"content-length", "date", "process-start-time-unix"}


@dataclass(frozen=True)
class Normalizer:
    """What belongs to one side and not to the other: its folder, its engine's path, its port."""

    root: str
    engine: str
    port: int

    def text(self, text: str) -> str:
        text = text.replace(self.root, "ROOT").replace(self.engine, "ENGINE")
        if self.port:
            text = re.sub(rf"\b{self.port}\b", "PORT", text)
        return _RANDOM.sub(r"\1-ID", text)

    def value(self, value: object, key: str = "", measured: bool = False) -> object:
        """A JSON value with the accidental parts named."""
        if key in _ACCIDENTAL:
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            return {k: self.value(v, k, measured or k in _MEASURED) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v, key, measured) for v in value]
        if isinstance(value, str):
            return self.text(value)
        if measured and isinstance(value, int | float):
            return "<number>"
        return value

    def answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> Seen:
        """An answer as an observation."""
        kept = {name.lower(): self.text(value) for name, value in headers if name.lower() not in _NO_HEADERS}
        return {"status": status, "header": kept, "body": self.body(body)}

    def body(self, body: bytes) -> object:
        try:
            return self.value(json.loads(body))
        except ValueError:
            text = body.decode("utf-8", "backslashreplace")
        if text.startswith(("data: ", "event: ", ": ")):
            return self.stream(text)
        return self.text(text[:300])

    def stream(self, text: str) -> list[str]:
        """An event stream: one text an event, its JSON reduced to keys and kinds (tokens differ by chance)."""
        events = []
        for block in text.strip().split("\n\n"):
            lines = [self._line(line) for line in block.split("\n")]
            told = " | ".join(line for line in lines if line)
            if told and (not events or events[-1] != told):
                events.append(told)
        return events

    def _line(self, line: str) -> str:
        name, _, value = line.partition(": ")
        if name != "data":
            return line
        try:
            return "data: " + _shape(json.loads(value))
        except ValueError:
            return line

    def event(self, record: dict[str, object]) -> str:
        """A record of the event feed as one text: progress without its figure."""
        data = self.value(record.get("data"))
        if isinstance(data, dict):
            data.pop("info", None)
            if isinstance(data.get("progress"), dict):
                data["progress"] = {**data["progress"], "value": "<number>"}
            if record["event"] == "download_progress":
                data = "<progress>"
        kept = "" if data is None else " " + json.dumps(data, sort_keys=True)
        return f"{record['model']} {record['event']}{kept}"


def _shape(value: object) -> str:
    """Keys and kinds of a JSON value, in order of the keys."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shape(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dict.fromkeys(map(_shape, value))) + "]"
    return "null" if value is None else {"str": "text", "int": "n", "float": "n"}.get(type(value).__name__, "bool")


# --- side by side ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Apart:
    """One field of one row in which the two sides are apart."""

    row: str
    field: str
    there: object
    here: object


def apart(row: str, there: Seen, here: Seen) -> list[Apart]:
    """Every field in which two observations differ."""
    left, right = dict(_leaves(there)), dict(_leaves(here))
    return [
        Apart(row, name, left.get(name, ABSENT), right.get(name, ABSENT))
        for name in dict.fromkeys((*left, *right))
        if left.get(name, ABSENT) != right.get(name, ABSENT)
    ]


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and (value or path != "body"):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")
    else:
        yield path, value
