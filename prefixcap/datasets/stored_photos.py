"""The photo of a record: a file as it is, or its bytes out of a shard, parquet file or dataset."""

from pathlib import Path

from prefixcap.datasets import huggingface, parquet, shards


def photo_source(path: Path) -> Path | bytes:
    """What `images.open_rgb` opens for a record's `path`: the path, or the encoded picture.

    Raises:
        InputError: the shard, the parquet file or the dataset cannot be read, or lacks the photo.
    """
    in_shard = shards.split_path(path)
    if in_shard is not None:
        return shards.read_member(*in_shard)
    in_parquet = parquet.split_path(path)
    if in_parquet is not None:
        return parquet.read_photo(*in_parquet)
    in_dataset = huggingface.split_path(path)
    if in_dataset is not None:
        return huggingface.read_photo(*in_dataset)
    return path
