"""`prefixcap tune`: the decoding that scores best on a dev split, stored with the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixcap.cli.progress import name_skipped
from prefixcap.cli.scoring import Device, Precision, Trained, folder_to_store_in, load_captioner
from prefixcap.cli.source import Data, First, Images, Split, Words, wanted
from prefixcap.cli.tables import show_table
from prefixcap.cli.watch import Watcher
from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.tuning import Trial, Tuning

RECORD_FILE = "tuning.json"  # in the model's folder: every setting that was tried


def tune(
    model: Trained,
    words: Words = None,
    data: Data = None,
    split: Split = None,
    images: Images = None,
    first: First = None,
    beams: Annotated[str, typer.Option(help="Beam widths to try.")] = "1,3,5",
    length_penalties: Annotated[
        str, typer.Option(help="Length penalties to try with beams.")
    ] = "0.7,1.0,1.3",
    min_tokens: Annotated[str, typer.Option(help="Shortest captions to try.")] = "0,8",
    device: Device = None,
    precision: Precision = "fp32",
    even_on_test: Annotated[
        bool, typer.Option("--even-on-test", help="Allow a split that is named test.")
    ] = False,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Only print; leave the model as it is.")
    ] = False,
) -> None:
    """Search beam width, length penalty and least length by CIDEr-D on a dev split.

    The best is stored with the model. The exit code is 1 where a photo was skipped.
    """
    from prefixcap.caption_results import refuse_repeated_records
    from prefixcap.evaluate import weights_of
    from prefixcap.split_source import chosen_split, run_of
    from prefixcap.tuning import Grid, refuse_test_split
    from prefixcap.tuning import tune as search

    grid = Grid(
        _numbers(beams, int, "--beams"),
        _numbers(length_penalties, float, "--length-penalties"),
        _numbers(min_tokens, int, "--min-tokens"),
    )
    folder = Path(weights_of(model))
    if not no_store:
        folder = folder_to_store_in(model, ", or add --no-store")
    asked = wanted(words, data, split, images, first)
    chosen = chosen_split(asked, run_of(model))
    if asked.path is None:
        typer.echo(f"data: {chosen.described()}", err=True)
    refuse_repeated_records(chosen.records)
    if not even_on_test:
        refuse_test_split(chosen.split, chosen.records)
    captioner = load_captioner(str(folder) if folder.is_dir() else model, precision, device)
    with Watcher() as watcher:
        found = search(captioner, chosen.records, grid, watcher.show)
    _show(found)
    if not no_store:
        facts = {"dataset": chosen.format, "split": chosen.split, "precision": precision}
        _store(folder, found, facts)
    name_skipped(found.skipped)


def _numbers(words: str, kind: type, option: str) -> list[Any]:
    """Numbers of a comma-separated list.

    Raises:
        InputError: a word that is no such number.
    """
    try:
        return [kind(word) for word in words.split(",")]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{option} {words}: expected {what} with commas between them") from error


def _store(folder: Path, found: "Tuning", facts: dict[str, Any]) -> None:
    """Put the best setting into the model, and all trials beside it."""
    from prefixcap import atomic
    from prefixcap.tuning import store_decoding

    store_decoding(folder, found.best.options)
    trials = [
        {"decoding": one.options.model_dump(mode="json"), "CIDEr": one.cider, "words": one.words}
        for one in found.trials
    ]
    best = found.trials.index(found.best)
    record = {**facts, "images": len(found.images), "best": best, "trials": trials}
    atomic.write_json(folder / RECORD_FILE, record)
    typer.echo(
        f"stored in {folder / 'config.json'}; all trials in {folder / RECORD_FILE}", err=True
    )


def _show(found: "Tuning") -> None:
    """Print every trial, and how sure the gain is."""
    rows = [_row(one, _mark(one, found)) for one in found.trials]
    header = ["beam", "length penalty", "min tokens", "CIDEr x100", "words", ""]
    show_table(f"{len(found.images)} images, CIDEr-D", header, rows)
    gain = found.gain
    typer.echo(
        f"best against the model's own: {100 * gain.difference:+.1f}, 95 % interval "
        f"{100 * gain.interval.low:+.1f} to {100 * gain.interval.high:+.1f}, p {gain.p_value:.3f} "
        "on the images it was chosen on"
    )


def _row(trial: "Trial", mark: str) -> list[str]:
    """Cells of one trial."""
    options = trial.options
    method = options.resolved_method
    penalty = f"{options.length_penalty:g}" if method == "beam" else ""
    if method == "beam" and options.order == "average":
        penalty = "average"
    beam = str(options.beam_size) if method == "beam" else method
    return [
        beam,
        penalty,
        str(options.min_tokens),
        f"{100 * trial.cider:.1f}",
        f"{trial.words:.1f}",
        mark,
    ]


def _mark(trial: "Trial", found: "Tuning") -> str:
    """Whether a trial is the model's own, the best, or both."""
    marks = (("its own", trial is found.trials[0]), ("best", trial is found.best))
    return ", ".join(name for name, holds in marks if holds)
