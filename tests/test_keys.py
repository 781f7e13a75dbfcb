"""Keys as values: what makes sense, what a date means, and what an answer took."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from llamarouter.core.access import OPEN, OPERATOR, Keyring
from llamarouter.core.errors import UsageError
from llamarouter.core.key_rules import PUBLIC, Right, needs_admin, right_of, sees_of
from llamarouter.core.keys import (
    Key,
    Limits,
    added,
    bare,
    checked,
    digest_of,
    expiry_of,
    globs_of,
    operators_keys,
    removed,
    rotated,
    said_of,
    secret_of,
)
from llamarouter.core.rate import Meter
from llamarouter.core.routes import RELAYED
from llamarouter.core.tokens import NONE, Tokens, tokens_taken

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def key(name: str = "ann", secret: str = "s", **more: object) -> Key:
    return Key(name=name, digest=digest_of(secret.encode()), created=NOW, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": ""}, "cannot name a key"),
        ({"name": "../x"}, "cannot name a key"),
        ({"name": "a b"}, "cannot name a key"),
        ({"name": "ä"}, "cannot name a key"),
        ({"name": "a" * 65}, "cannot name a key"),
        ({"name": "a\n"}, "cannot name a key"),
        ({"name": "api-key"}, "are those of --api-key"),
        ({"name": "API-Key-1"}, "are those of --api-key"),
        ({"models": ("x",), "admin": True}, "exclude each other"),
        ({"metrics": True, "admin": True}, "goes with --expires alone"),
        ({"metrics": True, "models": ("x",)}, "goes with --expires alone"),
        ({"metrics": True, "limits": Limits(rpm=1)}, "goes with --expires alone"),
        ({"metrics": True, "default_model": "a"}, "goes with --expires alone"),
        ({"models": ()}, "ids are needed"),
        ({"models": ("a", " ")}, "ids are needed"),
        ({"models": ("a" * 600,)}, "characters each"),
        ({"models": tuple(str(n) for n in range(300))}, "at most 256"),
        ({"limits": Limits(rpm=0)}, "--rpm 0: a number from 1"),
        ({"limits": Limits(rpm=100_001)}, "--rpm 100001"),
        ({"limits": Limits(concurrent=-1)}, "--concurrent -1"),
        ({"limits": Limits(tokens_per_day=0)}, "--tokens-per-day 0"),
        ({"default_model": " "}, "--default-model"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked(replace(key(), **wrong))  # type: ignore[arg-type]


def test_what_is_said_of_a_key_is_all_but_its_hash() -> None:
    good = checked(key(models=("a",), limits=Limits(rpm=1), expires=NOW, default_model="a"))
    said = said_of(good)
    assert said == {
        "name": "ann",
        "admin": False,
        "metrics": False,
        "models": ["a"],
        "rpm": 1,
        "concurrent": None,
        "tokens_per_day": None,
        "default_model": "a",
        "expires": "2026-05-04T12:30Z",
    }
    assert said_of(key())["expires"] is said_of(key())["models"] is None


def test_a_key_is_added_changed_and_taken_away_by_its_name() -> None:
    keys = added((), key("ann"))
    keys = added(keys, key("bob", "t"))
    with pytest.raises(UsageError, match="there is a key ann already"):
        added(keys, key("ANN"))
    turned = rotated(keys, "bob", digest_of(b"u"))
    assert [each.digest for each in turned] == [digest_of(b"s"), digest_of(b"u")]
    assert removed(keys, "ann") == (keys[1],)
    for change in (lambda: removed(keys, "eve"), lambda: rotated(keys, "eve", b"")):
        with pytest.raises(UsageError, match="there is no key 'eve'; there are ann, bob"):
            change()
    with pytest.raises(UsageError, match="there are none"):
        removed((), "eve")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("2026-05-04", datetime(2026, 5, 5, tzinfo=UTC)),  # today: to its end
        ("2027-02-28", datetime(2027, 3, 1, tzinfo=UTC)),
        ("2026-05-04T13:00", datetime(2026, 5, 4, 13, tzinfo=UTC)),
        ("2026-05-04T13:00+02:00", None),  # 11:00 UTC
        ("2026-05-04T15:00:00+02:00", datetime(2026, 5, 4, 13, tzinfo=UTC)),
        ("90d", datetime(2026, 8, 2, 12, 30, tzinfo=UTC)),
        ("12h", datetime(2026, 5, 5, 0, 30, tzinfo=UTC)),
        ("0d", None),
        ("2026-05-03", None),
        ("2026-02-30", None),
        ("9999-12-31", None),
        ("99999d", datetime(2300, 2, 16, 12, 30, tzinfo=UTC)),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_a_date_is_read_or_refused(text: str, ends: datetime | None) -> None:
    if ends is None:
        with pytest.raises(UsageError, match="--expires"):
            expiry_of(text, NOW)
    else:
        assert expiry_of(text, NOW) == ends
        over = key(expires=ends)
        assert not over.is_over(ends.timestamp() - 1)
        assert over.is_over(ends.timestamp())
    assert not key().is_over(1e12)


def test_globs_mean_ids_with_their_case_and_whatever_way_they_are_written_in() -> None:
    assert globs_of(" a , b/*,,a ") == ("a", "b/*")
    sees = sees_of(("qwen/*", "m?", "x[12]", "caf\u00e9", "\u00e4*"))
    for model in ("qwen/a:Q4_K_M", "qwen/a/b", "m1", "x2", "cafe\u0301", "\u00e4pfel", "a\u0308pfel"):
        assert sees(model), model
    for model in ("Qwen/a", "qwen", "xqwen/a", "m12", "m", "x3", "cafe", "apfel", "m1\n", ""):
        assert not sees(model), model
    assert sees_of(("*",))("any\nthing")
    assert not sees_of(("a.c",))("abc")  # no regular expression


def test_what_is_not_written_down_needs_an_administrator() -> None:
    assert right_of("POST", "/brand/new") is Right.ADMIN
    assert right_of("GET", "/lr/status") is Right.ADMIN
    for method, path in (("POST", "/models/load"), ("DELETE", "/models"), ("POST", "/models"), ("POST", "/props")):
        assert right_of(method, path) is Right.ADMIN
    assert right_of("GET", "/slots") is Right.ADMIN
    assert (needs_admin().status, needs_admin().type) == (403, "permission_error")
    assert right_of("HEAD", "/models") is right_of("GET", "/v1/models/{id:path}") is Right.USE
    assert right_of("HEAD", "/slots") is Right.ADMIN
    assert right_of("HEAD", "/metrics") is right_of("GET", "/metrics") is Right.METRICS
    assert right_of("POST", "/metrics") is Right.ADMIN
    assert all(right_of("GET", path) is Right.PUBLIC for path in PUBLIC)
    assert right_of("POST", "/v1/chat/completions") is Right.USE
    assert all(right_of(route.method, route.path) is not Right.PUBLIC for route in RELAYED)


def test_a_ring_finds_who_has_a_secret_and_nobody_else() -> None:
    ring = Keyring([key("ann", "one"), *operators_keys(["two", "three", "two"])])
    assert [each.id for each in ring.all()] == ["ann", "api-key-1", "api-key-2"]
    assert [each.admin for each in ring.all()] == [False, True, True]
    assert [each.id for each in Keyring(operators_keys(["x"])).all()] == ["api-key"]
    found = ring.find(b"one")
    assert found is not None
    assert found.id == "ann"
    for wrong in (b"", b"One", b"one ", digest_of(b"one"), digest_of(b"one").hex().encode(), b"\0" * 32):
        assert ring.find(wrong) is None
    assert Keyring().find(b"") is None
    assert bare(None) == bare(b"Bearer ") == b""
    assert bare(b"Bearer  x ") == bare(b"bearer x") == bare(b" x") == b"x"
    assert secret_of("r") == "sk-lr-r"


def test_what_a_key_has_done_outlives_its_secret_and_not_its_name() -> None:
    limits = Limits(rpm=5)
    ring = Keyring([key(limits=limits)])
    (before,) = ring.all()
    assert before.meter is not None
    turned = Keyring([key(secret="new", limits=Limits(rpm=7))], ring)
    (after,) = turned.all()
    assert after.meter is before.meter
    assert after.meter.limits.rpm == 7
    assert after.share is before.share
    assert turned.now(before) is after
    (again,) = Keyring([replace(key(limits=limits), created=NOW.replace(year=2027))], ring).all()
    assert again.meter is not before.meter
    assert again.owner != before.owner
    assert Keyring().now(before) is None
    (free,) = Keyring([key()], ring).all()
    assert free.meter is None
    (bound,) = Keyring([key(limits=limits)], Keyring([key()])).all()
    assert isinstance(bound.meter, Meter)


def test_who_sees_what() -> None:
    assert OPEN.sees("x")
    assert OPERATOR.admin
    assert not OPEN.restricted
    assert len(Keyring([key(), *operators_keys(["x"])])) == 2
    (some,) = Keyring([key(models=("a*",))]).all()
    assert some.restricted
    for _ in range(2):
        assert some.sees("ab")
        assert not some.sees("b")
    assert all(some.sees(f"a{n}") for n in range(5000))  # what is remembered has a bound
    assert not some.sees("b")


USAGE = (
    b'"usage":{"completion_tokens":9,"prompt_tokens":7,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":3}}'
)
TIMINGS = b'"timings":{"cache_n":4,"prompt_n":3,"prompt_ms":1.5,"predicted_n":9,"predicted_ms":2}'
START = b'data: {"message":{"usage":{"cache_read_input_tokens":2,"input_tokens":5,"output_tokens":0}}}\n\n'


@pytest.mark.parametrize(
    ("tail", "head", "events", "body", "tokens"),
    [
        (b"{" + USAGE + b"," + TIMINGS + b"}", b"", 0, 100, Tokens(7, 9, cached=3)),
        (b"data: {" + TIMINGS + b"}\n\ndata: [DONE]\n\n", b"", 12, 100, Tokens(7, 9, cached=4)),
        (b'"usage":null,' + TIMINGS, b"", 12, 100, Tokens(7, 9, cached=4)),
        (USAGE[:-1] + b',"x":1}', b"", 0, 100, Tokens(7, 9, cached=3)),  # of another shape than llama-server's
        (b'"usage":{"prompt_tokens":5,"total_tokens":5}', b"", 0, 100, Tokens(5, 0)),
        (b'"usage": {"prompt_tokens": 5, "total_tokens": 5}', b"", 0, 100, Tokens(5, 0)),
        (b'"usage":{"output_tokens":6}', START, 9, 100, Tokens(7, 6, cached=2)),  # Anthropic's stream
        (START + b"data: cut", b"", 11, 100, Tokens(7, 11, estimated=True, cached=2)),
        (START + b'"usage":{"output_tokens":6}', b"", 9, 100, Tokens(7, 6, cached=2)),
        (b'"usage":{"output_tokens":6}', b"no", 9, 100, Tokens(0, 6)),
        (
            b'"usage":{"cache_read_input_tokens":2,"input_tokens":5,"output_tokens":6}',
            b"",
            0,
            100,
            Tokens(7, 6, cached=2),
        ),
        (b"0.1,0.2]}]}", b'{"usage":{"prompt_tokens":5,"total_tokens":5},"data":[', 0, 100, Tokens(5, 0)),  # embeddings
        (b"data: cut", START, 11, 100, Tokens(7, 11, estimated=True, cached=2)),
        (b'data: {"content":"\\"usage\\":{\\"prompt_tokens\\":1}"}', b"", 11, 100, Tokens(25, 11, estimated=True)),
        (b'"timings":{}', b"", 3, 100, Tokens(25, 3, estimated=True)),
        (b"", b"", 0, 100, Tokens(25, 0, estimated=True)),
        (b'{"tokens":[1,2]}', b"", 0, 0, NONE),
    ],
)
def test_tokens_are_counted_from_what_an_answer_says(
    tail: bytes, head: bytes, events: int, body: int, tokens: Tokens
) -> None:
    assert tokens_taken(tail, head, events, body) == tokens
    assert tokens.total == tokens.prompt + tokens.completion
