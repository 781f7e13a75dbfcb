"""llama.cpp's own `config.ini`: what the router takes for itself, what its models get, and what it warns of."""

from __future__ import annotations

import pytest

from llamarouter.core.config_ini import SYSTEM, leaks_of
from llamarouter.core.errors import UsageError
from llamarouter.core.ini import parse_ini
from llamarouter.core.settings import Settings, parse_settings
from tests.catalogs import LOCAL, catalog_of, flags_of, warnings_of
from tests.engine_table import TABLE


def settings_of(config: str, *argv: str, **environ: str) -> Settings:
    return parse_settings(argv, environ, TABLE, lambda path: "", parse_ini(config, "config.ini"))


def test_the_router_reads_its_own_options_there() -> None:
    settings = settings_of(
        "models-max = 2\nno-ui = 1\n"
        "[*]\nport = 9\nLLAMA_ARG_MODELS_AUTOLOAD = off\napi-key = k\nto = 5\nlv = 4\n"
        "[m]\nport = 8\n"
    )
    assert (settings.models_max, settings.ui, settings.port, settings.autoload) == (2, False, 9, False)
    assert (settings.api_keys, settings.timeout, settings.log.level) == (("k",), 5, "debug")
    assert settings.options == ()  # nobody said so on the command line


def test_variables_and_the_command_line_win_over_it() -> None:
    assert settings_of("port = 9\nui = off\n", LLAMA_ARG_PORT="8", LLAMA_ARG_UI="on").port == 8
    assert settings_of("port = 9\nui = off\n", LLAMA_ARG_PORT="8", LLAMA_ARG_UI="on").ui
    assert settings_of("port = 9\nui = off\n", "--port", "7", "--ui", LLAMA_ARG_PORT="8").port == 7
    assert settings_of("port = 9\nui = off\n", "--ui").ui
    assert settings_of("[*]\nport = 1\n[*]\nport = 2\n").port == 2


def test_the_model_of_other_programs_is_not_the_one_that_is_served() -> None:
    settings = settings_of("model = x.gguf\nalias = y\nhf-repo = u/r\n")
    assert (settings.one_model, settings.default_model) == (None, None)


def test_what_is_wrong_there_names_file_and_line() -> None:
    with pytest.raises(UsageError, match=r"^config.ini:2: port must be a whole number, not 'x'$"):
        settings_of("\nport = x\n")
    with pytest.raises(UsageError, match=r"^config.ini:1: ui must be on or off, not 'perhaps'$"):
        settings_of("ui = perhaps\n")


def test_its_models_get_the_rest_and_what_is_shared() -> None:
    catalog = catalog_of(models=[LOCAL], config="port = 9\nmax-wait = 5\nctx-size = 5\ntimeout = 7\ntools = all\n")
    flags = flags_of(catalog, "local")
    assert flags["--ctx-size"] == ("5", "config.ini:3")
    assert flags["--timeout"] == ("7", "config.ini:4")
    assert not {"--port", "--max-wait", "--tools"} & flags.keys()
    assert warnings_of(catalog) == ["config.ini:5: tools is ignored: the router owns it"]


def test_unknown_keys_are_a_warning_each() -> None:
    catalog = catalog_of(models=[LOCAL], config="ctx-sise = 5\nfrobnicate = 1\nctx-size = 4\n")
    assert flags_of(catalog, "local")["--ctx-size"] == ("4", "config.ini:3")
    assert warnings_of(catalog) == [
        "config.ini:1: left out: no option is called 'ctx-sise'; did you mean ctx-size?",
        "config.ini:2: left out: no option is called 'frobnicate'",
    ]


def test_what_would_close_the_models_in_the_systems_file_is_warned_of() -> None:
    text = "api-key = secret\nport = 9\nctx-size = 4\n"
    (warning,) = leaks_of(parse_ini(text, SYSTEM))
    assert warning.where == f"{SYSTEM}:1"
    assert "secret" not in str(warning)
    assert leaks_of(parse_ini(text, "/home/me/.config/llama.cpp/config.ini")) == []
    assert leaks_of(None) == []
