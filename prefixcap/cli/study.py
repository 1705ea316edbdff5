"""`prefixcap study`: a recipe with changes and seeds, all of it run, scored, tabled and drawn."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixcap.cli.progress import Stopped
from prefixcap.cli.tables import show_table
from prefixcap.cli.watch import Watcher
from prefixcap.errors import MissingExtraError
from prefixcap.signals import interruptible

if TYPE_CHECKING:
    from prefixcap.study.plan import Study
    from prefixcap.study.schedule import Event


def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study: a .toml file.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Of every run: --set train.epochs=2")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("runs/studies"),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side. Default: what there is room for.")
    ] = None,
    only_table: Annotated[
        bool, typer.Option("--only-table", help="Run nothing; table and figure of what is there.")
    ] = False,
) -> None:
    """Run every variant of a study and score it; stopped, the same command goes on.

    Writes study.json, table.md, table.csv and figure.svg, .pdf and .png (figure-2 and so on where
    there are several) to RUNS/NAME. The exit code is 1 where a run failed or was left out.
    """
    from prefixcap.study.plan import load_study
    from prefixcap.study.results import study_results
    from prefixcap.study.schedule import write_results

    plan = load_study(file, settings)
    folder = runs / plan.name
    if only_table:
        results = study_results(plan, folder, {})
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, results)
    else:
        results = _run(plan, file, folder, jobs)
    if results is not None:
        _show(folder, results)


def _run(plan: "Study", file: Path, folder: Path, jobs: int | None) -> dict[str, Any] | None:
    """Results of the study's runs; None where it was stopped by SIGTERM.

    Raises:
        Stopped: it was stopped by Ctrl-C.
    """
    from prefixcap.study.plan import planned_runs
    from prefixcap.study.schedule import Controls, Stopping, default_jobs, run_study

    recipes = [run.load(file) for run in planned_runs(plan)]
    with Watcher() as watcher, interruptible() as asked_to_stop:
        controls = Controls(jobs or default_jobs(recipes), _teller(watcher), asked_to_stop)
        try:
            return run_study(plan, file, folder, controls)
        except Stopping:
            saved = f"{folder}: saved; the same command continues"
    if asked_to_stop() == signal.SIGINT:
        raise Stopped(saved)
    typer.echo(saved, err=True)  # SIGTERM is how schedulers end a job that will go on: no failure
    return None


def _teller(watcher: Watcher) -> Callable[["Event"], None]:
    """What a study says, as the watcher's count of runs and lines."""

    def tell(event: "Event") -> None:
        typer.echo(event.line, err=True)
        watcher.show("runs", event.done, event.runs)

    return tell


def _show(folder: Path, results: dict[str, Any]) -> None:
    """Draw the figure, print the tables and what is missing in them."""
    from prefixcap.study.figure import write_figures
    from prefixcap.study.tables import problems, study_tables

    for table in study_tables(results):
        show_table(
            table.caption, table.columns, [[cell.text for cell in row] for row in table.rows]
        )
    try:
        written = write_figures(folder)
    except MissingExtraError as error:
        written = []
        typer.echo(f"no figure: {error}", err=True)
    for line in problems(results):
        typer.echo(line, err=True)
    files = ["study.json", "table.md", "table.csv", *(path.name for path in written)]
    typer.echo(f"{folder}: {', '.join(files)}")
    if any(run["status"] != "done" for row in results["rows"] for run in row["runs"]):
        raise typer.Exit(1)
