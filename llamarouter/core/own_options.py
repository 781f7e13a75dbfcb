"""The options of `lr serve` itself, one row each: spellings, value, environment names, default, and what it is for.

Where llama-server's router has the same setting, spelling and environment name are its own (`LLAMA_ARG_*`); the
others are called `LR_*` in the environment. `lr serve --help` is printed from these rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from llamarouter.core.flags import Option, OptionTable


@dataclass(frozen=True, slots=True)
class OwnOption:
    """One row. `default` is for people; the value itself is the field's in `Settings`.

    `shared`: the router reads it and every child gets it as well, where its engine knows it.
    """

    group: str
    option: Option
    default: str = ""
    shared: bool = False


def _row(
    group: str,
    spellings: str,
    hint: str,
    env: str,
    default: str,
    text: str,
    *,
    negatives: str = "",
    shared: bool = False,
) -> OwnOption:
    option = Option(
        names=tuple(spellings.split()),
        negatives=tuple(negatives.split()),
        arity=1 if hint else 0,
        envs=tuple(env.split()),
        hint=hint,
        help=text,
    )
    return OwnOption(group, option, default, shared)


_MODELS = "Models"
_LISTEN = "Listening"
_WAIT = "Waiting and stopping (seconds)"
_ENGINE = "Engine and machine"
_LOG = "Log"

OWN: tuple[OwnOption, ...] = (
    _row(
        _MODELS,
        "-m --model",
        "FILE",
        "LLAMA_ARG_MODEL",
        "",
        "serve this file, loaded at start, whatever model a request names; with --models-dir or --models-preset "
        "beside it, it answers to its own names, and where none is said",
    ),
    _row(
        _MODELS,
        "-hf -hfr --hf-repo",
        "USER/MODEL[:QUANT]",
        "LLAMA_ARG_HF_REPO",
        "",
        "the same with a model from Hugging Face, fetched first if it is not here",
    ),
    _row(_MODELS, "-hff --hf-file", "FILE", "LLAMA_ARG_HF_FILE", "", "which file of --hf-repo, instead of a QUANT"),
    _row(_MODELS, "-mm --mmproj", "FILE", "LLAMA_ARG_MMPROJ", "", "the projector of the model of -m or -hf"),
    _row(
        _MODELS,
        "-a --alias",
        "NAME",
        "LLAMA_ARG_ALIAS",
        "",
        "what the model of -m or -hf is called (several names by commas; the first one is its id)",
    ),
    _row(
        _MODELS,
        "--default-model",
        "ID",
        "LR_DEFAULT_MODEL",
        "",
        "the model that answers requests which name none (default: that of -m or -hf, else they are refused)",
    ),
    _row(_MODELS, "--models-dir", "PATH", "LLAMA_ARG_MODELS_DIR", "", "a folder of GGUF files"),
    _row(
        _MODELS,
        "--models-preset",
        "PATH",
        "LLAMA_ARG_MODELS_PRESET",
        "",
        "an INI file with a section for each model; a model's own section wins over this command line",
    ),
    _row(
        _MODELS,
        "--models-max",
        "N",
        "LLAMA_ARG_MODELS_MAX",
        "4",
        "how many models may be loaded at once, 0 or less: any number; the least recently used idle one makes room",
    ),
    _row(
        _MODELS,
        "--ttl",
        "DURATION",
        "LR_TTL",
        "never",
        "a model that was idle for so long is unloaded: 90s, 15m, 2h, 1d; 0: never (a section's own: lr-ttl)",
    ),
    _row(
        _MODELS,
        "--pin",
        "MODELS",
        "LR_PIN",
        "",
        "models, by commas, that are never unloaded to make room for another one (in a section: lr-pin = true)",
    ),
    _row(
        _MODELS,
        "--models-autoload",
        "",
        "LLAMA_ARG_MODELS_AUTOLOAD",
        "on",
        "load a model when a request asks for it; off: only by lr load",
        negatives="--no-models-autoload",
    ),
    _row(
        _MODELS,
        "--offline",
        "",
        "LLAMA_ARG_OFFLINE",
        "off",
        "never ask the network; nothing is downloaded",
        shared=True,
    ),
    _row(_MODELS, "-hft --hf-token", "TOKEN", "HF_TOKEN", "", "Hugging Face token for downloads (better: HF_TOKEN)"),
    _row(
        _LISTEN,
        "--host",
        "HOST",
        "LLAMA_ARG_HOST",
        "127.0.0.1",
        "addresses to listen on, by commas; a path that ends in .sock is a UNIX socket",
    ),
    _row(_LISTEN, "--port", "PORT", "LLAMA_ARG_PORT", "8080", "0: any that is free"),
    _row(
        _LISTEN,
        "--api-key",
        "KEY",
        "LLAMA_API_KEY",
        "",
        "keys that clients must show, by commas; others on this machine can see it in ps (better: a file)",
    ),
    _row(
        _LISTEN,
        "--api-key-file",
        "FILE",
        "LLAMA_ARG_API_KEY_FILE",
        "",
        "a file with one key a line; lines that begin with # are comments",
    ),
    _row(
        _LISTEN,
        "--ssl-key-file",
        "FILE",
        "LLAMA_ARG_SSL_KEY_FILE",
        "",
        "the private key (PEM) for TLS on the addresses; with --ssl-cert-file",
    ),
    _row(
        _LISTEN,
        "--ssl-cert-file",
        "FILE",
        "LLAMA_ARG_SSL_CERT_FILE",
        "",
        "the certificate for it (PEM), with what links it to its authority behind it",
    ),
    _row(
        _LISTEN,
        "--api-prefix",
        "PREFIX",
        "LLAMA_ARG_API_PREFIX",
        "",
        "a path that all paths of this router begin with, as in /llm",
    ),
    _row(
        _LISTEN,
        "--cors-origins",
        "ORIGINS",
        "LLAMA_ARG_CORS_ORIGINS",
        "*",
        "which pages may read answers: * any, localhost those of this machine, else their origins by commas",
    ),
    _row(_LISTEN, "--cors-methods", "METHODS", "LLAMA_ARG_CORS_METHODS", "GET, POST, DELETE, OPTIONS", "their methods"),
    _row(_LISTEN, "--cors-headers", "HEADERS", "LLAMA_ARG_CORS_HEADERS", "*", "their headers"),
    _row(
        _LISTEN,
        "--cors-credentials",
        "",
        "LLAMA_ARG_CORS_CREDENTIALS",
        "on",
        "whether they may send credentials",
        negatives="--no-cors-credentials",
    ),
    _row(_LISTEN, "--allow-open", "", "LR_ALLOW_OPEN", "off", "listen beyond this machine although there is no key"),
    _row(
        _LISTEN,
        "--ui --webui",
        "",
        "LLAMA_ARG_UI",
        "on",
        "serve the web page",
        negatives="--no-ui --no-webui",
    ),
    _row(_LISTEN, "--path", "PATH", "LLAMA_ARG_STATIC_PATH", "", "a folder with a page of your own to serve instead"),
    _row(
        _LISTEN,
        "--ui-config --webui-config",
        "JSON",
        "LLAMA_ARG_UI_CONFIG",
        "",
        "what the web page's settings are at first: a JSON object",
    ),
    _row(
        _LISTEN,
        "--ui-config-file --webui-config-file",
        "PATH",
        "LLAMA_ARG_UI_CONFIG_FILE",
        "",
        "a file with that object",
    ),
    _row(
        _WAIT,
        "--max-wait",
        "SECONDS",
        "LR_MAX_WAIT",
        "10",
        "a request waits so long for another model to become idle; then that model takes no newcomers until it is gone",
    ),
    _row(_WAIT, "--queue-timeout", "SECONDS", "LR_QUEUE_TIMEOUT", "300", "a request that waits longer gets a 503"),
    _row(_WAIT, "--queue-per-model", "N", "LR_QUEUE_PER_MODEL", "1024", "so many requests may wait for one model"),
    _row(
        _WAIT,
        "--queue-in-all",
        "N",
        "LR_QUEUE_IN_ALL",
        "4096",
        "so many may wait in all; whoever comes then gets a 429",
    ),
    _row(
        _WAIT,
        "--queue-bytes",
        "BYTES",
        "LR_QUEUE_BYTES",
        "256M",
        "so many bytes of bodies may wait, and as many be read; K, M, G for binary multiples",
    ),
    _row(
        _WAIT,
        "--wait-comment",
        "SECONDS",
        "LR_WAIT_COMMENT",
        "5",
        "a streaming client that waits longer is told what for, again and again, by comments in its stream; 0: never",
    ),
    _row(_WAIT, "--load-stall", "SECONDS", "LR_LOAD_STALL", "120", "a load without progress for so long is killed"),
    _row(
        _WAIT,
        "--busy-stall",
        "SECONDS",
        "LR_BUSY_STALL",
        "120",
        "a model with work and without a sign of life for so long is killed",
    ),
    _row(
        _WAIT,
        "--drain-timeout",
        "SECONDS",
        "LR_DRAIN_TIMEOUT",
        "120",
        "so long may running requests go on when their model is unloaded or the router ends",
    ),
    _row(
        _WAIT,
        "-to --timeout",
        "SECONDS",
        "LLAMA_ARG_TIMEOUT",
        "3600",
        "an answer of which nothing moves for so long is broken off; the models get the same time-out",
        shared=True,
    ),
    _row(
        _WAIT,
        "--stop-timeout",
        "SECONDS",
        "LR_STOP_TIMEOUT",
        "10",
        "from asking a model's process to end until it is killed; a section may say its own",
    ),
    _row(
        _ENGINE,
        "--engine",
        "COMMAND",
        "LR_ENGINE",
        "",
        "the llama-server to run, with a prefix if need be ('numactl -N 0 llama-server'); see lr engine",
    ),
    _row(
        _ENGINE,
        "--runtime-dir",
        "PATH",
        "LR_RUNTIME_DIR",
        "",
        "a private folder for sockets (default: below $XDG_RUNTIME_DIR, or /run/llamarouter for root); "
        "the other commands find the router there by LR_RUNTIME_DIR",
    ),
    _row(
        _ENGINE,
        "--memory-check",
        "",
        "LR_MEMORY_CHECK",
        "on",
        "look at the memory of the devices before a model is started, and make room where it is short; off: only "
        "--models-max counts",
        negatives="--no-memory-check",
    ),
    _row(
        _ENGINE,
        "--memory-budget",
        "AMOUNT",
        "LR_MEMORY_BUDGET",
        "",
        "what all models together may hold of each GPU (without one, of the memory): 80%, 20GiB, or by device: "
        "CUDA0=20GiB,CUDA1=50%,Host=32GiB (default: all that is there, less a margin)",
    ),
    _row(
        _ENGINE,
        "--memory-reserve",
        "AMOUNT",
        "LR_MEMORY_RESERVE",
        "",
        "what must stay free beside them, written likewise (default: 1 GiB of each device, a tenth of small ones; "
        "0 beside a budget)",
    ),
    _row(_LOG, "--log-level", "LEVEL", "LR_LOG_LEVEL", "info", "of the router: debug, info, warning or error"),
    _row(
        _LOG,
        "-lv --verbosity --log-verbosity",
        "N",
        "LLAMA_ARG_LOG_VERBOSITY",
        "3",
        "of the router and of every model: 1 errors, 2 warnings, 3 info, 4 and more: everything",
        shared=True,
    ),
    _row(_LOG, "-v --verbose --log-verbose", "", "", "off", "the highest verbosity", shared=True),
    _row(_LOG, "--log-disable", "", "", "off", "no log at all", shared=True),
    _row(
        _LOG,
        "--log-jsonl",
        "",
        "LLAMA_ARG_LOG_JSONL",
        "off",
        "the router's log as one JSON object a line, on standard output",
        negatives="--no-log-jsonl",
    ),
    _row(
        _LOG,
        "--log-file",
        "FILE",
        "LLAMA_ARG_LOG_FILE",
        "",
        "the router's log goes to this file, too (a section's log-file is that of its model)",
    ),
)

OWN_TABLE = OptionTable(row.option for row in OWN)

# The canonical spellings of those that the children get as well.
SHARED = frozenset(row.option.canonical for row in OWN if row.shared)
