"""A study: its stores built, its runs trained side by side and scored, its results written."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixcap.atomic import write_json, write_text
from prefixcap.recipe import Recipe, expand
from prefixcap.report.tables import comma_separated, markdown
from prefixcap.study.plan import PlannedRun, Study, planned_runs
from prefixcap.study.results import FILE, study_results
from prefixcap.study.run import Job, Outcome, RunningJob, ScoredSplit, in_one_precision, is_done
from prefixcap.study.tables import study_tables

LOOKS_S = 0.2  # between looks at the processes
WORKING_MIB = 1500  # memory that a small run takes; --jobs by default leaves room for it


@dataclass(frozen=True)
class Event:
    """Something that a study says while it runs: how many runs are over, and one line."""

    done: int
    runs: int
    line: str


class Stopping(Exception):
    """The study was asked to stop; its runs are saved."""


@dataclass(frozen=True)
class Controls:
    """How a study runs: processes side by side, whom it tells, and whether it shall stop."""

    jobs: int
    tell: Callable[[Event], None]
    asked_to_stop: Callable[[], int]


def run_study(study: Study, file: Path, folder: Path, controls: Controls) -> dict[str, Any]:
    """Results of all runs, those that are done from before included; all files are written.

    A run that fails is a row with its reason, and the others go on.

    Raises:
        InputError: a recipe of the study cannot be read.
        Stopping: it was asked to stop; what is there so far is written.
    """
    jobs = {run.name: _job(run, run.load(file), study, folder) for run in planned_runs(study)}
    jobs = in_one_precision(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    waiting = {name: job for name, job in jobs.items() if not is_done(job)}
    crew = _Crew(controls, len(jobs), len(jobs) - len(waiting))
    try:
        stores = crew.work(_store_jobs(list(waiting.values()), folder))
        broken = {name: outcome for name, outcome in stores.items() if outcome.status != "done"}
        for name, job in list(waiting.items()):
            if job.recipe.store in broken:
                failures[name] = f"store {job.recipe.store}: {broken[job.recipe.store].reason}"
                del waiting[name]
        ended = crew.work(waiting)
        failures |= {name: one.reason for name, one in ended.items() if one.status == "failed"}
    finally:
        results = study_results(study, folder, failures)
        write_results(folder, results)
    return results


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write `study.json` and the tables."""
    write_json(folder / FILE, results)
    tables = study_tables(results)
    text = "\n".join(markdown(table) for table in tables)
    write_text(folder / "table.md", f"# {results['title']}\n\n{text}")
    write_text(folder / "table.csv", "\n".join(comma_separated(table) for table in tables))


def default_jobs(recipes: Sequence[Recipe]) -> int:
    """Runs that this machine's free cores and memory have room for side by side, at least one."""
    threads = max([1, *(recipe.train.threads for recipe in recipes)])
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(cores // threads, _free_mib() // WORKING_MIB))


def _free_mib() -> int:
    """Memory that can be had, in MiB; where the system does not tell, what a run takes."""
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="ascii").splitlines() if meminfo.is_file() else []
    found = [int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else WORKING_MIB


def _job(run: PlannedRun, recipe: Recipe, study: Study, folder: Path) -> Job:
    """The process of one run."""
    sources = {"dev": recipe.dev, "test": recipe.test}[study.split]
    splits = [
        ScoredSplit(study.split, number, None, study.metrics, study.tokenizer)
        for number in range(max(1, len(sources)))
    ]
    if study.train_images:
        first = study.train_images
        splits.append(ScoredSplit("train", 0, first, study.metrics, study.tokenizer))
    return Job("run", recipe, folder / run.name, tuple(splits))


def _store_jobs(jobs: Sequence[Job], folder: Path) -> dict[str, Job]:
    """A process for each store that the runs need and that is not whole."""
    recipes = {job.recipe.store: job.recipe for job in reversed(jobs) if job.recipe.store}
    return {
        store: Job("embed", recipe, folder / "stores" / f"{number}")
        for number, (store, recipe) in enumerate(recipes.items())
        if not (expand(store) / "index.json").is_file()
    }


class _Crew:
    """Works through jobs, so many at a time."""

    def __init__(self, controls: Controls, runs: int, done: int) -> None:
        self.controls, self.runs, self.done = controls, runs, done
        if done:
            self._tell(f"{done} of {runs} runs were done before")

    def work(self, jobs: dict[str, Job]) -> dict[str, Outcome]:
        """How each job ended, by name.

        Raises:
            Stopping: it was asked to stop; the jobs that ran are saved.
        """
        waiting, running, ended = list(jobs.items()), {}, {}
        try:
            while waiting or running:
                if self.controls.asked_to_stop():
                    raise Stopping
                while waiting and len(running) < self.controls.jobs:
                    name, job = waiting.pop(0)
                    running[name] = RunningJob(job)
                    self._tell(f"{name}: begun, {running[name].what}")
                for name in [name for name, one in running.items() if one.ended]:
                    ended[name] = self._end(name, running.pop(name))
                time.sleep(LOOKS_S)
        finally:
            for one in running.values():
                one.stop()
            for one in running.values():
                one.outcome()
        return ended

    def _end(self, name: str, running: RunningJob) -> Outcome:
        """How a job ended, told."""
        outcome = running.outcome()
        self.done += running.job.what == "run" and outcome.status != "stopped"
        minutes = math.ceil((time.monotonic() - running.began) / 6) / 10
        said = f"{outcome.status}: {outcome.reason}" if outcome.reason else "done"
        self._tell(f"{name}: {said} ({minutes:.1f} min)")
        return outcome

    def _tell(self, line: str) -> None:
        self.controls.tell(Event(self.done, self.runs, line))
