"""What the doctor makes of what it sees: severities, exit codes, and each rule with a case on both of its sides."""

from __future__ import annotations

import pytest

from llamarouter.core.findings import Finding, Severity, exit_code_of, sorted_by_severity
from llamarouter.core.limit_findings import ProcessLimits, limit_findings
from llamarouter.core.model import Skipped, Source
from llamarouter.core.model_findings import Seen, Unfinished, model_findings, unfinished_findings
from llamarouter.core.stream_findings import Stream, stream_findings
from llamarouter.core.unit import SERVICE, units_of
from llamarouter.core.unit_findings import unit_findings
from tests.test_service import PLAIN

FINE, NOTE, WARNING, ERROR = Severity


def severities(findings: object) -> list[Severity]:
    assert findings is not None
    return [each.severity for each in findings]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("found", "code"), [((), 0), ((FINE, NOTE), 0), ((WARNING, NOTE), 1), ((FINE, ERROR, WARNING), 2)]
)
def test_the_exit_code_is_that_of_the_worst(found: tuple[Severity, ...], code: int) -> None:
    findings = [Finding("x", severity, str(place)) for place, severity in enumerate(found)]
    assert exit_code_of(findings) == code


def test_the_worst_stand_first_and_equals_as_they_came() -> None:
    findings = [Finding("x", severity, what) for what, severity in zip("abcd", (NOTE, ERROR, FINE, ERROR), strict=True)]
    assert "".join(each.what for each in sorted_by_severity(findings)) == "bdac"


@pytest.mark.parametrize(
    ("files", "severity"), [(None, FINE), (4096, FINE), (4095, WARNING), (256, WARNING), (255, ERROR)]
)
def test_open_files(files: int | None, severity: Severity) -> None:
    (found,) = limit_findings(ProcessLimits(files, 512, None, None), "us")
    assert found.severity is severity
    assert ("ulimit -n 512" in found.fix) == (severity is not FINE)


def test_a_small_address_space_and_little_to_lock() -> None:
    limits = ProcessLimits(None, None, 8 << 20, 1 << 30)
    assert severities(limit_findings(limits, "us", 1 << 20)) == [FINE, WARNING]
    _, space, locked = limit_findings(limits, "us", 1 << 30, ("a", "b"))
    assert space.severity is ERROR
    assert "a, b lock their memory (--mlock), and 8 MiB" in locked.what


GOOD = {"Type": "notify", "KillMode": "mixed", "OOMPolicy": "continue", "Restart": "on-failure"}


def test_a_good_unit_is_fine() -> None:
    assert severities(unit_findings("u", GOOD, has_gpu=True, below_home=("/home/a",))) == [FINE]


@pytest.mark.parametrize(
    ("setting", "severity", "fix"),
    [
        (("Type", "simple"), WARNING, "Type=notify"),
        (("KillMode", "control-group"), WARNING, "KillMode=mixed"),
        (("OOMPolicy", "stop"), ERROR, "OOMPolicy=continue"),
        (("Restart", "no"), WARNING, "Restart=on-failure"),
        (("RuntimeDirectoryMode", "0755"), ERROR, "RuntimeDirectoryMode=0700"),
        (("PrivateDevices", "yes"), ERROR, "PrivateDevices=no"),
        (("ProtectHome", "yes"), ERROR, "BindReadOnlyPaths"),
    ],
)
def test_each_bad_setting_of_a_unit(setting: tuple[str, str], severity: Severity, fix: str) -> None:
    (found,) = unit_findings("u", GOOD | dict([setting]), has_gpu=True, below_home=("/home/a",))
    assert found.severity is severity
    assert fix in found.fix


def test_a_folder_that_is_bound_into_the_units_view_is_not_hidden() -> None:
    said = GOOD | {"ProtectHome": "tmpfs", "BindReadOnlyPaths": "/home/a/models:/home/a/models:rbind"}
    assert severities(unit_findings("u", said, has_gpu=False, below_home=("/home/a/models/x",))) == [FINE]
    assert severities(unit_findings("u", said, has_gpu=False, below_home=("/home/a/models2",))) == [ERROR]


def test_what_hides_nothing_is_no_finding() -> None:
    said = GOOD | {"PrivateDevices": "yes", "ProtectHome": "yes", "StateDirectoryMode": "0700"}
    assert severities(unit_findings("u", said, has_gpu=False, below_home=())) == [FINE]


def seen(id: str, path: str | None = None, **more: object) -> Seen:
    fields = {"source": Source.MODELS_DIR, "size": 5, "problem": None} | more
    return Seen(id=id, path=path or f"/m/{id}.gguf", **fields)  # type: ignore[arg-type]


def test_no_model_is_a_warning_and_a_good_one_is_fine() -> None:
    assert severities(model_findings([], [], None)) == [WARNING]
    assert severities(model_findings([seen("a")], [], None)) == [FINE]


def test_a_broken_model_is_said_once_with_its_fix() -> None:
    models = [seen("a"), seen("b", problem="torn", removable=True), seen("c", problem="empty")]
    _, noted, torn = model_findings(models, [Skipped("/m/c.gguf", "empty")], None)
    assert (noted.where, noted.what, noted.fix) == ("/m/c.gguf", "empty", "replace or delete it")
    assert (torn.what, torn.fix) == ("b: torn", "`lr rm b`, then `lr pull` it again")


def test_a_wrong_section_is_an_error_at_its_line() -> None:
    skipped = [Skipped("p.ini:3", "[x] cannot be used: no such key")]
    _, found = model_findings([seen("a", source=Source.PRESET)], skipped, "p.ini")
    assert (found.severity, found.where) == (ERROR, "p.ini:3")


def test_the_same_file_twice_is_seen_by_its_content_and_two_names_of_one_are_not() -> None:
    twins = [seen("a", sample="s"), seen("b", sample="s", removable=True), seen("c", sample="t")]
    (found,) = [each for each in model_findings(twins, [], None) if each.severity is NOTE]
    assert found.what.startswith("a, b are the same file 2 times")
    assert found.fix == "`lr rm b`"
    names = [seen("a", "/m/x", sample="s"), seen("b", "/m/x", sample="s")]
    assert severities(model_findings(names, [], None)) == [FINE]


def test_what_no_section_names_is_noted() -> None:
    _, found = model_findings([seen("a"), seen("b", source=Source.PRESET)], [], "p.ini")
    assert (found.severity, found.what) == (NOTE, "a lies here and stands in no section")


def test_a_download_that_moves_is_none_that_was_left() -> None:
    left, moving = Unfinished("/x", 10, 3600.0), Unfinished("/y", 10, 1.0)
    (found,) = unfinished_findings([left, moving])
    assert (found.where, found.severity) == ("/x", WARNING)


def even(events: int, apart: float) -> Stream:
    return Stream([(1 + number * apart, 1) for number in range(events)])


def test_a_stream_that_is_held_back_is_told_from_one_that_is_not() -> None:
    direct, burst = even(64, 0.02), Stream([(2.3, 64)])
    assert severities(stream_findings(even(64, 0.02), direct, "u")) == [FINE]
    assert severities(stream_findings(burst, direct, "u")) == [ERROR]
    # Three bursts of 4 KiB, as a proxy with small buffers sends them.
    assert severities(stream_findings(Stream([(1.5, 20), (2, 20), (2.5, 24)]), direct, "u")) == [ERROR]


def test_what_cannot_be_told_is_not_claimed() -> None:
    burst = Stream([(0.2, 64)])
    assert severities(stream_findings(burst, even(64, 0.001), "u")) == [NOTE]  # over at once: it may arrive as one
    assert severities(stream_findings(Stream([(0.1, 2)]), None, "u")) == [WARNING]
    assert severities(stream_findings(burst, None, "u")) == [ERROR]
    assert severities(stream_findings(even(64, 0.02), None, "u")) == [FINE]


def test_what_comes_together_is_one_arrival() -> None:
    assert Stream([(1.0, 1), (1.002, 1), (1.02, 3)]).arrivals == 2
    assert Stream([]).lasted == 0.0


def test_the_unit_that_lr_installs_suits_a_router() -> None:
    text = units_of(PLAIN)[SERVICE]
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert severities(unit_findings(SERVICE, said, has_gpu=True, below_home=())) == [FINE]
