"""What a client reads of files: their names, not where they lie."""

from __future__ import annotations

import pytest

from llamarouter.core.file_names import without_paths


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("cannot open /srv/models/a.gguf: gone", "cannot open a.gguf: gone"),
        ("cannot open '/srv/my models/a b.gguf'", "cannot open 'a b.gguf'"),
        ('cannot open "/srv/my models/a b"', "cannot open 'a b'"),
        ("cannot open /srv/my models/a b.gguf: gone", "cannot open a b.gguf: gone"),
        ("cannot open /srv/my models/sub dir/a.gguf, gone", "cannot open a.gguf, gone"),
        ("cannot open file:///srv/models/a.gguf", "cannot open a.gguf"),
        ("cannot open 'file:///srv/my models/a.png'", "cannot open 'a.png'"),
        ("cannot open file:///srv/secret/picture", "cannot open picture"),
        ("error:/srv/models/a.gguf", "error:a.gguf"),
        ("open=/srv/models/a.gguf", "open=a.gguf"),
        ("(/srv/models/a.gguf)", "(a.gguf)"),
        ("./models/a.gguf is gone", "a.gguf is gone"),
        ("../../models/a.gguf is gone", "a.gguf is gone"),
        ("~/models/a.gguf is gone", "a.gguf is gone"),
        ("models/sub/a.gguf is gone", "a.gguf is gone"),
        ("/opt/cuda/lib64/libcudart.so.12: cannot open shared object", "libcudart.so.12: cannot open shared object"),
        ("/src/ggml/ops.cpp:4242: GGML_ASSERT(x) failed", "ops.cpp:4242: GGML_ASSERT(x) failed"),
    ],
)
def test_where_a_file_lies_is_not_said(line: str, shown: str) -> None:
    assert without_paths(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        "model 'acme/mine' cannot be loaded",
        "model 'acme/mine:Q4_K_M' and user/repo-GGUF:Q8_0",
        "https://huggingface.co/acme/mine/resolve/main/a.gguf is gone",
        "36.7 tokens/s, 3/4 layers, and/or",
        "expected 'GGUF'",
    ],
)
def test_what_is_no_path_stays(line: str) -> None:
    assert without_paths(line) == line
