"""From what is seen of a dead child to one cause and one sentence."""

from __future__ import annotations

import pytest

from llamarouter.core.causes import Cause
from llamarouter.core.exits import LAST_WORDS, classify, engine_failure, is_bind_failure, plain, stopped

MAGIC = (
    "0.00.004.114 I srv    load_model: loading model '/srv/models/a b.gguf'",
    "0.00.004.203 E gguf_init_from_reader: invalid magic characters: 'root', expected 'GGUF'",
    "0.00.004.284 E llama_model_load: error loading model: llama_model_loader: failed to load model from /srv/m/x.gguf",
    "0.00.004.705 E srv  llama_server: exiting due to model loading error",
)
CUDA = (
    "0.01.000.000 E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: "
    "cudaMalloc failed: out of memory",
    "0.01.000.001 E llama_model_load_from_file_impl: failed to load model",
)
BIND = ("0.00.001.000 E srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080",)
LORA = (
    "0.00.019.949 E llama_adapter_lora_init_from_file_ptr: failed to apply lora adapter: expect general.type to be "
    "'adapter', but got: ",
    "0.00.021.425 E srv  llama_server: exiting due to model loading error",
)
KERNELS = ("0.01.000.000 E CUDA error: no kernel image is available for execution on the device",)
ASSERT = ("/src/ggml-backend.cpp:120: GGML_ASSERT(x) failed",)


@pytest.mark.parametrize(
    ("loading", "code", "signal", "lines", "cause", "deterministic", "memory"),
    [
        (True, 1, None, MAGIC, Cause.BAD_FILE, True, False),
        (True, 1, None, LORA, Cause.BAD_FILE, True, False),
        (True, 1, None, CUDA, Cause.DEVICE_MEMORY, False, True),
        (True, 1, None, ("error: invalid argument: --bogus",), Cause.BAD_OPTION, True, False),
        (True, 1, None, ('error while handling argument "-c": stoi',), Cause.BAD_OPTION, True, False),
        (True, 1, None, BIND, Cause.SOCKET, True, False),
        (True, 127, None, ("x: error while loading shared libraries: libcuda.so.1",), Cause.LIBRARY, True, False),
        (True, 127, None, ("setpriv: failed to execute /x/llama-server: No such file",), Cause.ENGINE, True, False),
        (True, 127, None, (), Cause.ENGINE, True, False),
        (True, 126, None, (), Cause.ENGINE, True, False),
        (True, 0, None, (), Cause.EXITED, False, False),
        (True, 2, None, (), Cause.EXITED, False, False),
        (True, 255, None, (), Cause.EXITED, False, False),
        (True, None, "SIGSEGV", MAGIC, Cause.SIGNAL, False, False),
        (True, 139, None, (), Cause.SIGNAL, False, False),
        (True, 135, None, (), Cause.SIGNAL, False, False),
        (True, 132, None, (), Cause.SIGNAL, False, False),
        (True, None, "SIGABRT", ASSERT, Cause.SIGNAL, False, False),
        (True, None, "SIGABRT", CUDA, Cause.DEVICE_MEMORY, False, True),
        (True, 134, None, CUDA, Cause.DEVICE_MEMORY, False, True),
        (False, None, "SIGABRT", CUDA, Cause.DEVICE_MEMORY, False, True),
        (False, None, "SIGABRT", KERNELS, Cause.LIBRARY, True, False),
        (False, None, "SIGSEGV", CUDA, Cause.SIGNAL, False, False),
        (True, None, "SIGKILL", (), Cause.KILLED, False, True),
        (True, 137, None, (), Cause.KILLED, False, True),
        (True, 143, None, (), Cause.KILLED, False, False),
        (False, None, "SIGKILL", (), Cause.KILLED, False, False),
        (False, None, "SIGSEGV", (), Cause.SIGNAL, False, False),
        (False, 0, None, (), Cause.EXITED, False, False),
        # What it said while it loaded explains no end that comes after.
        (False, 1, None, MAGIC, Cause.EXITED, False, False),
        (False, 1, None, CUDA, Cause.DEVICE_MEMORY, False, True),
    ],
)
def test_causes(
    loading: bool,
    code: int | None,
    signal: str | None,
    lines: tuple[str, ...],
    cause: Cause,
    deterministic: bool,
    memory: bool,
) -> None:
    end = classify(loading=loading, code=code, signal=signal, lines=lines)
    assert (end.cause, end.deterministic, end.memory) == (cause, deterministic, memory)
    assert "\n" not in end.message
    assert end.message


def test_the_words_that_matter_come_first_and_without_paths() -> None:
    end = classify(loading=True, code=1, signal=None, lines=MAGIC)
    assert end.message == (
        "its file cannot be loaded: gguf_init_from_reader: invalid magic characters: 'root', expected 'GGUF'"
    )
    assert end.last_words[0] == "srv    load_model: loading model 'a b.gguf'"
    assert not any("/srv" in words for words in end.last_words)


def test_an_exit_without_known_words_tells_the_error_that_began_it() -> None:
    lines = (
        "0.00.001.000 E srv  thing: it broke in /x/y/z.cpp",
        "0.00.002.000 E srv  all: exiting due to an error",
        "0.00.003.000 I srv  bye",
    )
    end = classify(loading=True, code=3, signal=None, lines=lines)
    assert end.message == "llama-server exited with code 3 before it was ready: srv  thing: it broke in z.cpp"
    end = classify(loading=False, code=3, signal=None, lines=lines)
    assert end.message == "llama-server exited with code 3 while it was loaded: srv  all: exiting due to an error"


def test_a_kill_by_the_kernel_is_a_lack_of_memory_also_later() -> None:
    end = classify(loading=False, code=None, signal="SIGKILL", lines=(), kernel_oom=True)
    assert (end.cause, end.memory) == (Cause.HOST_MEMORY, True)


@pytest.mark.parametrize(("loading", "cause"), [(True, Cause.STALLED_LOADING), (False, Cause.STALLED_BUSY)])
def test_our_own_kill_is_named_after_the_stall(loading: bool, cause: Cause) -> None:
    end = classify(loading=loading, code=None, signal="SIGKILL", lines=CUDA, stalled="no progress")
    assert (end.cause, end.message, end.memory) == (cause, "no progress", False)


def test_messages_and_last_words_are_bounded() -> None:
    lines = tuple(f"0.00.001.000 E error loading model: {n} {'x' * 4000}" for n in range(1000))
    end = classify(loading=True, code=1, signal=None, lines=lines)
    assert len(end.message) <= 400
    assert len(end.last_words) == LAST_WORDS
    assert end.last_words[-1].startswith("error loading model: 999")


def test_a_port_that_was_taken() -> None:
    assert is_bind_failure(BIND)
    assert not is_bind_failure(MAGIC)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0.00.004.203 E x: y", "x: y"),
        ("\x1b[31m0.00.004.203 E x\x1b[0m", "x"),
        ("failed to open '/home/me/my models/a.gguf' (No such file)", "failed to open 'a.gguf' (No such file)"),
        ('open "/a/b c/d.gguf": no', "open 'd.gguf': no"),
        ("from /a/b/c.gguf, then 1/2 and http://host/path", "from c.gguf, then 1/2 and http://host/path"),
        ("offloaded 3/33 layers", "offloaded 3/33 layers"),
    ],
)
def test_plain(line: str, text: str) -> None:
    assert plain(line) == text


def test_ends_that_no_child_had() -> None:
    assert stopped().cause is Cause.ASKED
    assert engine_failure("x").deterministic


def test_a_hint_goes_with_what_was_said() -> None:
    end = classify(loading=False, code=None, signal="SIGABRT", lines=ASSERT)
    assert end.hint("m").startswith("llama-server met what it does not handle")
    end = classify(loading=True, code=1, signal=None, lines=MAGIC)
    assert "`lr rm m`, `lr pull m`" in end.hint("m")
    assert stopped().hint("m") == ""
