"""What a child says of itself at `/metrics`, to be merged with what the others say: each sample by its model.

    "llamacpp:n_decode_total 7" --samples_of--> Sample --write_children--> llamacpp:n_decode_total{model="m"} 7

The engine may be anybody's, so what it says is read like a stranger's word: names and numbers of one shape, a bound on
how many, and labels that do not take the place of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from llamarouter.core.exposition import Kind, Metric, Page, labels_of

_MOST = 256  # samples of one child
_LONGEST = 512  # characters of a line
_SAMPLE = re.compile(
    r"(llamacpp:[a-zA-Z0-9_:]{1,100})"
    r'(?:\{([a-zA-Z_][a-zA-Z0-9_]{0,40}="[a-zA-Z0-9_.:-]{0,40}")\})?'
    r" ([-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"
)
_KINDS = {"counter": Kind.COUNTER, "gauge": Kind.GAUGE}


class Sample(Struct, frozen=True):
    """One figure. `labels`: those of the child's own, as they are written."""

    metric: Metric
    labels: str
    value: float


def samples_of(text: str) -> tuple[Sample, ...]:
    """What can be read of a child's page, in its order."""
    helps: dict[str, str] = {}
    kinds: dict[str, Kind] = {}
    found: dict[tuple[str, str], Sample] = {}
    for line in text.splitlines():
        if len(line) > _LONGEST or len(found) >= _MOST:
            continue
        if line.startswith("# HELP "):
            name, _, help = line[7:].partition(" ")
            helps[name] = help
        elif line.startswith("# TYPE "):
            name, _, word = line[7:].partition(" ")
            kinds[name] = _KINDS.get(word.strip(), Kind.UNKNOWN)
        elif (match := _SAMPLE.fullmatch(line.strip())) is not None:
            name, labels, value = match[1], match[2] or "", float(match[3])
            value = int(value) if value.is_integer() else value
            if not labels.startswith("model="):
                metric = Metric(name, kinds.get(name, Kind.UNKNOWN), (), helps.get(name, ""))
                found.setdefault((name, labels), Sample(metric, labels, value))
    return tuple(found.values())


def write_children(page: Page, children: Mapping[str, Iterable[Sample]]) -> None:
    """The figures of all children, by model; what a metric is, the first says that has it."""
    families: dict[str, tuple[Metric, list[tuple[str, float]]]] = {}
    for model, samples in children.items():
        mine = labels_of(("model",), (model,))
        for sample in samples:
            _, lines = families.setdefault(sample.metric.name, (sample.metric, []))
            lines.append((f"{mine},{sample.labels}" if sample.labels else mine, sample.value))
    for metric, lines in families.values():
        page.family(metric, lines)
