"""What is done meanwhile: children are killed and frozen, presets and keys changed, models loaded, unloaded, pinned.

At any time at least `_CALM` models are left alone for as long as it takes that they are well again, so that there is
something that nothing was done to.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from soak.answer import Way, ask
from soak.book import Book
from soak.box import GUEST, MODELS, Box, child_of, secret_in
from soak.clients import BOUND
from soak.pause import pause
from soak.requests import list_of_models
from soak.touched import Touched

_CALM = 2
_EVERY = (0.3, 2.5)  # seconds between two deeds
_MOST_KEYS = 4
_PINNED = 3.0

Deed = Callable[[], Awaitable[None]]


class Deeds:
    """Done one after the other, as by one operator; each is known to `touched` before it begins."""

    def __init__(
        self,
        box: Box,
        secrets: dict[str, str],
        touched: Touched,
        book: Book,
        chance: random.Random,
    ) -> None:
        self._box = box
        self._secrets = secrets
        self._touched = touched
        self._book = book
        self._chance = chance
        self._keys: list[str] = []
        self._made = 0
        self._deeds: dict[str, tuple[Deed, int]] = {
            "a child killed": (self._kill, 8),
            "a child frozen": (self._freeze, 1),
            "reload: a model changed": (self._change, 6),
            "reload: a model comes or goes": (self._guest, 3),
            "reload: a policy changed": (self._policy, 2),
            "reload: a wrong section": (self._wrong_section, 2),
            "reload: a file that is none": (self._no_preset, 2),
            "SIGHUP": (self._hang_up, 1),
            "key made": (self._add_key, 4),
            "key turned": (self._rotate_key, 4),
            "key taken away": (self._take_key, 3),
            "lr load": (self._load, 3),
            "lr unload": (self._unload, 3),
            "lr unload --force": (self._force, 2),
            "lr pin, lr unpin": (self._pin, 2),
        }

    async def run(self, until: float) -> None:
        """Until that time of the loop; the last one is brought to its end."""
        clock = asyncio.get_running_loop().time
        while clock() < until:
            name, (deed, _) = self._chance.choices(
                list(self._deeds.items()), [weight for _, weight in self._deeds.values()]
            )[0]
            self._book.deeds[name] += 1
            await deed()
            await pause(self._chance.uniform(*_EVERY))

    async def end(self) -> None:
        """As it was at the start: the keys that were made go, and so does the model that is not always there."""
        for name in self._keys:
            with self._touched.deed((name,), lasting=False, clock=self._clock):
                del self._secrets[name]
                await self._lr("key", "rm", name)
        self._keys.clear()
        if GUEST in self._box.sections:
            await self._guest()

    async def _kill(self) -> None:
        model = self._rough()
        with self._doing(model):
            self._send(model, signal.SIGKILL)

    async def _freeze(self) -> None:
        """It is found by its silence, and killed by the router."""
        model = self._rough()
        with self._doing(model):
            self._send(model, signal.SIGSTOP)

    def _send(self, model: str, number: int) -> None:
        pid = child_of(self._box, model)
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return  # it has gone by itself meanwhile

    async def _change(self) -> None:
        model = self._rough()
        keys = self._box.sections[model]
        keys["ctx-size"] = "768" if keys["ctx-size"] == "1024" else "1024"
        self._box.write_preset()
        with self._doing(model):
            await self._lr("reload")

    async def _guest(self) -> None:
        if self._box.sections.pop(GUEST, None) is None:
            self._box.sections[GUEST] = {"model": str(self._box.model_file(GUEST))}
        self._box.write_preset()
        with self._doing(GUEST):
            await self._lr("reload")

    async def _policy(self) -> None:
        """How long it stays is no reason to touch what runs: nothing is excused."""
        model = self._chance.choice(MODELS)
        self._box.sections[model]["lr-priority"] = str(self._chance.randint(-2, 2))
        self._box.write_preset()
        await self._lr("reload")

    async def _wrong_section(self) -> None:
        """It keeps its last good version: nothing is excused."""
        self._box.write_preset(spoilt="[wrong]\nctx-sice = 5\n")
        await self._lr("reload")
        self._box.write_preset()
        await self._lr("reload")

    async def _no_preset(self) -> None:
        """It is refused, and everything stays as it was."""
        self._box.preset.write_bytes(b"[ada]\nalias = \xff\n")
        await self._lr("reload", code=1)
        self._box.write_preset()

    async def _hang_up(self) -> None:
        os.kill(self._box.pid, signal.SIGHUP)

    async def _add_key(self) -> None:
        if len(self._keys) >= _MOST_KEYS:
            return await self._take_key()
        self._made += 1
        name = f"guest-{self._made}"
        printed = await self._lr("key", "add", name, "--json", *self._limits())
        if printed is not None:
            self._secrets[name] = secret_in(printed)
            self._keys.append(name)
            await self._expect("a key that was just made", self._secrets[name], 200)
        return None

    def _limits(self) -> list[str]:
        """Those of them that nobody reaches: they are counted all the same."""
        return self._chance.choice(([], ["--rpm", "100000"], ["--concurrent", "1000"], ["--models", "*"]))

    async def _rotate_key(self) -> None:
        if not self._keys:
            return
        name = self._chance.choice(self._keys)
        old = self._secrets[name]
        with self._touched.deed((name,), lasting=False, clock=self._clock):
            printed = await self._lr("key", "rotate", name, "--json")
            if printed is not None:
                self._secrets[name] = secret_in(printed)
        await self._expect("the secret from before", old, 401)

    async def _take_key(self) -> None:
        if not self._keys:
            return
        name = self._chance.choice(self._keys)
        self._keys.remove(name)
        with self._touched.deed((name,), lasting=False, clock=self._clock):
            await self._lr("key", "rm", name)
            secret = self._secrets.pop(name)
        await self._expect("a key that was taken away", secret, 401)

    async def _expect(self, what: str, secret: str, expected: int) -> None:
        """What `lr key` has done holds when it returns."""
        answer = await ask(self._box.port, list_of_models(secret), Way(), BOUND)
        if answer.status != expected:
            self._book.misdo(what, f"{answer.status} where {expected} was to come: {answer.body!r}")

    async def _load(self) -> None:
        model = self._rough()
        with self._doing(model):
            await self._lr("load", model, code=None)  # where something was done to it: the reason why not

    async def _unload(self) -> None:
        model = self._rough()
        with self._doing(model):
            await self._lr("unload", model)

    async def _force(self) -> None:
        model = self._rough()
        with self._doing(model):
            await self._lr("unload", "--force", model)

    async def _pin(self) -> None:
        """The others have the other places, and lose nothing."""
        model = self._chance.choice(MODELS)
        await self._lr("pin", model)
        await pause(_PINNED)
        await self._lr("unpin", model)

    def _rough(self) -> str:
        """A model that something is done to: of those that are not well yet where no other may be touched."""
        now = self._clock()
        rough = [model for model in MODELS if self._touched.between(model, now, now)]
        return self._chance.choice(rough if len(rough) >= len(MODELS) - _CALM else MODELS)

    def _doing(self, model: str) -> AbstractContextManager[None]:
        return self._touched.deed((model,), lasting=True, clock=self._clock)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    async def _lr(self, *arguments: str, code: int | None = 0) -> str | None:
        """What it printed; None, and a note in the book, where it did not end as it should (`code` None: in time)."""
        ended, out, err = await self._box.lr(*arguments)
        if ended == code or (code is None and ended in (0, 1)):
            return out
        self._book.misdo(f"lr {' '.join(arguments)}", f"exit code {ended}: {out}{err}")
        return None
