"""`prefixcap explain`: what prefixes say, of photos on a page, of a split in numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefixcap.cli.progress import name_skipped
from prefixcap.cli.scoring import Device
from prefixcap.cli.source import First, Images, Split, wanted
from prefixcap.cli.tables import show_table
from prefixcap.cli.watch import Watcher
from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.captioner import Captioner
    from prefixcap.explain.photos import Explanation
    from prefixcap.explain.split import SplitExplanation
    from prefixcap.split_source import ChosenSplit, Wanted

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PHOTOS...]",
        help="Photos, folders, patterns, lists. With --data: the path of the dataset.",
    ),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Built-in name, model or run folder, hub name.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder; default: explain, and of a split the run's, if it is one."),
]
Data = Annotated[
    str | None, typer.Option("--data", help="Numbers over a split of this format: flickr8k, ...")
]
Nearest = Annotated[int, typer.Option(min=1, help="Nearest tokens of each slot on the page.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the numbers of a split as JSON.")]

READABILITY = {
    "own_caption": "nearest token is in the model's caption of the image, share of slots",
    "references": "... in the image's references",
    "other_references": "... in another image's references (chance)",
    "any_reference": "... in any image's references",
    "same_word": "slots with the same nearest token in most images, share",
    "cosine": "cosine of nearest token, mean",
    "random_cosine": "... of random vectors",
}
SHARING = {
    "cosine": "cosine between different images, same slot",
    "between": "share of squared length that differs between images",
    "directions": "directions in which they differ",
    "log_prob": "change of the caption's log-probability without a slot, nats",
}


def explain(
    photos: Paths = None,
    model: Model = "mini",
    out: Out = None,
    data: Data = None,
    split: Split = None,
    images: Images = None,
    first: First = None,
    nearest: Nearest = 3,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    """Show which words a prefix consists of, what each slot carries and where it looks.

    Photos come out as a page, OUT/index.html. Without photos it is numbers over a split, the one
    that --data names, or the dev data of the run that --model names. Exit code 1 where a photo was
    skipped.
    """
    if photos and data is None:
        if as_json or split or images:
            raise InputError("--json, --split and --images: are for a split; name it with --data")
        _photos(_photo_captioner(model, device), photos[:], first, nearest, out or Path("explain"))
        return
    if len(photos or []) > 1:
        raise InputError(f"--data {data}: expected one path behind it, found {len(photos or [])}")
    _split(model, wanted(photos, data, split, images, first), out, as_json, device)


def _photo_captioner(model: str, device: str | None) -> "Captioner":
    """The model with its encoder, in float32."""
    from prefixcap.cli.scoring import load_captioner
    from prefixcap.evaluate import weights_of

    return load_captioner(weights_of(model), "fp32", device)


def _photos(
    captioner: "Captioner", sources: list[str], first: int | None, nearest: int, out: Path
) -> None:
    """The page on photos, and its sum on the terminal."""
    from prefixcap.explain.page import write_explanation
    from prefixcap.explain.photos import explain_photos
    from prefixcap.images import find_photos

    chosen = find_photos(sources)[:first]
    with Watcher() as watcher:
        explanation = explain_photos(
            captioner, chosen, nearest, lambda done: watcher.show("photos", done, len(chosen))
        )
    written = write_explanation(explanation, out)
    for photo in explanation.photos:
        typer.echo(f"{photo.name}: {photo.caption.text}")
        if explanation.of == "slots":
            typer.echo("  " + " | ".join(look.nearest[0].text for look in photo.looks))
    _show_slots(explanation)
    typer.echo(f"Open {written} in a browser.")
    name_skipped(explanation.skipped)


def _show_slots(explanation: "Explanation") -> None:
    """A row for each slot, where there are several photos."""
    from prefixcap.explain.page import signed

    shared = explanation.sharing
    if shared is None:
        return
    rows = []
    for slot, (cosine, between) in enumerate(zip(shared.cosine, shared.between, strict=True)):
        effects = [photo.looks[slot].effect for photo in explanation.photos]
        change = sum(one.log_prob for one in effects) / len(effects)
        changed = sum(
            one.caption != photo.caption.text
            for one, photo in zip(effects, explanation.photos, strict=True)
        )
        rows.append(
            [str(slot + 1), f"{cosine:.2f}", f"{100 * between:.0f}", signed(change), str(changed)]
        )
    header = ["slot", "cosine", "differs, %", "nats without", "captions changed"]
    show_table("What each slot shares between the photos, and what it carries", header, rows)


def _split(
    model: str, asked: "Wanted", out: Path | None, as_json: bool, device: str | None
) -> None:
    """Numbers over a split, on the terminal and for reports."""
    from prefixcap.explain.split import explain_split, numbers, open_source, write_words
    from prefixcap.split_source import chosen_split, run_of

    run = run_of(model)
    if asked.format is None and run is None:
        raise InputError("nothing to explain: give photos, or a split: --data NAME PATH")
    chosen = chosen_split(asked, run)
    source = open_source(model, device)
    with Watcher() as watcher:
        found = explain_split(
            source,
            chosen.records,
            lambda done: watcher.show("images", done, len(chosen.records)),
        )
    folder = out or run
    if folder is not None:
        typer.echo(f"words: {write_words(found, folder)}", err=True)
    if as_json:
        facts = {"model": model, "data": chosen.described(), **numbers(found)}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _show_numbers(model, chosen, found)
    name_skipped(found.skipped)


def _show_numbers(model: str, chosen: "ChosenSplit", found: "SplitExplanation") -> None:
    """The numbers as a table."""
    from prefixcap.explain.split import numbers

    facts = numbers(found)
    rows = [
        [text, f"{facts[part][name]:.3f}"]
        for part, names in (("readability", READABILITY), ("sharing", SHARING))
        for name, text in names.items()
        if facts[part][name] is not None
    ]
    title = f"Prefixes of {model}, {facts['prefix_length']} slots, on {chosen.described()}"
    show_table(title, ["number", "value"], rows)
