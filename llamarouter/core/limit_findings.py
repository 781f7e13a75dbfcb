"""What the limits of a process mean for a router."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from llamarouter.core.findings import Finding, Severity

AREA = "limits"
# A request holds two descriptors, a child some ten; below the first figure a handful of clients is too many.
LEAST_FILES = 256
GOOD_FILES = 4096


class ProcessLimits(Struct, frozen=True):
    """Soft limits of a process; None: none. Bytes, but for files."""

    files: int | None
    files_hard: int | None
    locked: int | None
    address_space: int | None


def limit_findings(
    limits: ProcessLimits, whose: str, largest_model: int = 0, locking: tuple[str, ...] = ()
) -> Iterator[Finding]:
    """`largest_model`: bytes; `locking`: the models that are started with --mlock."""
    yield _files(limits, whose)
    if limits.address_space is not None:
        yield _address_space(limits.address_space, whose, largest_model)
    if locking and limits.locked is not None:
        yield Finding(
            AREA,
            Severity.WARNING,
            f"{', '.join(locking[:3])} lock their memory (--mlock), and {limits.locked >> 20} MiB may be locked",
            whose,
            "LimitMEMLOCK=infinity in its unit, `ulimit -l unlimited` in its shell; or leave --mlock out",
        )


def _files(limits: ProcessLimits, whose: str) -> Finding:
    files, hard = limits.files, limits.files_hard
    if files is None or files >= GOOD_FILES:
        return Finding(AREA, Severity.FINE, f"{'any number of' if files is None else files} files may be open", whose)
    shell = f"`ulimit -n {GOOD_FILES if hard is None else min(GOOD_FILES, hard)}` in the shell that starts it"
    return Finding(
        AREA,
        Severity.ERROR if files < LEAST_FILES else Severity.WARNING,
        f"only {files} files may be open: each client takes two, and beyond them nobody is let in",
        whose,
        f"LimitNOFILE=65536 in its unit, or {shell}",
    )


def _address_space(limit: int, whose: str, largest_model: int) -> Finding:
    small = largest_model >= limit
    what = f"the address space is limited to {limit / 1e9:.1f} GB: models are mapped into it, drivers reserve more"
    return Finding(
        AREA,
        Severity.ERROR if small else Severity.WARNING,
        f"{what}; the largest model has {largest_model / 1e9:.1f} GB" if small else what,
        whose,
        "LimitAS=infinity in its unit, `ulimit -v unlimited` in its shell; MemoryMax= bounds memory better",
    )
