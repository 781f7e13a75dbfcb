"""The model that the command line names: `lr serve -m FILE`, `lr serve -hf USER/MODEL`.

It is a section that nobody had to write, so everything that holds for a preset's section holds for it: the files that
go with it, the download of what is not here, the options of all models beneath it. It is loaded at start.

Its id is the first name of `--alias`, as a llama-server with one model calls itself; else that of the file, as in
--models-dir, or `user/repo:QUANT`. The other names, and these two, mean it as well.
"""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.fetch_events import FetchError
from llamarouter.core.flags import COMMAND_LINE
from llamarouter.core.hub_names import parse_spec
from llamarouter.core.ids import id_in_models_folder
from llamarouter.core.ini import GLOBAL_SECTION, Key, Section
from llamarouter.core.own_values import OwnValues

_COMPANIONS = ("--hf-file", "--mmproj", "--alias")


class OneModel(Struct, frozen=True):
    """`said`: as the operator named it, with the option, for messages; `keys`: what a section would say."""

    id: str
    said: str
    keys: tuple[tuple[str, str], ...]

    def section(self, over: Section | None = None) -> Section:
        """The section that it is; with what a preset's section of the same name says over it."""
        keys = tuple(Key(name, value, COMMAND_LINE, 0) for name, value in self.keys)
        if over is None:
            return Section(self.id, keys, COMMAND_LINE, 0)
        return Section(self.id, keys + over.keys, over.file, over.line, over.problem)


def one_model_of(values: OwnValues) -> OneModel | None:
    """The model that `-m` or `-hf` names, None without them. Raises `UsageError`."""
    path, repo = values.text("--model"), values.text("--hf-repo")
    file, mmproj, alias = (values.text(name) for name in _COMPANIONS)
    if path is None and repo is None:
        for name, value in zip(_COMPANIONS, (file, mmproj, alias), strict=True):
            if value is not None:
                raise UsageError(f"{values.written(name)} belongs to one model: name it by -m FILE or -hf USER/MODEL")
        return None
    if path is not None and repo is not None:
        raise UsageError("-m and -hf name a model each: leave one of them out")
    if path is not None and file is not None:
        raise UsageError("--hf-file is a file of the repository that -hf names, and -m names another: leave one out")
    names = _names(alias, values.written("--alias"))
    if path is not None:
        natural, said = id_in_models_folder(path.rpartition("/")[2]) or path, f"{values.written('--model')} {path}"
        keys = [("model", path)]
    else:
        natural, said = _wanted(repo or "", file, values), f"{values.written('--hf-repo')} {repo}"
        keys = [("hf-repo", repo or ""), *([("hf-file", file)] if file is not None else [])]
    id, *others = names or [natural]
    if mmproj is not None:
        keys.append(("mmproj", mmproj))
    aliases = [name for name in dict.fromkeys([*others, natural]) if name != id and "," not in name]
    if aliases:
        keys.append(("alias", ",".join(aliases)))
    return OneModel(id, said, (*keys, ("load-on-startup", "true")))


def _names(alias: str | None, where: str) -> list[str]:
    names = [name for part in (alias or "").split(",") if (name := part.strip())]
    if alias is not None and not names:
        raise UsageError(f"{where} {alias!r} holds no name")
    if GLOBAL_SECTION in names:
        raise UsageError(f"{where} {GLOBAL_SECTION}: that means every model in a preset, and can be none's name")
    return list(dict.fromkeys(names))


def _wanted(repo: str, file: str | None, values: OwnValues) -> str:
    spec = f"{repo.partition(':')[0]}/{file}" if file is not None else repo
    try:
        wanted = parse_spec(spec)
    except FetchError as error:
        raise UsageError(f"{values.written('--hf-repo')} {error.message}") from error
    return str(wanted) if wanted.tag is None else f"{wanted.repo}:{wanted.tag.upper()}"
