"""`prefixcap calibrate`: how often captions of a score are right, stored with the model."""

from typing import TYPE_CHECKING

import typer

from prefixcap.cli.progress import name_skipped
from prefixcap.cli.scoring import Device, Precision, Trained, folder_to_store_in, load_captioner
from prefixcap.cli.source import Data, First, Images, Split, Words, wanted
from prefixcap.cli.tables import show_table
from prefixcap.cli.watch import Watcher

if TYPE_CHECKING:
    from prefixcap.calibration import Calibrated

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def calibrate(
    model: Trained,
    words: Words = None,
    data: Data = None,
    split: Split = None,
    images: Images = None,
    first: First = None,
    device: Device = None,
    precision: Precision = "fp32",
) -> None:
    """Find out on a dev split how often a caption of a certain score is right.

    The curve is stored with the model; `prefixcap caption --scores` then shows it as a confidence.
    The exit code is 1 where a photo was skipped.
    """
    from prefixcap.calibration import calibrate as find
    from prefixcap.calibration import store_calibration
    from prefixcap.split_source import chosen_split, run_of

    folder = folder_to_store_in(model)
    chosen = chosen_split(wanted(words, data, split, images, first), run_of(model))
    captioner = load_captioner(str(folder), precision, device)
    with Watcher() as watcher:
        found = find(captioner, chosen.records, watcher.show)
    _show(found)
    store_calibration(folder, found.calibration)
    typer.echo(f"stored in {folder / 'config.json'}", err=True)
    name_skipped(found.skipped)


def _show(found: "Calibrated") -> None:
    """Print how far the curve holds, and what a threshold keeps."""
    curve = found.calibration
    typer.echo(
        f"right: CIDEr-D of {100 * curve.right_from:.1f} or more, as one human caption has against "
        f"the others; {100 * found.right.mean():.1f} % of {curve.images} captions"
    )
    rows = [[f"{100 * s:.0f} %", f"{100 * r:.0f} %", str(n)] for s, r, n in found.bins()]
    show_table("confidence, in fifths", ["confidence", "right", "captions"], rows)
    rows = []
    for threshold in THRESHOLDS:
        share, right = found.kept(threshold)
        rows.append([f"{100 * threshold:.0f} %", f"{100 * share:.0f} %", _percent(right)])
    show_table("captions at least so sure", ["confidence", "of all", "right"], rows)


def _percent(share: float) -> str:
    """Share in percent; nothing where there is none."""
    return "" if share != share else f"{100 * share:.0f} %"
