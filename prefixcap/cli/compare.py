"""`prefixcap compare`: whether two sets of captions of one split differ by more than chance."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefixcap.cli.scoring import TEXT_METRICS, Metrics, Tokenizer, metric_names
from prefixcap.cli.source import Images, Split
from prefixcap.cli.tables import show_table
from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.comparison import SheetComparison
    from prefixcap.datasets.records import CaptionRecord
    from prefixcap.score_sheet import ScoreSheet, Scoring

AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Compare what fits of captions files.")
]
Side = Annotated[Path, typer.Argument(help="scores-SPLIT.json, or a captions file.")]


def compare(
    first: Side,
    second: Side,
    name: Annotated[
        str | None, typer.Argument(help="Format of the dataset; needed for captions files only.")
    ] = None,
    path: Annotated[Path | None, typer.Argument(help="Its annotation file or folder.")] = None,
    split: Split = None,
    images: Images = None,
    metrics: Metrics = "bleu,rouge,cider",
    tokenizer: Tokenizer = "ptb",
    shown: Annotated[int, typer.Option("--show", min=0, help="Images to list.")] = 10,
    allow_missing: AllowMissing = False,
    seed: Annotated[int, typer.Option("--bootstrap-seed", min=0, help="Of the test.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this .json.")] = None,
) -> None:
    """Test two runs on the same images (paired bootstrap), and list where they differ most.

    CLIPScore is compared where two scores files have it: prefixcap evaluate --clip.
    """
    from prefixcap import atomic, datasets
    from prefixcap.comparison import compare_sheets
    from prefixcap.score_sheet import Scoring

    if (name is None) != (path is None):
        raise InputError("give the dataset's format and its path, or neither of them")
    records = datasets.read(name, path, split, images) if name and path else None
    scoring = Scoring(metric_names(metrics, TEXT_METRICS), tokenizer, seed)
    sheets = [_sheet(file, records, scoring, allow_missing) for file in (first, second)]
    found = compare_sheets(*sheets, shown=shown, seed=seed)
    if out is not None:
        atomic.write_json(out, {"first": str(first), "second": str(second), **asdict(found)})
    _show(found, first, second)


def _sheet(
    path: Path,
    records: Sequence["CaptionRecord"] | None,
    scoring: "Scoring",
    allow_missing: bool,
) -> "ScoreSheet":
    """Scores in a file, or the scores of the captions in it.

    Raises:
        InputError: a captions file without a dataset, or one that does not fit it as it must.
    """
    from prefixcap.caption_results import match_captions, read_results
    from prefixcap.datasets.annotations import read_json
    from prefixcap.score_sheet import is_sheet, read_sheet, score_sheet

    if path.suffix.lower() == ".json" and is_sheet(read_json(path)):
        return read_sheet(path)
    entries = read_results(path)
    if records is None:
        raise InputError(
            f"{path}: is a captions file, and its references are not known; give the dataset too: "
            "prefixcap compare A B NAME PATH --split SPLIT"
        )
    matched = match_captions(entries, records)
    if not allow_missing:
        matched.refuse_doubts(str(path))
    return score_sheet(matched.captions, records, scoring)


def _show(found: "SheetComparison", first: Path, second: Path) -> None:
    """Print the tests, then the images on which the two differ most."""
    typer.echo(f"A: {first}\nB: {second}")
    rows = []
    for name, test in found.tests.items():
        one, other = (f"{100 * value:.1f}" for value in found.scores[name])
        ends = f"{100 * test.interval.low:+.1f} to {100 * test.interval.high:+.1f}"
        rows.append(
            [name, one, other, f"{100 * test.difference:+.1f}", ends, f"{test.p_value:.3f}"]
        )
    header = ["", "A", "B", "A - B", "95 % interval", "p"]
    show_table(f"{found.images} images, scores x100, paired bootstrap", header, rows)
    for name, reason in found.left_out.items():
        typer.echo(f"{name} is not compared: {reason}", err=True)
    if found.disagreements:
        typer.echo(f"largest differences in {found.ranked_by}:")
    for image in found.disagreements:
        typer.echo(image.image_id)
        for side, value, caption in zip("AB", image.values, image.captions, strict=True):
            typer.echo(f"  {side} {100 * value:6.1f}  {' '.join(caption.split())}")
