"""What the scheduler is told of the devices: a survey, and what the operator leaves of each, become rooms.

    rooms_of(survey, settings.budgets, pids of all children) -> {"CUDA0": Room, "Host": Room}

An integrated GPU has no room of its own: what is held there is held of `Host` (`Survey.needs` says it so), and its
driver may show it for longer than the process lives. The kernel does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from llamarouter.core.budget import Budgets
from llamarouter.core.devices import Survey
from llamarouter.core.memory import Room


def rooms_of(survey: Survey, budgets: Budgets, pids: Iterable[int]) -> dict[str, Room]:
    """By device. `pids`: of all our children, with what they have forked."""
    ours = tuple(pids)
    shares = budgets.shares(totals_of(survey))
    plain = not any(device.shares_host for device in survey.devices.values())
    return {
        name: Room(
            device.total,
            device.free,
            device.held_by(ours),
            shares[name].budget,
            shares[name].reserve,
            prompt=plain and not device.is_gpu,
        )
        for name, device in survey.devices.items()
        if name in shares
    }


def totals_of(survey: Survey) -> dict[str, int]:
    """How much memory there is, by device: what budgets are shares of."""
    return {name: device.total for name, device in survey.devices.items() if not device.shares_host}
