"""What a model would need elsewhere, part by part."""

from __future__ import annotations

from llamarouter.core.footprint import HOST, Footprint, Parts, Source
from llamarouter.core.placement import Layout
from llamarouter.core.scaling import scaled, scaled_parts

ON_GPU = Footprint(
    needs={
        "CUDA0": Parts(weights=100, kv=50, compute=7, projector=3),
        HOST: Parts(weights=10, mapped=10, compute=1),
    },
    source=Source.ENGINE,
)
ON_HOST = Footprint(needs={HOST: Parts(weights=100, mapped=80, kv=50, compute=7)}, source=Source.ENGINE)


def test_layers_take_their_weights_and_their_cache_along() -> None:
    parts_of = scaled_parts(ON_GPU, 10)
    assert parts_of(Layout(("CUDA1",))) == {
        "CUDA1": Parts(weights=100, kv=50, compute=7, projector=3),
        HOST: Parts(weights=10, mapped=10, compute=1),
    }
    assert parts_of(Layout(("CUDA1",), layers=6)) == {
        "CUDA1": Parts(weights=60, kv=30, compute=7, projector=3),
        HOST: Parts(weights=50, mapped=50, kv=20, compute=8),
    }
    assert scaled(ON_GPU, 10)(Layout(("CUDA1",), layers=6)) == {"CUDA1": 100, HOST: 78}


def test_a_host_alone_stays_as_it_is_and_what_is_mapped_stays_mapped() -> None:
    assert scaled_parts(ON_HOST, None)(Layout()) == {HOST: Parts(weights=100, mapped=80, kv=50, compute=7)}
    assert scaled_parts(ON_HOST, 10)(Layout(("CUDA0",), layers=10)) == {
        "CUDA0": Parts(weights=100, kv=50, compute=7),
    }


def test_how_many_layers_there_are_must_be_known() -> None:
    assert scaled_parts(ON_GPU, None)(Layout(("CUDA0",), layers=3)) is None
