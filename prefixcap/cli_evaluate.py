"""`prefixcap evaluate`: captions of a split, from a model or a file, and their scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixcap import cli_decoding as decoding
from prefixcap.cli_scoring import Metrics, Precision, Tokenizer, load_captioner, metric_names
from prefixcap.cli_source import Images, Name, Split, Where
from prefixcap.cli_tables import show_table
from prefixcap.cli_watch import Watcher
from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.datasets.records import CaptionRecord
    from prefixcap.score_sheet import Scoring


@dataclass(frozen=True)
class Written:
    """Captions of a split, and where they come from.

    Attributes:
        captions: image id -> caption.
        facts: what the scores file says of their origin.
        counts: images that are missing, extra, repeated or skipped.
        skipped: a line on each photo that could not be read.
    """

    captions: dict[str, str]
    facts: dict[str, Any]
    counts: dict[str, int]
    skipped: list[str] = field(default_factory=list)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Built-in name, model or run folder, hub name; or a captions file."),
    ],
    name: Name,
    path: Where,
    split: Split = None,
    images: Images = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the files; default: the run's, else this one.")
    ] = None,
    metrics: Metrics = "bleu,rouge,cider",
    tokenizer: Tokenizer = "ptb",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score what fits, and count what does not.")
    ] = False,
    train_path: Annotated[
        Path | None,
        typer.Option(help="Training captions: for novelty, and the best constant caption's score."),
    ] = None,
    train_split: Annotated[str | None, typer.Option(help="Their split.")] = None,
    bootstrap_seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    precision: Precision = "fp32",
    beam: decoding.Beam = None,
    length_penalty: decoding.LengthPenalty = None,
    min_tokens: decoding.MinTokens = None,
    max_tokens: decoding.MaxTokens = None,
    sample: decoding.Sample = False,
    seed: decoding.Seed = None,
) -> None:
    """Score a split's captions, a model's or a file's; exit code 1 where a photo was skipped.

    Writes captions-SPLIT.json, which evaluation servers take, and scores-SPLIT.json.
    """
    from prefixcap import datasets
    from prefixcap.caption_results import refuse_repeated_records
    from prefixcap.evaluate import without_references
    from prefixcap.score_sheet import Scoring

    wishes = decoding.DecodingWishes(
        beam=beam,
        length_penalty=length_penalty,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        sample=sample,
        seed=seed,
    )
    scoring = Scoring(metric_names(metrics), tokenizer, bootstrap_seed)
    records = datasets.read(name, path, split, images)
    refuse_repeated_records(records)
    bare = without_references(records, allowed=allow_missing)
    train = datasets.read(name, train_path, train_split) if train_path else None
    written = _captions(model, precision, records, wishes, allow_missing)
    written.counts["without_references"] = len(bare)
    files = _Files(_out_folder(out, model), split or "all", model)
    _write_captions(files, written, records)
    written.facts.update(dataset=name, split=split, data=_place(path, images))
    _score(files, written, records, scoring, train)
    _say_skipped(written)


@dataclass(frozen=True)
class _Files:
    """The two files of a split."""

    folder: Path
    split: str
    source: str

    @property
    def captions(self) -> Path:
        return self.folder / f"captions-{self.split}.json"

    @property
    def scores(self) -> Path:
        return self.folder / f"scores-{self.split}.json"


def _place(path: Path, images: Path | None) -> dict[str, str | None]:
    """Where the references and photos were read, for reports that show them."""
    here = path.resolve() if path.exists() else path  # the hub has names that are no paths
    return {"path": str(here), "images": str(images.resolve()) if images else None}


def _out_folder(out: Path | None, model: str) -> Path:
    """The folder asked for, made if need be; else the training run's, else the current one."""
    if out is None:
        return Path(model) if (Path(model) / "recipe.json").is_file() else Path()
    out.mkdir(parents=True, exist_ok=True)
    return out


def _captions(
    source: str,
    precision: Precision,
    records: Sequence["CaptionRecord"],
    wishes: decoding.DecodingWishes,
    allow_missing: bool,
) -> Written:
    """Captions of a file, or those that a model writes in a precision."""
    from prefixcap.caption_results import match_captions, read_results

    if not Path(source).is_file():
        return _captions_of_model(source, precision, records, wishes)
    if wishes != decoding.DecodingWishes():
        raise InputError(f"{source}: its captions are written; leave the decoding options away")
    matched = match_captions(read_results(Path(source)), records)
    if not allow_missing:
        matched.refuse_doubts(source)
    facts = {"source": {"kind": "captions", "name": source}, "decoding": None}
    return Written(matched.captions, facts, matched.counts | {"skipped": 0})


def _captions_of_model(
    source: str,
    precision: Precision,
    records: Sequence["CaptionRecord"],
    wishes: decoding.DecodingWishes,
) -> Written:
    """What a model writes of the photos."""
    from prefixcap.evaluate import weights_of, write_captions

    captioner = load_captioner(weights_of(source), precision)
    options = wishes.options(captioner.model.config.decoding)
    captioner.check(options)
    with Watcher() as watcher:
        captions, skipped = write_captions(
            captioner,
            records,
            options,
            lambda done: watcher.show("photos", done, len(records)),
        )
    facts = {
        "source": {
            "kind": "model",
            "name": source,
            "fingerprint": captioner.fingerprint(),
            "precision": precision,
            "device": captioner.device.type,
        },
        "decoding": options.model_dump(mode="json"),
    }
    counts = {"missing": 0, "extra": 0, "repeated": 0, "skipped": len(skipped)}
    return Written(captions, facts, counts, [f"{one.key}: {one.reason}" for one in skipped])


def _write_captions(files: _Files, written: Written, records: Sequence["CaptionRecord"]) -> None:
    """Write the captions, unless they were read from that very file; say what servers refuse."""
    from prefixcap.caption_results import server_faults, write_results

    if files.captions.resolve() != Path(files.source).resolve():
        write_results(files.captions, written.captions)
        typer.echo(f"captions: {files.captions}", err=True)
    for fault in server_faults(written.captions, records):
        typer.echo(f"evaluation servers would refuse {files.captions.name}: {fault}", err=True)


def _score(
    files: _Files,
    written: Written,
    records: Sequence["CaptionRecord"],
    scoring: "Scoring",
    train: Sequence["CaptionRecord"] | None,
) -> None:
    """Score the captions, write the scores, print them; nothing of a split without references."""
    from prefixcap.evaluate import constant_caption
    from prefixcap.score_sheet import ScoreSheet, score_sheet, write_sheet

    if not any(record.captions for record in records):
        typer.echo("the split has no reference captions, so nothing is scored here", err=True)
        return
    training = None if train is None else [text for one in train for text in one.captions]
    sheet = score_sheet(written.captions, records, scoring, training)
    empty = sum(not text.strip() for text in sheet.captions.values())
    facts = {**written.facts, "counts": written.counts | {"empty": empty}, **sheet.facts}
    if train is not None:
        caption = constant_caption(train)
        constant = score_sheet(dict.fromkeys(sheet.captions, caption), records, scoring)
        facts["constant"] = {"caption": caption, "scores": constant.facts["scores"]}
    write_sheet(files.scores, ScoreSheet(facts, sheet.captions, sheet.statistics))
    typer.echo(f"scores: {files.scores}", err=True)
    _show(facts)


def _say_skipped(written: Written) -> None:
    """Name the photos that could not be read, if any; the exit code is then 1."""
    for line in written.skipped:
        typer.echo(f"skipped {line}", err=True)
    if written.skipped:
        raise typer.Exit(1)


def _show(facts: dict[str, Any]) -> None:
    """Print the scores x100 with their intervals, beside what they can be compared with."""
    from prefixcap.published import published_rows

    others = {
        title: dict(row) for title, row in published_rows(facts["dataset"], facts["split"]).items()
    }
    if "constant" in facts:
        scores = facts["constant"]["scores"]
        others["constant"] = {name: 100 * value for name, value in scores.items()}
    rows = [
        [name, *_cells(facts, name), *(_number(row.get(name)) for row in others.values())]
        for name in facts["scores"]
    ]
    title = f"{facts['images']} images, scores x100, tokenizer {facts['tokenizer']}"
    show_table(title, ["", "score", "95 % interval", *others], rows)
    for domain, part in facts["domains"].items():
        rows = [[name, *_cells(part, name)] for name in part["scores"]]
        show_table(f"{domain}: {part['images']} images", ["", "score", "95 % interval"], rows)
    _show_rest(facts)


def _show_rest(facts: dict[str, Any]) -> None:
    """Print diversity, and what was not scored or left out."""
    if "constant" in facts:
        typer.echo(f'constant: always "{facts["constant"]["caption"]}"')
    spread = facts["diversity"]
    parts = [f"{spread['vocabulary']} words", f"{spread['length']:.1f} words a caption"]
    parts += [f"{100 * spread['different']:.1f} % of captions differ from all others"]
    if spread["novel"] is not None:
        parts.append(f"{100 * spread['novel']:.1f} % are no training caption")
    typer.echo(f"diversity: {', '.join(parts)}")
    left = [f"{count} {name.replace('_', ' ')}" for name, count in facts["counts"].items() if count]
    if left:
        typer.echo(f"images: {', '.join(left)}")
    for name, reason in facts["not_scored"].items():
        typer.echo(f"{name} is not scored: {reason}", err=True)


def _cells(facts: dict[str, Any], name: str) -> list[str]:
    """Score and interval of one metric, x100."""
    low, high = facts["intervals"][name]
    return [_number(100 * facts["scores"][name]), f"{100 * low:.1f} to {100 * high:.1f}"]


def _number(value: float | None) -> str:
    """One decimal, as tables print; nothing for None."""
    return "" if value is None else f"{value:.1f}"
