"""The chronicle: what has failed, told to whoever asks why, and kept for the next start of the router."""

from __future__ import annotations

import asyncio
import logging
import time

from llamarouter.core.errors import RouterError
from llamarouter.core.exits import Exit
from llamarouter.core.failures import hint_before_start
from llamarouter.core.incidents import REFUSED, Incident, Incidents, log_tail
from llamarouter.core.launch import without_secrets
from llamarouter.host.incident_file import IncidentFile
from llamarouter.server.child import Child

log = logging.getLogger("llamarouter")


class Chronicle:
    """All failures that are remembered. Writing is for a thread: no disk holds up the router."""

    def __init__(self, tasks: asyncio.TaskGroup, file: IncidentFile) -> None:
        self._tasks = tasks
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[Incident] = []
        self._writing = False
        self.incidents = Incidents(file.read())

    def note(self, child: Child, end: Exit, lines: tuple[str, ...]) -> None:
        """A child has failed; `lines`: what its log has kept."""
        incident = Incident(
            model=child.model,
            at=time.time(),  # noqa: TID251 (a date, for people)
            cause=end.cause.value,
            message=end.message,
            hint=end.hint(child.model),
            stage="loading" if child.ready is None else "serving",
            lasted=self._loop.time() - child.started,
            inside=0 if child.connections is None else child.connections.in_flight,
            command=tuple(without_secrets(child.command)),
            code=end.code,
            signal=end.signal,
            log=log_tail(lines),
        )
        self._keep(incident)

    def refused(self, model: str, error: RouterError) -> None:
        """A model was refused for what lies in itself, and nothing was started; said once, however many ask."""
        message = error.message.removeprefix(f"model '{model}' ")
        last = self.incidents.of(model)[:1]
        if last and (last[0].stage, last[0].message) == (REFUSED, message):
            return
        now = time.time()  # noqa: TID251 (a date, for people)
        cause, hint = error.reason, hint_before_start(error, model)
        self._keep(Incident(model=model, at=now, cause=cause, message=message, hint=hint, stage=REFUSED))

    def _keep(self, incident: Incident) -> None:
        self.incidents.add(incident)
        self._unwritten.append(incident)
        if not self._writing:
            self._writing = True
            self._tasks.create_task(self._write(), name="write of failures")

    async def _write(self) -> None:
        try:
            while self._unwritten:
                news, self._unwritten = self._unwritten, []
                known = Incidents(self.incidents.all())
                await asyncio.to_thread(self._file.append, news, known)
        except OSError as error:
            log.warning("failures are not kept for the next start: %s", error)
        finally:
            self._writing = False
