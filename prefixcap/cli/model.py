"""`prefixcap import` and `prefixcap audit`: files that the original ClipCap code left."""

from pathlib import Path
from typing import Annotated

import typer


def import_original(
    checkpoint: Annotated[Path, typer.Argument(help="File saved by the original's train.py.")],
    encoder: Annotated[
        str,
        typer.Option(help="Image encoder it was trained with: ViT-B/32, RN50x4, a hub name, ..."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    heads: Annotated[
        int, typer.Option(min=1, help="Attention heads of its GPT-2; small has 12, medium 16.")
    ] = 12,
    normalize: Annotated[
        bool,
        typer.Option("--normalize", help="Its training divided embeddings by their L2 norm."),
    ] = False,
    tokenizer: Annotated[
        str, typer.Option(help="Hub name or folder of its GPT-2's tokenizer.")
    ] = "openai-community/gpt2",
) -> None:
    """Turn a checkpoint of the original ClipCap into a model folder."""
    from prefixcap.encoder_names import resolve_encoder
    from prefixcap.reference import import_checkpoint
    from prefixcap.tokenizer import CaptionTokenizer

    config = resolve_encoder(encoder).model_copy(update={"normalize": normalize})
    words = CaptionTokenizer.from_pretrained(tokenizer)
    model = import_checkpoint(checkpoint, config, heads=heads, tokenizer=words)
    model.save_pretrained(out)
    mapper = model.config.mapper
    typer.echo(
        f"{out}: {mapper.kind} mapper, embeddings of {model.config.embedding_dim}, prefix length "
        f"{mapper.prefix_length}. Use it: prefixcap caption --model {out} PHOTOS"
    )


def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE.pkl", help="Embeddings and captions.")],
) -> None:
    """Say what an embedding pickle of the original holds; nothing in it is executed.

    The exit code is 1 where its captions and embeddings do not belong together.
    """
    from prefixcap.pickle_audit import audit_pickle

    found = audit_pickle(file)
    typer.echo("\n".join(found.lines()))
    if found.problems:
        raise typer.Exit(1)
