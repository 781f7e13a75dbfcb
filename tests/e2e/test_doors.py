"""The door as an operator sets it up: TLS, a prefix, CORS, and UNIX sockets beside them."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.certificates import certificate, new_certificate
from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve, until

pytestmark = [pytest.mark.compiled]
CHAT = {"model": "a", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6}


def client_of(router: Router, **options: object) -> httpx.Client:
    return router.client(verify=certificate().client(), **options)


def streamed(client: httpx.Client, **more: object) -> list[dict[str, object]]:
    with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True, **more}) as answer:
        assert answer.status_code == 200
        data = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def test_tls_by_environment_is_the_routers_alone(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    """llama-server's children would take the certificate from the environment and answer no plain request then."""
    key, cert = certificate().write(tmp_path)
    environ = {"LLAMA_ARG_SSL_KEY_FILE": key, "LLAMA_ARG_SSL_CERT_FILE": cert, "LLAMA_API_KEY": "sk-1"}
    router = serve(COMPILED, "--models-dir", models_dir, **environ)
    assert router.url.startswith("https://127.0.0.1:")
    with client_of(router, headers={"authorization": "Bearer sk-1"}) as client:
        for _ in range(3):
            assert streamed(client)[-1]
        assert client.post("/v1/chat/completions", json=CHAT).json()["usage"]["completion_tokens"] == 6
        until(lambda: [line for line in router.output if line.startswith("try: ")])
        (curl,) = [line for line in router.output if line.startswith("try: ")]
        assert curl.startswith(f"try: curl -k {router.url}/v1/chat/completions -H 'Authorization: Bearer YOUR_KEY'")
        assert "loaded" in router.lr("ls").stdout.splitlines()[1].split()  # by the admin socket
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(router.url.replace("https", "http") + "/health", trust_env=False)
        assert client.get("/health").json() == {"status": "ok"}
        # A client that keeps its connection and says nothing must not hold up the end.
        assert router.stop(seconds=10) == 0


def test_lr_speaks_tls_to_a_router_elsewhere(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    key, cert = certificate().write(tmp_path)
    router = serve(COMPILED, "--models-dir", models_dir, "--ssl-key-file", key, "--ssl-cert-file", cert)
    router.environ["LR_URL"] = router.url
    refused = router.lr("ls", code=1)
    assert "certificate" in refused.stderr
    assert "SSL_CERT_FILE" in refused.stderr
    router.environ["SSL_CERT_FILE"] = cert
    assert "a " in router.lr("ls").stdout


def test_a_hangup_and_lr_reload_take_a_renewed_certificate(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    old, new = new_certificate(), new_certificate()
    key, cert = old.write(tmp_path)
    router = serve(COMPILED, "--models-dir", models_dir, "--ssl-key-file", key, "--ssl-cert-file", cert)
    with router.client(verify=old.client()) as kept:
        assert kept.get("/health").status_code == 200
        new.write(tmp_path)
        router.process.send_signal(signal.SIGHUP)
        until(lambda: [line for line in router.output if "the certificate was read again" in line])
        with router.client(verify=new.client()) as client:
            assert client.get("/health").status_code == 200
        assert kept.get("/health").status_code == 200  # the connection that was there goes on
    old.write(tmp_path)
    assert router.lr("reload").returncode == 0
    with router.client(verify=old.client()) as client:
        assert client.get("/health").status_code == 200
    Path(cert).unlink()
    told = router.lr("reload")
    assert (told.returncode, told.stderr.count("\n")) == (0, 1)
    assert f"the certificate stays as it was: --ssl-cert-file {cert}: No such file or directory" in told.stderr
    with router.client(verify=old.client()) as client:
        assert client.get("/health").status_code == 200


def test_a_unix_socket_beside_tls_speaks_plainly(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    key, cert = certificate().write(tmp_path)
    path = f"/tmp/lr-door-{os.getpid()}.sock"
    words = ("--host", f"{path},127.0.0.1", "--ssl-key-file", key, "--ssl-cert-file", cert, "--api-prefix", "/p")
    router = serve(COMPILED, "--models-dir", models_dir, *words)
    until(lambda: [line for line in router.output if line.startswith("listening on https")])
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://router/p") as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert streamed(client)[-1]
    url = next(line.split()[-1] for line in router.output if line.startswith("listening on https"))
    assert url.endswith("/p")
    with httpx.Client(base_url=url, verify=certificate().client(), trust_env=False) as client:
        assert client.get("/health").json() == {"status": "ok"}
    assert router.stop() == 0
    assert not Path(path).exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_below_a_prefix_all_works_as_without(serve: Serve, engine: Path | None, models_dir: Path) -> None:
    router = serve(engine, "--models-dir", models_dir, LLAMA_ARG_API_PREFIX="/llm")
    assert router.url.endswith("/llm")
    with router.client() as client:
        assert {entry["id"] for entry in client.get("/models").json()["data"]} == {"a", "b", "c"}
        for _ in range(2):
            assert streamed(client)[-1]
        assert client.get("/slots", params={"model": "a"}).json()[0]["id"] == 0
        assert client.get("/props", params={"model": "a"}).json()["total_slots"] >= 1
        assert client.get("/v1/models/a").json()["id"] == "a"
        root = router.url.removesuffix("/llm")
        for path in ("/health", "/v1/chat/completions", "/"):
            assert client.get(root + path).status_code == 404
    assert "a " in router.lr("ls").stdout
    router.environ["LR_URL"] = router.url
    assert "a " in router.lr("ls").stdout


def test_a_model_that_is_hidden_from_the_page_does_not_hide_the_page(
    serve: Serve, models_dir: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "p.ini"
    preset.write_text("[b]\nui = off\n")
    router = serve(None, "--models-dir", models_dir, "--models-preset", preset)  # the engine that carries a page
    with router.client() as client:
        router.lr("load", "b")
        assert client.get("/props", params={"model": "b"}).json()["ui"] is False
        router.lr("load", "a")
        assert client.get("/props", params={"model": "a"}).json()["ui"] is True
        until(lambda: "_app/immutable" in client.get("/").text)


def test_every_answer_says_what_it_comes_from(serve: Serve, models_dir: Path) -> None:
    router = serve(COMPILED, "--models-dir", models_dir)
    with router.client() as client:
        answers = [client.get("/health"), client.get("/nowhere"), client.post("/tokenize", json={"model": "nobody"})]
        answers += [client.post("/tokenize", json={"model": "a", "content": "x"}) for _ in range(2)]
    assert [answer.headers.get_list("server") for answer in answers] == [["llama.cpp"]] * 5


def test_a_client_that_never_speaks_tls_is_let_go(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    key, cert = certificate().write(tmp_path)
    router = serve(COMPILED, "--models-dir", models_dir, "--ssl-key-file", key, "--ssl-cert-file", cert)
    port = int(router.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as silent, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        raw.settimeout(5)
        assert b"HTTP/1.1 200" not in raw.recv(4096)
        with client_of(router) as client:
            assert client.get("/health").status_code == 200
        assert router.stop(seconds=10) == 0
        silent.settimeout(5)
        assert silent.recv(1) == b""
    assert not [line for line in router.output if "Traceback" in line]


def test_a_reload_takes_the_keys_of_the_file_as_they_are_now(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old\nshared\n")
    router = serve(None, "--models-dir", models_dir, "--api-key-file", file)

    def status(key: str) -> int:
        with router.client(headers={"x-api-key": key}) as client:
            return client.get("/models").status_code

    assert [status(key) for key in ("old", "shared", "new")] == [200, 200, 401]
    file.write_text("# of this year\nnew\nshared\n")
    assert router.lr("reload").stderr == ""
    assert [status(key) for key in ("old", "shared", "new")] == [401, 200, 200]
    for spoilt in ("# nobody\n", "two words\n"):
        file.write_text(spoilt)
        told = router.lr("reload").stderr
        assert "the keys stay as they were: --api-key-file" in told
        assert "two words" not in told
        assert [status(key) for key in ("old", "shared", "new")] == [401, 200, 200]
    file.unlink()
    assert "No such file or directory" in router.lr("reload").stderr
    assert status("new") == 200
