"""The command line and the environment of `lr serve`."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import pytest

from llamarouter.core.cors import Cors
from llamarouter.core.errors import UsageError
from llamarouter.core.flags import OptionTable
from llamarouter.core.hosts import is_loopback
from llamarouter.core.own_options import OWN, OWN_TABLE
from llamarouter.core.settings import Settings, engine_of, parse_settings
from tests.engine_table import TABLE

KEY = "sk-canary-1234567890"


def _settings(*argv: str, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Settings:
    def read(path: str) -> str:
        if files is None or path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return parse_settings(argv, environ or {}, TABLE, read)


def _refusal(*argv: str, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        _settings(*argv, environ=environ, files=files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    assert _settings() == Settings()
    assert (Settings().models_max, Settings().port, Settings().host) == (4, 8080, ("127.0.0.1",))


def test_everything_on_the_command_line() -> None:
    settings = _settings(
        *("--models-dir", "m", "--models-preset", "p.ini", "--models-max", "2", "--no-models-autoload"),
        *("--engine", "numactl -N 0 '/opt/my llama/llama-server'", "--host", "::1, localhost", "--port", "9"),
        *("--api-key", "a,b", "--max-wait", "0", "--queue-timeout", "1.5", "--load-stall", "2", "--busy-stall", "3"),
        *("--drain-timeout", "4", "--stop-timeout", "5", "--path", "ui", "--offline", "-hft", "t"),
        *("--log-level", "DEBUG", "--runtime-dir", "/r", "--allow-open", "-c", "8192", "-ngl", "99"),
    )
    assert settings.models_dir == "m"
    assert settings.preset == "p.ini"
    assert settings.models_max == 2
    assert not settings.autoload
    assert settings.engine == ("numactl", "-N", "0", "/opt/my llama/llama-server")
    assert settings.host == ("::1", "localhost")
    assert settings.port == 9
    assert settings.api_keys == ("a", "b")
    assert (settings.max_wait, settings.queue_timeout, settings.load_stall, settings.busy_stall) == (0, 1.5, 2, 3)
    assert (settings.drain_timeout, settings.stop_timeout) == (4, 5)
    assert (settings.ui, settings.ui_path, settings.offline, settings.hf_token) == (True, "ui", True, "t")
    assert (settings.log.level, settings.runtime_dir, settings.allow_open) == ("debug", "/r", True)
    options = [(given.option.canonical, given.values) for given in settings.options]
    assert options == [("--offline", ()), ("--ctx-size", ("8192",)), ("--n-gpu-layers", ("99",))]
    assert all(given.origin == "command line" for given in settings.options)


@pytest.mark.parametrize(
    ("name", "value", "field", "parsed"),
    [
        ("LLAMA_ARG_MODELS_DIR", "m", "models_dir", "m"),
        ("LLAMA_ARG_MODELS_PRESET", "p", "preset", "p"),
        ("LLAMA_ARG_MODELS_MAX", "-1", "models_max", 0),
        ("LLAMA_ARG_MODELS_AUTOLOAD", "off", "autoload", False),
        ("LLAMA_ARG_NO_MODELS_AUTOLOAD", "1", "autoload", False),
        ("LLAMA_ARG_HOST", "localhost", "host", ("localhost",)),
        ("LLAMA_ARG_PORT", "0", "port", 0),
        ("LLAMA_API_KEY", "a, b", "api_keys", ("a", "b")),
        ("LLAMA_ARG_UI", "0", "ui", False),
        ("LLAMA_ARG_STATIC_PATH", "d", "ui_path", "d"),
        ("LLAMA_ARG_OFFLINE", "1", "offline", True),
        ("HF_TOKEN", "t", "hf_token", "t"),
        ("LR_ENGINE", "a b", "engine", ("a", "b")),
        ("LR_ALLOW_OPEN", "1", "allow_open", True),
        ("LR_MAX_WAIT", "3", "max_wait", 3.0),
        ("LR_QUEUE_TIMEOUT", "3", "queue_timeout", 3.0),
        ("LR_QUEUE_PER_MODEL", "3", "queue_per_model", 3),
        ("LR_QUEUE_IN_ALL", "3", "queue_in_all", 3),
        ("LR_QUEUE_BYTES", "3M", "queue_bytes", 3 << 20),
        ("LR_WAIT_COMMENT", "0", "wait_comment", 0.0),
        ("LR_LOAD_STALL", "3", "load_stall", 3.0),
        ("LR_BUSY_STALL", "3", "busy_stall", 3.0),
        ("LR_DRAIN_TIMEOUT", "3", "drain_timeout", 3.0),
        ("LR_STOP_TIMEOUT", "3", "stop_timeout", 3.0),
        ("LR_LOG_LEVEL", "error", "log.level", "error"),
        ("LR_RUNTIME_DIR", "/r", "runtime_dir", "/r"),
        ("LR_DEFAULT_MODEL", "m", "default_model", "m"),
        ("LLAMA_ARG_TIMEOUT", "3", "timeout", 3.0),
        ("LLAMA_ARG_LOG_FILE", "f", "log.file", "f"),
        ("LLAMA_ARG_LOG_VERBOSITY", "2", "log.level", "warning"),
        ("LR_PORT", "9", "port", 8080),
        ("LLAMA_ARG_PORT", "", "port", 8080),
    ],
)
def test_environment(name: str, value: str, field: str, parsed: object) -> None:
    assert attrgetter(field)(_settings(environ={name: value})) == parsed


def test_the_command_line_wins_over_the_environment() -> None:
    environ = {"LLAMA_ARG_PORT": "1", "LLAMA_ARG_NO_MODELS_AUTOLOAD": "1", "LR_MAX_WAIT": "9", "LLAMA_ARG_UI": "off"}
    settings = _settings("--port=2", "--models-autoload", "--max-wait", "3", "--webui", environ=environ)
    assert (settings.port, settings.autoload, settings.max_wait, settings.ui) == (2, True, 3, True)


def test_keys_add_up_from_everywhere() -> None:
    files = {"keys": "# the team\n\n  k1  \nk2\n#k3\n"}
    settings = _settings(
        "--api-key", "c", "--api-key", "c,d", "--api-key-file", "keys", environ={"LLAMA_API_KEY": "e"}, files=files
    )
    assert settings.api_keys == ("e", "c", "d", "k1", "k2")


def test_no_secret_in_what_is_printed() -> None:
    settings = _settings("--api-key", KEY, "--hf-token", KEY)
    assert KEY not in repr(settings)
    assert KEY not in _refusal("--api-key", f"{KEY} x")
    assert KEY not in _refusal("--api-key-file", "keys", files={"keys": f"{KEY}\té\n"})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prot", "1"], "unknown option --prot; did you mean --port?"),
        (["--port"], "--port needs a value: --port PORT"),
        (["--port", "http"], "--port must be a whole number, not 'http'"),
        (["--port", "70000"], "--port must be from 0 to 65535, not 70000"),
        (["--models-max", "many"], "--models-max must be a whole number, not 'many'"),
        (["--max-wait", "soon"], "--max-wait must be a number of seconds, 0 or more, not 'soon'"),
        (["--max-wait", "-1"], "--max-wait must be a number of seconds, 0 or more, not '-1'"),
        (["--queue-timeout", "0"], "--queue-timeout must be a number of seconds, more than 0, not '0'"),
        (["--queue-per-model", "0"], "--queue-per-model must be from 1 to 2147483647, not 0"),
        (["--queue-in-all", "many"], "--queue-in-all must be a whole number, not 'many'"),
        (["--queue-bytes", "1K"], "--queue-bytes must be a number of bytes, 1M or more (as in 512M or 2G), not '1K'"),
        (["--queue-bytes", "50%"], "--queue-bytes must be a number of bytes, 1M or more (as in 512M or 2G), not '50%'"),
        (["--wait-comment", "-1"], "--wait-comment must be a number of seconds, 0 or more, not '-1'"),
        (["--load-stall", "nan"], "--load-stall must be a number of seconds, more than 0, not 'nan'"),
        (["--load-stall", "inf"], "--load-stall must be a number of seconds, more than 0, not 'inf'"),
        (["--log-level", "loud"], "--log-level must be one of debug, info, warning, error, not 'loud'"),
        (["--models-dir", ""], "--models-dir is empty"),
        (["--engine", "a 'b"], "--engine a 'b: no closing quotation"),
        (["--engine", " "], "--engine is empty"),
        (["--api-key", ","], "--api-key holds no key"),
        (["--api-key-file", "gone"], "--api-key-file gone: No such file or directory"),
        (["--ssl-key-file", "k"], "--ssl-key-file k needs its certificate, too: --ssl-cert-file FILE"),
        (["--ssl-cert-file", "c"], "--ssl-cert-file c needs its key, too: --ssl-key-file FILE"),
        (["--api-prefix", "llm"], "--api-prefix llm: a path of letters, digits"),
        (["--api-prefix", "/a/../b"], "--api-prefix /a/../b: a path of"),
        (["--api-prefix", "/a//b"], "--api-prefix /a//b: a path of"),
        (["--api-prefix", "/a b"], "--api-prefix /a b: a path of"),
        (["--api-prefix", "/{x}"], "--api-prefix /{x}: a path of"),
        (["--api-prefix", "/%61"], "--api-prefix /%61: a path of"),
        (["--cors-origins", "http://a\r\nx: y"], "only printable ASCII can stand in a header"),
        (["--cors-headers", "x-\u00e9"], "only printable ASCII can stand in a header"),
        (["--cors-origins", " "], "--cors-origins is empty"),
        (["--ui-config", "{"], "--ui-config: not JSON: Expecting property name"),
        (["--ui-config", "[" * 100_000], "--ui-config: nested too deep"),
        (["--ui-config", "[1]"], "--ui-config: must be a JSON object"),
        (["--ui-config-file", "gone"], "--ui-config-file gone: No such file or directory"),
        (["--ui-config", "{}", "--ui-config-file", "f"], "--ui-config and --ui-config-file: give one of them"),
        (["--port", "0", "--host", "127.0.0.1,::1"], "--port 0 finds a port for one address"),
        (["--host", "a,,b", "--allow-open"], "--host a,,b: an address, several by commas"),
        (["--host", f"/{'x' * 120}.sock"], "longer than the 107 bytes that a socket's path may have"),
        (["-m", "x.gguf", "-hf", "u/r"], "-m and -hf name a model each: leave one of them out"),
        (["-m", "x.gguf", "-hff", "y.gguf"], "--hf-file is a file of the repository that -hf names"),
        (["-hff", "y.gguf"], "-hff belongs to one model: name it by -m FILE or -hf USER/MODEL"),
        (["--mmproj", "y.gguf"], "--mmproj belongs to one model"),
        (["--alias", "x"], "--alias belongs to one model"),
        (["-m", "x.gguf", "-a", " , "], "-a ' , ' holds no name"),
        (["-hf", "u"], "-hf 'u': not the name of a model on the Hub; write user/repo"),
        (["-hf", "u/r:a b"], "-hf 'u/r:a b': what follows the colon must be a quant"),
        (["-hf", "u/r", "-hff", "../x.gguf"], "the file must be the path of a .gguf file in the repository"),
        (["-m", ""], "-m is empty"),
        (["--default-model", ""], "--default-model is empty"),
        (["-mu", "http://x/y.gguf"], "-mu: would let the child download: name the model by -hf USER/MODEL"),
        (["-mmu", "http://x/y.gguf"], "-mmu: would let the child download: fetch it and give --mmproj FILE"),
        (["--docker-repo", "x"], "--docker-repo: would let the child download"),
        (["--gpt-oss-20b-default"], "--gpt-oss-20b-default: would let the child download"),
        (["--timeout", "0"], "--timeout must be a number of seconds, more than 0, not '0'"),
        (["-lv", "much"], "-lv must be a whole number, not 'much'"),
        (["--tools", "all"], "--tools: is not a feature of lr serve"),
        (["--reuse-port"], "--reuse-port: is not a feature of lr serve"),
        (["--list-devices"], "--list-devices: prints and exits; lr engine shows the devices"),
        (["--draft-max", "3"], "--draft-max: use --spec-draft-n-max or --spec-ngram-mod-n-max"),
        (["m.gguf"], "unexpected argument 'm.gguf'"),
    ],
)
def test_a_wrong_command_line_is_one_line(argv: list[str], message: str) -> None:
    assert message in _refusal(*argv)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"LLAMA_ARG_PORT": "x"}, "LLAMA_ARG_PORT must be a whole number, not 'x'"),
        ({"LR_ALLOW_OPEN": "perhaps"}, "LR_ALLOW_OPEN must be on or off, not 'perhaps'"),
        ({"LR_MAX_WAIT": "x"}, "LR_MAX_WAIT must be a number of seconds"),
        ({"LLAMA_API_KEY": " , "}, "LLAMA_API_KEY holds no key"),
        ({"LLAMA_ARG_API_KEY_FILE": "f"}, "--api-key-file f: No such file"),
    ],
)
def test_a_wrong_environment_is_one_line(environ: dict[str, str], message: str) -> None:
    assert message in _refusal(environ=environ)


def test_what_concerns_the_door() -> None:
    argv = ["--api-prefix", "/a/b.c/", "--ssl-key-file", "k", "--ssl-cert-file", "c", "--cors-origins", " http://x "]
    settings = _settings(*argv, "--cors-methods", "GET", "--cors-headers", "x-a, x-b", "--no-cors-credentials")
    assert settings.api_prefix == "/a/b.c"
    assert settings.certificate == ("k", "c")
    assert settings.cors == Cors(origins="http://x", methods="GET", headers="x-a, x-b", credentials=False)
    assert _settings("--api-prefix", "/").api_prefix == ""
    environ = {"LLAMA_ARG_API_PREFIX": "/e", "LLAMA_ARG_CORS_CREDENTIALS": "off", "LLAMA_ARG_CORS_ORIGINS": "localhost"}
    assert _settings(environ=environ).api_prefix == "/e"
    assert _settings(environ=environ).cors == Cors(origins="localhost", credentials=False)
    assert not _settings(environ={"LLAMA_ARG_NO_CORS_CREDENTIALS": ""}).cors.credentials


def test_what_the_page_is_told_comes_from_one_place() -> None:
    files = {"f": '{"theme": "dark"}', "bad": "{"}
    inline, file = {"LLAMA_ARG_UI_CONFIG": '{"a": 1}'}, {"LLAMA_ARG_UI_CONFIG_FILE": "f"}
    assert _settings("--webui-config", '{"a": {"b": null}}').ui_config == {"a": {"b": None}}
    assert _settings("--webui-config-file", "f", files=files).ui_config == {"theme": "dark"}
    assert _settings(environ=inline).ui_config == {"a": 1}
    assert _settings("--ui-config-file", "f", environ=inline, files=files).ui_config == {"theme": "dark"}
    assert _settings("--ui-config", "{}", environ=file, files=files).ui_config == {}
    both = _refusal(environ={**inline, **file}, files=files)
    assert both == "LLAMA_ARG_UI_CONFIG and LLAMA_ARG_UI_CONFIG_FILE: give one of them"
    assert _refusal("--ui-config-file", "bad", files=files).startswith("--ui-config-file bad: not JSON")

    def no_text(path: str) -> str:
        return b"\xff".decode()

    with pytest.raises(UsageError, match="--ui-config-file f: not a text file"):
        parse_settings(["--ui-config-file", "f"], {}, TABLE, no_text)


def test_bounds_of_a_memory_at_which_nobody_looks_are_a_warning_each() -> None:
    settings = _settings("--memory-budget", "50%", "--memory-reserve", "Host=1GiB", "--no-memory-check")
    assert [str(warning) for warning in settings.warnings] == [
        "--memory-budget: not kept, as there is --no-memory-check",
        "--memory-reserve: not kept, as there is --no-memory-check",
    ]
    assert _settings("--no-memory-check").warnings == _settings("--memory-budget", "50%").warnings == ()


def test_a_page_of_the_operators_that_nobody_will_see_is_a_warning() -> None:
    settings = _settings("--path", "site", "--no-ui")
    assert [str(warning) for warning in settings.warnings] == ["--path site: not served, as there is --no-ui"]


def test_a_key_file_without_a_key_does_not_open_the_router() -> None:
    assert _refusal("--api-key-file", "f", files={"f": "# nothing\n\n"}) == "--api-key-file f holds no key"


def test_a_key_file_that_is_no_text() -> None:
    def read(path: str) -> str:
        return b"\xff".decode()

    with pytest.raises(UsageError, match="--api-key-file f: not a text file"):
        parse_settings(["--api-key-file", "f"], {}, TABLE, read)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LOCALHOST", True),
        ("/run/lr.sock", True),
        ("lr.sock", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("::ffff:127.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_beyond_loopback_only_with_a_key_or_openly(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if loopback:
        assert _settings("--host", host).host == (host,)
    else:
        assert "--allow-open" in _refusal("--host", f"127.0.0.1,{host}")
    assert _settings("--host", host, "--allow-open").host == (host,)
    assert _settings("--host", host, "--api-key", "k").host == (host,)


def test_brackets_of_an_address_are_taken_off() -> None:
    assert _settings("--host", "[::1]").host == ("::1",)


def test_of_one_option_the_last_holds_with_a_warning() -> None:
    settings = _settings("-c", "1", "--ctx-size", "2", "--jinja", "--no-jinja", "--port", "1", "--port", "2")
    assert [(given.written, given.values) for given in settings.options] == [("--ctx-size", ("2",)), ("--no-jinja", ())]
    assert settings.port == 2
    assert [str(warning) for warning in settings.warnings] == [
        "command line: -c is said again by --ctx-size, which holds",
        "command line: --jinja is said again by --no-jinja, which holds",
        "command line: --port is given twice: the last one holds",
    ]


def test_of_two_that_contradict_each_other_the_last_holds_with_a_warning() -> None:
    settings = _settings("--ui", "--no-ui", "--no-models-autoload", "--models-autoload", "--offline", "--offline")
    assert (settings.ui, settings.autoload, settings.offline) == (False, True, True)
    assert [str(warning) for warning in settings.warnings] == [
        "command line: --offline is said again by --offline, which holds",
        "command line: --ui is said again by --no-ui, which holds",
        "command line: --no-models-autoload is said again by --models-autoload, which holds",
    ]


@pytest.mark.parametrize(
    ("argv", "environ", "level"),
    [
        (["-lv", "0"], {}, "error"),
        (["-lv", "1"], {}, "error"),
        (["--verbosity", "2"], {}, "warning"),
        (["--log-verbosity=3"], {}, "info"),
        (["-lv", "4"], {}, "debug"),
        (["-v"], {}, "debug"),
        (["-v", "-lv", "2"], {}, "warning"),
        (["-lv", "2", "-v"], {}, "debug"),
        (["-lv", "2", "--log-level", "info"], {}, "info"),
        (["--log-level", "error", "-lv", "5"], {}, "debug"),
        (["-lv", "1"], {"LR_LOG_LEVEL": "debug"}, "error"),
        ([], {"LR_LOG_LEVEL": "debug", "LLAMA_ARG_LOG_VERBOSITY": "1"}, "debug"),
        (["--log-level", "error"], {"LLAMA_ARG_LOG_VERBOSITY": "5"}, "error"),
        (["--log-disable", "-v"], {}, "critical"),
    ],
)
def test_the_last_word_on_how_much_is_logged(argv: list[str], environ: dict[str, str], level: str) -> None:
    assert _settings(*argv, environ=environ).log.level == level


def test_what_is_shared_goes_to_the_children_as_well() -> None:
    settings = _settings("-lv", "4", "-v", "--timeout", "60", "--offline", "--log-file", "f", "--log-colors", "on")
    options = [(given.option.canonical, given.values) for given in settings.options]
    assert options == [("--log-verbosity", ("4",)), ("--log-verbose", ()), ("--timeout", ("60",)), ("--offline", ())]
    assert (settings.timeout, settings.log.file) == (60, "f")
    assert [str(warning) for warning in settings.warnings] == [
        "command line: --log-colors is ignored: the router owns it"
    ]


def test_what_an_engine_does_not_know_is_not_given_to_its_children() -> None:
    def read(path: str) -> str:
        raise FileNotFoundError(path)

    assert parse_settings(["--offline", "-to", "5"], {}, OptionTable(()), read).options == ()


def test_a_misspelt_variable_is_a_warning() -> None:
    environ = {"LR_MAXWAIT": "1", "LR_URL": "x", "LR_STATE_DIR": "y", "LR_WHATEVER_ELSE": "z"}
    warnings = _settings(environ=environ).warnings
    assert [str(warning) for warning in warnings] == [
        "environment LR_MAXWAIT: no such setting; did you mean LR_MAX_WAIT?"
    ]


@pytest.mark.parametrize(
    ("argv", "environ", "engine"),
    [
        ([], {}, None),
        (["-c", "1"], {"LR_ENGINE": "x y"}, ("x", "y")),
        (["--engine", "a"], {"LR_ENGINE": "x"}, ("a",)),
        (["--engine=a b", "--engine", "c"], {}, ("c",)),
    ],
)
def test_the_engine_is_found_before_any_table(
    argv: list[str], environ: dict[str, str], engine: tuple[str, ...] | None
) -> None:
    assert engine_of(argv, environ) == engine


@pytest.mark.parametrize("argv", [["--engine"], ["--engine="], ["--engine", "'"]])
def test_an_engine_that_is_no_command(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        engine_of(argv, {})


def test_our_options_can_be_printed_and_do_not_hide_each_other() -> None:
    assert len(OWN_TABLE.options) == len(OWN)
    for row in OWN:
        assert row.group
        assert row.option.help
        assert bool(row.option.hint) == bool(row.option.arity)
        theirs = TABLE.find(row.option.canonical)
        assert all(
            name.startswith("--") or (theirs is not None and name in theirs.option.names)
            for name in (*row.option.names, *row.option.negatives)
        )
        assert all(env.startswith(("LR_", "LLAMA_", "HF_")) for env in row.option.envs)


def test_what_we_share_with_llama_server_is_called_as_there() -> None:
    for row in OWN:
        theirs = TABLE.find(row.option.canonical)
        if theirs is not None:
            assert theirs.option.arity == row.option.arity
            assert theirs.option.envs == row.option.envs
            assert set(theirs.option.negatives) == set(row.option.negatives)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--ttl", "soon"],
            "--ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not 'soon'",
        ),
        (
            ["--ttl", "-5m"],
            "--ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not '-5m'",
        ),
        (
            ["--ttl", "0.5s"],
            "--ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not '0.5s'",
        ),
        (
            ["--ttl", "12000d"],
            "--ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not '12000d'",
        ),
        (["--pin", ", "], "--pin names no model: --pin ID, several by commas"),
    ],
)
def test_what_does_not_say_how_long_models_stay(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings(argv, {}, TABLE, lambda path: "")
    assert str(caught.value) == message
