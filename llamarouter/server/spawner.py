"""How a child is prepared and lived: its launch from the shelf, its engine, its environment, its folder."""

from __future__ import annotations

from collections.abc import Mapping

from llamarouter.core.errors import ModelInvalid
from llamarouter.core.exits import Exit
from llamarouter.core.file_names import without_paths
from llamarouter.core.memory import Placement
from llamarouter.core.placed import placed
from llamarouter.core.settings import Settings
from llamarouter.host.child_environment import child_environment
from llamarouter.host.child_log import LogRing
from llamarouter.host.process import ChildObserver, ChildSpec, live
from llamarouter.host.runtime_folder import RuntimeFolder
from llamarouter.server.child import Child
from llamarouter.server.shelf import Shelf


class Spawner:
    """Prepares and lives children."""

    def __init__(self, settings: Settings, shelf: Shelf, folder: RuntimeFolder, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._shelf = shelf
        self._folder = folder
        self._environment = child_environment(environ)  # it takes a pattern for each variable, and does not change

    def prepare(self, model: str, started: float, placement: Placement | None = None) -> Child:
        """The child of a model as its launch stands now, in its place. Raises `RouterError` where it cannot be."""
        entry = self._shelf.entry(model)
        if entry.launch is None:
            problem = without_paths(entry.problem or "it has no file")
            raise ModelInvalid(f"model '{model}' cannot be loaded: {problem}")
        engine = self._shelf.inventory.engine_of(entry.launch.engine_key)
        launch = entry.launch if placement is None else placed(entry.launch, placement, engine.table)
        return Child(model, launch, engine, (*engine.command, *launch.argv()), started, entry.tags, placement=placement)

    async def live(self, child: Child, ring: LogRing, observer: ChildObserver) -> Exit:
        """Run the child until it is reaped."""
        spec = ChildSpec(
            model=child.model,
            command=child.command,
            env=self._environment | child.launch.environment(),
            unix_socket=child.engine.unix_socket,
            state_lines=child.engine.state_lines,
            stop_timeout=child.launch.stop_timeout,
            load_stall=self._settings.load_stall,
            busy_stall=self._settings.busy_stall,
        )
        return await live(spec, self._folder, ring, observer)
