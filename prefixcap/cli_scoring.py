"""Options of the command line that say how captions are scored, and the model that writes them."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.captioner import Captioner

ALL_METRICS = ("bleu", "meteor", "rouge", "cider", "spice")
Metrics = Annotated[
    str, typer.Option(help="Of bleu, meteor, rouge, cider, spice; or all. METEOR and SPICE: Java.")
]
Tokenizer = Annotated[str, typer.Option(help="ptb, stanford (Java), or none.")]

# Not "auto", which measures whether bf16 is fast: a score must not depend on how busy a machine is.
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option(help="Of the model; bf16 changes some captions.")
]


def load_captioner(name: str, precision: Precision) -> "Captioner":
    """The model, computing in exactly this precision.

    Raises:
        InputError: no such model, or a file of it does not fit.
    """
    import torch

    from prefixcap.captioner import Captioner

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    return Captioner.from_pretrained(name, dtype=dtype)


def metric_names(words: str) -> list[str]:
    """Names in a comma-separated list; "all" stands for every metric.

    Raises:
        InputError: a name that is no metric.
    """
    names = list(ALL_METRICS) if words.strip() == "all" else words.split(",")
    names = list(dict.fromkeys(name.strip() for name in names))
    unknown = [name for name in names if name not in ALL_METRICS]
    if unknown:
        raise InputError(f'--metrics: "{unknown[0]}" is none of {", ".join(ALL_METRICS)}, all')
    return names
