"""Options of the command line that say how captions are scored, and the model that writes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.captioner import Captioner
    from prefixcap.metrics import DocumentFrequencies, JavaSettings

TEXT_METRICS = ("bleu", "meteor", "rouge", "cider", "spice")
CLIPSCORE = "clipscore"
ALL_METRICS = (*TEXT_METRICS, CLIPSCORE)
CLIP_PANEL, SPICE_PANEL = "CLIPScore", "SPICE"
PAPER_CLIP = "ViT-B/32"  # Hessel et al. 2021

Metrics = Annotated[
    str,
    typer.Option(help="Of bleu, meteor, rouge, cider, spice (two need Java), clipscore; or all."),
]
Tokenizer = Annotated[
    Literal["ptb", "stanford", "none"],
    typer.Option(help="stanford runs on Java; none splits at blanks."),
]
Frequencies = Annotated[
    Path | None,
    typer.Option(help="Saved document frequencies of CIDEr-D; default: the references'."),
]
Trained = Annotated[str, typer.Argument(help="Folder of a model or of a training run.")]
Device = Annotated[
    str | None, typer.Option(help="Such as cpu or cuda; default: a GPU where there is one.")
]

# Not "auto", which measures whether bf16 is fast: a score must not depend on how busy a machine is.
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option(help="Of the model; bf16 changes some captions.")
]

ClipName = Annotated[
    str | None,
    typer.Option(
        "--clip", help="CLIP or SigLIP: name or folder; adds CLIPScore.", rich_help_panel=CLIP_PANEL
    ),
]
ClipStore = Annotated[
    Path | None,
    typer.Option(help="Embedding store of that encoder.", rich_help_panel=CLIP_PANEL),
]
ClipPrecision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(help="auto: bf16 where it is fast.", rich_help_panel=CLIP_PANEL),
]

SpiceCache = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps parses of references.", rich_help_panel=SPICE_PANEL),
]
SpiceMemory = Annotated[
    int | None,
    typer.Option(
        min=1, help="Heap of its program in MB; default: 8192.", rich_help_panel=SPICE_PANEL
    ),
]


def folder_to_store_in(model: str, otherwise: str = "") -> Path:
    """Folder of a model, or of a run's best weights, in which settings can be stored.

    `otherwise` says what the command could do without one.

    Raises:
        InputError: it is no folder here.
    """
    from prefixcap.evaluate import weights_of

    folder = Path(weights_of(model))
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{model}: is no folder here, so nothing can be stored in it; make one with prefixcap "
            f"export{otherwise}"
        )
    return folder


@dataclass(frozen=True)
class ClipWishes:
    """By which CLIP captions are scored.

    Attributes:
        name: of the CLIP.
        required: whether it was asked for by name; else it is left out where it cannot be had.
        store: folder of an embedding store.
        precision: "auto", "fp32" or "bf16".
        device: None chooses.
    """

    name: str
    required: bool
    store: Path | None
    precision: Literal["auto", "fp32", "bf16"]
    device: str | None


def load_captioner(name: str, precision: Precision, device: str | None = None) -> "Captioner":
    """The model, computing in exactly this precision.

    Raises:
        InputError: no such model or device, or a file of it does not fit.
    """
    import torch

    from prefixcap.captioner import Captioner

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    return Captioner.from_pretrained(name, device=device, dtype=dtype)


def java_settings(spice_cache: Path | None, spice_memory_mb: int | None) -> "JavaSettings":
    """Settings of the programs that run on Java; None is the default."""
    from prefixcap.metrics import JavaSettings

    if spice_memory_mb is None:
        return JavaSettings(spice_cache=spice_cache)
    return JavaSettings(spice_cache=spice_cache, spice_memory_mb=spice_memory_mb)


def load_frequencies(path: Path | None) -> "DocumentFrequencies | None":
    """Document frequencies in a file, None where none is given.

    Raises:
        InputError: the file is missing or something else.
    """
    from prefixcap.metrics import DocumentFrequencies

    return None if path is None else DocumentFrequencies.load(path)


def metric_names(words: str, known: Sequence[str] = ALL_METRICS) -> list[str]:
    """Names in a comma-separated list; "all" stands for every metric.

    Raises:
        InputError: a name that is no metric.
    """
    names = list(known) if words.strip() == "all" else words.split(",")
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    unknown = [name for name in names or [""] if name not in known]
    if unknown:
        raise InputError(f'--metrics: "{unknown[0]}" is none of {", ".join(known)}, all')
    return names


def clip_wishes(
    words: str,
    clip: str | None,
    store: Path | None,
    precision: Literal["auto", "fp32", "bf16"],
    device: str | None,
) -> ClipWishes | None:
    """The CLIP to score by, None where CLIPScore is not asked for.

    Raises:
        InputError: a store without CLIPScore.
    """
    if clip is None and CLIPSCORE not in metric_names(words):
        if store is not None:
            raise InputError("--clip-store: is for CLIPScore; add --clip with its encoder's name")
        return None
    required = clip is not None or words.strip() != "all"
    return ClipWishes(clip or PAPER_CLIP, required, store, precision, device)
