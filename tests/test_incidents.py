"""The failures that are remembered, and the file that keeps them for the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core import incidents
from llamarouter.core.incidents import LOG_LINES, MODELS, PER_MODEL, Incident, Incidents, log_tail
from llamarouter.host import incident_file
from llamarouter.host.incident_file import IncidentFile


def incident(model: str, at: float = 0.0, *, log: tuple[str, ...] = ()) -> Incident:
    return Incident(
        model=model, at=at, cause="signal", message="crashed", signal="SIGSEGV", command=("x", "-c", "1"), log=log
    )


def test_the_last_of_each_model_are_remembered_the_latest_first() -> None:
    known = Incidents(incident("a", float(number)) for number in range(PER_MODEL + 3))
    known.add(incident("b", 99.0))
    assert [each.at for each in known.of("a")] == [float(number) for number in range(PER_MODEL + 2, 2, -1)]
    assert (len(known.of("b")), known.of("c"), len(known)) == (1, (), PER_MODEL + 1)
    assert Incidents(known.all()).all() == known.all()


def test_the_models_that_failed_longest_ago_are_forgotten() -> None:
    known = Incidents(incident(f"m{number}") for number in range(MODELS))
    known.add(incident("m0"))
    known.add(incident("new"))
    assert not known.of("m1")
    assert len(known.models()) == MODELS
    assert (len(known.of("m0")), known.models()[-2:]) == (2, ("m0", "new"))


def test_the_end_of_a_log_is_that_of_the_last_process() -> None:
    lines = ("of an older one", "--- m: started as process 7", "first", "second " + "x" * 1000)
    assert log_tail(lines) == ("first", ("second " + "x" * 1000)[: incidents._LINE])
    assert log_tail(("no note", "any more")) == ("no note", "any more")
    many = tuple(str(number) for number in range(100))
    assert log_tail(("--- begin", *many)) == many[-LOG_LINES:]
    assert log_tail((*many, "--- m: cannot be started")) == ()


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "failures.jsonl"
    file = IncidentFile(path)
    assert file.read() == []
    first, second = incident("a", 1.5, log=("\u2028 \N{LLAMA}",)), incident("b")
    file.append([first], Incidents([first]))
    IncidentFile(path).append([second], Incidents())
    assert IncidentFile(path).read() == [first, second]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_lines_of_another_version_and_torn_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    IncidentFile(path).append([incident("a")], Incidents())
    good = path.read_bytes()
    more = good.replace(b'"model"', b'"news":[1],"model"')
    path.write_bytes(b"\xff\xfe\n{}\n[1]\n" + good + b'{"model":3}\n' + more + good[:20])
    assert [each.model for each in IncidentFile(path).read()] == ["a", "a"]


def test_a_file_that_has_grown_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "failures.jsonl"
    file, known = IncidentFile(path), Incidents()
    for number in range(3):
        known.add(incident("a", float(number)))
        file.append(known.of("a")[:1], known)
    assert path.read_bytes().count(b"\n") == 3
    monkeypatch.setattr(incident_file, "_GROWTH", 10)
    forgotten = Incidents([incident("b")])
    file.append([incident("b")], forgotten)
    assert [each.model for each in IncidentFile(path).read()] == ["b"]


def test_a_file_that_cannot_be_ours_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert IncidentFile(tmp_path).read() == []
    path = tmp_path / "failures.jsonl"
    IncidentFile(path).append([incident("a")], Incidents())
    monkeypatch.setattr(incident_file, "_MOST", 10)
    assert IncidentFile(path).read() == []


def test_without_a_state_folder_nothing_is_kept() -> None:
    file = IncidentFile(None)
    file.append([incident("a")], Incidents())
    assert file.read() == []
