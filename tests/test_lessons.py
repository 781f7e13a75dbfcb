"""What loads teach, for how long it holds, and that it is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamarouter.core.devices import Device, Survey, View
from llamarouter.core.footprint import Footprint, Parts, Source
from llamarouter.core.lessons import (
    PLACES_MAX,
    SUBJECTS_MAX,
    Lesson,
    Lessons,
    Place,
    Subject,
    corrected,
    place_of,
    starved_of,
    subject_of,
    weighed,
)
from llamarouter.core.memory import HOST, Room
from llamarouter.core.placement import Layout, Question, layout_of, placements_of
from llamarouter.core.scaling import scaled
from llamarouter.host.learnt_footprints import LearntFootprints

GIB = 1 << 30
RTX = "NVIDIA GeForce RTX 4090"
SURVEY = Survey(
    devices={
        **{name: Device(name=name, description=RTX, total=24 * GIB, free=GIB) for name in ("CUDA0", "CUDA1")},
        "CUDA2": Device(name="CUDA2", description="NVIDIA GeForce GTX 1080", total=8 * GIB, free=GIB),
        HOST: Device(name=HOST, total=64 * GIB, free=GIB),
    }
)
FIRST = Layout(("CUDA0",))
PLACE = place_of(FIRST, SURVEY)


def test_what_was_seen_on_a_card_holds_for_its_twin() -> None:
    lessons = Lessons()
    lessons.came_up("s", PLACE, FIRST, {"CUDA0": 5, HOST: 1}, 2.0)
    twin = Layout(("CUDA1",))
    lesson = lessons.recall("s", place_of(twin, SURVEY))
    assert lesson is not None
    assert lesson.at(twin) == {"CUDA1": 5, HOST: 1}
    for other in (Layout(("CUDA2",)), Layout(("CUDA0",), layers=9), Layout(("CUDA0", "CUDA1"), (50, 50)), Layout()):
        assert lessons.recall("s", place_of(other, SURVEY)) is None
    assert lessons.recall("t", PLACE) is None


def test_it_is_news_what_a_model_takes_only_where_it_is_not_what_it_took() -> None:
    lessons = Lessons()

    def is_news(held: dict[str, int] | None, place: Place = PLACE) -> bool:
        return lessons.came_up("s", place, FIRST, held, 1.0)

    assert [is_news({"CUDA0": held}) for held in (1000, 1000, 1040, 1000, 1100)] == [True, False, False, False, True]
    assert is_news({"CUDA0": 900})  # it falls by a tenth a load
    assert [is_news({"CUDA0": 1000, HOST: 1}) for _ in range(3)] == [True, False, False]
    assert [is_news({"CUDA0": 1000}, Place()) for _ in range(2)] == [True, False]
    assert not is_news(None)
    lessons.fell_short("s", Place(layers=3), FIRST, {"CUDA0": 1000}, most={"CUDA0": 1000})
    assert is_news({"CUDA0": 1000}, Place(layers=3))  # it is measured now
    assert Lessons().came_up("s", PLACE, FIRST, None, 1.0)


def test_the_cards_are_those_that_the_engine_means() -> None:
    view = View({"Vulkan0": "CUDA2"})
    assert place_of(Layout(("Vulkan0",)), SURVEY.seen_by(view)) == place_of(Layout(("CUDA2",)), SURVEY)
    assert place_of(Layout(("RPC0",)), SURVEY) == Place(("RPC0",))


def test_a_need_grows_at_once_and_falls_slowly() -> None:
    lessons = Lessons()
    seen = []
    for held in (1000, 1200, 100, 100, 1100):
        lessons.came_up("s", PLACE, FIRST, {"CUDA0": held}, 1.0)
        lesson = lessons.recall("s", PLACE)
        assert lesson is not None
        seen.append(lesson.needs["0"])
    assert seen == [1000, 1200, 1080, 972, 1100]


def test_the_newest_loads_weigh_most_in_how_long_one_takes() -> None:
    lessons = Lessons()
    assert lessons.load_seconds() == {}
    lessons.came_up("s", PLACE, FIRST, {}, 10.0, "a")
    assert lessons.load_seconds() == {"a": 10.0}
    lessons.came_up("s", Place(), Layout(), None, 20.0, "a")  # what it held nobody could say
    assert lessons.load_seconds() == {"a": pytest.approx(14.0)}
    assert lessons.recall("s", Place()) is None
    lessons.fell_short("t", Place(), Layout(), {HOST: 1}, most={}, model="b")
    assert "b" not in lessons.load_seconds()


def test_what_a_load_died_of_is_raised_and_fades_with_loads_that_come_up() -> None:
    lessons = Lessons()
    planned = {"CUDA0": 10 * GIB, HOST: GIB}
    plenty = {"CUDA0": 23 * GIB, HOST: 60 * GIB}
    raised = lessons.fell_short("s", PLACE, FIRST, planned, starved=("CUDA0",), most=plenty)
    assert raised == {"CUDA0": int(11.5 * GIB), HOST: GIB}
    lesson = lessons.recall("s", PLACE)
    assert lesson == Lesson({"0": int(11.5 * GIB), HOST: GIB}, measured=False)
    lessons.came_up("s", PLACE, FIRST, {"CUDA0": 9 * GIB, HOST: GIB}, 1.0)
    lesson = lessons.recall("s", PLACE)
    assert lesson is not None
    assert lesson.measured
    assert lesson.needs["0"] == int(int(11.5 * GIB) * 0.9)
    assert lessons.fell_short("s", PLACE, FIRST, {"CUDA0": 1}, most={}) == {"CUDA0": 1 + (256 << 20)}
    assert lessons.recall("s", PLACE) == Lesson({"0": 1 + (256 << 20)})


def test_who_ran_out_is_not_known_then_all_are_raised_but_never_beyond_what_can_be_had() -> None:
    lessons = Lessons()
    most = {"CUDA0": 11 * GIB, HOST: 60 * GIB}
    raised = lessons.fell_short("s", PLACE, FIRST, {"CUDA0": 10 * GIB, HOST: 4 * GIB}, starved=("X",), most=most)
    assert raised == {"CUDA0": 11 * GIB, HOST: int(4.6 * GIB)}
    assert lessons.fell_short("s", PLACE, FIRST, {"CUDA0": 12 * GIB}, most=most) == {"CUDA0": 12 * GIB}


def test_lessons_are_bounded_and_the_longest_unused_go() -> None:
    lessons = Lessons()
    for number in range(SUBJECTS_MAX + 2):
        lessons.came_up(str(number), PLACE, FIRST, {}, 1.0)
        lessons.came_up("used", PLACE, FIRST, {}, 1.0)
    assert len(lessons.all()) == SUBJECTS_MAX
    assert lessons.recall("0", PLACE) is None
    assert lessons.recall("used", PLACE) is not None
    for number in range(PLACES_MAX + 2):
        lessons.came_up("used", Place(layers=number), Layout(), {}, 1.0)
    assert len(dict(lessons.all())["used"].places) == PLACES_MAX


def test_a_subject_is_its_files_its_flags_and_its_engine() -> None:
    subject = subject_of((1, 2), ("--ctx-size\x008192",), ("/bin/llama-server", "b1"))
    assert len(subject) == 32
    others = (
        subject_of((1, 3), ("--ctx-size\x008192",), ("/bin/llama-server", "b1")),
        subject_of((1, 2), ("--ctx-size\x004096",), ("/bin/llama-server", "b1")),
        subject_of((1, 2), ("--ctx-size\x008192",), ("/bin/llama-server", "b2")),
        subject_of((1, 2), ("--ctx-size\x008192", "/bin/llama-server"), ("b1",)),
    )
    assert len({subject, *others}) == 5


# --- what a child holds ----------------------------------------------------------------------------------------------

PARTS = {"CUDA0": Parts(weights=1000, kv=100), HOST: Parts(weights=300, compute=50, mapped=300)}


def seen(gpus: dict[str, int | None], host: tuple[int, int] | None, **more: bool) -> dict[str, Device]:
    """What process 7 holds of each; None: the driver does not say. Of the host: its own, and pages of files."""
    devices = {
        name: Device(name=name, total=9999, free=1, held=None if held is None else {7: held}, **more)
        for name, held in gpus.items()
    }
    of_host = {} if host is None else {"held": {7: sum(host)}, "mapped": {7: host[1]}}
    return {**devices, HOST: Device(name=HOST, total=9999, free=1, **of_host)}


@pytest.mark.parametrize(
    ("gpus", "host", "logged", "found"),
    [
        # The driver counts its context in, and the log what was not touched yet.
        ({"CUDA0": 1500}, (60, 310), {}, {"CUDA0": 1500, HOST: 370}),
        ({"CUDA0": 900}, (60, 310), {"CUDA0": 1100, HOST: 400}, {"CUDA0": 1100, HOST: 400}),
        # A driver that does not say: the log, else nobody knows.
        ({"CUDA0": None}, (60, 310), {"CUDA0": 1070}, {"CUDA0": 1070, HOST: 370}),
        ({"CUDA0": None}, (60, 310), {}, None),
        ({}, (60, 310), {}, None),
        ({"CUDA0": 1500}, None, {}, None),
        # Pages that were not read yet will be.
        ({"CUDA0": 1500}, (60, 10), {}, {"CUDA0": 1500, HOST: 360}),
        # On a card that nobody has thought of.
        ({"CUDA0": 1500, "CUDA1": 200, "CUDA2": 0}, (60, 310), {}, {"CUDA0": 1500, "CUDA1": 200, HOST: 370}),
    ],
)
def test_weighing(
    gpus: dict[str, int | None], host: tuple[int, int] | None, logged: dict[str, int], found: dict[str, int] | None
) -> None:
    assert weighed(PARTS, seen(gpus, host), 7, logged) == found


def test_of_a_gpu_that_takes_the_hosts_memory_only_the_log_can_tell() -> None:
    devices = seen({"CUDA0": 1500}, (60, 310), shares_host=True)
    assert weighed(PARTS, devices, 7, {}) is None
    assert weighed(PARTS, devices, 7, {"CUDA0": 1100}) == {"CUDA0": 1100, HOST: 370}
    assert weighed(PARTS, {}, 7, {"CUDA0": 1100}) is None


@pytest.mark.parametrize(
    ("needs", "parts"),
    [
        ({"CUDA0": 1100}, Parts(weights=1000, kv=100)),
        ({"CUDA0": 1350}, Parts(weights=1000, kv=100, other=250)),
        ({"CUDA0": 950}, Parts(weights=950)),
    ],
)
def test_an_estimate_is_corrected(needs: dict[str, int], parts: Parts) -> None:
    assert corrected(PARTS, needs) == {"CUDA0": parts, HOST: PARTS[HOST]}


def test_of_pages_there_are_no_more_than_weights() -> None:
    found = corrected(
        {HOST: Parts(weights=300, mapped=300, compute=50, other=20, projector=5)}, {HOST: 200, "CUDA1": 7}
    )
    assert found == {HOST: Parts(weights=200, mapped=200), "CUDA1": Parts(other=7)}


@pytest.mark.parametrize(
    ("line", "starved"),
    [
        ("load_tensors: unable to allocate CUDA1 buffer", {"CUDA1"}),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 14 MiB on device 0: cudaMalloc failed", {"CUDA0"}),
        ("graph_reserve: failed to allocate compute buffers", set()),
        ("alloc_tensor_range: failed to allocate ROCm0 buffer of size 123", set()),
        ("llama_kv_cache: failed to allocate CPU_REPACK buffer", {HOST}),
        ("ggml_aligned_malloc: insufficient memory", set()),
    ],
)
def test_who_ran_out_is_read_from_the_log(line: str, starved: set[str]) -> None:
    assert starved_of(("loading", line), ("CUDA0", "CUDA1", HOST)) == starved


def test_the_layout_of_a_placement_is_what_it_was_made_of() -> None:
    footprint = Footprint(needs={"CUDA0": Parts(weights=30 * GIB)}, source=Source.ENGINE)
    rooms = {name: Room(20 * GIB, 20 * GIB, ours=0) for name in ("CUDA0", "CUDA1")}
    asked: list[Layout] = []

    def needs_of(layout: Layout) -> dict[str, int] | None:
        asked.append(layout)
        found = scaled(footprint, 33)(layout)
        return None if found is None else dict(found)

    question = Question(needs_of=needs_of, gpus=("CUDA0", "CUDA1"), rooms=rooms, layers=33)
    split = placements_of(question)
    partial = placements_of(replace(question, gpus=("CUDA0",)))
    none = placements_of(replace(question, gpus=("CUDA0",), rooms={"CUDA0": Room(GIB // 2, GIB)}))
    host = placements_of(replace(question, gpus=()))
    found = [layout_of(each) for placements in (split, partial, none, host) for each in placements]
    assert set(found) <= set(asked)
    assert [found[0], found[-1], found[-2]] == [Layout(("CUDA0",)), Layout(), Layout(layers=0)]
    assert Layout(("CUDA0", "CUDA1"), (50, 50)) in found
    assert Layout(("CUDA0",), layers=22) in found


# --- the file --------------------------------------------------------------------------------------------------------


def test_what_was_learnt_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "learnt.toml"
    learnt = LearntFootprints.read(path)
    learnt.save()
    assert not path.exists()
    split = Layout(("CUDA0", "CUDA2"), (75, 25), 9)
    learnt.lessons.came_up("s", place_of(split, SURVEY), split, {"CUDA0": 5, "CUDA2": 4, HOST: 1}, 2.0, "a model")
    learnt.lessons.fell_short("s", PLACE, FIRST, {"CUDA0": GIB}, most={})
    learnt.lessons.came_up("t", Place(), Layout(), {HOST: 7}, 0.123456, "t")
    learnt.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = LearntFootprints.read(path)
    assert [key for key, _ in again.lessons.all()] == ["s", "t"]
    assert dict(again.lessons.all())["s"] == dict(learnt.lessons.all())["s"]
    assert again.lessons.load_seconds() == {"a model": 2.0, "t": 0.123}
    before = path.stat().st_mtime_ns
    again.save()
    assert path.stat().st_mtime_ns == before  # nothing new


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 2\n",
        "version = 1\nsubjects = 3\n",
        "version = 1\n[[subjects]]\nkey = 5\n",
        'version = 1\n[[subjects]]\nkey = "s"\nmore = 1\n',
        "version = = 1",
        "\xff\xfe",
    ],
)
def test_a_file_that_is_not_ours_teaches_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "learnt.toml"
    path.write_text(text, encoding="latin-1")
    assert LearntFootprints.read(path).lessons.all() == []
    (tmp_path / "folder").mkdir()
    assert LearntFootprints.read(tmp_path / "folder").lessons.all() == []


def test_negative_figures_are_none(tmp_path: Path) -> None:
    path = tmp_path / "learnt.toml"
    text = 'version = 1\n[[subjects]]\nkey = "s"\nloads = -1\nload_seconds = -2.0\n[[subjects.places]]\n'
    path.write_text(text + "[subjects.places.needs]\nHost = -5\n")
    ((_, subject),) = LearntFootprints.read(path).lessons.all()
    assert (subject.loads, subject.load_seconds, subject.places) == (0, 0.0, {Place(): Lesson({HOST: 0})})


def test_where_nothing_can_be_written_it_is_known_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (None, tmp_path / "file" / "learnt.toml"):
        learnt = LearntFootprints.read(path)
        learnt.lessons.came_up("s", PLACE, FIRST, {"CUDA0": 5}, 2.0)
        learnt.save()
        assert learnt.lessons.recall("s", PLACE) == Lesson({"0": 5})


@pytest.mark.parametrize("seconds", ["inf", "-inf", "nan"])
def test_a_time_that_is_none_is_not_known(tmp_path: Path, seconds: str) -> None:
    path = tmp_path / "learnt.toml"
    path.write_text(f'version = 1\n[[subjects]]\nkey = "s"\nload_seconds = {seconds}\n')
    assert LearntFootprints.read(path).lessons.all() == [("s", Subject())]


def test_a_load_that_took_for_ever_is_a_line_and_the_rest_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learnt.toml"
    text = '[[subjects]]\nkey = "s"\nmodel = "m"\nloads = 3\nload_seconds = {}\n'
    path.write_text(f"version = 1\n{text.format('1e300')}")
    assert LearntFootprints.read(path).lessons.all() == [("s", Subject("m", loads=3))]
    assert caplog.messages == [f"{path}: a load of m took 1e+300 seconds: that is not used"]
    path.write_text(f"version = 1\n{text.format('3600')}")
    assert LearntFootprints.read(path).lessons.load_seconds() == {"m": 3600.0}


def test_two_routers_that_share_a_folder_keep_what_each_has_learnt(tmp_path: Path) -> None:
    path = tmp_path / "learnt.toml"
    one, other = LearntFootprints.read(path), LearntFootprints.read(path)
    for size, learnt, key in ((1, one, "a"), (2, other, "b"), (3, one, "both"), (4, other, "both"), (5, one, "a")):
        learnt.lessons.came_up(key, Place(), Layout(), {HOST: size}, 1.0)
        learnt.save()
    kept = {key: subject.places[Place()].needs[HOST] for key, subject in LearntFootprints.read(path).lessons.all()}
    assert kept == {"a": 5, "b": 2, "both": 3}  # of one subject the word of whoever wrote last
    path.unlink()
    one.lessons.came_up("c", Place(), Layout(), {HOST: 6}, 1.0)
    one.save()
    assert {key for key, _ in LearntFootprints.read(path).lessons.all()} == {"a", "both", "c"}
