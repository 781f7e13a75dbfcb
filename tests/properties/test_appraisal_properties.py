"""Whatever a machine has and a model needs, whatever the operator has said: there is an appraisal, and it can be."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamarouter.core.appraisal import Case, appraise
from llamarouter.core.budget import Allowance, Amount, Budgets
from llamarouter.core.devices import Device, Survey
from llamarouter.core.footprint import HOST, Footprint, Parts, Source
from llamarouter.core.launch import Flag, Launch
from llamarouter.core.placement import Layout
from llamarouter.core.scaling import scaled_parts
from llamarouter.core.soft_room import Books

SIZES = st.sampled_from([0, 1, 50, 100, 999, 1000, 5000, 10**9, 24 << 30])
PARTS = st.builds(Parts, weights=SIZES, kv=SIZES, compute=SIZES, mapped=SIZES)
AMOUNTS = st.one_of(st.builds(Amount, bytes=SIZES), st.builds(Amount, percent=st.sampled_from([0.0, 0.1, 50.0, 100.0])))
FLAGS = [
    Flag(option, (value,), "x")
    for option, values in {
        "--ctx-size": ("4096", "0"),
        "--fit": ("on", "off"),
        "--n-gpu-layers": ("0", "99", "-1", "5"),
        "--device": ("CUDA1", "none", "Nope"),
        "--split-mode": ("none", "row"),
        "--main-gpu": ("7", "1"),
        "--tensor-split": ("0,0", "3,1"),
    }.items()
    for value in values
]


@st.composite
def allowances(draw: st.DrawFn) -> Allowance:
    names = draw(st.dictionaries(st.sampled_from(["CUDA0", "cuda1", HOST, "Foo"]), AMOUNTS, max_size=3))
    return Allowance("said", draw(st.none() | AMOUNTS), tuple(names.items()))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    gpus = tuple(draw(st.lists(st.sampled_from(["CUDA0", "CUDA1", "Vulkan0"]), max_size=3, unique=True)))
    devices = {}
    for name in (*gpus, HOST):
        total = draw(SIZES)
        free, held = total * draw(st.integers(0, 100)) // 100, draw(st.sampled_from([None, {}, {7: total // 3}]))
        devices[name] = Device(name=name, total=total, free=free, held=held)
    layers = draw(st.sampled_from([None, 0, 1, 2, 10]))
    needs = draw(st.dictionaries(st.sampled_from((*gpus, HOST)), PARTS))
    footprint = Footprint(needs=needs, source=Source.HEADER)
    elsewhere = scaled_parts(footprint, layers)
    booked = st.fixed_dictionaries(dict.fromkeys(gpus, SIZES))
    return Case(
        model="m",
        launch=Launch(None, tuple(draw(st.lists(st.sampled_from(FLAGS), max_size=4, unique_by=lambda f: f.option)))),
        context=draw(st.sampled_from([None, 0, 1, 100, 4096, 131072])),
        trained=draw(st.sampled_from([None, 0, 512, 131072])),
        footprint=footprint,
        parts_of=lambda layout: needs if layout == Layout() else elsewhere(layout),
        survey=Survey(devices=devices),
        gpus=gpus,
        layers=layers,
        full_offload=draw(st.booleans()),
        budgets=Budgets(draw(allowances()), draw(allowances())),
        pids=draw(st.sampled_from([(), (7,)])),
        books=Books(draw(booked), draw(booked)),
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_there_is_always_an_appraisal(case: Case) -> None:
    appraised = appraise(case)
    assert appraised.placements
    assert all(size >= 0 for each in appraised.placements for size in each.needs.values())
