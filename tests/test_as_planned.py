"""Whether a model came up as it was meant to: the context and the layers."""

from __future__ import annotations

import pytest

from llamarouter.core.as_planned import has_context, has_whole_context, is_as_planned, shortfalls
from llamarouter.core.child_facts import ChildFacts
from llamarouter.core.launch import Flag, Launch
from llamarouter.core.memory import Placement
from llamarouter.core.model import Header

HEADER = Header(
    architecture="llama", name=None, quant=None, n_params=1, n_ctx_train=8192, n_embd=1, n_layer=32, n_vocab=1
)


def launch(**values: str) -> Launch:
    flags = (Flag(f"--{name.replace('_', '-')}", (value,), "x") for name, value in values.items())
    return Launch(None, tuple(flags))


@pytest.mark.parametrize(
    ("given", "facts", "message"),
    [
        (launch(), ChildFacts(slots=4, n_ctx=8192, unified=True), None),
        (launch(), ChildFacts(slots=4, n_ctx=4096, unified=True), "its context is 4096 tokens instead of 8192"),
        (launch(), ChildFacts(slots=4, n_ctx=2048, unified=False), None),
        (launch(), ChildFacts(slots=4, n_ctx=1024, unified=False), "its context is 4096 tokens instead of 8192"),
        (launch(ctx_size="0"), ChildFacts(slots=1, n_ctx=512), "its context is 512 tokens instead of 8192"),
        (launch(ctx_size="1000"), ChildFacts(slots=1, n_ctx=1024), None),
        (launch(ctx_size="2048"), ChildFacts(slots=1, n_ctx=1024), "its context is 1024 tokens instead of 2048"),
        (launch(ctx_size="9999"), ChildFacts(slots=1, n_ctx=8192), None),
        (launch(kv_unified_per_slot="1024"), ChildFacts(slots=4, n_ctx=1024, unified=True), None),
        (
            launch(kv_unified_per_slot="1024"),
            ChildFacts(slots=4, n_ctx=512, unified=True),
            "its context is 512 tokens instead of 8192",
        ),
        (launch(), ChildFacts(layers_offloaded=33, layers=33), None),
        (launch(), ChildFacts(layers_offloaded=20, layers=33), "20 of 33 layers are on the GPU"),
        (launch(gpu_layers="auto"), ChildFacts(layers_offloaded=20, layers=33), "20 of 33 layers are on the GPU"),
        (launch(gpu_layers="20"), ChildFacts(layers_offloaded=20, layers=33), None),
        (launch(gpu_layers="99"), ChildFacts(layers_offloaded=20, layers=33), "20 of 33 layers are on the GPU"),
        (launch(gpu_layers="0"), ChildFacts(layers_offloaded=0, layers=33), None),
        (launch(), ChildFacts(), None),
    ],
)
def test_what_a_child_says_against_what_was_asked(given: Launch, facts: ChildFacts, message: str | None) -> None:
    found = shortfalls(given, HEADER, None, facts)
    assert [each.message.partition(":")[0] for each in found] == ([message] if message else [])
    assert is_as_planned(given, HEADER, facts) is (message is None)
    assert has_whole_context(given, HEADER, facts) is ("context" not in (message or ""))


def test_a_partial_place_is_said_although_the_child_says_nothing() -> None:
    place = Placement({"CUDA0": 1}, (("--fit", "off"),), partial=True, label="CUDA0, 20 of 33 layers")
    (found,) = shortfalls(launch(), HEADER, place, ChildFacts())
    assert (found.what, found.message) == ("layers", "a part of it is in host memory: CUDA0, 20 of 33 layers")


def test_where_no_gpu_is_no_layer_is_missed_there() -> None:
    facts = ChildFacts(layers_offloaded=0, layers=33)
    assert shortfalls(launch(), HEADER, Placement({"Host": 1}), facts) == ()
    integrated = Placement({"Host": 1}, (("--device", "Vulkan0"),))
    assert shortfalls(launch(), HEADER, integrated, facts)
    assert shortfalls(launch(), HEADER, Placement({"CUDA0": 1}), facts)


def test_a_context_that_somebody_asked_for() -> None:
    assert has_context(launch(ctx_size="9"))
    assert has_context(launch(kv_unified_per_slot="9"))
    assert not has_context(launch(ctx_size="0"))
    assert not has_context(launch())


def test_without_a_header_only_what_was_asked_for_counts() -> None:
    assert shortfalls(launch(), None, None, ChildFacts(slots=1, n_ctx=16)) == ()
    assert shortfalls(launch(ctx_size="32"), None, None, ChildFacts(slots=1, n_ctx=16))
