"""`prefixcap export`: a trained model as a folder to be shared, small and with its card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prefixcap.config import ModelConfig
    from prefixcap.metrics import DocumentFrequencies

RARE = 3  # images: an n-gram of fewer weighs as much as one never seen, and is not stored


def export(
    model: Annotated[str, typer.Argument(help="Model folder, such as runs/NAME/best.")],
    out: Annotated[Path, typer.Option(help="Folder for the exported model.")],
    average: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model, trained on from this one or the other way round: its weights are "
            "averaged with these. May be given several times."
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store weights as float16: half the size.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What the card calls the model.")] = None,
    about: Annotated[
        Path | None, typer.Option(help="Markdown file for the card: data, scores, limits.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Identifier of the weights' licence.")] = "",
    votes: Annotated[
        bool,
        typer.Option(
            "--votes", help="Store the n-gram counts of the run's training captions, for votes."
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Decoding stored with the model: --set beam_size=3"),
    ] = None,
) -> None:
    """Write a trained model anew: an average, half precision, decoding settings, model card."""
    from prefixcap.config import DecodeOptions, parse, with_overrides
    from prefixcap.errors import InputError
    from prefixcap.model_card import model_card
    from prefixcap.model_soup import soup

    if about is not None and not about.is_file():
        raise InputError(f"{about}: no such file. Give a Markdown file, or leave --about away")
    import torch

    loaded = soup([model, *(average or [])])
    if votes:
        loaded.frequencies = _frequencies(model)
    values = with_overrides(loaded.config.decoding.model_dump(), settings or [])
    decoding = parse(DecodeOptions, values, "--set")
    changes: dict = {"decoding": decoding}
    if decoding != loaded.config.decoding:
        changes["calibration"] = None  # it was found with the other decoding
    loaded.config = _found_from_anywhere(loaded.config.model_copy(update=changes), out)
    text = about.read_text(encoding="utf-8") if about else ""
    card = model_card(loaded.config, name=name or str(out), about=text, licence=licence)
    loaded.save_pretrained(out, dtype=torch.float16 if half else None, card=card)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    typer.echo(f"{out}: {size:.1f} MB. Use it: prefixcap caption --model {name or out} PHOTOS")


def _found_from_anywhere(config: "ModelConfig", out: Path) -> "ModelConfig":
    """Settings without paths that hold in one folder only; what stays outside is said.

    A frozen language model out of a local folder is stored with the rest.
    """
    from prefixcap.hub import looks_local

    lm, encoder = config.language_model, config.encoder
    if lm is not None and lm.name and looks_local(lm.name):
        config = config.model_copy(
            update={"language_model": lm.model_copy(update={"stored": True})}
        )
    if encoder is None or not encoder.name or not looks_local(encoder.name):
        return config
    if encoder.stored:
        origin = Path(encoder.name).name
        return config.model_copy(update={"encoder": encoder.model_copy(update={"name": origin})})
    path = Path(encoder.name).expanduser().resolve()
    typer.echo(
        f"{out} does not hold its encoder, {path}: it captions on machines that have that folder. "
        "An encoder by its hub name is found anywhere",
        err=True,
    )
    return config.model_copy(update={"encoder": encoder.model_copy(update={"name": str(path)})})


def _frequencies(model: str) -> "DocumentFrequencies":
    """Document frequencies of the captions that a run was trained on.

    Raises:
        InputError: it is no run, or its captions cannot be read.
    """
    from prefixcap.batches import read_sources
    from prefixcap.errors import InputError
    from prefixcap.metrics import DocumentFrequencies
    from prefixcap.metrics.ptb import tokenize_lines
    from prefixcap.split_source import recipe_of, run_of

    run = run_of(model)
    if run is None:
        raise InputError(f"--votes: {model} is no run, whose recipe would name its captions")
    records = read_sources(recipe_of(run).data)
    once = {(record.path, record.captions) for record in records}  # a recipe may repeat its photos
    tokens = (tokenize_lines(list(captions)) for _, captions in once if captions)
    return DocumentFrequencies.of(tokens).at_least(RARE)
