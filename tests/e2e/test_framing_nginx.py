"""The rows of `tests/test_framing.py` through a real nginx: nobody is served what nginx did not mean to send.

Every request of a row has a name of its own, and so have the probes behind it, which nginx sends over connections that
it keeps: had the two understood a request in two ways, an answer would be another's.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.test_nginx import InFront, fake, front
from tests.test_framing import ROWS

__all__ = ("fake", "front")
pytestmark = pytest.mark.nginx


def told(address: tuple[str, int], request: bytes) -> bytes:
    """All that comes until the connection ends, or nothing more comes for a moment."""
    with socket.create_connection(address, timeout=1) as client:
        answer = b""
        try:
            client.sendall(request)
            while part := client.recv(1 << 16):
                answer += part
        except (TimeoutError, ConnectionError):
            pass
        return answer


def asking(name: str) -> bytes:
    body = json.dumps({"model": name}).encode()
    line = b"POST /v1/embeddings?%b HTTP/1.1\r\nhost: localhost\r\n" % name.encode()
    return b"%bcontent-length: %d\r\n\r\n%b" % (line, len(body), body)


def test_no_row_makes_nginx_and_the_router_disagree(
    serve: Serve, front: InFront, fake: Path, models_dir: Path, tmp_path: Path
) -> None:
    router = serve(fake, "--models-dir", models_dir)
    client = front(router)
    address = (client.base_url.host, client.base_url.port or 80)
    for number, (name, (request, _)) in enumerate(ROWS.items()):
        asked = request.replace(b"{line}", b"POST /v1/embeddings")
        answer = told(address, asked + asking(f"smuggled-{number}"))
        # nginx reads some rows leniently and sends on what it understood, in its own words: then it knows both.
        logged = (tmp_path / "nginx" / "0" / "access.log").read_text().count(f"?smuggled-{number} ")
        assert answer.count(b"'smuggled-%d'" % number) <= logged, name
        for probe in range(4):
            answered = client.post("/v1/embeddings", json={"model": f"probe-{number}-{probe}"})
            assert answered.status_code == 404, name
            assert f"'probe-{number}-{probe}'" in answered.json()["error"]["message"], name
