"""The house of docs/map.md and its rules, held to the code."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source_tree import (
    FUNCTIONS,
    PACKAGE,
    REPOSITORY,
    eager_outer_imports,
    inner_imports,
    map_entries,
    modules,
    parsed,
    project_files,
    python_files,
    reached_modules,
)

ENTRIES = ("__init__", "__main__")
LONGEST_FUNCTION = 60
LONGEST_FILE = 400
DEEPEST_NESTING = 3
MOST_PARAMETERS = 6
BANNED = {"util", "utils", "helper", "helpers", "common", "base", "misc", "manager", "legacy"}
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
TEXT_SUFFIXES = {".py", ".md", ".toml", ".html", ".css", ".js", ".txt", ""}
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users|opt|mnt)/")
LOOSE_ENDS = re.compile(r"\b(?:TODO|FIXME|XXX)\b|# noqa|type: ignore|NotImplementedError")
TESTED_BY = {  # modules without a test file of their own, and the one that covers them
    "__init__": "test_imports.py",
    "__main__": "cli/test_main.py",
    "caption_batch": "test_model.py",
    "checkpoint": "test_train.py",
    "cli.calibrate": "test_calibration.py",
    "cli.demo": "test_demo.py",
    "cli.doctor": "test_doctor.py",
    "cli.model": "cli/test_main.py",
    "cli.scoring": "cli/test_evaluate.py",
    "cli.source": "cli/test_data.py",
    "errors": "cli/test_main.py",
}


def report(found: list[str]) -> None:
    """Fail with every line of `found`, if there is one."""
    assert not found, "\n" + "\n".join(found)


def shown(path: Path) -> str:
    """`path` as it is written in messages."""
    return str(path.relative_to(REPOSITORY))


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method of the project's Python files."""
    for path in python_files():
        for node in ast.walk(parsed(path)):
            if isinstance(node, FUNCTIONS):
                yield path, node


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Deepest nesting of blocks below `node`; an `elif` is no deeper than its `if`."""
    deepest = depth
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        is_elif = field == "orelse" and len(children) == 1 and isinstance(children[0], ast.If)
        for child in children:
            if isinstance(child, FUNCTIONS) or not isinstance(child, ast.AST):
                continue
            deeper = isinstance(child, BLOCKS) and not (is_elif and isinstance(node, ast.If))
            deepest = max(deepest, nesting(child, depth + deeper))
    return deepest


def words(name: str) -> set[str]:
    """Lower-case words of an identifier in either spelling."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_map_lists_every_module_and_nothing_else():
    report([f"not in docs/map.md: {name}" for name in set(modules()) - set(map_entries())])
    report([f"not in the package: {name}" for name in set(map_entries()) - set(modules())])


def test_map_says_in_a_few_words_what_each_module_holds():
    report([name for name, entry in map_entries().items() if len(entry.text.split()) < 3])


def test_imports_point_down_the_map():
    """Lazy imports too. A package's own modules may import each other within their row."""
    wrong = []
    for name in modules().keys() & map_entries().keys():
        for item in inner_imports(name):
            row, below = map_entries()[name].row, map_entries()[item.name].row
            package = name.partition(".")[0]
            same_room = row == below and package == item.name.partition(".")[0]
            if below >= row and not same_room:
                wrong.append(f"{name}:{item.line} (row {row}) imports {item.name} (row {below})")
    report(sorted(set(wrong)))


def test_no_import_cycles():
    graph = {name: {item.name for item in inner_imports(name)} for name in modules()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(modules())


def test_metrics_import_nothing_else_of_the_package():
    """So that they can be lifted out; errors and atomic writes would go along."""
    allowed = {"errors", "atomic"}
    outside = {
        item.name
        for name in modules()
        if name.partition(".")[0] == "metrics"
        for item in inner_imports(name)
        if item.name.partition(".")[0] != "metrics" and item.name not in allowed
    }
    assert outside == set()


@pytest.mark.parametrize(
    "name", [name for name, entry in map_entries().items() if entry.torch_free]
)
def test_module_marked_free_of_torch_imports_none(name: str):
    assert eager_outer_imports(name) & {"torch", "transformers"} == set()


def test_modules_that_must_be_free_of_torch_are_marked():
    families = (
        "errors",
        "atomic",
        "config",
        "images",
        "preprocess",
        "doctor",
        "metrics",
        "datasets",
    )
    marked = {name for name, entry in map_entries().items() if entry.torch_free}
    required = {
        name
        for name in modules()
        if name.partition(".")[0] in families or name.startswith("cli.") or name in ENTRIES
    }
    assert required - marked == set()


def test_functions_are_at_most_60_lines():
    sizes = [(path, node, node.end_lineno - node.lineno + 1) for path, node in functions()]
    report(
        [
            f"{shown(path)}:{node.lineno} {node.name}: {size} lines"
            for path, node, size in sizes
            if size > LONGEST_FUNCTION
        ]
    )


def test_files_are_at_most_400_lines():
    sizes = {shown(path): path.read_text("utf-8").count("\n") for path in python_files()}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE} == {}


def test_blocks_nest_at_most_three_deep():
    report(
        [
            f"{shown(path)}:{node.lineno} {node.name}: {nesting(node)} deep"
            for path, node in functions()
            if nesting(node) > DEEPEST_NESTING
        ]
    )


def test_nesting_counts_blocks_and_not_elif():
    code = "def f():\n for a in b:\n  if a: 1\n  elif b: 2\n  elif c:\n   with d: 3\n"
    assert nesting(ast.parse(code).body[0]) == 3


def test_functions_take_at_most_six_parameters():
    """More become a dataclass; commands are the exception, since typer reads options from them."""
    crowded = []
    for path, node in functions():
        if PACKAGE not in path.parents or path.parent == PACKAGE / "cli":
            continue
        names = [
            item.arg for item in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        ]
        if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
            crowded.append(f"{shown(path)}:{node.lineno} {node.name}: {len(names)}")
    report(crowded)


def test_nothing_is_named_for_being_a_drawer():
    """No module or class has such a word in its name, and no function ends in one.

    "common" is a word of the field in functions: the longest common subsequence of ROUGE-L.
    """
    found = [shown(path) for path in python_files() if words(path.stem) & BANNED]
    for path in python_files():
        for node in ast.walk(parsed(path)):
            named = set()
            if isinstance(node, ast.ClassDef):
                named = words(node.name)
            elif isinstance(node, FUNCTIONS):
                named = {node.name.rpartition("_")[2]} - {"common"}
            if named & BANNED:
                found.append(f"{shown(path)}:{node.lineno} {node.name}")
    report(found)


def test_only_the_command_line_prints_or_exits():
    refused = {"print", "exit", "quit", "sys.exit", "os._exit", "SystemExit", "input"}
    found = []
    for name, path in modules().items():
        if name.startswith("cli.") or name in ENTRIES:
            continue
        calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
        found += [
            f"{shown(path)}:{node.lineno}" for node in calls if ast.unparse(node.func) in refused
        ]
    report(found)


def own_test(name: str) -> Path:
    """Where the tests of a module are when they mirror it."""
    path = modules()[name].relative_to(PACKAGE)
    stem = path.parent.name if path.name == "__init__.py" and name != "__init__" else path.stem
    return REPOSITORY / "tests" / path.parent / f"test_{stem}.py"


def test_every_module_has_its_test_file():
    expected = {
        name: own_test(name)
        for name, path in modules().items()
        if name not in TESTED_BY and len(parsed(path).body) > 1  # more than a docstring
    }
    report([f"{name}: no {shown(path)}" for name, path in expected.items() if not path.is_file()])


def test_exceptions_from_the_test_rule_are_needed_and_covered():
    report([f"{name}: no such module" for name in set(TESTED_BY) - set(modules())])
    report(
        [f"{name}: has {shown(own_test(name))}" for name in TESTED_BY if own_test(name).is_file()]
    )
    for name, file in TESTED_BY.items():
        reached = reached_modules(parsed(REPOSITORY / "tests" / file))
        assert name == "__main__" or name in reached, f"{file} does not reach {name}"


def test_no_text_names_a_folder_of_one_machine():
    found = []
    for path in project_files():
        if path.suffix in TEXT_SUFFIXES:
            lines = path.read_text("utf-8", errors="replace").splitlines()
            found += [
                f"{shown(path)}:{number}"
                for number, line in enumerate(lines, 1)
                if MACHINE_PATH.search(line)
            ]
    report([item for item in found if not item.startswith("tests/test_house.py")])


def test_no_loose_ends_in_the_package():
    found = []
    for path in modules().values():
        lines = path.read_text("utf-8").splitlines()
        found += [
            f"{shown(path)}:{number}: {line.strip()}"
            for number, line in enumerate(lines, 1)
            if LOOSE_ENDS.search(line)
        ]
    report(found)


@pytest.mark.parametrize("check", [("format", "--check"), ("check",)], ids=["format", "lint"])
def test_ruff_has_nothing_to_say(check: tuple[str, ...]):
    command = [sys.executable, "-m", "ruff", *check, "--quiet", "--no-cache", "."]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
