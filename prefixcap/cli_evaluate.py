"""`prefixcap evaluate`: a model's captions of a split, and their scores beside the floor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from prefixcap.cli_source import Images, Name, Split, Where
from prefixcap.cli_watch import Watcher


def evaluate(
    model: Annotated[str, typer.Argument(help="Built-in name, folder or hub name.")],
    name: Name,
    path: Where,
    split: Split = None,
    images: Images = None,
    out: Annotated[Path | None, typer.Option(help="Folder for captions and scores.")] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Beam width; default: stored.")] = None,
    metrics: Annotated[str, typer.Option(help="Any of bleu, rouge, cider.")] = "bleu,rouge,cider",
    train_path: Annotated[
        Path | None,
        typer.Option(help="Training captions: scores their best constant caption, the floor."),
    ] = None,
    train_split: Annotated[str | None, typer.Option(help="Their split.")] = None,
) -> None:
    """Caption a split and score it. The exit code is 1 where a photo was skipped."""
    from prefixcap import atomic, datasets
    from prefixcap.captioner import Captioner
    from prefixcap.cli_decoding import DecodingWishes
    from prefixcap.evaluate import constant_caption, evaluate_captioner, score_captions

    wanted = [metric.strip() for metric in metrics.split(",")]
    records = datasets.read(name, path, split, images)
    captioner = Captioner.from_pretrained(model)
    options = DecodingWishes(beam=beam).options(captioner.model.config.decoding)
    with Watcher() as watcher:
        found = evaluate_captioner(
            captioner,
            records,
            options,
            wanted,
            lambda done: watcher.show("photos", done, len(records)),
        )
    rows = {"model": found.scores.corpus}
    if train_path is not None:
        floor = constant_caption(datasets.read(name, train_path, train_split))
        everywhere = dict.fromkeys(found.captions, floor)
        rows[f'always "{floor}"'] = score_captions(everywhere, records, wanted).corpus
    for title, scores in rows.items():
        typer.echo(f"{title}: " + ", ".join(f"{k} {100 * v:.1f}" for k, v in scores.items()))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"image_id": key, "caption": text}, ensure_ascii=False)
            for key, text in found.captions.items()
        ]
        atomic.write_text(out / "captions.jsonl", "".join(f"{line}\n" for line in lines))
        atomic.write_json(out / "scores.json", rows)
    for photo in found.skipped:
        typer.echo(f"skipped {photo.key}: {photo.reason}", err=True)
    if found.skipped:
        raise typer.Exit(1)
