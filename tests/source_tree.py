"""The package's modules as the tests of the house read them: imports, layers and definitions."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "prefixcap"
ROOMS = ("prefixcap", "tests", "docs", "recipes", "benchmarks", "examples", ".ci")
MAP_ROW = re.compile(r"^\| *(\d+) *\| *`([\w.]+)` *\|([^|]*)\|([^|]*)\|$")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    """One `import` of a module: its dotted name, its line, and whether it runs on importing."""

    name: str
    line: int
    eager: bool


@dataclass(frozen=True)
class MapEntry:
    """One row of docs/map.md."""

    row: int
    torch_free: bool
    text: str


@cache
def map_entries() -> dict[str, MapEntry]:
    """Entry of each module in docs/map.md, by its name without the package's."""
    lines = (REPOSITORY / "docs" / "map.md").read_text(encoding="utf-8").splitlines()
    rows = [match.groups() for line in lines if (match := MAP_ROW.match(line))]
    names = [name for _, name, _, _ in rows]
    assert len(names) == len(set(names)), "docs/map.md lists a module twice"
    return {name: MapEntry(int(row), "free" in mark, text) for row, name, mark, text in rows}


@cache
def modules() -> dict[str, Path]:
    """Path of each module of the package by its name without the package's, as in docs/map.md."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    """`metrics.cider` for prefixcap/metrics/cider.py, `metrics` for its `__init__.py`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def parsed(path: Path) -> ast.Module:
    """Syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def python_files() -> list[Path]:
    """Every Python file of the project."""
    return [path for path in project_files() if path.suffix == ".py"]


@cache
def project_files() -> list[Path]:
    """Every file of the project that people wrote, without what tools leave behind."""
    top = [
        path for path in REPOSITORY.iterdir() if path.is_file() and path.suffix in (".md", ".toml")
    ]
    inner = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*") if path.is_file()]
    return sorted(path for path in top + inner if "__pycache__" not in path.parts)


@cache
def imports(name: str) -> list[Import]:
    """Every import in a module of the package, lazy ones and those for type checkers included."""
    return list(_imports(parsed(modules()[name]), eager=True))


def _imports(node: ast.AST, eager: bool) -> Iterator[Import]:
    """Imports below `node`; `eager` says whether `node` runs when the module is imported."""
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, eager) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative import; write the package's name"
        yield from _imports_from(node, eager)
    else:
        inside = eager and not isinstance(node, FUNCTIONS) and not _is_for_type_checkers(node)
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, inside)


def _imports_from(node: ast.ImportFrom, eager: bool) -> Iterator[Import]:
    """Imports of one `from x import y`: `x.y` where that is a module of ours, else `x`."""
    source = node.module or ""
    for alias in node.names:
        full = f"{source}.{alias.name}"
        is_module = full.removeprefix("prefixcap.") in modules() and full.startswith("prefixcap.")
        yield Import(full if is_module else source, node.lineno, eager)


def _is_for_type_checkers(node: ast.AST) -> bool:
    """Whether `node` is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def inner_imports(name: str) -> list[Import]:
    """Imports of other modules of the package, named as in docs/map.md.

    `import prefixcap` itself (for its version or its folder) is no import of a module.
    """
    return [
        Import(item.name.removeprefix("prefixcap."), item.line, item.eager)
        for item in imports(name)
        if item.name.startswith("prefixcap.")
    ]


def eager_outer_imports(name: str) -> set[str]:
    """Top-level names of the packages that importing module `name` brings in, through ours too."""
    closure, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in closure:
            closure.add(module)
            waiting += [item.name for item in inner_imports(module) if item.eager]
    return {
        item.name.partition(".")[0] for module in closure for item in imports(module) if item.eager
    }


def reached_modules(tree: ast.Module) -> set[str]:
    """Modules of the package that a file's imports bring in, directly or through one another."""
    waiting = [item.name for item in _imports(tree, eager=True)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        short = "__init__" if name == "prefixcap" else name.removeprefix("prefixcap.")
        if short in modules() and short not in found:
            found.add(short)
            waiting += [item.name for item in imports(short)]
    return found
