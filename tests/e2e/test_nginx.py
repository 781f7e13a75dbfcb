"""A real nginx in front of a whole router, with the configuration that docs/nginx.conf recommends.

The file itself is run: only its paths and addresses are replaced. What has to survive the way through nginx: tokens
at once, a client's leaving, a cut that looks like one, large bodies, and connections that are used again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.certificates import certificate
from tests.e2e.conftest import ROOT, Router, Serve, until

pytestmark = pytest.mark.nginx

# A generation that is not over when the test is.
ENDLESS = {"model": "a", "messages": [{"role": "user", "content": "Tell"}], "fake": {"tokens": 10**6, "delay": 0.005}}
BURST = 64  # of the configuration's limit_req

InFront = Callable[..., httpx.Client]


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """The fake llama-server as a program: an engine that makes tokens as slowly as it is asked to."""
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{ROOT}/tests/fake_llama_server.py" "$@"\n')
    program.chmod(0o755)
    return program


@dataclass(frozen=True)
class Front:
    """How an nginx differs from docs/nginx.conf. `parts`: those of its commented parts that are used."""

    rate: str = "5000r/s"
    patience: str = "1900s"
    buffering: str = "off"
    parts: tuple[str, ...] = ()
    upstream: str | None = None  # where the router is, if not at its URL
    prefix: str = ""
    more: str = ""  # locations besides


def configured(address: str, folder: Path, port: int, front: Front) -> str:
    """docs/nginx.conf, for an ordinary user, in a folder and between two ports of this test."""
    text = (ROOT / "docs" / "nginx.conf").read_text()
    for part in front.parts:
        assert f"#{part} " in text, part
        text = text.replace(f"#{part} ", "")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for old, new in {
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/var/log/nginx/": f"{folder}/",
        "worker_processes auto": "worker_processes 2",
        "http {\n": f"http {{\n{temporary}",
        "server 127.0.0.1:8080;": f"server {front.upstream or address};",
        "listen 80;": "" if "tls" in front.parts else f"listen 127.0.0.1:{port};",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "/etc/ssl/certs/llamarouter.pem": f"{folder}/tls.pem",
        "/etc/ssl/private/llamarouter.key": f"{folder}/tls.key",
        "location /v1/": f"location {front.prefix}/v1/",
        "location = /health {": f"{front.more}\nlocation = /health {{",
        "rate=20r/s": f"rate={front.rate}",
        "proxy_read_timeout 1900s": f"proxy_read_timeout {front.patience}",
        "proxy_buffering off": f"proxy_buffering {front.buffering}",
        "proxy_http_version 1.1": f"proxy_http_version {'1.1' if front.buffering == 'off' else '1.0'}",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    # As root nginx would give its workers to another user, who may not enter a test's folder.
    return ("user root;\n" if os.geteuid() == 0 else "") + text


@pytest.fixture
def front(tmp_path: Path) -> Iterator[InFront]:
    """Starts an nginx before a router, and gives a client that speaks to it."""
    started: list[tuple[subprocess.Popen[bytes], httpx.Client]] = []
    home = tmp_path / "nginx"

    def start(router: Router, **different: Any) -> httpx.Client:
        how = Front(**different)
        folder = home / str(len(started))
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        file = folder / "nginx.conf"
        file.write_text(configured(urlsplit(router.url).netloc, folder, port, how))
        certificate().write(folder)
        process = subprocess.Popen(
            [nginx(), "-p", str(folder), "-e", f"{folder}/start.log", "-c", str(file), "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"{'https' if 'tls' in how.parts else 'http'}://127.0.0.1:{port}"
        client = httpx.Client(base_url=url, verify=certificate().client(), trust_env=False, timeout=30)
        started.append((process, client))
        until(lambda: listens(process, port, folder))
        return client

    yield start
    for process, client in started:
        client.close()
        process.terminate()
        process.wait(10)


def nginx() -> str:
    """The program."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert found is not None
    return found


def listens(process: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    assert process.poll() is None, (folder / "start.log").read_text()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def in_flight(router: Router) -> object:
    ours = router.models()["a"]["lr"]
    assert isinstance(ours, dict)
    return ours["in_flight"]


def events_of(data: bytes) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]


def test_tokens_arrive_before_there_are_more_and_leaving_frees_the_slot(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir, FAKE_WEDGE="after:3")  # then it hangs
    client = front(router)
    with client.stream("POST", "/v1/chat/completions", json={**ENDLESS, "stream": True}, timeout=10) as answer:
        assert answer.status_code == 200
        data, chunks = b"", answer.iter_raw()
        while data.count(b'"content"') < 3:
            data += next(chunks)
        assert in_flight(router) == 1
    until(lambda: in_flight(router) == 0, seconds=1)


def test_leaving_frees_the_slot_of_an_answer_that_is_not_streamed(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir)
    client = front(router)
    body = json.dumps(ENDLESS).encode()
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as leaver:
        leaver.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        leaver.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        until(lambda: router.state("a") == "loaded" and in_flight(router) == 1)
    until(lambda: in_flight(router) == 0, seconds=1)


def test_a_child_that_is_killed_in_mid_stream_is_an_error_and_a_cut_for_the_client(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir)
    client = front(router)
    data = b""
    with client.stream("POST", "/v1/chat/completions", json={**ENDLESS, "stream": True}) as answer:
        chunks = answer.iter_raw()
        data += next(chunks)
        os.kill(router.pid("a"), 9)
        failure = None
        try:
            for chunk in chunks:
                data += chunk
        except httpx.RemoteProtocolError as cut:
            failure = cut
    assert "incomplete chunked read" in str(failure)
    *tokens, last = events_of(data)
    assert tokens
    error = last["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["reason"]) == (502, "model_crashed")
    assert b"[DONE]" not in data


def test_large_bodies_pass_up_to_the_limit(serve: Serve, front: InFront, fake: Path, models_dir: Path) -> None:
    router = serve(fake, "--models-dir", models_dir)
    client = front(router)
    body = json.dumps({"model": "a", "input": "x" * (20 << 20)}).encode()
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/chat/completions/input_tokens", content=body, headers=headers)
    assert (answer.status_code, answer.json()["input_tokens"]) == (200, len(body))
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as sender:
        sender.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (101 << 20))
        assert sender.recv(12) == b"HTTP/1.1 413"


def test_two_hundred_requests_use_few_connections_and_none_fails(
    serve: Serve, front: InFront, models_dir: Path
) -> None:
    # A real child says goodbye to a connection every hundred answers.
    router = serve(None, "--models-dir", models_dir, "--threads", 1)
    client = front(router)
    body = {"model": "a", "prompt": "x", "max_tokens": 1}
    statuses = {client.post("/v1/completions", json=body).status_code for _ in range(200)}
    assert statuses == {200}
    assert 1 <= connections_to(urlsplit(router.url).port) <= 4


def connections_to(port: int | None) -> int:
    """Connections towards a port of this machine, those included that were closed within the last minute."""
    remote = [row.split()[2] for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(address.rpartition(":")[2], 16) == port for address in remote)


def test_only_the_api_is_reached_errors_are_the_routers_and_a_flood_is_429(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir)
    client = front(router, rate="1r/m")
    assert client.get("/health").json() == {"status": "ok"}
    for path in ("/", "/models", "/lr/status", "/props", "/metrics"):
        assert (path, client.get(path).status_code) == (path, 404)
    unknown = client.post("/v1/chat/completions", json={"model": "nobody", "messages": []})
    assert (unknown.status_code, unknown.json()["error"]["reason"]) == (404, "model_not_found")
    statuses = [client.get("/v1/models").status_code for _ in range(BURST + 2)]
    assert statuses == [200] * BURST + [429] * 2


SLOW = {"model": "a", "messages": [{"role": "user", "content": "Tell"}], "fake": {"tokens": 3}}


def test_comments_keep_a_stream_alive_through_a_load_that_is_longer_than_the_patience_of_nginx(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    slow = {"FAKE_LOAD_SECONDS": "4", "FAKE_PROGRESS_STEPS": "20"}
    router = serve(fake, "--models-dir", models_dir, "--wait-comment", 0.3, **slow)
    client = front(router, patience="1s")
    with client.stream("POST", "/v1/chat/completions", json={**SLOW, "stream": True}) as answer:
        assert answer.status_code == 200
        assert router.state("a") != "loaded"  # every comment comes at once, and so did the head
        lines = list(answer.iter_lines())
    comments = [line for line in lines if line.startswith(":")]
    assert len(comments) >= 10
    loading = [line for line in comments if "position 1 in the queue of model a: the model is loading, " in line]
    assert len(loading) >= 8
    percents = [int(line.partition("loading, ")[2].partition("%")[0]) for line in loading]
    assert percents == sorted(percents)
    assert percents[-1] > percents[0]
    assert comments[-1].startswith(": it was its turn after 4.")
    assert lines[-2] == "data: [DONE]"


def test_without_them_nginx_gives_up_and_who_does_not_stream_needs_its_patience(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir, "--wait-comment", 0, FAKE_LOAD_SECONDS="4")
    client = front(router, patience="1s")
    assert client.post("/v1/chat/completions", json={**SLOW, "stream": True}).status_code == 504
    until(lambda: router.state("a") == "loaded")


def test_with_the_time_outs_of_the_documentation_a_slow_load_says_how_long_it_took(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    client = front(serve(fake, "--models-dir", models_dir, FAKE_LOAD_SECONDS="1"))
    answer = client.post("/v1/chat/completions", json=SLOW)
    assert answer.status_code == 200
    assert 900 <= int(answer.headers["x-lr-load-ms"]) < 5000
    assert answer.headers["server-timing"].startswith("queue;dur=")
    assert "x-lr-load-ms" not in client.post("/v1/chat/completions", json=SLOW).headers


def doctor(router: Router, client: httpx.Client) -> tuple[int, list[dict[str, str]]]:
    """What `lr doctor --url` says of the front: its exit code, and the findings there."""
    done = subprocess.run(
        [sys.executable, "-m", "llamarouter", "doctor", "--json", "--url", str(client.base_url)],
        env=router.environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, [each for each in findings if each["area"] == "front"]


def test_the_doctor_finds_the_documented_front_good_and_one_that_buffers_bad(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    fake.write_text(fake.read_text().replace('"$@"', '--fake-token-seconds 0.02 "$@"'))
    router = serve(fake, "--models-dir", models_dir)
    client = front(router)
    client.post("/v1/chat/completions", json=SLOW)
    _, good = doctor(router, client)
    assert [each for each in good if each["severity"] != "fine"] == []
    assert any("events came in" in each["what"] for each in good)
    # As nginx is without a word on it: HTTP/1.0. The router's own `X-Accel-Buffering: no` would still save it.
    buffering = front(router, buffering="on; proxy_ignore_headers X-Accel-Buffering; proxy_hide_header Content-Type")
    status, found = doctor(router, buffering)
    (bad,) = [each for each in found if each["severity"] == "error"]
    assert status == 2
    assert bad["what"].startswith("the proxy holds tokens back: ")
    assert "proxy_buffering off" in bad["fix"]
    (lost,) = [each for each in found if each["severity"] == "warning"]
    assert lost["what"] == "headers of the router do not come through: content-type"
