"""What a model would need elsewhere, part by part."""

from __future__ import annotations

from msgspec.structs import replace

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


def test_the_output_is_the_last_layer_with_its_own_weight_and_no_cache() -> None:
    parts_of = scaled_parts(replace(ON_GPU, output=28), 10)  # nine layers of eight beside it
    assert parts_of(Layout(("CUDA1",))) == scaled_parts(ON_GPU, 10)(Layout(("CUDA1",)))
    assert parts_of(Layout(("CUDA1",), layers=6)) == {
        "CUDA1": Parts(weights=68, kv=27, compute=7, projector=3),
        HOST: Parts(weights=42, mapped=42, kv=22, compute=8),
    }
    assert parts_of(Layout(("CUDA1",), layers=1)) == {
        "CUDA1": Parts(weights=28, compute=7, projector=3),
        HOST: Parts(weights=82, mapped=82, kv=50, compute=8),
    }
    assert parts_of(Layout(("CUDA0", "CUDA1"), split=(1, 1))) == {
        "CUDA0": Parts(weights=40, kv=27, compute=7, projector=3),
        "CUDA1": Parts(weights=60, kv=22, compute=7),
        HOST: Parts(weights=10, mapped=10, compute=1),
    }
    assert parts_of(Layout(("CUDA0", "CUDA1"), split=(9, 1))) == {
        "CUDA0": Parts(weights=72, kv=50, compute=7, projector=3),
        "CUDA1": Parts(weights=28, compute=7),
        HOST: Parts(weights=10, mapped=10, compute=1),
    }
    assert parts_of(Layout((), layers=0)) == {HOST: Parts(weights=110, mapped=110, kv=50, compute=8, projector=3)}


def test_an_output_that_cannot_be_so_large_counts_as_a_layer() -> None:
    layout = Layout(("CUDA1",), layers=6)
    assert scaled_parts(replace(ON_GPU, output=101), 10)(layout) == scaled_parts(ON_GPU, 10)(layout)


def test_a_host_alone_stays_as_it_is_and_what_is_mapped_stays_mapped() -> None:
    assert scaled_parts(ON_HOST, None)(Layout()) == {HOST: Parts(weights=100, mapped=80, kv=50, compute=7)}
    assert scaled_parts(ON_HOST, 10)(Layout(("CUDA0",), layers=10)) == {
        "CUDA0": Parts(weights=100, kv=50, compute=7),
    }


def test_how_many_layers_there_are_must_be_known() -> None:
    assert scaled_parts(ON_GPU, None)(Layout(("CUDA0",), layers=3)) is None
