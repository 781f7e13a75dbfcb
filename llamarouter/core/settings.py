"""The settings of `lr serve`: its command line and its environment, parsed once into frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llamarouter.core.flags import Given, OptionTable
from llamarouter.core.model import Skipped

GivenOption = Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator decided for the whole router. Times are seconds."""

    models_dir: str | None = None
    preset: str | None = None
    engine: tuple[str, ...] | None = None  # a command: the binary, perhaps behind a prefix (`numactl ...`)
    models_max: int = 4  # 0: no limit
    autoload: bool = True
    host: tuple[str, ...] = ("127.0.0.1",)  # addresses, or paths ending in `.sock`
    port: int = 8080  # 0: any that is free
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allow_open: bool = False
    max_wait: float = 10.0
    queue_timeout: float = 300.0
    load_stall: float = 120.0
    busy_stall: float = 120.0
    drain_timeout: float = 120.0
    stop_timeout: float = 10.0
    ui: bool = True
    ui_path: str | None = None  # a folder of static files instead of the engine's own page
    offline: bool = False
    hf_token: str | None = field(default=None, repr=False)
    log_level: str = "info"  # of debug, info, warning, error
    runtime_dir: str | None = None
    options: tuple[GivenOption, ...] = ()  # llama-server's, for every child
    warnings: tuple[Skipped, ...] = ()  # what was given and is left out


def parse_settings(
    argv: Sequence[str], environ: Mapping[str, str], table: OptionTable, read_file: Callable[[str], str]
) -> Settings:
    """The settings of a command line and an environment; raises UsageError (one line).

    `table` is the engine's; `read_file` gives the text of `--api-key-file` and may raise OSError.
    """
    raise NotImplementedError


def engine_of(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """The command of `--engine` or `LR_ENGINE`, found before there is any table to read the rest by."""
    raise NotImplementedError
