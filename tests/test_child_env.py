"""What a child's environment is made of."""

from __future__ import annotations

import pytest

from llamarouter.core.child_env import child_env

KEPT = {
    "HOME": "/root",
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": "/usr/lib",
    "CUDA_VISIBLE_DEVICES": "0",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1",
    "HSA_OVERRIDE_GFX_VERSION": "10.3.0",
    "XDG_CACHE_HOME": "/c",
    "MTMD_BACKEND_DEVICE": "CUDA0",
    "OMP_NUM_THREADS": "4",
    "TMPDIR": "/tmp",
    "KEYBOARD": "de",
    "MONKEYS": "3",
    "PATHEXT": "x",
    "XAUTHORITY": "/x",
}


def test_what_the_machine_needs_stays() -> None:
    assert child_env(KEPT, {}) == KEPT


@pytest.mark.parametrize(
    "name",
    [
        "LLAMA_ARG_CTX_SIZE",
        "LLAMA_API_KEY",
        "LLAMA_CACHE",
        "LLAMA_SERVER_DEBUG_FAKE_TIMING",
        "AIP_MODE",
        "HF_TOKEN",
        "HF_HOME",
        "HUGGING_FACE_HUB_TOKEN",
        "MODEL_ENDPOINT",
        "LR_ENGINE",
        "http_proxy",
        "HTTPS_PROXY",
        "no_proxy",
        "all_proxy",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "GITHUB_TOKEN",
        "GITHUB_PAT",
        "DB_PASSWORD",
        "PGPASSWORD",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "SSH_AUTH_SOCK",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "WATCHDOG_USEC",
        "CREDENTIALS_DIRECTORY",
    ],
)
def test_what_is_none_of_its_business_goes(name: str) -> None:
    assert child_env({name: "x", "HOME": "/"}, {}) == {"HOME": "/"}


def test_a_password_in_an_address_goes() -> None:
    environ = {"DATABASE_URL": "postgres://u:p@db/x", "HOMEPAGE": "https://example.org/a:b"}
    assert child_env(environ, {}) == {"HOMEPAGE": "https://example.org/a:b"}


def test_what_we_add_holds_and_another_config_folder_does_not() -> None:
    environ = {"XDG_CONFIG_HOME": "/etc/mine", "A": "1"}
    assert child_env(environ, {"A": "2", "LLAMA_SERVER_ROUTER_PORT": "1"}) == {
        "A": "2",
        "LLAMA_SERVER_ROUTER_PORT": "1",
    }
    assert child_env(environ, [("XDG_CONFIG_HOME", "/empty")])["XDG_CONFIG_HOME"] == "/empty"
