"""docs/nginx.md explains docs/nginx.conf, and what it shows beside it works: TLS, keys by `auth_request`, a prefix, a
UNIX socket.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from llamarouter.core.settings import Settings
from llamarouter.relay.asgi import MAX_BODY
from tests.certificates import certificate
from tests.e2e.conftest import ROOT, Router, Serve, until
from tests.e2e.test_nginx import ENDLESS, SLOW, Front, InFront, configured, fake, front, in_flight, nginx

__all__ = ("fake", "front")
pytestmark = pytest.mark.nginx

PAGE = (ROOT / "docs" / "nginx.md").read_text()
FILE = (ROOT / "docs" / "nginx.conf").read_text()
PIECES = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
CHAT = "/v1/chat/completions"


def test_every_directive_of_the_file_is_explained() -> None:
    used = set(re.findall(r"^ *(?:#(?:tls|auth) +)?([a-z_]+)\b[^\n#]*[;{]", FILE, re.MULTILINE))
    used -= {"http", "events", "server"}
    assert len(used) > 35
    explained = set(re.findall(r"`(?:[^`]*\W)?([a-z_]+)\b", PAGE)) | set(re.findall(r"`([a-z_]+)", PAGE))
    assert used - explained == set()


def test_its_figures_are_those_of_the_router() -> None:
    figures = dict(re.findall(r"^\s*(\w+) (\w+);", FILE, re.MULTILINE))
    assert figures["client_max_body_size"] == f"{MAX_BODY >> 20}m"
    settings = Settings()
    upstream = re.search(r"upstream llamarouter \{(.*?)\}", FILE, re.DOTALL)
    assert upstream is not None
    idle = re.search(r"keepalive_timeout (\d+)s", upstream[1])
    assert idle is not None
    assert int(idle[1]) < settings.limits.keepalive_timeout
    # The wait in the queue, a load that stalls and is killed, and an answer.
    patience = int(figures["proxy_read_timeout"].removesuffix("s"))
    assert patience > settings.queue_timeout + settings.load_stall + settings.busy_stall
    assert int(figures["proxy_send_timeout"].removesuffix("s")) >= settings.limits.send_timeout


@pytest.mark.parametrize("parts", [(), ("tls",), ("auth",), ("tls", "auth")])
@pytest.mark.parametrize("pieces", [False, True])
def test_nginx_finds_nothing_wrong_with_it(tmp_path: Path, parts: tuple[str, ...], pieces: bool) -> None:
    certificate().write(tmp_path)
    text = configured("127.0.0.1:8080", tmp_path, 8081, Front(parts=parts))
    if pieces and "auth" in parts:
        assert len(PIECES) >= 4
        for piece in PIECES:
            text = with_piece(text, piece.replace("/var/log/nginx/", f"{tmp_path}/"))
    (tmp_path / "nginx.conf").write_text(text)
    argv = [nginx(), "-t", "-p", str(tmp_path), "-e", f"{tmp_path}/start.log", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    assert "[error]" not in done.stderr


def with_piece(text: str, piece: str) -> str:
    """The configuration with what the page shows put where its first comment says; one piece may have two places."""
    for where, lines in re.findall(r"# in (?:the )?(\w+)\n(.*?)(?=\n# in |\Z)", piece, re.DOTALL):
        mark = {
            "http": "    server {\n",
            "server": "location = /health {\n",
            "location": "limit_conn perip 64;",
        }[where]
        assert text.count(mark) == 1, where
        text = text.replace(mark, f"{lines}\n{mark}")
    return text


def test_tokens_come_at_once_through_tls_and_a_hang_up_frees_the_slot(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir, FAKE_WEDGE="after:3")
    client = front(router, parts=("tls",))
    with client.stream("POST", CHAT, json={**ENDLESS, "stream": True}, timeout=10) as answer:
        assert answer.status_code == 200
        data, chunks = b"", answer.iter_raw()
        while data.count(b'"content"') < 3:
            data += next(chunks)
        assert in_flight(router) == 1
    until(lambda: in_flight(router) == 0, seconds=1)


@pytest.fixture
def guarded(serve: Serve, fake: Path, models_dir: Path, tmp_path: Path) -> Router:
    """A router with two keys: one of a user, one of an administrator."""
    (tmp_path / "admin").write_text("admins-own")
    router = serve(fake, "--models-dir", models_dir, "--api-key-file", tmp_path / "admin")
    router.key = router.lr("key", "add", "ann", "--models", "a,b").stdout.strip().splitlines()[-1]
    return router


def test_nginx_asks_the_router_for_the_key_before_it_takes_a_body(guarded: Router, front: InFront) -> None:
    client = front(guarded, parts=("auth",))
    ann = {"authorization": f"Bearer {guarded.key}"}
    assert client.post(CHAT, json=SLOW, headers=ann).status_code == 200
    assert client.post(CHAT, json=SLOW, headers={"x-api-key": guarded.key}).status_code == 200
    # What the key may is still the router's word: another one's model is not there for it.
    assert client.post(CHAT, json={**SLOW, "model": "c"}, headers=ann).status_code == 404
    for path in ("/v1/models", CHAT):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    with client.stream("POST", CHAT, json={**SLOW, "stream": True}, headers=ann) as answer:
        assert [*answer.iter_lines()][-2] == "data: [DONE]"
    # A stranger announces a large body: the answer comes although not a byte of it was sent.
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as stranger:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (50 << 20)
        stranger.sendall(head)
        assert stranger.recv(12) == b"HTTP/1.1 401"
    # Nobody asks that question from outside, and nobody answers it instead.
    assert client.get("/llamarouter-auth", headers=ann).status_code == 404
    fooled = {"x-original-uri": "/health", "x-original-method": "OPTIONS"}
    assert client.get("/v1/models", headers=fooled).status_code == 401


def test_without_auth_request_the_routers_own_refusal_comes_through(guarded: Router, front: InFront) -> None:
    client = front(guarded)
    refused = client.post(CHAT, json=SLOW)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")


def test_behind_a_prefix_and_over_a_socket_everything_is_as_before(
    serve: Serve, front: InFront, fake: Path, models_dir: Path, tmp_path: Path
) -> None:
    # Paths of sockets are short: pytest's own folders are not.
    where = Path("/tmp") / f"lr-{tmp_path.stat().st_ino}.sock"
    router = serve(fake, "--models-dir", models_dir, "--host", f"127.0.0.1,{where}", "--api-prefix", "/llm")
    client = front(router, upstream=f"unix:{where}", prefix="/llm")
    with client.stream("POST", f"/llm{CHAT}", json={**SLOW, "stream": True}) as answer:
        assert answer.status_code == 200
        assert [*answer.iter_lines()][-2] == "data: [DONE]"
    assert client.post(CHAT, json=SLOW).status_code == 404


def test_the_page_of_a_trusted_network_administers_by_the_name_that_it_has_and_no_other_page_does(
    serve: Serve, front: InFront, fake: Path, models_dir: Path, tmp_path: Path
) -> None:
    (page,) = [piece for piece in PIECES if "location /page/" in piece]
    here = page.replace("192.168.0.0/16", "127.0.0.0/8")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<html>the page</html>")
    options = ("--models-dir", models_dir, "--path", tmp_path / "page", "--allowed-hosts", "llm.example.org")
    client = front(serve(fake, *options), more=here)
    name = {"host": "llm.example.org"}
    assert "the page" in client.get("/page/", headers=name).text
    load = {"model": "a"}
    own = client.post("/page/models/load", json=load, headers={**name, "origin": "http://llm.example.org"})
    assert (own.status_code, own.json()["success"]) == (200, True)
    other = client.post("/page/models/load", json=load, headers={**name, "origin": "http://evil.example"})
    assert other.status_code == 403
    assert client.get("/page/", headers={"host": "rebound.example"}).status_code in (403, 421)


def test_what_nginx_says_of_the_client_reaches_no_model_and_an_upgrade_is_no_websocket(
    serve: Serve, front: InFront, fake: Path, models_dir: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir)
    client = front(router)
    forged = {"x-forwarded-for": "10.0.0.1", "x-forwarded-host": "evil", "forwarded": "for=1", "x-other": "kept"}
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "eA==",
    }
    answer = client.post(CHAT, json={**SLOW, "fake": {"echo": True}}, headers={**forged, **upgrade})
    assert answer.status_code == 200
    assert "upgrade" not in answer.headers
    seen = json.dumps(answer.json()).lower()
    assert "x-other" in seen
    assert "x-request-id" in seen
    assert "forwarded" not in seen
    assert "websocket-key" in seen  # an ordinary header by now
    assert '"upgrade' not in seen


@pytest.mark.parametrize("streams", [True, False])
def test_a_load_that_is_shorter_than_nginxs_patience_is_waited_for_by_everybody(
    serve: Serve, front: InFront, fake: Path, models_dir: Path, streams: bool
) -> None:
    """In proportion: nginx's patience 6 s for a load of 3 s, as 1900 s are for one of three minutes."""
    slow = {"FAKE_LOAD_SECONDS": "3", "FAKE_PROGRESS_STEPS": "10"}
    router = serve(fake, "--models-dir", models_dir, "--wait-comment", 1, **slow)
    client = front(router, patience="6s")
    answer = client.post(CHAT, json={**SLOW, "stream": streams})
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("data: [DONE]") if streams else answer.json()["choices"]
    assert answer.elapsed.total_seconds() > (1 if streams else 2.9)
