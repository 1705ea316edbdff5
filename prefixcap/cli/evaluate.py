"""`prefixcap evaluate`: captions of a split, from a model or a file, and their scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixcap.cli import decoding as decoding
from prefixcap.cli import scoring as how
from prefixcap.cli.score_table import show_scores
from prefixcap.cli.source import Data, First, Images, Split, Words, wanted
from prefixcap.cli.watch import Watcher
from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.clipscore import Clip, ClipScores
    from prefixcap.datasets.records import CaptionRecord
    from prefixcap.embeddings import EmbeddingStore
    from prefixcap.score_sheet import Scoring
    from prefixcap.split_source import ChosenSplit, Wanted

Model = Annotated[
    str, typer.Argument(help="Built-in name, model or run folder, hub name; or a captions file.")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the files; default: the run's, else this one.")
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Score what fits, and count what does not.")
]
TrainPath = Annotated[
    Path | None,
    typer.Option(help="Training captions: for novelty, and the best constant caption's score."),
]
TrainSplit = Annotated[str | None, typer.Option(help="Their split.")]
TrainFormat = Annotated[str | None, typer.Option(help="Their format; default: the data's.")]
BootstrapSeed = Annotated[int, typer.Option(min=0, help="Of the intervals.")]


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


@dataclass(frozen=True)
class Asked:
    """What is wanted of a split's captions, beside the captions themselves."""

    scoring: "Scoring"
    clip: how.ClipWishes | None
    train: "ChosenSplit | None"


def evaluate(
    model: Model,
    words: Words = None,
    data: Data = None,
    split: Split = None,
    images: Images = None,
    first: First = None,
    out: Out = None,
    metrics: how.Metrics = "bleu,rouge,cider",
    tokenizer: how.Tokenizer = "ptb",
    frequencies: how.Frequencies = None,
    clip: how.ClipName = None,
    clip_store: how.ClipStore = None,
    clip_precision: how.ClipPrecision = "auto",
    spice_cache: how.SpiceCache = None,
    spice_memory: how.SpiceMemory = None,
    allow_missing: AllowMissing = False,
    train_path: TrainPath = None,
    train_split: TrainSplit = None,
    train_format: TrainFormat = None,
    bootstrap_seed: BootstrapSeed = 0,
    device: how.Device = None,
    precision: how.Precision = "fp32",
    beam: decoding.Beam = None,
    length_penalty: decoding.LengthPenalty = None,
    min_tokens: decoding.MinTokens = None,
    max_tokens: decoding.MaxTokens = None,
    sample: decoding.Sample = False,
    votes: decoding.Votes = None,
    seed: decoding.Seed = None,
) -> None:
    """Score a split's captions, a model's or a file's.

    Writes captions-SPLIT.json, which evaluation servers take, and scores-SPLIT.json. The exit code
    is 1 where a photo was skipped, or the program of a metric failed.
    """
    from prefixcap.score_sheet import Scoring
    from prefixcap.split_source import Wanted, chosen_split, run_of

    lengths = {"min_tokens": min_tokens, "max_tokens": max_tokens, "length_penalty": length_penalty}
    wishes = decoding.DecodingWishes(beam=beam, sample=sample, votes=votes, seed=seed, **lengths)
    texts = [name for name in how.metric_names(metrics) if name != how.CLIPSCORE]
    java = how.java_settings(spice_cache, spice_memory)
    used = how.load_frequencies(frequencies)
    scoring = Scoring(texts, tokenizer, bootstrap_seed, java, used)
    by_clip = how.clip_wishes(metrics, clip, clip_store, clip_precision, device)
    _check_source(model)
    asked = wanted(words, data, split, images, first)
    chosen = chosen_split(asked, run_of(model))
    if asked.path is None:
        typer.echo(f"data: {chosen.described()}", err=True)
    train = _training(Wanted(train_format, train_path, train_split), chosen)
    bare = _check_records(chosen, allow_missing)
    source = _Source(model, precision, device, allow_missing)
    written = _captions(source, chosen.records, wishes)
    written.counts["without_references"] = bare
    written.facts.update(dataset=chosen.format, split=chosen.split, data=_place(chosen))
    _finish(_files(out, model, chosen.split), written, chosen, Asked(scoring, by_clip, train))


def _check_source(name: str) -> None:
    """Nothing, where `name` is a file, or no training run without weights.

    Raises:
        InputError: it is one, or a captions file that is not there.
    """
    from prefixcap.caption_results import is_captions_file

    if not is_captions_file(name):
        from prefixcap.evaluate import weights_of

        weights_of(name)


def _check_records(chosen: "ChosenSplit", allow_missing: bool) -> int:
    """Number of images without references.

    Raises:
        InputError: an image id that stands for several photos, or images without references.
    """
    from prefixcap.caption_results import refuse_repeated_records
    from prefixcap.evaluate import without_references

    refuse_repeated_records(chosen.records)
    return len(without_references(chosen.records, allowed=allow_missing))


def _training(wanted: "Wanted", scored: "ChosenSplit") -> "ChosenSplit | None":
    """Training captions, None where none are named.

    Raises:
        InputError: they cannot be read, or photos that are scored are among theirs.
    """
    from prefixcap import datasets
    from prefixcap.caption_results import listed
    from prefixcap.split_source import ChosenSplit

    if wanted.path is None:
        return None
    name = wanted.format or scored.format
    records = datasets.read(name, wanted.path, wanted.split)
    photos = {record.path.absolute() for record in records}
    shared = [one.image_id for one in scored.records if one.path.absolute() in photos]
    if shared:
        raise InputError(
            f"--train-path {wanted.path}: holds {len(shared)} of the images that are scored: "
            f"{listed(shared)}. Name the training split: --train-split train"
        )
    return ChosenSplit(name, wanted.path, wanted.split, None, records)


def _finish(files: "_Files", written: Written, chosen: "ChosenSplit", asked: Asked) -> None:
    """Write captions and scores, show them, and name the photos that could not be read."""
    _write_captions(files, written, chosen)
    failed = _score(files, written, chosen.records, asked)
    for line in dict.fromkeys(written.skipped):
        typer.echo(f"skipped {line}", err=True)
    if written.skipped or failed:
        raise typer.Exit(1)


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


def _place(chosen: "ChosenSplit") -> dict[str, str | None]:
    """Where the references and photos were read, for reports that show them."""
    path, images = chosen.path, chosen.images
    here = path.resolve() if path.exists() else path  # the hub has names that are no paths
    return {"path": str(here), "images": str(images.resolve()) if images else None}


def _files(out: Path | None, model: str, split: str | None) -> _Files:
    """Files in the folder asked for, made if need be; else in the run's, else in this one."""
    from prefixcap.split_source import run_of

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    return _Files(out or run_of(model) or Path(), split or "all", model)


@dataclass(frozen=True)
class _Source:
    """Where captions come from."""

    name: str
    precision: how.Precision
    device: str | None
    allow_missing: bool


def _captions(
    source: _Source, records: Sequence["CaptionRecord"], wishes: decoding.DecodingWishes
) -> Written:
    """Captions of a file, or those that a model writes in a precision."""
    from prefixcap.caption_results import is_captions_file, match_captions, read_results

    name = source.name
    if not is_captions_file(name):
        return _captions_of_model(source, records, wishes)
    if wishes != decoding.DecodingWishes():
        raise InputError(f"{name}: its captions are written; leave the decoding options away")
    matched = match_captions(read_results(Path(name)), records)
    if not source.allow_missing:
        matched.refuse_doubts(name)
    facts = {"source": {"kind": "captions", "name": name}, "decoding": None}
    return Written(matched.captions, facts, matched.counts | {"skipped": 0})


def _captions_of_model(
    source: _Source, records: Sequence["CaptionRecord"], wishes: decoding.DecodingWishes
) -> Written:
    """What a model writes of the photos."""
    from prefixcap.evaluate import weights_of, write_captions

    captioner = how.load_captioner(weights_of(source.name), source.precision, source.device)
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
            "name": source.name,
            "fingerprint": captioner.fingerprint(),
            "precision": source.precision,
            "device": captioner.device.type,
        },
        "decoding": options.model_dump(mode="json"),
    }
    counts = {"missing": 0, "extra": 0, "repeated": 0, "skipped": len(skipped)}
    return Written(captions, facts, counts, [f"{one.key}: {one.reason}" for one in skipped])


def _write_captions(files: _Files, written: Written, chosen: "ChosenSplit") -> None:
    """Write the captions, unless they were read from that very file; say what servers refuse."""
    from prefixcap.caption_results import write_results
    from prefixcap.submission import how_to_submit, server_faults

    if files.captions.resolve() != Path(files.source).resolve():
        write_results(files.captions, written.captions)
        typer.echo(f"captions: {files.captions}", err=True)
    faults = server_faults(files.captions, chosen.format, chosen.records)
    for fault in faults:
        typer.echo(f"evaluation servers would refuse {files.captions.name}: {fault}", err=True)
    note = how_to_submit(chosen.format, chosen.records)
    if note and not faults:
        typer.echo(note, err=True)


def _score(
    files: _Files, written: Written, records: Sequence["CaptionRecord"], asked: Asked
) -> bool:
    """Score the captions, write the scores, print them; whether a metric's program failed.

    Of a split without references there is nothing to score but by its photos.
    """
    from prefixcap.score_sheet import ScoreSheet, score_sheet, write_sheet

    if asked.clip is None and not any(record.captions for record in records):
        typer.echo(
            "the split has no reference captions, so nothing is scored here; --clip would score by "
            "the photos",
            err=True,
        )
        return False
    by_photo, facts, left_out = _by_photo(written, records, asked.clip)
    train = asked.train
    training = None if train is None else [text for r in train.records for text in r.captions]
    sheet = score_sheet(written.captions, records, asked.scoring, training, by_photo)
    empty = sum(not text.strip() for text in sheet.captions.values())
    facts = {**written.facts, **facts, "counts": written.counts | {"empty": empty}, **sheet.facts}
    facts["not_scored"] |= left_out
    if train is not None:
        facts["training"] = {"dataset": train.format, "split": train.split, **_place(train)}
        facts["training"] |= {"images": len(train.records), "captions": len(training)}
        facts["constant"] = _constant(sheet.captions, records, train.records, asked.scoring)
    write_sheet(files.scores, ScoreSheet(facts, sheet.captions, sheet.statistics))
    typer.echo(f"scores: {files.scores}", err=True)
    show_scores(facts)
    return bool(facts["failed"])


def _constant(
    ids: Iterable[str],
    records: Sequence["CaptionRecord"],
    training: Sequence["CaptionRecord"],
    scoring: "Scoring",
) -> dict[str, Any]:
    """The best constant caption of the training captions, and its scores on these images."""
    from prefixcap.evaluate import constant_caption
    from prefixcap.score_sheet import score_sheet

    caption = constant_caption(training)
    sheet = score_sheet(dict.fromkeys(ids, caption), records, scoring)
    return {"caption": caption, "scores": sheet.facts["scores"]}


def _by_photo(
    written: Written, records: Sequence["CaptionRecord"], wishes: how.ClipWishes | None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """CLIPScore's statistics, facts for the scores file, and why there are none."""
    if wishes is None:
        return {}, {}, {}
    from prefixcap.clipscore import load_clip
    from prefixcap.embeddings import EmbeddingStore

    try:
        store = EmbeddingStore(wishes.store) if wishes.store else None
        clip = load_clip(wishes.name, precision=wishes.precision, device=wishes.device, store=store)
        found = _clip_scores(clip, written, records, store)
    except InputError as error:
        if wishes.required:
            raise
        return {}, {}, {how.CLIPSCORE: str(error)}
    written.skipped.extend(f"{one.key}: {one.reason}" for one in found.skipped)
    counts = {"unreadable": len(found.skipped), "from_store": found.stored}
    return found.statistics, {"clip": clip.facts, "clip_images": counts}, {}


def _clip_scores(
    clip: "Clip",
    written: Written,
    records: Sequence["CaptionRecord"],
    store: "EmbeddingStore | None",
) -> "ClipScores":
    """CLIPScore of the images that are scored, with a bar."""
    from prefixcap.clipscore import clip_scores
    from prefixcap.score_sheet import scored_records

    scored = scored_records(written.captions, records)
    with Watcher() as watcher:
        return clip_scores(
            clip,
            written.captions,
            scored,
            store,
            lambda done: watcher.show("photos for CLIPScore", done, len(scored)),
        )
