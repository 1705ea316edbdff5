"""Options of the command line that say how captions are scored, shared by several commands."""

from typing import Annotated

import typer

from prefixcap.errors import InputError

ALL_METRICS = ("bleu", "meteor", "rouge", "cider", "spice")
Metrics = Annotated[
    str, typer.Option(help="Of bleu, meteor, rouge, cider, spice; or all. METEOR and SPICE: Java.")
]
Tokenizer = Annotated[str, typer.Option(help="ptb, stanford (Java), or none.")]


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
