"""The last look before training: records whose captions cannot be learned are refused."""

from collections.abc import Sequence

from prefixcap.datasets.oddities import TOO_LONG, is_overlong
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError


def refuse_untrainable(
    records: Sequence[CaptionRecord], source: str, use: str = "train on"
) -> None:
    """Nothing, or an error for the first record that cannot be trained on; needs no photos.

    `use` is what the records are for, "validate on" those that weights are chosen by.

    Raises:
        InputError: no records, an image without captions, a caption of no word or of a page.
    """
    if not records:
        raise InputError(f"{source}: no images to {use}. Give a split that has some.")
    for record in records:
        where = f"{source}: image {record.image_id} ({record.split})"
        if not record.captions:
            raise InputError(f"{where} has no captions. {use.capitalize()} a split that has them.")
        for caption in record.captions:
            if not caption:
                raise InputError(f"{where} has an empty caption. Write or remove it.")
            if is_overlong(caption):
                words = caption.count(" ") + 1
                raise InputError(
                    f"{where} has a caption of {words:,} words and {len(caption):,} characters, "
                    f"which is {TOO_LONG}. Shorten or remove it."
                )
