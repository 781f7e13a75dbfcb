"""A launch and its command line."""

from __future__ import annotations

from llamarouter.core.flags import OptionTable
from llamarouter.core.fold import defaults_of, flags_of, fold, given_of, in_order, in_table
from llamarouter.core.launch import Flag, Launch
from tests.catalogs import LOCAL, catalog_of, entry_of
from tests.engine_table import TABLE


def test_argv_has_every_word_in_order() -> None:
    flags = (Flag("--a", ("1", "2"), "here"), Flag("--b", (), "there"), Flag("--c", ("",), "x"))
    assert Launch(None, flags).argv() == ("--a", "1", "2", "--b", "--c", "")


def test_the_last_layer_that_names_an_option_wins() -> None:
    first, second = given_of(TABLE, "-c", ("1",), "one"), given_of(TABLE, "--ctx-size", ("2",), "two")
    assert first is not None
    assert second is not None
    assert flags_of(in_order(fold([[first], [second]]))) == (Flag("--ctx-size", ("2",), "two"),)
    assert flags_of(in_order(fold([[second], [first]]))) == (Flag("--ctx-size", ("1",), "one"),)


def test_off_is_the_last_negative_spelling_or_nothing() -> None:
    words = []
    for name in ("-nocb", "--no-webui", "--no-mmproj"):
        given = given_of(TABLE, name, (), "x")
        assert given is not None
        words += [flag.option for flag in flags_of(in_order(fold([[given]])))]
    assert words == ["--no-cont-batching", "--no-webui", "--no-mmproj-auto"]


def test_an_engine_gets_only_defaults_that_it_knows() -> None:
    assert [given.written for given in defaults_of(TABLE)] == ["--threads-http", "--offline", "--metrics"]
    assert defaults_of(OptionTable(())) == []


def test_an_option_of_another_arity_is_another_option() -> None:
    other = OptionTable.parse("--jinja MODE                            how\n")
    given = given_of(TABLE, "--jinja", (), "x")
    assert given is not None
    assert in_table(given, other) is None
    assert given_of(other, "--zzz", (), "x") is None


def test_a_launch_is_the_same_where_only_its_lines_in_the_file_have_moved() -> None:
    def launch(preset: str) -> Launch | None:
        return entry_of(catalog_of(preset, models=[LOCAL]), "local").launch

    assert launch("[local]\nc = 4\n") == launch("; a comment\n\n[local]\nc = 4\n")
    assert launch("[local]\nc = 4\n") != launch("[local]\nc = 5\n")
