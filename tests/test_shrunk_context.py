"""A shorter context: as long as there is room for, and never shorter than is of use."""

from __future__ import annotations

import pytest

from llamarouter.core.footprint import HOST, Parts
from llamarouter.core.memory import Room
from llamarouter.core.shrunk_context import context_that_fits, with_context
from llamarouter.core.soft_room import SoftRoom

GPU = "CUDA0"


@pytest.mark.parametrize(
    ("whole", "kv", "room", "tokens"),
    [
        (32768, 3200, 10_000, 32768),  # all of it
        (32768, 3200, 2600, 16384),  # half of the cache beside 1000 of weights
        (32768, 3200, 2599, 16128),  # in steps of 256
        (32768, 3200, 1400, 4096),
        (32768, 3200, 1399, None),  # what is shorter is no use
        (512, 3200, 4200, 512),  # a model that knows no more is served with that
        (512, 3200, 4199, None),
    ],
)
def test_as_long_as_there_is_room_for(whole: int, kv: int, room: int, tokens: int | None) -> None:
    rooms = {GPU: SoftRoom(Room(room, room, 0), strict=True)}
    assert context_that_fits(whole, {GPU: Parts(weights=1000, kv=kv)}, rooms) == tokens


def test_of_the_host_the_pages_of_a_file_may_be_read_again() -> None:
    rooms = {HOST: SoftRoom(Room(500, 500, 0), strict=True)}
    assert context_that_fits(8192, {HOST: Parts(weights=1000, kv=800, mapped=1000)}, rooms) == 4096
    assert context_that_fits(512, {HOST: Parts(weights=1000, kv=500, mapped=1000)}, rooms) == 512
    assert context_that_fits(512, {HOST: Parts(weights=1000, kv=500)}, rooms) is None


def test_where_no_cache_lies_no_context_makes_a_difference() -> None:
    rooms = {name: SoftRoom(Room(2000, 2000, 0), strict=True) for name in (GPU, HOST)}
    assert context_that_fits(8192, {GPU: Parts(weights=2000)}, rooms) == 8192
    assert context_that_fits(8192, {GPU: Parts(weights=2001)}, rooms) is None  # an encoder
    cached = Parts(weights=1000, kv=2000)
    assert context_that_fits(8192, {GPU: cached, HOST: Parts(weights=2001)}, rooms) is None
    assert context_that_fits(8192, {GPU: cached, HOST: Parts(weights=2001, mapped=2001)}, rooms) == 4096


def test_only_the_cache_grows_with_the_context() -> None:
    assert with_context({GPU: Parts(weights=10, kv=8, compute=3)}, 1024, 4096) == {
        GPU: Parts(weights=10, kv=2, compute=3)
    }
