"""`lr plan` without a router: the same parts, put together for one question, with nothing loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from llamarouter.core.entry import Entry
from llamarouter.core.explain import explain
from llamarouter.core.rooms import totals_of
from llamarouter.core.scheduler import Limits, Scheduler
from llamarouter.core.settings import Settings
from llamarouter.core.soft_room import Books
from llamarouter.host.child_environment import child_environment, set_for_children
from llamarouter.host.devices.machine import Machine
from llamarouter.host.estimator import Estimator
from llamarouter.host.footprint_cache import FootprintCache
from llamarouter.host.inventory import Inventory
from llamarouter.host.learnt_footprints import LearntFootprints
from llamarouter.host.state import state_dir
from llamarouter.server.appraiser import FOOTPRINTS, LEARNT, Appraiser, Subject
from llamarouter.server.learning import Learning
from llamarouter.server.planning import Plan, plan_of
from llamarouter.server.unknown_devices import unknown_devices


def lone_plan(entry: Entry, inventory: Inventory, settings: Settings, environ: Mapping[str, str]) -> Plan:
    """What would happen to a request for the model of `entry` if a router ran here, without any model."""
    return asyncio.run(_planned(entry, inventory, settings, environ))


async def _planned(entry: Entry, inventory: Inventory, settings: Settings, environ: Mapping[str, str]) -> Plan:
    engine = inventory.engine_of(entry.launch.engine_key if entry.launch is not None else None)
    async with Machine(inventory.engines[None].command, child_environment(environ)) as machine:
        appraiser = Appraiser(
            find=lambda _: Subject.of(entry, engine),
            devices=machine,
            footprints=Estimator(environ, FootprintCache(state_dir(environ) / FOOTPRINTS)),
            budgets=settings.budgets,
            pids=tuple,
            books=Books,
            learning=Learning(LearntFootprints.read(state_dir(environ) / LEARNT)),
        )
        appraised = await appraiser.appraise(entry.id)
        plan = plan_of(
            entry,
            appraised,
            Scheduler(Limits(models_max=settings.models_max, by_memory=True)),
            footprint=appraiser.footprint_of(entry.id),
            living=None,
            table=engine.table,
            explain=lambda each: explain(each, engine.command, set_for_children(environ)),
            now=asyncio.get_running_loop().time(),
        )
        # A router has said these at its start.
        doubts = [
            *settings.budgets.problems(totals_of(await machine.survey())),
            *await unknown_devices([entry], inventory.engine_of, machine),
        ]
        return plan | {"doubts": [*plan.get("doubts", ()), *map(str, doubts)]}
