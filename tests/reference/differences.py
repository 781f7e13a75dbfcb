"""Every intended difference from llama-server's router, in words and with the rows in which it shows.

`docs/differences.md` is written from this table (`scripts/compare-with-llama-server --write`).
"""

from __future__ import annotations

from tests.reference.intended import Claim, Difference
from tests.reference.seen import ABSENT


def _refused(row: str, *fields: str) -> tuple[Claim, ...]:
    """The fields of an error that is another error here."""
    return tuple(Claim(row, field) for field in fields or ("status", "body.error.code", "body.error.type"))


HTTP = (
    Difference(
        "errors-say-more",
        "An error is `code`, `message` and `type`.",
        "`param` (always null) and `reason`, a word that a program can compare, are added; every error has its `code`.",
        "OpenAI's clients read `param`, and a message is no interface.",
        (
            Claim("*", "body.error.param", ABSENT, None),
            Claim("*", "body.error.reason", ABSENT),
            Claim("endpoints: * /tools", "body.error.code", ABSENT, 403),
            Claim("endpoints: * /cors-proxy", "body.error.code", ABSENT, 403),
        ),
    ),
    Difference(
        "errors-say-what-to-do",
        "No answer says when, or whether, trying again helps.",
        "`Retry-After` where waiting helps, `X-Should-Retry: false` where it cannot, `WWW-Authenticate` with a 401.",
        "The SDKs of OpenAI and Anthropic act on them instead of trying blindly.",
        (
            Claim("*", "header.x-should-retry", ABSENT, "false"),
            Claim("*", "header.www-authenticate", ABSENT, "Bearer"),
        ),
    ),
    Difference(
        "requests-have-ids",
        "No answer says what its request is called.",
        "`X-Request-Id` in every answer: the client's own if it is sane, else a new one; it is in the log, too.",
        "A client that complains can say of which request.",
        (Claim("*", "*header.x-request-id", ABSENT),),
    ),
    Difference(
        "unknown-model-404",
        "A request for an unknown model is a 400, a DELETE of one a 500.",
        "404 `model_not_found`, everywhere.",
        "That is what OpenAI's API says, and what its clients have an exception for.",
        (
            *_refused("relayed: unknown model"),
            *_refused("relayed: GET of an unknown model"),
            *_refused("relayed: * of an unknown model"),
            *_refused("models: delete: unknown"),
            Claim("models: delete: unknown", "body.error.message"),
        ),
    ),
    Difference(
        "not-found-says-what",
        "Every 404, whoever meant what by it, leaves as `File Not Found`.",
        "It names the model, or what the body lacks.",
        "`File Not Found` for a model that was misspelt sends people to look for a file.",
        (
            Claim("models: load: *", "body.error.message", "File Not Found"),
            Claim("endpoints: GET /v1/models/{id}", "body.error.message", "File Not Found"),
            Claim("endpoints: GET /v1/stream of an unknown id", "body.error.message", "File Not Found"),
            Claim("endpoints: below a prefix: /v1/models/{id}", "body.error.message", "File Not Found"),
        ),
    ),
    Difference(
        "wrong-method-405",
        "A wrong method is a 404.",
        "405, with `Allow`.",
        "The path is right; a client that is told so finds its mistake.",
        tuple(
            Claim(row, field)
            for row in ("endpoints: a wrong method", "endpoints: GET of a POST route", "endpoints: PUT")
            for field in ("status", "body.error.code", "body.error.type", "body.error.message", "header.allow")
        ),
    ),
    Difference(
        "json-errors-in-our-words",
        "What is wrong with a JSON body is said in the words of its parser.",
        "One line, with the byte where it is known.",
        "Another parser; nobody can depend on `json.exception.parse_error.101`.",
        (
            Claim("relayed: body not JSON", "body.error.message"),
            Claim("relayed: body empty", "body.error.message"),
            Claim("models: load: not JSON", "body.error.message"),
            Claim("models: download: not a repository's name", "body.error.message"),
        ),
    ),
    Difference(
        "not-loaded-names-the-model",
        "`model is not loaded`.",
        "The same 400 names the model.",
        "A client with several models cannot tell which one was meant.",
        (
            Claim("relayed: *autoload=*", "body.error.message", "model is not loaded"),
            Claim("relayed: autoload is off", "body.error.message", "model is not loaded"),
        ),
    ),
    Difference(
        "not-removable-409",
        "DELETE of a model that is not from the cache is a 500.",
        "409 `conflict`, naming the model.",
        "Nothing failed in the server.",
        (*_refused("models: delete: not from the cache"), Claim("models: delete: not from the cache", "*message")),
    ),
    Difference(
        "connections-are-kept",
        "Every error and every relayed answer closes its connection; others are advertised as kept for 5 s.",
        "Connections are kept unless the client, or what it sent, says otherwise.",
        "A new TCP connection for each request is most of what a small request costs.",
        (
            Claim("*", "header.connection", "close", ABSENT),
            Claim("*", "*header.keep-alive", "timeout=5, max=100", ABSENT),
            Claim("relayed: a second request on the connection of the first", "closes", True, False),
        ),
    ),
    Difference(
        "answers-as-they-came",
        "Relayed answers are cut into chunks anew, with `X-Accel-Buffering: no`, be they ever so short.",
        "The model's own head and body pass as they came: an answer with a length keeps it.",
        "It is quicker, and a client sees the length. Streams carry the model's own `X-Accel-Buffering: no`.",
        (
            Claim("relayed: *", "header.transfer-encoding", "chunked", ABSENT),
            Claim("relayed: *", "header.x-accel-buffering", "no", ABSENT),
            Claim("life of a model: *", "header.transfer-encoding", "chunked", ABSENT),
            Claim("life of a model: *", "header.x-accel-buffering", "no", ABSENT),
        ),
    ),
    Difference(
        "waits-are-told",
        "Nothing tells how long a request waited.",
        "An answer that was waited for has `X-LR-Queue-Ms`, `X-LR-Load-Ms` and `Server-Timing`.",
        "A slow answer and a slow load are two things.",
        (
            Claim("*", "header.x-lr-queue-ms", ABSENT),
            Claim("*", "header.x-lr-load-ms", ABSENT),
            Claim("*", "header.server-timing", ABSENT),
        ),
    ),
    Difference(
        "origin-only-where-asked",
        "`Access-Control-Allow-Origin` is in every answer, empty where the request had no origin.",
        "Only in answers to a request with an origin, together with `Vary: Origin`.",
        "An empty value means nothing, and a cache must not give one origin's answer to another.",
        (
            Claim("*", "*header.access-control-allow-origin", "", ABSENT),
            Claim("*", "header.vary", ABSENT, "Origin"),
        ),
    ),
    Difference(
        "no-credentials-with-keys",
        "With keys too, every page elsewhere comes with its visitor's credentials: its origin is sent back.",
        "Where there are keys, `*` is sent as it is, and credentials are not allowed.",
        "A key is sent by the page itself; a browser's own credentials, as for a proxy in front, are nobody else's.",
        (
            Claim("endpoints: without a key: OPTIONS", "header.access-control-allow-credentials", "true", "false"),
            Claim(
                "endpoints: a page elsewhere*", "header.access-control-allow-origin", "http://elsewhere.example", "*"
            ),
        ),
    ),
    Difference(
        "strangers-pages-administer-nothing",
        "Any page in a browser may load, unload, fetch and delete, where there are no keys.",
        "403, unless it is of this machine, the router's own, or named by `--cors-origins`.",
        "Its visitor did not ask for it.",
        (Claim("endpoints: a stranger's page administers", "*"),),
    ),
    Difference(
        "no-ranges",
        "An answer to HEAD says `Accept-Ranges: bytes`.",
        "It does not.",
        "Ranges of such answers are not served, there or here.",
        (Claim("endpoints: HEAD /health", "header.accept-ranges", "bytes", ABSENT),),
    ),
    Difference(
        "too-long-is-said",
        "A target beyond 32 KiB ends the connection, a header beyond 8 KiB is an empty 400.",
        "414 and 431, in JSON, with the limit.",
        "Who sent it wants to know.",
        (Claim("endpoints: a target that is too long", "*"), Claim("endpoints: a header that is too long", "*")),
    ),
    Difference(
        "the-query-may-name-the-model",
        "The model of a POST is named by its body, which must be an object.",
        "`?model=ID` in the query does as well.",
        "The body of `/lora-adapters` is an array.",
        (Claim("relayed: the model in the query of a POST", "*"),),
    ),
    Difference(
        "build-names-both",
        "`build_info` is the build of llama-server.",
        "The engine's build, and behind it the router's version.",
        "A report about a router needs both.",
        (Claim("*", "body.build_info"),),
    ),
    Difference(
        "feed-is-not-kept",
        "`GET /models/sse` says nothing of caches.",
        "`Cache-Control: no-cache`.",
        "A proxy may otherwise keep it.",
        (Claim("events: load and unload", "header.cache-control", ABSENT, "no-cache"),),
    ),
    Difference(
        "an-end-says-why",
        "Why a model was unloaded is not said.",
        "`stopped` says that it made room, or that its idle time was over.",
        "Who watches sees what happens, and why.",
        (Claim("events: a place is made for another model", "event"),),
    ),
    Difference(
        "a-scrape-never-loads",
        "`GET /metrics`, `/props` and `/slots` with `?model=` load that model, and count as its use.",
        "A model that is not loaded is a 400 that says how to load it; `autoload=true` asks for it.",
        "A scraper that walks the list must not load everything in turn.",
        (Claim("life of a model: a scrape of a model that is not loaded", "*"),),
    ),
    Difference(
        "metrics-of-its-own",
        "`GET /metrics` without a model is a 400.",
        "The router's own figures, and those of the ready models by `model`: docs/metrics.md.",
        "What queues, loads and makes room is the router; a scraper knows one address.",
        (Claim("endpoints: GET /metrics without a model", "*"),),
    ),
    Difference(
        "a-reload-drains",
        "A reload ends a changed model at once, and says `models_reload` when all of them are gone.",
        "It says `models_reload` at once; a changed model goes when its answers have ended.",
        "Nobody's answer is cut off by another's edit.",
        (Claim("models: reload: a section has changed", "event"),),
    ),
    Difference(
        "a-reload-says-where",
        "What a reload could not read is said without its path or cause.",
        "Which option, which file and why, and that everything stays as it was.",
        "So that it can be mended.",
        (Claim("models: reload: a file that cannot be read", "body.error.message"),),
    ),
    Difference(
        "the-list-has-changed",
        "A download or a deletion changes the list without a word; it is found at the next look.",
        "`models_reload` goes before `download_finished` and `model_remove`.",
        "A page that reads the feed shows what is there.",
        (Claim("events: a download", "event"), Claim("models: delete: of a loaded model", "event")),
    ),
    Difference(
        "a-failed-download-fails",
        "A download of a repository that does not exist is `download_finished`.",
        "`download_failed`, with the reason.",
        "It did not finish.",
        (Claim("events: a download of what is not there", "event"),),
    ),
    Difference(
        "list-says-more",
        "`GET /models` has `data` and `object`.",
        "`warnings` is added (what was skipped, where and why), and each entry has an object `lr` with size, quant, "
        "process, slots and the reason of its last failure.",
        "Nobody should have to search a log for why a model is not there.",
        (Claim("models: the list itself", "keys"), Claim("models: *loaded model in the list", "below lr")),
    ),
)

KEYS = (
    Difference(
        "page-is-public",
        "With `--path DIR` and a key, only `/` is public: what the page loads next is a 401.",
        "The page's files are public, but for hidden ones (`.git`), and all that they call needs the key.",
        "A browser cannot send a key for a script; so the page never came up.",
        tuple(
            Claim(f"page: a folder's page without a key: {path}", "*")
            for path in ("/index.html", "/app.js", "/style.css", "/manifest.webmanifest", "/sw.js")
        ),
    ),
    Difference(
        "public-below-a-prefix-too",
        "With `--api-prefix` nothing is public, not even `/health`.",
        "What is public without a prefix is public below it.",
        "A probe has no key.",
        (Claim("endpoints: below a prefix: /health", "status"), Claim("endpoints: below a prefix: /health", "body*")),
    ),
    Difference(
        "the-prefix-is-the-routers",
        "Children have the prefix as well, and some paths miss it: an answer cannot be taken up again.",
        "The router takes it off; a child knows nothing of it.",
        "One rule for every path.",
        (
            Claim("relayed: below a prefix an answer is taken up again", "again"),
            Claim("relayed: below a prefix an answer is taken up again", "same"),
        ),
    ),
    Difference(
        "keys-stay-with-the-router",
        "`LLAMA_API_KEY` in the environment reaches the children, which then refuse the router's other keys.",
        "No credential reaches a child; the router checks, once.",
        "A key from `--api-key` must work although another is in the environment.",
        (
            Claim("relayed: autoload is off, ?autoload=1", "status", 401, 200),
            Claim("relayed: autoload is off, ?autoload=1", "body.*"),
            Claim("relayed: autoload is off, the model is loaded", "status", 401, 200),
            Claim("relayed: autoload is off, the model is loaded", "body.*"),
        ),
    ),
)

PAGE = (
    Difference(
        "page-comes-later",
        "An engine that was built without the web UI answers `/` with 404.",
        "Until the first model is loaded nobody knows whether the engine carries a page: a small page says so and "
        "looks again. Then it is the engine's page, or a 404.",
        "The page is taken from a child, for the router carries none.",
        (
            Claim("page: GET / of an engine without a page", "*"),
            Claim("page: GET /index.html of an engine without a page", "*"),
        ),
    ),
    Difference(
        "files-with-their-own-type",
        "Files of `--path DIR` are sent without a character set, `.webmanifest` as `application/octet-stream`, "
        "with ETags that change at each copy and without ranges.",
        "UTF-8 is named, a manifest is `application/manifest+json`, the ETag comes from size and time, ranges work, "
        "and a browser is told to ask again (`no-cache`) for what is not named after its content.",
        "Browsers refuse a manifest of the wrong type, and keep an old page else.",
        (
            Claim("page: a folder's page*", "header.content-type"),
            Claim("page: a folder's page*", "header.etag"),
            Claim("page: a folder's page*", "header.accept-ranges", ABSENT, "bytes"),
            Claim("page: a folder's page*", "header.cache-control", ABSENT, "no-cache"),
        ),
    ),
)

START = (
    Difference(
        "exit-code-2",
        "A command line that cannot be served ends with exit code 1.",
        "Exit code 2 and one line: what is wrong, where, and what would be right.",
        "1 is a failure while running; 2 is how a shell's tools say that they were called wrongly.",
        (Claim("command line: *", "exit code", 1, 2),),
    ),
    Difference(
        "a-wrong-section-spoils-itself",
        "One wrong key, line or alias in a preset ends the router.",
        "It is a warning with file and line, in the log, `lr ls` and `/models`; the other models are served.",
        "One typo must not take ten models away.",
        tuple(
            Claim(f"presets: {row}", field)
            for row in (
                "an unknown key",
                "an indented line",
                "a line without an equals sign",
                "a key with underscores",
                "an alias that is a models id",
                "an alias given twice",
                "more to load than places",
            )
            for field in ("exit code", "models", "max_instances", "models_autoload")
        ),
    ),
    Difference(
        "any-number-means-any-number",
        "`--models-max 0` with a model to load at the start, and any negative number, end the router.",
        "0 and less are no limit.",
        "That is what its help says.",
        tuple(
            Claim(row, field)
            for row in ("command line: fewer models than none", "presets: to load at start with any number of places")
            for field in ("exit code", "models", "max_instances", "models_autoload")
        ),
    ),
    Difference(
        "one-model-is-a-router-too",
        "With `-m FILE` it is a server of that model, without a router; `/v1/models` has a list `models` as well, as "
        "Ollama has.",
        "It is a router with that model loaded, whatever model a request names.",
        "One program to know; what a client asks of a server of one model works.",
        (Claim("command line: one model: the list", "keys"),),
    ),
    Difference(
        "options-are-data",
        "An option with two values ends a router; a wrong value of an option for the children does, too.",
        "Every option of the engine, with all its values, goes to the children; what a value must be is the engine's "
        "to say, when a model is loaded: its words are in the refusal and in the model's log.",
        "Options are read from the engine's own help, so that every build's options work; what their values may be is "
        "not said there.",
        tuple(
            Claim(row, field)
            for row in ("command line: an option with two values", "command line: a number that is none, for a child")
            for field in ("exit code", "models", "max_instances", "models_autoload")
        ),
    ),
    Difference(
        "not-built",
        "`--tools`, `--ui-mcp-proxy`, `--mcp-servers-*`, `--agent`, `--reuse-port` and `--docker-repo` work.",
        "One line says that they do not; the routes answer 403 `feature_disabled`, as there without the flags.",
        "They run programs and fetch addresses for whoever can reach the port; none of it is a router's work.",
        tuple(
            Claim(row, field)
            for row in (
                "command line: tools",
                "command line: the proxy for MCP servers",
                "command line: the port shared with others",
            )
            for field in ("exit code", "models", "max_instances", "models_autoload")
        ),
    ),
)

FOUND = (
    Difference(
        "shards-are-one-model",
        "Shards that lie in the folder itself are a model each.",
        "They are one model, named after what they have in common.",
        "A single shard cannot be loaded.",
        (
            Claim("discovery: top*", "*"),
            Claim("command line: a folder of models", "models"),
        ),
    ),
    Difference(
        "folders-at-any-depth",
        "Only the folder itself and the folders in it are searched.",
        "Folders at any depth; a model further down is called after its path. Those higher up keep their ids.",
        "Collections are sorted by maker and family.",
        (Claim("discovery: deep*", "*"), Claim("command line: a folder of models", "models")),
    ),
    Difference(
        "every-quant-is-listed",
        "Of several models in one folder one is served, by the order of the directory.",
        "Each is `folder/file`; the folder's own name stays an alias of the one that would have been taken.",
        "Two quants side by side are there to be compared.",
        (Claim("discovery: quants*", "*"),),
    ),
    Difference(
        "imatrix-is-no-model",
        "An importance matrix in the cache is listed as a model.",
        "It is not.",
        "It cannot be loaded.",
        (Claim("discovery: user/repo:IMATRIX", "*"),),
    ),
    Difference(
        "more-of-the-cache",
        "A repository without `refs`, or with `--` in its name, and a file without a quant in its name are not found.",
        "They are.",
        "`huggingface_hub` and copies of caches make such folders.",
        (
            Claim("discovery: user/no-refs:Q8_0", "*"),
            Claim("discovery: user/with--dashes:Q8_0", "*"),
            Claim("discovery: nothing else is found", "others"),
        ),
    ),
    Difference(
        "cached-models-start-from-their-file",
        "A cached model is started with `--hf-repo`: the child asks the Hub at every load, and may take a newer "
        "commit.",
        "It is started with `--model` and `--mmproj`, as found, and `--offline`.",
        "A load must not depend on the network, nor change the weights behind somebody's back.",
        (Claim("discovery: user/repo:*", "files.--*"),),
    ),
    Difference(
        "cached-models-can-be-removed",
        "A cached model about which a preset has a section cannot be removed.",
        "It can.",
        "Its files lie in the cache all the same.",
        (Claim("discovery: user/repo:Q4_K_XL", "can_remove", False, True),),
    ),
    Difference(
        "unusable-is-said",
        "A file that is damaged, or not there, is listed like any other, and fails when it is asked for.",
        "It is listed with its problem, without a command line, and refused at once with the reason.",
        "The header says it; nobody needs to wait for a load.",
        (
            Claim("discovery: broken", "files.--model"),
            Claim("discovery: no-model", "files.--model"),
            Claim("presets: [missing-file]", "argument*"),
            Claim("models: load: its file is not there", "*"),
            Claim("life of a model: a request for a model that cannot be loaded", "listed.*"),
            Claim("life of a model: a request for a model that cannot be loaded", "body.error.message"),
        ),
    ),
)

PRESETS = (
    Difference(
        "quotes-are-quotes",
        "Quotes in a preset are part of the value, and `;` or `#` cut it wherever they stand.",
        "A value in quotes is what is between them; `;` and `#` begin a comment only behind a blank, outside of "
        "quotes.",
        "JSON and lists of samplers could not be written.",
        (
            Claim("presets: [cut]", "argument.--samplers"),
            Claim("presets: [cut]", "argument.--chat-template-kwargs"),
            Claim("presets: [quoted]", "argument.--model"),
        ),
    ),
    Difference(
        "names-without-blanks",
        "A blank at the end of a section's name is part of the model's id.",
        "It is not.",
        "Nobody can see it.",
        (Claim("presets: [blanks]", "*"), Claim("presets: [blanks ]", "*")),
    ),
    Difference(
        "own-section-wins",
        "The command line wins over a model's own section.",
        "The section wins over the command line, which wins over `[*]`.",
        "The more particular word counts: the command line is for all models.",
        (
            Claim("presets: [repeated]", "argument.--top-k", "5", "2"),
            Claim("presets: [sectioned]", "argument.--top-k", "5", "7"),
            Claim("life of a model: the command line of a child", "argument.--top-k", "5", "7"),
        ),
    ),
    Difference(
        "no-means-no",
        "`LLAMA_ARG_NO_KV_UNIFIED = 1` turns `--kv-unified` on.",
        "It turns it off.",
        "Its name says so.",
        (
            Claim("presets: [negated]", "argument.--kv-unified"),
            Claim("presets: [negated]", "argument.--no-kv-unified"),
        ),
    ),
    Difference(
        "the-last-line-holds",
        "Of several spellings of one option in a section, the last in the order of the alphabet holds.",
        "The last that is written holds, with a warning.",
        "A file is read from top to bottom.",
        (Claim("presets: [spellings]", "argument.--ctx-size"),),
    ),
)

CHILDREN = (
    Difference(
        "children-on-sockets",
        "Children listen on a free port of 127.0.0.1, found by trying.",
        "On a UNIX socket in a private folder.",
        "No race for a port, and no other user of the machine can walk around the keys.",
        (
            Claim("presets: *", "argument.--host"),
            Claim("presets: *", "argument.--port"),
            Claim("life of a model: the command line of a child", "argument.--host"),
        ),
    ),
    Difference(
        "children-are-told-less",
        "A child gets `--log-colors on` or `off`, as the router's own terminal is.",
        "Its log is kept without colours.",
        "It goes into a file and to `lr logs`.",
        (Claim("*", "argument.--log-colors", "off", ABSENT),),
    ),
    Difference(
        "children-are-told-more",
        "A child has the engine's defaults.",
        "Unless told otherwise, a child gets `--metrics`, and 64 HTTP threads; one whose memory was looked at "
        "`--fit off`, and where it was left to that, how many layers go where and how long the context is.",
        "The router reads the metrics; with the default threads, bursts of 32 requests stall for seconds; what was "
        "planned to fit is what comes up, or fails.",
        (
            Claim("*", "argument.--fit", ABSENT, "off"),
            Claim("*", "argument.--metrics", ABSENT, "(flag)"),
            Claim("*", "argument.--threads-http", ABSENT, "64"),
        ),
    ),
    Difference(
        "absolute-paths",
        "Relative paths reach a child as they were written.",
        "Absolute.",
        "What `/models` and `lr explain` show works from any folder.",
        (
            Claim("life of a model: the command line of a child", "argument.--model"),
            Claim("relayed: GET /props?model=", "body.model_path"),
        ),
    ),
    Difference(
        "children-inherit-less",
        "A child inherits the router's whole environment.",
        "Without `LLAMA_*`, `HF_*`, credentials and proxies: what of them concerns a child is in its command line.",
        "Then the command line that is shown is the whole truth, and no secret wanders.",
        (
            Claim("life of a model: the environment of a child", "variable.LLAMA_CACHE", True, False),
            Claim("presets: *", "argument.--parallel", ABSENT, "2"),
        ),
    ),
    Difference(
        "an-unload-is-no-failure",
        "A model that is unloaded while it loads is listed as failed, with exit code 1.",
        "It is unloaded.",
        "It was asked for.",
        (
            Claim("events: an unload while it loads", "event"),
            Claim("events: an unload while it loads", "listed.*"),
        ),
    ),
    Difference(
        "failures-say-why",
        "A child that failed is `unloaded` with an exit code; any signal is 1.",
        "Event and `/models` say the reason and the last meaningful line of the log; a signal is 128 and its number.",
        "The log is where nobody looks, and a killed child is another matter than a file that is none.",
        (
            Claim("events: a load that fails", "event"),
            Claim("life of a model: a child that is killed in mid-answer", "listed.exit_code", 1, 137),
        ),
    ),
    Difference(
        "a-broken-stream-is-broken",
        "A child that dies in mid-stream looks like the end of the answer.",
        "An error event in the dialect of the route, and an aborted body.",
        "Half an answer must not be taken for a whole one.",
        (
            Claim("life of a model: a child that is killed in mid-answer", "says that it failed"),
            Claim("life of a model: a child that is killed in mid-answer", "ends as if it were whole"),
        ),
    ),
    Difference(
        "a-load-waits-for-its-place",
        "`POST /models/load` is a 500 while every place is taken by a busy model.",
        "It joins the queue, like a request.",
        "What a client would do is try again and again.",
        (
            Claim("life of a model: a load when every place is taken by a busy model", "status", 500, 200),
            Claim("life of a model: a load when every place is taken by a busy model", "body.*"),
            Claim("life of a model: a load when every place is taken by a busy model", "waits", False, True),
        ),
    ),
)

# Not reached yet: differences that nobody intends, and whose end is no failure.
OPEN: tuple[Difference, ...] = ()

# The chapters of the document, in its order.
CHAPTERS: dict[str, tuple[Difference, ...]] = {
    "Answers": HTTP,
    "Keys": KEYS,
    "The page": PAGE,
    "Starting": START,
    "Finding models": FOUND,
    "Presets": PRESETS,
    "Models' processes": CHILDREN,
}
INTENDED = tuple(difference for chapter in CHAPTERS.values() for difference in chapter)

# They show in nearly every answer: a row in which nothing else differs is the same but for them.
EVERYWHERE = frozenset(
    (
        "connections-are-kept",
        "origin-only-where-asked",
        "errors-say-more",
        "errors-say-what-to-do",
        "answers-as-they-came",
    )
)
