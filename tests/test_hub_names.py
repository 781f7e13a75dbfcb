"""Names on the Hub: what is accepted, what is chosen, what is said when it is not there."""

from __future__ import annotations

import pytest

from llamarouter.core.fetch_events import FetchError
from llamarouter.core.hub_names import NotInRepo, Wanted, choose, is_safe_path, parse_spec, quants_of

VISION = [
    "README.md",
    "M-BF16-00001-of-00002.gguf",
    "M-BF16-00002-of-00002.gguf",
    "M-Q4_K_M.gguf",
    "M-Q8_0.gguf",
    "imatrix.gguf",
    "mmproj-M-BF16.gguf",
    "mmproj-M-Q8_0.gguf",
    "mtp-M-Q4_K_M.gguf",
]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("user/repo", Wanted("user/repo")),
        (" user/repo:Q4_K_M ", Wanted("user/repo", "Q4_K_M")),
        ("user/repo/a/b-Q8_0.gguf", Wanted("user/repo", None, "a/b-Q8_0.gguf")),
        ("https://huggingface.co/user/repo", Wanted("user/repo")),
        ("hf.co/user/repo:Q8_0", Wanted("user/repo", "Q8_0")),
        ("https://huggingface.co/user/repo/tree/main", Wanted("user/repo")),
        ("https://huggingface.co/user/repo/blob/main/x.gguf?download=true", Wanted("user/repo", None, "x.gguf")),
    ],
)
def test_a_name_is_read(text: str, wanted: Wanted) -> None:
    assert parse_spec(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "repo",
        "/repo",
        "user/",
        "../repo",
        "user/..",
        "user/re po",
        "user/repo:",
        "user/repo:../x",
        "user/repo:Q4\n[evil]",
        "user/repo/../../x.gguf",
        "user/repo/x\n.gguf",
        "user/repo/x.bin",
        "user/repo//x.gguf",
        "user/repo:Q4/x.gguf",
        "us\u00e9r/repo",
        "a" * 97 + "/repo",
        "-user/repo",
        "https://elsewhere.example/user/repo",
    ],
)
def test_what_is_no_name_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(FetchError) as caught:
        parse_spec(text)
    assert caught.value.reason == "bad_request"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "path", ["../x.gguf", "/x.gguf", "a/./x.gguf", "a\\x.gguf", "a\x00.gguf", "x.txt", "b/\u202ex.gguf"]
)
def test_a_path_that_leads_elsewhere_is_no_file_of_ours(path: str) -> None:
    assert not is_safe_path(path)
    with pytest.raises(NotInRepo):
        choose([path], Wanted("u/r"))


def test_without_a_quant_it_is_q4_k_m_then_q8_0_then_the_first() -> None:
    assert choose(VISION, Wanted("u/r")).id == "u/r:Q4_K_M"
    assert choose([path for path in VISION if "Q4" not in path], Wanted("u/r")).id == "u/r:Q8_0"
    assert choose(["b-Q3_K.gguf", "a-Q2_K.gguf"], Wanted("u/r")).id == "u/r:Q2_K"


def test_all_shards_come_in_order_with_the_projector_of_the_nearest_width() -> None:
    choice = choose(reversed(VISION), Wanted("u/r", "bf16"))
    assert choice.model == ("M-BF16-00001-of-00002.gguf", "M-BF16-00002-of-00002.gguf")
    assert choice.mmproj == "mmproj-M-BF16.gguf"
    assert choose(VISION, Wanted("u/r", "Q4_K_M")).mmproj == "mmproj-M-Q8_0.gguf"


def test_a_file_by_its_name_brings_its_shards() -> None:
    assert len(choose(VISION, Wanted("u/r", None, "M-BF16-00002-of-00002.gguf")).model) == 2


def test_an_incomplete_set_of_shards_is_named() -> None:
    with pytest.raises(NotInRepo, match=r"M-BF16-00002-of-00002\.gguf is missing"):
        choose(["M-BF16-00001-of-00002.gguf"], Wanted("u/r", "BF16"))


def test_a_wrong_quant_or_file_lists_what_there_is() -> None:
    with pytest.raises(NotInRepo, match=r"u/r has no Q5_1; it has BF16, Q4_K_M, Q8_0$"):
        choose(VISION, Wanted("u/r", "Q5_1"))
    with pytest.raises(NotInRepo, match=r"u/r has no file x\.gguf; it has M-BF16-00001-of-00002\.gguf, M-Q4"):
        choose(VISION, Wanted("u/r", None, "x.gguf"))
    with pytest.raises(NotInRepo, match="no GGUF model"):
        choose(["model.safetensors"], Wanted("u/r"))


def test_a_model_without_a_quant_in_its_name_is_known_by_its_file() -> None:
    assert choose(["plain.gguf"], Wanted("u/r")).id == "u/r/plain.gguf"
    assert quants_of(["plain.gguf"]) == {}
