"""What the kernel says of a process, and of kills for want of memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamarouter.host.vitals import memory_groups, out_of_memory_kills, vitals_of


def test_the_vitals_of_this_process_move_and_those_of_none_are_unknown() -> None:
    before = vitals_of(os.getpid())
    assert before is not None
    assert not before.stopped
    sum(range(3_000_000))
    after = vitals_of(os.getpid())
    assert after is not None
    assert after.cpu_seconds > before.cpu_seconds
    assert vitals_of(2**22 + 1) is None


@pytest.mark.parametrize(
    ("cgroup", "there", "found"),
    [
        ("0::/user.slice/lr.service\n", ["user.slice/lr.service/memory.events"], "user.slice/lr.service/memory.events"),
        # in a container: its own group is the root, whatever the path says
        ("0::/docker/0123\n", ["memory.events"], "memory.events"),
        (
            "9:name=systemd:/\n4:cpu,memory:/lr\n0::/\n",
            ["memory/lr/memory.oom_control", "memory/memory.oom_control"],
            "memory/lr/memory.oom_control",
        ),
        ("4:memory:/docker/0123\n", ["memory/memory.oom_control"], "memory/memory.oom_control"),
        ("0::/\n", [], None),
        ("", ["memory.events"], None),
    ],
)
def test_where_the_kernel_counts_kills_of_a_group(
    tmp_path: Path, cgroup: str, there: list[str], found: str | None
) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("oom_kill 3\n", encoding="utf-8")
    assert memory_groups(cgroup, str(tmp_path)) == (() if found is None else (str(tmp_path / found),))


def test_kills_of_the_machine_and_of_the_group_are_counted(tmp_path: Path) -> None:
    machine, group, none = tmp_path / "vmstat", tmp_path / "memory.events", tmp_path / "none"
    machine.write_text("nr_free_pages 7\noom_kill 3\n", encoding="utf-8")
    group.write_text("oom 9\noom_kill 4\noom_group_kill 0\n", encoding="utf-8")
    assert out_of_memory_kills((str(machine), str(group), str(none), str(tmp_path))) == 7
    group.write_text("oom_kill many\n", encoding="utf-8")
    assert out_of_memory_kills((str(machine), str(group))) == 3
    vmstat = Path("/proc/vmstat").read_text(encoding="ascii")
    assert out_of_memory_kills(("/proc/vmstat",)) == int(vmstat.partition("\noom_kill ")[2].split()[0])
