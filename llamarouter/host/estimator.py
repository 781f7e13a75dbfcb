"""What a launch will hold, asked of whoever knows best; it never fails.

    kept for these files, flags, engine and devices?
      no -> llama-fit-params -> the formula on the header -> the size of the files

Each answer says who gave it, and why nobody better did. To it come the parts that an engine's arithmetic leaves out:
projector, draft model, adapters.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.asked import ALL_LAYERS, Asked, Draft, asked_of
from llamarouter.core.coarse import coarse_footprint
from llamarouter.core.fit_output import FitUnreadable, engine_footprint, parse_fit, told_slots
from llamarouter.core.footprint import HOST, Footprint, Parts, Source, together
from llamarouter.core.gguf import GgufError
from llamarouter.core.ids import name_of
from llamarouter.core.launch import Launch
from llamarouter.core.memory_flags import Said, arguments_for, memory_key
from llamarouter.core.overhead import overhead_of
from llamarouter.core.projector import projector_bytes
from llamarouter.core.shape import Shape, read_shape
from llamarouter.host.engine import Engine, EngineKind
from llamarouter.host.fit_params import SECONDS, FitProblem, FitProgram, fit_program_of, run_fit
from llamarouter.host.footprint_cache import FootprintCache
from llamarouter.host.header_cache import open_plain

_Read = Callable[[int, int], bytes]

# What a draft has of its own, under names that only llama-server knows.
_NOT_OF_DRAFTS = (
    "--model",
    "--cache-type-k",
    "--cache-type-v",
    "--cpu-moe",
    "--device",
    "--n-cpu-ffn",
    "--n-cpu-moe",
    "--n-gpu-layers",
    "--override-kv",
    "--override-tensor",
)


class _Question(Struct, frozen=True):
    """A launch, and under which keys its answers are kept."""

    launch: Launch
    said: Said
    asked: Asked
    gpus: Mapping[str, int]
    program: FitProgram | None
    no_program: str  # why it is not asked
    embedded: bool
    files: tuple[str, ...]
    key: str
    leisurely: bool = False


class Estimator:
    """Footprints of launches. `cache` outlives it; `seconds`: how long an engine may take to answer."""

    def __init__(self, environ: Mapping[str, str], cache: FootprintCache, *, seconds: float = SECONDS) -> None:
        self._environ = environ
        self._cache = cache
        self._seconds = seconds

    async def footprint_of(
        self, launch: Launch, engine: Engine, gpus: Mapping[str, int] | None = None, *, leisurely: bool = False
    ) -> Footprint:
        """What the launch will hold. `gpus`: free bytes of each that the engine has, in its order; `leisurely`: nobody
        waits for it, and it must not be felt.
        """
        question = await asyncio.to_thread(self._question, launch, engine, dict(gpus or {}))
        if (kept := self._cache.get(question.key)) is not None:
            return kept
        footprint = await asyncio.to_thread(self._answer, replace(question, leisurely=leisurely))
        # Whatever else is asked again: an engine may be there tomorrow, and several devices share by what is free.
        if footprint.source is Source.ENGINE and not _depends_on_the_moment(question, footprint):
            self._cache.put(question.key, footprint)
            await asyncio.to_thread(self._cache.save)
        return footprint

    async def prepare(self, engine: Engine) -> None:
        """Find out how the engine is asked, which takes a moment the first time."""
        with contextlib.suppress(FitProblem):
            await asyncio.to_thread(fit_program_of, engine, self._environ)

    async def at_hand(self, launch: Launch, engine: Engine, gpus: Mapping[str, int] | None = None) -> Footprint:
        """The same without asking the engine: what it has said before, else the formula on the header (some ms)."""
        return await asyncio.to_thread(self._at_hand, launch, engine, dict(gpus or {}))

    def _at_hand(self, launch: Launch, engine: Engine, gpus: Mapping[str, int]) -> Footprint:
        question = self._question(launch, engine, gpus)
        kept = self._cache.get(question.key)
        return self._answer(replace(question, program=None)) if kept is None else kept

    def _question(self, launch: Launch, engine: Engine, gpus: Mapping[str, int]) -> _Question:
        said = Said(launch.flags, engine.table)
        asked = asked_of(said)
        program, problem = None, "the engine was not asked"
        try:
            program = fit_program_of(engine, self._environ)
        except FitProblem as error:
            problem = str(error)
        files = tuple(_files_of(asked))
        parts = (
            *memory_key(said),
            *engine.command,
            engine.build,
            *gpus,
            *(f"{each.name}={each.value}" for each in launch.variables),
            *(f"{path} {_stamp_of(path)}" for path in files),
            f"{program.command} {program.stamp}" if program is not None else "",
        )
        key = hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()
        return _Question(launch, said, asked, gpus, program, problem, engine.kind is EngineKind.EMBEDDED, files, key)

    def _answer(self, question: _Question) -> Footprint:
        asked = question.asked
        try:
            shape = _shape_of(asked.model)
        except (GgufError, OSError, ValueError) as error:
            return _by_size(question, f"its header cannot be read: {error}")
        try:
            footprint = self._ask_engine(question, shape, asked, None)
        except (FitProblem, FitUnreadable) as problem:
            footprint = coarse_footprint(shape, asked, question.gpus).with_doubt(str(problem))
        footprint = self._with_companions(question, footprint)
        beside = overhead_of(shape.n_vocab, footprint.totals(), embedded=question.embedded)
        output = shape.output_weights + (shape.input_weights if shape.tied else 0)
        return replace(footprint, needs=together(footprint.needs, beside), output=output)

    def _ask_engine(self, question: _Question, shape: Shape, asked: Asked, draft: Draft | None) -> Footprint:
        program = question.program
        if program is None:
            raise FitProblem(question.no_program)
        words = arguments_for(question.said, program.table, without=_NOT_OF_DRAFTS if draft is not None else ())
        words += ["--parallel", str(told_slots(asked))]
        if draft is not None:
            words += _words_of(draft)
        if asked.ctx_size and question.said.number("--ctx-size") != asked.ctx_size:
            words += ["--ctx-size", str(asked.ctx_size)]
        own = question.launch.environment()
        text = run_fit(program, words, self._environ, own, seconds=self._seconds, leisurely=question.leisurely)
        return engine_footprint(parse_fit(text), shape, asked)

    def _with_companions(self, question: _Question, footprint: Footprint) -> Footprint:
        """With projector, draft and adapters; what cannot be read of them is a doubt."""
        needs = [footprint.needs]
        doubts: list[str] = []
        for take in (self._projector, self._draft, self._adapters):
            try:
                needs.append(take(question, footprint))
            except (GgufError, OSError, ValueError, FitProblem, FitUnreadable) as error:
                doubts.append(f"what lies beside the model is not counted: {error}")
        if question.asked.predicts:
            doubts.append("the context of --spec-type draft-mtp is not counted")
        return replace(footprint, needs=together(*needs), doubts=(*footprint.doubts, *doubts))

    def _projector(self, question: _Question, footprint: Footprint) -> dict[str, Parts]:
        asked = question.asked
        if asked.mmproj is None:
            return {}
        with _opened(asked.mmproj) as (read, size):
            taken = projector_bytes(read, size)
        names = [*question.gpus] or [name for name in footprint.needs if name != HOST]
        where = names[0] if names and asked.mmproj_offload else HOST
        return {where: Parts(projector=taken)}

    def _draft(self, question: _Question, footprint: Footprint) -> dict[str, Parts]:
        draft = question.asked.draft
        if draft is None:
            return {}
        shape = _shape_of(draft.model)
        asked = _asked_of_draft(question.asked, draft)
        if footprint.source is Source.ENGINE:
            own = self._ask_engine(question, shape, asked, draft)
        else:
            own = coarse_footprint(shape, asked, question.gpus)
        return {device: parts.as_other() for device, parts in own.needs.items()}

    def _adapters(self, question: _Question, footprint: Footprint) -> dict[str, Parts]:
        """An adapter lies beside the weights that it changes."""
        size = sum(os.stat(path).st_size for path in question.asked.loras)
        weights = sum(parts.weights for parts in footprint.needs.values())
        if not size or not weights:
            return {}
        return {name: Parts(other=size * each.weights // weights) for name, each in footprint.needs.items()}


def _depends_on_the_moment(question: _Question, footprint: Footprint) -> bool:
    """Layers are spread over several devices by what is free of each, unless the launch says how."""
    return not question.asked.tensor_split and len(footprint.totals().keys() - {HOST}) > 1


def _words_of(draft: Draft) -> list[str]:
    device = ["--device", draft.device] if draft.device is not None else []
    kinds = ["--cache-type-k", draft.type_k, "--cache-type-v", draft.type_v]
    layers = "auto" if draft.gpu_layers == ALL_LAYERS else str(draft.gpu_layers)
    return ["--model", draft.model, "--n-gpu-layers", layers, *kinds, *device]


def _asked_of_draft(asked: Asked, draft: Draft) -> Asked:
    return replace(
        asked,
        model=draft.model,
        gpu_layers=draft.gpu_layers,
        type_k=draft.type_k,
        type_v=draft.type_v,
        device=draft.device or asked.device,
        outputs=asked.parallel,
        host_experts=0,
        host_dense=0,
        overrides=False,
        mmproj=None,
        loras=(),
        draft=None,
        predicts=False,
    )


def _by_size(question: _Question, reason: str) -> Footprint:
    """Nothing is known but how long the files are."""
    size = sum(map(_size_of, question.files))
    where = next(iter(question.gpus)) if question.gpus and question.asked.gpu_layers else HOST
    needs = {where: Parts(weights=size)}
    return Footprint(needs=needs, source=Source.HEADER, prompt_cache_limit=question.asked.cache_ram, doubts=(reason,))


def _files_of(asked: Asked) -> Iterator[str]:
    for path in (asked.model, asked.draft.model if asked.draft is not None else None):
        if path:
            yield from _shards_of(path)
    if asked.mmproj is not None:
        yield asked.mmproj
    yield from asked.loras


def _shards_of(path: str) -> list[str]:
    name = name_of(path)
    if name is None or name.count <= 1:
        return [path]
    return [name.shard(index) for index in range(1, min(name.count, 1000) + 1)]


def _shape_of(path: str) -> Shape:
    with contextlib.ExitStack() as stack:
        return read_shape([stack.enter_context(_opened(shard)) for shard in _shards_of(path)])


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[_Read, int]]:
    descriptor = open_plain(path, os.O_RDONLY)
    try:
        yield (lambda offset, count: os.pread(descriptor, count, offset)), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
