"""A distinct word in every place through which a secret can come in, and a look at all that goes out.

What a request says, its sender may hear again; nobody else, no file, no log and no list of processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import ENGINES, Router, Serve, arguments_of, children_of, until
from tests.e2e.route_table import route_table
from tests.tiny_gguf import write_llama

FILE_KEY, ENV_KEY, ARG_KEY = "sk-CANARY-of-file", "sk-CANARY-of-environ", "sk-CANARY-of-argv"
PROMPT = "CANARYPROMPT"
ENVIRON = {
    "LLAMA_API_KEY": ENV_KEY,
    "HF_TOKEN": "hf_CANARY_of_environ",
    "HUGGING_FACE_HUB_TOKEN": "hf_CANARY_of_old_environ",
    "MODEL_ENDPOINT": "http://user:CANARY-of-endpoint@127.0.0.1:9",
    "HF_ENDPOINT": "http://user:CANARY-of-hf-endpoint@127.0.0.1:9",
    "HTTPS_PROXY": "http://user:CANARY-of-proxy@127.0.0.1:9",
    "AWS_SECRET_ACCESS_KEY": "CANARY-of-cloud",
    "DATABASE_URL": "postgres://user:CANARY-of-database@127.0.0.1/x",
}
# Sections whose secrets are refused or ignored; none may be shown for it.
PRESET = """
[a]
hf-token = hf_CANARY_of_section
api-key = CANARY-of-section
mcp-servers-json = {"token": "CANARY-of-mcp"}
[b]
lr-env = MY_TOKEN=CANARY-of-lr-env
[c]
lr-env = PLAIN=1 CANARY-of-malformed-lr-env
[d]
mmproj-url = https://user:CANARY-of-mmproj@127.0.0.1:9/x.gguf
"""
# What a stranger tries: all of it ends at the door.
STRANGER = {
    "authorization": "Bearer CANARY-of-a-stranger",
    "x-api-key": "CANARY-of-a-stranger-too",
    "cookie": "session=CANARY-of-cookie",
    "proxy-authorization": "Basic CANARY-of-basic",
    "x-request-id": "plain",
}
BODY = {
    "model": "a",
    "prompt": f"{PROMPT} one",
    "input": f"{PROMPT} two",
    "content": f"{PROMPT} three",
    "messages": [{"role": "user", "content": f"{PROMPT} four"}],
    "input_prefix": f"{PROMPT} five",
    "input_suffix": "",
    "query": f"{PROMPT} six",
    "documents": [f"{PROMPT} seven"],
    "max_tokens": 2,
    "n_predict": 2,
    "grammar": f'root ::= "{PROMPT}" (',
    "user": f"{PROMPT} eight",
}
COMMANDS = (
    *(
        ("ls",),
        ("ls", "--json"),
        ("ps",),
        ("ps", "--json"),
        ("key", "ls"),
        ("top", "--once"),
        ("version",),
        ("engine",),
    ),
    *(("explain", "a"), ("explain", "--json", "a"), ("logs", "a"), ("why", "a"), ("why", "--json", "a"), ("plan", "a")),
)


@pytest.mark.timeout(200)  # a few hundred requests and twenty commands
@pytest.mark.parametrize("engine", ENGINES)
def test_no_secret_and_no_prompt_shows_up(serve: Serve, tmp_path: Path, engine: Path | None) -> None:
    given = tmp_path / "given"
    given.mkdir(mode=0o700)
    for name in "abcd":
        write_llama(given / f"{name}.gguf")
    (given / "preset.ini").write_text(PRESET)
    (given / "keys").write_text(f"{FILE_KEY}\n")
    (given / "keys").chmod(0o644)
    router = serve(
        engine,
        *("--models-dir", given, "--models-preset", given / "preset.ini", "--log-file", tmp_path / "log"),
        *("--api-key-file", given / "keys", "--api-key", ARG_KEY, "--hf-token", "hf_CANARY_of_argv"),
        **ENVIRON,
    )
    router.key = FILE_KEY
    user = router.lr("key", "add", "ann", "--models", "a").stdout.strip()
    secrets = {"user": user, "admin": FILE_KEY}
    shown = dict(_asked(router, secrets, tmp_path / "table"))
    _misplaced(router, (user, FILE_KEY))
    with router.client(headers={"x-api-key": FILE_KEY}) as client:
        assert client.post("/v1/completions", json=BODY | {"grammar": ""}).status_code == 200
        (child,) = router.engines()
        processes = {f"argv of {pid}": arguments_of(pid).decode() for pid in children_of(router.process.pid)}
        environ = Path(f"/proc/{child}/environ").read_text()
        _crash(client, router, child)
    for command in COMMANDS:
        done = router.lr(*command)
        shown[f"lr {' '.join(command)}"] = done.stdout + done.stderr
    assert "SIGSEGV" in shown["lr why a"]
    doctor = router.lr("doctor", "--json", code=None)
    shown["lr doctor"] = doctor.stdout + doctor.stderr
    assert f"chmod o-rwx {given / 'keys'}" in doctor.stdout
    shown |= _written(Path(router.environ["XDG_RUNTIME_DIR"]), given)  # what is swept at the end
    assert any(name.endswith("info.json") for name in shown)
    router.stop()
    shown |= processes | {"environ of a child": environ, "output": "".join(router.output)}
    assert "/v1/completions" in shown["output"]  # the log of requests
    assert f"{given / 'keys'}: everybody on this machine may read" in shown["output"]
    shown |= _written(tmp_path, given)
    for name in ("log", "keys.toml", "failures.jsonl"):
        assert any(each.endswith(f"/{name}") for each in shown)
    assert [where for where, text in shown.items() if user in text] == []
    assert {where: _around(text) for where, text in shown.items() if "CANARY" in text} == {}


def _written(folder: Path, given: Path) -> dict[str, str]:
    """Every file in a folder, but for what was given to the router."""
    files = [path for path in folder.rglob("*") if path.is_file() and given not in path.parents]
    return {str(path): path.read_bytes().decode("latin-1") for path in files}


def _asked(router: Router, secrets: dict[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """What every route answers to everybody."""
    folder.mkdir()
    everybody = {"stranger": STRANGER} | {who: {"x-api-key": secret} for who, secret in secrets.items()}
    with router.client() as client:
        for method, path in asyncio.run(route_table(folder)):
            if path == "/lr/stop":
                continue
            path = path.replace("{id:path}", "a").replace("{id_slot}", "0")
            for who, headers in everybody.items():
                heard = _answer(client, method, path, headers, model="nothing" if method == "DELETE" else "a")
                if method == "GET":  # of the router itself
                    heard += _answer(client, method, path, headers)
                # Who said it may hear it; only the prompt is his.
                yield f"{method} {path} for {who}", heard.replace(PROMPT, "") if method == "POST" else heard


def _answer(client: httpx.Client, method: str, path: str, headers: dict[str, str], **query: str) -> str:
    query["api_key"] = "CANARY-of-query"
    body = BODY if method == "POST" else None
    patience = httpx.Timeout(20, read=20 if method == "POST" else 0.5)
    text = ""
    with (
        contextlib.suppress(httpx.ReadTimeout),  # a feed goes on
        client.stream(method, path, params=query, json=body, headers=headers, timeout=patience) as answer,
    ):
        text = f"{answer.status_code} {answer.headers}\n"
        for piece in answer.iter_text():
            text += piece
    return text


def _misplaced(router: Router, secrets: tuple[str, ...]) -> None:
    """Keys where clients put them by mistake: into the path, and into the name of the model."""
    with router.client(headers={"x-api-key": FILE_KEY}) as client:
        for secret in secrets:
            assert client.get(f"/{secret}/v1/models").status_code == 404
            assert client.get("/props", params={"model": secret}).status_code == 404
            assert client.post("/v1/completions", json={"model": secret, "prompt": "x"}).status_code == 404
            assert client.get(f"/v1/models/{secret}").status_code == 404


def _crash(client: httpx.Client, router: Router, child: int) -> None:
    """Let a child die with a prompt inside, so that its last words are kept."""
    long = {"model": "a", "prompt": f"{PROMPT} inside", "n_predict": 100_000, "stream": True, "ignore_eos": True}
    with client.stream("POST", "/completion", json=long) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        os.kill(child, signal.SIGSEGV)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
    until(lambda: router.state("a") != "loaded")


def _around(text: str) -> str:
    at = text.index("CANARY")
    return text[max(0, at - 120) : at + 60]
