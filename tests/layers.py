"""Reads a package's imports and says which of them point up, go round in a circle, or touch the world from the core.

cli -> server -> relay, host -> core        relay and host do not know each other; the core knows nothing else
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# What each layer may import besides itself.
BELOW = {
    "cli": {"server", "relay", "host", "core"},
    "server": {"relay", "host", "core"},
    "relay": {"core"},
    "host": {"core"},
    "core": set[str](),
}
# The world: what the core may not touch. It gets data and gives data.
WORLD = (
    *("asyncio", "concurrent", "ctypes", "fcntl", "http.client", "http.server", "httptools", "httpx"),
    *("huggingface_hub", "logging", "mmap", "multiprocessing", "os", "pathlib", "random", "select", "selectors"),
    *("shutil", "signal", "socket", "ssl", "starlette", "subprocess", "sys", "tempfile", "threading", "time"),
    *("urllib.request", "uuid", "uvicorn", "uvloop", "xllamacpp", "click", "rich"),
)
# Only the command line prints and parses options.
CLI_ONLY = frozenset({"click", "rich"})


def complaints_of(package: Path) -> list[str]:
    """What is wrong with the imports of the package in that folder, a line each."""
    modules = {_name_of(file, package): file for file in sorted(package.rglob("*.py"))}
    graph: dict[str, set[str]] = {}
    complaints = []
    for module, file in modules.items():
        graph[module] = set()
        for imported, runs, line in _imports_of(file, module):
            where = f"{module}:{line}"
            target = _module_in(modules, imported)
            if target is not None:
                complaints += _upward(where, module, target, package.name)
                if runs and target != module:
                    graph[module].add(target)
            else:
                complaints += _foreign(where, module, imported)
    return complaints + _cycles(graph)


def _upward(where: str, module: str, target: str, package: str) -> list[str]:
    layer, other = _layer_of(module), _layer_of(target)
    if other is None:
        return []  # the package itself: its version
    if layer is None:
        # `__main__` starts the command line; the package's own `__init__` imports nothing.
        return [] if module == f"{package}.__main__" and other == "cli" else [f"{where} imports {target}"]
    if layer == other or other in BELOW.get(layer, set()):
        return []
    return [f"{where}: {layer} imports {target}, which is not below it"]


def _foreign(where: str, module: str, imported: str) -> list[str]:
    top = imported.partition(".")[0]
    layer = _layer_of(module)
    if layer == "core" and f"{imported}.".startswith(tuple(f"{name}." for name in WORLD)):
        return [f"{where}: the core imports {imported}"]
    if layer != "cli" and top in CLI_ONLY:
        return [f"{where}: {imported} belongs to the command line"]
    return []


def _cycles(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["a circle: " + " -> ".join(error.args[1])]
    return []


def _name_of(file: Path, package: Path) -> str:
    parts = (package.name, *file.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def _module_in(modules: dict[str, Path], imported: str) -> str | None:
    """The module of ours that an imported name means: itself, or the one that the name is taken from."""
    while imported:
        if imported in modules:
            return imported
        imported = imported.rpartition(".")[0]
    return None


def _imports_of(file: Path, module: str) -> Iterator[tuple[str, bool, int]]:
    """(imported name, whether the import runs when the module is imported, line) of each import, nested ones too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    late = {id(inner) for node in ast.walk(tree) if _runs_later(node) for inner in ast.walk(node)}
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in late, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join((*above, base) if base else above)
            for alias in node.names:
                yield f"{base}.{alias.name}", id(node) not in late, node.lineno


def _runs_later(node: ast.AST) -> bool:
    """Functions run when they are called, and `if TYPE_CHECKING:` never does."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return True
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
