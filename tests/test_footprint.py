"""`core.footprint`: sums by device, and what of them the kernel may drop."""

from __future__ import annotations

from llamarouter.core.footprint import HOST, Footprint, Parts, Source, together


def test_a_device_that_holds_nothing_is_not_in_the_totals() -> None:
    footprint = Footprint(
        needs={"CUDA0": Parts(weights=1, kv=2, compute=4, projector=8, other=16), HOST: Parts()}, source=Source.ENGINE
    )
    assert footprint.totals() == {"CUDA0": 31}


def test_mapped_weights_are_not_taken_for_good() -> None:
    assert Parts(weights=100, kv=7, compute=5, mapped=90).unmapped == 22
    assert Parts(weights=100, kv=7, compute=5).unmapped == 112


def test_two_side_by_side_are_summed_by_device_and_part() -> None:
    one = {HOST: Parts(weights=1, kv=2, compute=3, projector=4, other=5, mapped=1), "CUDA0": Parts(kv=1)}
    two = {HOST: Parts(weights=10, kv=20, compute=30, projector=40, other=50, mapped=4), "CUDA1": Parts(compute=9)}
    assert together(one, two) == {
        HOST: Parts(weights=11, kv=22, compute=33, projector=44, other=55, mapped=5),
        "CUDA0": Parts(kv=1),
        "CUDA1": Parts(compute=9),
    }


def test_doubts_gather() -> None:
    footprint = Footprint(needs={}, source=Source.HEADER, doubts=("a",)).with_doubt("b", "c")
    assert footprint.doubts == ("a", "b", "c")
