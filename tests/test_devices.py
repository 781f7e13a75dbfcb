"""What there is and what is free: of the memory, of NVIDIA's and AMD's cards, and of what only the engine knows."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from llamarouter.core.devices import Device, Survey, View
from llamarouter.core.footprint import HOST
from llamarouter.host.devices import listing
from llamarouter.host.devices.drivers import Answer, Drivers
from llamarouter.host.devices.machine import Machine
from tests.fake_machine import GIB, FakeMachine, card, listed
from tests.waiting import until

RTX = "NVIDIA GeForce RTX 4090"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(tmp_path, monkeypatch)


def survey(fake: FakeMachine, command: tuple[str, ...], *pids: int, **env: str) -> Survey:
    async def ask() -> Survey:
        async with Machine(command, {**fake.env, **env}, fake.roots) as machine:
            return await machine.survey(pids)

    return asyncio.run(ask())


# --- the machine's own memory ----------------------------------------------------------------------------------------


def test_without_a_gpu_there_is_the_host(machine: FakeMachine) -> None:
    found = survey(machine, machine.engine("cpu"))
    assert found.devices == {HOST: Device(name=HOST, description="memory", total=64 * GIB, free=60 * GIB, held={})}
    assert found.problems == ()


def test_the_weights_that_a_child_has_mapped_are_not_free(machine: FakeMachine) -> None:
    machine.process(7, anon=2 * GIB, file=20 * GIB, shmem=GIB)
    host = survey(machine, machine.engine("cpu"), 7).devices[HOST]
    assert (host.held, host.mapped) == ({7: 23 * GIB}, {7: 20 * GIB})
    assert host.free == 40 * GIB
    assert host.total - host.free - 23 * GIB == 1 * GIB  # what others hold: not the pages that count as available


def test_locked_pages_are_not_available_for_the_kernel_either(machine: FakeMachine) -> None:
    machine.memory(64 * GIB, 40 * GIB)
    machine.process(7, anon=2 * GIB, file=20 * GIB, locked=20 * GIB)
    host = survey(machine, machine.engine("cpu"), 7).devices[HOST]
    assert (host.free, host.held) == (40 * GIB, {7: 22 * GIB})


def test_pages_that_two_children_share_are_no_more_than_there_are(machine: FakeMachine) -> None:
    machine.memory(64 * GIB, 50 * GIB)
    for pid in (7, 8):
        machine.process(pid, anon=GIB, file=30 * GIB)
    host = survey(machine, machine.engine("cpu"), 7, 8).devices[HOST]
    assert host.free == 0
    assert host.held_by((7, 8)) == 52 * GIB
    assert host.total - 52 * GIB == 12 * GIB  # others', as if nothing were shared


def test_what_a_child_has_started_is_its_own(machine: FakeMachine) -> None:
    machine.process(7, anon=GIB, kids="8 9 ")
    machine.process(8, anon=2 * GIB, kids="10 ")
    machine.process(10, anon=4 * GIB, kids="7")
    assert survey(machine, machine.engine("cpu"), 7, 99).devices[HOST].held == {7: 7 * GIB, 99: 0}


@pytest.mark.parametrize(
    ("cgroup", "files", "total", "free"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/b/memory.current": "1"}, 64, 60),
        (
            "0::/a/b\n",
            {
                "a/b/memory.max": "max",
                "a/memory.max": str(16 * GIB),
                "a/memory.current": str(10 * GIB),
                "a/memory.stat": f"anon {4 * GIB}\ninactive_file {5 * GIB}\nactive_file {GIB}\n",
            },
            16,
            12,
        ),
        ("0::/not/seen/from/inside\n", {"memory.max": str(8 * GIB), "memory.current": str(9 * GIB)}, 8, 0),
        (
            "5:cpu:/x\n4:memory:/x\n0::/\n",
            {
                "memory/x/memory.limit_in_bytes": str(8 * GIB),
                "memory/x/memory.usage_in_bytes": str(3 * GIB),
                "memory/x/memory.stat": f"total_inactive_file {GIB}\n",
            },
            8,
            6,
        ),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "5"},
            64,
            60,
        ),
    ],
)
def test_the_limits_of_a_container_hold(
    machine: FakeMachine, cgroup: str, files: dict[str, str], total: int, free: int
) -> None:
    machine.write("proc/self/cgroup", cgroup)
    for path, text in files.items():
        machine.write(f"cgroup/{path}", text + "\n")
    host = survey(machine, machine.engine("cpu")).devices[HOST]
    assert (host.total, host.free) == (total * GIB, free * GIB)


def test_this_machine_itself() -> None:
    async def ask() -> Survey:
        async with Machine(("/bin/echo", "Available devices:"), dict(os.environ)) as machine:
            return await machine.survey((os.getpid(),))

    host = asyncio.run(ask()).devices[HOST]
    assert host.total > host.free > 0
    assert host.held is not None
    assert host.held[os.getpid()] > 1 << 20


# --- NVIDIA ----------------------------------------------------------------------------------------------------------


@pytest.mark.cc
def test_nvidias_cards_have_the_engines_names_and_the_drivers_figures(machine: FakeMachine) -> None:
    machine.nvidia(*card(0x65, 24 * GIB, 9 * GIB, held={7: 10 * GIB, 99: 5 * GIB}), *card(0x17, 24 * GIB, 23 * GIB))
    engine = machine.engine("cuda", *(listed(f"CUDA{at}", RTX, 23 * GIB, GIB) for at in (0, 1)))
    found = survey(machine, engine, 7)
    assert found.gpus == ("CUDA0", "CUDA1")
    assert found.devices["CUDA0"] == Device(
        name="CUDA0", description=RTX, total=24 * GIB, free=23 * GIB, held={}
    )  # by PCI address
    assert (found.devices["CUDA1"].free, found.devices["CUDA1"].held) == (9 * GIB, {7: 10 * GIB})


@pytest.mark.cc
def test_a_build_for_the_cpu_has_no_gpu_whatever_the_driver_says(machine: FakeMachine) -> None:
    machine.nvidia(*card(0x65, 24 * GIB, 9 * GIB))
    assert survey(machine, machine.engine("cpu")).gpus == ()


@pytest.mark.cc
def test_what_a_wrappers_child_holds_is_the_wrappers(machine: FakeMachine) -> None:
    machine.process(7, kids="8")
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB, held={8: 3 * GIB}))
    found = survey(machine, machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, 9 * GIB)), 7)
    assert found.devices["CUDA0"].held_by((7,)) == 3 * GIB


@pytest.mark.cc
def test_processes_without_a_figure_and_more_than_fit_the_first_list(machine: FakeMachine) -> None:
    engine = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, 9 * GIB))
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB, held=dict.fromkeys(range(100, 200), GIB)))
    assert survey(machine, engine, 199).devices["CUDA0"].held == {199: GIB}
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB, held={7: -1}))
    assert survey(machine, engine, 7).devices["CUDA0"].held is None


@pytest.mark.cc
@pytest.mark.parametrize(
    ("env", "addresses"),
    [
        ({}, ["1", "2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, ["3", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-0002"}, ["2"]),
        ({"CUDA_VISIBLE_DEVICES": "1,7,0"}, ["2"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_equal_cards_are_told_apart_as_cuda_numbers_them(
    machine: FakeMachine, env: dict[str, str], addresses: list[str]
) -> None:
    machine.nvidia(*(line for at in (1, 2, 3) for line in card(at, 24 * GIB, at * GIB)))
    engine = machine.engine("cuda", *(listed(f"CUDA{at}", RTX, 24 * GIB, GIB) for at in range(len(addresses))))
    found = survey(machine, engine, **env)
    assert [str(found.devices[name].free // GIB) for name in found.gpus] == addresses


@pytest.mark.cc
def test_the_fastest_card_is_the_first_by_its_name(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 8 * GIB, 8 * GIB, name="NVIDIA GeForce GT 1030"), *card(2, 24 * GIB, 20 * GIB))
    engine = machine.engine(
        "cuda",
        listed("CUDA0", RTX, 24 * GIB, GIB),
        listed("CUDA1", "NVIDIA GeForce GT 1030", 8 * GIB, GIB),
    )
    found = survey(machine, engine)
    assert [found.devices[name].free for name in ("CUDA0", "CUDA1")] == [20 * GIB, 8 * GIB]


@pytest.mark.cc
def test_cards_of_one_size_are_told_apart_by_their_names(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 24 * GIB, GIB, name="NVIDIA RTX A5000"), *card(2, 24 * GIB, 2 * GIB))
    engine = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, 1), listed("CUDA1", "NVIDIA RTX A5000", 24 * GIB, 1))
    found = survey(machine, engine)
    assert [found.devices[name].free for name in found.gpus] == [2 * GIB, GIB]


@pytest.mark.cc
def test_a_name_that_is_a_part_of_another_is_not_that_card(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 24 * GIB, GIB), *card(2, 24 * GIB, 2 * GIB, name=f"{RTX} D"))
    engine = machine.engine("cuda", listed("CUDA0", f"{RTX} D", 24 * GIB, 1), listed("CUDA1", RTX, 24 * GIB, 1))
    found = survey(machine, engine)
    assert [found.devices[name].free for name in found.gpus] == [2 * GIB, GIB]


@pytest.mark.cc
def test_of_instances_cuda_shows_the_first_alone(machine: FakeMachine) -> None:
    instances = ("instance 21474836480 10737418240 MIG-a", "instance 21474836480 21474836480 MIG-b")
    machine.nvidia("card 0000:01:00.0 85899345920 1 GPU-1 NVIDIA H100", *instances, *card(2, 24 * GIB, GIB))
    silent = machine.engine("silent", does="exit 1")
    assert {name: device.free for name, device in survey(machine, silent).devices.items() if name != HOST} == {
        "CUDA0": 10 * GIB
    }
    found = survey(machine, silent, CUDA_VISIBLE_DEVICES="MIG-b,MIG-a")
    assert found.devices["CUDA0"].free == 20 * GIB


@pytest.mark.cc
def test_of_a_partitioned_card_the_instance_is_the_device(machine: FakeMachine) -> None:
    lines = (
        *("card 0000:01:00.0 85899345920 1 GPU-1 NVIDIA H100", "instance 21474836480 10737418240 MIG-a"),
        *("process 7 5368709120", "instance 42949672960 42949672960 MIG-b"),
    )
    machine.nvidia(*lines)
    first = machine.engine("first", listed("CUDA0", "NVIDIA H100 MIG 2g.20gb", 20 * GIB, GIB))
    device = survey(machine, first, 7).devices["CUDA0"]
    assert (device.total, device.free, device.held) == (20 * GIB, 10 * GIB, {7: 5 * GIB})
    second = machine.engine("second", listed("CUDA0", "NVIDIA H100 MIG 4g.40gb", 40 * GIB, GIB))
    device = survey(machine, second, 7, CUDA_VISIBLE_DEVICES="MIG-b").devices["CUDA0"]
    assert (device.total, device.held) == (40 * GIB, {})


@pytest.mark.cc
def test_a_gpu_without_memory_of_its_own_takes_the_hosts(machine: FakeMachine) -> None:
    machine.nvidia("card 0000:01:00.0 0 0 GPU-1 NVIDIA GB10")
    found = survey(machine, machine.engine("cuda", listed("CUDA0", "NVIDIA GB10", 120 * GIB, 100 * GIB)))
    assert found.devices["CUDA0"].shares_host
    assert found.memory_of("CUDA0") == HOST


@pytest.mark.cc
def test_a_card_that_is_lost_leaves_the_others(machine: FakeMachine, caplog: pytest.LogCaptureFixture) -> None:
    machine.nvidia("card lost 1 1 GPU-9 NVIDIA X", *card(1, 24 * GIB, 9 * GIB))
    found = survey(machine, machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, GIB)))
    assert found.devices["CUDA0"].free == 9 * GIB
    assert found.problems == ("card 0: NVIDIA's driver does not answer: nvmlDeviceGetHandleByIndex_v2 says 15",)


# --- AMD -------------------------------------------------------------------------------------------------------------


def test_amds_cards_are_read_from_the_kernel(machine: FakeMachine) -> None:
    machine.amd("card1", "0000:0a:00.0", 24 * GIB, 4 * GIB)
    machine.amd("card0", "0000:03:00.0", 16 * GIB, GIB)
    machine.amd("card2", "0000:00:02.0", 1 * GIB, GIB, vendor="0x8086")
    (machine.folder / "sys/class/drm/card0-DP-1").mkdir()
    drm = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-pdev:\t0000:0a:00.0\ndrm-memory-vram:\t{} KiB\n"
    machine.write("proc/7/fdinfo/4", drm.format(11, 1 << 20))
    machine.write("proc/7/fdinfo/5", drm.format(11, 1 << 20))
    machine.write("proc/7/fdinfo/6", drm.format(12, 1 << 21))
    machine.write("proc/7/fdinfo/7", "pos:\t0\n")
    machine.write("sys/class/kfd/kfd/topology/nodes/0/gpu_id", "0\n")
    machine.write("sys/class/kfd/kfd/topology/nodes/1/gpu_id", "4711\n")
    machine.write("sys/class/kfd/kfd/topology/nodes/1/properties", "cpu_cores_count 0\nlocation_id 768\ndomain 0\n")
    machine.write("sys/class/kfd/kfd/proc/7/vram_4711", f"{5 * GIB}\n")
    engine = machine.engine(
        "rocm",
        listed("ROCm0", "AMD Radeon RX 7800", 16 * GIB, 1),
        listed("ROCm1", "AMD Radeon RX 7900", 24 * GIB, 1),
    )
    found = survey(machine, engine, 7)
    assert [found.devices[name].free for name in found.gpus] == [15 * GIB, 20 * GIB]
    assert [found.devices[name].held for name in found.gpus] == [{7: 5 * GIB}, {7: 3 * GIB}]


def test_an_integrated_gpu_of_amds_takes_the_hosts_memory(machine: FakeMachine) -> None:
    machine.amd("card0", "0000:03:00.0", 16 * GIB, GIB)
    machine.amd("card1", "0000:c1:00.0", GIB // 2, 0)
    engine = machine.engine(
        "vulkan",
        listed("Vulkan0", "AMD Radeon 780M (RADV PHOENIX)", 28 * GIB, 20 * GIB),
        listed("Vulkan1", "AMD Radeon RX 7600 XT (RADV NAVI33)", 16 * GIB, 1),
    )
    found = survey(machine, engine)
    assert [found.memory_of(name) for name in ("Vulkan0", "Vulkan1")] == [HOST, "Vulkan1"]
    assert (found.devices["Vulkan0"].free, found.devices["Vulkan1"].free) == (20 * GIB, 15 * GIB)


def test_a_driver_that_comes_up_after_the_router_is_found(machine: FakeMachine) -> None:
    engine = machine.engine("rocm")

    async def ask() -> None:
        async with Machine(engine, machine.env, machine.roots, again=0.0) as asked:
            assert (await asked.survey()).gpus == ()
            machine.amd("card0", "0000:03:00.0", 16 * GIB, GIB)
            machine.engine("rocm", listed("ROCm0", "AMD Radeon", 16 * GIB, 15 * GIB))
            await until(lambda: asked.at_once() is None)  # there is a GPU, of which its driver is to be asked
            assert (await asked.survey()).gpus == ("ROCm0",)

    asyncio.run(ask())


# --- what only the engine knows --------------------------------------------------------------------------------------


def test_what_no_driver_knows_has_the_engines_figures(machine: FakeMachine) -> None:
    engine = machine.engine(
        "vulkan",
        listed("Vulkan0", "Intel Arc A770", 16 * GIB, 15 * GIB),
        listed("GPUOpenCL", "QUALCOMM Adreno", 8 * GIB, GIB),
        "BLAS: OpenBLAS (0 MiB, 0 MiB free)",
    )
    found = survey(machine, engine)
    assert found.gpus == ("Vulkan0", "GPUOpenCL")
    assert found.devices["Vulkan0"].held is None
    assert found.devices["Vulkan0"].free == 15 * GIB


def test_apples_gpu_takes_the_hosts_memory(machine: FakeMachine) -> None:
    assert survey(machine, machine.engine("metal", listed("MTL0", "Apple M4", 48 * GIB, GIB))).memory_of("MTL0") == HOST


@pytest.mark.cc
def test_a_card_that_two_backends_of_a_build_name_is_one(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB))
    engine = machine.engine("both", listed("CUDA0", RTX, 24 * GIB, 1), listed("Vulkan0", RTX, 24 * GIB, 1))
    assert survey(machine, engine).gpus == ("CUDA0",)


@pytest.mark.cc
def test_another_engine_and_another_environment_have_other_names_for_the_same_cards(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB), *card(2, 24 * GIB, 20 * GIB))
    cuda = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, 1), listed("CUDA1", RTX, 24 * GIB, 1))
    vulkan = machine.engine("vulkan", listed("Vulkan0", RTX, 24 * GIB, 1), listed("Vulkan1", "Intel Arc", 16 * GIB, 1))
    second = machine.engine("second", listed("CUDA0", RTX, 24 * GIB, 1))

    async def ask() -> tuple[View | None, View | None, View | None, Survey]:
        async with Machine(cuda, machine.env, machine.roots) as asked:
            assert asked.view(cuda) is None
            await asked.survey()
            own = asked.view(cuda)
            other, chosen = [
                await _known(asked, command, env)
                for command, env in ((vulkan, {}), (second, {"CUDA_VISIBLE_DEVICES": "1"}))
            ]
            machine.nvidia(*card(1, 24 * GIB, 8 * GIB), *card(2, 24 * GIB, 20 * GIB))
            asked.forget()
            return own, other, chosen, await asked.survey()

    own, other, chosen, found = asyncio.run(ask())
    assert own == View({"CUDA0": "CUDA0", "CUDA1": "CUDA1"})
    assert other == View({"Vulkan0": "CUDA0", "Vulkan1": "Vulkan1"})
    assert chosen == View({"CUDA0": "CUDA1"})
    # What the other engine alone can use is a device, too.
    assert found.gpus == ("CUDA0", "CUDA1", "Vulkan1")
    assert found.seen_by(chosen).needs({"CUDA0": 5, HOST: 1}) == {"CUDA1": 5, HOST: 1}


def test_another_engine_at_the_same_path_is_asked_anew(machine: FakeMachine) -> None:
    arc = listed("Vulkan0", "Intel Arc A770", 16 * GIB, 15 * GIB)
    engine = machine.engine("server", arc)

    async def ask() -> list[tuple[str, ...]]:
        async with Machine(engine, machine.env, machine.roots) as asked:
            seen = [(await asked.survey()).gpus]
            for devices in ((), (arc,)):
                machine.engine("server", *devices)  # a build for the CPU, and the old one again
                seen.append((await asked.survey()).gpus)
                asked.forget_engine(engine)
                assert asked.view(engine) is None
                seen.append((await asked.survey()).gpus)
                assert asked.view(engine) is not None
            return seen

    gpu = ("Vulkan0",)
    assert asyncio.run(ask()) == [gpu, gpu, (), (), gpu]


async def _known(machine: Machine, command: tuple[str, ...], env: dict[str, str]) -> View | None:
    async with asyncio.timeout(10):
        await machine.listed(command, env)
    return machine.view(command, env)


# --- when it was so ---------------------------------------------------------------------------------------------------


@pytest.mark.cc
def test_figures_that_are_used_again_are_as_old_as_the_question(machine: FakeMachine) -> None:
    """Or whoever has come up or gone meanwhile would count as seen."""
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB))
    _used_again(machine, machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, 1)))


def test_what_only_the_engine_knows_is_as_old_as_its_list(machine: FakeMachine) -> None:
    _used_again(machine, machine.engine("vulkan", listed("Vulkan0", "Intel Arc A770", 16 * GIB, 15 * GIB)))


def _used_again(machine: FakeMachine, engine: tuple[str, ...]) -> None:
    async def ask() -> tuple[float, Survey, float, Survey | None]:
        async with Machine(engine, machine.env, machine.roots) as asked:
            await asked.survey()
            before = time.monotonic()
            asked.forget()
            first = await asked.survey()
            return before, first, time.monotonic(), asked.at_once()

    before, first, answered, again = asyncio.run(ask())
    assert again is not None
    assert again.at == first.at < answered
    assert len(first.gpus) == 1
    assert first.at >= before - 1.0  # a list holds for a second


# --- what does not answer --------------------------------------------------------------------------------------------


@pytest.mark.cc
def test_a_driver_that_hangs_leaves_its_last_figures_and_is_left_alone(
    machine: FakeMachine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llamarouter")
    engine = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, GIB))
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB, held={7: 10 * GIB, 99: 5 * GIB}))

    async def ask() -> list[Survey]:
        loop = asyncio.get_running_loop()
        async with Machine(engine, machine.env, machine.roots, seconds=2.0, pause=0.0, opening=0.0) as asked:
            found = [await asked.survey((7,))]
            machine.nvidia("hang")
            asked.forget()
            before = loop.time()
            found.append(await asked.survey((7,)))
            assert loop.time() - before < 5
            asked.forget()
            found.append(await asked.survey((7, 8)))
            machine.nvidia(*card(1, 24 * GIB, 11 * GIB))
            asked.forget()
            found.append(await asked.survey((7,)))
            return found

    good, stale, again, healed = (each.devices["CUDA0"] for each in asyncio.run(ask()))
    assert good == Device(name="CUDA0", description=RTX, total=24 * GIB, free=9 * GIB, held={7: 10 * GIB})
    assert stale.stale
    assert again == stale
    assert (stale.free, stale.held_by((7, 8))) == (19 * GIB, 0)  # what others held is still theirs
    assert (healed.free, healed.stale) == (11 * GIB, False)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the drivers of the GPUs do not answer in time; the last figures are used",
        "all devices answer again",
    ]


@pytest.mark.cc
@pytest.mark.parametrize("opening", [0.0, 5.0])
def test_after_a_failure_nobody_waits_for_the_same_driver_again(machine: FakeMachine, opening: float) -> None:
    machine.nvidia("hang")
    engine = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, 7 * GIB))

    async def ask() -> tuple[float, Survey]:
        loop = asyncio.get_running_loop()
        async with Machine(engine, machine.env, machine.roots, seconds=0.3, opening=opening) as asked:
            await asked.survey()
            asked.forget()
            before = loop.time()
            found = await asked.survey()
            return loop.time() - before, found

    seconds, found = asyncio.run(ask())
    assert seconds < 0.2
    assert found.devices["CUDA0"].free == 7 * GIB  # as the engine has said
    assert found.devices["CUDA0"].stale


@pytest.mark.cc
def test_an_answer_that_is_there_is_not_waited_for(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB, held={7: GIB}))
    engine = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, GIB))

    async def ask() -> Survey:
        loop = asyncio.get_running_loop()
        async with Machine(engine, machine.env, machine.roots, seconds=10) as asked:
            await asked.survey()
            asked.forget()
            # The question of somebody else has its answer, and the loop has told nobody yet.
            asked._asking = loop.create_future()
            asked._asking.set_result(Answer())
            asked._kin = {}
            return await asked.survey((7,))

    assert asyncio.run(ask()).devices["CUDA0"].held == {7: GIB}


@pytest.mark.cc
def test_the_loop_goes_on_while_a_driver_hangs(machine: FakeMachine) -> None:
    machine.nvidia("hang")
    engine = machine.engine("cuda", listed("CUDA0", RTX, 24 * GIB, GIB))

    async def ask() -> float:
        loop = asyncio.get_running_loop()
        longest, last = 0.0, loop.time()

        def tick() -> None:
            nonlocal longest, last
            longest, last = max(longest, loop.time() - last), loop.time()
            loop.call_later(0.01, tick)

        async with Machine(engine, machine.env, machine.roots, seconds=0.5) as asked:
            tick()
            await asyncio.gather(asked.survey(), asked.survey())
        return longest

    assert asyncio.run(ask()) < 0.3


@pytest.mark.cc
def test_an_engine_that_does_not_say_has_what_the_drivers_know(machine: FakeMachine) -> None:
    machine.nvidia(*card(1, 24 * GIB, 9 * GIB))
    found = survey(machine, machine.engine("old", does="echo 'error: unknown argument' >&2; exit 1"))
    assert found.gpus == ("CUDA0",)
    assert found.problems == ("the engine does not list its devices: it ended with 1 and names no devices",)
    machine.roots = type(machine.roots)(machine.roots.proc, machine.roots.sys, machine.roots.cgroup, "none.so")
    assert survey(machine, ("/no/such/engine",)).gpus == ()


def test_an_engine_that_hangs_is_left(machine: FakeMachine) -> None:
    command = machine.engine("hangs", does="exec tail -f /dev/null")
    assert listing.ask(command, machine.env, 0.3).problem == (
        "the engine does not list its devices: no answer within 0.3 s"
    )
    command = ("/no/such/engine",)
    assert listing.ask(command, machine.env, 0.3).problem == (
        "the engine does not list its devices: cannot be run (No such file or directory)"
    )


@pytest.mark.cc
def test_the_process_that_asks_ends_with_the_router(machine: FakeMachine) -> None:
    machine.nvidia("hang")
    drivers = Drivers(machine.roots)
    process = drivers._start()
    assert process.stdin is not None
    process.stdin.write(b"[]\n")
    process.stdin.close()
    assert process.wait(10) == 0
    assert process.stdout is not None
    process.stdout.close()
