"""Figures from the log lines of llama-server b11434."""

from __future__ import annotations

from llamarouter.core.child_facts import ChildFacts, facts_of

LINES = (
    "0.00.006.688 I print_info: n_ctx_train           = 512",
    "0.00.100.000 I load_tensors: offloaded 20/33 layers to GPU",
    "0.00.007.182 I llama_context: n_ctx                 = 768",
    "0.00.007.182 I llama_context: n_ctx_seq             = 384",
    "0.00.200.000 I load_tensors: offloaded 5/5 layers to GPU",
    "0.05.274.111 I srv    load_model: initializing, n_slots = 3, n_ctx_slot = 256, kv_unified = 'false'",
)


def test_the_main_models_figures() -> None:
    assert facts_of(LINES) == ChildFacts(slots=3, n_ctx=256, layers_offloaded=20, layers=33, unified=False)


def test_fewer_lines_fewer_facts() -> None:
    assert facts_of(LINES[:4]) == ChildFacts(n_ctx=384, layers_offloaded=20, layers=33)
    assert facts_of(("n_slots = 7",)) == ChildFacts(slots=7)
    assert facts_of(()) == ChildFacts()
