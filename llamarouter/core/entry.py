"""An entry of the catalogue: one model that can be asked for."""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.launch import Launch
from llamarouter.core.model import Model
from llamarouter.core.policy import Policy
from llamarouter.core.policy_rules import LOAD_ON_STARTUP, Rule, policy_of


class Entry(Struct, frozen=True, kw_only=True):
    """One model that can be asked for. Exactly one of `launch`, `problem` and `hf_wanted` is set."""

    model: Model
    launch: Launch | None = None
    problem: str | None = None  # why it cannot be started, in one line
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()  # how long it stays, and whether it is loaded at start
    hf_wanted: str | None = None  # what the router must fetch first: `user/repo:TAG` or `user/repo/file.gguf`
    with_projector: bool = True  # whether what is fetched comes with the projector that goes with it
    require_full_offload: bool = False  # a load that leaves layers in host memory is refused
    hidden: bool = False  # usable by its id, but not listed (`dedup-cache-models`)
    preset_text: str = ""  # `[id]\nkey = value\n...`, as llama-server shows in `status.preset`
    projects: tuple[str, ...] = ()  # what the projector that it is started with takes: of image, audio

    @property
    def id(self) -> str:
        """The name under which clients ask for it."""
        return self.model.id

    @property
    def policy(self) -> Policy:
        """How long it stays once it is loaded, as its rules say."""
        return policy_of(self.rules)

    @property
    def load_on_startup(self) -> bool:
        """Whether it is loaded before anybody asks."""
        return any(rule.value for rule in self.rules if rule.key == LOAD_ON_STARTUP)

    @property
    def input_modalities(self) -> tuple[str, ...]:
        """What it takes, as far as headers tell: of text, image, audio."""
        return ("text", *self.projects)

    @property
    def output_modalities(self) -> tuple[str, ...]:
        """What it answers with: text, or decisions."""
        return self.model.header.output_modalities if self.model.header is not None else ("text",)
