"""`prefixcap caption`: photos in, captions on the terminal, in a file or beside the photos."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prefixcap.cli import decoding as how
from prefixcap.cli.progress import Display, FirstInterrupt, Stopped, counted
from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.captioner import Captioner
    from prefixcap.folder_outputs import FolderOptions
    from prefixcap.images import PhotoSet
    from prefixcap.sidecars import SidecarOptions

PARTIAL = 1
Precision = Literal["auto", "fp32", "bf16"]
Existing = Literal["skip", "overwrite", "append", "prepend"]

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATHS...",
        help='Photos, folders, patterns such as "trip/*.jpg", lists (.txt, .lst), - for stdin.',
        show_default=False,
    ),
]
Model = Annotated[str, typer.Option("--model", "-m", help="Built-in name, folder or hub name.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Records: a .jsonl, .csv or .parquet file.")
]
Sidecar = Annotated[
    str | None, typer.Option("--sidecar", help="Suffix of a text file beside each photo: .txt")
]
WithExisting = Annotated[
    Existing | None, typer.Option("--existing", help="With a sidecar that is there already: skip.")
]
Before = Annotated[str | None, typer.Option("--before", help="Text before each sidecar's caption.")]
After = Annotated[str | None, typer.Option("--after", help="Text after each sidecar's caption.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Photos at a time.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=0, help="Processes that decode photos; 0: none.")
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1; default: best.")]
WithPrecision = Annotated[
    Precision, typer.Option("--precision", help="auto is bf16 where that is fast; fp32 is exact.")
]
Scores = Annotated[
    bool,
    typer.Option(
        "--scores", help="Show the mean log-probability, and how often such captions are right."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew instead of continuing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no last line.")]


def caption(
    paths: Paths,
    model: Model = "mini",
    out: Out = None,
    sidecar: Sidecar = None,
    existing: WithExisting = None,
    before: Before = None,
    after: After = None,
    beam: how.Beam = None,
    captions: how.Captions = None,
    sample: how.Sample = False,
    top_p: how.TopP = None,
    top_k: how.TopK = None,
    temperature: how.Temperature = None,
    seed: how.Seed = None,
    min_tokens: how.MinTokens = None,
    max_tokens: how.MaxTokens = None,
    length_penalty: how.LengthPenalty = None,
    block_ngrams: how.BlockNgrams = None,
    begin: how.Begin = None,
    stop_word: how.StopWord = None,
    votes: how.Votes = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    device: Device = None,
    precision: WithPrecision = "auto",
    scores: Scores = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Caption photos. Killed or stopped, the same command continues where it was.

    The exit code is 1 where a photo was skipped, 2 where nothing could be begun.
    """
    from prefixcap.folder_outputs import FolderOptions  # not above: --help answers without numpy
    from prefixcap.images import find_photo_set

    wishes = how.DecodingWishes(
        *(beam, captions, sample, top_p, top_k, temperature, seed, min_tokens, max_tokens),
        *(length_penalty, block_ngrams, begin, stop_word, votes),
    )
    options = FolderOptions(
        out=out,
        sidecar=_sidecar_options(sidecar, existing, before, after),
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
    )
    photos = find_photo_set(paths)
    captioner = _captioner(model, device, _dtype_name(precision, options, photos))
    decoding = wishes.options(captioner.model.config.decoding)
    prints = out is None and sidecar is None
    display = Display(prints=prints, scores=scores, quiet=quiet)
    _run(captioner, photos, replace(options, decoding=decoding), display)


def _sidecar_options(
    suffix: str | None, existing: Existing | None, before: str | None, after: str | None
) -> "SidecarOptions | None":
    """How sidecars are written, None without `--sidecar`.

    Raises:
        InputError: an option of sidecars without `--sidecar`.
    """
    given = {"--existing": existing, "--before": before, "--after": after}
    for name, value in given.items():
        if suffix is None and value is not None:
            raise InputError(f"{name}: is for sidecars; add --sidecar .txt")
    if suffix is None:
        return None
    from prefixcap.sidecars import SidecarOptions

    return SidecarOptions(suffix, existing or "skip", before or "", after or "")


def _captioner(model: str, device: str | None, dtype_name: str | None) -> "Captioner":
    """The model, on the device and in the precision asked for; None leaves them to it."""
    import torch

    from prefixcap.captioner import Captioner

    dtypes = {None: None, "float32": torch.float32, "bfloat16": torch.bfloat16}
    return Captioner.from_pretrained(model, device=device, dtype=dtypes[dtype_name])


def _dtype_name(precision: Precision, options: "FolderOptions", photos: "PhotoSet") -> str | None:
    """Number type to run in, None to measure; "auto" continues a run as it was begun.

    Whether bf16 is fast is measured, so a loaded machine might find otherwise the second time.
    """
    if precision != "auto":
        return {"fp32": "float32", "bf16": "bfloat16"}[precision]
    from prefixcap.folder_outputs import begun_precision

    records = options.record_path(photos.root)
    return None if records is None or options.overwrite else begun_precision(records)


def _run(
    captioner: "Captioner", photos: "PhotoSet", options: "FolderOptions", display: Display
) -> None:
    """Caption and show; leave with the exit code that tells how it went."""
    from prefixcap.folder import caption_folder

    with FirstInterrupt() as interrupt, display:
        report = caption_folder(captioner, photos, options, display.show, interrupt.is_set)
    if report.stopped:
        rest = len(photos.photos) - report.written - report.kept - len(report.skipped)
        continues = options.record_path(photos.root) is not None
        go_on = "; the same command continues" if continues else ""
        raise Stopped(f"stopped with {counted(rest)} left{go_on}")
    display.finish(report, _skipped_list(options, photos) if report.skipped else None)
    if report.skipped:
        raise typer.Exit(PARTIAL)


def _skipped_list(options: "FolderOptions", photos: "PhotoSet") -> str | None:
    """Where the skipped photos are listed, as the last line shows it."""
    from prefixcap.folder_outputs import skipped_path

    records = options.record_path(photos.root)
    return None if records is None else os.path.relpath(skipped_path(records))
