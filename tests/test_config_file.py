"""Where llama.cpp's own `config.ini` lies, and what becomes of one that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.host.config_file import read_config
from llamarouter.host.ini_file import UnreadableIni, read_ini
from tests.catalogs import LOCAL, catalog_of, flags_of, warnings_of


def user_file(home: Path, text: bytes) -> Path:
    path = home / "llama.cpp" / "config.ini"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    return path


def test_the_users_is_over_the_systems(tmp_path: Path) -> None:
    system = tmp_path / "system.ini"
    assert read_config({"XDG_CONFIG_HOME": str(tmp_path)}, str(system)) is None
    system.write_text("[*]\nc = 1\ntop-k = 3\n")
    path = user_file(tmp_path, b"[*]\nc = 2\n")
    config = read_config({"XDG_CONFIG_HOME": str(tmp_path)}, str(system))
    assert config is not None
    flags = flags_of(catalog_of(models=[LOCAL], config=config), "local")
    assert flags["--ctx-size"] == ("2", f"{path}:2")
    assert flags["--top-k"] == ("3", f"{system}:3")


def test_one_that_cannot_be_read_is_a_warning_and_the_other_one_counts(tmp_path: Path) -> None:
    system = tmp_path / "system.ini"
    system.write_text("[*]\nc = 1\n")
    path = user_file(tmp_path, b"[*]\r\nc = 2\r\n; f\xfcr\n")
    config = read_config({"HOME": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path)}, str(system))
    catalog = catalog_of(models=[LOCAL], config=config)
    assert flags_of(catalog, "local")["--ctx-size"] == ("1", f"{system}:2")
    assert warnings_of(catalog) == [f"{path}: left out: cannot be read (line 3 is not UTF-8 text)"]


@pytest.mark.parametrize(("text", "line"), [(b"\xff", 1), (b"a = 1\n\xff = 1", 2), (b"\r\n\r\n[a]\n\n; \xe9\n", 5)])
def test_the_first_line_that_is_no_text_is_named(tmp_path: Path, text: bytes, line: int) -> None:
    path = tmp_path / "p.ini"
    path.write_bytes(text)
    with pytest.raises(UnreadableIni, match=f"^line {line} is not UTF-8 text$"):
        read_ini(str(path))
