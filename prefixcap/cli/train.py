"""`prefixcap embed` and `prefixcap train`: recipes to embedding stores and to weights."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefixcap.cli.progress import Stopped, counted, name_skipped
from prefixcap.cli.watch import Watcher
from prefixcap.signals import Terminated, terminable

if TYPE_CHECKING:
    from prefixcap.recipe import Recipe
    from prefixcap.run_folder import RunFolder
    from prefixcap.stages import Watch
    from prefixcap.train import Progress

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a .toml file.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set train.lr=1e-4")
]


def embed(
    recipe: RecipeFile,
    settings: Settings = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take over clip-retrieval's folder or an original pickle."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="That encode together and share the threads.")
    ] = 1,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda. Default: the recipe's train.device.")
    ] = None,
) -> None:
    """Encode the photos of a recipe once, into its embedding store.

    Stopped, the same command goes on. The exit code is 1 where a photo could not be read.
    """
    from prefixcap.recipe import load_recipe

    loaded = load_recipe(recipe, settings)
    from prefixcap.captioner import usable_device
    from prefixcap.stages import Encoding, embed_recipe

    encoding = Encoding(processes, usable_device(device or loaded.train.device or None))
    with Watcher() as watcher:
        skipped = embed_recipe(loaded, _watch(watcher), source, encoding)
    typer.echo(f"{loaded.store}: whole, {len(skipped)} photos skipped")
    name_skipped(skipped)


def train(
    recipe: RecipeFile,
    settings: Settings = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda. Default: the recipe's train.device.")
    ] = None,
) -> None:
    """Train what a recipe describes. Stopped, the same command continues exactly there.

    The exit code is 1 where photos were left out, because they cannot be read or are not stored.
    """
    from prefixcap.recipe import load_recipe

    loaded = load_recipe(recipe, settings)
    path = runs / loaded.name
    try:
        with terminable():
            _train(loaded, path, device)
    except Terminated:  # before the loop, or after it: see Interrupted for what comes inside
        begun = any((path / "checkpoints").glob("step-*"))
        said = "between its steps; the same command continues"
        said = said if begun else "before the first step; the same command begins"
        typer.echo(f"{path}: stopped {said}", err=True)


def _train(recipe: "Recipe", path: Path, device: str | None) -> None:
    """Train the recipe in its folder, and say how that ended."""
    from prefixcap.caption_stage import caption_recipe
    from prefixcap.processes import joined, usable_device
    from prefixcap.run_folder import RunFolder
    from prefixcap.stages import Watch, distill_recipe
    from prefixcap.train import Interrupted

    processes = joined(usable_device(device or recipe.train.device or None))
    run = RunFolder(path, recipe, processes)
    if run.finished:
        _finish(path, "already finished; without its checkpoints nothing is trained")
        return
    if run.missing:
        typer.echo(run.missing, err=True)
    if processes.is_main:
        _tell_slow_precision(run, recipe)
    stage = distill_recipe if recipe.stage == "distill" else caption_recipe
    try:
        with run.locked(), Watcher() as watcher:
            watch = _watch(watcher, _runs_on(run)) if processes.is_main else Watch()
            ended = stage(recipe, run, watch)
    except Interrupted as error:
        saved = f"{path}: saved after {error}; the same command continues"
        if error.number == signal.SIGINT:
            raise Stopped(saved) from error
        if processes.is_main:
            typer.echo(saved, err=True)
        return  # SIGTERM is how schedulers end a job that will go on: not a failure
    if processes.is_main:
        _finish(path, ended)


def _finish(run: Path, ended: str) -> None:
    """Say how a run ended and what it went without.

    By its log: one that is run again when it is done judges no dev photo.

    Raises:
        typer.Exit: photos were left out.
    """
    from prefixcap.report.log import read_log
    from prefixcap.run_folder import LOG_FILE

    left_out = read_log(run / LOG_FILE).left_out
    if not left_out:
        typer.echo(f"{run}: {ended}")
        return
    typer.echo(f"{run}: {ended}; {counted(left_out)} left out (see {run / LOG_FILE})")
    raise typer.Exit(1)


def _watch(watcher: Watcher, runs_on: str = "") -> "Watch":
    """What the stages report, as counts of the watcher, and what training runs on."""
    from prefixcap.stages import Watch

    def on_step(progress: "Progress") -> None:
        watcher.show("steps", progress.step, progress.steps, _note(progress))

    return Watch(
        photos=lambda done, total, by: watcher.show("photos", done, total, by, rate=True),
        trained_parameters=lambda count: typer.echo(
            f"{count:,} trainable parameters, {runs_on}", err=True
        ),
        step=on_step,
        note=lambda text: typer.echo(text, err=True),
    )


def _tell_slow_precision(run: "RunFolder", recipe: "Recipe") -> None:
    """Say that a run trains in bf16 where that is not fast."""
    from prefixcap.precision import bf16_is_fast

    device = run.processes.device
    if run.precision == "fp32" or bf16_is_fast(device):
        return
    why = "it was begun so" if recipe.train.precision == "auto" else "its recipe says so"
    typer.echo(
        f"{run.path}: trains in bf16 because {why}, though that is not faster than fp32 on this "
        f'{device.type}. train.precision = "auto", in a new run, takes what is faster',
        err=True,
    )


def _runs_on(run: "RunFolder") -> str:
    """How many processes train, on what and in which precision.

    A launcher may start fewer than it was asked for.
    """
    processes = run.processes
    count = "one process" if processes.count == 1 else f"{processes.count} processes"
    return f"{count} on {processes.device.type} in {run.precision}"


def _note(progress: "Progress") -> str:
    """Loss, speeds and memory in a few words."""
    speeds = [
        f"{value:,.0f} {name.removesuffix('_per_s')}/s"
        for name, value in progress.values.items()
        if name.endswith("_per_s")
    ]
    parts = [f"loss {progress.loss:.3f}", f"{progress.values['step_s']:.2f} s/step", *speeds]
    return ", ".join([*parts, f"{progress.values['memory_mib']:,} MiB"])
