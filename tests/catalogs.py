"""Catalogues for tests: a preset's text, some discovered models, and files that are there because a test says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from llamarouter.core.catalog import Catalog, Entry, build_catalog
from llamarouter.core.flags import OptionTable
from llamarouter.core.ini import Ini, parse_ini
from llamarouter.core.model import Files, Header, Model, Source
from llamarouter.core.settings import parse_settings
from tests.engine_table import TABLE

CACHED = Model(
    id="user/repo:Q4_K_M",
    source=Source.CACHE,
    repo="user/repo:Q4_K_M",
    removable=True,
    files=Files(
        model="/hub/models--user--repo/snapshots/c/R-Q4_K_M.gguf",
        mmproj="/hub/models--user--repo/snapshots/c/mmproj-F16.gguf",
    ),
)
LOCAL = Model(
    id="local", source=Source.MODELS_DIR, files=Files(model="/models/local.gguf", draft="/models/mtp-local.gguf")
)


def describe(path: str) -> Model:
    """A file as the host would describe it: relative paths lie in /cwd, `missing` ones nowhere."""
    absolute = path if path.startswith("/") else f"/cwd/{path}"
    if "missing" in path:
        return Model(id=path, source=Source.PRESET, problem=f"{absolute}: no such file")
    kinds = {"hears.gguf": ("clip", ("audio",)), "llama.gguf": ("llama", ("text",))}
    header = None
    if path in kinds:
        architecture, takes = kinds[path]
        header = Header(
            architecture=architecture,
            name=None,
            quant=None,
            n_params=1,
            n_ctx_train=None,
            n_embd=None,
            n_layer=None,
            n_vocab=None,
            input_modalities=takes,
        )
    return Model(id=path, source=Source.PRESET, files=Files(model=absolute), size=7, header=header)


def catalog_of(
    preset: str = "",
    *,
    models: Sequence[Model] = (),
    argv: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    config: str | Ini = "",
    repos: Mapping[str, Model] | None = None,
    tables: Mapping[str | None, OptionTable] | None = None,
    previous: Catalog | None = None,
    table: OptionTable = TABLE,
) -> Catalog:
    """The catalogue of all this, with `preset` as the file p.ini and `config` as config.ini."""
    variables = environ or {}
    config_ini = (parse_ini(config, "config.ini") if isinstance(config, str) else config) if config else None
    cached = repos or {}
    return build_catalog(
        models=models,
        skipped=(),
        ini=parse_ini(preset, "p.ini") if preset else None,
        config_ini=config_ini,
        settings=parse_settings(argv, variables, table, lambda path: "", config_ini),
        environ=variables,
        tables=tables or {None: TABLE},
        describe=describe,
        resolve_repo=cached.get,
        previous=previous,
    )


def entry_of(catalog: Catalog, name: str) -> Entry:
    """The entry by its exact id, which must be there."""
    return catalog.entries[name]


def flags_of(catalog: Catalog, name: str) -> dict[str, tuple[str, str]]:
    """Each flag of a model's launch: its value and its origin."""
    launch = catalog.entries[name].launch
    assert launch is not None, catalog.entries[name].problem
    return {flag.option: (" ".join(flag.values), flag.origin) for flag in launch.flags}


def warnings_of(catalog: Catalog) -> list[str]:
    """All warnings as people read them."""
    return [str(warning) for warning in catalog.skipped]


def renamed(model: Model, name: str) -> Model:
    """The same model under another id."""
    return replace(model, id=name)
