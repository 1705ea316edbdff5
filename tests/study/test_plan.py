"""Studies as they are planned: variants, their settings, and the files in recipes/studies."""

from pathlib import Path

import pytest

from prefixcap.config import read_toml
from prefixcap.study.plan import Study, load_study, planned_runs, variants
from tests.source_tree import REPOSITORY

FOLDER = REPOSITORY / "recipes" / "studies"
STUDIES = sorted(path for path in FOLDER.glob("*.toml") if "axes" in read_toml(path))
AXES = [
    {"name": "mapper", "values": [{"name": "MLP", "set": ["a=1"]}, {"name": "T", "recipe": "t"}]},
    {"name": "k", "set": ["b={}", "c=x{}"], "numbers": [1, 40]},
]


def study(**more) -> Study:
    return Study.model_validate({"name": "s", "title": "S", "recipe": "r", "axes": AXES, **more})


def test_a_grid_is_every_combination_the_last_axis_fastest():
    found = variants(study(set=["d=2"]))
    assert [variant.settings for variant in found] == [
        {"mapper": "MLP", "k": 1},
        {"mapper": "MLP", "k": 40},
        {"mapper": "T", "k": 1},
        {"mapper": "T", "k": 40},
    ]
    assert found[1].overrides == ("a=1", "b=40", "c=x40", "d=2")
    assert [variant.recipe for variant in found] == ["r", "r", "t", "t"]
    assert (found[3].name, found[3].slug) == ("T, k 40", "T-k-40")


def test_runs_go_seed_by_seed():
    names = [run.name for run in planned_runs(study(seeds=[3, 5]))]
    assert names[:5] == ["MLP-k-1-seed3", "MLP-k-40-seed3", "T-k-1-seed3", "T-k-40-seed3", names[4]]
    assert names[4] == "MLP-k-1-seed5"


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": [1, 1]},
        {"axes": [AXES[0], AXES[0]]},
        {"axes": [{"name": "k", "numbers": [1]}]},
        {"figure": {"kind": "lines", "x": "mapper"}},
        {"metrics": ["clip"]},
    ],
)
def test_what_makes_no_study_is_refused(wrong):
    with pytest.raises(ValueError):
        study(**wrong)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_project_has_runs_that_can_be_loaded(path: Path):
    plan = load_study(path)
    assert plan.name == path.stem
    recipes = [run.load(path) for run in planned_runs(plan)]
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    assert all({"dev": r.dev, "test": r.test}[plan.split] for r in recipes)
    assert {recipe.train.seed for recipe in recipes} == set(plan.seeds)
    for line in path.read_text().splitlines()[:12]:
        if line.startswith("# Cost:"):
            assert f"{len(recipes)} runs" in line
