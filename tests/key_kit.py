"""Keys for a router under test."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from llamarouter.core.keys import Key, Limits, added, digest_of, removed
from llamarouter.host.key_file import KEYS, KeyFile

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
NONE = Limits()


def give(
    folder: Path,
    name: str,
    *,
    models: tuple[str, ...] | None = None,
    admin: bool = False,
    metrics: bool = False,
    limits: Limits = NONE,
    default_model: str | None = None,
    expires: datetime | None = None,
) -> dict[str, str]:
    """Write one more key into the state folder of a router; the header that its requests need."""
    key = Key(
        name=name,
        digest=digest_of(secret_of(name).encode()),
        created=CREATED,
        models=models,
        admin=admin,
        metrics=metrics,
        limits=limits,
        default_model=default_model,
        expires=expires,
    )
    KeyFile(folder / KEYS).change(lambda keys: added(keys, key))
    return {"authorization": f"Bearer {secret_of(name)}"}


def secret_of(name: str) -> str:
    return f"sk-lr-{name}"


def take(folder: Path, name: str) -> None:
    """Take a key away."""
    KeyFile(folder / KEYS).change(lambda keys: removed(keys, name))


def turn(folder: Path, name: str, models: tuple[str, ...]) -> None:
    """Let a key have other models."""
    KeyFile(folder / KEYS).change(lambda keys: tuple(_with(key, models) if key.name == name else key for key in keys))


def _with(key: Key, models: tuple[str, ...]) -> Key:
    return replace(key, models=models)
