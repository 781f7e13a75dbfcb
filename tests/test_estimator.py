"""Footprints of launches: who is asked, in which order, what is kept, and that it never fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.footprint import HOST, Parts, Source
from llamarouter.core.launch import Launch
from llamarouter.core.own_environment import Variable
from llamarouter.host.engine import EngineKind
from llamarouter.host.estimator import Estimator
from llamarouter.host.footprint_cache import FootprintCache
from tests import real_shapes
from tests.launches import launch_of
from tests.test_fit_params import engine_in, write_program
from tests.tiny_gguf import write_llama, write_sharded_llama

pytestmark = pytest.mark.anyio

GPU = {"CUDA0": 10**11}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[list[str]]]:
    """What the program was told, each time."""
    log = tmp_path / "calls"
    write_program(
        tmp_path,
        f"import json; open({str(log)!r}, 'a').write(json.dumps(argv) + chr(10))\n"
        "if 'broken' in ' '.join(argv): sys.exit(1)\n"
        "print('CUDA0 4155 1024 298 ' if 'auto' not in argv else 'CUDA0 100 10 5 ')\n"
        "print('Host 281 0 16 ')",
    )
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    return real_shapes.llama3_8b(tmp_path / "8b.gguf")


async def test_the_engine_is_asked_once(
    tmp_path: Path, environ: dict[str, str], calls: Callable[[], list[list[str]]], eight: Path
) -> None:
    kept = tmp_path / "estimates.json"
    estimator = Estimator(environ, FootprintCache(kept))
    launch = launch_of(f"-m {eight} -c 8192 --temp 0.5")
    first = await estimator.footprint_of(launch, engine_in(tmp_path), GPU)
    assert first.source is Source.ENGINE
    assert first.doubts == ()
    assert first.needs["CUDA0"].kv == 1024 * MIB + MIB // 2
    assert first.needs["CUDA0"].compute < 150 * MIB  # the logits of a server
    assert first.needs["CUDA0"].other == 600 * MIB
    assert first.output == 128256 * 4096 // 256 * 210 + 4 * 4096  # Q6_K, and the norm before it
    assert calls() == [
        ["--ctx-size", "8192", "--model", str(eight), "--parallel", "1", "--fit", "off", "--fit-print", "on"]
    ]
    assert await estimator.footprint_of(launch, engine_in(tmp_path), GPU) == first
    # Neither does another start ask, nor what changes nothing.
    again = Estimator(environ, FootprintCache(kept))
    assert await again.footprint_of(launch_of(f"-m {eight} -c 8192 --temp 1"), engine_in(tmp_path), GPU) == first
    assert len(calls()) == 1
    # What only a server makes a context of, it is told as one.
    await estimator.footprint_of(launch_of(f"-m {eight} -np 2 --kv-unified-per-slot 512"), engine_in(tmp_path), GPU)
    assert calls()[-1][2:6] == ["--parallel", "2", "--ctx-size", "1024"]


async def test_what_makes_another_answer(
    tmp_path: Path, environ: dict[str, str], calls: Callable[[], list[list[str]]], eight: Path
) -> None:
    estimator, engine = Estimator(environ, FootprintCache(None)), engine_in(tmp_path)
    launch = launch_of(f"-m {eight} -c 8192")

    async def asked(launch: Launch, **gpus: int) -> int:
        await estimator.footprint_of(launch, engine, gpus)
        return len(calls())

    assert await asked(launch, **GPU) == 1
    assert await asked(launch_of(f"-m {eight} -c 4096"), **GPU) == 2
    assert await asked(launch, CUDA1=1) == 3
    assert await asked(Launch(None, launch.flags, (Variable("CUDA_VISIBLE_DEVICES", "1", ""),)), **GPU) == 4
    with eight.open("ab") as file:
        file.write(b"\0")
    assert await asked(launch, **GPU) == 5
    with (tmp_path / "llama-fit-params").open("a") as program:
        program.write("# another build\n")
    assert await asked(launch, **GPU) == 6
    assert await asked(launch, CUDA0=5) == 6  # how much is free is nothing that it depends on


async def test_layers_that_are_spread_by_what_is_free_are_asked_for_again(
    tmp_path: Path, environ: dict[str, str], eight: Path
) -> None:
    log = tmp_path / "calls"
    write_program(
        tmp_path, f"open({str(log)!r}, 'a').write('x')\nprint('CUDA0 2000 9 9\\nCUDA1 2000 9 9\\nHost 9 0 9')"
    )
    estimator, engine = Estimator(environ, FootprintCache(None)), engine_in(tmp_path)
    for _ in range(2):
        await estimator.footprint_of(launch_of(f"-m {eight}"), engine, {**GPU, "CUDA1": 0})
    assert log.read_text() == "xx"
    for _ in range(2):
        await estimator.footprint_of(launch_of(f"-m {eight} -ts 1,1"), engine, {**GPU, "CUDA1": 0})
    assert log.read_text() == "xxx"


async def test_without_a_program_the_formula_answers_and_says_so(
    tmp_path: Path, environ: dict[str, str], eight: Path
) -> None:
    cache = FootprintCache(None)
    footprint = await Estimator(environ, cache).footprint_of(launch_of(f"-m {eight} -c 8192"), engine_in(tmp_path))
    assert footprint.source is Source.HEADER
    (doubt,) = footprint.doubts
    assert "there is no llama-fit-params beside" in doubt
    embedded = engine_in(tmp_path, EngineKind.EMBEDDED)
    footprint = await Estimator(environ, cache).footprint_of(launch_of(f"-m {eight} -c 8192"), embedded)
    assert footprint.doubts == ("the embedded engine has no llama-fit-params",)
    assert footprint.needs[HOST].other - 128_256 * 160 == 34 * MIB  # its interpreter


@pytest.mark.parametrize("body", ["sys.exit(1)", "print('nonsense')", "time.sleep(60)"])
async def test_a_program_that_is_of_no_use_is_asked_again_next_time(
    tmp_path: Path, environ: dict[str, str], eight: Path, body: str
) -> None:
    write_program(tmp_path, body)
    cache, launch = FootprintCache(None), launch_of(f"-m {eight} -c 8192")
    footprint = await Estimator(environ, cache, seconds=1.0).footprint_of(launch, engine_in(tmp_path), GPU)
    assert footprint.source is Source.HEADER
    assert len(footprint.doubts) == 1
    write_program(tmp_path, "print('CUDA0 1 2 3\\nHost 4 5 6')")
    again = await Estimator(environ, cache).footprint_of(launch, engine_in(tmp_path), GPU)
    assert again.source is Source.ENGINE


async def test_at_hand_is_what_needs_no_asking(
    tmp_path: Path, environ: dict[str, str], calls: Callable[[], list[list[str]]], eight: Path
) -> None:
    estimator, engine = Estimator(environ, FootprintCache(None)), engine_in(tmp_path)
    launch = launch_of(f"-m {eight} -c 8192")
    rough = await estimator.at_hand(launch, engine, GPU)
    assert (rough.source, rough.doubts) == (Source.HEADER, ("the engine was not asked",))
    assert calls() == []
    asked = await estimator.footprint_of(launch, engine, GPU)
    assert rough.needs["CUDA0"].total == pytest.approx(asked.needs["CUDA0"].total, rel=0.01)
    assert await estimator.at_hand(launch, engine, GPU) == asked
    assert len(calls()) == 1


async def test_what_lies_beside_the_model_is_counted(
    tmp_path: Path, environ: dict[str, str], calls: Callable[[], list[list[str]]], eight: Path
) -> None:
    projector = real_shapes.gemma3_projector(tmp_path / "p.gguf")
    draft = write_llama(tmp_path / "draft.gguf")
    (tmp_path / "lora.gguf").write_bytes(bytes(1000))
    estimator, engine = Estimator(environ, FootprintCache(None)), engine_in(tmp_path)
    alone = (await estimator.footprint_of(launch_of(f"-m {eight} -c 8192"), engine, GPU)).needs

    async def needs(flags: str) -> dict[str, Parts]:
        footprint = await estimator.footprint_of(launch_of(f"-m {eight} -c 8192 {flags}"), engine, GPU)
        assert footprint.doubts == ()
        return dict(footprint.needs)

    seeing = await needs(f"--mmproj {projector}")
    assert seeing["CUDA0"].projector / MIB == pytest.approx(928.94, rel=0.01)
    assert seeing[HOST].projector == 0
    assert (await needs(f"--mmproj {projector} --no-mmproj-offload"))[HOST].projector == seeing["CUDA0"].projector
    drafting = await needs(f"-md {draft} -ctkd q8_0 -devd CUDA0")
    assert drafting["CUDA0"].other - alone["CUDA0"].other > 110 * MIB
    assert calls()[-1][:10] == [
        *("--ctx-size", "8192", "--parallel", "1", "--model", str(draft), "--n-gpu-layers", "auto"),
        *("--cache-type-k", "q8_0"),
    ]
    adapted = await needs(f"--lora {tmp_path / 'lora.gguf'}")
    assert sum(parts.other for parts in adapted.values()) - sum(parts.other for parts in alone.values()) == (
        pytest.approx(1000, abs=2)
    )


async def test_without_an_engine_a_draft_goes_by_the_formula(
    tmp_path: Path, environ: dict[str, str], eight: Path
) -> None:
    estimator = Estimator(environ, FootprintCache(None))
    alone = await estimator.footprint_of(launch_of(f"-m {eight} -c 8192"), engine_in(tmp_path))
    both = await estimator.footprint_of(launch_of(f"-m {eight} -c 8192 -md {eight} -ngld 0"), engine_in(tmp_path))
    own = both.needs[HOST].other - alone.needs[HOST].other
    assert own == pytest.approx(alone.needs[HOST].total - alone.needs[HOST].other, rel=0.001)


async def test_what_cannot_be_read_beside_the_model_is_a_doubt(
    tmp_path: Path, environ: dict[str, str], calls: Callable[[], list[list[str]]], eight: Path
) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"no")
    flags = f"--mmproj {tmp_path / 'broken.gguf'} -md {tmp_path / 'nothing.gguf'} --lora {tmp_path / 'none.gguf'}"
    footprint = await Estimator(environ, FootprintCache(None)).footprint_of(
        launch_of(f"-m {eight} -c 8192 {flags}"), engine_in(tmp_path), GPU
    )
    flags = "--spec-type draft-mtp"
    predicting = await Estimator(environ, FootprintCache(None)).footprint_of(
        launch_of(f"-m {eight} -c 8192 {flags}"), engine_in(tmp_path), GPU
    )
    assert predicting.doubts == ("the context of --spec-type draft-mtp is not counted",)
    # 'broken' in its arguments would make the program fail: it is not told of projectors.
    assert footprint.source is Source.ENGINE
    assert len(footprint.doubts) == 3
    assert all("is not counted" in doubt for doubt in footprint.doubts)


async def test_a_file_that_cannot_be_read_has_at_least_a_size(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(bytes(5000))
    estimator, engine = Estimator(environ, FootprintCache(None)), engine_in(tmp_path)
    footprint = await estimator.footprint_of(launch_of(f"-m {path}"), engine)
    assert footprint.totals() == {HOST: 5000}
    assert "its header cannot be read" in footprint.doubts[0]
    assert (await estimator.footprint_of(launch_of(f"-m {path}"), engine, GPU)).totals() == {"CUDA0": 5000}
    for missing in ("-m /nowhere/x.gguf", "-c 5", "-m /dev/null"):
        nothing = await estimator.footprint_of(launch_of(missing), engine)
        assert nothing.totals() == {}
        assert len(nothing.doubts) == 1


async def test_a_model_in_shards_is_one(tmp_path: Path, environ: dict[str, str]) -> None:
    first, *_ = write_sharded_llama(tmp_path / "s.gguf")
    whole = write_llama(tmp_path / "w.gguf")
    estimator, engine = Estimator(environ, FootprintCache(None)), engine_in(tmp_path)
    sharded = await estimator.footprint_of(launch_of(f"-m {first}"), engine)
    assert sharded == await estimator.footprint_of(launch_of(f"-m {whole}"), engine)
