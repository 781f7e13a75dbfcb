"""The model that the command line names: its id and its other names, its files, and what is listed beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from llamarouter.core.catalog import Catalog
from llamarouter.core.errors import UsageError
from llamarouter.core.flags import OptionTable
from llamarouter.core.settings import Settings, parse_settings
from tests.catalogs import CACHED, LOCAL, catalog_of, entry_of, flags_of, warnings_of
from tests.engine_table import TABLE


def settings_of(*argv: str, **environ: str) -> Settings:
    return parse_settings(argv, environ, TABLE, lambda path: "")


def names_of(argv: Sequence[str], **environ: str) -> tuple[str, tuple[str, ...]]:
    """The id, and the aliases."""
    catalog = catalog_of(argv=argv, environ=environ)
    (entry,) = catalog.entries.values()
    assert settings_of(*argv, **environ).default_model == entry.id
    return entry.id, entry.aliases


@pytest.mark.parametrize(
    ("argv", "id", "aliases"),
    [
        (["-m", "folder/M-Q8_0.gguf"], "M-Q8_0", ()),
        (["--model", "/f/M-BF16-00001-of-00002.gguf"], "M-BF16", ()),
        (["-m", "M", "--alias", "gpt-4"], "gpt-4", ("M",)),
        (["-m", "M.gguf", "--alias", "b, a,b"], "b", ("M", "a")),
        (["-m", "M.gguf", "--alias", "M"], "M", ()),
        (["-m", "a,b.gguf"], "a,b", ()),
        (["-m", "a,b.gguf", "--alias", "c"], "c", ()),
        (["-hf", "user/repo"], "user/repo", ()),
        (["-hf", "user/repo:q8_0"], "user/repo:Q8_0", ()),
        (["-hf", "https://huggingface.co/user/repo"], "user/repo", ()),
        (["-hfr", "user/repo", "-hff", "sub/x.gguf"], "user/repo/sub/x.gguf", ()),
        (["-hf", "user/repo:Q8_0", "-hff", "x.gguf"], "user/repo/x.gguf", ()),
        (["-hf", "user/repo", "-a", "mine"], "mine", ("user/repo",)),
    ],
)
def test_what_it_is_called(argv: list[str], id: str, aliases: tuple[str, ...]) -> None:
    assert names_of(argv) == (id, aliases)


def test_no_model_is_called_as_all_of_them() -> None:
    with pytest.raises(UsageError, match="--alias \\*: that means every model in a preset"):
        settings_of("-m", "M.gguf", "--alias", "a,*")


def test_variables_name_it_as_well() -> None:
    assert names_of([], LLAMA_ARG_MODEL="x/M.gguf", LLAMA_ARG_ALIAS="n") == ("n", ("M",))
    assert names_of([], LLAMA_ARG_HF_REPO="u/r", LLAMA_ARG_HF_FILE="x.gguf") == ("u/r/x.gguf", ())
    assert names_of(["-m", "N.gguf"], LLAMA_ARG_MODEL="x/M.gguf") == ("N", ())


def test_it_is_loaded_at_start_with_its_files_and_the_options_of_all() -> None:
    catalog = catalog_of(argv=["-m", "M.gguf", "--mmproj", "p.gguf", "-c", "99", "-md", "d.gguf"])
    assert entry_of(catalog, "M").load_on_startup
    flags = flags_of(catalog, "M")
    assert flags["--model"] == ("/cwd/M.gguf", "command line")
    assert flags["--mmproj"] == ("/cwd/p.gguf", "command line")
    assert flags["--model-draft"] == ("/cwd/d.gguf", "command line")
    assert flags["--ctx-size"] == ("99", "command line")
    assert flags["--alias"] == ("M", "llamarouter (always)")


def test_what_is_in_the_cache_is_started_from_its_file() -> None:
    catalog = catalog_of(argv=["-hf", "user/repo", "--alias", "x"], repos={"user/repo": CACHED})
    entry = entry_of(catalog, "x")
    assert CACHED.files is not None
    assert flags_of(catalog, "x")["--model"] == (CACHED.files.model, "command line (in the cache)")
    assert "--hf-repo" not in flags_of(catalog, "x")
    assert entry.hf_wanted is None
    # By any of its names.
    for name in ("x", "user/repo", "user/repo:Q4_K_M", "user/repo:q4_k_m"):
        assert catalog.resolve(name) is entry


def test_what_is_not_here_is_fetched_by_the_router() -> None:
    entry = entry_of(catalog_of(argv=["-hf", "user/repo:Q8_0"]), "user/repo:Q8_0")
    assert (entry.launch, entry.problem, entry.hf_wanted) == (None, None, "user/repo:Q8_0")
    draft = entry_of(catalog_of(argv=["-m", "M.gguf", "-hfd", "user/draft"]), "M")
    assert (draft.launch, draft.hf_wanted) == (None, "user/draft")


@pytest.mark.parametrize(
    ("argv", "with_projector"),
    [
        ([], True),
        (["--mmproj-auto"], True),
        (["--no-mmproj"], False),
        (["--no-mmproj-auto"], False),
        (["--mmproj", "mine.gguf"], False),
    ],
)
def test_the_projector_is_fetched_unless_it_is_not_used(argv: list[str], with_projector: bool) -> None:
    entry = entry_of(catalog_of(argv=["-hf", "user/repo", *argv]), "user/repo")
    assert (entry.hf_wanted, entry.with_projector) == ("user/repo", with_projector)


def test_an_engine_that_cannot_download_serves_it_as_well() -> None:
    table = OptionTable(option for option in TABLE.options if "--hf-repo" not in option.names)
    catalog = catalog_of(argv=["-hf", "user/repo"], repos={"user/repo": CACHED}, tables={None: table})
    assert CACHED.files is not None
    assert flags_of(catalog, "user/repo")["--model"][0] == CACHED.files.model


def test_only_what_is_named_is_listed_beside_it() -> None:
    models = [CACHED, LOCAL]
    assert list(catalog_of(argv=["-m", "M.gguf"], models=models).entries) == ["M", "local"]
    beside = catalog_of(f"[{CACHED.id}]\nctx-size = 5\n[p]\nmodel = p.gguf\n", argv=["-m", "M.gguf"], models=models)
    assert list(beside.entries) == ["M", "local", "p", CACHED.id]
    assert warnings_of(beside) == []
    assert list(catalog_of(models=models).entries) == ["local", CACHED.id]


def test_a_section_of_its_name_is_laid_over_it() -> None:
    catalog = catalog_of("[M]\nctx-size = 5\nalias = y\n", argv=["-m", "M.gguf", "-c", "9"])
    assert flags_of(catalog, "M")["--ctx-size"] == ("5", "p.ini:2")
    assert flags_of(catalog, "M")["--model"] == ("/cwd/M.gguf", "command line")
    assert entry_of(catalog, "M").aliases == ("y",)
    own = catalog_of("[M]\nmmproj = own.gguf\n", argv=["-m", "M.gguf", "--mmproj", "other.gguf"])
    assert flags_of(own, "M")["--mmproj"] == ("/cwd/own.gguf", "p.ini:2")
    broken = catalog_of("[M]\nfrobnicate = 5\n", argv=["-m", "M.gguf"])
    assert "frobnicate" in (entry_of(broken, "M").problem or "")


def test_a_file_that_is_not_there_is_its_problem() -> None:
    entry = entry_of(catalog_of(argv=["-m", "missing.gguf"]), "missing")
    assert entry.problem == "/cwd/missing.gguf: no such file"


def test_the_default_may_be_another_one() -> None:
    assert settings_of("-m", "M.gguf", "--default-model", "z").default_model == "z"
    assert settings_of("--models-dir", "d").default_model is None


def test_drafts_and_tags_for_all_models_may_be_named_anywhere() -> None:
    bare = replace(LOCAL, id="bare", files=replace(LOCAL.files, draft=None) if LOCAL.files else None)

    def draft(catalog: Catalog, name: str = "bare") -> tuple[str, str]:
        return flags_of(catalog, name)["--model-draft"]

    both = [bare, LOCAL]
    assert draft(catalog_of(models=both, argv=["-md", "d.gguf"])) == ("/cwd/d.gguf", "command line")
    assert draft(catalog_of(models=both, argv=["-md", "d.gguf"]), "local")[0] == "/models/mtp-local.gguf"
    variable = {"LLAMA_ARG_SPEC_DRAFT_MODEL": "e.gguf"}
    assert draft(catalog_of(models=both, environ=variable))[1] == "environment LLAMA_ARG_SPEC_DRAFT_MODEL"
    assert draft(catalog_of("[*]\nmodel-draft = f.gguf\n", models=both, environ=variable))[0] == "/cwd/f.gguf"
    text = "[*]\nmodel-draft = f.gguf\n[bare]\nmodel-draft = g.gguf\n"
    assert draft(catalog_of(text, models=both, argv=["-md", "d.gguf"]))[0] == "/cwd/g.gguf"
    tagged = catalog_of("[*]\ntags = z\n[local]\ntags = y\n", models=both, argv=["--tags", "b,a"])
    assert (entry_of(tagged, "bare").tags, entry_of(tagged, "local").tags) == (("a", "b"), ("y",))
    assert flags_of(tagged, "bare")["--tags"] == ("a,b", "llamarouter (always)")
