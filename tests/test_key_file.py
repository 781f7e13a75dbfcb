"""The file of keys: who may read it, what it holds, and who writes it at the same time."""

from __future__ import annotations

import os
import re
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamarouter.core.errors import UsageError
from llamarouter.core.keys import Key, Limits, added, digest_of
from llamarouter.host.key_file import KEYS, KeyFile
from tests.key_kit import CREATED, give, secret_of


def full() -> Key:
    return Key(
        name="ann",
        digest=digest_of(b"x"),
        created=CREATED,
        models=("a/*", 'q"\u00e4'),
        limits=Limits(rpm=1, concurrent=2, tokens_per_day=3),
        expires=datetime(2027, 1, 1, tzinfo=UTC),
        default_model="a/b",
    )


def test_what_is_written_is_read_and_only_by_its_owner(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "state" / KEYS)
    assert file.read() == ()
    assert file.stamp() is None
    keys = (full(), replace(full(), name="ops", digest=digest_of(b"y"), models=None, admin=True, limits=Limits()))
    assert file.change(lambda before: (*before, *keys)) == keys
    assert file.read() == keys
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(file.path.parent).st_mode) == 0o700
    before = file.stamp()
    file.change(lambda keys: keys)
    assert file.stamp() not in (None, before)


def test_the_file_holds_no_secret(tmp_path: Path) -> None:
    header = give(tmp_path, "ann")
    assert header["authorization"].endswith(secret_of("ann"))
    for path in tmp_path.iterdir():
        assert secret_of("ann").encode() not in path.read_bytes()
    assert digest_of(secret_of("ann").encode()).hex() in (tmp_path / KEYS).read_text()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o777])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    give(tmp_path, "ann")
    file = KeyFile(tmp_path / KEYS)
    file.path.chmod(mode)
    for attempt in (file.read, lambda: file.change(lambda keys: keys)):
        with pytest.raises(UsageError, match=f"mode {mode:o}.*chmod 600"):
            attempt()


GOOD = 'version = 1\n[[keys]]\nname = "a"\ncreated = 2026-01-01T00:00:00Z\nsha256 = "' + "0" * 64 + '"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 2", "version 2"),
        ("", "version"),
        ("version = 1\nkeys = [", "keys.toml: "),
        (GOOD.replace('"a"', '"a b"'), "cannot name a key"),
        (GOOD + "rights = 1", "rights"),
        (GOOD + "rpm = 0", "--rpm 0"),
        (GOOD + 'rpm = "many"', "rpm"),
        (GOOD + "admin = true\nmodels = ['x']", "exclude each other"),
        (GOOD.replace("0" * 64, "0" * 62), "64 hexadecimal digits"),
        (GOOD.replace("0" * 64, "x" * 64), "hexadecimal"),
        (GOOD + GOOD.removeprefix("version = 1\n").replace('"a"', '"A"'), "there is a key a already"),
        ("# " + "x" * (5 << 20), "larger than"),
        ("version = 1\n\xff", "keys.toml: "),
    ],
)
def test_what_is_not_a_file_of_keys_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / KEYS
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(UsageError, match=said) as caught:
        KeyFile(path).read()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_folder_and_one_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    (tmp_path / KEYS).mkdir()
    with pytest.raises(UsageError, match=re.escape("keys.toml: ")):
        KeyFile(tmp_path / KEYS).read()
    (tmp_path / KEYS).rmdir()
    os.mkfifo(tmp_path / KEYS, 0o600)
    with pytest.raises(UsageError, match="not a file"):
        KeyFile(tmp_path / KEYS).read()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="the user whose router it is"):
        KeyFile(tmp_path / "file" / KEYS).change(lambda keys: keys)


def test_those_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / KEYS)

    def add(name: str) -> None:
        file.change(lambda keys: added(keys, replace(full(), name=name, digest=digest_of(name.encode()))))

    threads = [threading.Thread(target=add, args=(f"k{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in file.read()) == [f"k{n}" for n in range(8)]
